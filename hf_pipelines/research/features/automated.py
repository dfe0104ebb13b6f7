"""Automated features: calculators of tsfresh, rolling over one symbol's returns and volumes.

Here: the table of 36 of tsfresh's calculators, sweep kernels (`automated_kernels.py`; see `swept` in `windows.py`): no window
is copied out of the panel, and nothing needs tsfresh to run; the tests compare every value with it. And `tsfresh_feature`, which makes a feature
of any other calculator by calling tsfresh itself (`pip install hf_pipelines[tsfresh]`): the way to try one out, at
tsfresh's speed, one call a wanted row. Not here: statistics that the literature defines (`statistical.py`).

A name is `ts_`, tsfresh's calculator, its parameters and the window: `ts_number_peaks_3_60` is `number_peaks(x, n=3)` of
the last 60 values. x is the log returns of the closes, rounded to 1e-12: what is below is rounding of the price, and so
equal returns are equal whatever the price is quoted in. Where the result has the unit of x, the returns are first put
into standard deviations around their mean ("standardised"), 0 all over if they do not differ. `ts_volume_...` takes
the volumes over their mean in the window, rounded to 1e-9.

All results are dimensionless and finite. A window whose values differ by rounding alone (2e-12, 2e-9) counts as
constant: standardised values and what is made of them, counts of peaks, runs and crossings, trends, autocorrelations
and entropies are then 0. NaN if a bar of the window has no price (no volume), or nothing was traded in it.

Where tsfresh differs
---------------------
`count_above_mean` is a share of the window here. Where tsfresh gives NaN we state a value: autocorrelation of a constant
0; without any movement the energy of the last tenth is 0.1 and half the mass lies left of the middle, 0.5. In
permutation entropy the earlier of equal values is the smaller; tsfresh leaves that to numpy's sort.
`benford_correlation` is not here: first digits depend on the unit.

References
----------
Christ, Braun, Neuffer & Kempa-Liehr (2018), "Time Series FeatuRe Extraction on basis of Scalable Hypothesis tests",
Neurocomputing 307; Batista, Keogh, Tataw & de Souza (2014), "CID: an efficient complexity-invariant distance for time
series", Data Mining and Knowledge Discovery 28(3); Schreiber & Schmitz (1997), "Discrimination power of measures for
nonlinearity in a time series", Physical Review E 55(5) (c3); Fulcher & Jones (2014), "Highly Comparative Feature-Based
Time-Series Classification", IEEE Trans. Knowledge and Data Engineering 26(12) (time reversal); Bandt & Pompe (2002),
"Permutation Entropy", Physical Review Letters 88; Pincus (1991), "Approximate entropy as a measure of system
complexity", PNAS 88(6); Lempel & Ziv (1976), "On the Complexity of Finite Sequences", IEEE Trans. Information Theory
22(1).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hf_pipelines.research.features.automated_kernels import _UNITS, counts, moments, orders, short_moments, volumes
from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import FloatArray
from hf_pipelines.research.features.windows import alone, swept


def tsfresh_feature(name: str, calculator: str, window: int, *, group: str = "tsfresh", **params: Any) -> Feature:
    """Make a feature of any calculator of tsfresh over the last `window` log returns.

    For the `FEATURES` of a module of one's own. tsfresh is imported when the first value is computed and called once
    a wanted row, over a view of the returns.

    Parameters
    ----------
    name, group : str
        The column and the dataset, neither of the project's own.
    calculator : str
        A function of `tsfresh.feature_extraction.feature_calculators`, simple or a combiner.
    window : int
        Log returns that the calculator is given, 2 to 299: the feature reads one bar more.
    **params
        Of the calculator; for a combiner, one of its parameter sets.

    Returns
    -------
    Feature
        NaN where the calculator gives NaN or infinity, or a return is not known. Returns are rounded to 1e-12; with
        them it is dimensionless, unless the calculator compares with a number of its own.

    Raises
    ------
    ValueError
        If `window` is below 2. When computed: if tsfresh has no such calculator, or it needs a time index.
    ModuleNotFoundError
        When computed: if tsfresh is not installed.

    Examples
    --------
    >>> feature = tsfresh_feature("ts_fft_abs_3_60", "fft_coefficient", 60, group="desk", coeff=3, attr="abs")
    >>> feature.formula
    "tsfresh fft_coefficient(60 log returns, attr='abs', coeff=3)"
    """
    if window < 2:
        raise ValueError(f"`window` must be at least 2, was {window} for {name}.")

    def compute(panel: Panel) -> FloatArray:
        """Call tsfresh's calculator on the window of each wanted row."""
        calculate = _calculator(calculator, params)
        values = np.full(panel.close.size, np.nan)
        for first, end in zip(panel.starts[:-1].tolist(), panel.starts[1:].tolist(), strict=True):
            if end - first <= window:
                continue
            before = panel.close[first : end - 1] * panel.price_factor[first + 1 : end]
            returns = np.rint(np.log(panel.close[first + 1 : end] / before) * _UNITS) / _UNITS
            windows = np.lib.stride_tricks.sliding_window_view(returns, window)
            for row in np.flatnonzero(panel.is_wanted[first + window : end]).tolist():
                if np.isfinite(windows[row].sum()):
                    values[first + window + row] = calculate(windows[row])
        values[np.isinf(values)] = np.nan
        return values

    given = "".join(f", {key}={params[key]!r}" for key in sorted(params))
    formula = f"tsfresh {calculator}({window} log returns{given})"
    return Feature(name, group, compute, window + 1, ("close",), formula, _SOURCE)


def _calculator(name: str, params: dict[str, Any]) -> Callable[[FloatArray], float]:
    try:
        calculators = importlib.import_module("tsfresh.feature_extraction.feature_calculators")
    except ModuleNotFoundError as e:
        raise ModuleNotFoundError(
            "`tsfresh` must be installed for a feature of `tsfresh_feature`, was not; install hf_pipelines[tsfresh]."
        ) from e
    known = sorted(each for each, function in vars(calculators).items() if hasattr(function, "fctype"))
    function = getattr(calculators, name, None)
    if name not in known or hasattr(function, "index_type"):
        near = [each for each in known if name.split("_")[0] in each] or known
        raise ValueError(
            f"`calculator` must be one of tsfresh's that needs no time index, such as {', '.join(near[:5])}, was {name[:80]!r}."
        )
    if getattr(function, "fctype", "") == "combiner":
        return lambda x: float(next(iter(function(x, [params])))[1])  # type: ignore[misc]
    return lambda x: float(function(x, **params))  # type: ignore[misc]


_SOURCE = "tsfresh, Christ et al. (2018)"


def _family(
    kernel: Callable[..., None], *formulas: tuple[str, str], bars: int, inputs: tuple[Input, ...] = ("close",)
) -> tuple[Feature, ...]:
    """Features (name, formula) that one kernel computes, in the order of its values."""
    together = swept(kernel, bars, [name for name, _ in formulas], inputs=inputs)
    return tuple(
        Feature(name, "automated", alone(together, name), bars, inputs, formula, _SOURCE, together=together)
        for name, formula in formulas
    )


FEATURES = (
    *_family(
        moments,
        ("ts_cid_ce_60", "root of the summed squared changes of 60 standardised log returns (complexity)"),
        ("ts_c3_lag1_60", "mean(x[t+2] x[t+1] x[t]) of 60 standardised log returns"),
        ("ts_time_reversal_asymmetry_lag1_60", "mean(x[t+2]^2 x[t+1] - x[t+1] x[t]^2) of 60 standardised log returns"),
        ("ts_time_reversal_asymmetry_lag2_60", "mean(x[t+4]^2 x[t+2] - x[t+2] x[t]^2) of 60 standardised log returns"),
        ("ts_mean_second_derivative_central_60", "(last change - first change) / (2 * 58) of 60 standardised log returns"),
        ("ts_mean_n_absolute_max_3_60", "mean of the 3 largest sizes among 60 standardised log returns"),
        ("ts_abs_energy_60", "sum of 60 squared log returns"),
        ("ts_energy_ratio_by_chunks_10_9_60", "squared log returns of the last 6 bars over those of 60; 0.1 if none moved"),
        ("ts_index_mass_quantile_0_5_60", "share of 60 bars by which half of the absolute log returns had come; 0.5 if none moved"),
        ("ts_autocorrelation_lag2_60", "mean(x[t+2] x[t]) of 60 standardised log returns"),
        ("ts_linear_trend_rvalue_60", "correlation of 60 log returns with time"),
        ("ts_ratio_beyond_1_5_sigma_60", "share of 60 log returns more than 1.5 deviations from their mean"),
        ("ts_ratio_beyond_2_sigma_60", "share of 60 log returns more than 2 deviations from their mean"),
        bars=61),
    *_family(
        short_moments,
        ("ts_cid_ce_20", "root of the summed squared changes of 20 standardised log returns (complexity)"),
        ("ts_linear_trend_rvalue_20", "correlation of 20 log returns with time"),
        bars=21),
    *_family(
        counts,
        ("ts_number_peaks_3_60", "number of log returns of 60 that are above the 3 before and the 3 after"),
        ("ts_longest_strike_above_mean_60", "longest run of log returns above the mean of 60"),
        ("ts_longest_strike_below_mean_60", "longest run of log returns below the mean of 60"),
        ("ts_count_above_mean_60", "share of 60 log returns above their mean"),
        ("ts_number_crossing_0_60", "number of changes between 'above 0' and 'not above 0' of 60 log returns"),
        ("ts_first_location_of_maximum_60", "bars before the first largest of 60 log returns, over 60"),
        ("ts_first_location_of_minimum_60", "bars before the first smallest of 60 log returns, over 60"),
        bars=61),
    *_family(
        orders,
        ("ts_change_quantiles_0_2_0_8_60", "mean size of the changes within the 20 % and 80 % quantiles of 60 standardised log returns"),
        ("ts_percentage_of_reoccurring_datapoints_60", "share of 60 log returns that another one equals"),
        ("ts_binned_entropy_10_60", "entropy of 60 log returns in 10 bins from the smallest to the largest, in nats"),
        ("ts_permutation_entropy_4_60", "entropy of the orders of 4 neighbours among 60 log returns, in nats"),
        ("ts_approximate_entropy_2_0_2_60", "approximate entropy of 60 log returns, runs of 2, within 0.2 deviations"),
        ("ts_lempel_ziv_complexity_3_60", "words that tell 60 log returns in 3 bins, over 60"),
        bars=61),
    *_family(
        volumes,
        ("ts_volume_variation_coefficient_60", "deviation of 60 volumes over their mean"),
        ("ts_volume_ratio_beyond_2_sigma_60", "share of 60 volumes more than 2 deviations from their mean"),
        ("ts_volume_number_peaks_3_60", "number of volumes of 60 that are above the 3 before and the 3 after"),
        ("ts_volume_first_location_of_maximum_60", "bars before the first largest of 60 volumes, over 60"),
        ("ts_volume_linear_trend_rvalue_60", "correlation of 60 volumes with time"),
        ("ts_volume_autocorrelation_lag1_60", "mean(x[t+1] x[t]) of 60 standardised volumes"),
        ("ts_volume_longest_strike_below_mean_60", "longest run of volumes below the mean of 60"),
        ("ts_volume_binned_entropy_10_60", "entropy of 60 volumes in 10 bins from the smallest to the largest, in nats"),
        bars=60, inputs=("volume",)),
)  # fmt: skip
