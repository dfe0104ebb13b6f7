"""Lazy kernels: functions that numba compiles on first use and keeps on disk.

Here: the decorator, and by what kept code is judged to be that of the source. Not here: sliding kernels over bars (`windows.py`).

numba keeps compiled code by the time stamp of the kernel's own file. A kernel may call kernels of other files: theirs take part
here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

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

        compiled = njit(cache=True, nogil=True, error_model="numpy")(self.py_func)
        # With NUMBA_DISABLE_JIT it is the plain function.
        if hasattr(compiled, "_cache"):
            _stamp_with_called(compiled._cache._cache_file, self)
        return compiled

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
        `paired`, over read-only float64 windows, oldest bar first. For `swept` see there.

    Returns
    -------
    callable
        The same function, compiled by numba on first use.
    """
    return cast(Kernel, LazyKernel(function))


def _called_files(kernel: LazyKernel) -> list[str]:
    """Other files that the kernel's compiled code is made of: those of the kernels that it calls, and of what they call."""
    waiting, found = [kernel], {id(kernel): kernel}
    while waiting:
        function = waiting.pop().py_func
        for name in function.__code__.co_names:
            called = function.__globals__.get(name)
            if isinstance(called, LazyKernel) and id(called) not in found:
                found[id(called)] = called
                waiting.append(called)
    files = {each.py_func.__code__.co_filename for each in found.values()}
    # A kernel that was typed at a prompt has no file.
    return sorted(each for each in files - {kernel.py_func.__code__.co_filename} if os.path.exists(each))


def _stamp_with_called(index: Any, kernel: LazyKernel) -> None:
    """Add to the time stamp by which numba judges its kept code those of the files that the kernel reaches."""
    for file in _called_files(kernel):
        state = os.stat(file)
        index._source_stamp = (*index._source_stamp, file, state.st_mtime_ns, state.st_size)
