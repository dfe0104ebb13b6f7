"""The probability of backtest overfitting over the ledger's own series."""

from datetime import date, timedelta

import numpy as np

from hf_pipelines.research.overfitting import probability_of_backtest_overfitting
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.judging import judge_choice
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
    choice, n = judge_choice(store.objects, counted(ledger.known()))
    expected = probability_of_backtest_overfitting(returns, 16)
    assert n == 12 and choice is not None and choice.n_trials == 12
    assert choice.probability == expected.probability
    np.testing.assert_array_equal(np.sort(choice.logits), np.sort(expected.logits))
    assert judge_choice(store.objects, counted(ledger.known()).head(1)) == (None, 1)
    assert judge_choice(store.objects, counted(ledger.known()).head(0)) == (None, 0)
