"""Strategies on ensembles, from bars to signals: their versions hold all that they ran, and what was stored predicts what was issued."""

import pytest
import yaml

from hf_pipelines.components import Strategy
from hf_pipelines.components.operations.cause import first_failure
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.research.learners import predict_frame
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy
from hf_pipelines_tests.tracing import traced, unseen

MEMBERS = ["ridge", {"type": "xgboost", "params": {"n_estimators": 4}, "preprocessing": ["standard_scaling"]}]
STOPPING = {"type": "lightgbm", "params": {"n_estimators": 4, "min_child_samples": 3}}
ENSEMBLES = {
    "stacked": {"type": "stacking", "params": {"members": [*MEMBERS, STOPPING], "final": "ridge", "n_splits": 3}},
    "experts": {
        "type": "regime_experts",
        "params": {"members": MEMBERS, "feature": "quick_roc_5", "n_splits": 2},
        "preprocessing": ["winsorising"],
    },
}


@pytest.mark.parametrize("name", sorted(ENSEMBLES))
def test_a_strategy_on_an_ensemble_trains_issues_and_holds_in_its_versions_all_that_it_ran(
    small_project: Project, tmp_path, name
):
    project = small_project.copy(tmp_path / "project")
    options = {
        "training": {"weeks": 7, "minimum_rows": 40},
        "cross_validation": {"n_splits": 1, "test_sessions": 6, "min_train_sessions": 10},
    }
    project.rewrite(project.market, [ridge_strategy(name, **options, learner=ENSEMBLES[name])])
    week = project.weeks[7]
    day = project.partitions.sessions_of_week(week)[1]
    with traced() as called:
        made = project.make([f"{name}/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], week)
        project.make(f"{name}/signals", str(day))
    (given,) = project.strategies
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(dict(given))).plan(market_of(project.market))
    stages = {stage.asset: stage for stage in build_stages(plan)}
    fitted = {asset: stages[asset] for asset in (f"{name}/fitted_model", f"{name}/signals")}
    assert unseen({asset: called[asset] for asset in fitted}, fitted) == {}

    model = project.store.read(f"{name}/fitted_model", week)
    names = model.frame["features"][0].split(",")
    pipeline = load_model(Loaded(f"{name}/fitted_model", {week: model}, project.store), model)
    frame = project.store.read("small/features/quick", week).frame
    again = predict_frame(pipeline, frame.filter(session=day).sort("ts", "symbol"), features=names, classes=())
    issued = project.store.read(f"{name}/signals", str(day)).frame
    known = issued.join(again, on="symbol", suffix="_again")
    assert known.height and known["prediction"].to_list() == known["prediction_again"].to_list()
    # The regime is told by a row's own value, the same in the store and in an issue; weights are reported with the folds.
    reports = made.materialised[f"{name}/cv_results"][week]["reports"]
    assert reports == project.store.read(f"{name}/cv_results", week).footer.facts["reports"]
    report = reports["fold 0"]
    if name == "stacked":
        assert report["members"][:2] == [{}, {}] and 1 <= report["members"][2]["best_round"] <= 4
    else:
        assert all(sum(shares) == pytest.approx(1.0) for shares in report["shares"])


def test_a_run_whose_member_cannot_be_fitted_says_fold_and_member_in_its_first_line(small_project: Project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    greedy = {"type": "nearest_neighbours", "params": {"n_neighbors": 10_000}}
    learner = {"type": "voting", "params": {"members": ["ridge", greedy]}}
    options = {
        "training": {"weeks": 7, "minimum_rows": 40},
        "cross_validation": {"n_splits": 1, "test_sessions": 6, "min_train_sessions": 10},
    }
    project.rewrite(project.market, [ridge_strategy("greedy", **options, learner=learner)])
    week = project.weeks[7]
    project.make("greedy/training_matrix", week)
    failed = project.run("greedy/cv_results", week)
    step, cause = first_failure(failed.result.all_events)
    assert step == "greedy__cv_results"
    assert cause.startswith(
        "fold 0, learner voting, members.1 (nearest_neighbours): `n_neighbors` must be at most the "
    )
    # What the web UI shows first of what Dagster wraps.
    (shown,) = (each for each in failed.message.splitlines() if "fold 0" in each and "FitError" in each)
    assert shown.startswith("hf_pipelines.research.learners.fit_faults.FitError: fold 0, learner voting, members.1 ")
