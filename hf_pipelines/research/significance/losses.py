"""Losses: what the tests take, one number a session and candidate.

Lives here: the check of their shape, and p-values of what was drawn. Not here: the tests, what is drawn (`drawn`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# A deviation below this share of the values is rounding: the values are equal.
ROUNDING = 1e-12


def as_losses(values: ArrayLike, *, name: str, n_dimensions: int) -> Floats:
    """Losses as floats.

    Raises
    ------
    ValueError
        If there are fewer than two sessions, no candidate, or a loss that is not finite.
    """
    losses = np.asarray(values, dtype=np.float64)
    shape = "(n_sessions,)" if n_dimensions == 1 else "(n_sessions, n_candidates)"
    if losses.ndim != n_dimensions or len(losses) < 2 or not losses.size:
        raise ValueError(f"`{name}` must be of shape {shape} with two sessions at least, was of shape {losses.shape}.")
    unknown = ~np.isfinite(losses)
    if unknown.any():
        at = sorted(set(np.argwhere(unknown)[:, 0].tolist()))
        raise ValueError(
            f"`{name}` must be finite, was not in {len(at)} sessions, the first at {at[:5]}; leave these sessions out of every "
            "candidate."
        )
    return losses


def is_constant(deviation: Floats, scale: Floats) -> NDArray[np.bool_]:
    """Where a deviation of values of some size is rounding alone."""
    return np.asarray(deviation <= ROUNDING * scale)


def share_beyond(drawn: Floats, observed: float) -> float:
    """p-value: the share of the resamples that are at least what was observed, itself among them.

    Never 0, and 1 of ties: where all candidates are alike nothing is found.
    """
    return float((1.0 + np.sum(drawn >= observed)) / (1.0 + len(drawn)))
