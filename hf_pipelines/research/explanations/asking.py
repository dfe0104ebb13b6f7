"""Asking a fitted pipeline for one row of a session, as that row's features are changed and those of the others stay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.explanations.contributions import Ask, Floats
from hf_pipelines.research.learners import Pipeline, predict_frame

# Rows of a session and its copies that are predicted at once.
_ROWS_AT_ONCE = 200_000


def ask_row(
    pipeline: Pipeline,
    session: pl.DataFrame,
    symbol: str,
    *,
    features: Sequence[str],
    classes: Sequence[str],
    missing: str,
) -> Ask:
    """Predictions of one member as its features change, made as they are for an issue.

    Each change is asked for in a session of its own, beside the other members as they are: what compares the members of a session
    (ranks, scores) compares it with them.

    Parameters
    ----------
    pipeline : fitted Pipeline
        Of a learner that reads no earlier rows.
    session : DataFrame
        Rows of the members at one `ts`: keys and features.
    symbol : str
        The member.
    features, classes, missing
        As for `predict_frame`.

    Raises
    ------
    ValueError
        If the learner reads earlier rows (see `windows`), or the member has no row.
    """
    if pipeline.choice.history_bars:
        raise ValueError(
            f"`pipeline` must read a row, or the rows of its session, was {pipeline.choice.name!r}, which reads "
            f"{pipeline.choice.history_bars} bars before it; call ask_window."
        )
    if symbol not in session["symbol"]:
        raise ValueError(
            f"`symbol` must have a row, had none of {symbol}; its members are {', '.join(session['symbol'])}."
        )
    session = session.select(*KEY_COLUMNS, *features).sort("symbol")
    at, n_members = session["symbol"].to_list().index(symbol), session.height
    values = session.select(features).to_numpy().astype(np.float32)
    keys = session.select(KEY_COLUMNS)

    def ask(X: npt.NDArray[np.float32]) -> Floats:
        found = [part for begin in range(0, len(X), step) for part in _ask(X[begin : begin + step])]
        return np.array(found, dtype=np.float64)

    def _ask(X: npt.NDArray[np.float32]) -> Floats:
        copies = np.tile(values, (len(X), 1))
        copies[at::n_members] = X
        number = pl.Series(np.repeat(np.arange(len(X)), n_members))
        # Sessions of their own, in order: nothing that is compared within one meets another copy.
        told = pl.concat([keys] * len(X)).with_columns(
            session=pl.col("session") + number * timedelta(days=1), ts=pl.col("ts") + number * timedelta(days=1)
        )
        frame = told.with_columns(pl.Series(name, copies[:, column]) for column, name in enumerate(features))
        wanted = np.zeros(frame.height, dtype=bool)
        wanted[at::n_members] = True
        predicted = predict_frame(pipeline, frame, features=features, classes=classes, missing=missing, wanted=wanted)
        return predicted["prediction"].to_numpy()

    step = max(_ROWS_AT_ONCE // n_members, 1)
    return ask
