"""Holm: p-values of several tests, so that any false finding among them is as rare as one test says.

Lives here: the adjustment. Not here: the tests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def adjust_holm(p: ArrayLike) -> NDArray[np.float64]:
    """p-values of a family of tests, adjusted: below 5 % of all of them together.

    Parameters
    ----------
    p : array of shape (n_tests,)
        Between 0 and 1; NaN of what was not tested, which stays NaN and does not count.

    Returns
    -------
    array of shape (n_tests,), float64
        At least `p`, at most 1.

    Raises
    ------
    ValueError
        If one lies outside.

    References
    ----------
    Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6(2).

    Examples
    --------
    >>> adjust_holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, dtype=np.float64)
    if ((given < 0.0) | (given > 1.0)).any():
        raise ValueError(f"`p` must be between 0 and 1, was {given[(given < 0.0) | (given > 1.0)][:5].tolist()}.")
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    adjusted = np.full(given.shape, np.nan)
    scaled = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
