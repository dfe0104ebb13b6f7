"""Thresholds: how bad a score may be, by what was known when a row was predicted.

Lives here: the conformal quantile, one threshold for what comes after some rows, and one for each session that moves with the share of
outcomes outside of intervals. Not here: scores and bounds (`bounds`, `class_sets`), which rows are known (`intervals`).

References
----------
Gibbs & Candès (2021), "Adaptive Conformal Inference Under Distribution Shift", NeurIPS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_pipelines.research.intervals.method import Floats

Times = NDArray[np.int64]

# Scores beyond the threshold that a window holds at least, if there are so many.
FEWEST = 2.0


def conformal_threshold(scores: Floats, coverage: float) -> float:
    """The score that `coverage` of what is like some scores is not above.

    Parameters
    ----------
    scores : array of shape (n_scores,)
        Finite, in any order.
    coverage : float
        Between 0 and 1.

    Returns
    -------
    float
        The ceil((n_scores + 1) * coverage)-th smallest; NaN of so few that there is none: fewer than 1 / (1 - coverage) - 1.

    Examples
    --------
    >>> conformal_threshold(np.arange(1.0, 10.0), 0.9), conformal_threshold(np.arange(1.0, 9.0), 0.9)
    (9.0, nan)
    """
    rank = _rank(len(scores), coverage)
    return math.nan if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])


def _rank(n_scores: int, coverage: float) -> int:
    # (9 + 1) * 0.9 is 9.000000000000002 of some 0.9.
    return max(math.ceil((n_scores + 1) * coverage - 1e-9), 1)


@dataclass(frozen=True, eq=False)
class Moving:
    """Thresholds that move from session to session.

    Attributes
    ----------
    thresholds : array of shape (n_sessions,)
        NaN of sessions with too few scores before them.
    missed : array of shape (n_sessions,)
        Share of outcomes outside that was aimed at: above the nominal one after too wide intervals.
    served : float
        Threshold of what comes after all sessions, all labels known.
    aimed : float
        The share aimed at then.
    n_scores : int
        Scores that it is of.
    """

    thresholds: Floats
    missed: Floats
    served: float
    aimed: float
    n_scores: int


def move_thresholds(
    session: NDArray[np.int64],
    scores: Floats,
    label_end: Times,
    begins: Times,
    *,
    coverage: float,
    step: float,
    window_sessions: int,
    label_sessions: int = 1,
) -> Moving:
    """Move a threshold from session to session: up after more outcomes outside than aimed at, down after fewer.

    At each session it is the conformal threshold of the latest scores whose labels ended before the session began. The share of
    outcomes outside that it aims at follows the shares that there were, of sessions all of whose labels ended before. It is a function
    of the rows alone: none of the intervals that were issued.

    Parameters
    ----------
    session : int array of shape (n_rows,)
        Places of the rows' sessions in `begins`.
    scores : array of shape (n_rows,)
        NaN of rows that do not count.
    label_end, begins : int arrays of shape (n_rows,) and (n_sessions,)
        Ends of the labels, and first bars of the sessions, ascending.
    coverage : float
    step : float
        How far the share aimed at moves for a share of outcomes; divided by the root of `label_sessions`: labels that overlap are wrong
        together, and their errors are known late.
    window_sessions : int
        Sessions back from which on a label must have ended for its score to count.
    label_sessions : int
        Sessions that a label spans.
    """
    known = np.flatnonzero(np.isfinite(scores))
    session, scores, label_end = session[known], scores[known], label_end[known]
    order = np.lexsort((session, label_end))
    by_end, ends = scores[order], label_end[order]
    n_sessions = len(begins)
    # The end of the last label of each session: its share is known after it.
    last_end = np.full(n_sessions, np.iinfo(np.int64).min)
    np.maximum.at(last_end, session, label_end)
    rows = np.argsort(session, kind="stable")
    edges = np.searchsorted(session[rows], np.arange(n_sessions + 1))
    held = np.flatnonzero(np.diff(edges))
    waiting = held[np.argsort(last_end[held], kind="stable")]
    ended = last_end[waiting]
    thresholds, missed = np.full(n_sessions, np.nan), np.full(n_sessions, np.nan)
    # Of one symbol and a high coverage the window may hold too few: then it reaches back further.
    least = math.ceil(FEWEST / (1.0 - coverage))
    aimed, done, nominal, pace = 1.0 - coverage, 0, 1.0 - coverage, step / math.sqrt(label_sessions)

    def learn(until: int) -> None:
        nonlocal aimed, done
        while done < until:
            at = waiting[done]
            if not math.isnan(thresholds[at]):
                outside = float((scores[rows[edges[at] : edges[at + 1]]] > thresholds[at]).mean())
                aimed += pace * (nominal - outside)
            done += 1

    def threshold(first: int, stop: int) -> float:
        n_scores = stop - first
        if _rank(n_scores, coverage) > n_scores:
            return math.nan
        # Where all outcomes should be inside, the largest score is the most that is known.
        rank = min(max(_rank(n_scores, 1.0 - aimed), 1), n_scores)
        return float(np.partition(by_end[first:stop], rank - 1)[rank - 1])

    def since(at: int, stop: int) -> int:
        begin = int(np.searchsorted(ends, begins[at - window_sessions])) if at >= window_sessions else 0
        return max(min(begin, stop - least), 0)

    for at in range(n_sessions):
        learn(int(np.searchsorted(ended, begins[at])))
        stop = int(np.searchsorted(ends, begins[at]))
        first = since(at, stop)
        thresholds[at], missed[at] = threshold(first, stop), aimed
    learn(len(waiting))
    first = since(n_sessions, len(ends))
    return Moving(thresholds, missed, threshold(first, len(ends)), aimed, len(ends) - first)
