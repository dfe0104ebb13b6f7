"""The probability of backtest overfitting over the ledger's own series."""

from datetime import date, timedelta

import numpy as np
import polars as pl

from hf_pipelines.research.overfitting import probability_of_backtest_overfitting
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.judging import judge_choice, judge_superiority, sharing_sessions
from hf_pipelines.resources.trial_ledger.trials import counted
from hf_pipelines_tests.resources.trial_ledger.trying import slot


def test_choice_is_judged_among_the_trials_that_share_their_sessions(store):
    rng = np.random.default_rng(0)
    days = [date(2012, 1, 2) + timedelta(days=at) for at in range(64)]
    returns = rng.normal(0.0, 0.01, (64, 12))
    ledger = TrialLedger(store.objects, "tester")
    for at in range(12):
        ledger.begin(slot(at), source="cross_validation").end(returns=(days, returns[:, at].tolist()))
    # Another week of the same strategy, and a trial that never held anything.
    ledger.begin(slot(12), source="cross_validation").end(returns=(days[1:], returns[1:, 0].tolist()))
    ledger.begin(slot(13), source="cross_validation").end(returns=(days, [0.0] * 64))
    choice, n = judge_choice(sharing_sessions(store.objects, counted(ledger.known())))
    expected = probability_of_backtest_overfitting(returns, 16)
    assert n == 12 and choice is not None and choice.n_trials == 12
    assert choice.probability == expected.probability
    np.testing.assert_array_equal(np.sort(choice.logits), np.sort(expected.logits))
    assert judge_choice(sharing_sessions(store.objects, counted(ledger.known()).head(1))) == (None, 1)
    assert judge_choice(sharing_sessions(store.objects, counted(ledger.known()).head(0))) == (None, 0)


def test_copies_of_a_trial_are_one_choice_and_move_no_middle(store):
    rng = np.random.default_rng(2)
    days = [date(2012, 1, 2) + timedelta(days=at) for at in range(64)]
    returns = rng.normal(0.0, 0.01, (64, 6))
    # Under other names: the worst again and again, in other sizes, and with the rounding of another machine.
    worst = returns[:, returns.mean(axis=0).argmin()]
    copies = [worst, 2.0 * worst, 0.3 * worst, worst * (1.0 + 1e-13)]
    ledger = TrialLedger(store.objects, "tester")
    for at, each in enumerate([*returns.T, *copies]):
        ledger.begin(slot(at), source="cross_validation").end(returns=(days, each.tolist()))
    choice, n = judge_choice(sharing_sessions(store.objects, counted(ledger.known())))
    assert choice is not None and n == choice.n_trials == 6
    assert choice.probability == probability_of_backtest_overfitting(returns, 16).probability
    # With them it would look as if the best were above the middle more often.
    every = np.column_stack([returns, *(worst * (1.0 + 1e-6 * at) for at in range(1, 7))])
    assert probability_of_backtest_overfitting(every, 16).probability < choice.probability
    idle = TrialLedger(store.objects, "idle")
    idle.begin(slot(50), source="cross_validation").end(returns=(days, [0.0] * 64))
    alone = counted(idle.known()).filter(pl.col("trial") == slot(50).id)
    assert sharing_sessions(store.objects, alone).shape == (64, 0)


def test_the_best_of_many_is_held_to_nothing_and_agrees_with_arch(store):
    from arch.bootstrap import SPA

    rng = np.random.default_rng(1)
    days = [date(2012, 1, 2) + timedelta(days=at) for at in range(400)]
    noise = rng.normal(0.0, 0.01, (400, 20))
    ledger = TrialLedger(store.objects, "tester")
    for at in range(20):
        ledger.begin(slot(at), source="cross_validation").end(returns=(days, noise[:, at].tolist()))
    of_noise = judge_superiority(sharing_sessions(store.objects, counted(ledger.known())))
    assert of_noise is not None and of_noise[0] > 0.05
    expected = SPA(np.zeros(400), -noise, reps=2_000, block_size=1, seed=0, studentize=False)
    expected.compute()
    # White's test is that of all candidates as if they were as good as nothing, arch's upper p-value.
    assert abs(of_noise[1] - expected.pvalues["upper"]) < 0.05
    # One that knows something is found among them.
    known = rng.normal(0.0025, 0.01, 400)
    ledger.begin(slot(20), source="cross_validation").end(returns=(days, known.tolist()))
    found = judge_superiority(sharing_sessions(store.objects, counted(ledger.known())))
    assert found is not None and max(found) < 0.01
    assert judge_superiority(sharing_sessions(store.objects, counted(ledger.known()).head(0))) is None
