"""Cross-asset features: a symbol against the market's benchmark, over the same bars.

Here: pair kernels over the total-return closes of a symbol and of the benchmark, as `paired` in `windows.py`
feeds them. Not here: lining up the two series (`panel.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.windows import Window, paired, window_kernel

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
def _moments(close: Window, benchmark: Window) -> tuple[float, float, float]:
    """Population covariance and variances of the simple returns of both series."""
    own = close[1:] / close[:-1] - 1.0
    other = benchmark[1:] / benchmark[:-1] - 1.0
    own -= np.mean(own)
    other -= np.mean(other)
    return np.mean(own * other), np.mean(own * own), np.mean(other * other)  # type: ignore[return-value]


def _feature(name: str, kernel: Callable[..., float], *, bars: int, formula: str, source: str = "") -> Feature:
    return Feature(name, "cross_asset", paired(kernel, bars), bars, ("close", "benchmark"), formula, source)


FEATURES = (
    _feature("benchmark_correlation_60", correlation, bars=61,
                 formula="corr(60 returns, 60 benchmark returns)"),
    _feature("benchmark_beta_60", beta, bars=61,
                 formula="cov(returns, benchmark returns) / var(benchmark returns), 60 of each"),
    _feature("relative_strength_60", relative_strength, bars=61,
                 formula="growth over 60 bars / benchmark growth - 1"),
)  # fmt: skip
