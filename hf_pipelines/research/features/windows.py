"""Window kernels: the adapters that turn one window of bars into one feature value, row after row.

Here: the decorator for kernels, and the two drivers that slide a kernel over a panel. A kernel sees exactly
its last `lookback_bars` bars, prices adjusted for total return as seen from the last of them, so it can
neither look ahead nor depend on where the loaded frame begins. Not here: the kernels themselves (one module a
group) and their names (`registry.py`).

numba caches a kernel by the time stamp of its own file only: a function that a kernel calls lives in the same
file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from hf_pipelines.research.features.panel import FloatArray, Panel

Window = FloatArray
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


class LazyKernel:
    """A function that numba compiles on first use: importing numba costs a quarter of a second.

    numba meets it as a global of other kernels and asks for its type; a call from Python runs compiled too.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Keep `function` as `py_func`, the name numba has for it."""
        functools.update_wrapper(self, function)
        self.py_func = function

    @functools.cached_property
    def dispatcher(self) -> Any:
        """The function under numba; a division by zero gives inf or NaN, not an error."""
        from numba import njit

        return njit(cache=True, nogil=True, error_model="numpy")(self.py_func)

    @property
    def _numba_type_(self) -> Any:
        from numba import types

        return types.Dispatcher(self.dispatcher)

    def __call__(self, *windows: Any) -> Any:
        """Run the compiled function."""
        return self.dispatcher(*windows)


def window_kernel(function: Kernel) -> Kernel:
    """Compile `function` on first use and keep it on disk; a division by zero gives inf or NaN, not an error.

    Parameters
    ----------
    function : callable
        `(open, high, low, close, volume) -> float` for `windowed`, `(close, benchmark) -> float` for
        `paired`, over read-only float64 windows, oldest bar first.

    Returns
    -------
    callable
        The same function, compiled by numba on first use.
    """
    return cast(Kernel, LazyKernel(function))


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
        dispatcher = cast(Any, kernel).dispatcher
        dispatcher.compile(signature)
        values = driver(
            dispatcher, panel.starts, panel.open, panel.high, panel.low, panel.close, panel.volume,
            panel.price_factor, panel.split_ratio, panel.is_wanted, lookback_bars,
        )  # fmt: skip
        return cast(FloatArray, values)

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
        dispatcher = cast(Any, kernel).dispatcher
        dispatcher.compile(signature)
        values = driver(
            dispatcher, panel.starts, panel.close, panel.price_factor,
            panel.benchmark_close, panel.benchmark_factor, panel.is_wanted, lookback_bars,
        )  # fmt: skip
        return cast(FloatArray, values)

    return compute


def _slide_bars(  # type: ignore[no-untyped-def]
    kernel, starts, open_, high, low, close, volume, price_factor, split_ratio, is_wanted, lookback_bars
):
    values = np.full(close.size, np.nan)
    window = np.empty((5, lookback_bars))
    for symbol in range(starts.size - 1):
        event = starts[symbol]  # The symbol's latest bar with a corporate action.
        for last in range(starts[symbol], starts[symbol + 1]):
            if price_factor[last] != 1.0 or split_ratio[last] != 1.0:
                event = last
            first = last - lookback_bars + 1
            if first < starts[symbol] or not is_wanted[last]:
                continue
            # An event changes the bars BEFORE it: on the window's first bar it changes nothing.
            if event <= first:
                here = slice(first, last + 1)
                values[last] = kernel(open_[here], high[here], low[here], close[here], volume[here])
                continue
            price, shares = 1.0, 1.0
            for row in range(last, first - 1, -1):
                bar = row - first
                window[0, bar] = open_[row] * price
                window[1, bar] = high[row] * price
                window[2, bar] = low[row] * price
                window[3, bar] = close[row] * price
                window[4, bar] = volume[row] * shares
                price *= price_factor[row]
                shares *= split_ratio[row]
            values[last] = kernel(window[0], window[1], window[2], window[3], window[4])
    return values


def _slide_pairs(  # type: ignore[no-untyped-def]
    kernel, starts, close, price_factor, benchmark_close, benchmark_factor, is_wanted, lookback_bars
):
    values = np.full(close.size, np.nan)
    window = np.empty((2, lookback_bars))
    for symbol in range(starts.size - 1):
        gap = starts[symbol] - 1  # The symbol's latest bar without a benchmark.
        for last in range(starts[symbol], starts[symbol + 1]):
            if np.isnan(benchmark_close[last]):
                gap = last
            first = last - lookback_bars + 1
            if first < starts[symbol] or gap >= first or not is_wanted[last]:
                continue
            own, other = 1.0, 1.0
            for row in range(last, first - 1, -1):
                window[0, row - first] = close[row] * own
                window[1, row - first] = benchmark_close[row] * other
                own *= price_factor[row]
                other *= benchmark_factor[row]
            values[last] = kernel(window[0], window[1])
    return values


@functools.cache
def _bar_driver() -> tuple[Any, Any]:
    """Compiled `_slide_bars` and the signature of its kernels."""
    return _driver(_slide_bars, n_windows=5, n_columns=7)


@functools.cache
def _pair_driver() -> tuple[Any, Any]:
    """Compiled `_slide_pairs` and the signature of its kernels."""
    return _driver(_slide_pairs, n_windows=2, n_columns=4)


def _driver(slide: Callable[..., Any], *, n_windows: int, n_columns: int) -> tuple[Any, Any]:
    from numba import njit, types

    # Read-only: a window without corporate actions is a view of the panel, and no kernel may write into that.
    window = types.Array(types.float64, 1, "C", readonly=True)
    offsets = types.Array(types.int64, 1, "C", readonly=True)
    kernel = types.float64(*[window] * n_windows)
    # The kernel comes as a first-class function: one compiled driver serves every kernel.
    wanted = types.Array(types.boolean, 1, "C", readonly=True)
    signature = types.float64[::1](types.FunctionType(kernel), offsets, *[window] * n_columns, wanted, types.int64)
    return njit(signature, cache=True, nogil=True)(slide), kernel
