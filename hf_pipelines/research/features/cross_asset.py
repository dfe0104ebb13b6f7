"""Cross-asset features: a symbol against the benchmark and against its sector, and the volatility index.

Here: pair kernels over the total-return closes of a symbol and of another series at the same bars, as `paired` in
`windows.py` feeds them, and the series that stands for a sector. Not here: lining up the benchmark and the index
(`panel.py`), ranks within the universe (`cross_section.py`).

The sector of a symbol is the equal-weight mean of the one-bar total returns of the OTHER members of its sector. A
member counts at a time if it belongs to the universe then, has a bar then, and one at the sector's time before: so
the mean is a function of two times only, and neither a later member nor one that died has a part in it. Where no
other member counts the sector is not known, and a window with such a bar in it is NaN: a sector of one member is
always NaN. Where the symbol itself skipped bars, the sector's returns of those times are compounded.

References
----------
Whaley (2000), "The Investor Fear Gauge", J. Portfolio Management 26(3).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import BoolArray, FloatArray
from hf_pipelines.research.features.technical.trend import rate_of_change
from hf_pipelines.research.features.windows import Window, alone, paired, swept

Locked = TypeVar("Locked", FloatArray, BoolArray)

# The index is quoted in percent a year.
_PERCENT = 100.0

# A standard deviation of returns below this is rounding of a constant price, not movement.
_FLAT_RETURNS = 1e-12


@window_kernel
def correlation(close: Window, benchmark: Window) -> float:
    """Pearson correlation of the bar returns, -1 to 1; NaN if either price never moved."""
    covariance, own, other = _moments(close, benchmark)
    if own <= _FLAT_RETURNS**2 or other <= _FLAT_RETURNS**2:
        return math.nan
    return float(covariance / math.sqrt(own * other))


@window_kernel
def beta(close: Window, benchmark: Window) -> float:
    """Least-squares slope of the bar returns on the benchmark's; NaN if the benchmark never moved."""
    covariance, _, other = _moments(close, benchmark)
    if other <= _FLAT_RETURNS**2:
        return math.nan
    return float(covariance / other)


@window_kernel
def relative_strength(close: Window, benchmark: Window) -> float:
    """Growth over the window over the benchmark's growth, minus 1: a fraction, 0 for the same growth."""
    return float((close[-1] / close[0]) / (benchmark[-1] / benchmark[0]) - 1.0)


@window_kernel
def relative_return(close: Window, other: Window) -> float:
    """Return over the window minus the other's return: a fraction."""
    return float(close[-1] / close[0] - other[-1] / other[0])


@window_kernel
def index_change(close: Window, index: Window) -> float:
    """Change of the index over the window, as a fraction of its first value."""
    return float(index[-1] / index[0] - 1.0)


@window_kernel
def index_percentile(close: Window, index: Window) -> float:
    """Place of the index's last value among those of the window, 0 (lowest) to 1; ties in the middle."""
    below = np.sum(index < index[-1])
    same = np.sum(index == index[-1])
    return float((below + 0.5 * (same - 1)) / (index.size - 1))


def volatility_index_level(panel: Panel) -> FloatArray:
    """Close of the volatility index at the row, as a fraction a year; NaN where its session has no bar yet."""
    return panel.volatility_close / _PERCENT


@window_kernel
def _moments(close: Window, benchmark: Window) -> tuple[float, float, float]:
    """Population covariance and variances of the simple returns of both series."""
    own = close[1:] / close[:-1] - 1.0
    other = benchmark[1:] / benchmark[:-1] - 1.0
    own -= np.mean(own)
    other -= np.mean(other)
    return np.mean(own * other), np.mean(own * own), np.mean(other * other)  # type: ignore[return-value]


_one_bar_return = alone(swept(rate_of_change, 2, ["return"], inputs=("close",)), "return")


def with_sector(panel: Panel) -> Panel:
    """The panel with each symbol's sector, itself left out, in the place of the benchmark."""
    returns = _one_bar_return(dataclasses.replace(panel, is_wanted=_locked(np.full(panel.close.size, True))))
    times = panel.time
    # Times at which anyone of the sector has a bar, numbered in one sequence over all sectors.
    cell = (panel.sector.astype(np.int64) + 1) * (times.max(initial=0) + 1) + times
    has_bar = np.zeros(cell.max(initial=0) + 1, dtype=np.bool_)
    has_bar[cell] = True
    place = (np.cumsum(has_bar) - 1)[cell]
    step = np.diff(place, prepend=0)
    step[panel.starts[:-1]] = 0
    counts = panel.is_member & (step == 1) & np.isfinite(returns)
    total = np.bincount(place[counts], weights=returns[counts], minlength=has_bar.sum())
    size = np.bincount(place[counts], minlength=has_bar.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = 1.0 + (total[place] - np.where(counts, returns, 0.0)) / (size[place] - counts)
        back, rows = 1, np.flatnonzero(step > 1)
        while rows.size:
            skipped = place[rows] - back
            growth[rows] *= 1.0 + total[skipped] / size[skipped]
            back += 1
            rows = rows[step[rows] > back]
        # What is seen from a row: 1 then, less before if the sector grew.
        factor = 1.0 / growth
    factor[~np.isfinite(factor)] = np.nan
    level = np.where(panel.sector >= 0, 1.0, np.nan)
    return dataclasses.replace(panel, benchmark_close=_locked(level), benchmark_factor=_locked(factor))


def with_volatility_index(panel: Panel) -> Panel:
    """The panel with the volatility index in the place of the benchmark; it pays nothing."""
    factor = np.where(np.isnan(panel.volatility_close), np.nan, 1.0)
    return dataclasses.replace(panel, benchmark_close=panel.volatility_close, benchmark_factor=_locked(factor))


def _locked(values: Locked) -> Locked:
    values.setflags(write=False)
    return values


def against(other: Callable[[Panel], Panel], kernel: Callable[..., float], bars: int) -> Callable[[Panel], FloatArray]:
    """Make a feature of a pair kernel over the symbol's closes and another series than the benchmark's."""
    pair = paired(kernel, bars)

    def compute(panel: Panel) -> FloatArray:
        """A pair kernel over each symbol's closes and the other series; NaN where that has a gap in the window."""
        return pair(other(panel))

    return compute


def _sector_together(panel: Panel, names: Sequence[str]) -> list[FloatArray]:
    """The sector's series are laid out once for all features of them."""
    seen = with_sector(panel)
    return [paired(kernel, bars)(seen) for kernel, bars in (_SECTOR[name] for name in names)]


def _benchmark(name: str, kernel: Callable[..., float], *, bars: int, formula: str) -> Feature:
    return Feature(name, "cross_asset", paired(kernel, bars), bars, ("close", "benchmark"), formula)


def _sector(name: str, *, formula: str) -> Feature:
    kernel, bars = _SECTOR[name]
    compute = against(with_sector, kernel, bars)
    return Feature(
        name, "cross_asset", compute, bars, ("close", "sector", "universe"), formula, together=_sector_together
    )


def _index(name: str, kernel: Callable[..., float], *, bars: int, formula: str) -> Feature:
    compute = against(with_volatility_index, kernel, bars)
    return Feature(name, "cross_asset", compute, bars, ("volatility_index",), formula, "Whaley (2000)")


_SECTOR: dict[str, tuple[Callable[..., float], int]] = {
    "sector_correlation_60": (correlation, 61),
    "sector_beta_60": (beta, 61),
    "sector_relative_strength_60": (relative_strength, 61),
    "sector_relative_return_1": (relative_return, 2),
    "sector_relative_return_5": (relative_return, 6),
    "sector_relative_return_20": (relative_return, 21),
}

FEATURES = (
    _benchmark("benchmark_correlation_60", correlation, bars=61,
               formula="corr(60 returns, 60 benchmark returns)"),
    _benchmark("benchmark_beta_60", beta, bars=61,
               formula="cov(returns, benchmark returns) / var(benchmark returns), 60 of each"),
    _benchmark("relative_strength_60", relative_strength, bars=61,
               formula="growth over 60 bars / benchmark growth - 1"),
    _sector("sector_correlation_60",
            formula="corr(60 returns, 60 mean returns of the sector's other members)"),
    _sector("sector_beta_60",
            formula="cov(returns, sector returns) / var(sector returns), 60 of each, the symbol left out of its sector"),
    _sector("sector_relative_strength_60",
            formula="growth over 60 bars / growth of the sector's other members - 1"),
    _sector("sector_relative_return_1",
            formula="return of 1 bar - mean return of the sector's other members"),
    _sector("sector_relative_return_5",
            formula="return over 5 bars - that of the sector's other members, rebalanced each bar"),
    _sector("sector_relative_return_20",
            formula="return over 20 bars - that of the sector's other members, rebalanced each bar"),
    Feature("volatility_index_level", "cross_asset", volatility_index_level, 1, ("volatility_index",),
            "close of the volatility index / 100", "Whaley (2000)"),
    _index("volatility_index_change_1", index_change, bars=2,
           formula="index / index[1 bar ago] - 1"),
    _index("volatility_index_change_5", index_change, bars=6,
           formula="index / index[5 bars ago] - 1"),
    _index("volatility_index_percentile_252", index_percentile, bars=252,
           formula="(average rank of the index among its last 252 closes - 1) / 251"),
)  # fmt: skip
