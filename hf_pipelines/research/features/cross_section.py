"""Cross-section features: where a symbol stands in the universe at one time, and the state of the universe.

Here: ranks and z-scores of a handful of window quantities over the members that have a bar at the same `ts`, the
breadth of the universe and its dispersion. Not here: the quantities (`technical`), sectors (`cross_asset.py`).

A symbol takes part at a time if it belongs to the universe then and if the bars of its window lie within the last
`reach` times of the universe, half as many again as its window has bars: gaps in up to a third are allowed. A value
needs `reach` bars of its own symbol, so what the others' windows read is always there with it, and no value depends
on where the loaded frame begins. A dead company stays in the past, a later member does not enter it.

Only quantities that are the same whatever the unit of a symbol's price and volume are compared: never dollar volume.
Ranks run from 0 (lowest) to 1, ties share the middle of their places; values within 1e-9 of each other are ties, for
less is rounding. A universe of one ranks 0.5; its z-score and dispersion are NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.features import technical
from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import FloatArray, OffsetArray
from hf_pipelines.research.features.technical.trend import rate_of_change
from hf_pipelines.research.features.windows import alone, swept

Statistic = Callable[[FloatArray, OffsetArray], FloatArray]

# Values closer than this, in fractions, differ by rounding only.
_TIE = 1e-9


@dataclass(frozen=True)
class Base:
    """A quantity of each symbol that is compared, as `Feature` has it."""

    compute: Callable[[Panel], FloatArray]
    bars: int
    inputs: tuple[Input, ...]


@dataclass(frozen=True, eq=False)
class Times:
    """Wanted rows by time.

    Attributes
    ----------
    number : int64 array of shape (n_rows,)
        Number of each row's `ts` among the times at which any symbol has a bar.
    rows : int64 array of shape (n_wanted,)
        The wanted rows sorted by time, symbols in order within it.
    starts : int64 array of shape (n_times + 1,)
        Where each time begins in `rows`.
    """

    number: OffsetArray
    rows: OffsetArray
    starts: OffsetArray


@window_kernel
def rank(values: FloatArray, starts: OffsetArray) -> FloatArray:
    """Place of each value within its time, 0 to 1, ties in the middle, 0.5 alone; NaN stays NaN."""
    ranks = np.full(values.size, np.nan)
    for time in range(starts.size - 1):
        here = starts[time] + np.flatnonzero(~np.isnan(values[starts[time] : starts[time + 1]]))
        rounded = np.rint(values[here] / _TIE)
        order = np.argsort(rounded)
        first = 0
        for last in range(order.size):
            if last + 1 < order.size and rounded[order[last + 1]] == rounded[order[first]]:
                continue
            for tied in range(first, last + 1):
                ranks[here[order[tied]]] = 0.5 * (first + last) / (order.size - 1) if order.size > 1 else 0.5
            first = last + 1
    return ranks


@window_kernel
def zscore(values: FloatArray, starts: OffsetArray) -> FloatArray:
    """Distance of each value from its time's mean in population standard deviations; NaN if all are the same."""
    scores = np.full(values.size, np.nan)
    for time in range(starts.size - 1):
        here = starts[time] + np.flatnonzero(~np.isnan(values[starts[time] : starts[time + 1]]))
        known = values[here]
        if known.size > 1 and np.max(known) - np.min(known) > _TIE:
            scores[here] = (known - np.mean(known)) / np.std(known)
    return scores


@window_kernel
def share_positive(values: FloatArray, starts: OffsetArray) -> FloatArray:
    """Share of its time's values that are above 0, for every row of the time; NaN if it has none."""
    shares = np.full(values.size, np.nan)
    for time in range(starts.size - 1):
        here = slice(starts[time], starts[time + 1])
        n_known = np.sum(~np.isnan(values[here]))
        if n_known > 0:
            shares[here] = np.sum(values[here] > _TIE) / n_known
    return shares


@window_kernel
def dispersion(values: FloatArray, starts: OffsetArray) -> FloatArray:
    """Population standard deviation of its time's values, for every row of the time; NaN if fewer than two."""
    spreads = np.full(values.size, np.nan)
    for time in range(starts.size - 1):
        here = slice(starts[time], starts[time + 1])
        known = values[here][~np.isnan(values[here])]
        if known.size > 1:
            spreads[here] = np.std(known)
    return spreads


def reach(bars: int) -> int:
    """Times of the universe within which a window of `bars` bars must lie: half as many again."""
    return bars + bars // 2


def across(statistic: Statistic, base: Callable[[Panel], FloatArray], bars: int) -> Callable[[Panel], FloatArray]:
    """Make a feature of a statistic, at each time, over the members' values of a quantity that reads `bars` bars."""

    @functools.wraps(statistic)
    def compute(panel: Panel) -> FloatArray:
        times = times_of(panel)
        return _of_times(panel, times, statistic, taking_part(panel, times, base, bars), bars)

    return compute


def times_of(panel: Panel) -> Times:
    """Sort the wanted rows by time."""
    wanted = np.flatnonzero(panel.is_wanted)
    rows = wanted[np.argsort(panel.time[wanted], kind="stable")]
    starts = np.append(np.flatnonzero(np.diff(panel.time[rows], prepend=-1)), rows.size)
    return Times(panel.time, rows, starts)


def taking_part(panel: Panel, times: Times, base: Callable[[Panel], FloatArray], bars: int) -> FloatArray:
    """Values of the quantity at `times.rows`, NaN where a symbol takes no part.

    Notes
    -----
    Members only: `Panel.is_wanted` holds no row of anyone else.
    """
    values = base(panel)[times.rows]
    first = np.maximum(times.rows - (bars - 1), 0)
    is_dense = times.number[times.rows] - times.number[first] < reach(bars)
    return np.where(is_dense & np.isfinite(values), values, np.nan)


def _of_times(panel: Panel, times: Times, statistic: Statistic, values: FloatArray, bars: int) -> FloatArray:
    found = np.full(panel.close.size, np.nan)
    has_history = times.rows - panel.first_readable[times.rows] + 1 >= reach(bars)
    found[times.rows] = np.where(has_history, statistic(values, times.starts), np.nan)
    return found


def _together(panel: Panel, names: Sequence[str]) -> list[FloatArray]:
    """Times are sorted once, and each quantity is computed once for all statistics of it."""
    times = times_of(panel)
    bases = dict.fromkeys(_OVER[name][1] for name in names)
    values = {base: taking_part(panel, times, base.compute, base.bars) for base in bases}
    return [
        _of_times(panel, times, statistic, values[base], base.bars)
        for statistic, base in (_OVER[name] for name in names)
    ]


def _feature(name: str, formula: str) -> Feature:
    statistic, base = _OVER[name]
    compute = across(statistic, base.compute, base.bars)
    return Feature(
        name, "cross_section", compute, reach(base.bars), (*base.inputs, "universe"), formula, together=_together
    )


def _return_over(bars: int) -> Base:
    compute = alone(swept(rate_of_change, bars + 1, ["return"], inputs=("close",)), "return")
    return Base(compute, bars + 1, ("close",))


def _registered(name: str) -> Base:
    feature = next(each for each in technical.FEATURES if each.name == name)
    return Base(feature.compute, feature.lookback_bars, feature.inputs)


_RETURN_1, _RETURN_5, _RETURN_20, _RETURN_60 = (_return_over(bars) for bars in (1, 5, 20, 60))
_VOLATILITY_20, _VOLUME_20, _GAP_20, _GAP_50 = (
    _registered(name) for name in ("volatility_20", "volume_ratio_20", "sma_gap_20", "sma_gap_50")
)

_OVER: dict[str, tuple[Statistic, Base]] = {
    "rank_return_1": (rank, _RETURN_1),
    "rank_return_5": (rank, _RETURN_5),
    "rank_return_20": (rank, _RETURN_20),
    "rank_return_60": (rank, _RETURN_60),
    "rank_volatility_20": (rank, _VOLATILITY_20),
    "rank_volume_ratio_20": (rank, _VOLUME_20),
    "rank_sma_gap_20": (rank, _GAP_20),
    "zscore_return_1": (zscore, _RETURN_1),
    "zscore_return_5": (zscore, _RETURN_5),
    "zscore_return_20": (zscore, _RETURN_20),
    "zscore_return_60": (zscore, _RETURN_60),
    "zscore_volatility_20": (zscore, _VOLATILITY_20),
    "zscore_volume_ratio_20": (zscore, _VOLUME_20),
    "zscore_sma_gap_20": (zscore, _GAP_20),
    "breadth_advancing": (share_positive, _RETURN_1),
    "breadth_sma_20": (share_positive, _GAP_20),
    "breadth_sma_50": (share_positive, _GAP_50),
    "dispersion_return_1": (dispersion, _RETURN_1),
    "dispersion_return_20": (dispersion, _RETURN_20),
}

FEATURES = (
    _feature("rank_return_1", "rank of the 1-bar return among the members, 0 to 1"),
    _feature("rank_return_5", "rank of the 5-bar return among the members, 0 to 1"),
    _feature("rank_return_20", "rank of the 20-bar return among the members, 0 to 1"),
    _feature("rank_return_60", "rank of the 60-bar return among the members, 0 to 1"),
    _feature("rank_volatility_20", "rank of volatility_20 among the members, 0 to 1"),
    _feature("rank_volume_ratio_20", "rank of volume_ratio_20 among the members, 0 to 1"),
    _feature("rank_sma_gap_20", "rank of sma_gap_20 among the members, 0 to 1"),
    _feature("zscore_return_1", "(1-bar return - mean over the members) / std over the members"),
    _feature("zscore_return_5", "(5-bar return - mean over the members) / std over the members"),
    _feature("zscore_return_20", "(20-bar return - mean over the members) / std over the members"),
    _feature("zscore_return_60", "(60-bar return - mean over the members) / std over the members"),
    _feature("zscore_volatility_20", "(volatility_20 - mean over the members) / std over the members"),
    _feature("zscore_volume_ratio_20", "(volume_ratio_20 - mean over the members) / std over the members"),
    _feature("zscore_sma_gap_20", "(sma_gap_20 - mean over the members) / std over the members"),
    _feature("breadth_advancing", "share of the members whose 1-bar return is above 0"),
    _feature("breadth_sma_20", "share of the members above their mean close of 20 bars"),
    _feature("breadth_sma_50", "share of the members above their mean close of 50 bars"),
    _feature("dispersion_return_1", "std over the members of their 1-bar returns"),
    _feature("dispersion_return_20", "std over the members of their 20-bar returns"),
)
