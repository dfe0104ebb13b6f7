"""The contract of learners: what an entry of `LEARNERS` declares, and the rows that it gets.

Lives here: the dataclasses, and the one call each by which an entry is fitted and asked. Not here: any particular learner
(one module each), the registry (`registry`), preprocessing and calibration around a learner (`pipeline`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np
import polars as pl

from hf_pipelines.research.learners.attribution import Attribution
from hf_pipelines.research.learners.kept_bins import KeptBins
from hf_pipelines.research.params import Param
from hf_pipelines.research.targets.target import Target

# A scikit-learn estimator: fit, predict, get_params, and predict_proba for a classifier. scikit-learn has no types. Of a
# keyed learner: `fit(rows, validation)`, `predict(rows, wanted)` and, for classes, `classes_` and `predict_proba(rows,
# wanted)`.
Estimator: TypeAlias = Any

Task = Literal["regression", "classification"]

# "point": `predict`, one number a row. "classes": `predict_proba`, a column a class. "quantiles": `predict_quantiles`, a
# column for each of its parameter `quantiles`. "horizons": training rows tell the horizon of their label in `keys`, and
# `predict` has a column for each of its parameter `horizons`.
Output = Literal["point", "classes", "quantiles", "horizons"]


class Progress(Protocol):
    """Where a long fit keeps its state and reports: what was killed goes on from there.

    `fit` is a hash of all that decides about the result (rows, parameters, seed): an ensemble has several fits.
    """

    def restore(self, fit: str) -> bytes | None:
        """State of this fit that was kept last; None at the first try."""

    def keep(self, fit: str, state: bytes) -> None:
        """Keep what the fit needs to go on to the same bits."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Report numbers of a step, such as the losses of an epoch."""


class _NoProgress:
    """Keeps nothing."""

    def restore(self, fit: str) -> bytes | None:
        return None

    def keep(self, fit: str, state: bytes) -> None:
        pass

    def log(self, step: int, values: Mapping[str, float]) -> None:
        pass


NO_PROGRESS: Progress = _NoProgress()


class LoggedProgress(_NoProgress):
    """Reports and keeps nothing.

    Parameters
    ----------
    log : callable
        `(step, numbers by their names)`.
    """

    def __init__(self, log: Callable[[int, Mapping[str, float]], None]) -> None:
        self._log = log

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, values)


@dataclass(frozen=True)
class PartProgress:
    """Progress of a learner inside of another one.

    Attributes
    ----------
    whole : Progress
        Keeps the states of all parts, each by its own hash.
    prefix : str or None
        Before the names of what is reported, such as `members.0.`; None: of a fit on parts of the rows, nothing is reported.
    """

    whole: Progress
    prefix: str | None

    def restore(self, fit: str) -> bytes | None:
        """As the whole."""
        return self.whole.restore(fit)

    def keep(self, fit: str, state: bytes) -> None:
        """As the whole."""
        self.whole.keep(fit, state)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """As the whole, under names of its own."""
        if self.prefix is not None:
            self.whole.log(step, {f"{self.prefix}{name}": value for name, value in values.items()})


@dataclass(frozen=True)
class Setup:
    """What an estimator is built for, besides its parameters.

    Attributes
    ----------
    task : {"regression", "classification"}
    seed : int
        Of everything random in the fit.
    n_threads : int
        Threads of one fit; the result does not depend on it.
    progress : Progress
        For fits of many steps.
    classes : tuple of str
        Names of the classes by their codes, each of which must have a training row. Empty of a regression, and where they are not
        known.
    bins : KeptBins, optional
        For fits of other parameters on the same rows: boosters bin them once. The result does not depend on it.
    """

    task: Task
    seed: int = 0
    n_threads: int = 1
    progress: Progress = NO_PROGRESS
    classes: tuple[str, ...] = ()
    bins: KeptBins | None = None


@dataclass(frozen=True)
class Rows:
    """Rows to predict, or with `TrainingRows` to fit.

    Attributes
    ----------
    keys : DataFrame
        `symbol`, `session`, `ts`, and `bar`: the number of the row's `ts` among all times, so that neighbouring rows of a
        symbol differ by one, and by more across a gap. Training rows also `label_start` and `label_end`, and `horizon` of
        a target with several. Sorted by (ts, symbol).
    X : ndarray of shape (n_rows, n_features), float32
    names : tuple of str
        Of the columns of `X`.
    """

    keys: pl.DataFrame
    X: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.X)

    @property
    def frame(self) -> pl.DataFrame:
        """Keys and features side by side."""
        columns = [pl.Series(name, self.X[:, at]) for at, name in enumerate(self.names)]
        return self.keys.with_columns(columns)

    def take(self, which: np.ndarray) -> Self:
        """The rows of a mask, or of row numbers in their order."""
        index = np.flatnonzero(which) if which.dtype == bool else which
        return replace(self, keys=self.keys[index], X=self.X[index])

    def with_features(self, X: np.ndarray, names: Sequence[str]) -> Self:
        """The same rows with other columns."""
        return replace(self, X=np.ascontiguousarray(X, dtype=np.float32), names=tuple(names))


@dataclass(frozen=True)
class TrainingRows(Rows):
    """Rows with what is learned from them.

    Attributes
    ----------
    y : ndarray of shape (n_rows,), float64
        Class codes or returns.
    weight : ndarray of shape (n_rows,), float64
    keys, X, names
        As `Rows`: X of shape (n_rows, n_features), float32, NaN where unknown.
    """

    y: np.ndarray
    weight: np.ndarray

    def take(self, which: np.ndarray) -> Self:
        """The rows of a mask, or of row numbers in their order."""
        index = np.flatnonzero(which) if which.dtype == bool else which
        return replace(super().take(index), y=self.y[index], weight=self.weight[index])

    def take_with_history(self, index: np.ndarray, *, bars: int) -> Self:
        """The rows of these numbers, and those of the bars before them as history: of weight 0."""
        if not bars:
            return self.take(index)
        weight = np.zeros_like(self.weight)
        weight[index] = self.weight[index]
        return replace(self, weight=weight).take(bars_up_to(self.keys["bar"].to_numpy(), index, bars=bars))


@dataclass(frozen=True)
class BatchedRows:
    """Training rows whose features are read in batches, at every pass anew: no more than a batch of them is in memory.

    Attributes
    ----------
    keys : DataFrame
        As of `TrainingRows`, without `bar`.
    names : tuple of str
        Features, in their order.
    y, weight : ndarray of shape (n_rows,), float64
        As of `TrainingRows`.
    numbers : ndarray of int64 of shape (n_rows,)
        Where each row stands in what is read, ascending.
    read : callable
        `(first, stop) -> arrays`: features of the rows `first` to before `stop`, in order, float32; the same at every call.
    """

    keys: pl.DataFrame
    names: tuple[str, ...]
    y: np.ndarray
    weight: np.ndarray
    numbers: np.ndarray
    read: Callable[[int, int], Iterator[np.ndarray]]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.y)

    def take(self, which: np.ndarray) -> BatchedRows:
        """The rows of a mask, or of ascending row numbers."""
        index = np.flatnonzero(which) if which.dtype == bool else which
        return replace(
            self, keys=self.keys[index], y=self.y[index], weight=self.weight[index], numbers=self.numbers[index]
        )

    def batches(self) -> Iterator[np.ndarray]:
        """Features of the rows, batch after batch, none of them empty."""
        if not len(self):
            return
        begin = int(self.numbers[0])
        for X in self.read(begin, int(self.numbers[-1]) + 1):
            low, high = np.searchsorted(self.numbers, (begin, begin + len(X)))
            if high - low == len(X):
                yield X
            elif high > low:
                yield X[self.numbers[low:high] - begin]
            begin += len(X)


def bars_up_to(bar: np.ndarray, index: np.ndarray, *, bars: int) -> np.ndarray:
    """Mask of the rows whose `bar` number is that of one of the rows `index`, or of one of the `bars` before it."""
    return np.isin(bar, np.unique(np.unique(bar[index])[:, None] - np.arange(bars + 1)))


@dataclass(frozen=True)
class ModelFormat:
    """How something fitted becomes bytes, in a data format: never pickle.

    Attributes
    ----------
    extension : str
        File name extension of the bytes.
    save : callable
        Fitted to bytes; equal fits give equal bytes.
    load : callable
        `(bytes, the same as built and not fitted) -> fitted`, which predicts bit for bit the same. It parses: check the
        sha256 of the bytes first.
    """

    extension: str
    save: Callable[[Estimator], bytes]
    load: Callable[[bytes, Estimator], Estimator]


def plain_outputs(params: Mapping[str, Any], task: Task) -> tuple[Output, ...]:
    """Probabilities of classes, or one number."""
    return ("classes",) if task == "classification" else ("point",)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A family of estimators with its hyper-parameters and its own file format.

    Attributes
    ----------
    name : str
        Key in `LEARNERS`.
    family : str
        Library that the estimator comes from; shown at the assets.
    tasks : frozenset of {"regression", "classification"}
        Which targets it can fit.
    build : callable
        `(every hyper-parameter, Setup) -> estimator`, not fitted. Nested learners are pipelines by then, with `fit(rows,
        validation)`, `predict(rows, wanted)`, `save()` and `load(bytes)`. Call `build_pipeline` instead, which checks
        names and fills in defaults.
    params : mapping of str to Param
        Every hyper-parameter that a strategy may set.
    format : ModelFormat
    check : callable, optional
        Raises ValueError for parameters that make no sense together.
    fit : callable, optional
        `(estimator, TrainingRows, validation TrainingRows or None)`. Default: `fit(X, y, sample_weight=weight)`, of keyed
        learners `fit(rows, validation)`.
    fit_batches : callable, optional
        `(estimator, BatchedRows, validation BatchedRows or None)`: fits rows that do not fit into memory, to the same bits.
    check_batches : callable, optional
        Raises ValueError for parameters with which it cannot.
    outputs : callable
        `(params, task) -> names`: what it gives for each row, see `Output`.
    is_keyed : bool
        It reads the symbol or the time: its estimator gets `Rows` instead of an array. `predict(rows, wanted)` answers
        for the rows of the mask `wanted` alone, in their order; the others are history.
    history_bars : callable, optional
        `params -> n` of a learner of sequences: a prediction reads exactly the row and the n bars before it; NaN where it knows
        too few of them.
    handles_missing : bool
        `fit` and `predict` take unknown features (NaN). Of a learner that holds others: those decide.
    needs_validation : bool
        `fit` gets the latest part of the training rows apart, purged from the rest.
    takes_weights : bool
        `fit` reads the sample weights.
    keeps_progress : bool
        `fit` hands its state to the `progress` of its setup as it goes on, and begins with what that has kept.
    judges_members : bool
        It learns from what the learners inside of it predict of rows that they were not fitted on.
    is_divided : bool
        A fit is many small ones, which `n_threads` divide among them: folds come one after the other then.
    require_target : callable, optional
        `(params, target)` raises ValueError for a target that its predictions do not stand for. It does not learn from labels
        what a prediction means, so its features must keep their units.
    importances : callable, optional
        `(fitted estimator, names of its columns) -> size by name`: how much it uses each.
    contributions : callable, optional
        `(fitted estimator, Rows) -> Attribution, or None` where it has none of these rows: what each column adds to what it gives.
    contributions_need_shap : bool
        Whether these need the library of the extra `explain`.
    report : callable, optional
        `fitted estimator -> JSON values` about the fit: best round, losses, what did not converge.
    """

    name: str
    family: str
    tasks: frozenset[Task]
    build: Callable[[Mapping[str, Any], Setup], Estimator]
    params: Mapping[str, Param]
    format: ModelFormat
    check: Callable[[Mapping[str, Any]], None] | None = None
    fit: Callable[[Estimator, TrainingRows, TrainingRows | None], None] | None = None
    fit_batches: Callable[[Estimator, BatchedRows, BatchedRows | None], None] | None = None
    check_batches: Callable[[Mapping[str, Any]], None] | None = None
    outputs: Callable[[Mapping[str, Any], Task], tuple[Output, ...]] = plain_outputs
    is_keyed: bool = False
    history_bars: Callable[[Mapping[str, Any]], int] | None = None
    handles_missing: bool = False
    needs_validation: bool = False
    takes_weights: bool = True
    judges_members: bool = False
    keeps_progress: bool = False
    is_divided: bool = False
    require_target: Callable[[Mapping[str, Any], Target], None] | None = None
    importances: Callable[[Estimator, Sequence[str]], Mapping[str, float]] | None = None
    contributions: Callable[[Estimator, Rows], Attribution | None] | None = None
    contributions_need_shap: bool = False
    report: Callable[[Estimator], Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        """Check what contradicts itself."""
        # Shown as the kind of an asset.
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.family):
            raise ValueError(f"`family` of {self.name} must be lower-case letters and digits, was {self.family!r}.")
        if self.history_bars is not None and not self.is_keyed:
            raise ValueError(f"`is_keyed` of {self.name} must be true for a learner of sequences, was false.")

    @property
    def is_sequence(self) -> bool:
        """Whether a prediction reads earlier rows of the symbol."""
        return self.history_bars is not None


def fit_learner(
    learner: Learner, estimator: Estimator, rows: TrainingRows, validation: TrainingRows | None = None
) -> None:
    """Fit an estimator as its entry says."""
    if learner.fit is not None:
        learner.fit(estimator, rows, validation)
    elif learner.is_keyed:
        estimator.fit(rows, validation)
    elif learner.takes_weights:
        estimator.fit(rows.X, rows.y, sample_weight=rows.weight)
    else:
        estimator.fit(rows.X, rows.y)


def ask_learner(learner: Learner, estimator: Estimator, method: str, rows: Rows, wanted: np.ndarray) -> np.ndarray:
    """What a fitted estimator answers to `predict`, `predict_proba` or `predict_quantiles` for the rows `wanted`."""
    ask = getattr(estimator, method)
    if learner.is_keyed:
        return np.asarray(ask(rows, wanted))
    return np.asarray(ask(rows.X if wanted.all() else rows.X[wanted]))


def sizes_by_name(sizes: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Sizes of columns by their names; for `importances`.

    Raises
    ------
    ValueError
        If there are not as many names.
    """
    flat = np.asarray(sizes, dtype=np.float64).ravel()
    if len(names) != len(flat):
        raise ValueError(f"`names` must be the {len(flat)} features fitted, was {len(names)} of them.")
    return dict(zip(names, flat.tolist(), strict=True))
