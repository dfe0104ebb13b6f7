"""Strategies with sizing and limits: issues one by one, in any order and across models, are what the rule gives their predictions."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.components import Strategy
from hf_pipelines.partitions import week_key
from hf_pipelines.research.signals import apply_rule, window_sessions
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy, trees_strategy

SIGNAL = {
    "type": "rank_long_short",
    "params": {"n_long": 1, "n_short": 1},
    # By bars before each decision that is replayed, the first of them too.
    "sizing": [
        {"type": "fixed_fraction", "params": {"fraction": 0.4}},
        {"type": "volatility_target", "params": {"volatility": 0.015, "bars": 15, "most": 1.5}},
    ],
    "limits": ["holding", {"type": "turnover_cap", "params": {"most": 0.5}}],
    "memory_weeks": 2,
}

SMALL = {
    "training": {"weeks": 4, "minimum_rows": 15},
    "cross_validation": {"n_splits": 2, "min_train_sessions": 2},
}


@pytest.fixture
def project(small_project: Project, tmp_path: Path) -> Project:
    return small_project.copy(tmp_path / "project")


def _issued(project: Project, days: list[str]) -> pl.DataFrame:
    return pl.concat([project.store.read("ranking/signals", day).frame for day in days])


def _equals_a_replay(project: Project, tmp_path: Path, *, weeks: tuple[str, str], days: tuple[str, str]) -> int:
    """Issue a range, and other days of it backwards elsewhere; the number of sessions whose weights a replay of all gives."""
    project.rewrite(strategies=[ridge_strategy(signal=SIGNAL, **SMALL)])
    stages = [f"ranking/{stage}" for stage in ("training_matrix", "cv_results", "fitted_model")]
    project.make(stages, *weeks)
    other = project.copy(tmp_path / "other")
    project.make("ranking/signals", *days)
    issued_days = project.store.partitions("ranking/signals")
    for day in reversed(issued_days[1::6]):
        other.make("ranking/signals", day)
        whole, alone = (_issued(each, [day]).drop("created_at", "issue_kind") for each in (project, other))
        assert_frame_equal(whole, alone, check_exact=True)
    issued = _issued(project, issued_days)
    # As the backtest weighs: all predictions at once.
    rule = Strategy(**ridge_strategy(signal=SIGNAL)).signal
    bars = pl.concat([project.store.read("small/bars", key).frame for key in project.store.partitions("small/bars")])
    given = {"rule": rule.rule, "params": rule.rule_params, "sessions": project.partitions.sessions, "bars": bars}
    again = apply_rule(issued, **given)
    # Of the first weeks the issues knew sessions before, which the replay does not.
    both = issued.join(again, on=["symbol", "session", "ts"], suffix="_again")
    of_later = both.filter(pl.col("session") >= pl.col("session").min().dt.offset_by("28d"))
    assert (of_later["weight"] == of_later["weight_again"]).all()
    assert issued["model_version"].n_unique() > 2
    # The volatility of the first decision that is replayed is of bars that the issue has read.
    sessions = project.partitions.sessions
    for day in issued_days:
        first = window_sessions(sessions, date.fromisoformat(day), n_sessions=1, block_weeks=SIGNAL["memory_weeks"])[0]
        oldest = sessions[max(sessions.index(max(first, date.fromisoformat(weeks[0]) + timedelta(days=1))) - 15, 0)]
        assert week_key(oldest) in project.store.footer("ranking/signals", day).inputs["small/bars"]
    return of_later["session"].n_unique()


def test_issues_with_limits_are_those_of_the_replay_across_models(project, tmp_path):
    assert (
        _equals_a_replay(project, tmp_path, weeks=("2012-01-29", "2012-03-04"), days=("2012-02-06", "2012-03-09")) >= 5
    )


@pytest.mark.long
def test_sixty_issues_with_limits_are_those_of_the_replay_across_models(project, tmp_path):
    assert (
        _equals_a_replay(project, tmp_path, weeks=("2012-01-29", "2012-04-29"), days=("2012-02-06", "2012-05-04")) >= 50
    )


def test_a_backtest_with_limits_keeps_them_and_counts_them(project):
    project.rewrite(strategies=[ridge_strategy(signal=SIGNAL)])
    project.retrain("ranking", "2012-04-01")
    run = project.make("ranking/backtest", "2012-04-01")
    told = str(run.materialised["ranking/backtest"]["2012-04-01"]["rule"])
    assert "| turnover_cap |" in told and "| holding |" in told


def test_a_study_moves_sizes_and_limits_but_not_what_is_read(project):
    space = {
        "n_long": {"type": "int", "low": 1, "high": 2},
        "sizing.fixed_fraction.fraction": {"type": "float", "low": 0.1, "high": 0.4},
        "limits.turnover_cap.most": {"type": "float", "low": 0.4, "high": 0.8},
    }
    tuning = {"objective": "sharpe_ratio", "trials": 2, "space": {"rule": space}}
    strategy = Strategy(**ridge_strategy(signal=SIGNAL, tuning=tuning))
    assert strategy.signal.rule == "chain"
    longer = {"memory_weeks": {"type": "int", "low": 1, "high": 3}}
    with pytest.raises(ValueError, match="must not change what the rule reads, but one of rule.memory_weeks does"):
        Strategy(**ridge_strategy(signal=SIGNAL, tuning={**tuning, "space": {"rule": longer}}))


BARRIERS = {"type": "triple_barrier", "horizon_bars": 5, "params": {"profit": 3.0, "stop": 1.5}}


def _kelly(target: dict[str, object], **params: object) -> Strategy:
    learner = {"type": "xgboost_classifier", "calibration": "sigmoid"}
    signal = {"type": "probability_threshold", "sizing": [{"type": "kelly", "params": params}]}
    return Strategy(**trees_strategy(target=target, learner=learner, signal=signal))


def test_kelly_takes_the_outcomes_of_the_target_that_had_ended(project):
    target = {"type": "direction", "horizon_bars": 5, "params": {"upper": 0.01, "lower": -0.02}}
    plan = _kelly(target, payoff_from="outcomes", bars=100).plan(market_of(project.market))
    (step,) = plan.rule.params["sizing"]
    assert step["params"] == {"payoff_from": "outcomes", "bars": 100, "horizon_bars": 5, "upper": 0.01, "lower": -0.02}
    assert plan.rule.needs.history_bars == 101 and plan.rule_weeks >= 20
    with pytest.raises(ValueError, match="must leave upper out where payoff_from is outcomes, was with both"):
        _kelly(target, payoff_from="outcomes", upper=0.1)
    with pytest.raises(
        ValueError, match="must have payoff_from stated for this target, was outcomes: .* was 'triple_barrier'"
    ):
        _kelly(BARRIERS, payoff_from="outcomes")


def test_kelly_takes_its_payoffs_from_the_widths_of_the_target(project):
    plan = _kelly(BARRIERS, payoff_from="target", fraction=0.5).plan(market_of(project.market))
    (step,) = plan.rule.params["sizing"]
    # A long position wins twice what it loses, a short one half of it.
    assert step["params"] == {"payoff_from": "target", "fraction": 0.5, "payoff": 2.0, "payoff_short": 0.5}
    (stated,) = _kelly(BARRIERS, payoff=1.5).plan(market_of(project.market)).rule.params["sizing"]
    assert stated["params"] == {"payoff": 1.5}
    with pytest.raises(ValueError, match="must leave payoff out where payoff_from is target, was with both"):
        _kelly(BARRIERS, payoff_from="target", payoff=1.5)
    without = {"type": "up_or_down", "horizon_bars": 5}
    with pytest.raises(
        ValueError, match="must have payoff_from stated for this target, was target: .* was 'up_or_down'. Give `payoff`"
    ):
        _kelly(without, payoff_from="target")
