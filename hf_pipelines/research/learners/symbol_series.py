"""Series of a symbol: learners that fit one model of a time series to each symbol, and filter it forward.

Lives here: what such learners share: the series of the training rows, fits side by side, windows of the rows to predict, the
file, the counts. Not here: any model (`arima`, `kalman`, `garch`).

**What is modelled.** The label of a row ends after it, so labels cannot be filtered forward. What is modelled is a feature that
is known at its row: the return of one bar (`feature`, by default `return_1`), a value a bar. A prediction is what the model
forecasts of the next `horizon_bars` values, in the units of the target, with no calibration and without reading a label: the
sum of the returns for a target of a return, the root of the mean of their squares for one of volatility. Targets that it does
not stand for are refused, and so is preprocessing that changes units. (A return over h bars is the product of the growths, less one;
it differs from the sum by some h^2 / 2 times the squared mean return of a bar, which is no more than 1e-5 of what is usual.)

**When it is estimated.** Once a fold, of each symbol, on the values at the training rows. In a test block nothing is estimated.

**What a prediction reads.** The values of the row's bar and of the `history_bars` before it, no other. The filter begins anew at the
first of them, from the distribution that the parameters give (that of a stationary process, or the variance of the training
residuals), so a prediction does not depend on how much more was loaded, and a later value changes nothing.

**Gaps.** A bar without a row (a halt, or a row that was left out because a feature is unknown) and an unknown value are missing
observations: the filter goes on by what it expects of them. The return after a halt counts as that of one bar. Where fewer than half
of the window's values are known there is no prediction (NaN).

**What cannot be fitted.** A symbol whose training values are fewer than `minimum_bars`, all equal, whose estimate does not converge, or whose filter is not stable is
counted in the report by its reason, and its predictions are NaN; so are those of a symbol that was not in training. If no symbol
can be fitted, it is an error.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.learners.learner import Learner, ModelFormat, Rows, Setup, TrainingRows
from hf_pipelines.research.params import Number, Param, Text
from hf_pipelines.research.targets import Target

Floats: TypeAlias = npt.NDArray[np.float64]
Params: TypeAlias = Mapping[str, Any]

# Numbers of a fitted model, by name: what its file holds.
State: TypeAlias = dict[str, Any]

TOO_SHORT, CONSTANT, NOT_CONVERGED, UNSTABLE = "too short", "constant", "not converged", "unstable"
_REASONS = (TOO_SHORT, CONSTANT, NOT_CONVERGED, UNSTABLE)

# With less than half of its window a forecast is mostly that of the training rows as a whole.
_LEAST_KNOWN = 0.5

# Starting a process and importing a library in it takes as long as some thirty fits.
_FITS_WORTH_PROCESSES = 32

# Symbols that a report names for each reason.
_NAMED = 5

SERIES_PARAMS: dict[str, Param] = {
    "feature": Text(
        pattern=r"[A-Za-z][\w/]*",
        default="return_1",
        meaning="the feature whose series is modelled: the return of one bar",
    ),
    "horizon_bars": Number(
        default=1, low=1, high=10_080, is_whole=True, meaning="bars ahead that are forecast: those of the target"
    ),
    "history_bars": Number(
        default=120, low=5, high=5_000, is_whole=True, meaning="bars before a row that its prediction reads"
    ),
    "minimum_bars": Number(
        default=60, low=20, high=100_000, is_whole=True, meaning="known training values that a symbol must have"
    ),
}


@dataclass(frozen=True)
class Numbers:
    """Which numbers a field of a model's file may hold.

    Attributes
    ----------
    low, high : float
    most : int
        How many, as a list; 0 for a single number.
    """

    low: float
    high: float
    most: int = 0


@dataclass(frozen=True)
class SeriesModel:
    """A model of one series.

    Attributes
    ----------
    name : str
        Of the learner.
    fit : callable
        `(values, every parameter) -> State`, or in words why it could not be fitted. `values` by bar, NaN where unknown, scaled to a
        standard deviation of 1; the mean is not taken off.
    forecast : callable
        `(State, windows, horizon, scale) -> array`: of windows of values as they are, of shape (n_windows, n_bars), NaN where unknown.
    fields : mapping of str to Numbers
        What a `State` holds.
    check : callable
        Raises ValueError for numbers that no fit gives, such as an explosive process.
    target : str
        Key in `TARGETS` of what it forecasts.
    """

    name: str
    fit: Callable[[Floats, Params], State | str]
    forecast: Callable[[State, Floats, int, float], Floats]
    fields: Mapping[str, Numbers]
    check: Callable[[State], None]
    target: str


class SymbolModels:
    """One model for each symbol.

    Parameters
    ----------
    model : SeriesModel
    params : mapping
        Every parameter.
    setup : Setup

    Attributes
    ----------
    states_ : dict of symbol to State
        With `scale`: what values were divided by.
    unfitted_ : dict of symbol to str
        Why it has none.
    """

    def __init__(self, model: SeriesModel, params: Params, setup: Setup) -> None:
        self.model = model
        self.params = params
        self.setup = setup

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's, so that it can be cloned."""
        return {"model": self.model, "params": self.params, "setup": self.setup}

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> SymbolModels:
        """Estimate the model of each symbol on its training rows that have a weight.

        Raises
        ------
        ValueError
            If the feature is not there, or no symbol can be fitted.
        """
        weighted = rows.take(rows.weight > 0.0)
        series = {symbol: _by_bar(bars, values) for symbol, bars, values in self._series(weighted)}
        found = self._fit_all(list(series.values()))
        self.states_ = {name: each for name, each in zip(series, found, strict=True) if not isinstance(each, str)}
        self.unfitted_ = {name: each for name, each in zip(series, found, strict=True) if isinstance(each, str)}
        if not self.states_:
            raise ValueError(
                f"`{self.params['feature']}` must have at least one symbol whose training rows {self.model.name!r} can be fitted to, "
                f"was {self._reasons()}; train on more weeks, lower `minimum_bars` ({self.params['minimum_bars']}), or take "
                "another feature."
            )
        return self

    def predict(self, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """Forecasts of the rows that are wanted."""
        found = np.full(len(rows), np.nan)
        n_bars = self.params["history_bars"] + 1
        every_bar, every_value = rows.keys["bar"].to_numpy().astype(np.int64), self._values(rows)
        for symbol, index in _rows_by_symbol(rows):
            state, is_wanted = self.states_.get(symbol), wanted[index]
            if state is None or not is_wanted.any():
                continue
            bars = every_bar[index]
            first = int(bars[is_wanted].min()) - n_bars + 1
            is_read = bars >= first
            values = _by_bar(bars[is_read], every_value[index[is_read]], first=first)
            windows = np.lib.stride_tricks.sliding_window_view(values, n_bars)[bars[is_wanted] - n_bars + 1 - first]
            is_enough = np.isfinite(windows).mean(axis=1) >= _LEAST_KNOWN
            at = index[is_wanted][is_enough]
            found[at] = self.model.forecast(state, windows[is_enough], self.params["horizon_bars"], state["scale"])
        return found[wanted]

    def report(self) -> dict[str, Any]:
        """How many symbols were fitted, and the others by reason."""
        told: dict[str, Any] = {"symbols": len(self.states_) + len(self.unfitted_), "fitted": len(self.states_)}
        for reason in sorted({*self.unfitted_.values()}):
            names = sorted(name for name, each in self.unfitted_.items() if each == reason)
            told[reason.replace(" ", "_")] = {"symbols": len(names), "first": names[:_NAMED]}
        return told

    def _reasons(self) -> str:
        counts = Counter(self.unfitted_.values())
        return ", ".join(f"{reason} for {counts[reason]}" for reason in sorted(counts))

    def _fit_all(self, series: Sequence[Floats]) -> list[State | str]:
        """Fits, on processes where there are threads for them and enough to do; each is the same wherever it runs."""
        n_jobs = self.setup.n_threads if len(series) >= _FITS_WORTH_PROCESSES else 1
        if n_jobs == 1:
            return [fit_series(self.model, each, self.params) for each in series]
        from joblib import Parallel, delayed

        # Threads would wait for each other: these libraries are Python for the most part.
        calls = (delayed(fit_series)(self.model, each, self.params) for each in series)
        return list(Parallel(n_jobs=n_jobs, backend="loky", batch_size=4)(calls))

    def _values(self, rows: Rows) -> Floats:
        feature = self.params["feature"]
        if feature not in rows.names:
            raise ValueError(
                f"`feature` of {self.model.name!r} must be among the features that the learner gets ({', '.join(rows.names[:5])}, ...), "
                f"was {feature!r}; take one of them, or a preprocessing that keeps it."
            )
        return rows.X[:, rows.names.index(feature)].astype(np.float64)

    def _series(self, rows: Rows) -> list[tuple[str, npt.NDArray[np.int64], Floats]]:
        values, bars = self._values(rows), rows.keys["bar"].to_numpy().astype(np.int64)
        return [(symbol, bars[index], values[index]) for symbol, index in _rows_by_symbol(rows)]


def fit_series(model: SeriesModel, values: Floats, params: Params) -> State | str:
    """Estimate a model on one series, or say why not."""
    known = values[np.isfinite(values)]
    if len(known) < params["minimum_bars"]:
        return TOO_SHORT
    scale = float(known.std())
    # Rounding of float32 is no movement.
    if scale <= 1e-6 * float(np.abs(known).max()) or not math.isfinite(scale):
        return CONSTANT
    with one_blas_thread():
        found = model.fit(values / scale, params)
    if isinstance(found, str):
        return found
    state = {**found, "scale": scale}
    return state if _faults(state, model) is None else NOT_CONVERGED


def _rows_by_symbol(rows: Rows) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Row numbers of each symbol, in order of time; symbols in alphabetical order."""
    names, code = np.unique(rows.keys["symbol"].to_numpy().astype(str), return_inverse=True)
    order = np.argsort(code, kind="stable")
    ends = np.cumsum(np.bincount(code, minlength=len(names)))
    return [(str(name), index) for name, index in zip(names, np.split(order, ends[:-1]), strict=True)]


def _by_bar(bars: npt.NDArray[np.int64], values: Floats, *, first: int | None = None) -> Floats:
    """Values by number of bar from `first` on (default: that of the first row), NaN where there is none."""
    first = int(bars[0]) if first is None else first
    found = np.full(int(bars[-1]) - first + 1, np.nan)
    found[bars - first] = values
    return found


def _faults(state: State, model: SeriesModel) -> str | None:
    """What of a state no fit gives, in words."""
    fields = {**model.fields, "scale": Numbers(1e-300, 1e300)}
    if not isinstance(state, dict) or set(state) != set(fields):
        return f"fields other than {', '.join(fields)}"
    for name, allowed in fields.items():
        given = state[name]
        if isinstance(given, list) != bool(allowed.most) or (isinstance(given, list) and len(given) > allowed.most):
            return f"`{name}` of another form"
        for each in given if isinstance(given, list) else [given]:
            if type(each) not in (int, float) or not allowed.low <= each <= allowed.high:
                return f"`{name}` outside of {allowed.low:g} to {allowed.high:g}"
    try:
        model.check(state)
    except ValueError as e:
        return str(e)
    return None


def _save(estimator: SymbolModels) -> bytes:
    content = {"model": estimator.model.name, "symbols": estimator.states_, "unfitted": estimator.unfitted_}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _load(data: bytes, unfitted: SymbolModels) -> SymbolModels:
    """Return the estimator with the numbers of its file.

    Raises
    ------
    ValueError
        If the bytes are not such a file.
    """
    model = unfitted.model
    try:
        content = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"`data` must be JSON of a model {model.name!r}, was {len(data)} other bytes: {e}.") from e
    fault = _fault_of(content, model)
    if fault:
        raise ValueError(f"`data` must hold models {model.name!r} by symbol, was with {fault}.")
    unfitted.states_ = content["symbols"]
    unfitted.unfitted_ = content["unfitted"]
    return unfitted


def _fault_of(content: Any, model: SeriesModel) -> str | None:
    if not isinstance(content, dict) or set(content) != {"model", "symbols", "unfitted"}:
        return "fields other than model, symbols, unfitted"
    if content["model"] != model.name:
        return f"a model {str(content['model'])[:40]!r}"
    symbols, unfitted = content["symbols"], content["unfitted"]
    if not isinstance(symbols, dict) or not symbols or not isinstance(unfitted, dict):
        return "no symbols"
    if {*symbols} & {*unfitted} or not all(each in _REASONS for each in unfitted.values()):
        return "symbols that are unfitted for no known reason"
    for symbol, state in symbols.items():
        if fault := _faults(state, model):
            return f"{fault} of {symbol[:40]!r}"
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _report(estimator: SymbolModels) -> Mapping[str, Any]:
    return estimator.report()


def _history_bars(params: Params) -> int:
    return int(params["history_bars"])


def series_learner(
    model: SeriesModel,
    params: Mapping[str, Param],
    *,
    family: str,
    check: Callable[[Params], None] | None = None,
) -> Learner:
    """Entry of a learner that fits one model to each symbol.

    Parameters
    ----------
    model : SeriesModel
    params : mapping of str to Param
        Those beside `SERIES_PARAMS`.
    family, check
        As of any `Learner`.
    """

    def build(given: Params, setup: Setup) -> SymbolModels:
        return SymbolModels(model, given, setup)

    def require_target(given: Params, target: Target) -> None:
        ahead = given["horizon_bars"]
        if target.name != model.target or target.horizon_bars != ahead:
            raise ValueError(
                f"`target` must be {model.target} over the `horizon_bars` of learner {model.name!r} ({ahead}), which are what it "
                f"forecasts, was {target.name} over {target.horizon_bars}; write the same in both, or take another learner."
            )

    return Learner(
        name=model.name,
        family=family,
        tasks=frozenset({"regression"}),
        build=build,
        params={**SERIES_PARAMS, **params},
        format=ModelFormat("json", _save, _load),
        check=check,
        is_keyed=True,
        history_bars=_history_bars,
        handles_missing=True,
        takes_weights=False,
        is_divided=True,
        require_target=require_target,
        report=_report,
    )
