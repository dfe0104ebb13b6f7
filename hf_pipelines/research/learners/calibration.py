"""Calibration: predicted probabilities brought to what happened, on rows that the learner was not fitted on.

Lives here: the contract, the methods and their registry `CALIBRATIONS`. Not here: which rows those are (`validation_rows`,
`fold_calibration`), how well probabilities fit (`reliability`).

Every method can leave probabilities as they are, and the curve of no class falls: what a learner knows of ranks stays. Classes count as
often as they occur: weights that balance them would make probabilities those of a balanced world.

References
----------
Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML: temperature scaling. Platt (1999), "Probabilistic Outputs for
Support Vector Machines", Advances in Large Margin Classifiers. Zadrozny & Elkan (2002), "Transforming Classifier Scores into Accurate
Multiclass Probability Estimates", KDD: isotonic regression, and one class against the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_pipelines.research.learners.learner import Estimator, ModelFormat, Setup
from hf_pipelines.research.params import Choice, Number, Param

# Logarithms of temperatures that are tried: from a twentieth to twentyfold.
_LOG_RANGE = (-3.0, 3.0)
# A probability of 0 would rule a class out for any temperature.
_LEAST_PROBABILITY = 1e-12

# What `fitted_on` may be.
VALIDATION, FOLDS = "validation", "folds"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A map from probabilities to probabilities.

    Attributes
    ----------
    name : str
        Key in `CALIBRATIONS`.
    build : callable
        `(every parameter, Setup) -> calibrator`, not fitted, with `fit(probability, y, weight)` on rows that the learner did not see
        and `transform(probability)`; probabilities have shape (n_rows, n_classes), `y` holds class codes.
    params : mapping of str to Param
        With `fitted_on` ("validation" or "folds") it can be fitted on out-of-fold predictions: then `transform` of one that was not
        fitted gives probabilities back as they are.
    format : ModelFormat
    report : callable, optional
        `calibrator -> mapping` of JSON values: what a fitted one tells.
    summary : str
        For people.
    """

    name: str
    build: Callable[[Mapping[str, Any], Setup], Estimator]
    params: Mapping[str, Param]
    format: ModelFormat
    report: Callable[[Estimator], Mapping[str, Any]] | None = None
    summary: str = ""


class _Calibrator:
    """What is fitted if there are rows enough, and else leaves probabilities as they are.

    Attributes
    ----------
    min_rows : int
    n_rows : int
        Rows that it was fitted on.
    reason : str
        Why it leaves them as they are; "" if it does not.
    """

    def __init__(self, min_rows: int) -> None:
        self.min_rows = min_rows
        self.n_rows = 0
        self.reason = "it was not fitted"

    def fit(self, probability: np.ndarray, y: np.ndarray, weight: np.ndarray) -> _Calibrator:
        """Fit on rows that the learner did not see."""
        codes = y.astype(int)
        self.n_rows = len(codes)
        self.reason = _lacking(codes, probability.shape[1], min_rows=self.min_rows)
        if not self.reason:
            self._fit(probability, codes, _as_they_occur(codes, weight))
        return self

    def transform(self, probability: np.ndarray) -> np.ndarray:
        """Calibrated probabilities; those given where there was nothing to fit."""
        return probability if self.reason else self._map(probability)

    def _fit(self, probability: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> None:
        raise NotImplementedError

    def _map(self, probability: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _state(self) -> dict[str, Any]:
        """What was fitted, as JSON values; attributes of these names."""
        raise NotImplementedError

    def _take(self, state: Mapping[str, Any]) -> None:
        """The other way round; a KeyError, TypeError or ValueError if it is none."""
        raise NotImplementedError


def _lacking(codes: np.ndarray, n_classes: int, *, min_rows: int) -> str:
    if len(codes) < min_rows:
        return f"{len(codes)} rows to fit it on are fewer than `min_rows` {min_rows}"
    there = len(np.unique(codes))
    return "" if there == n_classes else f"the rows to fit it on hold {there} of {n_classes} classes"


def _as_they_occur(codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights of which each class has as much as it has rows."""
    return np.asarray(weight * (np.bincount(codes) / np.bincount(codes, weights=weight))[codes])


class Temperature(_Calibrator):
    """Logarithms of the probabilities divided by one number: above 1 less sure, below 1 surer; no ranking changes.

    Attributes
    ----------
    temperature : float
    """

    def __init__(self, min_rows: int = 1) -> None:
        super().__init__(min_rows)
        self.temperature = 1.0

    def _fit(self, probability: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> None:
        """Find the temperature with the smallest log loss."""
        from scipy.optimize import minimize_scalar

        rows = np.arange(len(codes))

        def loss(logarithm: float) -> float:
            likely = _softened(probability, float(np.exp(logarithm)))[rows, codes]
            return float(-(weight * np.log(np.maximum(likely, _LEAST_PROBABILITY))).sum() / weight.sum())

        self.temperature = float(np.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x))

    def _map(self, probability: np.ndarray) -> np.ndarray:
        return _softened(probability, self.temperature)

    def _state(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def _take(self, state: Mapping[str, Any]) -> None:
        self.temperature = float(state["temperature"])


def _softened(probability: np.ndarray, temperature: float) -> np.ndarray:
    logits = np.log(np.maximum(probability, _LEAST_PROBABILITY)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    raised = np.exp(logits)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


class Sigmoid(_Calibrator):
    """Log odds of each class against the others, stretched by one number and shifted by another: Platt's method.

    Platt takes a score as it is; of probabilities the log odds, or a calibrated learner would be made worse.

    Attributes
    ----------
    slopes, offsets : list of float
        A pair for each class; of two classes for the second alone. A slope is not below 0: by chance it would turn a learner
        without skill upside down.
    """

    def __init__(self, min_rows: int = 1) -> None:
        super().__init__(min_rows)
        self.slopes: list[float] = []
        self.offsets: list[float] = []

    def _fit(self, probability: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> None:
        fits = [
            _fit_sigmoid(_log_odds(probability[:, code]), codes == code, weight)
            for code in _fitted_classes(probability.shape[1])
        ]
        self.slopes, self.offsets = [slope for slope, _ in fits], [offset for _, offset in fits]

    def _map(self, probability: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        codes = _fitted_classes(probability.shape[1])
        parts = zip(codes, self.slopes, self.offsets, strict=True)
        return _whole([expit(slope * _log_odds(probability[:, code]) + offset) for code, slope, offset in parts])

    def _state(self) -> dict[str, Any]:
        return {"slopes": self.slopes, "offsets": self.offsets}

    def _take(self, state: Mapping[str, Any]) -> None:
        self.slopes, self.offsets = _numbers(state["slopes"]), _numbers(state["offsets"])


class Isotonic(_Calibrator):
    """Shares of each class by its probability, a curve of steps that only rises; of few rows it fits chance.

    Attributes
    ----------
    curves : list of pair of list of float
        Probabilities and the shares there, straight between them; a curve for each class, of two classes for the second alone.
    """

    def __init__(self, min_rows: int = 1) -> None:
        super().__init__(min_rows)
        self.curves: list[tuple[list[float], list[float]]] = []

    def _fit(self, probability: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> None:
        from sklearn.isotonic import IsotonicRegression

        # A share of 0 or 1 of so many rows is no certainty.
        least = 1.0 / (len(codes) + 2.0)
        self.curves = []
        for code in _fitted_classes(probability.shape[1]):
            fitted = IsotonicRegression(y_min=least, y_max=1.0 - least, out_of_bounds="clip")
            fitted.fit(
                probability[:, code].astype(np.float64), (codes == code).astype(np.float64), sample_weight=weight
            )
            self.curves.append((fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist()))

    def _map(self, probability: np.ndarray) -> np.ndarray:
        parts = zip(_fitted_classes(probability.shape[1]), self.curves, strict=True)
        return _whole([np.interp(probability[:, code], at, share) for code, (at, share) in parts])

    def _state(self) -> dict[str, Any]:
        return {"curves": self.curves}

    def _take(self, state: Mapping[str, Any]) -> None:
        self.curves = [(_numbers(at), _numbers(share)) for at, share in state["curves"]]
        if any(len(at) != len(share) or not at or at != sorted(at) for at, share in self.curves):
            raise ValueError("a curve must have a share for each probability, ascending")


def _fitted_classes(n_classes: int) -> range:
    """Codes of the classes that a curve is fitted for: of two the second alone, the first is the rest."""
    return range(1, 2) if n_classes == 2 else range(n_classes)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    known = np.clip(probability.astype(np.float64), _LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY)
    return np.asarray(np.log(known) - np.log1p(-known))


def _whole(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Probabilities of all classes that add up to 1, out of those of each against the others."""
    if len(parts) == 1:
        return np.column_stack([1.0 - parts[0], parts[0]])
    each = np.column_stack(parts)
    total = each.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(each, total, out=np.full_like(each, 1.0 / len(parts)), where=total > 0.0))


def _fit_sigmoid(odds: np.ndarray, is_class: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and offset with the smallest log loss, of Platt's targets: a little off 0 and 1, the more the fewer rows."""
    from scipy.optimize import minimize
    from scipy.special import expit

    of_class, of_others = float(weight[is_class].sum()), float(weight[~is_class].sum())
    aim = np.where(is_class, (of_class + 1.0) / (of_class + 2.0), 1.0 / (of_others + 2.0))
    # The loss of values of a size of 1 is as steep in the slope as in the offset.
    scale = max(float(np.abs(odds).max()), 1.0)
    x = odds / scale

    def loss(slope_and_offset: np.ndarray) -> tuple[float, np.ndarray]:
        z = slope_and_offset[0] * x + slope_and_offset[1]
        gradient = weight * (expit(z) - aim)
        value = weight @ (np.logaddexp(0.0, z) - aim * z)
        return float(value), np.array([gradient @ x, gradient.sum()])

    begin = np.array([0.0, np.log((of_class + 1.0) / (of_others + 1.0))])
    options = {"gtol": 1e-6, "ftol": 64.0 * np.finfo(float).eps}
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)], options=options)
    return float(found.x[0]) / scale, float(found.x[1])


def _numbers(values: Any) -> list[float]:
    found = [float(each) for each in values]
    if not np.isfinite(found).all():
        raise ValueError("a number must be finite")
    return found


def _save(calibrator: _Calibrator) -> bytes:
    # Without a reason the same bytes as before there were reasons.
    told = {"n_rows": calibrator.n_rows, "reason": calibrator.reason}
    return json.dumps({**calibrator._state(), **told}).encode()


def _load(data: bytes, unfitted: _Calibrator) -> _Calibrator:
    try:
        state = json.loads(data)
        unfitted._take(state)
        # Absent in what was saved before rows could be too few.
        unfitted.n_rows, unfitted.reason = int(state.get("n_rows", 0)), str(state.get("reason", ""))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        name = type(unfitted).__name__.lower()
        raise ValueError(f"`data` must be a calibration of type {name} in JSON, was {data[:60]!r}.") from e
    return unfitted


def _report(calibrator: _Calibrator) -> dict[str, Any]:
    told = f"left as it is: {calibrator.reason}" if calibrator.reason else "fitted"
    numbers = {} if calibrator.reason or isinstance(calibrator, Isotonic) else calibrator._state()
    return {"calibration": told, "rows": calibrator.n_rows, **numbers}


_JSON = ModelFormat("json", _save, _load)


def _calibration(kind: type[_Calibrator], *, min_rows: int, why: str, summary: str) -> Calibration:
    """Entry of a kind of calibrator, under the name of its class.

    Parameters
    ----------
    kind : type
    min_rows : int
        Rows below which it leaves probabilities as they are, and `why` so many.
    """

    def build(params: Mapping[str, Any], setup: Setup) -> _Calibrator:
        return kind(params["min_rows"])

    meaning = f"rows to fit it on below which probabilities are left as they are: {why}"
    return Calibration(
        name=kind.__name__.lower(),
        build=build,
        params={
            "min_rows": Number(default=min_rows, low=2, high=10_000_000, is_whole=True, meaning=meaning),
            "fitted_on": Choice(
                default=VALIDATION,
                names=(VALIDATION, FOLDS),
                meaning="the latest training rows, kept apart from the learner, or what earlier folds predicted, which keeps none apart",
            ),
        },
        format=_JSON,
        report=_report,
        summary=summary,
    )


CALIBRATIONS: dict[str, Calibration] = {
    each.name: each
    for each in (
        _calibration(
            Temperature,
            min_rows=50,
            why="one number is fitted",
            summary="one number makes all probabilities less sure or surer",
        ),
        _calibration(
            Sigmoid,
            min_rows=100,
            why="two numbers are fitted for each class",
            summary="a slope and an offset of the log odds of each class (Platt)",
        ),
        _calibration(
            Isotonic,
            min_rows=1_000,
            why="of fewer a curve of steps fits chance",
            summary="a rising curve of steps for each class",
        ),
    )
}
