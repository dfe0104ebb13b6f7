"""Long frames to the dense arrays an engine loops over.

Lives here: `TradingPanel`, the checks every engine relies on, and the one place where bars and weights are
aligned. Not here: what happens to an order (`reference.py`), what is reported (`result.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.backtest.grid import Clock, Floats, Integers, Keys

Fill = Literal["next_open", "next_close", "next_vwap_proxy"]
"""What a decision at the close of bar t is filled at: a price of bar t + 1, never of t. The proxy of the volume-weighted average
price is (high + low + close) / 3 of that bar: no volume is in it, nor the time of a trade."""

# Columns that some fills and limits read beside those of every backtest.
EXTRA_COLUMNS = ("high", "low", "volume")

BAR_COLUMNS = ("symbol", "session", "ts", "open", "close", "split_ratio", "dividend")
WEIGHT_COLUMNS = ("symbol", "session", "ts", "weight")
SHOWN_OFFENDERS = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class TradingPanel:
    """Target weights and bars on one grid of `n_bars` timestamps by `n_symbols` columns.

    The grid begins at the first decision (nothing can happen before it) and ends with the last bar given. Its
    columns are the symbols that appear in the weights, sorted.

    Attributes
    ----------
    symbols : Series of shape (n_symbols,)
    session, ts : Series of shape (n_bars,)
        Session date and close time of each row, ascending.
    is_decision : bool array of shape (n_bars,)
        Rows for which the weights hold targets.
    weights : array of shape (n_bars, n_symbols)
        Signed fractions of equity; on a decision row a symbol without a weight is 0.0: the rows of one ts
        are the whole target. Meaningless on other rows.
    open, close : array of shape (n_bars, n_symbols)
        Raw prices. NaN where the symbol has no bar.
    split_ratio, dividend : array of shape (n_bars, n_symbols)
        Events effective on the row; 1.0 and 0.0 where there is none, read-only where there is none at all. Where the event is unknown (NaN in the bars),
        the split that makes the row's open worth the last close: what is not known gains and loses nothing.
    high, low, volume : array of shape (n_bars, n_symbols), optional
        Raw prices and traded shares, where they were asked for. NaN where the symbol has no bar.
    others : mapping of str to array
        Other columns that were asked for, by name, as they are in the bars. NaN where unknown, and where the symbol has no bar.
    """

    symbols: pl.Series
    session: pl.Series
    ts: pl.Series
    is_decision: NDArray[np.bool_]
    weights: Floats
    open: Floats
    close: Floats
    split_ratio: Floats
    dividend: Floats
    high: Floats | None = None
    low: Floats | None = None
    volume: Floats | None = None
    others: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def elapsed_days(self) -> NDArray[np.int64]:
        """Calendar days from the row before to each row, shape (n_bars,); 0 for the first."""
        days = self.session.to_physical().to_numpy().astype(np.int64)
        return np.diff(days, prepend=days[0])

    def decided_before(self, bar: NDArray[np.int64]) -> NDArray[np.int64]:
        """The last decision before each of some rows: what a fill on them was decided by."""
        rows = np.where(self.is_decision, np.arange(len(self.is_decision)), -1)
        return np.maximum.accumulate(rows)[np.maximum(bar - 1, 0)]


def fill_prices(panel: TradingPanel, fill: Fill) -> Floats:
    """What orders are filled at on each row, of shape (n_bars, n_symbols); NaN where the symbol has no bar.

    Raises
    ------
    ValueError
        If the panel was built without the columns that the fill reads.
    """
    if fill != "next_vwap_proxy":
        return panel.open if fill == "next_open" else panel.close
    if panel.high is None or panel.low is None:
        raise ValueError("`fill` next_vwap_proxy must have high and low in the panel, was without; build it with them.")
    return (panel.high + panel.low + panel.close) / 3.0


def growth_of(panel: TradingPanel) -> Floats:
    """What a share was worth at the close of each row as a multiple of the row before, events counted; NaN without both bars."""
    with np.errstate(divide="ignore", invalid="ignore"):
        held = panel.split_ratio[1:] * (panel.close[1:] + panel.dividend[1:]) / panel.close[:-1]
    return np.vstack([np.full((1, held.shape[1]), np.nan), held])


def sum_by(group: NDArray[np.int64], values: Floats, n_groups: int) -> Floats:
    """Values added up by the number of the group of each, shape (n_groups,)."""
    return np.bincount(group, np.asarray(values, np.float64), minlength=n_groups).astype(np.float64)


def last_known(values: Floats) -> Floats:
    """Each value, or the last one of its column before it that is not NaN."""
    rows = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    at = np.maximum.accumulate(rows, axis=0)
    return np.where(at < 0, np.nan, np.take_along_axis(values, np.maximum(at, 0), axis=0))


def build_trading_panel(weights: pl.DataFrame, bars: pl.DataFrame, *, extra: Collection[str] = ()) -> TradingPanel:
    """Align target weights and bars.

    Parameters
    ----------
    weights : DataFrame
        `symbol, session, ts, weight`. Rows of one `ts` are one decision, taken at that bar's close.
    bars : DataFrame
        The bars contract; bars that trade together share their `ts`. Rows whose `role` is not "member", of
        symbols without a weight, or before the first decision, are not used; every member bar counts for
        the grid's timestamps.
    extra : collection of str
        Those of `EXTRA_COLUMNS` that are needed beside, and columns of one's own.

    Returns
    -------
    TradingPanel
        Arrays of shape (n_bars, n_symbols); prices are NaN where a symbol has no bar.

    Raises
    ------
    ValueError
        If a frame is empty or lacks a column, a key (symbol, ts) is given twice, a weight is not finite, a
        price or event of a used bar is not possible, or a weight other than zero has no bar to be sized
        with.
    """
    extra = [name for name in dict.fromkeys(extra) if name not in BAR_COLUMNS]
    _check_columns("weights", weights, WEIGHT_COLUMNS)
    _check_columns("bars", bars, (*BAR_COLUMNS, *extra))
    weights = weights.select(WEIGHT_COLUMNS)
    of_weights = Keys.of("weights", weights)
    bars = _members(bars, extra, since=weights["ts"].min())
    of_bars = Keys.of("bars", bars)
    (clock, row_of_bars), symbols = Clock.of(of_bars.ts), of_weights.symbols()
    row_of_weights = clock.rows(of_weights.ts)
    _check_decisions_have_bars(of_weights.ts[row_of_weights < 0], weights.schema["ts"])
    bar_cells = of_bars.locate(row_of_bars, clock, symbols)
    weight_cells = of_weights.locate(row_of_weights, clock, symbols)
    first = bar_cells.first_of_each_row()
    ts, session = bars["ts"].gather(first), bars["session"].gather(first)
    if not bar_cells.is_whole:
        bars, bar_cells = bars.filter(bar_cells.is_on_grid()), bar_cells.without_strangers()
    for name, frame, cells in (("bars", bars, bar_cells), ("weights", weights, weight_cells)):
        if cells.has_duplicates():
            _refuse_duplicates(name, frame)
    _check_values(weights, bars, extra)
    opened, close = (bar_cells.scatter(bars[name], empty=np.nan) for name in ("open", "close"))
    split_ratio = bar_cells.scatter_events(bars["split_ratio"], empty=1.0)
    dividend = bar_cells.scatter_events(bars["dividend"], empty=0.0)
    split_ratio, dividend = _known_events(split_ratio, dividend, opened=opened, close=close)
    panel = TradingPanel(
        symbols=symbols,
        session=session,
        ts=ts,
        is_decision=weight_cells.rows_with_any(),
        weights=weight_cells.scatter(weights["weight"], empty=0.0),
        open=opened,
        close=close,
        split_ratio=split_ratio,
        dividend=dividend,
        **{name: bar_cells.scatter(bars[name], empty=np.nan) for name in EXTRA_COLUMNS if name in extra},
        others={name: bar_cells.scatter(bars[name], empty=np.nan) for name in extra if name not in EXTRA_COLUMNS},
    )
    _check_weights_have_bars(panel)
    return panel


def _members(bars: pl.DataFrame, extra: Collection[str], *, since: Any) -> pl.DataFrame:
    """Member bars from a time on; a frame that holds nothing else is not copied."""
    if "role" in bars.columns and not (bars["role"] == "member").all(ignore_nulls=False):
        bars = bars.filter(pl.col("role") == "member")
    bars = bars.select(*BAR_COLUMNS, *extra)
    first = bars["ts"].min()
    is_later = first is not None and first >= since and not bars["ts"].has_nulls()
    return bars if is_later else bars.filter(pl.col("ts") >= since)


def _known_events(split_ratio: Floats, dividend: Floats, *, opened: Floats, close: Floats) -> tuple[Floats, Floats]:
    """Events, with what stands for those that are unknown."""
    if not (_has_nan(split_ratio) or _has_nan(dividend)):
        return split_ratio, dividend
    split_ratio, dividend = np.array(split_ratio), np.array(dividend)
    for row, column in np.argwhere(np.isnan(split_ratio) | np.isnan(dividend)):
        earlier = close[:row, column]
        known = earlier[np.isfinite(earlier)]
        split_ratio[row, column] = known[-1] / opened[row, column] if len(known) else 1.0
        dividend[row, column] = 0.0
    return split_ratio, dividend


def _check_columns(name: str, frame: pl.DataFrame, columns: tuple[str, ...]) -> None:
    missing = sorted(set(columns) - set(frame.columns))
    if missing:
        raise ValueError(f"`{name}` must have the columns {list(columns)}, lacked {missing}.")
    if frame.is_empty():
        raise ValueError(f"`{name}` must have at least one row, was empty.")


def _check_decisions_have_bars(orphans: Integers, kind: pl.DataType) -> None:
    if len(orphans):
        shown = pl.Series(np.unique(orphans)).cast(kind).to_list()
        raise ValueError(
            "`weights` must be decided at the close of a member bar, "
            f"was not for {len(shown)} ts: {_shown(shown)}; "
            "load the bars of those sessions."
        )


def _check_values(weights: pl.DataFrame, bars: pl.DataFrame, extra: Collection[str]) -> None:
    of_extra = {
        "high": (pl.col("high").is_finite() & (pl.col("high") > 0), "be finite and above zero"),
        "low": (pl.col("low").is_finite() & (pl.col("low") > 0), "be finite and above zero"),
        "volume": (pl.col("volume").is_finite() & (pl.col("volume") >= 0), "be finite and not negative"),
    }
    rules = (
        ("weight", weights, pl.col("weight").is_finite(), "be finite; 0.0 is no position"),
        ("open", bars, pl.col("open").is_finite() & (pl.col("open") > 0), "be finite and above zero"),
        ("close", bars, pl.col("close").is_finite() & (pl.col("close") > 0), "be finite and above zero"),
        (
            "split_ratio",
            bars,
            pl.col("split_ratio").is_nan() | (pl.col("split_ratio").is_finite() & (pl.col("split_ratio") > 0)),
            "be above zero, or NaN where it is unknown; 1.0 is no split",
        ),
        (
            "dividend",
            bars,
            pl.col("dividend").is_nan() | (pl.col("dividend").is_finite() & (pl.col("dividend") >= 0)),
            "be not negative, or NaN where it is unknown; 0.0 is no dividend",
        ),
        *((name, bars, *of_extra[name]) for name in EXTRA_COLUMNS if name in extra),
    )
    for name, frame, is_valid, rule in rules:
        if _is_plain(frame[name], is_signed=name == "weight", may_be_zero=name in ("dividend", "volume")):
            continue
        bad = frame.filter(~is_valid.fill_null(False))
        if not bad.is_empty():
            offenders = bad.select("symbol", "ts", name).rows()
            shown = _shown([f"{symbol} {ts} ({value})" for symbol, ts, value in offenders])
            raise ValueError(f"`{name}` must {rule}, was not in {len(offenders)} rows: {shown}.")


def _is_plain(values: pl.Series, *, is_signed: bool, may_be_zero: bool) -> bool:
    """Whether the sum and the least value alone show that all are allowed."""
    given = values.cast(pl.Float64).to_numpy()
    # A sum is finite if all are, but where it overflows; where it is not, they are looked at one by one.
    if not np.isfinite(given.sum()):
        return False
    least = float(given.min()) if len(given) and not is_signed else 1.0
    return least >= 0.0 if may_be_zero else least > 0.0


def _has_nan(values: Floats) -> bool:
    return bool(np.isnan(values.sum()))


def _check_weights_have_bars(panel: TradingPanel) -> None:
    missing = np.flatnonzero(np.isnan(panel.close))
    if panel.weights.ravel()[missing].any():
        rows, columns = np.nonzero((panel.weights != 0.0) & np.isnan(panel.close))
        offenders = [f"{panel.symbols[int(j)]} {panel.session[int(i)]}" for i, j in zip(rows, columns, strict=True)]
        never = sorted({panel.symbols[int(j)] for j in columns if np.isnan(panel.close[:, j]).all()})
        raise ValueError(
            "`weights` must be zero where the symbol has no bar to size the position with, "
            f"was not for {len(offenders)}: {_shown(offenders)}."
            + (
                f" The bars hold nothing of {_shown(never)}: load them, or leave them out of the weights."
                if never
                else ""
            )
        )


def _refuse_duplicates(name: str, frame: pl.DataFrame) -> None:
    repeated = frame.filter(pl.struct("symbol", "ts").is_duplicated()).select("symbol", "ts").unique()
    keys = [f"{symbol} {ts}" for symbol, ts in repeated.rows()]
    raise ValueError(f"`{name}` must have each (symbol, ts) once, repeated: {_shown(keys)}.")


def _shown(offenders: Sequence[object]) -> str:
    shown = ", ".join(sorted(map(str, offenders))[:SHOWN_OFFENDERS])
    return shown if len(offenders) <= SHOWN_OFFENDERS else f"{shown}, ..."
