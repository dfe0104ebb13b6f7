"""A strategy with preprocessing, from bars with unknown features to signals: what its model says, what a day alone predicts."""

import numpy as np
import polars as pl
import pytest
import yaml

from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.research.learners import predict_frame
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy
from hf_pipelines_tests.tracing import traced, unseen

STEPS = [
    "winsorising",
    {"type": "imputation", "params": {"strategy": "mean"}},
    "cross_sectional_score",
    {"type": "k_best", "params": {"k": 2}},
]
STRATEGY = ridge_strategy(
    "prepared",
    features=["quick"],
    training={"weeks": 7, "minimum_rows": 40, "missing": "keep"},
    cross_validation={"n_splits": 1, "min_train_sessions": 10},
    learner={"type": "quantile", "params": {"quantiles": [0.1, 0.9]}, "preprocessing": STEPS},
)


def test_a_strategy_with_preprocessing_says_what_was_kept_and_a_day_alone_predicts_as_in_a_range(
    small_project: Project, tmp_path
):
    project = small_project.copy(tmp_path / "project")
    project.rewrite(project.market, [STRATEGY])
    week = project.weeks[7]
    day = project.partitions.sessions_of_week(week)[1]
    project.make(["small/bars", "small/features/quick"], project.weeks[0], week)
    with traced() as called:
        made = project.make([f"prepared/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], week)
        project.make("prepared/signals", str(day))
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(dict(STRATEGY))).plan(market_of(project.market))
    stages = {stage.asset: stage for stage in build_stages(plan)}
    fitted = {asset: stages[asset] for asset in ("prepared/cv_results", "prepared/fitted_model", "prepared/signals")}
    assert unseen({asset: called[asset] for asset in fitted}, fitted) == {}

    # The first weeks of a listed symbol are unknown features: their rows are trained on.
    names = plan.all_features
    matrix = project.store.read("prepared/training_matrix", week).frame
    assert matrix.select(pl.any_horizontal(pl.col(names).is_nan().any())).item()
    model = project.store.read("prepared/fitted_model", week)
    told = model.footer.facts["report"]["preprocessing"]
    assert told["preprocessing.1"]["type"] == "imputation" and told["preprocessing.1"]["indicated"]
    chosen = told["preprocessing.3"]
    assert len(chosen["kept"]) == 2 == len(model.footer.facts["importances"])
    assert {*chosen["kept"]} == {*model.footer.facts["importances"]} and chosen["dropped"]
    assert made.materialised["prepared/fitted_model"][week]["preprocessing"] == told
    # Each fold says what its own training rows left: it may be something else.
    reports = project.store.read("prepared/cv_results", week).footer.facts["reports"]
    assert all(each["preprocessing"]["preprocessing.3"]["type"] == chosen["type"] for each in reports.values())

    issued = project.store.read("prepared/signals", str(day)).frame
    pipeline = load_model(Loaded("prepared/fitted_model", {week: model}, project.store), model)
    of_week = project.store.read("small/features/quick", week).frame.sort("ts", "symbol")
    ask = {"features": model.frame["features"][0].split(","), "classes": (), "missing": "keep"}
    in_range = predict_frame(pipeline, of_week, **ask).filter(pl.col("session") == day)
    both = issued.join(in_range, on="symbol", suffix="_again")
    assert both.height == issued.height and both["prediction"].to_list() == both["prediction_again"].to_list()
    assert np.isfinite(both["prediction"].to_numpy()).all()


@pytest.mark.parametrize(
    ("learner", "told"),
    [
        (
            {"type": "xgboost", "preprocessing": ["winsorising", "pca", "imputation"]},
            "the step 'pca' of learner 'xgboost'",
        ),
        ({"type": "lasso", "preprocessing": ["winsorising"]}, "learner 'lasso'"),
        ({"type": "lasso", "preprocessing": ["winsorising", "imputation", "pca"]}, None),
        ({"type": "mean"}, None),
        (
            {
                "type": "voting",
                "params": {"members": ["lightgbm", {"type": "voting", "params": {"members": ["mean", "ridge"]}}]},
            },
            "learner 'ridge' in members.1 of 'voting' in members.1 of 'voting'",
        ),
        # A final learner sees what the members predict, no feature.
        ({"type": "stacking", "params": {"members": ["lightgbm", "xgboost"], "final": "ridge"}}, None),
    ],
    ids=["a step", "the learner", "filled", "a baseline", "a member's member", "a final learner"],
)
def test_unknown_features_are_kept_where_every_part_takes_them_up_to_the_one_that_fills_them(learner, told):
    given = ridge_strategy(
        "prepared",
        features=["technical"],
        learner=learner,
        training={"weeks": 7, "minimum_rows": 40, "missing": "keep"},
    )
    text = yaml.safe_dump(dict(given))
    if told is None:
        assert Strategy.resolve_from_yaml(text).learner.choice().handles_missing
        return
    with pytest.raises(
        ValueError, match=f"`training.missing` must be drop for {told}, which takes no unknown features"
    ):
        Strategy.resolve_from_yaml(text)


def test_a_step_that_reads_labels_stands_before_a_member_and_not_before_an_ensemble_that_judges_its_members():
    def load(learner: dict) -> None:
        Strategy.resolve_from_yaml(
            yaml.safe_dump(dict(ridge_strategy("prepared", features=["technical"], learner=learner)))
        )

    inside = {
        "type": "stacking",
        "params": {"members": ["ridge", {"type": "ridge", "preprocessing": ["k_best"]}], "final": "ridge"},
    }
    load({**inside, "preprocessing": ["standard_scaling", "pca"]})
    load({"type": "voting", "params": {"members": ["ridge", "lasso"]}, "preprocessing": ["k_best"]})
    around = {"type": "voting", "params": {"members": ["ridge", inside]}}
    for learner, name in (
        ({**inside, "preprocessing": ["pca", "k_best"]}, "stacking"),
        ({**around, "preprocessing": ["k_best"]}, "voting"),
    ):
        told = f"`preprocessing` of learner '{name}' must not read the labels, was with k_best, which would see .* stacking judges"
        with pytest.raises(ValueError, match=told):
            load(learner)
