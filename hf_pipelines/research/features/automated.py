"""Automated features: calculators of tsfresh, rolling over one symbol's returns and volumes.

Here: 36 of tsfresh's calculators as sweep kernels (see `swept` in `windows.py`): no window is copied out of the panel, and
nothing needs tsfresh to run; it is what the tests compare every value with. And `tsfresh_feature`, which makes a feature
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
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.panel import FloatArray, Panel
from hf_pipelines.research.features.windows import Window, alone, swept, window_kernel

Values = npt.NDArray[np.float64]

# Returns are counted in whole 1e-12 and volumes in whole 1e-9 of their mean: sums of whole numbers are exact in
# float64, so "above the mean" and "equal" mean what they say.
_UNITS = 1e12
_VOLUME_UNITS = 1e9
# Values of a window that differ by no more units than this are one value and its rounding.
_ROUNDING = 2.0

# Parameters of the calculators.
_CORRIDOR = (0.2, 0.8)
_N_BINS = 10
_N_SYMBOLS = 3
_TOLERANCE = 0.2
_N_CHUNKS = 10
_N_LARGEST = 3


@window_kernel
def moments(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Sums over the window's log returns, as they are and standardised."""
    n = bars - 1
    units, x, z = _return_units(close), np.empty(n), np.empty(n)
    for row in range(values.shape[1]):
        if not _settled(units[row : row + n], x):
            values[:, row] = math.nan
            continue
        deviation = _standardise(x, z)
        values[0, row] = _cid_ce(z)
        values[1, row] = _c3(z, 1)
        values[2, row] = _time_reversal_asymmetry(z, 1)
        values[3, row] = _time_reversal_asymmetry(z, 2)
        values[4, row] = (z[n - 1] - z[n - 2] - z[1] + z[0]) / (2.0 * (n - 2))
        values[5, row] = _mean_n_absolute_max(z)
        energy, energy_late = _energies(x)
        values[6, row] = energy / (_UNITS * _UNITS)
        values[7, row] = energy_late / energy if energy > 0.0 else 1.0 / _N_CHUNKS
        values[8, row] = _half_of_mass(x)
        values[9, row] = _autocorrelation(z, 2)
        values[10, row] = _linear_trend_rvalue(z)
        values[11, row] = _ratio_beyond(x, 1.5 * deviation)
        values[12, row] = _ratio_beyond(x, 2.0 * deviation)


@window_kernel
def short_moments(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Complexity and trend of the window's log returns."""
    n = bars - 1
    units, x, z = _return_units(close), np.empty(n), np.empty(n)
    for row in range(values.shape[1]):
        if not _settled(units[row : row + n], x):
            values[:, row] = math.nan
            continue
        _standardise(x, z)
        values[0, row] = _cid_ce(z)
        values[1, row] = _linear_trend_rvalue(z)


@window_kernel
def counts(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Peaks, runs, crossings and places among the window's log returns."""
    n = bars - 1
    units, x = _return_units(close), np.empty(n)
    for row in range(values.shape[1]):
        if not _settled(units[row : row + n], x):
            values[:, row] = math.nan
            continue
        values[0, row] = _number_peaks(x, 3)
        values[1, row], n_above = _longest_strike(x, 1.0)
        values[2, row], _ = _longest_strike(x, -1.0)
        values[3, row] = n_above / n
        values[4, row] = _number_crossing_0(x)
        values[5, row] = _first_location_of_maximum(x, 1.0)
        values[6, row] = _first_location_of_maximum(x, -1.0)


@window_kernel
def orders(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """What is made of the window's log returns in order of size, in bins and in patterns."""
    n = bars - 1
    units, x, z = _return_units(close), np.empty(n), np.empty(n)
    for row in range(values.shape[1]):
        if not _settled(units[row : row + n], x):
            values[:, row] = math.nan
            continue
        deviation = _standardise(x, z)
        ordered = np.sort(x)
        values[0, row] = _change_within_corridor(x, ordered) / deviation if deviation > 0.0 else 0.0
        values[1, row] = _share_reoccurring(ordered)
        values[2, row] = _binned_entropy(x, ordered[0], ordered[n - 1])
        values[3, row] = _permutation_entropy_4(x)
        values[4, row] = _approximate_entropy_2(x, _TOLERANCE * deviation)
        values[5, row] = _lempel_ziv_complexity(x, ordered[0], ordered[n - 1])


@window_kernel
def volumes(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Calculators of the window's volumes over their mean; NaN if nothing was traded."""
    relative, x, z = np.empty(bars), np.empty(bars), np.empty(bars)
    for row in range(values.shape[1]):
        total = 0.0
        for bar in range(bars):
            total += volume[row + bar]
        for bar in range(bars):
            relative[bar] = np.rint(volume[row + bar] / (total / bars) * _VOLUME_UNITS)
        if not _settled(relative, x):
            values[:, row] = math.nan
            continue
        deviation = _standardise(x, z)
        values[0, row] = deviation / np.mean(x)
        values[1, row] = _ratio_beyond(x, 2.0 * deviation)
        values[2, row] = _number_peaks(x, 3)
        values[3, row] = _first_location_of_maximum(x, 1.0)
        values[4, row] = _linear_trend_rvalue(z)
        values[5, row] = _autocorrelation(z, 1)
        values[6, row], _ = _longest_strike(x, -1.0)
        values[7, row] = _binned_entropy(x, np.min(x), np.max(x))


@window_kernel
def _return_units(close: Window) -> Window:
    """Log returns in whole units of 1e-12."""
    units = np.empty(close.size - 1)
    for bar in range(units.size):
        units[bar] = np.rint(math.log(close[bar + 1] / close[bar]) * _UNITS)
    return units


@window_kernel
def _settled(units: Window, x: Window) -> bool:
    """Copy `units` into `x`, all alike if they differ by rounding; whether all are known."""
    lowest, highest, total = units[0], units[0], 0.0
    for bar in range(x.size):
        value = units[bar]
        x[bar] = value
        total += value
        lowest, highest = min(lowest, value), max(highest, value)
    if highest - lowest <= _ROUNDING:
        x[:] = units[0]
    return math.isfinite(total)


@window_kernel
def _standardise(x: Window, z: Window) -> float:
    """Fill `z` with deviations from the mean of `x` in the population deviation, which is returned; 0 if constant."""
    mean, squares = np.sum(x) / x.size, 0.0
    for bar in range(x.size):
        z[bar] = x[bar] - mean
        squares += z[bar] * z[bar]
    deviation = math.sqrt(squares / x.size)
    for bar in range(x.size):
        z[bar] = z[bar] / deviation if deviation > 0.0 else 0.0
    return deviation


@window_kernel
def _cid_ce(z: Window) -> float:
    total = 0.0
    for bar in range(z.size - 1):
        total += (z[bar + 1] - z[bar]) ** 2
    return math.sqrt(total)


@window_kernel
def _c3(z: Window, lag: int) -> float:
    total, n = 0.0, z.size - 2 * lag
    for bar in range(n):
        total += z[bar + 2 * lag] * z[bar + lag] * z[bar]
    return total / n


@window_kernel
def _time_reversal_asymmetry(z: Window, lag: int) -> float:
    total, n = 0.0, z.size - 2 * lag
    for bar in range(n):
        total += z[bar + lag] * (z[bar + 2 * lag] * z[bar + 2 * lag] - z[bar] * z[bar])
    return total / n


@window_kernel
def _mean_n_absolute_max(z: Window) -> float:
    largest = np.zeros(_N_LARGEST)
    for value in z:
        size = abs(value)
        for place in range(_N_LARGEST):
            if size > largest[place]:
                largest[place], size = size, largest[place]
    return float(np.sum(largest) / _N_LARGEST)


@window_kernel
def _energies(x: Window) -> tuple[float, float]:
    """Sum of squares of the window and of its last tenth."""
    total = late = 0.0
    for bar in range(x.size):
        square = x[bar] * x[bar]
        total += square
        late += square if bar >= x.size - x.size // _N_CHUNKS else 0.0
    return total, late


@window_kernel
def _half_of_mass(x: Window) -> float:
    total = mass = 0.0
    for value in x:
        total += abs(value)
    if total == 0.0:
        return 0.5
    bar = 0
    while 2.0 * (mass + abs(x[bar])) < total:
        mass += abs(x[bar])
        bar += 1
    return (bar + 1) / x.size


@window_kernel
def _autocorrelation(z: Window, lag: int) -> float:
    total, n = 0.0, z.size - lag
    for bar in range(n):
        total += z[bar] * z[bar + lag]
    return total / n


@window_kernel
def _linear_trend_rvalue(z: Window) -> float:
    n, total = z.size, 0.0
    for bar in range(n):
        total += (bar - 0.5 * (n - 1)) * z[bar]
    return total / n / math.sqrt((n * n - 1.0) / 12.0)


@window_kernel
def _ratio_beyond(x: Window, distance: float) -> float:
    mean, n_beyond = np.sum(x) / x.size, 0
    for value in x:
        n_beyond += abs(value - mean) > distance
    return n_beyond / x.size


@window_kernel
def _number_peaks(x: Window, support: int) -> float:
    n_peaks = 0
    for bar in range(support, x.size - support):
        is_peak = True
        for away in range(1, support + 1):
            is_peak = is_peak and x[bar] > x[bar - away] and x[bar] > x[bar + away]
        n_peaks += is_peak
    return float(n_peaks)


@window_kernel
def _longest_strike(x: Window, sign: float) -> tuple[float, int]:
    """The longest run on one side of the mean, and the number of values there."""
    total, longest, run, n_there = np.sum(x), 0, 0, 0
    for value in x:
        is_there = sign * (value * x.size - total) > 0.0
        run = run + 1 if is_there else 0
        longest, n_there = max(longest, run), n_there + is_there
    return float(longest), n_there


@window_kernel
def _number_crossing_0(x: Window) -> float:
    n_crossings = 0
    for bar in range(x.size - 1):
        n_crossings += (x[bar] > 0.0) != (x[bar + 1] > 0.0)
    return float(n_crossings)


@window_kernel
def _first_location_of_maximum(x: Window, sign: float) -> float:
    best = 0
    for bar in range(1, x.size):
        if sign * x[bar] > sign * x[best]:
            best = bar
    return best / x.size


@window_kernel
def _quantile(ordered: Window, share: float) -> float:
    place = share * (ordered.size - 1)
    lower = int(place)
    return float(ordered[lower] + (ordered[lower + 1] - ordered[lower]) * (place - lower))


@window_kernel
def _change_within_corridor(x: Window, ordered: Window) -> float:
    """Mean size of the changes that begin and end between two quantiles, 0 without one."""
    lower, upper = _quantile(ordered, _CORRIDOR[0]), _quantile(ordered, _CORRIDOR[1])
    total, n_changes = 0.0, 0
    for bar in range(x.size - 1):
        if lower <= x[bar] <= upper and lower <= x[bar + 1] <= upper:
            total += abs(x[bar + 1] - x[bar])
            n_changes += 1
    return total / n_changes if n_changes else 0.0


@window_kernel
def _share_reoccurring(ordered: Window) -> float:
    n_reoccurring, last = 0, ordered.size - 1
    for bar in range(ordered.size):
        is_before = bar > 0 and ordered[bar] == ordered[bar - 1]
        n_reoccurring += is_before or (bar < last and ordered[bar] == ordered[bar + 1])
    return n_reoccurring / ordered.size


@window_kernel
def _binned_entropy(x: Window, lowest: float, highest: float) -> float:
    if highest == lowest:
        return 0.0
    found = np.zeros(_N_BINS)
    for value in x:
        found[min(int((value - lowest) * _N_BINS / (highest - lowest)), _N_BINS - 1)] += 1.0
    return _entropy(found, x.size)


@window_kernel
def _permutation_entropy_4(x: Window) -> float:
    # Which of two comes first, for each pair of four, tells the 24 orders apart.
    found, n = np.zeros(64), x.size - 3
    for bar in range(n):
        order = 0
        for first in range(3):
            for second in range(first + 1, 4):
                order = 2 * order + (x[bar + second] < x[bar + first])
        found[order] += 1.0
    return _entropy(found, n)


@window_kernel
def _entropy(found: Window, n: int) -> float:
    entropy = 0.0
    for count in found:
        if count > 0.0:
            entropy -= count / n * math.log(count / n)
    return entropy


@window_kernel
def _approximate_entropy_2(x: Window, tolerance: float) -> float:
    """Approximate entropy of runs of 2; every run is like itself."""
    pairs, triples = np.ones(x.size - 1), np.ones(x.size - 2)
    alike, both, all_three = np.zeros(x.size + 2), np.empty(x.size), np.empty(x.size)
    for lag in range(1, x.size):
        n, later = x.size - lag, x[lag:]
        for bar in range(n):
            alike[bar] = 1.0 if abs(later[bar] - x[bar]) <= tolerance else 0.0
        alike[n] = alike[n + 1] = 0.0
        for bar in range(n):
            both[bar] = alike[bar] * alike[bar + 1]
            all_three[bar] = both[bar] * alike[bar + 2]
        # Each pair of runs counts for the earlier one and for the later.
        for bar in range(n - 1):
            pairs[bar] += both[bar]
        for bar in range(n - 1):
            pairs[bar + lag] += both[bar]
        for bar in range(n - 2):
            triples[bar] += all_three[bar]
        for bar in range(n - 2):
            triples[bar + lag] += all_three[bar]
    of_pairs = of_triples = 0.0
    for count in pairs:
        of_pairs += math.log(count / pairs.size)
    for count in triples:
        of_triples += math.log(count / triples.size)
    return abs(of_pairs / pairs.size - of_triples / triples.size)


@window_kernel
def _lempel_ziv_complexity(x: Window, lowest: float, highest: float) -> float:
    """Number of words that tell the window, each new one a known one and a symbol, over its length."""
    # A tree: where the word of a row leads on with a symbol, 0 if that is not known.
    following = np.zeros((x.size + 1, _N_SYMBOLS), dtype=np.int64)
    n_words = word = 0
    for value in x:
        symbol = 0
        for edge in range(1, _N_SYMBOLS):
            symbol += (value - lowest) * _N_SYMBOLS > edge * (highest - lowest)
        if following[word, symbol]:
            word = following[word, symbol]
        else:
            n_words += 1
            following[word, symbol] = n_words
            word = 0
    return n_words / x.size


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
