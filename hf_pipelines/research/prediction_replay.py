"""Replay of predictions: what a learner predicts of a row does not change when everything after it is cut off.

Lives here: the comparison, for some times of a test block. Not here: folds (`cross_validation`), the replay of stored features and
matrices (`replay`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from hf_pipelines.research.learners import LearnerChoice

# Times of a test block that are replayed, evenly spaced: a learner that reads ahead does so everywhere.
_TIMES = 3

# How products of matrices of other shapes round, in single precision.
_TOLERANCE = 1e-4


def reads_keys(choice: LearnerChoice) -> bool:
    """Whether a learner, or a part of it, sees more than the row that it predicts."""
    is_keyed = choice.entry.is_keyed or any(each.is_keyed for each in choice.steps)
    return is_keyed or any(map(reads_keys, choice.nested))


def check_replay(
    predict: Callable[..., pl.DataFrame],
    rows: pl.DataFrame,
    wanted: np.ndarray,
    predicted: pl.DataFrame,
    *,
    name: str,
) -> None:
    """Predict some times again without the rows after them, and compare.

    Parameters
    ----------
    predict : callable
        `(rows, wanted=...) -> predictions`, as `predict_frame`.
    rows : DataFrame
        Rows that `predicted` was made of, with their history.
    wanted : ndarray of bool of shape (n_rows,)
    predicted : DataFrame
        Predictions of the rows `wanted`, in their order.
    name : str
        Of the learner, for the message.

    Raises
    ------
    ValueError
        If a prediction differs.
    """
    times = rows["ts"].filter(pl.Series(wanted)).unique().sort()
    # After the last time there is nothing to cut off.
    chosen = sorted({times[len(times) * at // (_TIMES + 1)] for at in range(1, _TIMES + 1)} - {times[-1]})
    numbers = [name for name, kind in predicted.schema.items() if kind.is_float()]
    # A prediction near zero is compared by the size of the others.
    found = np.abs(predicted.select(numbers).to_numpy())
    size = np.max(found, axis=0, initial=0.0, where=np.isfinite(found))
    for ts in chosen:
        is_known = (rows["ts"] <= ts).to_numpy()
        is_asked = wanted & (rows["ts"] == ts).to_numpy()
        of_range = predicted.filter(pl.Series(is_asked[wanted]))
        alone = predict(rows.filter(pl.Series(is_known)), wanted=is_asked[is_known])
        one, other = (each.select(numbers).to_numpy() for each in (of_range, alone))
        is_same = (np.abs(one - other) <= _TOLERANCE * size) | (np.isnan(one) & np.isnan(other))
        if not is_same.all():
            row, column = np.argwhere(~is_same)[0]
            raise ValueError(
                f"`learner` must predict a row without reading later ones, was {name!r}: its {numbers[column]} of "
                f"{of_range['symbol'][int(row)]} at {ts} is {one[row, column]:.6g}, and {other[row, column]:.6g} without the rows "
                "after it; mend the learner."
            )
