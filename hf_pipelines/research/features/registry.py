"""The registry of features, and the one call that computes them.

Here: `Feature`, `compute_features`, and `FEATURES`, where a feature gets its name, window and formula. To add
one: write a function in its group's module and one entry below. Not here: how a value is computed.

Every feature is a function of exactly the last `lookback_bars` bars of a symbol (and of the benchmark's bars
and the calendar at those sessions), so a stored value never depends on what else was loaded with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.features import cross_asset, technical, temporal
from hf_pipelines.research.features.panel import DateArray, FloatArray, Panel, build_panel
from hf_pipelines.research.features.windows import paired, windowed

Input = Literal["open", "high", "low", "close", "volume", "benchmark", "session", "next_session"]

# What a market has to store before a value of week W: its longest window must fit into the weeks it reads.
MAX_LOOKBACK_BARS = 120


@dataclass(frozen=True)
class Feature:
    """One feature column.

    Attributes
    ----------
    name, group : str
        The column, and the dataset it is stored in.
    compute : callable
        `compute(panel) -> float64 array of shape (n_rows,)`, aligned with the panel's rows. Row t may depend
        on the symbol's bars t - lookback_bars + 1 to t only.
    lookback_bars : int
        Bars of the symbol that a value reads, the current one included. With fewer bars the value is NaN.
    inputs : tuple of str
        What a value is made of. "benchmark" needs reference bars, "next_session" the calendar.
    formula : str
        What is computed, in one line, for the reader of a model card.
    """

    name: str
    group: str
    compute: Callable[[Panel], FloatArray]
    lookback_bars: int
    inputs: tuple[Input, ...]
    formula: str

    def __post_init__(self) -> None:
        if not 1 <= self.lookback_bars <= MAX_LOOKBACK_BARS:
            raise ValueError(
                f"`lookback_bars` must be from 1 to {MAX_LOOKBACK_BARS}, was {self.lookback_bars} for {self.name}."
            )


def compute_features(
    bars: pl.DataFrame,
    names: Iterable[str] | None = None,
    *,
    sessions: Iterable[date] | None = None,
    earliest: Mapping[date, date] | None = None,
    benchmark: str | None = None,
    wanted: Iterable[date] | None = None,
) -> pl.DataFrame:
    """Compute features for the member rows of `bars`.

    Parameters
    ----------
    bars : DataFrame
        Contract `BARS_SCHEMA`, sorted by (symbol, ts), of members and references.
    names : iterable of str, optional
        Features to compute. Default: all that the arguments can feed, so without those that need the
        benchmark if `bars` hold no reference, and without those that need the calendar if `sessions` is None.
    sessions : iterable of date, optional
        The calendar's sessions, ascending: every session of `bars` and at least one after the last.
    earliest : mapping of date to date, optional
        For each session, the first session that its values may read: a value whose window begins before is
        NaN. Give it when bars of several partitions are loaded at once, so that each comes out as if computed
        alone.
    benchmark : str, optional
        The reference symbol to compare with. Needed only if `bars` hold more than one.
    wanted : iterable of date, optional
        Sessions whose values are returned; the other bars are only read. A week of values reads half a year of
        bars, so this is most of the work. Default: all.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `ts` and one Float32 column a feature in registry order; wanted member rows only, in the
        order of `bars`. NaN where the symbol, or the benchmark at its sessions, lacks history, and where the
        feature's formula says so.

    Raises
    ------
    ValueError
        If a name is unknown or needs the calendar and `sessions` is None, if `earliest` lacks a session, or
        if `build_panel` refuses the bars or the sessions.
    """
    features = _select(bars, names, has_calendar=sessions is not None)
    panel = build_panel(bars, sessions, benchmark=benchmark, wanted=wanted)
    return feature_frame(panel, features, earliest=earliest)


def feature_frame(
    panel: Panel, features: Sequence[Feature], *, earliest: Mapping[date, date] | None = None
) -> pl.DataFrame:
    """Compute `features`, registered or not, on a panel; see `compute_features`."""
    columns = []
    rows = np.flatnonzero(panel.is_wanted)
    readable_from = _readable_from(panel.session[rows], earliest)
    has_history: dict[int, npt.NDArray[np.bool_]] = {}
    for feature in features:
        bars = feature.lookback_bars
        if bars not in has_history:
            has_history[bars] = _has_history(panel, rows, bars, readable_from)
        values = np.where(has_history[bars], feature.compute(panel)[rows], np.nan)
        columns.append(pl.Series(feature.name, values.astype(np.float32)))
    return panel.keys[rows].with_columns(columns)


def group_names(group: str) -> tuple[str, ...]:
    """Names of a group's features in registry order.

    Raises
    ------
    ValueError
        If there is no such group.
    """
    names = tuple(name for name, feature in FEATURES.items() if feature.group == group)
    if not names:
        known = sorted({feature.group for feature in FEATURES.values()})
        raise ValueError(f"`group` must be one of {known}, was {group!r}.")
    return names


def _select(bars: pl.DataFrame, names: Iterable[str] | None, *, has_calendar: bool) -> list[Feature]:
    if names is None:
        fed = {"benchmark": (bars["role"] == "reference").any(), "next_session": has_calendar}
        hungry = {item for item, is_fed in fed.items() if not is_fed}
        return [feature for feature in FEATURES.values() if hungry.isdisjoint(feature.inputs)]
    wanted = set(names)
    if unknown := sorted(wanted - set(FEATURES)):
        raise ValueError(f"`names` must be among {list(FEATURES)}, was {unknown[:5]}.")
    features = [feature for name, feature in FEATURES.items() if name in wanted]
    blind = [feature.name for feature in features if "next_session" in feature.inputs]
    if blind and not has_calendar:
        raise ValueError(f"`sessions` must be given for {blind}, was None; pass the calendar's sessions.")
    return features


def _readable_from(session: DateArray, earliest: Mapping[date, date] | None) -> DateArray | None:
    """First session that each row may read from; None if the whole panel may be read."""
    if earliest is None:
        return None
    sessions, at = np.unique(session, return_inverse=True)
    if missing := [day for day in sessions.tolist() if day not in earliest]:
        raise ValueError(f"`earliest` must name every session of the bars, was without {missing[:5]}.")
    return np.array([earliest[day] for day in sessions.tolist()], dtype="datetime64[D]")[at]


def _has_history(
    panel: Panel, rows: npt.NDArray[np.intp], lookback_bars: int, readable_from: DateArray | None
) -> npt.NDArray[np.bool_]:
    """Whether a row's window lies in the panel and does not begin before the session it may read from."""
    first = rows - (lookback_bars - 1)
    inside = first >= np.repeat(panel.starts[:-1], np.diff(panel.starts))[rows]
    if readable_from is None:
        return inside
    return inside & (panel.session[np.maximum(first, 0)] >= readable_from)


_CLOSE: tuple[Input, ...] = ("close",)
_RANGE: tuple[Input, ...] = ("high", "low", "close")
_FLOW: tuple[Input, ...] = ("close", "volume")

# Wilder's average of span 14 forgets to 0.2 % in 85 bars after its first 14; ADX takes such an average twice.
_RSI_BARS, _ATR_BARS, _ADX_BARS = 100, 100, 120
# An exponential average forgets to 0.01 % in 4.6 times its span.
_EMA_12_BARS, _EMA_26_BARS = 60, 120


def _technical(
    name: str, kernel: Callable[..., float], *, bars: int, inputs: tuple[Input, ...], formula: str
) -> Feature:
    return Feature(name, "technical", windowed(kernel, bars), bars, inputs, formula)


def _cross_asset(name: str, kernel: Callable[..., float], *, bars: int, formula: str) -> Feature:
    return Feature(name, "cross_asset", paired(kernel, bars), bars, ("close", "benchmark"), formula)


def _temporal(name: str, compute: Callable[[Panel], FloatArray], *, inputs: tuple[Input, ...], formula: str) -> Feature:
    return Feature(name, "temporal", compute, 1, inputs, formula)


_ALL = (
    _technical("rsi_14", technical.rsi_14, bars=_RSI_BARS, inputs=_CLOSE,
               formula="100 * gain / (gain + loss), Wilder averages of 14"),
    _technical("macd_line", technical.macd_line, bars=_EMA_26_BARS, inputs=_CLOSE,
               formula="(ema(12) - ema(26)) / close"),
    _technical("macd_signal", technical.macd_signal, bars=_EMA_26_BARS, inputs=_CLOSE,
               formula="ema(ema(12) - ema(26), 9) / close"),
    _technical("macd_histogram", technical.macd_histogram, bars=_EMA_26_BARS, inputs=_CLOSE,
               formula="macd_line - macd_signal"),
    _technical("roc_5", technical.rate_of_change, bars=6, inputs=_CLOSE,
               formula="close / close[5 bars ago] - 1"),
    _technical("roc_10", technical.rate_of_change, bars=11, inputs=_CLOSE,
               formula="close / close[10 bars ago] - 1"),
    _technical("roc_20", technical.rate_of_change, bars=21, inputs=_CLOSE,
               formula="close / close[20 bars ago] - 1"),
    _technical("stochastic_k", technical.stochastic_k, bars=14, inputs=_RANGE,
               formula="100 * (close - min(low, 14)) / (max(high, 14) - min(low, 14))"),
    _technical("stochastic_d", technical.stochastic_d, bars=16, inputs=_RANGE,
               formula="mean(stochastic_k, 3)"),
    _technical("sma_gap_5", technical.sma_gap, bars=5, inputs=_CLOSE,
               formula="close / mean(close, 5) - 1"),
    _technical("sma_gap_10", technical.sma_gap, bars=10, inputs=_CLOSE,
               formula="close / mean(close, 10) - 1"),
    _technical("sma_gap_20", technical.sma_gap, bars=20, inputs=_CLOSE,
               formula="close / mean(close, 20) - 1"),
    _technical("sma_gap_50", technical.sma_gap, bars=50, inputs=_CLOSE,
               formula="close / mean(close, 50) - 1"),
    _technical("ema_gap_12", technical.ema_gap_12, bars=_EMA_12_BARS, inputs=_CLOSE,
               formula="close / ema(close, 12) - 1"),
    _technical("ema_gap_26", technical.ema_gap_26, bars=_EMA_26_BARS, inputs=_CLOSE,
               formula="close / ema(close, 26) - 1"),
    _technical("adx_14", technical.adx_14, bars=_ADX_BARS, inputs=_RANGE,
               formula="wilder(100 * |+DI - -DI| / (+DI + -DI), 14)"),
    _technical("atr_14", technical.atr_14, bars=_ATR_BARS, inputs=_RANGE,
               formula="wilder(true range, 14) / close"),
    _technical("bollinger_width_20", technical.bollinger_width, bars=20, inputs=_CLOSE,
               formula="4 * std(close, 20) / mean(close, 20)"),
    _technical("bollinger_position_20", technical.bollinger_position, bars=20, inputs=_CLOSE,
               formula="0.5 + (close - mean(close, 20)) / (4 * std(close, 20))"),
    _technical("volatility_10", technical.volatility, bars=11, inputs=_CLOSE,
               formula="sample std of 10 log returns, per bar"),
    _technical("volatility_20", technical.volatility, bars=21, inputs=_CLOSE,
               formula="sample std of 20 log returns, per bar"),
    _technical("volatility_60", technical.volatility, bars=61, inputs=_CLOSE,
               formula="sample std of 60 log returns, per bar"),
    _technical("obv_slope_20", technical.obv_slope, bars=20, inputs=_FLOW,
               formula="slope(on-balance volume, 20) / mean(volume, 20)"),
    _technical("volume_ratio_20", technical.volume_ratio, bars=20, inputs=("volume",),
               formula="volume / mean(volume, 20)"),
    _technical("high_distance_20", technical.high_distance, bars=20, inputs=("high", "close"),
               formula="close / max(high, 20) - 1"),
    _technical("high_distance_60", technical.high_distance, bars=60, inputs=("high", "close"),
               formula="close / max(high, 60) - 1"),
    _technical("low_distance_20", technical.low_distance, bars=20, inputs=("low", "close"),
               formula="close / min(low, 20) - 1"),
    _technical("low_distance_60", technical.low_distance, bars=60, inputs=("low", "close"),
               formula="close / min(low, 60) - 1"),
    _cross_asset("benchmark_correlation_60", cross_asset.correlation, bars=61,
                 formula="corr(60 returns, 60 benchmark returns)"),
    _cross_asset("benchmark_beta_60", cross_asset.beta, bars=61,
                 formula="cov(returns, benchmark returns) / var(benchmark returns), 60 of each"),
    _cross_asset("relative_strength_60", cross_asset.relative_strength, bars=61,
                 formula="growth over 60 bars / benchmark growth - 1"),
    _temporal("day_of_week", temporal.day_of_week, inputs=("session",),
              formula="0 Monday to 6 Sunday"),
    _temporal("month", temporal.month, inputs=("session",),
              formula="1 to 12"),
    _temporal("quarter", temporal.quarter, inputs=("session",),
              formula="1 to 4"),
    _temporal("is_month_end", temporal.is_month_end, inputs=("session", "next_session"),
              formula="1 if the next session is in another month"),
    _temporal("day_of_year", temporal.day_of_year, inputs=("session",),
              formula="1 to 366"),
)  # fmt: skip


def _by_name(features: Sequence[Feature]) -> dict[str, Feature]:
    names = [feature.name for feature in features]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"`FEATURES` must name each feature once, was repeated for {repeated[:5]}.")
    return {feature.name: feature for feature in features}


FEATURES: dict[str, Feature] = _by_name(_ALL)
