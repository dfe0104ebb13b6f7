"""Objectives: which way each runs, by what a planted better and a planted worse configuration measure."""

from time import process_time

import pytest

from hf_pipelines.research.backtest.reference import run_backtest
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.tuning import Outcome, Pick, Task, Trial
from hf_pipelines.research.tuning.evaluation import Account, Evaluation, measure_account
from hf_pipelines.research.tuning.objectives import BOUNDS, OBJECTIVES, Bound, Wanted, objective_of
from hf_pipelines.research.tuning.picking import pick_trial
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines_tests.research.backtest.small_market import decisions, symbol_bars
from hf_pipelines_tests.sample_matrix import random_matrix

# One group of features holds what will happen, the other one noise.
FEATURES = {"signal": ("feature_0",), "noise": ("feature_1",)}
KNOWS, GUESSES = {"features.noise": False}, {"features.signal": False}
LEVELS = ("0.1", "0.5", "0.9")


def evaluation(target_name, learner, *wanted):
    target = build_target(target_name, horizon_bars=1)
    return Evaluation(
        matrix=random_matrix(target, skill=0.97, sessions=100),
        base=Configuration(learner, FEATURES, {}),
        splitter=PurgedWalkForward(n_splits=2, test_sessions=25, embargo_sessions=1),
        target=target,
        weightings=(),
        seed=0,
        missing="drop",
        validation_share=0.2,
        wanted=tuple(map(Wanted, wanted)),
        n_trials=10,
        timer=process_time,
    )


def account(weight_of):
    """An account of 90 sessions in a symbol that rises by about half a percent a session, up and down by turns."""
    close = [100.0]
    for at in range(89):
        close.append(close[-1] * (1.03 if at % 5 else 0.92))
    bars = symbol_bars("S0", open=close, close=close)
    weights = decisions({at: {"S0": weight_of(at)} for at in range(90)})
    result = run_backtest(weights, bars, Costs(fee_bps=5.0), periods_per_year=252.0)
    return measure_account(Account(result, weights, 252.0), n_trials=10)


@pytest.fixture(scope="module")
def measured():
    """By objective what the better and what the worse configuration measures."""
    found = {}
    for target, learner in (
        ("direction", choose_learner("logistic")),
        ("forward_return", choose_learner("ridge")),
        ("forward_return", choose_learner("quantile", {"quantiles": [float(each) for each in LEVELS]})),
    ):
        first = "log_loss" if target == "direction" else "rmse"
        better, worse = (dict(evaluation(target, learner, first)(Task(0, point)).scores) for point in (KNOWS, GUESSES))
        found |= {name: (better[name], worse[name]) for name in better.keys() & worse.keys()}
    # Who is long what rises beats who is short.
    long, short = account(lambda at: 0.5), account(lambda at: -0.5)
    found |= {name: (long[name], short[name]) for name in long.keys() & short.keys()}
    # The same position in half is calmer; who turns it round each session trades more, and pays for it.
    half, turned = account(lambda at: 0.25), account(lambda at: 0.5 if at % 2 else -0.5)
    found["annual_volatility"] = half["annual_volatility"], long["annual_volatility"]
    found |= {name: (long[name], turned[name]) for name in ("turnover_per_year", "costs_total")}
    # Few trees are kept in less and answer sooner than many.
    few, many = (
        evaluation(
            "forward_return",
            choose_learner("xgboost", {"n_estimators": n, "max_depth": 6}),
            "artifact_bytes",
            "predict_seconds",
        )(Task(0, {})).values
        for n in (2, 600)
    )
    return found | dict(zip(("artifact_bytes", "predict_seconds"), zip(few, many, strict=True), strict=True))


@pytest.mark.parametrize("name", [*OBJECTIVES, *(f"quantile_loss_{each}" for each in LEVELS)])
def test_the_better_of_two_planted_configurations_is_the_one_that_an_objective_takes(name, measured):
    better, worse = measured[name]
    assert better != worse
    goal = Wanted(name).goal
    assert goal.is_better(better, worse) and not goal.is_better(worse, better)
    # So picks the study, wherever the better one stands.
    for values in ((better, worse), (worse, better)):
        trials = [Trial(slot, {}, Outcome("completed", (value,))) for slot, value in enumerate(values)]
        assert pick_trial(trials, [goal], Pick()).outcome.values == (better,)


@pytest.mark.parametrize("name", [each for each, found in OBJECTIVES.items() if found.has_folds])
def test_deviations_over_folds_are_taken_off_in_the_worse_direction(name):
    plain, less = Wanted(name), Wanted(name, less_deviations=1.0)
    steady, wild = (0.5, 0.5, 0.5), (0.4, 0.5, 0.6)
    assert plain.value(steady) == pytest.approx(plain.value(wild)) == pytest.approx(0.5)
    # Of three numbers a tenth apart the deviation is a tenth.
    assert abs(less.value(wild) - 0.5) == pytest.approx(0.1)
    assert less.goal.is_better(less.value(steady), less.value(wild))


@pytest.mark.parametrize("name", BOUNDS)
def test_a_constraint_holds_for_the_better_and_not_for_the_worse(name, measured):
    better, worse = measured[name]
    limit = (better + worse) / 2
    assert Bound(name, limit).excess(better) < 0 < Bound(name, limit).excess(worse)
    assert Bound(name, better).excess(better) == 0


def test_unknown_objective_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"`objective` must be one of accuracy, annual_return, .* was 'luck'"):
        objective_of("luck")
