"""Devices: whether a fit can use a graphics card of this machine.

Lives here: looking for one, and the choice. Does not live here: what a library does with it (a module each).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def choose_device(wanted: str, is_built_for_cuda: Callable[[], bool] | None) -> str:
    """The device to grow on: "cpu" or "cuda".

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda"}
        "auto": CUDA where there is a device that the library can use.
    is_built_for_cuda : callable or None
        Whether the installed library can use CUDA; None: it never can.

    Raises
    ------
    ValueError
        If CUDA is wanted and is not there.
    """
    if wanted == "cpu":
        return "cpu"
    lacking = (
        "the installed library is built without CUDA"
        if is_built_for_cuda is None
        else "no CUDA device was found"
        if count_cuda_devices() == 0
        else ""
        if is_built_for_cuda()
        else "the installed library is built without CUDA"
    )
    if wanted == "cuda" and lacking:
        raise ValueError(f"`device` must be there, was 'cuda', but {lacking}; use auto or cpu.")
    return "cpu" if lacking else "cuda"


def count_cuda_devices() -> int:
    """CUDA devices that the driver of this machine shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    n = ctypes.c_int(0)
    is_found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(n)) == 0
    return n.value if is_found else 0
