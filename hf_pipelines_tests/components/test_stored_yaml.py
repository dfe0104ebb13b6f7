"""A strategy as the record of a promotion stores it: made again of that, it is the same, whatever its YAML says."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_pipelines.commands.candidates import candidate_of
from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.promotion.lifecycle import PROMOTED, WITHDRAWN
from hf_pipelines.resources.promotions.history import record_decision
from hf_pipelines.resources.trial_ledger import configuration_hash
from hf_pipelines_tests.components.test_champion_signals import BROADER, MONDAY, SIGNALS, TUESDAY, WEEK, gated
from hf_pipelines_tests.pipeline import Project, ridge_strategy, trees_strategy
from hf_pipelines_tests.resources.promotions.deciding import draft

pytestmark = pytest.mark.usefixtures("quick")

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "hf_pipelines" / "defs" / "strategies").glob("*/defs.yaml"))

ALPHA = {"alpha": {"type": "float", "low": 0.1, "high": 9.0}}
LIMITED = {
    "type": "rank_long_short",
    "params": {"n_long": 1, "n_short": 1},
    "sizing": [{"type": "volatility_target", "params": {"volatility": 0.01, "bars": 15, "most": 2.0}}],
    "limits": ["holding", {"type": "turnover_cap", "params": {"most": 0.5}}],
    "memory_weeks": 2,
}
WALKING = {"type": "walk_forward", "min_train_sessions": 10, "n_splits": 2, "params": {"window": "rolling"}}

# Every block of a strategy's YAML, alone; `holdout` in both of its forms.
BLOCKS: dict[str, dict[str, Any]] = {
    "holdout from a date": ridge_strategy(holdout={"from": "2012-03-20", "looks": 1}),
    "holdout of weeks": ridge_strategy(holdout={"weeks": 4}),
    "gates of defaults": ridge_strategy(gates={}),
    "gates": ridge_strategy(gates={"rows": 40, "capacity": None, "controls": False, "refit_margin": 0.3}),
    "rollout": ridge_strategy(gates={}, rollout={"shadow_sessions": 5, "max_drawdown": 0.1}),
    "drift": ridge_strategy(drift={"family_error": 0.02, "retrain_on": ["decay"]}),
    "tuning": ridge_strategy(tuning={"trials": 3, "sampler": "random", "space": {"learner": ALPHA}}),
    "sweep": ridge_strategy(sweep={"space": {"rule": {"n_long": [1, 2]}, "costs": {"fee_bps": [1.0, 20.0]}}}),
    "leaderboard": ridge_strategy(
        leaderboard={
            "candidates": [{"learner": "ridge", "params": {"alpha": 50.0}, "preprocessing": [[], ["winsorising"]]}]
        }
    ),
    "limits": ridge_strategy(signal=LIMITED),
    "diagnostics": ridge_strategy(
        diagnostics={
            "permutations": 19,
            "importance": {"repeats": 2},
            "validation_curve": {"parameter": "alpha", "values": [0.1, 1.0]},
        }
    ),
    "splitter": ridge_strategy(cross_validation={"type": "combinatorial_purged", "min_train_sessions": 10}),
    "start": ridge_strategy(start="2012-03-20", descends_from=["elder"], owners=["team:quant"]),
    "costs": ridge_strategy(backtest={"fee_bps": 9.0, "engine": "vectorbt"}),
    "intervals": trees_strategy(intervals={"method": "aps", "coverage": 0.8}),
    "calibration": trees_strategy(learner={"type": "lightgbm", "calibration": "isotonic"}),
    "weights": trees_strategy(training={"weeks": 10, "minimum_rows": 40, "weighting": ["class_balance", "uniqueness"]}),
}


def _again(stored: dict[str, Any]) -> dict[str, Any]:
    return Strategy.model_validate(json.loads(json.dumps(stored, allow_nan=False))).stored_yaml()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_strategy_of_every_block_is_made_again_of_what_is_stored_of_it(block: str) -> None:
    strategy = Strategy(**BLOCKS[block])
    stored = strategy.stored_yaml()
    assert _again(stored) == stored


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_strategy_is_made_again_of_what_is_stored_of_it(path: Path) -> None:
    stored = Strategy(**yaml.safe_load(path.read_text())["attributes"]).stored_yaml()
    assert _again(stored) == stored


def test_every_block_of_a_strategy_is_tried() -> None:
    given = {name for attributes in BLOCKS.values() for name in attributes}
    told_apart = {"description", "tags", "read", "modules", "max_model_age_weeks", "track_record_weeks"}
    assert {*Strategy.model_fields} - told_apart <= given


@pytest.mark.pipeline
@pytest.mark.parametrize("holdout", [{"from": "2012-04-20"}, {"weeks": 2}], ids=str)
def test_a_champion_with_a_holdout_decides_when_the_yaml_has_changed_by_a_record_of_any_version(
    small_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holdout: dict[str, Any]
) -> None:
    monkeypatch.setenv("HF_ACTOR", "bob")
    project = small_project.copy(tmp_path / "project")
    project.rewrite(strategies=[gated(holdout=holdout)])
    project.make([f"ranking/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], WEEK)
    found = candidate_of(project.pipeline, "ranking")
    # An earlier version named the field as Python does.
    earlier = {
        **found.yaml,
        "holdout": {{"from": "from_"}.get(name, name): each for name, each in found.yaml["holdout"].items()},
    }
    assert "from_" in earlier["holdout"] and "from" in found.yaml["holdout"]
    for day, stored in ((MONDAY, earlier), (TUESDAY, found.yaml)):
        told = {"settings": settings_of(found.plan), "yaml": stored}
        record_decision(project.store.objects, "ranking", draft(PROMOTED, week=WEEK, **told))
        # The challenger holds all four symbols, the champion two.
        project.rewrite(strategies=[gated(holdout=holdout, signal=BROADER)])
        project.make(SIGNALS, day, now=f"{day}T20:05:00+00:00")
        issue = project.store.read(SIGNALS, day)
        told = issue.footer.facts["promotion"]
        assert told["configuration"] == configuration_hash(settings_of(found.plan)) and told["model_week"] == WEEK
        assert (issue.frame["weight"] != 0.0).sum() == 2
        record_decision(project.store.objects, "ranking", draft(WITHDRAWN))
