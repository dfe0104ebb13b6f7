"""A strategy that reads its matrix in batches: the same results and the same model, and in its versions what fitted it."""

from hashlib import sha256
from typing import Any

import pytest
import yaml

from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.matrix import feature_names
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy
from hf_pipelines_tests.tracing import traced, unseen

LEARNER = {"type": "xgboost_early_stopping", "params": {"n_estimators": 6, "max_depth": 3, "min_child_weight": 1.0}}


def strategy_of(name: str, **training: Any) -> dict[str, Any]:
    return ridge_strategy(
        name,
        training={"weeks": 7, "minimum_rows": 40, **training},
        cross_validation={"n_splits": 2, "test_sessions": 4, "min_train_sessions": 10},
        learner=LEARNER,
    )


def test_results_and_model_of_batches_are_those_of_the_whole_matrix(small_project: Project, tmp_path):
    project, strategy = small_project.copy(tmp_path / "project"), strategy_of("batched", read="batches")
    project.rewrite(project.market, [strategy])
    week = project.weeks[7]
    with traced() as called:
        project.make([f"batched/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], week)
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(strategy)).plan(market_of(project.market))
    stages = {stage.asset: stage for stage in build_stages(plan)}
    fitted = {f"batched/{each}": stages[f"batched/{each}"] for each in ("cv_results", "fitted_model")}
    assert unseen({asset: called[asset] for asset in fitted}, fitted) == {}
    matrix = project.store.read("batched/training_matrix", week).frame
    options = {"learner": plan.learner.choice, "target": plan.target, "seed": plan.learner.seed}
    whole = cross_validate(matrix, **options, splitter=plan.splitter.build(), weightings=plan.training.weightings)
    results = project.store.read("batched/cv_results", week)
    assert results.frame.equals(whole.predictions, null_equal=True)
    assert results.footer.facts["metrics"] == whole.metrics
    model = project.store.read("batched/fitted_model", week)
    saved = fit_final(matrix, **options).save()
    assert model.footer.attachments == {"model.zip": sha256(saved).hexdigest()}
    assert model.frame["n_rows"].to_list() == [matrix.height]
    assert model.frame["features"][0].split(",") == feature_names(matrix)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (
            {"learner": {"type": "lightgbm"}},
            "was batches: `learner` must be able to read its rows in batches, was 'light",
        ),
        (
            {"learner": {"type": "xgboost", "params": {"tree_method": "approx"}}},
            "`tree_method` must be hist to read rows",
        ),
        ({"learner": {**LEARNER, "preprocessing": ["standard_scaling"]}}, "must be without preprocessing to read its"),
        ({"diagnostics": {"learning_curve": [0.5]}}, "`training.read` must be whole for `diagnostics`"),
    ],
    ids=["learner", "method", "preprocessing", "diagnostics"],
)
def test_what_needs_all_features_at_once_is_refused_when_the_yaml_is_read(changed, fault):
    with pytest.raises(Exception, match=fault):
        Strategy.resolve_from_yaml(
            yaml.safe_dump({**strategy_of("batched", read="batches"), "features": ["technical"], **changed})
        )
