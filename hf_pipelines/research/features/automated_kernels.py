"""Kernels of the automated features: tsfresh's calculators over windows of returns and volumes.

Here: the compiled kernels. Not here: what they are, where they differ from tsfresh, and their table (`automated.py`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.windows import Window

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
