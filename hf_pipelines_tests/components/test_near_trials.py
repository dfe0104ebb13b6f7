"""Near trials: which stored configurations are one step beside another, and what the weekly validation says of them."""

import json
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import validation_lines, validation_of
from hf_pipelines.components.strategy_stages.near_trials import BESIDE, is_beside, near_in_words
from hf_pipelines.components.strategy_stages.trial_records import settings_of, slot_of
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.signals import fill_rule_params
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines_tests.pipeline import Project

WEEK = "2012-04-01"
CHAIN = {
    "rule": {"type": "threshold", "params": {"buy": 0.01, "sell": -0.01}},
    "sizing": [{"type": "fixed_fraction", "params": {"fraction": 0.05}}],
    "limits": [{"type": "symbol_cap", "params": {"most": 0.2}}],
}
SETTINGS: dict[str, Any] = {
    "market": "small",
    "learner": choose_learner("ridge", {"alpha": 1.0}).settings(),
    "rule": ["chain", fill_rule_params("chain", CHAIN)],
    "account": {"commission_bps": 1.0},
    "own_code": "a",
}


def changed(path: str, value: Any) -> dict[str, Any]:
    settings = json.loads(json.dumps(SETTINGS))
    *places, name = path.split("/")
    at: Any = settings
    for each in places:
        at = at[int(each) if isinstance(at, list) else each]
    at[name] = value
    return settings


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("own_code", "b", True),
        # A step is a fifth of the search interval, on its own scale: that of alpha is the logarithm.
        ("learner/params/alpha", 1.5, True),
        ("learner/params/alpha", 1e9, False),
        ("learner/params/fit_intercept", False, False),
        ("learner/type", "lasso", False),
        ("rule/1/rule/params/long_short", False, False),
        ("rule/1/sizing/0/params/fraction", 0.06, True),
        ("rule/1/sizing/0/params/fraction", 0.5, False),
        # No tuner draws how many weeks are remembered: one more is a step.
        ("rule/1/memory_weeks", SETTINGS["rule"][1]["memory_weeks"] + 1, True),
        ("rule/1/memory_weeks", SETTINGS["rule"][1]["memory_weeks"] + 2, False),
        ("rule/1/limits", [], False),
        ("account/commission_bps", 2.0, False),
        ("market", "other", False),
    ],
)
def test_a_configuration_is_beside_another_by_steps_of_its_numbers_alone(path, value, expected):
    # As records hold them.
    own, other = changed("own_code", "a"), changed(path, value)
    assert is_beside(own, other) == expected == is_beside(other, own)
    assert is_beside(own, own)


@pytest.mark.pipeline
def test_stored_trials_beside_a_week_are_told_and_a_peak_among_them(small_project: Project, tmp_path: Any) -> None:
    project = small_project.copy(tmp_path / "project")
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    project.make([f"ranking/{stage}" for stage in ("training_matrix", "cv_results", "backtest")], WEEK)
    found = validation_of(pipeline, "ranking", WEEK)["neighbourhood"]
    assert found["n"] == 0 and near_in_words(found).startswith(
        f"neighbours among stored trials: no other trial of week {WEEK} has an account; hfp validate ranking {WEEK} --full"
    )
    # Two trials beside it, and one far away, whose Sharpe ratios are known by hand: mean over deviation, times the root of a year.
    plan, ledger = pipeline.strategy("ranking"), TrialLedger(project.store.objects, "ada")
    days = [date(2012, 1, 2) + timedelta(days=day) for day in range(4)]
    for alpha, returns in (
        (0.7, [0.01, 0.03, 0.01, 0.03]),
        (1.4, [-0.01, -0.03, -0.01, -0.03]),
        (1e4, [0.0, 0.1, 0.0, 0.1]),
    ):
        tried = plan.tuned({"learner.alpha": alpha})
        with ledger.begin(slot_of(tried, WEEK, {}), source="notebook", settings=settings_of(tried)) as trial:
            trial.end(returns=(days, returns))
    beside = validation_of(pipeline, "ranking", WEEK)
    near = beside["neighbourhood"]
    ratio = 0.02 / np.std([0.01, 0.03, 0.01, 0.03], ddof=1) * np.sqrt(252)
    assert (near["n"], near["mean"]) == (2, pytest.approx(0.0, abs=1e-9)) and near["worst"] == pytest.approx(
        -ratio, rel=0.01
    )
    own = next(row for row in beside["table"] if row["name"] == "as traded")["sharpe"]
    assert near["own"] == own and near_in_words(near).startswith(
        "2 stored trials one step beside its parameters: Sharpe ratio "
    )
    # It loses: nothing stands on a peak. The words of one that does stand first among the lines that are not sound.
    assert near["signs"] == []
    peak = {**near, "signs": [{"name": "stands on a peak", "told": f"{BESIDE} the Sharpe ratio is 0.00"}]}
    told = [line for line, is_sound in validation_lines({**beside, "neighbourhood": peak}) if not is_sound]
    assert told == [f"stands on a peak: {BESIDE} the Sharpe ratio is 0.00"]
    made = project.make("ranking/validation", WEEK)
    assert near_in_words(near) in made.materialised["ranking/validation"][WEEK]["neighbourhood"]
