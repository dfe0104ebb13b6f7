"""Rollout: how much of the capital follows a challenger, step by step, by what it and the champion earned.

Lives here: a pure function of matured returns and settings. Does not live here: the returns and the history, which are above this room.

In shadow first, for so many sessions; then 10, 25, 50 and 100 % of the capital. A step is taken when the evidence that the challenger earns
more is strong enough for it, at the end of a block of sessions, one step a block, and never backwards. All of it is taken back at once where
the challenger has lost more from its peak than is allowed, or the same test says that it earns less.

The evidence is a test martingale: of a challenger that earns no more than the champion it exceeds a value of 1/a, ever, with a probability of
at most a, so it may be looked at after every block. It is a normal mixture of exp(l S - l^2 V / 2) over l > 0, where S is the sum of the
differences of returns of whole blocks, each divided by the scale of the sessions before it, and V the sum of their squares. For differences
that are symmetric around 0 the bound is exact however heavy their tails are, since V is made of the very values; for others it
holds as their number grows. Blocks take care of autocorrelation that is shorter than they are.

References
----------
de la Pena, Klass & Lai (2004), "Self-Normalized Processes: Exponential Inequalities, Moment Bounds and Iterated Logarithm Laws", Annals of
Probability 32(3). Howard, Ramdas, McAuliffe & Sekhon (2021), "Time-uniform, Nonparametric, Nonasymptotic Confidence Sequences", Annals of
Statistics 49(2), for the mixture. Johari, Koomen, Pekelis & Walsh (2022), "Always Valid Inference: Continuous Monitoring of A/B Tests",
Operations Research 70(3), for such a test beside decisions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Of the capital, in their order; before the first the challenger is in shadow.
SHARES = (0.1, 0.25, 0.5, 1.0)

ADVANCED, STOPPED = "advanced", "stopped"

# Of the mixture: evidence grows fastest for challengers whose differences have a mean of about half their deviation, over blocks.
PRECISION = 5.0

# Logarithm of what still is a number.
LARGEST = 700.0


@dataclass(frozen=True, kw_only=True)
class RolloutSettings:
    """How a challenger is rolled out.

    Attributes
    ----------
    shadow_sessions : int
        Matured sessions before it gets any capital.
    block_sessions : int
        Sessions that are one observation of the test.
    level : float
        Probability with which a challenger that earns no more reaches 100 % at most; the steps before ask for less: 10 % for a quarter of
        the evidence, on the scale of logarithms, 25 % for half, 50 % for three quarters.
    worse_level : float
        Probability with which a challenger that earns no less is stopped by the test at most.
    max_drawdown : float
        Largest loss of the challenger from its peak since the start, positive.
    """

    shadow_sessions: int = 20
    block_sessions: int = 5
    level: float = 0.01
    worse_level: float = 0.05
    max_drawdown: float = 0.2

    def evidence_for(self, step: int) -> float:
        """Evidence that a step asks for, the first one is 0."""
        return float((1.0 / self.level) ** ((step + 1) / len(SHARES)))


@dataclass(frozen=True, kw_only=True)
class RolloutStep:
    """A change of the share.

    Attributes
    ----------
    n_sessions : int
        Matured sessions by which it was due.
    kind : {"advanced", "stopped"}
    share : float
        Of the capital from then on; 0 of one that was stopped.
    evidence, evidence_worse : float
        By then, that it earns more and that it earns less.
    drawdown : float
        Largest by then.
    why : str
        A sentence.
    """

    n_sessions: int
    kind: str
    share: float
    evidence: float
    evidence_worse: float
    drawdown: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Where a rollout stands.

    Attributes
    ----------
    steps : tuple of RolloutStep
    n_sessions : int
        Matured so far.
    share : float
        Of the capital now.
    evidence, evidence_worse : array of shape (n_blocks,)
        After each whole block; 1 says nothing.
    drawdown : array of shape (n_sessions,)
        Of the challenger's own account, positive.
    """

    steps: tuple[RolloutStep, ...]
    n_sessions: int
    evidence: Floats
    evidence_worse: Floats
    drawdown: Floats

    @property
    def share(self) -> float:
        return self.steps[-1].share if self.steps else 0.0

    @property
    def is_stopped(self) -> bool:
        return bool(self.steps) and self.steps[-1].kind == STOPPED

    @property
    def is_complete(self) -> bool:
        """Whether all capital follows the challenger."""
        return self.share == SHARES[-1]


def follow_rollout(
    challenger: ArrayLike, champion: ArrayLike, settings: RolloutSettings, *, taken: Sequence[RolloutStep] = ()
) -> Rollout:
    """Every step that matured results make due; nothing that matures later changes one of them.

    Parameters
    ----------
    challenger, champion : array of shape (n_sessions,)
        Net returns of the same sessions since the start, in order of time, each of an account that follows it with all capital.
    settings : RolloutSettings
    taken : sequence of RolloutStep
        Steps that were taken already, and stay whatever the returns say of them today; what is due follows them.

    Returns
    -------
    Rollout

    Raises
    ------
    ValueError
        If returns are not finite or of different sessions.

    Examples
    --------
    >>> better = [0.004, 0.001] * 40
    >>> [(step.n_sessions, step.share) for step in follow_rollout(better, [0.0] * 80, RolloutSettings()).steps]
    [(25, 0.1), (40, 0.25), (50, 0.5), (65, 1.0)]
    """
    own, other = (np.asarray(each, dtype=np.float64) for each in (challenger, champion))
    if own.shape != other.shape or own.ndim != 1 or not (np.isfinite(own).all() and np.isfinite(other).all()):
        raise ValueError(
            f"`challenger` and `champion` must be finite returns of the same sessions, were of {own.shape} and {other.shape}; leave out "
            "what has not matured."
        )
    log_better, log_worse = log_evidence(own - other, settings.block_sessions)
    equity = np.concatenate([[1.0], np.cumprod(1.0 + own)])
    drawdown = (1.0 - equity / np.maximum.accumulate(equity))[1:]
    steps = [*taken]

    def step(n: int, kind: str, share: float, why: str) -> None:
        at = n // settings.block_sessions - 1
        better, worse = (math.exp(min(each[at], LARGEST)) if at >= 0 else 1.0 for each in (log_better, log_worse))
        steps.append(
            RolloutStep(
                n_sessions=n, kind=kind, share=share, evidence=better, evidence_worse=worse,
                drawdown=float(drawdown[:n].max()), why=why,
            )
        )  # fmt: skip

    for n in range(steps[-1].n_sessions + 1 if steps else 1, len(own) + 1):
        if steps and (steps[-1].kind == STOPPED or steps[-1].share == SHARES[-1]):
            break
        if drawdown[n - 1] > settings.max_drawdown:
            step(
                n,
                STOPPED,
                0.0,
                f"It has lost {drawdown[n - 1]:.1%} from its peak, more than {settings.max_drawdown:.1%}.",
            )
            break
        if n % settings.block_sessions:
            continue
        at = n // settings.block_sessions - 1
        if log_worse[at] >= -math.log(settings.worse_level):
            told = f"evidence {math.exp(log_worse[at]):,.4g}, {1.0 / settings.worse_level:,.4g} is asked for"
            step(n, STOPPED, 0.0, f"It earns less than the champion: {told}.")
            continue
        asked = settings.evidence_for(len(steps))
        if n >= settings.shadow_sessions and log_better[at] >= math.log(asked):
            told = f"evidence {math.exp(log_better[at]):,.4g}, {asked:,.4g} is asked for"
            step(n, ADVANCED, SHARES[len(steps)], f"It earns more than the champion: {told}.")
    return Rollout(
        steps=tuple(steps),
        n_sessions=len(own),
        evidence=np.exp(np.minimum(log_better, LARGEST)),
        evidence_worse=np.exp(np.minimum(log_worse, LARGEST)),
        drawdown=drawdown,
    )


def log_evidence(differences: Floats, block_sessions: int) -> tuple[Floats, Floats]:
    """Logarithm of the evidence after each whole block that the mean of differences is above 0, and that it is below.

    Parameters
    ----------
    differences : array of shape (n_sessions,)
        In order of time, finite.
    block_sessions : int

    Returns
    -------
    tuple of two arrays of shape (n_blocks,)
        The first block gives the scale alone: 0.
    """
    from scipy.special import log_ndtr

    n = len(differences) // block_sessions
    blocks = differences[: n * block_sessions].reshape(n, block_sessions)
    # Of a block whose sessions do not depend on each other. Known before the block that it scales, which therefore keeps its sign.
    scale = np.sqrt(np.cumsum((blocks**2).sum(axis=1)) / np.arange(1, n + 1))[:-1]
    sums = blocks.sum(axis=1)[1:]
    scaled = np.divide(sums, scale, out=np.zeros_like(sums), where=scale > 0.0)
    total, squares = (np.concatenate([np.zeros(min(n, 1)), np.cumsum(each)]) for each in (scaled, scaled**2))
    spread = squares + PRECISION
    symmetric = math.log(2.0) + 0.5 * np.log(PRECISION / spread) + total**2 / (2.0 * spread)
    better, worse = (symmetric + log_ndtr(sign * total / np.sqrt(spread)) for sign in (1.0, -1.0))
    return better, worse
