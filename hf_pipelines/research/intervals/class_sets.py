"""Class sets: the classes that cannot be ruled out, by the probability of each or by those of the likelier ones together.

Lives here: scores and sets of rows. Not here: thresholds (`thresholds`).

References
----------
Sadinle, Lei & Wasserman (2019), "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", JASA 114(525): LAC. Romano, Sesia &
Candès (2020), "Classification with Valid and Adaptive Coverage", NeurIPS: APS. There a random share of the class's own probability counts;
here one half does, so that the same predictions give the same sets. Any score that treats all rows alike covers as promised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hf_pipelines.research.fold_calibration import UNCALIBRATED
from hf_pipelines.research.intervals.method import CLASS_SET, SEPARATOR, Floats

# Sums of probabilities that differ by less are equal.
ROUNDING = 1e-12


def lac_scores(predictions: pl.DataFrame, coverage: float, classes: Sequence[str]) -> Floats:
    """1 less the probability of the class that occurred."""
    probability = _probability(predictions, classes)
    return _where_scored(predictions, 1.0 - _of_outcome(probability, predictions), classes)


def lac_sets(
    predictions: pl.DataFrame, thresholds: Floats, coverage: float, classes: Sequence[str]
) -> dict[str, pl.Series]:
    """Classes of which 1 less the probability is not above the threshold: none where no class is likely enough."""
    probability = _probability(predictions, classes)
    return _columns(1.0 - probability <= thresholds[:, None] + ROUNDING, probability, thresholds, classes)


def aps_scores(predictions: pl.DataFrame, coverage: float, classes: Sequence[str]) -> Floats:
    """Probability of all likelier classes than the one that occurred, and half of its own."""
    probability = _probability(predictions, classes)
    return _where_scored(predictions, _of_outcome(_likelier(probability), predictions), classes)


def aps_sets(
    predictions: pl.DataFrame, thresholds: Floats, coverage: float, classes: Sequence[str]
) -> dict[str, pl.Series]:
    """The likeliest classes, as long as the likelier ones and half of their own do not exceed the threshold; one at least."""
    probability = _probability(predictions, classes)
    is_in = _likelier(probability) <= thresholds[:, None] + ROUNDING
    is_in[np.arange(len(is_in)), np.where(np.isnan(probability), 0.0, probability).argmax(axis=1)] = True
    return _columns(is_in, probability, thresholds, classes)


def _probability(predictions: pl.DataFrame, classes: Sequence[str]) -> Floats:
    return predictions.select(pl.col(f"probability_{each}").cast(pl.Float64) for each in classes).to_numpy()


def _of_outcome(values: Floats, predictions: pl.DataFrame) -> Floats:
    codes = predictions["y"].cast(pl.Float64).to_numpy()
    known = np.isfinite(codes)
    chosen = values[np.arange(len(values)), np.where(known, codes, 0.0).astype(int)]
    return np.where(known, chosen, np.nan)


def _likelier(probability: Floats) -> Floats:
    """Of each class the probability of the likelier ones and half of its own; of equal ones the first is taken for likelier."""
    order = np.argsort(-probability, axis=1, kind="stable")
    together = np.cumsum(np.take_along_axis(probability, order, axis=1), axis=1)
    found = np.empty_like(probability)
    np.put_along_axis(found, order, together, axis=1)
    return found - probability / 2.0


def _where_scored(predictions: pl.DataFrame, scores: Floats, classes: Sequence[str]) -> Floats:
    """Without rows whose probabilities were left uncalibrated where others were not: they are on another scale."""
    column = f"{UNCALIBRATED}{classes[0]}"
    if column not in predictions.columns or predictions[column].null_count() == predictions.height:
        return scores
    return np.where(predictions[column].is_not_null().to_numpy(), scores, np.nan)


def _columns(
    is_in: np.ndarray, probability: Floats, thresholds: Floats, classes: Sequence[str]
) -> dict[str, pl.Series]:
    known = np.isfinite(probability).all(axis=1) & ~np.isnan(thresholds)
    code = (is_in * (1 << np.arange(len(classes)))).sum(axis=1)
    used, place = np.unique(code, return_inverse=True)
    words = [SEPARATOR.join(name for at, name in enumerate(classes) if each >> at & 1) for each in used.tolist()]
    sets = pl.Series(CLASS_SET, words, dtype=pl.String).gather(place)
    return {CLASS_SET: pl.select(pl.when(pl.Series(known)).then(sets).otherwise(None)).to_series().alias(CLASS_SET)}
