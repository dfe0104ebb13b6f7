"""Drivers: which columns a shift is made of, and since when.

Lives here: the share of each column. Not here: whether there is drift at all (`judgement`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from hf_pipelines.research.drift.change_point import changed_since
from hf_pipelines.research.drift.histograms import SessionHistograms
from hf_pipelines.research.drift.judgement import DRIFTED


def add_drivers(
    columns: pl.DataFrame, reference: SessionHistograms, later: SessionHistograms, importance: Mapping[str, float]
) -> pl.DataFrame:
    """What each column has to do with the shift.

    Parameters
    ----------
    columns : DataFrame
        Of a `Drift`.
    reference, later : SessionHistograms
        That it was made of.
    importance : mapping of str to float
        Of columns, at least 0; one that is not named has none. Empty: all count alike.

    Returns
    -------
    DataFrame
        With `importance`; `share`, of the shifts beyond what windows of the reference have on average, each times its importance: 1 in all,
        null where a column is not judged or nothing shifts; `since`, of a column that has drifted.
    """
    weights = [importance.get(name, 0.0) if importance else 1.0 for name in columns["column"]]
    excess = columns["shift"].fill_null(0.0).to_numpy() - 1.0
    is_judged = columns["p"].is_not_null().to_numpy()
    parts = np.where(is_judged, np.maximum(excess, 0.0), 0.0) * np.array(weights)
    whole = float(parts.sum())
    known = [
        float(part) / whole if whole > 0.0 and judged else None for part, judged in zip(parts, is_judged, strict=True)
    ]
    since = [
        changed_since(reference, later, name) if verdict == DRIFTED else None
        for name, verdict in columns.select("column", "verdict").rows()
    ]
    return columns.with_columns(
        pl.Series("importance", [importance.get(name) for name in columns["column"]], dtype=pl.Float64),
        pl.Series("share", known, dtype=pl.Float64),
        pl.Series("since", since, dtype=pl.Date),
    )
