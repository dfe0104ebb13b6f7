"""Rollouts: evidence by hand, steps that follow from what has matured alone, and how often a worse and a better challenger get all capital."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from hf_pipelines.research.promotion.rollout import (
    ADVANCED,
    PRECISION,
    SHARES,
    STOPPED,
    RolloutSettings,
    follow_rollout,
    log_evidence,
)
from hf_pipelines_tests.rollout_table import (
    BETTER,
    KINDS,
    LEAST_BETTER,
    MOST_WORSE,
    NO_BETTER,
    WORSE,
    fault_of,
    outcome_of,
)

SETTINGS = RolloutSettings()


def test_evidence_is_the_mixture_that_it_is_said_to_be():
    """Blocks of 2: sums 3, 3 and -1 of sessions whose squares add up to 5, 5 and 5: each is divided by the root of 5."""
    differences = np.array([1.0, 2.0, 2.0, 1.0, -2.0, 1.0])
    better, worse = log_evidence(differences, 2)
    total = np.array([0.0, 3.0, 2.0]) / math.sqrt(5.0)
    squares = np.array([0.0, 9.0, 10.0]) / 5.0
    for found, sign in ((better, 1.0), (worse, -1.0)):
        mixed = [_mixture(sign * s, v) for s, v in zip(total, squares, strict=True)]
        assert np.exp(found) == pytest.approx(mixed, rel=1e-9)
    # Neither the unit nor what is left of a block changes it.
    assert log_evidence(np.append(differences * 1e-4, 7.0), 2)[0] == pytest.approx(better)
    assert log_evidence(np.zeros(6), 2)[0].tolist() == [0.0] * 3


def _mixture(total: float, squares: float) -> float:
    """Over the half of a normal density that is above 0, twice as high."""

    def weighted(x: float) -> float:
        return float(2.0 * norm.pdf(x, scale=PRECISION**-0.5) * math.exp(x * total - x * x * squares / 2.0))

    return quad(weighted, 0.0, 10.0)[0]


def test_steps_follow_in_order_and_nothing_later_changes_them():
    rng = np.random.default_rng(3)
    champion = 0.01 * rng.standard_normal(400)
    challenger = champion + 0.002 + 0.005 * rng.standard_normal(400)
    whole = follow_rollout(challenger, champion, SETTINGS)
    assert [step.share for step in whole.steps] == [*SHARES] and whole.is_complete
    at = [step.n_sessions for step in whole.steps]
    assert at[0] >= SETTINGS.shadow_sessions and (np.diff(at) >= SETTINGS.block_sessions).all()
    assert all(n % SETTINGS.block_sessions == 0 for n in at)
    for step, level in zip(whole.steps, (0.01**0.25, 0.1, 0.01**0.75, 0.01), strict=True):
        assert step.evidence >= 1.0 / level and step.evidence == whole.evidence[step.n_sessions // 5 - 1]
    for n in range(0, 200, 7):
        early = follow_rollout(challenger[:n], champion[:n], SETTINGS)
        assert early.steps == tuple(step for step in whole.steps if step.n_sessions <= n)
    # What was taken stays, though returns that were revised since say something else; what is due comes after it.
    revised = follow_rollout(champion, challenger, SETTINGS, taken=whole.steps[:2])
    assert revised.steps[:2] == whole.steps[:2] and [step.kind for step in revised.steps[2:]] == [STOPPED]
    assert revised.steps[2].n_sessions > at[1]
    for n in range(5):
        assert follow_rollout(challenger, champion, SETTINGS, taken=whole.steps[:n]).steps == whole.steps
    # A year in shadow: all evidence is there, and still one step a block.
    patient = follow_rollout(challenger, champion, RolloutSettings(shadow_sessions=252))
    assert [step.n_sessions for step in patient.steps] == [255, 260, 265, 270]


def test_a_breached_limit_takes_all_capital_back_at_once():
    champion = np.zeros(200)
    challenger = np.tile([0.004, 0.001], 100)
    challenger[42] = -0.25
    found = follow_rollout(challenger, champion, SETTINGS)
    assert [(step.kind, step.share) for step in found.steps] == [(ADVANCED, 0.1), (ADVANCED, 0.25), (STOPPED, 0.0)]
    last = found.steps[-1]
    # In the middle of a block, by the loss from the peak of the session before it.
    assert last.n_sessions == 43 and last.drawdown == pytest.approx(0.25) and found.is_stopped and found.share == 0.0
    assert last.why == "It has lost 25.0% from its peak, more than 20.0%."
    assert not follow_rollout(challenger, champion, RolloutSettings(max_drawdown=0.26)).is_stopped
    worse = follow_rollout(np.tile([-0.004, -0.001], 25) / 10, champion[:50], SETTINGS)
    (step,) = worse.steps
    assert (step.kind, step.n_sessions) == (STOPPED, 45) and step.evidence_worse >= 20.0
    assert step.why.startswith("It earns less than the champion: evidence ")
    # Nothing follows what has ended.
    assert follow_rollout(np.tile([-0.004, -0.001], 100) / 10, champion, SETTINGS).steps == worse.steps


def test_no_results_no_step_and_what_has_not_matured_is_refused():
    nothing = follow_rollout([], [], SETTINGS)
    assert nothing.steps == () and nothing.share == 0.0 and not nothing.is_stopped
    assert follow_rollout([0.1] * 60, [0.1] * 60, SETTINGS).steps == ()
    with pytest.raises(ValueError, match="must be finite returns of the same sessions"):
        follow_rollout([0.1, math.nan], [0.1, 0.1], SETTINGS)
    with pytest.raises(ValueError, match="must be finite returns of the same sessions"):
        follow_rollout([0.1, 0.2], [0.1], SETTINGS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_worse_challenger_seldom_gets_all_capital_and_a_better_one_nearly_always(kind):
    """The short form of `make rollouts`. Of 250 draws 6 are more than 1 % with a probability of 4 %, and 215 less than 90 % with 2 %."""
    n = 250
    assert outcome_of(kind, WORSE, n).reached[-1] <= n * MOST_WORSE
    if kind.is_held:
        assert outcome_of(kind, NO_BETTER, n).reached[-1] <= n * MOST_WORSE + 3
        better = outcome_of(kind, BETTER, n)
        assert better.reached[-1] >= n * LEAST_BETTER and fault_of(kind, BETTER, better) == ""
