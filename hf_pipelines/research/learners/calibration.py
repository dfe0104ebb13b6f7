"""Calibration: predicted probabilities brought to what happened, on rows that the learner was not fitted on.

Lives here: the contract, the methods and their registry `CALIBRATIONS`. Not here: which rows those are (`validation_rows`).

References
----------
Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML: temperature scaling.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_pipelines.research.learners.learner import Estimator, ModelFormat, Setup
from hf_pipelines.research.params import Param

# Logarithms of temperatures that are tried: from a twentieth to twentyfold.
_LOG_RANGE = (-3.0, 3.0)
# A probability of 0 would rule a class out for any temperature.
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A map from probabilities to probabilities.

    Attributes
    ----------
    name : str
        Key in `CALIBRATIONS`.
    build : callable
        `(every parameter, Setup) -> calibrator`, not fitted, with `fit(probability, y, weight)` on the validation rows and
        `transform(probability)`; probabilities have shape (n_rows, n_classes), `y` holds class codes.
    params : mapping of str to Param
    format : ModelFormat
    """

    name: str
    build: Callable[[Mapping[str, Any], Setup], Estimator]
    params: Mapping[str, Param]
    format: ModelFormat


class Temperature:
    """Logarithms of the probabilities divided by one number: above 1 less sure, below 1 surer; no ranking changes.

    Attributes
    ----------
    temperature : float
    """

    def __init__(self) -> None:
        self.temperature = 1.0

    def fit(self, probability: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Temperature:
        """Find the temperature with the smallest log loss."""
        from scipy.optimize import minimize_scalar

        code = y.astype(int)
        rows = np.arange(len(code))

        def loss(logarithm: float) -> float:
            likely = _softened(probability, float(np.exp(logarithm)))[rows, code]
            return float(-(weight * np.log(np.maximum(likely, _LEAST_PROBABILITY))).sum() / weight.sum())

        self.temperature = float(np.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x))
        return self

    def transform(self, probability: np.ndarray) -> np.ndarray:
        """Probabilities at the temperature."""
        return _softened(probability, self.temperature)


def _softened(probability: np.ndarray, temperature: float) -> np.ndarray:
    logits = np.log(np.maximum(probability, _LEAST_PROBABILITY)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    raised = np.exp(logits)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def build_temperature(params: Mapping[str, Any], setup: Setup) -> Temperature:
    """Make an unfitted calibrator."""
    return Temperature()


def _save_temperature(calibrator: Temperature) -> bytes:
    return json.dumps({"temperature": calibrator.temperature}).encode()


def _load_temperature(data: bytes, unfitted: Temperature) -> Temperature:
    try:
        unfitted.temperature = float(json.loads(data)["temperature"])
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError(f"`data` must be a temperature in JSON, was {data[:60]!r}.") from e
    return unfitted


CALIBRATIONS: dict[str, Calibration] = {
    "temperature": Calibration(
        name="temperature",
        build=build_temperature,
        params={},
        format=ModelFormat("json", _save_temperature, _load_temperature),
    ),
}
