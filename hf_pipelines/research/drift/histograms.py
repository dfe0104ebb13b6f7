"""Histograms of sessions: how many values of each column fell into each bin, session by session.

Whatever is resampled or compared later is a sum of these, so no value is read twice.

Lives here: bins of a reference, counts of any sessions in them. Not here: what two sums of counts differ by (`distances`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of known values, as many as the field's bands of the stability index are meant for; one more holds what is missing.
N_BINS = 10

# A column of fewer different values has a bin of each, and one of what lies between.
FEW_VALUES = N_BINS // 2 - 1


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins of some columns, made of the values of a reference.

    Attributes
    ----------
    names : tuple of str
        Columns.
    edges : tuple of arrays
        Of each column, ascending; a value that equals an edge is above it. At most `N_BINS` - 1.
    centres : array of shape (n_columns, N_BINS)
        Mean of the reference's values in each bin, in standard deviations of the reference, ascending; in units of the column where
        the reference is constant; 0 of bins that the column does not have.
    is_constant : array of bool, of shape (n_columns,)
        Whether the reference has one value alone, or none.
    """

    names: tuple[str, ...]
    edges: tuple[Floats, ...]
    centres: Floats
    is_constant: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SessionHistograms:
    """Counts of sessions.

    Attributes
    ----------
    bins : Bins
    sessions : tuple of date
        Ascending.
    counts : array of shape (n_sessions, n_columns, N_BINS + 1)
        Rows in each bin; the last bin holds those without a finite value.
    """

    bins: Bins
    sessions: tuple[date, ...]
    counts: Floats

    def last(self, n_sessions: int) -> SessionHistograms:
        """The last sessions alone."""
        return SessionHistograms(self.bins, self.sessions[-n_sessions:], self.counts[-n_sessions:])

    def between(self, first: date, last: date) -> SessionHistograms:
        """Sessions from `first` to `last`, both included."""
        kept = [place for place, session in enumerate(self.sessions) if first <= session <= last]
        return SessionHistograms(self.bins, tuple(self.sessions[place] for place in kept), self.counts[kept])


def reference_bins(frame: pl.DataFrame, names: Sequence[str]) -> Bins:
    """Bins that hold about as many values of a reference each; one for each value of a column that has few.

    Parameters
    ----------
    frame : DataFrame
        Rows of the reference; null, NaN and infinite values are missing.
    names : sequence of str
        Columns of numbers.

    Returns
    -------
    Bins

    Raises
    ------
    ValueError
        If a column is not there or is none of numbers.

    Examples
    --------
    >>> bins = reference_bins(pl.DataFrame({"x": [0.0, 1.0, 1.0, 0.0]}), ["x"])
    >>> bins.edges[0].round(3).tolist(), bool(bins.is_constant[0])
    ([0.0, 0.0, 1.0, 1.0], False)
    """
    _require_numbers(frame, names)
    edges, centres = [], np.zeros((len(names), N_BINS))
    is_constant = np.zeros(len(names), dtype=bool)
    for place, name in enumerate(names):
        values = _values(frame, name)
        values = values[np.isfinite(values)]
        own = _edges(values)
        edges.append(own)
        is_constant[place] = len(values) == 0 or values.min() == values.max()
        centres[place, : len(own) + 1] = _centres(values, own)
    return Bins(tuple(names), tuple(edges), centres, is_constant)


def session_histograms(frame: pl.DataFrame, bins: Bins, *, sessions: Sequence[date] | None = None) -> SessionHistograms:
    """Count the rows of each session in the bins of each column.

    Parameters
    ----------
    frame : DataFrame
        `session` and the columns of the bins; a column that is not there is missing in each row.
    bins : Bins
        From `reference_bins`.
    sessions : sequence of date, optional
        Ascending; one without a row counts nothing. Default those of the frame.

    Returns
    -------
    SessionHistograms

    Raises
    ------
    ValueError
        If there is no column `session`, one of the columns is none of numbers, or a row is of a session that is not among `sessions`.
    """
    if "session" not in frame.columns:
        raise ValueError(f"`frame` must have a column session, had {frame.columns}.")
    _require_numbers(frame, [name for name in bins.names if name in frame.columns])
    own = frame["session"].unique().sort().to_list()
    kept = own if sessions is None else list(sessions)
    if unknown := sorted(set(own) - set(kept)):
        raise ValueError(f"`frame` must hold rows of `sessions` alone, had rows of {unknown[0]}.")
    places = {session: place for place, session in enumerate(kept)}
    of_row = frame["session"].replace_strict(places, return_dtype=pl.Int64).to_numpy() if kept else np.zeros(0, int)
    counts = np.zeros((len(kept), len(bins.names), N_BINS + 1))
    for column, (name, edges) in enumerate(zip(bins.names, bins.edges, strict=True)):
        if name in frame.columns:
            values = _values(frame, name)
            codes = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), N_BINS)
        else:
            codes = np.full(frame.height, N_BINS)
        found = np.bincount(of_row * (N_BINS + 1) + codes, minlength=len(kept) * (N_BINS + 1))
        counts[:, column] = found.reshape(len(kept), N_BINS + 1)
    return SessionHistograms(bins, tuple(kept), counts)


def _require_numbers(frame: pl.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise ValueError(f"`frame` must have the column {name}, had {frame.columns}.")
        if not (frame.schema[name].is_numeric() or frame.schema[name] in (pl.Boolean, pl.Null)):
            raise ValueError(f"`{name}` must be a column of numbers, was of {frame.schema[name]}; leave it out.")


def _values(frame: pl.DataFrame, name: str) -> Floats:
    return frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _edges(values: Floats) -> Floats:
    if not len(values):
        return np.zeros(0)
    edges = np.unique(np.quantile(values, np.arange(1, N_BINS) / N_BINS, method="lower"))
    if len(edges) <= FEW_VALUES:
        # Quantiles of few values miss the rare ones.
        distinct = np.unique(values)
        if len(distinct) <= FEW_VALUES:
            return np.unique(np.concatenate([distinct, np.nextafter(distinct, np.inf)]))
    return edges


def _centres(values: Floats, edges: Floats) -> Floats:
    if not len(values):
        return np.zeros(1)
    code = np.searchsorted(edges, values, side="right")
    n = np.bincount(code, minlength=len(edges) + 1)
    middles = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2.0, edges[-1:]])
    with np.errstate(invalid="ignore"):
        means = np.where(n > 0, np.bincount(code, weights=values, minlength=len(n)) / np.maximum(n, 1), middles)
    deviation = float(values.std())
    # What is left of equal values is rounding.
    unit = deviation if deviation > 1e-12 * (1.0 + float(np.abs(values).max())) else 1.0
    return np.maximum.accumulate(means / unit)
