"""Boosting: what all boosters share, in one place.

Lives here: early stopping on the latest part of the training rows, the round that is kept and reported, the device, categories,
quantiles, classes, and the file of a fitted booster. Does not live here: how a library grows its trees (a module each, see
`growth.Library`).

References
----------
Chernozhukov, Fernández-Val & Galichon (2010), "Quantile and Probability Curves Without Crossing", Econometrica 78(3): predicted
quantiles are sorted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.attribution import Attribution
from hf_pipelines.research.learners.devices import choose_device
from hf_pipelines.research.learners.growth import Data, Grown, Growth, Library
from hf_pipelines.research.learners.kept_bins import KeptBins, rows_key
from hf_pipelines.research.learners.learner import (
    BatchedRows,
    Learner,
    ModelFormat,
    Output,
    Rows,
    Setup,
    Task,
    TrainingRows,
    sizes_by_name,
)
from hf_pipelines.research.params import Choice, Listing, Number, Param, Text

# Whole numbers above this are not exact in float32.
_LARGEST_CATEGORY = 2**24

_ROWS_FILE = "trained_on.json"
_POINT = "point"

# Apart from `SHARED_PARAMS`, whose words for people would be in the code versions of all that is fitted.
_SHARED = ("early_stopping_rounds", "device", "categories", "quantiles")


class Boosted:
    """Boosted trees of a library: one model of the mean or of the classes, and one for each quantile.

    Parameters
    ----------
    library : Library
    params : mapping
        Of the library and of `shared_params`.
    setup : Setup

    Attributes
    ----------
    models : dict of str to object
        `point`, `quantile_0.1`, ...
    categories : dict of str to tuple of int
        Of each column of categories those that training rows had, ascending.
    """

    def __init__(self, library: Library, params: Mapping[str, Any], setup: Setup) -> None:
        self.library = library
        self.params = params
        self.setup = setup
        self.models: dict[str, Any] = {}
        self.categories: dict[str, tuple[int, ...]] = {}
        self.grown: dict[str, dict[str, float]] = {}
        self.n_classes = 0

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's, so that it can be cloned."""
        return {"library": self.library, "params": self.params, "setup": self.setup}

    @property
    def quantiles(self) -> dict[str, float]:
        """Quantiles by the names of their models; none of classes."""
        levels = () if self.setup.task == "classification" else self.params["quantiles"]
        return {f"quantile_{level:g}": level for level in levels}

    @property
    def classes_(self) -> np.ndarray:
        """Codes of the classes."""
        return np.arange(self.n_classes)

    def fit(self, rows: TrainingRows | BatchedRows, validation: TrainingRows | BatchedRows | None) -> Boosted:
        """Grow every model until the validation rows get no better.

        Raises
        ------
        ValueError
            Without validation rows; if a class has no training row, no feature varies among them, a column of categories is not there or holds anything but
            whole numbers, or the device is not there.
        """
        if validation is None:
            raise ValueError(
                "`validation` must be given for a learner that stops early, was None; cut it from the training rows."
            )
        self.n_classes = _count_classes(rows.y, validation.y) if self.setup.task == "classification" else 0
        self.categories = {name: _seen(rows, name) for name in self.params["categories"]}
        own = {name: value for name, value in self.params.items() if name not in _SHARED}
        train = self._data(rows)
        _check_varies([train.features] if isinstance(train.features, np.ndarray) else train.features(), len(rows))
        growth = partial(
            Growth,
            params=own,
            train=train,
            validation=self._data(validation),
            patience=self.params["early_stopping_rounds"],
            n_classes=self.n_classes,
            n_features=len(rows.names),
            categories=self._columns(rows.names),
            device=choose_device(self.params["device"], self.library.is_built_for_cuda),
            seed=self.setup.seed,
            n_threads=self.setup.n_threads,
            shares_bins=self.setup.bins is not None or bool(self.quantiles),
        )
        self.models, self.grown = {}, {}
        kept, of_rows = self._kept_bins(growth(quantile=None))
        for name, quantile in {_POINT: None, **self.quantiles}.items():
            grown = self._grow(growth(quantile=quantile, log=partial(self._log, name)), kept, of_rows)
            self.models[name] = grown.model
            self.grown[name] = {"best_round": grown.rounds, "validation_loss": grown.loss}
        return self

    def _log(self, name: str, rounds: int, loss: float) -> None:
        """Report the loss of a model as it grows."""
        self.setup.progress.log(rounds, {f"{'' if name == _POINT else f'{name}/'}validation_loss": loss})

    def _kept_bins(self, growth: Growth) -> tuple[KeptBins, str]:
        """Where bins are kept, and which rows they are of there: for this fit alone, unless there are others of its setup."""
        parts = (growth.train, growth.validation)
        if self.setup.bins is None or any(callable(each.features) for each in parts):
            return KeptBins(), ""
        return self.setup.bins, rows_key(*(array for each in parts for array in (each.X, each.y, each.weight)))

    def _grow(self, growth: Growth, kept: KeptBins, of_rows: str) -> Grown:
        library = self.library
        if library.bin is None or library.binned_by is None:
            return library.grow(growth, None)
        key = json.dumps([of_rows, library.extension, growth.categories, growth.device, library.binned_by(growth)])
        with kept.lent(key, partial(library.bin, growth)) as bins:
            return library.grow(growth, bins)

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Predicted mean of the rows that are wanted."""
        return self._ask(_POINT, rows, wanted)

    def predict_proba(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Probabilities, a column a class."""
        found = self._ask(_POINT, rows, wanted)
        return found if found.ndim == 2 else np.column_stack([1.0 - found, found])

    def predict_quantiles(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Predicted quantiles, a column each, never crossing."""
        return np.sort(np.column_stack([self._ask(name, rows, wanted) for name in self.quantiles]), axis=1)

    def gains(self, names: Sequence[str]) -> np.ndarray:
        """How much the model of the mean or of the classes uses each of its columns."""
        return self.library.gains(self.models[_POINT], self._columns(names))

    def attribute(self, rows: Rows) -> Attribution | None:
        """What each column adds to the sums of the trees of the mean or of the classes; None of a library that does not tell."""
        if self.library.contributions is None:
            return None
        X = self._encoded(rows.X, rows.names)
        return self.library.contributions(self.models[_POINT], X, self._columns(rows.names), self.setup.n_threads)

    def _data(self, rows: TrainingRows | BatchedRows) -> Data:
        if isinstance(rows, BatchedRows):

            def batches() -> Iterator[np.ndarray]:
                return (self._encoded(X, rows.names) for X in rows.batches())

            return Data(features=batches, y=rows.y, weight=rows.weight)
        return Data(features=self._encoded(rows.X, rows.names), y=rows.y, weight=rows.weight)

    def _ask(self, name: str, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        X = self._encoded(rows.X, rows.names)
        X = X if wanted.all() else X[wanted]
        return np.asarray(self.library.predict(self.models[name], X, self._columns(rows.names), self.setup.n_threads))

    def _columns(self, names: Sequence[str]) -> tuple[int, ...]:
        return tuple(sorted(list(names).index(name) for name in self.categories))

    def _encoded(self, features: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Features with categories as codes; a category that no training row had is unknown."""
        if not self.categories:
            return features
        X = features.copy()
        for name, seen in self.categories.items():
            at = names.index(name)
            code = np.searchsorted(seen, X[:, at])
            # NaN sorts behind all.
            code[code == len(seen)] = 0
            is_known = np.asarray(seen)[code] == X[:, at] if seen else np.zeros(len(X), dtype=bool)
            X[:, at] = np.where(is_known, code, np.nan)
        return X


def _count_classes(y: np.ndarray, judged: np.ndarray) -> int:
    """Number of classes; every one has a training row.

    Raises
    ------
    ValueError
        If one has none.
    """
    found, also = np.unique(y).tolist(), np.unique(judged).tolist()
    n = max(int(max(found + also)) + 1, 2)
    if lacking := sorted(set(range(n)) - {int(each) for each in found}):
        raise ValueError(f"`y` must hold every class in its training rows, was without the codes {lacking[:5]}.")
    return n


def _check_varies(batches: Iterable[np.ndarray], n_rows: int) -> None:
    """Refuse rows that are all alike: to some libraries that is an error, others predict what they like."""
    first = None
    for X in batches:
        first = X[0] if first is None else first
        # Of real rows the second one differs.
        if not all(np.array_equal(row, first, equal_nan=True) for row in X):
            return
    raise ValueError(
        f"`X` must have a feature that varies among the training rows, was the same in all {n_rows}; look at the features and their preprocessing, or train on more rows."
    )


def _seen(rows: TrainingRows | BatchedRows, name: str) -> tuple[int, ...]:
    """Categories of a column, ascending.

    Raises
    ------
    ValueError
        If the column is not there, or holds anything but whole numbers that float32 keeps apart.
    """
    if name not in rows.names:
        raise ValueError(
            f"`categories` must name features of the learner ({', '.join(rows.names[:5])}, ...), was {name!r}."
        )
    at = rows.names.index(name)
    found = [np.unique(X[:, at]) for X in (rows.batches() if isinstance(rows, BatchedRows) else [rows.X])]
    values = np.unique(np.concatenate(found))
    values = values[~np.isnan(values)]
    wrong = values[(values != np.round(values)) | (np.abs(values) >= _LARGEST_CATEGORY)]
    if len(wrong):
        raise ValueError(
            f"`categories` must name features of whole numbers, was {name!r} with {wrong[:3].tolist()}; take it out of "
            "`categories`, or do not scale it."
        )
    return tuple(values.astype(int).tolist())


SHARED_PARAMS: dict[str, Param] = {
    "early_stopping_rounds": Number(
        default=50,
        low=1,
        high=10_000,
        is_whole=True,
        meaning="rounds without a smaller loss on the validation rows after which training stops; the best round is kept",
    ),
    "device": Choice(
        default="cpu",
        names=("auto", "cpu", "cuda"),
        meaning="where trees are grown; with auto or cuda the bits depend on the machine, predictions need no device",
    ),
    "categories": Listing(
        item=Text(pattern=r"[A-Za-z][\w/]*"),
        meaning="features that are categories, whole numbers; one that no training row had is unknown",
    ),
    "quantiles": Listing(
        item=Number(default=0.5, low=0.001, high=0.999),
        most=20,
        meaning="quantiles that are predicted beside the mean, ascending, each by trees of its own; regression alone",
    ),
}


# Of a library that has no other; "auto" stands for every library.
_CPU = Choice(default="cpu", names=("auto", "cpu"), meaning="where trees are grown: this library has no other device")


def booster(
    *,
    name: str,
    family: str,
    library: Library,
    params: Mapping[str, Param],
    check: Callable[[Mapping[str, Any]], None] | None = None,
) -> Learner:
    """An entry of boosted trees.

    Parameters
    ----------
    name, family : str
    library : Library
    params : mapping of str to Param
        The library's own; those of `SHARED_PARAMS` are added.
    check : callable, optional
        Raises ValueError for parameters that make no sense together.
    """

    def build(given: Mapping[str, Any], setup: Setup) -> Boosted:
        return Boosted(library, given, setup)

    def check_all(given: Mapping[str, Any]) -> None:
        _check_shared(given)
        if check is not None:
            check(given)

    def fit_batches(estimator: Boosted, rows: BatchedRows, validation: BatchedRows | None) -> None:
        estimator.fit(rows, validation)

    return Learner(
        name=name,
        family=family,
        tasks=frozenset({"classification", "regression"}),
        build=build,
        params={**params, **SHARED_PARAMS, "device": SHARED_PARAMS["device"] if library.is_built_for_cuda else _CPU},
        format=ModelFormat("zip", save_boosted, load_boosted),
        check=check_all,
        fit_batches=fit_batches if library.check_batches else None,
        check_batches=library.check_batches,
        outputs=_outputs,
        is_keyed=True,
        handles_missing=True,
        needs_validation=True,
        importances=_gains,
        contributions=Boosted.attribute if library.contributions else None,
        contributions_need_shap=library.contributions_need_shap,
        report=_report,
    )


def _check_shared(params: Mapping[str, Any]) -> None:
    for name in ("quantiles", "categories"):
        values = params[name]
        if list(values) != sorted(set(values)):
            raise ValueError(f"`{name}` must be ascending and without repetition, was {list(values)[:5]}.")


def _outputs(params: Mapping[str, Any], task: Task) -> tuple[Output, ...]:
    if task == "classification":
        return ("classes",)
    return ("point", "quantiles") if params["quantiles"] else ("point",)


def save_boosted(estimator: Boosted) -> bytes:
    """Every model in its library's own format, and what is known of the training rows, as one archive."""
    library = estimator.library
    files = {f"{name}.{library.extension}": library.save(model) for name, model in estimator.models.items()}
    state = {"categories": estimator.categories, "n_classes": estimator.n_classes}
    return pack({**files, _ROWS_FILE: json.dumps(state, sort_keys=True).encode()})


def load_boosted(data: bytes, unfitted: Boosted) -> Boosted:
    """Return trees that predict.

    Damaged bytes can crash the process inside a library: check their sha256 before.

    Raises
    ------
    ValueError
        If the archive does not hold these models.
    """
    library = unfitted.library
    names = {name: f"{name}.{library.extension}" for name in (_POINT, *unfitted.quantiles)}
    files = unpack(data, [*names.values(), _ROWS_FILE])
    try:
        state = json.loads(files[_ROWS_FILE])
        unfitted.categories = {str(name): tuple(map(int, seen)) for name, seen in state["categories"].items()}
        unfitted.n_classes = int(state["n_classes"])
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ValueError(f"`data` must say in JSON what it was trained on, was {files[_ROWS_FILE][:60]!r}.") from e
    unfitted.models = {name: library.load(files[file]) for name, file in names.items()}
    return unfitted


def _gains(estimator: Boosted, names: Sequence[str]) -> dict[str, float]:
    """Gain of the splits on each feature."""
    return sizes_by_name(estimator.gains(names), names)


def _report(estimator: Boosted) -> dict[str, Any]:
    """Best round and validation loss, of quantiles by their names."""
    return {**estimator.grown[_POINT], **{name: estimator.grown[name] for name in estimator.quantiles}}
