"""Validation rows: the latest part of a fold's training rows, kept apart for early stopping and calibration.

Lives here: the cut, in one place. Not here: which rows a fold trains on (`splitters`), what is fitted (`cross_validation`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

# Share of the training sessions: long enough to judge by, short enough to leave the most recent past to learn from.
VALIDATION_SHARE = 0.2


def cut_validation(
    times: pl.DataFrame, *, share: float, name: str = "validation_share"
) -> tuple[np.ndarray, np.ndarray]:
    """Cut training rows into those to fit on and the later ones to validate on.

    Cut by session, and purged: a row to fit on has a label that ended before the first bar of the validation rows.

    Parameters
    ----------
    times : DataFrame
        `session`, `ts` and `label_end` of the training rows, in any order.
    share : float
        Share of the sessions to validate on, above 0 and below 1.
    name : str
        What the share is called where it was written.

    Returns
    -------
    fit, validation : ndarray of int64
        Ascending row numbers.

    Raises
    ------
    ValueError
        If the share is none, or no rows are left to fit on.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"`{name}` must be above 0 and below 1, was {share}.")
    sessions = times["session"].unique().sort()
    n = max(round(share * len(sessions)), 1)
    is_later = (times["session"] >= sessions[-n]).to_numpy() if len(sessions) else np.zeros(0, dtype=bool)
    begins = times["ts"].filter(pl.Series(is_later)).min()
    is_fitted = ~is_later & (times["label_end"] < begins).to_numpy() if is_later.any() else is_later
    if not is_fitted.any():
        raise ValueError(
            f"`{name}` must leave rows to fit on whose labels end before the validation rows, was {share:g} of "
            f"{len(sessions)} sessions; train on more sessions, or take a smaller share."
        )
    return np.flatnonzero(is_fitted), np.flatnonzero(is_later)
