"""Turning points: the nearest value of a single feature at which a prediction has another sign.

References
----------
Wachter, Mittelstadt & Russell (2018), "Counterfactual Explanations without Opening the Black Box", Harvard J. Law & Technology 31(2). There any
features may change together; here one does, to a value that it had in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.explanations.contributions import Ask

# Values of a feature that are tried: percentiles of the training rows.
N_TRIED = 101


@dataclass(frozen=True)
class Turn:
    """A change of one feature that turns the sign of a prediction.

    Attributes
    ----------
    feature : str
    value : float
        That the feature would have to have.
    percentile : float
        Of that value among the training rows, from 0 to 1.
    distance : float
        How far the value is from the row's own, in percentiles of the training rows, from 0 to 1.
    prediction : float
        That the row then has.
    """

    feature: str
    value: float
    percentile: float
    distance: float
    prediction: float


def percentile_of(values: npt.NDArray[np.float32], value: float) -> float:
    """Share of known training values below a value, equal ones counted half; NaN of an unknown value.

    Parameters
    ----------
    values : float32 array of shape (n_training,)
        Training values, NaN where unknown.
    value : float
        In the unit of the values.

    Returns
    -------
    float
        A fraction from 0 to 1.

    Examples
    --------
    >>> percentile_of(np.array([1.0, 2.0, 2.0, np.nan, 4.0], dtype=np.float32), 2.0)
    0.5
    """
    known = values[~np.isnan(values)]
    if np.isnan(value) or not len(known):
        return float("nan")
    return float(((known < value).sum() + (known == value).sum() / 2.0) / len(known))


def nearest_turns(
    ask: Ask,
    row: npt.NDArray[np.float32],
    training: npt.NDArray[np.float32],
    names: Sequence[str],
    *,
    level: float = 0.0,
) -> list[Turn]:
    """For each feature that can alone bring the prediction to the other side of `level`, the nearest value that does.

    Values between the smallest and the largest of the training rows are tried, at their percentiles: what lies outside was never
    seen, and what a model says of it is no explanation.

    Parameters
    ----------
    ask : callable
        As for `permutation_contributions`.
    row : float32 array of shape (n_features,)
    training : float32 array of shape (n_training, n_features)
    names : sequence of str
    level : float
        Such as 0 between a long and a short prediction.

    Returns
    -------
    list of Turn
        The nearest first. Empty if no single feature is enough.
    """
    row = np.asarray(row, dtype=np.float32)
    own = float(np.asarray(ask(row[None, :]))[0])
    found = []
    for at, name in enumerate(names):
        known = training[~np.isnan(training[:, at]), at]
        if not len(known):
            continue
        shares = np.linspace(0.0, 1.0, N_TRIED)
        values = np.quantile(known, shares).astype(np.float32)
        tried = np.repeat(row[None, :], N_TRIED, axis=0)
        tried[:, at] = values
        predicted = np.asarray(ask(tried), dtype=np.float64)
        turns = np.flatnonzero((predicted > level) != (own > level))
        if not len(turns):
            continue
        place = percentile_of(training[:, at], float(row[at]))
        places = np.array([percentile_of(training[:, at], float(values[each])) for each in turns])
        # An unknown value is as far from every known one.
        distances = np.abs(places - place) if np.isfinite(place) else np.ones(len(turns))
        nearest = int(np.argmin(distances))
        which = turns[nearest]
        found.append(
            Turn(name, float(values[which]), float(places[nearest]), float(distances[nearest]), float(predicted[which]))
        )
    return sorted(found, key=lambda each: (each.distance, each.feature))
