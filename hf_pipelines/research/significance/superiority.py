"""Superior ability: whether the best of many candidates beats a benchmark, given that it is the best of many.

Lives here: Hansen's test and White's reality check. Not here: which candidates cannot be told from the best (`confidence_set`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hf_pipelines.research.metrics.bootstrap import Draws
from hf_pipelines.research.significance.drawn import drawn_means
from hf_pipelines.research.significance.losses import Floats, as_losses, is_constant, share_beyond
from hf_pipelines.research.significance.rotations import Rotations


@dataclass(frozen=True)
class SuperiorAbility:
    """Test that no candidate is better than the benchmark.

    Attributes
    ----------
    best : int
        Place of the candidate whose statistic is the largest.
    statistic : float
        Its mean advantage, over its error if studentised; not below 0.
    lower, consistent, upper : float
        p-values: of candidates worse than the benchmark none counts, those that are not clearly worse, or all. The second is
        Hansen's, the others are its bounds.
    """

    best: int
    statistic: float
    lower: float
    consistent: float
    upper: float


def superior_ability(
    benchmark: ArrayLike, losses: ArrayLike, draws: Draws | Rotations, *, is_studentised: bool = True
) -> SuperiorAbility:
    """Test whether any candidate loses less than a benchmark, by Hansen's test of superior predictive ability.

    Parameters
    ----------
    benchmark : array of shape (n_sessions,)
        Losses of the benchmark, in order of time.
    losses : array of shape (n_sessions, n_candidates)
    draws : Draws or Rotations
        Sessions drawn, in blocks long enough for the differences (`draw_stationary`); or rotations (`draw_rotations`), which hold
        their level in few sessions, too.
    is_studentised : bool
        Each advantage over its own error, as Hansen has it: a candidate of wild losses then hides no other. Not so in
        `arch.bootstrap.SPA`, whose p-values are those of False.

    Returns
    -------
    SuperiorAbility
        Place of the best candidate, its statistic, and p-values: lower, consistent and upper.

    Raises
    ------
    ValueError
        If losses are not finite, of different sessions, or those of `draws` are.

    References
    ----------
    Hansen (2005), "A Test for Superior Predictive Ability", J. Business & Economic Statistics 23(4).
    """
    advantage = _advantage(benchmark, losses)
    n = len(advantage)
    drawn, mean = drawn_means(advantage, draws), advantage.mean(axis=0)
    error = _errors(advantage, drawn)
    scale = np.where(error > 0.0, error, 1.0) if is_studentised else np.ones(len(mean))
    # A candidate that is better by the same in every session, beyond all bounds: no resample tells otherwise.
    size = np.where((error == 0.0) & (mean > 0.0), math.inf, mean / scale) if is_studentised else mean
    observed = max(float(size.max()), 0.0)
    # By the law of the iterated logarithm, one that is further below is worse, not unlucky.
    is_worse = mean < -error * math.sqrt(2.0 * math.log(math.log(n))) if n > 2 else mean < 0.0
    centres = (np.minimum(mean, 0.0), np.where(is_worse, mean, 0.0), np.zeros(len(mean)))
    found = [share_beyond(np.maximum(((drawn + centre) / scale).max(axis=1), 0.0), observed) for centre in centres]
    return SuperiorAbility(int(size.argmax()), observed, *found)


def reality_check(benchmark: ArrayLike, losses: ArrayLike, draws: Draws | Rotations) -> float:
    """p-value of White's reality check: that no candidate loses less than a benchmark.

    Many poor candidates make it blind, since all count as if they were as good as the benchmark: see `superior_ability`.

    Parameters
    ----------
    benchmark : array of shape (n_sessions,)
        As in `superior_ability`, and so are the others.
    losses : array of shape (n_sessions, n_candidates)
    draws : Draws or Rotations

    Returns
    -------
    float
        From 0 to 1: small where a candidate is better by more than chance.

    Raises
    ------
    ValueError
        As `superior_ability`.

    References
    ----------
    White (2000), "A Reality Check for Data Snooping", Econometrica 68(5).
    """
    advantage = _advantage(benchmark, losses)
    drawn = drawn_means(advantage, draws)
    return share_beyond(drawn.max(axis=1), float(advantage.mean(axis=0).max()))


def _advantage(benchmark: ArrayLike, losses: ArrayLike) -> Floats:
    one = as_losses(benchmark, name="benchmark", n_dimensions=1)
    many = as_losses(losses, name="losses", n_dimensions=2)
    if len(one) != len(many):
        raise ValueError(f"`losses` must be of the {len(one)} sessions of the benchmark, were of {len(many)}.")
    advantage = one[:, None] - many
    # A candidate that is the benchmark itself, its losses added up in another order.
    return np.asarray(np.where(is_constant(np.abs(advantage), np.abs(many)), 0.0, advantage))


def _errors(advantage: Floats, drawn: Floats) -> Floats:
    """Standard error of each mean; 0 of a candidate whose advantage is the same in every session."""
    error = drawn.std(axis=0)
    return np.asarray(np.where(is_constant(error, np.abs(advantage).max(axis=0)), 0.0, error))
