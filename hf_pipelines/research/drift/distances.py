"""Distances: how far the values of some sessions are from those of a reference, by counts in common bins.

Lives here: the population stability index, the Kolmogorov-Smirnov and the Wasserstein distance. Not here: from where on a distance is
drift (`judgement`): the index of a short window of stationary values is above the field's 0.2 more often than not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.drift.histograms import Floats

# Rows that the window is believed to hold besides its own, distributed as window and reference together: no bin of it is empty.
PRIOR_ROWS = 1.0


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances of columns, each an array of shape (..., n_columns).

    Attributes
    ----------
    stability : array
        Population stability index, missing values as a bin of their own: sum of (window - reference) * log(window / reference) over shares;
        0.1 and 0.2 are the field's bands. NaN where one side has no row.
    largest_gap : array
        Kolmogorov-Smirnov distance of the binned values, 0 to 1; NaN where one side has no value.
    transport : array
        Wasserstein distance of the binned values, in standard deviations of the reference; NaN where one side has no value.
    """

    stability: Floats
    largest_gap: Floats
    transport: Floats


def distances(window: Floats, reference: Floats, centres: Floats) -> Distances:
    """Distances between two sums of counts.

    Parameters
    ----------
    window, reference : array of shape (..., n_columns, N_BINS + 1)
        As of `SessionHistograms.counts`, summed over sessions.
    centres : array of shape (n_columns, N_BINS)
        Of the bins.

    Returns
    -------
    Distances
        NaN where they are undefined.

    Examples
    --------
    Shares of 0.5 and 0.5 against 0.8 and 0.2: the index is 0.3 ln(1.6) + 0.3 ln(2.5), but for the row that is believed.

    >>> import polars as pl
    >>> from hf_pipelines.research.drift import reference_bins, session_histograms
    >>> bins = reference_bins(pl.DataFrame({"x": [0.0] * 80 + [1.0] * 20}), ["x"])
    >>> both = pl.DataFrame({"session": ["now"] * 100 + ["then"] * 100, "x": [0.0] * 50 + [1.0] * 50 + [0.0] * 80 + [1.0] * 20})
    >>> now, then = session_histograms(both, bins).counts
    >>> found = distances(now, then, bins.centres)
    >>> found.stability.round(2).item(), found.largest_gap.round(2).item()
    (0.41, 0.3)

    References
    ----------
    Siddiqi (2006), "Credit Risk Scorecards", for the index; Ramdas, Garcia & Cuturi (2017), "On Wasserstein Two-Sample Testing and Related
    Families of Nonparametric Tests", Entropy 19(2), for the two others.
    """
    rows, of_reference = window.sum(axis=-1, keepdims=True), reference.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = (window + reference) / (rows + of_reference)
        here = (window + PRIOR_ROWS * pooled) / (rows + PRIOR_ROWS)
        there = (reference + PRIOR_ROWS * pooled) / (of_reference + PRIOR_ROWS)
        terms = np.where(pooled > 0.0, (here - there) * np.log(here / there), 0.0)
        stability = np.where((rows > 0.0) & (of_reference > 0.0), terms.sum(axis=-1, keepdims=True), np.nan)[..., 0]
        known, known_there = window[..., :-1], reference[..., :-1]
        gaps = np.abs(
            np.cumsum(
                known / known.sum(axis=-1, keepdims=True) - known_there / known_there.sum(axis=-1, keepdims=True),
                axis=-1,
            )
        )
    steps = np.diff(centres, axis=-1).clip(min=0.0)
    return Distances(stability, gaps.max(axis=-1), (gaps[..., :-1] * steps).sum(axis=-1))
