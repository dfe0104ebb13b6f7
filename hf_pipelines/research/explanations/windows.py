"""Windows: contributions of features to the prediction of a learner that reads earlier bars of the symbol.

Lives here: a row's window with a way to ask what would be predicted of another one, and what each feature adds over all of its bars. Not here:
sampling (`contributions`), learners that read a row or the rows of its session (`asking`).

A feature is replaced in all bars of a window at once: what it adds is what its recent course adds, not its last value alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.explanations.contributions import Contributions, Floats, permutation_contributions
from hf_pipelines.research.learners import LearnerChoice, Pipeline, predict_frame
from hf_pipelines.research.learners.prediction import feature_array, keyed

Values: TypeAlias = npt.NDArray[np.float32]

# Rows of copies of a window that are predicted at once.
_ROWS_AT_ONCE = 200_000


@dataclass(frozen=True, eq=False)
class AskedWindow:
    """The window of a row, and what the learner predicts of others in its place.

    Attributes
    ----------
    values : float32 array of shape (n_bars, n_features)
        The row's own window, its own bar last; NaN at a bar that it has no row of.
    ask : callable
        `(windows of shape (n, n_bars, n_features)) -> predictions of shape (n,)`.
    n_rows : int
        Rows that are predicted for each window that is asked for.
    """

    values: Values
    ask: Callable[[Values], Floats]
    n_rows: int

    def ask_last(self, X: Values) -> Floats:
        """Predictions as the row's own bar changes, and the bars before it stay; `X` of shape (n, n_features)."""
        windows = np.tile(self.values, (len(X), 1, 1))
        windows[:, -1] = X
        return self.ask(windows)


def compares_members(choice: LearnerChoice) -> bool:
    """Whether preprocessing, of a learner or of one inside of it, compares the rows of a session with each other."""
    return any(step.is_keyed for step in choice.steps) or any(map(compares_members, choice.nested))


def ask_window(
    pipeline: Pipeline,
    history: pl.DataFrame,
    symbol: str,
    *,
    features: Sequence[str],
    classes: Sequence[str],
    missing: str,
    times: pl.Series | None,
) -> AskedWindow:
    """Predictions of the last row of one member as its window changes, made as they are for an issue.

    Parameters
    ----------
    pipeline : fitted Pipeline
    history : DataFrame
        Keys and features of the members up to the row, and of at least as many bars before it as the learner reads.
    symbol : str
        The member.
    features, classes, missing, times
        As for `predict_frame`.

    Raises
    ------
    ValueError
        If the member has no row.
    """
    numbered = keyed(history, *features, times=times)
    own = numbered.filter(pl.col("symbol") == symbol)
    if own.is_empty():
        raise ValueError(f"`symbol` must have a row, had none of {symbol}.")
    n_bars = pipeline.choice.history_bars + 1
    last = own["bar"].max()
    rows = (numbered if compares_members(pipeline.choice) else own).with_columns(
        place=pl.col("bar") - pl.lit(last) + (n_bars - 1)
    )
    rows = rows.filter(pl.col("place").is_between(0, n_bars - 1)).sort("place", "symbol")
    place, is_own = rows["place"].to_numpy().astype(np.int64), (rows["symbol"] == symbol).to_numpy()
    X = feature_array(rows, features)
    values = np.full((n_bars, len(features)), np.nan, dtype=np.float32)
    values[place[is_own]] = X[is_own]
    is_wanted = is_own & (place == n_bars - 1)
    step = max(_ROWS_AT_ONCE // rows.height, 1)

    def ask(windows: Values) -> Floats:
        parts = [_ask(windows[begin : begin + step]) for begin in range(0, len(windows), step)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _ask(windows: Values) -> Floats:
        n = len(windows)
        copies = np.tile(X, (n, 1, 1))
        copies[:, is_own] = windows[:, place[is_own]]
        # One copy after the other, each in as many bars as a window has: none reads a bar of the one before it.
        days = (np.arange(n)[:, None] * n_bars + place).ravel()
        told = _bars(days).with_columns(symbol=pl.Series(rows["symbol"].to_list() * n))
        flat = copies.reshape(-1, len(features))
        frame = told.with_columns(pl.Series(name, flat[:, column]) for column, name in enumerate(features))
        predicted = predict_frame(
            pipeline,
            frame,
            features=features,
            classes=classes,
            missing=missing,
            wanted=np.tile(is_wanted, n),
            times=_bars(np.arange(n * n_bars))["ts"],
        )
        return predicted["prediction"].to_numpy()

    return AskedWindow(values, ask, rows.height)


def whole_windows(
    frame: pl.DataFrame, features: Sequence[str], *, n_bars: int, most: int, times: pl.Series | None = None
) -> Values:
    """Windows of rows whose bars are all there, evenly spaced over time.

    Parameters
    ----------
    frame : DataFrame
        Keys and features, such as a training matrix; rows of several horizons are one.
    features : sequence of str
    n_bars : int
        Bars of a window.
    most : int
        Windows, at most.
    times : Series of datetime, optional
        As for `predict_frame`.

    Returns
    -------
    float32 array of shape (n_windows, n_bars, n_features)

    Raises
    ------
    ValueError
        If no window is whole.
    """
    rows = keyed(frame, *features, times=times).unique(["symbol", "ts"], keep="first").sort("symbol", "bar")
    bar, symbol = rows["bar"].to_numpy().astype(np.int64), rows["symbol"].rle_id().to_numpy().astype(np.int64)
    ends = np.arange(n_bars - 1, rows.height)
    begins = ends - (n_bars - 1)
    whole = ends[(symbol[ends] == symbol[begins]) & (bar[ends] - bar[begins] == n_bars - 1)]
    if not len(whole):
        raise ValueError(
            f"`frame` must hold a symbol with rows at {n_bars} bars one after the other, had none in {rows.height} rows; train on more weeks."
        )
    whole = whole[np.argsort(bar[whole], kind="stable")]
    chosen = whole[np.unique(np.linspace(0, len(whole) - 1, min(most, len(whole))).astype(int))]
    X = feature_array(rows, features)
    return np.asarray(X[chosen[:, None] + np.arange(1 - n_bars, 1)])


def window_contributions(
    asked: AskedWindow, background: Values, *, n_permutations: int = 200, seed: int = 0
) -> Contributions:
    """What each feature adds over all bars of a window: what a prediction changes by as its course replaces that of another window.

    Parameters
    ----------
    asked : AskedWindow
    background : float32 array of shape (n_background, n_bars, n_features)
        Windows that a feature is unknown against, from `whole_windows`.
    n_permutations, seed
        As for `permutation_contributions`.

    Returns
    -------
    Contributions
        Of one row; they add up to its prediction, exactly.
    """
    windows = np.concatenate([asked.values[None], background])
    n_bars, n_features = asked.values.shape
    bars, features = np.arange(n_bars)[None, :, None], np.arange(n_features)

    def ask(sources: Values) -> Floats:
        # Of each feature the window that it is taken from.
        return asked.ask(windows[sources.astype(np.int64)[:, None, :], bars, features])

    others = np.tile(np.arange(1, len(windows), dtype=np.float32)[:, None], (1, n_features))
    return permutation_contributions(
        ask, np.zeros((1, n_features), dtype=np.float32), others, n_permutations=n_permutations, seed=seed
    )


def _bars(days: npt.NDArray[np.int64]) -> pl.DataFrame:
    """Keys of bars a day apart."""
    since = pl.col("number") * timedelta(days=1)
    return pl.DataFrame({"number": days}).select(
        session=pl.lit(date(2000, 1, 1)) + since,
        ts=(pl.lit(datetime(2000, 1, 1)) + since).dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
    )
