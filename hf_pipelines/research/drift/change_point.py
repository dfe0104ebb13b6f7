"""Change point: since which session a column is not what it was.

Lives here: the session. Not here: whether there is a change at all (`judgement`): of a steady column one is found too.
"""

from __future__ import annotations

from datetime import date

import numpy as np

from hf_pipelines.research.drift.histograms import SessionHistograms

# Sessions that each side of a change must have.
LEAST_SESSIONS = 5


def changed_since(reference: SessionHistograms, later: SessionHistograms, column: str) -> date | None:
    """Session from which on a column differs the most from all before it.

    Parameters
    ----------
    reference : SessionHistograms
        Sessions of training.
    later : SessionHistograms
        Every session after them, in order, of the same bins.
    column : str

    Returns
    -------
    date or None
        A session of `later`; None if there are fewer than 5 sessions. Where nothing changed it means nothing.

    Raises
    ------
    ValueError
        If there is no such column.

    References
    ----------
    Pettitt (1979), "A Non-Parametric Approach to the Change-Point Problem", Applied Statistics 28(2), here of the distance of
    Cramer and von Mises, which sees a change of spread too.
    """
    if column not in reference.bins.names:
        raise ValueError(f"`column` must be one of {list(reference.bins.names)}, was {column}.")
    place = reference.bins.names.index(column)
    counts = later.counts[:, place]
    if len(counts) < LEAST_SESSIONS:
        return None
    before = reference.counts[:, place].sum(axis=0)
    total = before + counts.sum(axis=0)
    # Of each first session: what is after it, of rows in all bins, the missing too.
    after = np.cumsum(counts[::-1], axis=0)[::-1]
    n_after, n = after.sum(axis=-1), total.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        gaps = np.cumsum(after / n_after[:, None], axis=-1) - np.cumsum(
            (total - after) / (n - n_after)[:, None], axis=-1
        )
        found = n_after * (n - n_after) / n * (gaps**2).sum(axis=-1)
    found = np.nan_to_num(found[: len(counts) - LEAST_SESSIONS + 1], nan=-1.0)
    return later.sessions[int(found.argmax())]
