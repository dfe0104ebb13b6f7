"""Picking: which trial of a study is used.

Lives here: the front of several objectives, and the rules to take one of it, `PICKS`. Does not live here: what is measured (`objectives`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_pipelines.research.tuning.trials import COMPLETED, Goal, Trial

Floats = NDArray[np.float64]

# Share of the range on the front within which the first objective is as good as its best.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Pick:
    """A key of `PICKS`, and how much of the first objective may be given up."""

    rule: str = "best_first"
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        """Check that the rule is known."""
        if self.rule not in PICKS:
            raise ValueError(f"`pick` must be one of {', '.join(sorted(PICKS))}, was {self.rule!r:.40}.")
        if not 0 <= self.tolerance <= 1:
            raise ValueError(f"`tolerance` must be from 0 to 1, was {self.tolerance}.")


def front_of(trials: Sequence[Trial], goals: Sequence[Goal]) -> tuple[Trial, ...]:
    """Completed trials that hold the constraints and that no other one dominates, by slot.

    One dominates another if it is no worse in any objective and better in one. Of equal ones the first slot stands.
    """
    able = [each for each in trials if each.outcome.state == COMPLETED and each.outcome.is_feasible]
    if not able:
        return ()
    gains = _gains(able, goals)
    kept = []
    for at, gain in enumerate(gains):
        no_worse, better = (gains >= gain).all(axis=1), (gains > gain).any(axis=1)
        is_repeated = (gains[:at] == gain).all(axis=1).any()
        if not (no_worse & better).any() and not is_repeated:
            kept.append(able[at])
    return tuple(kept)


def pick_trial(trials: Sequence[Trial], goals: Sequence[Goal], pick: Pick) -> Trial:
    """The trial to use; of equal ones the first slot.

    Raises
    ------
    ValueError
        If none was completed, or none holds the constraints.
    """
    front = front_of(trials, goals)
    if not front:
        raise ValueError(_why_none(trials))
    gains = _gains(front, goals)
    spans = np.ptp(gains, axis=0)
    # On the front the best of each objective is 1 and the worst 0.
    scaled = (gains - gains.min(axis=0)) / np.where(spans > 0, spans, 1.0)
    return front[PICKS[pick.rule](scaled, pick.tolerance)]


def _gains(trials: Sequence[Trial], goals: Sequence[Goal]) -> Floats:
    signs = np.array([1.0 if each.is_better_higher else -1.0 for each in goals])
    gains: Floats = np.array([each.outcome.values for each in trials], dtype=np.float64) * signs
    return gains


def _why_none(trials: Sequence[Trial]) -> str:
    completed = [each for each in trials if each.outcome.state == COMPLETED]
    if completed:
        nearest = min(completed, key=lambda each: (max(excess for _, excess in each.outcome.excesses), each.slot))
        told = ", ".join(f"{name} by {excess:.4g}" for name, excess in nearest.outcome.excesses if excess > 0)
        return (
            f"`constraints` must be held by at least one trial, were by none of {len(completed)}; slot {nearest.slot} comes nearest and "
            f"exceeds {told}; loosen them, or search elsewhere."
        )
    failed = next((each for each in trials if each.outcome.error), None)
    told = f"; the first, slot {failed.slot}, says: {failed.outcome.error}" if failed else ""
    return f"`tuning` must complete at least one trial, completed none of {len(trials)}{told}"


def _best_first(scaled: Floats, tolerance: float) -> int:
    """Best in the first objective; of equal ones best in the second, and so on."""
    return int(np.lexsort((np.arange(len(scaled)), *(-scaled[:, ::-1].T)))[0])


def _nearest_ideal(scaled: Floats, tolerance: float) -> int:
    """Nearest to the point that is best in every objective, each scaled by its range on the front."""
    return int(np.argmin(np.linalg.norm(1.0 - scaled, axis=1)))


def _near_best(scaled: Floats, tolerance: float) -> int:
    """Of the trials whose first objective lies within the tolerance of its best: best in the second, and so on."""
    near = np.flatnonzero(scaled[:, 0] >= 1.0 - tolerance)
    if not len(near) or scaled.shape[1] == 1:
        return _best_first(scaled, tolerance)
    return int(near[_best_first(np.column_stack([scaled[near, 1:], scaled[near, :1]]), tolerance)])


PICKS: dict[str, Callable[[Floats, float], int]] = {
    "best_first": _best_first,
    "nearest_ideal": _nearest_ideal,
    "near_best": _near_best,
}
"""Rules by name: `(objectives scaled to 0..1 on the front, tolerance) -> row`."""
