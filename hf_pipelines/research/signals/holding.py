"""Holding: which members a rule with hysteresis holds on each side, replayed from entries and exits.

Lives here: the replay, as a function of the last sessions alone. Not here: what an entry or an exit is (`threshold`, `ranks`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.signals.rule import RuleContext

Bools = npt.NDArray[np.bool_]


def held_sides(
    predictions: pl.DataFrame, context: RuleContext, *, flags: pl.DataFrame, n_sessions: int
) -> dict[float, npt.NDArray[np.int64]]:
    """Rows that are held on each side.

    Parameters
    ----------
    predictions : DataFrame
        Sorted by (ts, symbol).
    flags : DataFrame
        A row each: `enters_long`, `enters_short`, `stays_long`, `stays_short`.
    n_sessions : int
        Sessions that an entry counts for.

    Returns
    -------
    dict of side to array of int
        Of 1.0 and of -1.0: places of rows. A member is held from its last entry on for as long as it stays, has a row at each
        decision and does not enter the other side.
    """
    given: Mapping[str, Bools] = {name: flags[name].to_numpy() for name in flags.columns}
    numbers = context.session_numbers(predictions)
    ts = predictions["ts"].rank("dense").to_numpy().astype(np.int64)
    symbol = predictions["symbol"].rank("dense").to_numpy().astype(np.int64)
    order = np.argsort(symbol, kind="stable")
    return {
        side: order[
            _held(
                enters[order],
                (~stays | others)[order],
                symbol=symbol[order],
                ts=ts[order],
                session=numbers[order],
                n_sessions=n_sessions,
            )
        ]
        for side, enters, stays, others in (
            (1.0, given["enters_long"], given["stays_long"], given["enters_short"]),
            (-1.0, given["enters_short"], given["stays_short"], given["enters_long"]),
        )
    }


def _held(
    enters: Bools,
    leaves: Bools,
    *,
    symbol: npt.NDArray[np.int64],
    ts: npt.NDArray[np.int64],
    session: npt.NDArray[np.int64],
    n_sessions: int,
) -> Bools:
    """Whether each row is held: its last entry lies within the window and after its last exit. Rows by (symbol, ts)."""
    row = np.arange(len(enters))
    is_first = np.diff(symbol, prepend=-1) != 0
    # Absent between two rows: it has left before the later one.
    is_back = ~is_first & (np.diff(ts, prepend=0) > 1)
    entered = np.maximum.accumulate(np.where(enters, row, -1))
    left = np.maximum.accumulate(np.maximum(np.where(leaves, row, -1), np.where(is_back | is_first, row - 1, -1)))
    is_entered = entered > left
    return np.asarray(is_entered & (session[np.maximum(entered, 0)] > session - n_sessions))
