"""Kept bins: training rows as a library bins them, for all fits on the very same rows.

Lives here: keeping and lending them. Does not live here: how a library makes bins (a module each), which fits share rows.

Bins of rows know the values of these rows, so they serve fits on exactly these: other parameters, other quantiles, never another
fold. That holds by construction, since they are found by the content of the rows.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class KeptBins:
    """The bins that were used last, for fits to come; hand one to every `Setup` of a study.

    Parameters
    ----------
    most : int
        Training sets whose bins are kept, at least 1; one a fold for the trials of a cross-validation. Each takes about a byte a value.

    Attributes
    ----------
    n_made, n_reused : int
        How often bins were made, and how often kept ones served.
    """

    def __init__(self, most: int = 1) -> None:
        if most < 1:
            raise ValueError(f"`most` must be at least 1, was {most}.")
        self.most = most
        self.n_made = self.n_reused = 0
        self._kept: dict[str, Any] = {}
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, key: str, make: Callable[[], Any]) -> Iterator[Any]:
        """Bins of a key, kept or made anew; nobody else has them meanwhile, for a library may write into them."""
        with self._lock:
            found = self._kept.pop(key, None)
            self.n_reused += found is not None
            self.n_made += found is None
        bins = make() if found is None else found
        yield bins
        # What a fit that failed has left is not kept.
        with self._lock:
            self._kept[key] = bins
            while len(self._kept) > self.most:
                del self._kept[next(iter(self._kept))]


def rows_key(*arrays: np.ndarray) -> str:
    """SHA-256 of the types, shapes and values of some arrays."""
    digest = hashlib.sha256()
    for each in arrays:
        digest.update(f"{each.dtype}{each.shape}".encode())
        digest.update(np.ascontiguousarray(each).data)
    return digest.hexdigest()
