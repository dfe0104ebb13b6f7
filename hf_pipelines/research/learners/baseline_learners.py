"""Baselines as learners: what takes no learning, traded like any other.

Lives here: entries whose predictions are those of `research.baselines`, from what a learner has: the labels of the training rows and
the features. Not here: how a baseline predicts, and the baselines that every score stands beside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.baselines import BASELINES, BaselineRows, Predicted
from hf_pipelines.research.learners.array_bytes import arrays_format
from hf_pipelines.research.learners.learner import Learner, Output, Rows, Setup, Task, TrainingRows
from hf_pipelines.research.params import Listing, Number, Param, Text

# Shares are drawn of so many.
_PLACES = 2**64


class BaselineLearner:
    """A baseline of `research.baselines` by the labels of the training rows.

    Parameters
    ----------
    name : str
        Key in `BASELINES`.
    params : mapping
    setup : Setup

    Attributes
    ----------
    values_, counts_ : ndarray of shape (n_values,)
        Labels of the training rows, ascending, and how often each occurs.
    column_ : int
        Of the feature that is read; -1 without one.
    seed_ : int
    """

    def __init__(self, name: str, params: Mapping[str, Any], setup: Setup) -> None:
        self.name = name
        self.params = params
        self.setup = setup

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's, so that it can be cloned."""
        return {"name": self.name, "params": self.params, "setup": self.setup}

    @property
    def classes_(self) -> np.ndarray:
        """Codes of the classes."""
        return np.arange(int(self.values_[-1]) + 1)

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> BaselineLearner:
        """Keep the labels.

        Raises
        ------
        ValueError
            If the feature that is read is not there.
        """
        feature = self.params.get("feature")
        if feature is not None and feature not in rows.names:
            raise ValueError(
                f"`feature` of {self.name!r} must be among the features that the learner gets ({', '.join(rows.names[:5])}, ...), was "
                f"{feature!r}; take one of them, or a preprocessing that keeps it."
            )
        self.column_ = -1 if feature is None else rows.names.index(feature)
        self.values_, self.counts_ = np.unique(rows.y, return_counts=True)
        self.seed_ = self.setup.seed
        return self

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """The baseline's value of the rows that are wanted."""
        return self._predicted(rows, wanted).value

    def predict_proba(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """The baseline's probabilities, 1 of the class where it names one."""
        found = self._predicted(rows, wanted).probability
        assert found is not None
        return found

    def predict_quantiles(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Quantiles of the training labels."""
        found = self._predicted(rows, wanted).quantiles
        return np.column_stack([found[level] for level in self.params["quantiles"]])

    def _predicted(self, rows: Rows, wanted: np.ndarray) -> Predicted:
        asked = rows if wanted.all() else rows.take(wanted)
        unknown = np.full(len(asked), np.nan)
        feature = unknown if self.column_ < 0 else asked.X[:, self.column_].astype(np.float64)
        neutral = float(self.params.get("neutral", 0.0))
        return BASELINES[self.name].predict(
            BaselineRows(
                trained=np.repeat(self.values_, self.counts_),
                n_classes=len(self.classes_) if self.setup.task == "classification" else 0,
                n_rows=len(asked),
                last_label=feature,
                momentum=feature - neutral,
                neutral=neutral,
                rng=_RowDraws(asked, self.seed_),
                quantiles=tuple(self.params.get("quantiles", ())),
            )
        )


class _RowDraws:
    """Draws that hang on seed, symbol and time alone: a session has the same ones alone and in a range."""

    def __init__(self, rows: Rows, seed: int) -> None:
        symbols = {each: _digest(f"{seed} {each}") for each in rows.keys["symbol"].unique()}
        of_symbol = np.array([symbols[each] for each in rows.keys["symbol"]], dtype=np.uint64)
        of_time = rows.keys["ts"].cast(pl.Datetime("us", "UTC")).to_physical().to_numpy().astype(np.uint64)
        self.shares = _mixed(of_symbol ^ _mixed(of_time)) / _PLACES

    def choice(self, values: np.ndarray, size: int) -> np.ndarray:
        """One of the values for each row."""
        return values[np.minimum((self.shares[:size] * len(values)).astype(np.int64), len(values) - 1)]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _mixed(number: np.ndarray) -> np.ndarray:
    """Whole numbers whose every bit hangs on every bit of those given: the finalizer of SplitMix64 (Steele et al. 2014)."""
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(number ^ (number >> np.uint64(31)))


def _outputs(params: Mapping[str, Any], task: Task) -> tuple[Output, ...]:
    if task == "classification":
        return ("classes",)
    return ("point", "quantiles") if params.get("quantiles") else ("point",)


def _baseline(name: str, tasks: frozenset[Task], params: Mapping[str, Param] | None = None) -> Learner:
    def build(given: Mapping[str, Any], setup: Setup) -> BaselineLearner:
        return BaselineLearner(name, given, setup)

    return Learner(
        name=name,
        family="baseline",
        tasks=tasks,
        build=build,
        params=params or {},
        format=arrays_format("values_", "counts_", "column_", "seed_"),
        outputs=_outputs,
        is_keyed=True,
        handles_missing=True,
        takes_weights=False,
    )


_BOTH: frozenset[Task] = frozenset({"regression", "classification"})
_REGRESSION: frozenset[Task] = frozenset({"regression"})


def _feature(meaning: str) -> Text:
    return Text(pattern=r"[A-Za-z][\w/]*", meaning=meaning)


MAJORITY = _baseline("majority", frozenset({"classification"}))
MEAN = _baseline(
    "mean",
    _REGRESSION,
    {
        "quantiles": Listing(
            item=Number(default=0.5, low=0.001, high=0.999),
            most=20,
            meaning="quantiles that are predicted beside the mean",
        )
    },
)
# Of classes no feature says the last label.
LAST_VALUE = _baseline(
    "last_value",
    _REGRESSION,
    {
        "feature": _feature(
            "the feature that is the last known value of the target, such as the return over as many bars"
        )
    },
)
MOMENTUM_SIGN = _baseline(
    "momentum_sign",
    _BOTH,
    {
        "feature": _feature("the feature whose sign is followed; where it is 0 or unknown, the mean or the majority"),
        "neutral": Number(
            default=0.0, low=-1e9, high=1e9, meaning="value of feature and target that is neither up nor down"
        ),
    },
)
RANDOM = _baseline("random", _BOTH)
