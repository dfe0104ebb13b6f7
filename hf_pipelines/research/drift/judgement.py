"""Judgement: whether the newest sessions differ from the sessions of training by more than training differs from itself.

A fixed band rings for what is merely slow: a stationary column whose values stay for weeks differs from its own past in every window. So
each window of the reference is held to the rest of the reference, as the newest window is held to all of it. All columns of a session stay
together, and so do the sessions of a window: what depends on each other, across columns and in time, does so in the comparison too.

Lives here: the judgement. Not here: the distances (`distances`), since when (`change_point`), who is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from hf_pipelines.research.drift.distances import Distances, distances
from hf_pipelines.research.drift.histograms import N_BINS, Floats, SessionHistograms

# Windows of the reference that must fit into it side by side: of fewer nobody knows how far windows are apart.
LEAST_WINDOWS = 4

# Sessions of the reference that count as independent, of a column that can be judged: slower ones have seen too few of their own moods.
LEAST_INDEPENDENT = 20.0

# Family error of a strategy and day.
ERROR = 0.05

# Least deviation of a distance's root over windows, a share of its mean: what is alike in all of them is not known better.
LEAST_DEVIATION = 0.02

# Windows of the reference that are looked at, evenly over all that there are.
MOST_WINDOWS = 1_000

DRIFTED, STEADY, NOT_JUDGED = "drifted", "steady", "cannot be judged"

SCHEMA = {
    "column": pl.String,
    "verdict": pl.String,
    "why": pl.String,
    "p": pl.Float64,
    "shift": pl.Float64,
    "population_stability_index": pl.Float64,
    "kolmogorov_smirnov": pl.Float64,
    "wasserstein": pl.Float64,
    "missing_reference": pl.Float64,
    "missing_window": pl.Float64,
    "persistence": pl.Float64,
}


@dataclass(frozen=True, eq=False)
class Drift:
    """What a window was found to be.

    Attributes
    ----------
    columns : DataFrame
        One row a column, in the order of the bins: `verdict` (drifted, steady, cannot be judged) and `why`; `p`, adjusted for all columns
        that are judged; `shift`, the largest of the three distances in multiples of what windows of the reference have on average; the
        distances themselves; shares of rows without a value; `persistence`, the correlation of a session's mean rank with the next
        one's. Null where undefined.
    p : float
        Of all columns together: the smallest that stands in the table. NaN if none can be judged.
    error : float
        Below which `p` is drift.
    n_independent : float
        Windows of the reference, side by side.
    """

    columns: pl.DataFrame
    p: float
    error: float
    n_independent: float

    @property
    def drifted(self) -> list[str]:
        """Names of the columns that have drifted, the most certain first."""
        found = self.columns.filter(verdict=DRIFTED).sort("p", "shift", descending=[False, True], maintain_order=True)
        return found["column"].to_list()


def judge_drift(reference: SessionHistograms, window: SessionHistograms, *, error: float = ERROR) -> Drift:
    """Judge a window of sessions by windows of the reference that are as long.

    The cube root of a distance, which is nearly normal, is measured in standard deviations from its mean over the windows of the reference,
    that of a window of the reference by those that share no session with it: both are then out of sample, and a distance that hardly varies,
    such as the index of many rows, tells of a small change. The largest of all columns and distances is held to those of the windows of the
    reference by a prediction interval for one more normal value, with as many degrees of freedom as windows fit side by side. A column is
    held to the same limit: so the family error is that of all of them.

    Parameters
    ----------
    reference : SessionHistograms
        Sessions of training, in order; at least `LEAST_WINDOWS` times as many as of the window.
    window : SessionHistograms
        Newest sessions, of the same bins.
    error : float
        Share of stationary days on which any column is called drifted, in (0, 0.5].

    Returns
    -------
    Drift
        Its `p` is NaN if no column can be judged.

    Raises
    ------
    ValueError
        If the window is empty, of other bins or too long for the reference, or `error` is outside its range.

    References
    ----------
    Westfall & Young (1993), "Resampling-Based Multiple Testing", for the largest of a family; Politis, Romano & Wolf (1999), "Subsampling",
    for windows of the series itself; Wilson & Hilferty (1931), "The Distribution of Chi-Square", for the cube root; Whitmore (1986), "Prediction Limits for a Univariate Normal Observation", The American
    Statistician 40(2).
    """
    # Heavy: definitions load without it.
    from scipy import stats

    length, n_sessions = len(window.sessions), len(reference.sessions)
    if not 0.0 < error <= 0.5:
        raise ValueError(f"`error` must be above 0 and at most 0.5, was {error}.")
    if window.bins is not reference.bins:
        raise ValueError("`window` must be counted in the bins of the reference, was in others; count it again.")
    if length == 0 or n_sessions < LEAST_WINDOWS * length:
        raise ValueError(
            f"`reference` must have at least {LEAST_WINDOWS} times the sessions of the window, had {n_sessions} of {length}; "
            f"choose a window of at most {max(n_sessions // LEAST_WINDOWS, 1)} sessions."
        )
    n_independent = n_sessions / length
    whole, newest = reference.counts.sum(axis=0), window.counts.sum(axis=0)
    observed = distances(newest, whole, reference.bins.centres)
    starts = _starts(n_sessions)
    inner = _window_sums(reference.counts, length, starts)
    null = _stacked(distances(inner, whole - inner, reference.bins.centres))
    persistence = _persistence(reference)
    reasons = _not_judged(reference, newest, persistence, null)
    judged = np.array([each is None for each in reasons])

    shifts = np.full(len(judged), np.nan)
    p = np.full(len(judged), np.nan)
    if judged.any():
        of_window = _stacked(observed)[judged]
        shifts[judged] = np.max(
            of_window / np.maximum(null[:, judged].mean(axis=0), np.finfo(np.float64).tiny), axis=-1
        )
        roots = np.cbrt(null[:, judged])
        mean, deviation, others, their_deviation = _usual(roots, starts, n_sessions, length)
        farthest = np.max((np.cbrt(of_window) - mean) / deviation, axis=-1)
        largest = np.max((roots - others) / their_deviation, axis=(1, 2))
        spread = largest.std() * math.sqrt(n_independent / (n_independent - 1.0) * (1.0 + 1.0 / n_independent))
        distance = (farthest - largest.mean()) / max(spread, 1e-12)
        p[judged] = stats.t.sf(distance, n_independent - 1.0)
    missing = [counts[:, -1] / counts.sum(axis=-1).clip(min=1.0) for counts in (whole, newest)]
    rows = [
        {
            "column": name,
            "verdict": NOT_JUDGED if reasons[place] else DRIFTED if p[place] < error else STEADY,
            # A column that is dead is judged, by what is missing alone.
            "why": reasons[place] or ("" if newest[place, :-1].sum() else "no value in the window"),
            "p": p[place],
            "shift": shifts[place],
            "population_stability_index": observed.stability[place],
            "kolmogorov_smirnov": observed.largest_gap[place],
            "wasserstein": observed.transport[place],
            "missing_reference": missing[0][place],
            "missing_window": missing[1][place],
            "persistence": persistence[place],
        }
        for place, name in enumerate(reference.bins.names)
    ]
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
    return Drift(table, float(np.nanmin(p)) if judged.any() else math.nan, error, n_independent)


def _stacked(of: Distances) -> Floats:
    """The three distances on one last axis, each growing as the square of a small shift does; 0 where undefined."""
    found = np.stack([of.stability, of.largest_gap**2, of.transport**2], axis=-1)
    return np.nan_to_num(found, nan=0.0)


def _starts(n_sessions: int) -> np.ndarray:
    """First sessions of the windows that are looked at; after the last session comes the first."""
    n = min(n_sessions, MOST_WINDOWS)
    return np.arange(n) * n_sessions // n


def _window_sums(counts: Floats, length: int, starts: np.ndarray) -> Floats:
    around = np.concatenate(
        [np.zeros((1, *counts.shape[1:])), np.cumsum(np.concatenate([counts, counts[: length - 1]]), axis=0)]
    )
    return np.asarray(around[starts + length] - around[starts])


def _usual(roots: Floats, starts: np.ndarray, n_sessions: int, length: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean and deviation over all windows, and over those without a common session with each window; the last two as `roots` are."""
    apart = (starts[:, None] - starts[None, :]) % n_sessions
    is_apart = ((apart >= length) & (apart <= n_sessions - length)).astype(np.float64)
    is_apart /= is_apart.sum(axis=1, keepdims=True)
    flat = roots.reshape(len(roots), -1)
    others = is_apart @ flat
    variance = np.maximum(is_apart @ flat**2 - others**2, 0.0)
    mean, others, their = roots.mean(axis=0), others.reshape(roots.shape), np.sqrt(variance).reshape(roots.shape)
    return mean, _above_rounding(roots.std(axis=0), mean), others, _above_rounding(their, others)


def _above_rounding(deviation: Floats, mean: Floats) -> Floats:
    return np.maximum(deviation, LEAST_DEVIATION * mean + 1e-12)


def _persistence(reference: SessionHistograms) -> Floats:
    """Correlation of a session's mean rank with that of the next, corrected for its bias; NaN where it does not vary."""
    known = reference.counts[..., :-1]
    whole = known.sum(axis=0)
    below = np.cumsum(whole, axis=-1) - whole / 2.0
    n = known.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rank = below / whole.sum(axis=-1, keepdims=True)
        means = (known * rank).sum(axis=-1) / n
    found = np.full(means.shape[1], np.nan)
    for place in range(means.shape[1]):
        series = means[:, place]
        both = [(one, other) for one, other in pairwise(series) if math.isfinite(one) and math.isfinite(other)]
        varying = np.array(both)
        if len(both) > 2 and varying.std(axis=0).min() > 1e-12:
            correlation = float(np.corrcoef(varying.T)[0, 1])
            # Kendall (1954): the estimate is too low by (1 + 3 r) / n.
            found[place] = min(correlation + (1.0 + 3.0 * correlation) / len(both), 1.0)
    return found


def _not_judged(reference: SessionHistograms, newest: Floats, persistence: Floats, null: Floats) -> list[str | None]:
    """Why a column cannot be judged; None if it can be."""
    n_sessions = len(reference.sessions)
    reasons: list[str | None] = []
    for place in range(len(persistence)):
        whole = reference.counts[:, place].sum(axis=0)
        r = persistence[place]
        independent = n_sessions * (1.0 - r) / (1.0 + r) if math.isfinite(r) else float(n_sessions)
        if whole[:N_BINS].sum() == 0.0:
            why = "no value in the reference"
        elif newest[place].sum() == 0.0:
            why = "no row in the window"
        elif (null[:, place] == 0.0).all():
            here = newest[place] / newest[place].sum()
            # The same in each window of the reference: no chance to be held to.
            is_same = np.allclose(here, whole / whole.sum())
            why = "the same in every session of the reference" + ("" if is_same else ", and other values now")
        elif independent < LEAST_INDEPENDENT:
            why = f"too persistent: its {n_sessions} sessions count as {independent:.1f} independent ones, fewer than {LEAST_INDEPENDENT:g}"
        else:
            reasons.append(None)
            continue
        reasons.append(why)
    return reasons
