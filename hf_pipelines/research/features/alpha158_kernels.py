"""Kernels of alpha158: sums, spreads and extremes of every window of a stretch of one symbol's bars.

Here: what runs compiled, over a **tile**, up to `TILE_ROWS` consecutive rows of one symbol and the `LEAD_ROWS` before
them. Not here: names, formulas in words, threads (`alpha158.py`).

Windows of 5, 10, 20, 30 and 60 bars are joined from shorter ones, each as seen from its own last bar: 2 = 1 + 1,
4 = 2 + 2, 5 = 4 + 1, 10 = 5 + 5, 20 = 10 + 10, 30 = 20 + 10, 60 = 30 + 30. What is joined on the older side is first
multiplied by the corporate actions since, so prices are those seen from the window's last bar. The order of additions
depends on the distance from that bar only: no bit of a value depends on where a tile or the loaded frame begins.
Spreads are joined as mean and squared deviation (Chan, Golub and LeVeque 1983), which does not cancel.

Every loop writes one array and counts from zero: that is what the compiler turns into vector instructions.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.panel_columns import FloatArray

Ints = npt.NDArray[np.int64]
Floats32 = npt.NDArray[np.float32]

WINDOWS = (5, 10, 20, 30, 60)
# The oldest bar that a value reads: the change into the first bar of the longest window.
LEAD_ROWS = 60
# Arrays of a family of features then fit into the second-level cache of a core.
TILE_ROWS = 512
TILE_WIDTH = TILE_ROWS + LEAD_ROWS
# A tree holds the windows of 1, 2, 4, 5, 10, 20, 30 and 60 bars; join m makes window m + 1.
N_NODES = 8
N_TREES = 16
N_LINES = 48

_NEWER = (0, 1, 2, 3, 4, 5, 6)
_OLDER = (0, 1, 0, 3, 4, 4, 6)
_LAG = (1, 2, 4, 5, 10, 20, 30)
_FIRST_NODE = 3  # Of the window of 5 bars.

# A spread of prices below this share of their mean is a constant: what is left is rounding.
_CONSTANT_PRICE = 1e-9
# Qlib's: below this deviation, of dimensionless series, a correlation is not defined.
_CONSTANT = 2e-5
_EPSILON = 1e-12
_FLOAT32_MAX = 3.4028234e38

# Offsets of the families in the order of Qlib's names.
KBAR, PRICE, ROLLING = 0, 9, 13
(
    ROC, MA, STD, BETA, RSQR, RESI, MAX, MIN, QTLU, QTLD, RANK, RSV, IMAX, IMIN, IMXD, CORR, CORD,
    CNTP, CNTN, CNTD, SUMP, SUMN, SUMD, VMA, VSTD, WVMA, VSUMP, VSUMN, VSUMD,
) = (ROLLING + 5 * family for family in range(29))  # fmt: skip
N_FEATURES = ROLLING + 5 * 29


@window_kernel
def plan_tiles(rows: Ints, first_readable: Ints, tiles: Ints) -> int:
    """Cut the wanted rows into tiles: first row read, first row, row after the last, place of the first in `rows`.

    A tile ends where the rows do, where it is full, and where a row may read less than what lies in the tile.
    """
    n_tiles, at = 0, 0
    while at < rows.size:
        first = rows[at]
        # A row that may not even read itself gets a tile of its own; its caller makes it NaN.
        base = min(max(first_readable[first], first - LEAD_ROWS), first)
        size = 1
        while at + size < rows.size and size < TILE_ROWS:
            row = first + size
            if rows[at + size] != row:
                break
            if max(base, row - LEAD_ROWS) != max(first_readable[row], row - LEAD_ROWS):
                break
            size += 1
        tiles[n_tiles, 0] = base
        tiles[n_tiles, 1] = first
        tiles[n_tiles, 2] = first + size
        tiles[n_tiles, 3] = at
        n_tiles += 1
        at += size
    return n_tiles


@window_kernel
def _known(value: float) -> float:
    return value if abs(value) <= _FLOAT32_MAX else np.nan


@window_kernel
def _of_span(value: float, span: float, unit: float) -> float:
    """Share of a span of prices; 0 of nothing is 0, as in Qlib, whose 1e-12 in units of price is one of `unit` here."""
    if span == 0.0 and value != 0.0:
        return np.nan
    return _known(value / (span + _EPSILON * unit))


@window_kernel
def _sum_tree(tree: FloatArray, factor: FloatArray, n: int) -> None:
    """Fill windows of 2 to 60 of `tree` with sums; `factor` holds the products of corporate actions."""
    for m in range(7):
        lag = _LAG[m]
        out, newer, older, by = tree[m + 1], tree[_NEWER[m]], tree[_OLDER[m]], factor[m]
        for i in range(min(lag, n)):
            out[i] = newer[i]
        late, now, since = out[lag:], newer[lag:], by[lag:]
        for i in range(n - lag):
            late[i] = now[i] + since[i] * older[i]


@window_kernel
def _product_tree(tree: FloatArray, n: int) -> None:
    for m in range(7):
        lag = _LAG[m]
        out, newer, older = tree[m + 1], tree[_NEWER[m]], tree[_OLDER[m]]
        for i in range(min(lag, n)):
            out[i] = newer[i]
        late, now = out[lag:], newer[lag:]
        for i in range(n - lag):
            late[i] = now[i] * older[i]


@window_kernel
def _shifted_sum_tree(tree: FloatArray, count: FloatArray, shift: FloatArray, n: int) -> None:
    """Sums of logarithms: a factor is added to each of the older values."""
    for m in range(7):
        lag = _LAG[m]
        out, newer, older, n_older, by = tree[m + 1], tree[_NEWER[m]], tree[_OLDER[m]], count[_OLDER[m]], shift[m]
        for i in range(min(lag, n)):
            out[i] = newer[i]
        late, now, since = out[lag:], newer[lag:], by[lag:]
        for i in range(n - lag):
            late[i] = now[i] + (older[i] + since[i] * n_older[i])


@window_kernel
def _count_tree(count: FloatArray, inverse: FloatArray, weight: FloatArray, ones: FloatArray, n: int) -> None:
    """Fill counts, their inverses (0 for none) and the weights `a * b / (a + b)` of each join."""
    _sum_tree(count, ones, n)
    for node in range(N_NODES):
        out, of = inverse[node], count[node]
        for i in range(n):
            out[i] = 1.0 / of[i] if of[i] > 0.0 else 0.0
    for m in range(7):
        lag = _LAG[m]
        newer, older = count[_NEWER[m]][lag:], count[_OLDER[m]]
        out, over = weight[m][lag:], inverse[m + 1][lag:]
        for i in range(n - lag):
            out[i] = newer[i] * older[i] * over[i]


@window_kernel
def _gap_tree(gap: FloatArray, total: FloatArray, inverse: FloatArray, factor: FloatArray, n: int) -> None:
    """Mean of the older part less the mean of the newer, as seen from the newer, for each join."""
    for m in range(7):
        lag = _LAG[m]
        out, by = gap[m][lag:], factor[m][lag:]
        newer, over_newer = total[_NEWER[m]][lag:], inverse[_NEWER[m]][lag:]
        older, over_older = total[_OLDER[m]], inverse[_OLDER[m]]
        for i in range(n - lag):
            out[i] = by[i] * older[i] * over_older[i] - newer[i] * over_newer[i]


@window_kernel
def _shifted_gap_tree(gap: FloatArray, total: FloatArray, inverse: FloatArray, shift: FloatArray, n: int) -> None:
    for m in range(7):
        lag = _LAG[m]
        out, by = gap[m][lag:], shift[m][lag:]
        newer, over_newer = total[_NEWER[m]][lag:], inverse[_NEWER[m]][lag:]
        older, over_older = total[_OLDER[m]], inverse[_OLDER[m]]
        for i in range(n - lag):
            out[i] = (older[i] * over_older[i] + by[i]) - newer[i] * over_newer[i]


@window_kernel
def _square_tree(tree: FloatArray, gap: FloatArray, weight: FloatArray, factor: FloatArray, n: int) -> None:
    """Fill sums of squared deviations from the mean."""
    tree[0][:n] = 0.0
    for m in range(7):
        lag = _LAG[m]
        out, newer, older = tree[m + 1], tree[_NEWER[m]], tree[_OLDER[m]]
        for i in range(min(lag, n)):
            out[i] = newer[i]
        late, now, by, apart, w = out[lag:], newer[lag:], factor[m][lag:], gap[m][lag:], weight[m][lag:]
        for i in range(n - lag):
            late[i] = now[i] + by[i] * by[i] * older[i] + w[i] * apart[i] * apart[i]


@window_kernel
def _cross_tree(
    tree: FloatArray, gap: FloatArray, other: FloatArray, weight: FloatArray, factor: FloatArray, n: int
) -> None:
    """Fill sums of products of deviations; `factor` is that of the two series together."""
    tree[0][:n] = 0.0
    for m in range(7):
        lag = _LAG[m]
        out, newer, older = tree[m + 1], tree[_NEWER[m]], tree[_OLDER[m]]
        for i in range(min(lag, n)):
            out[i] = newer[i]
        late, now, by = out[lag:], newer[lag:], factor[m][lag:]
        x, y, w = gap[m][lag:], other[m][lag:], weight[m][lag:]
        for i in range(n - lag):
            late[i] = now[i] + by[i] * older[i] + w[i] * x[i] * y[i]


@window_kernel
def _place_trees(first: FloatArray, second: FloatArray, count: FloatArray, n: int) -> None:
    """Fill sums of the places of known bars and of their squares; the window's last bar is at 0, older ones below."""
    first[0][:n] = 0.0
    second[0][:n] = 0.0
    for m in range(7):
        lag = _LAG[m]
        back = float(lag)
        n_older, newer, older = count[_OLDER[m]], first[_NEWER[m]], first[_OLDER[m]]
        newer2, older2 = second[_NEWER[m]], second[_OLDER[m]]
        out, out2 = first[m + 1], second[m + 1]
        for i in range(min(lag, n)):
            out[i] = newer[i]
            out2[i] = newer2[i]
        late, now = out[lag:], newer[lag:]
        for i in range(n - lag):
            late[i] = now[i] + older[i] - back * n_older[i]
        late, now = out2[lag:], newer2[lag:]
        for i in range(n - lag):
            late[i] = now[i] + older2[i] - 2.0 * back * older[i] + back * back * n_older[i]


@window_kernel
def _place_gap_tree(gap: FloatArray, total: FloatArray, inverse: FloatArray, n: int) -> None:
    for m in range(7):
        lag = _LAG[m]
        out = gap[m][lag:]
        newer, over_newer = total[_NEWER[m]][lag:], inverse[_NEWER[m]][lag:]
        older, over_older = total[_OLDER[m]], inverse[_OLDER[m]]
        for i in range(n - lag):
            out[i] = (older[i] * over_older[i] - lag) - newer[i] * over_newer[i]


@window_kernel
def _scan(
    lines: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, factor: FloatArray,
    extremes: FloatArray, skip: int, n: int, has_gaps: bool,
) -> None:  # fmt: skip
    """Walk each window from its last bar back; keep highest, lowest, their ages, rank and oldest gaps at each window.

    One product of factors for all bars between two events: equal prices stay equal.
    """
    since, top, top_age, bottom, bottom_age, rank, high_gap, low_gap = (
        lines[0], lines[1], lines[2], lines[3], lines[4], lines[5], lines[6], lines[7]
    )  # fmt: skip
    since[:n] = 1.0
    top[:n] = -np.inf
    bottom[:n] = np.inf
    for line in (top_age, bottom_age, rank):
        line[:n] = 0.0
    for line in (high_gap, low_gap):
        line[:n] = -1.0
    at = 0
    for k in range(LEAD_ROWS):
        begin = max(k, skip)
        m = n - begin
        if m > 0:
            p, age = since[begin:], float(k)
            if k > 0:
                step = factor[begin - k + 1 :]
                for i in range(m):
                    p[i] = p[i] * step[i]
            best, best_age, price = top[begin:], top_age[begin:], high[begin - k :]
            for i in range(m):
                value = price[i] * p[i]
                best_age[i] = age if value >= best[i] else best_age[i]
                best[i] = value if value >= best[i] else best[i]
            best, best_age, price = bottom[begin:], bottom_age[begin:], low[begin - k :]
            for i in range(m):
                value = price[i] * p[i]
                best_age[i] = age if value <= best[i] else best_age[i]
                best[i] = value if value <= best[i] else best[i]
            score, price, own = rank[begin:], close[begin - k :], close[begin:]
            for i in range(m):
                value = price[i] * p[i]
                score[i] += 2.0 if value < own[i] else (1.0 if value == own[i] else 0.0)
            if has_gaps:
                gap, price = high_gap[begin:], high[begin - k :]
                for i in range(m):
                    gap[i] = gap[i] if price[i] == price[i] else age
                gap, price = low_gap[begin:], low[begin - k :]
                for i in range(m):
                    gap[i] = gap[i] if price[i] == price[i] else age
        if k + 1 == WINDOWS[at]:
            for line in range(7):
                extremes[7 * at + line][skip:n] = lines[line + 1][skip:n]
            at += 1


@window_kernel
def _quantiles(
    close: FloatArray, factor: FloatArray, bars: int, skip: int, n: int,
    upper: FloatArray, lower: FloatArray, ring: FloatArray, ordered: FloatArray,
) -> None:  # fmt: skip
    """Keep the window's known closes in order; an event multiplies them all."""
    size = 0
    begin = max(0, skip - bars + 1)
    ring[:bars] = np.nan
    slot = 0
    for t in range(begin, n):
        by = factor[t]
        if by != 1.0:
            for i in range(bars):
                ring[i] *= by
            for i in range(size):
                ordered[i] *= by
        new, old = close[t], ring[slot]
        ring[slot] = new
        slot = slot + 1 if slot + 1 < bars else 0
        if old == old:
            low, high = 0, size
            while low < high:
                middle = (low + high) >> 1
                if ordered[middle] < old:
                    low = middle + 1
                else:
                    high = middle
            i = low
            if new >= old:
                while i + 1 < size and ordered[i + 1] < new:
                    ordered[i] = ordered[i + 1]
                    i += 1
                ordered[i] = new
            elif new < old:
                while i > 0 and ordered[i - 1] > new:
                    ordered[i] = ordered[i - 1]
                    i -= 1
                ordered[i] = new
            else:
                size -= 1
                while i < size:
                    ordered[i] = ordered[i + 1]
                    i += 1
        elif new == new:
            i = size
            while i > 0 and ordered[i - 1] > new:
                ordered[i] = ordered[i - 1]
                i -= 1
            ordered[i] = new
            size += 1
        if t >= skip:
            upper[t] = _quantile(ordered, size, 0.8)
            lower[t] = _quantile(ordered, size, 0.2)


@window_kernel
def _quantile(ordered: FloatArray, size: int, share: float) -> float:
    if size == 0:
        return np.nan
    place = share * (size - 1)
    below = int(place)
    rest = place - below
    if rest == 0.0:
        return float(ordered[below])
    return float(ordered[below] + (ordered[below + 1] - ordered[below]) * rest)


@window_kernel
def _put_ratio(out: Floats32, upper: FloatArray, lower: FloatArray) -> None:
    for i in range(out.size):
        out[i] = _known(upper[i] / lower[i])


@window_kernel
def _put_mean(out: Floats32, total: FloatArray, inverse: FloatArray, unit: FloatArray) -> None:
    for i in range(out.size):
        mean = total[i] * inverse[i]
        out[i] = 0.0 if mean == 0.0 and unit[i] == 0.0 else _known(mean / unit[i])


@window_kernel
def _put_deviation(out: Floats32, square: FloatArray, count: FloatArray, unit: FloatArray) -> None:
    for i in range(out.size):
        free = count[i] - 1.0
        value = 0.0 if square[i] == 0.0 and unit[i] == 0.0 else math.sqrt(square[i] / free) / unit[i]
        out[i] = _known(value) if free > 0.0 else np.nan


@window_kernel
def _put_share(out: Floats32, up: FloatArray, down: FloatArray, count: FloatArray, sign: float, other: float) -> None:
    """Write `sign` times the rises and `other` times the falls, as a share of both; 0 if there were none."""
    for i in range(out.size):
        both = up[i] + down[i]
        value = (sign * up[i] + other * down[i]) / both if both > 0.0 else 0.0
        out[i] = _known(value) if count[i] > 0.0 else np.nan


@window_kernel
def _put_correlation(
    out: Floats32, cross: FloatArray, square: FloatArray, other: FloatArray, count: FloatArray, least: FloatArray
) -> None:
    for i in range(out.size):
        value = cross[i] / math.sqrt(square[i] * other[i])
        free = count[i] - 1.0
        is_spread = square[i] > least[i] * least[i] * free and other[i] > _CONSTANT * _CONSTANT * free
        out[i] = _known(value) if is_spread and free > 0.0 else np.nan


@window_kernel
def _asked(columns: Ints, first: int, last: int) -> bool:
    return bool(columns[first:last].max() >= 0)


@window_kernel
def _bar_features(
    columns: Ints, out: Floats32, at: int, open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray
) -> None:
    for i in range(close.size):
        o, hi, lo, c = open_[i], high[i], low[i], close[i]
        # `max` and `min` of Python, and of numba, do not pass on NaN.
        body_top = o + c if o != o or c != c else max(o, c)
        body_bottom = o + c if o != o or c != c else min(o, c)
        span = hi - lo
        if columns[0] >= 0:
            out[columns[0], at + i] = _known((c - o) / o)
        if columns[1] >= 0:
            out[columns[1], at + i] = _known((hi - lo) / o)
        if columns[2] >= 0:
            out[columns[2], at + i] = _of_span(c - o, span, o)
        if columns[3] >= 0:
            out[columns[3], at + i] = _known((hi - body_top) / o)
        if columns[4] >= 0:
            out[columns[4], at + i] = _of_span(hi - body_top, span, o)
        if columns[5] >= 0:
            out[columns[5], at + i] = _known((body_bottom - lo) / o)
        if columns[6] >= 0:
            out[columns[6], at + i] = _of_span(body_bottom - lo, span, o)
        if columns[7] >= 0:
            out[columns[7], at + i] = _known((2.0 * c - hi - lo) / o)
        if columns[8] >= 0:
            out[columns[8], at + i] = _of_span(2.0 * c - hi - lo, span, o)
        if columns[9] >= 0:
            out[columns[9], at + i] = _known(o / c)
        if columns[10] >= 0:
            out[columns[10], at + i] = _known(hi / c)
        if columns[11] >= 0:
            out[columns[11], at + i] = _known(lo / c)
        if columns[12] >= 0:
            out[columns[12], at + i] = _known((hi + lo + c) / 3.0 / c)


@window_kernel
def _put_references(
    columns: Ints, out: Floats32, at: int, skip: int, n: int, c: FloatArray, factor: FloatArray
) -> None:
    for w in range(5):
        if columns[w] < 0:
            continue
        lag = WINDOWS[w]
        by = factor[_FIRST_NODE + w]
        line = out[columns[w]]
        for t in range(skip, n):
            line[at + t - skip] = _known(c[t - lag] * by[t] / c[t]) if t >= lag else np.nan


@window_kernel
def _close_features(columns: Ints, out: Floats32, at: int, skip: int, n: int, c: FloatArray, trees: FloatArray) -> None:
    """Write MA, STD, BETA, RSQR and RESI; leave the counts of closes in tree 3."""
    factor, ones = trees[0], trees[2]
    count, inverse, weight, total = trees[3], trees[4], trees[5], trees[6]
    gap, square, place, place2, place_gap, cross = trees[7], trees[8], trees[9], trees[10], trees[11], trees[12]
    known, price = count[0], total[0]
    for i in range(n):
        known[i] = 1.0 if c[i] == c[i] else 0.0
    for i in range(n):
        price[i] = c[i] if c[i] == c[i] else 0.0
    _count_tree(count, inverse, weight, ones, n)
    _sum_tree(total, factor, n)
    is_line = _asked(columns, BETA, MAX)
    if is_line or _asked(columns, STD, BETA):
        _gap_tree(gap, total, inverse, factor, n)
        _square_tree(square, gap, weight, factor, n)
    if is_line:
        _place_trees(place, place2, count, n)
        _place_gap_tree(place_gap, place, inverse, n)
        _cross_tree(cross, gap, place_gap, weight, factor, n)
    own = c[skip:n]
    for w in range(5):
        node = _FIRST_NODE + w
        till = at + n - skip
        if columns[MA + w] >= 0:
            _put_mean(out[columns[MA + w]][at:till], total[node][skip:n], inverse[node][skip:n], own)
        if columns[STD + w] >= 0:
            _put_deviation(out[columns[STD + w]][at:till], square[node][skip:n], count[node][skip:n], own)
        if columns[BETA + w] >= 0:
            _put_slope(
                out[columns[BETA + w]][at:till], cross[node][skip:n], place[node][skip:n], place2[node][skip:n],
                inverse[node][skip:n], own,
            )  # fmt: skip
        if columns[RSQR + w] >= 0:
            _put_fit(
                out[columns[RSQR + w]][at:till], cross[node][skip:n], place[node][skip:n], place2[node][skip:n],
                inverse[node][skip:n], square[node][skip:n], total[node][skip:n],
            )  # fmt: skip
        if columns[RESI + w] >= 0:
            _put_residual(
                out[columns[RESI + w]][at:till], cross[node][skip:n], place[node][skip:n], place2[node][skip:n],
                inverse[node][skip:n], total[node][skip:n], own,
            )  # fmt: skip


@window_kernel
def _put_slope(
    out: Floats32, cross: FloatArray, place: FloatArray, place2: FloatArray, inverse: FloatArray, unit: FloatArray
) -> None:
    for i in range(out.size):
        width = place2[i] - place[i] * place[i] * inverse[i]
        value = cross[i] / width / unit[i]
        out[i] = _known(value) if inverse[i] < 1.0 else np.nan


@window_kernel
def _put_fit(
    out: Floats32, cross: FloatArray, place: FloatArray, place2: FloatArray, inverse: FloatArray,
    square: FloatArray, total: FloatArray,
) -> None:  # fmt: skip
    for i in range(out.size):
        width = place2[i] - place[i] * place[i] * inverse[i]
        least = _CONSTANT_PRICE * total[i] * inverse[i]
        value = cross[i] * cross[i] / (width * square[i])
        # Squares over count - 1 against least squared, without the division.
        is_spread = square[i] * inverse[i] > least * least * (1.0 - inverse[i])
        out[i] = _known(value) if is_spread and inverse[i] < 1.0 else np.nan


@window_kernel
def _put_residual(
    out: Floats32, cross: FloatArray, place: FloatArray, place2: FloatArray, inverse: FloatArray,
    total: FloatArray, unit: FloatArray,
) -> None:  # fmt: skip
    for i in range(out.size):
        width = place2[i] - place[i] * place[i] * inverse[i]
        slope = cross[i] / width
        # The last bar lies at place 0: the line's value there is its intercept.
        value = (unit[i] - (total[i] * inverse[i] - slope * (place[i] * inverse[i]))) / unit[i]
        out[i] = _known(value) if inverse[i] < 1.0 else np.nan


@window_kernel
def _extreme_features(
    columns: Ints, out: Floats32, at: int, skip: int, n: int,
    hi: FloatArray, lo: FloatArray, c: FloatArray, f: FloatArray,
    trees: FloatArray, lines: FloatArray, extremes: FloatArray,
) -> None:  # fmt: skip
    """Write MAX, MIN, RANK, RSV, IMAX, IMIN and IMXD; RANK reads the counts that `_close_features` left."""
    n_gaps = 0
    for i in range(n):
        n_gaps += (hi[i] != hi[i]) + (lo[i] != lo[i])
    has_gaps = n_gaps > 0
    _scan(lines, hi, lo, c, f, extremes, skip, n, has_gaps)
    own, till = c[skip:n], at + n - skip
    for w in range(5):
        top, top_age, bottom, bottom_age = (
            extremes[7 * w][skip:n], extremes[7 * w + 1][skip:n],
            extremes[7 * w + 2][skip:n], extremes[7 * w + 3][skip:n],
        )  # fmt: skip
        high_gap, low_gap = extremes[7 * w + 5][skip:n], extremes[7 * w + 6][skip:n]
        if columns[MAX + w] >= 0:
            _put_ratio(out[columns[MAX + w]][at:till], top, own)
        if columns[MIN + w] >= 0:
            _put_ratio(out[columns[MIN + w]][at:till], bottom, own)
        if columns[RANK + w] >= 0:
            _put_rank(
                out[columns[RANK + w]][at:till], extremes[7 * w + 4][skip:n], trees[4][_FIRST_NODE + w][skip:n], own
            )
        if columns[RSV + w] >= 0:
            _put_position(out[columns[RSV + w]][at:till], top, bottom, own)
        if has_gaps:
            _oldest_gap_first(top, top_age, high_gap)
            _oldest_gap_first(bottom, bottom_age, low_gap)
        bars = WINDOWS[w]
        if columns[IMAX + w] >= 0:
            _put_place(out[columns[IMAX + w]][at:till], top, top_age, skip, bars)
        if columns[IMIN + w] >= 0:
            _put_place(out[columns[IMIN + w]][at:till], bottom, bottom_age, skip, bars)
        if columns[IMXD + w] >= 0:
            line = out[columns[IMXD + w]][at:till]
            for i in range(line.size):
                value = (bottom_age[i] - top_age[i]) / bars
                line[i] = np.nan if math.isinf(top[i]) or math.isinf(bottom[i]) else value


@window_kernel
def _oldest_gap_first(best: FloatArray, age: FloatArray, gap: FloatArray) -> None:
    """Qlib's IdxMax is numpy's argmax, which stops at the first NaN."""
    for i in range(best.size):
        age[i] = gap[i] if gap[i] >= 0.0 else age[i]


@window_kernel
def _put_rank(out: Floats32, score: FloatArray, inverse: FloatArray, own: FloatArray) -> None:
    for i in range(out.size):
        out[i] = 0.5 * (score[i] + 1.0) * inverse[i] if own[i] == own[i] else np.nan


@window_kernel
def _put_position(out: Floats32, top: FloatArray, bottom: FloatArray, own: FloatArray) -> None:
    for i in range(out.size):
        value = _of_span(own[i] - bottom[i], top[i] - bottom[i], own[i])
        out[i] = np.nan if math.isinf(top[i]) or math.isinf(bottom[i]) else value


@window_kernel
def _put_place(out: Floats32, best: FloatArray, age: FloatArray, skip: int, bars: int) -> None:
    for i in range(out.size):
        value = (min(skip + i + 1.0, bars) - age[i]) / bars
        out[i] = np.nan if math.isinf(best[i]) else value


@window_kernel
def _quantile_features(
    columns: Ints, out: Floats32, at: int, skip: int, n: int, c: FloatArray, f: FloatArray, lines: FloatArray
) -> None:
    own, till = c[skip:n], at + n - skip
    upper, lower = lines[15], lines[16]
    for w in range(5):
        up, down = columns[QTLU + w], columns[QTLD + w]
        if up < 0 and down < 0:
            continue
        _quantiles(c, f, WINDOWS[w], skip, n, upper, lower, lines[17], lines[18])
        if up >= 0:
            _put_ratio(out[up][at:till], upper[skip:n], own)
        if down >= 0:
            _put_ratio(out[down][at:till], lower[skip:n], own)


@window_kernel
def _price_volume_features(
    columns: Ints, out: Floats32, at: int, skip: int, n: int,
    c: FloatArray, v: FloatArray, q: FloatArray, trees: FloatArray,
) -> None:  # fmt: skip
    factor, ones, shift = trees[0], trees[2], trees[13]
    count, inverse, weight, total, gap, square = trees[3], trees[4], trees[5], trees[6], trees[7], trees[8]
    log_total, log_gap, log_square, cross = trees[9], trees[10], trees[11], trees[12]
    known, price, log_volume, log_split = count[0], total[0], log_total[0], shift[0]
    for i in range(n):
        is_known = c[i] == c[i] and v[i] > 0.0
        known[i] = 1.0 if is_known else 0.0
        price[i] = c[i] if is_known else 0.0
        log_volume[i] = math.log(v[i]) if is_known else 0.0
        log_split[i] = 0.0 if q[i] == 1.0 else math.log(q[i])
    _count_tree(count, inverse, weight, ones, n)
    _sum_tree(shift, ones, n)
    _sum_tree(total, factor, n)
    _gap_tree(gap, total, inverse, factor, n)
    _square_tree(square, gap, weight, factor, n)
    _shifted_sum_tree(log_total, count, shift, n)
    _shifted_gap_tree(log_gap, log_total, inverse, shift, n)
    _square_tree(log_square, log_gap, weight, ones, n)
    _cross_tree(cross, gap, log_gap, weight, factor, n)
    least = shift[0]
    for w in range(5):
        if columns[w] < 0:
            continue
        node = _FIRST_NODE + w
        for i in range(n):
            least[i] = _CONSTANT_PRICE * total[node, i] * inverse[node, i]
        _put_correlation(
            out[columns[w]][at : at + n - skip], cross[node][skip:n], square[node][skip:n],
            log_square[node][skip:n], count[node][skip:n], least[skip:n],
        )  # fmt: skip


@window_kernel
def _change_correlations(
    columns: Ints, out: Floats32, at: int, skip: int, n: int,
    c: FloatArray, v: FloatArray, f: FloatArray, q: FloatArray, trees: FloatArray,
) -> None:  # fmt: skip
    ones = trees[2]
    count, inverse, weight, total, gap, square = trees[3], trees[4], trees[5], trees[6], trees[7], trees[8]
    log_total, log_gap, log_square, cross, least = trees[9], trees[10], trees[11], trees[12], trees[13][0]
    known, change, log_change = count[0], total[0], log_total[0]
    known[0] = change[0] = log_change[0] = 0.0
    for i in range(1, n):
        ratio, growth = c[i] / (f[i] * c[i - 1]), v[i] / (q[i] * v[i - 1])
        is_known = math.isfinite(ratio) and math.isfinite(growth)
        known[i] = 1.0 if is_known else 0.0
        change[i] = ratio if is_known else 0.0
        log_change[i] = math.log(growth + 1.0) if is_known else 0.0
    _count_tree(count, inverse, weight, ones, n)
    _sum_tree(total, ones, n)
    _gap_tree(gap, total, inverse, ones, n)
    _square_tree(square, gap, weight, ones, n)
    _sum_tree(log_total, ones, n)
    _gap_tree(log_gap, log_total, inverse, ones, n)
    _square_tree(log_square, log_gap, weight, ones, n)
    _cross_tree(cross, gap, log_gap, weight, ones, n)
    least[:n] = _CONSTANT
    for w in range(5):
        if columns[w] < 0:
            continue
        node = _FIRST_NODE + w
        _put_correlation(
            out[columns[w]][at : at + n - skip], cross[node][skip:n], square[node][skip:n],
            log_square[node][skip:n], count[node][skip:n], least[skip:n],
        )  # fmt: skip


@window_kernel
def _changes(
    value: FloatArray, factor: FloatArray, up: FloatArray, down: FloatArray, known: FloatArray, n: int
) -> None:
    """Rises, falls (both positive or 0) and whether there is a value and one before."""
    up[0] = down[0] = known[0] = 0.0
    before, now, by = value[: n - 1], value[1:], factor[1:]
    out = up[1:]
    for i in range(n - 1):
        change = now[i] - by[i] * before[i]
        out[i] = change if change > 0.0 else 0.0
    out = down[1:]
    for i in range(n - 1):
        change = by[i] * before[i] - now[i]
        out[i] = change if change > 0.0 else 0.0
    out = known[1:]
    for i in range(n - 1):
        out[i] = 1.0 if now[i] == now[i] and before[i] == before[i] else 0.0


@window_kernel
def _change_features(
    columns: Ints, out: Floats32, at: int, skip: int, n: int, c: FloatArray, f: FloatArray, trees: FloatArray
) -> None:
    """Write CNTP to SUMD."""
    factor, ones = trees[0], trees[2]
    up, down, n_up, n_down, count = trees[6], trees[7], trees[8], trees[9], trees[10]
    _changes(c, f, up[0], down[0], count[0], n)
    if _asked(columns, CNTP, SUMP):
        for i in range(n):
            n_up[0, i] = 1.0 if up[0, i] > 0.0 else 0.0
        for i in range(n):
            n_down[0, i] = 1.0 if down[0, i] > 0.0 else 0.0
        _sum_tree(n_up, ones, n)
        _sum_tree(n_down, ones, n)
        for w in range(5):
            node = _FIRST_NODE + w
            for family in range(3):
                column = columns[CNTP + 5 * family + w]
                if column >= 0:
                    _put_count(
                        out[column][at : at + n - skip], n_up[node][skip:n], n_down[node][skip:n],
                        1.0 if family != 1 else 0.0, (0.0, 1.0, -1.0)[family], skip, WINDOWS[w],
                    )  # fmt: skip
    if _asked(columns, SUMP, VMA):
        _sum_tree(up, factor, n)
        _sum_tree(down, factor, n)
        _sum_tree(count, ones, n)
        _put_shares(columns[SUMP:VMA], out, at, skip, n, up, down, count)


@window_kernel
def _put_count(
    out: Floats32, up: FloatArray, down: FloatArray, sign: float, other: float, skip: int, bars: int
) -> None:
    for i in range(out.size):
        out[i] = (sign * up[i] + other * down[i]) / min(skip + i + 1.0, bars)


@window_kernel
def _put_shares(
    columns: Ints, out: Floats32, at: int, skip: int, n: int, up: FloatArray, down: FloatArray, count: FloatArray
) -> None:
    for w in range(5):
        node = _FIRST_NODE + w
        for family in range(3):
            column = columns[5 * family + w]
            if column >= 0:
                _put_share(
                    out[column][at : at + n - skip], up[node][skip:n], down[node][skip:n], count[node][skip:n],
                    1.0 if family != 1 else 0.0, (0.0, 1.0, -1.0)[family],
                )  # fmt: skip


@window_kernel
def _volume_features(
    columns: Ints, out: Floats32, at: int, skip: int, n: int,
    c: FloatArray, v: FloatArray, f: FloatArray, q: FloatArray, trees: FloatArray, lines: FloatArray,
) -> None:  # fmt: skip
    """Write VMA to VSUMD."""
    factor, ones = trees[1], trees[2]
    count, inverse, weight, total, gap, square = trees[3], trees[4], trees[5], trees[6], trees[7], trees[8]
    own, till = v[skip:n], at + n - skip
    if _asked(columns, VMA, WVMA):
        for i in range(n):
            count[0, i] = 1.0 if v[i] == v[i] else 0.0
            total[0, i] = v[i] if v[i] == v[i] else 0.0
        _count_tree(count, inverse, weight, ones, n)
        _sum_tree(total, factor, n)
        _gap_tree(gap, total, inverse, factor, n)
        _square_tree(square, gap, weight, factor, n)
        for w in range(5):
            node = _FIRST_NODE + w
            if columns[VMA + w] >= 0:
                _put_mean(out[columns[VMA + w]][at:till], total[node][skip:n], inverse[node][skip:n], own)
            if columns[VSTD + w] >= 0:
                _put_deviation(out[columns[VSTD + w]][at:till], square[node][skip:n], count[node][skip:n], own)
    if _asked(columns, WVMA, VSUMP):
        count[0, 0] = total[0, 0] = 0.0
        for i in range(1, n):
            moved = abs(c[i] / (f[i] * c[i - 1]) - 1.0) * v[i]
            is_known = math.isfinite(moved)
            count[0, i] = 1.0 if is_known else 0.0
            total[0, i] = moved if is_known else 0.0
        _count_tree(count, inverse, weight, ones, n)
        _sum_tree(total, factor, n)
        _gap_tree(gap, total, inverse, factor, n)
        _square_tree(square, gap, weight, factor, n)
        mean = lines[15]
        for w in range(5):
            node = _FIRST_NODE + w
            if columns[WVMA + w] >= 0:
                for i in range(n):
                    mean[i] = total[node, i] * inverse[node, i]
                _put_deviation(out[columns[WVMA + w]][at:till], square[node][skip:n], count[node][skip:n], mean[skip:n])
    if _asked(columns, VSUMP, N_FEATURES):
        up, down, known = trees[6], trees[7], trees[10]
        _changes(v, q, up[0], down[0], known[0], n)
        _sum_tree(up, factor, n)
        _sum_tree(down, factor, n)
        _sum_tree(known, ones, n)
        _put_shares(columns[VSUMP:N_FEATURES], out, at, skip, n, up, down, known)


@window_kernel
def fill_tiles(
    tiles: Ints, columns: Ints, out: Floats32,
    open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray,
    price_factor: FloatArray, split_ratio: FloatArray,
    trees: FloatArray, lines: FloatArray, extremes: FloatArray,
) -> None:  # fmt: skip
    """Write the asked columns of all `tiles` into `out`; the last three are scratch."""
    hi, lo, c, v, f, q = lines[9], lines[10], lines[11], lines[12], lines[13], lines[14]
    by_price, by_volume, ones = trees[0], trees[1], trees[2]
    ones[:] = 1.0
    for tile in range(tiles.shape[0]):
        base, first, end, at = tiles[tile, 0], tiles[tile, 1], tiles[tile, 2], tiles[tile, 3]
        n, skip = end - base, first - base
        hi[:n], lo[:n], c[:n], v[:n] = high[base:end], low[base:end], close[base:end], volume[base:end]
        q[:n] = split_ratio[base:end]
        # Without a close the dividend's share of the price is not known; the split is.
        by = price_factor[base:end]
        for i in range(n):
            f[i] = by[i] if by[i] == by[i] else 1.0 / q[i]
        by_price[0][:n] = f[:n]
        by_volume[0][:n] = q[:n]
        _product_tree(by_price, n)
        _product_tree(by_volume, n)
        if _asked(columns, KBAR, ROLLING):
            _bar_features(columns, out, at, open_[first:end], high[first:end], low[first:end], close[first:end])
        if _asked(columns, ROC, MA):
            _put_references(columns[ROC:MA], out, at, skip, n, c, by_price)
        if _asked(columns, MA, MAX) or _asked(columns, RANK, RSV):
            _close_features(columns, out, at, skip, n, c, trees)
        if _asked(columns, MAX, QTLU) or _asked(columns, RANK, CORR):
            _extreme_features(columns, out, at, skip, n, hi, lo, c, f, trees, lines, extremes)
        if _asked(columns, QTLU, RANK):
            _quantile_features(columns, out, at, skip, n, c, f, lines)
        if _asked(columns, CORR, CORD):
            _price_volume_features(columns[CORR:CORD], out, at, skip, n, c, v, q, trees)
        if _asked(columns, CORD, CNTP):
            _change_correlations(columns[CORD:CNTP], out, at, skip, n, c, v, f, q, trees)
        if _asked(columns, CNTP, VMA):
            _change_features(columns, out, at, skip, n, c, f, trees)
        if _asked(columns, VMA, N_FEATURES):
            _volume_features(columns, out, at, skip, n, c, v, f, q, trees, lines)
