"""Window kernels: the adapters that turn windows of bars into feature values, row after row.

Here: the drivers that slide a kernel over a panel. `windowed` and `paired` give a
kernel one window and take one value: the plain way. `swept` gives it the windows of neighbouring rows at once, which
is ten to a hundred times faster where it walks over all of them side by side. Either way a value is made of exactly
its last `lookback_bars` bars, prices adjusted for total return as seen from the last of them, so it can neither look
ahead nor depend on where the loaded frame begins. Not here: the kernels themselves (one module a group) and their
names (`registry.py`).

As long as no corporate action happens, prices seen from one bar or from the next are the same numbers: a stretch of
bars without one is adjusted once for all of its windows. Symbols are shared out among threads; no value depends on
how.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import polars as pl

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import BoolArray, FloatArray

Window = FloatArray
Together = Callable[[Panel, Sequence[str]], list[FloatArray]]

_COLUMNS = ("open", "high", "low", "close", "volume")

# Rows that a kernel of `swept` gets at once: what it keeps a row in stays in the L1 cache.
_STRETCH_ROWS = 256

# Below this many rows a panel is not worth waking threads for.
_ROWS_A_THREAD = 4096


def windowed(kernel: Callable[..., float], lookback_bars: int) -> Callable[[Panel], FloatArray]:
    """Make a feature of a kernel over the last `lookback_bars` bars of each symbol.

    Parameters
    ----------
    kernel : callable
        `(open, high, low, close, volume) -> float`, decorated with `window_kernel`. Prices are total-return
        adjusted and volume is split adjusted inside the window, both as seen from its last bar.
    lookback_bars : int
        Length of the window in bars, the current one included, at least 1.

    Returns
    -------
    callable
        `compute(panel) -> array of shape (n_rows,)`, NaN where the symbol has fewer than `lookback_bars`
        bars, and in rows that are not wanted.
    """

    @functools.wraps(kernel)
    def compute(panel: Panel) -> FloatArray:
        driver, signature = _bar_driver()
        dispatcher = _compiled(kernel, signature)
        values = np.full(panel.close.size, np.nan)
        columns = [getattr(panel, name) for name in _COLUMNS]
        _over_symbols(
            panel,
            lambda begin, end: driver(
                dispatcher, panel.starts[begin : end + 1], *columns,
                panel.price_factor, panel.split_ratio, panel.is_wanted, lookback_bars, values,
            ),
        )  # fmt: skip
        return values

    return compute


def paired(kernel: Callable[..., float], lookback_bars: int) -> Callable[[Panel], FloatArray]:
    """Make a feature of a kernel over each symbol's closes and the benchmark's closes of the same bars.

    Parameters
    ----------
    kernel : callable
        `(close, benchmark) -> float`, decorated with `window_kernel`. Both windows are total-return adjusted
        as seen from their last bar.
    lookback_bars : int
        Length of the window in bars of the symbol, the current one included, at least 1.

    Returns
    -------
    callable
        `compute(panel) -> array of shape (n_rows,)`, NaN where the symbol has fewer than `lookback_bars` bars
        or the benchmark lacks one of them, and in rows that are not wanted.
    """

    @functools.wraps(kernel)
    def compute(panel: Panel) -> FloatArray:
        driver, signature = _pair_driver()
        dispatcher = _compiled(kernel, signature)
        values = np.full(panel.close.size, np.nan)
        _over_symbols(
            panel,
            lambda begin, end: driver(
                dispatcher, panel.starts[begin : end + 1], panel.close, panel.price_factor,
                panel.benchmark_close, panel.benchmark_factor, panel.is_wanted, lookback_bars, values,
            ),
        )  # fmt: skip
        return values

    return compute


def swept(
    kernel: Callable[..., None], lookback_bars: int, names: Sequence[str], *, inputs: Iterable[str], span: int = 0
) -> Together:
    """Make features of a kernel that computes the windows of neighbouring rows side by side.

    Parameters
    ----------
    kernel : callable
        `(open, high, low, close, volume, bars, span, values) -> None`, decorated with `window_kernel`. The columns
        are `bars - 1 + n_rows` bars, adjusted as seen from the last; window `i` is `close[i : i + bars]`. The kernel
        fills `values`, of shape (n_names, n_rows), and owes each row what it would give for its window alone, to the
        bit: it may share what is exact (a largest value, a count) or made of the same bars (a return), but no
        running sum.
    lookback_bars : int
        Length of the window in bars, the current one included, at least 1.
    names : sequence of str
        The features that the kernel fills, in the order of `values`.
    inputs : iterable of str
        Columns that the kernel reads; only those are adjusted.
    span : int, optional
        Handed to the kernel.

    Returns
    -------
    callable
        `together(panel, names) -> arrays of shape (n_rows,)`, for `Feature.together`; see `alone`. NaN where the
        symbol has fewer than `lookback_bars` bars, and in rows that are not wanted.
    """
    order, reads = tuple(names), tuple(name in set(inputs) for name in _COLUMNS)

    @functools.wraps(kernel)
    def together(panel: Panel, names: Sequence[str]) -> list[FloatArray]:
        driver, signature = _sweep_driver()
        dispatcher = _compiled(kernel, signature)
        values = np.full((len(order), panel.close.size), np.nan)
        columns = [getattr(panel, name) for name in _COLUMNS]
        _over_symbols(
            panel,
            lambda begin, end: driver(
                dispatcher, panel.starts[begin : end + 1], *columns, np.array(reads),
                panel.price_factor, panel.split_ratio, panel.is_wanted, lookback_bars, span, values,
            ),
        )  # fmt: skip
        return [values[order.index(name)] for name in names]

    return together


def alone(together: Together, name: str) -> Callable[[Panel], FloatArray]:
    """The one feature `name` of those computed `together`, for `Feature.compute`."""

    @functools.wraps(together)
    def compute(panel: Panel) -> FloatArray:
        return together(panel, [name])[0]

    return compute


@functools.cache
def _compiled(kernel: Callable[..., Any], signature: Any) -> Any:
    dispatcher = cast(Any, kernel).dispatcher
    # With NUMBA_DISABLE_JIT, to step through a kernel, it is the plain function.
    if hasattr(dispatcher, "compile"):
        dispatcher.compile(signature)
    return dispatcher


def _over_symbols(panel: Panel, run: Callable[[int, int], None]) -> None:
    """Call `run(begin, end)` for ranges of symbols that cover them all, side by side where there is enough to do."""
    n_symbols, n_rows = panel.starts.size - 1, panel.close.size
    # What this process may use: in a container the machine has more cores. POLARS_MAX_THREADS sets it.
    n_threads = pl.thread_pool_size()
    if n_threads == 1 or int(panel.is_wanted.sum()) < _ROWS_A_THREAD * 2:
        run(0, n_symbols)
        return
    # More pieces than threads, so that none waits long for the last.
    targets = np.linspace(0, n_rows, 4 * n_threads + 1)[1:-1]
    cuts = np.unique([0, *np.searchsorted(panel.starts, targets), n_symbols]).tolist()
    for done in [_threads(os.getpid(), n_threads).submit(run, *piece) for piece in zip(cuts, cuts[1:], strict=False)]:
        done.result()


@functools.cache
def _threads(process: int, n_threads: int) -> ThreadPoolExecutor:
    """The threads of the process: a forked one inherits the object, but not its threads."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix=f"features-{process}")


def _slide_bars(  # type: ignore[no-untyped-def]
    kernel, starts, open_, high, low, close, volume, price_factor, split_ratio, is_wanted, lookback_bars, values
):
    scratch = np.empty((5, lookback_bars - 1 + _STRETCH_ROWS))
    for symbol in range(starts.size - 1):
        event = starts[symbol]  # The symbol's latest bar with a corporate action.
        row = starts[symbol]
        while row < starts[symbol + 1]:
            if price_factor[row] != 1.0 or split_ratio[row] != 1.0:
                event = row
            first = row - lookback_bars + 1
            if first < starts[symbol] or not is_wanted[row]:
                row += 1
                continue
            stop = _stretch_end(price_factor, split_ratio, is_wanted, row, starts[symbol + 1])
            # An event changes the bars BEFORE it: on the window's first bar it changes nothing.
            is_raw = event <= first
            if not is_raw:
                price, shares = 1.0, 1.0
                for each in range(stop - 1, first - 1, -1):
                    bar = each - first
                    scratch[0, bar] = open_[each] * price
                    scratch[1, bar] = high[each] * price
                    scratch[2, bar] = low[each] * price
                    scratch[3, bar] = close[each] * price
                    scratch[4, bar] = volume[each] * shares
                    price *= price_factor[each]
                    shares *= split_ratio[each]
            for last in range(row, stop):
                if is_raw:
                    here = slice(last - lookback_bars + 1, last + 1)
                    values[last] = kernel(open_[here], high[here], low[here], close[here], volume[here])
                else:
                    here = slice(last - row, last - row + lookback_bars)
                    values[last] = kernel(
                        scratch[0, here], scratch[1, here], scratch[2, here], scratch[3, here], scratch[4, here]
                    )
            row = stop


def _slide_pairs(  # type: ignore[no-untyped-def]
    kernel, starts, close, price_factor, benchmark_close, benchmark_factor, is_wanted, lookback_bars, values
):
    scratch = np.empty((2, lookback_bars - 1 + _STRETCH_ROWS))
    for symbol in range(starts.size - 1):
        gap = starts[symbol] - 1  # The symbol's latest bar without a benchmark.
        row = starts[symbol]
        while row < starts[symbol + 1]:
            if np.isnan(benchmark_close[row]):
                gap = row
            first = row - lookback_bars + 1
            if first < starts[symbol] or gap >= first or not is_wanted[row]:
                row += 1
                continue
            stop = row + 1
            end = _stretch_end(price_factor, benchmark_factor, is_wanted, row, starts[symbol + 1])
            # A bar without a benchmark ends the stretch, whatever its factor: windows after it hold a gap.
            while stop < end and not np.isnan(benchmark_close[stop]):
                stop += 1
            own, other = 1.0, 1.0
            for each in range(stop - 1, first - 1, -1):
                scratch[0, each - first] = close[each] * own
                scratch[1, each - first] = benchmark_close[each] * other
                own *= price_factor[each]
                other *= benchmark_factor[each]
            for last in range(row, stop):
                here = slice(last - row, last - row + lookback_bars)
                values[last] = kernel(scratch[0, here], scratch[1, here])
            row = stop


def _sweep_bars(  # type: ignore[no-untyped-def]
    kernel, starts, open_, high, low, close, volume, reads, price_factor, split_ratio, is_wanted, lookback_bars, span,
    values,
):  # fmt: skip
    scratch = np.ones((5, lookback_bars - 1 + _STRETCH_ROWS))
    price, shares = np.empty(scratch.shape[1]), np.empty(scratch.shape[1])
    for symbol in range(starts.size - 1):
        event = starts[symbol]
        row = starts[symbol]
        while row < starts[symbol + 1]:
            if price_factor[row] != 1.0 or split_ratio[row] != 1.0:
                event = row
            first = row - lookback_bars + 1
            if first < starts[symbol] or not is_wanted[row]:
                row += 1
                continue
            stop = _stretch_end(price_factor, split_ratio, is_wanted, row, starts[symbol + 1])
            here, out = slice(first, stop), values[:, row:stop]
            if event <= first:
                kernel(open_[here], high[here], low[here], close[here], volume[here], lookback_bars, span, out)
            else:
                n = stop - first
                price[n - 1], shares[n - 1] = 1.0, 1.0
                for bar in range(n - 2, -1, -1):
                    price[bar] = price[bar + 1] * price_factor[first + bar + 1]
                    shares[bar] = shares[bar + 1] * split_ratio[first + bar + 1]
                if reads[0]:
                    _multiply(open_[here], price, scratch[0])
                if reads[1]:
                    _multiply(high[here], price, scratch[1])
                if reads[2]:
                    _multiply(low[here], price, scratch[2])
                if reads[3]:
                    _multiply(close[here], price, scratch[3])
                if reads[4]:
                    _multiply(volume[here], shares, scratch[4])
                kernel(
                    scratch[0, :n], scratch[1, :n], scratch[2, :n], scratch[3, :n], scratch[4, :n],
                    lookback_bars, span, out,
                )  # fmt: skip
            row = stop


@window_kernel
def _stretch_end(price_factor: Window, other_factor: Window, is_wanted: BoolArray, row: int, end: int) -> int:
    """The row after the last that is wanted with `row` and sees the same adjusted prices."""
    stop = row + 1
    while (
        stop < end
        and stop - row < _STRETCH_ROWS
        and is_wanted[stop]
        and price_factor[stop] == 1.0
        and other_factor[stop] == 1.0
    ):
        stop += 1
    return stop


@window_kernel
def _multiply(column: Window, factor: Window, product: Window) -> None:
    for bar in range(column.size):
        product[bar] = column[bar] * factor[bar]


@functools.cache
def _bar_driver() -> tuple[Any, Any]:
    """Compiled `_slide_bars` and the signature of its kernels."""
    from numba import types

    column, integer = _column_type(), types.int64
    kernel = types.float64(*[column] * 5)
    arguments = [*[column] * 7, _flag_type(), integer, types.float64[::1]]
    return _driver(_slide_bars, kernel, arguments), kernel


@functools.cache
def _pair_driver() -> tuple[Any, Any]:
    """Compiled `_slide_pairs` and the signature of its kernels."""
    from numba import types

    column = _column_type()
    kernel = types.float64(column, column)
    arguments = [*[column] * 4, _flag_type(), types.int64, types.float64[::1]]
    return _driver(_slide_pairs, kernel, arguments), kernel


@functools.cache
def _sweep_driver() -> tuple[Any, Any]:
    """Compiled `_sweep_bars` and the signature of its kernels."""
    from numba import types

    column, integer = _column_type(), types.int64
    kernel = types.void(*[column] * 5, integer, integer, types.float64[:, :])
    arguments = [
        *[column] * 5, types.boolean[::1], column, column, _flag_type(), integer, integer, types.float64[:, ::1]
    ]  # fmt: skip
    return _driver(_sweep_bars, kernel, arguments), kernel


def _column_type() -> Any:
    from numba import types

    # Read-only: a window without corporate actions is a view of the panel, and no kernel may write into that.
    return types.Array(types.float64, 1, "C", readonly=True)


def _flag_type() -> Any:
    from numba import types

    return types.Array(types.boolean, 1, "C", readonly=True)


def _driver(slide: Callable[..., Any], kernel: Any, arguments: list[Any]) -> Any:
    from numba import njit, types

    offsets = types.Array(types.int64, 1, "C", readonly=True)
    # The kernel comes as a first-class function: one compiled driver serves every kernel.
    signature = types.void(types.FunctionType(kernel), offsets, *arguments)
    return njit(signature, cache=True, nogil=True)(slide)
