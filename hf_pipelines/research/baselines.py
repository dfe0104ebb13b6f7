"""Baselines: predictions that take no learning, for the rows that a learner predicts.

Lives here: the registry of baselines, what each reads, and their predictions fold by fold. Not here: their scores
(`score_table`). A baseline reads labels alone, of two kinds: those of the fold's training rows, and of the symbol those that
had ended before the row's bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.metrics import class_codes
from hf_pipelines.research.targets import HORIZON, Target, neutral_value

Floats = NDArray[np.float64]

# Labels of a symbol whose mean is its momentum.
MOMENTUM_LABELS = 20


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions of some rows by one predictor, of a learner or a baseline.

    Attributes
    ----------
    value : array of shape (n,)
        The `prediction`: of classes the mean of their places on [-1, 1]. NaN where there is none.
    probability : array of shape (n, n_classes), optional
        Of a classification.
    quantiles : mapping of level to array of shape (n,)
        Predicted quantiles, by level.
    gives_probabilities : bool
        False where a class alone is named, as a probability of 1.
    """

    value: Floats
    probability: Floats | None
    quantiles: Mapping[float, Floats]
    gives_probabilities: bool = True

    def take(self, rows: NDArray[Any]) -> Predicted:
        """The predictions of some rows."""
        return Predicted(
            self.value[rows],
            None if self.probability is None else self.probability[rows],
            {level: values[rows] for level, values in self.quantiles.items()},
            self.gives_probabilities,
        )

    @classmethod
    def concat(cls, parts: Sequence[Predicted]) -> Predicted:
        """Predictions of one predictor below each other."""
        probabilities = [each.probability for each in parts if each.probability is not None]
        return cls(
            np.concatenate([each.value for each in parts]),
            np.concatenate(probabilities) if probabilities else None,
            {level: np.concatenate([each.quantiles[level] for each in parts]) for level in parts[0].quantiles},
            parts[0].gives_probabilities,
        )


class Draws(Protocol):
    """What draws one of several values for each row; numpy's generators do."""

    def choice(self, a: Floats, size: int) -> Any:
        """Values drawn, as many as `size`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BaselineRows:
    """What a baseline may know of a fold.

    Attributes
    ----------
    trained : array of shape (n_train,)
        `y` of the training rows.
    n_classes : int
        0 of a regression.
    n_rows : int
        Rows to predict.
    last_label : array of shape (n_rows,)
        `y` of the symbol's last label (of the row's horizon) that ended before the row's bar; NaN where none had.
    momentum : array of shape (n_rows,)
        Mean `target` of the last `MOMENTUM_LABELS` such labels, less the target's neutral value; NaN where none had ended.
    neutral : float
    rng : Draws
        Of what is random: a generator seeded for the fold; of a learner draws by row.
    quantiles : tuple of float
        Levels that the learner predicts too.
    """

    trained: Floats
    n_classes: int
    n_rows: int
    last_label: Floats
    momentum: Floats
    neutral: float
    rng: Draws
    quantiles: tuple[float, ...] = ()

    @property
    def shares(self) -> Floats:
        """Shares of the classes among the training rows."""
        return np.bincount(class_codes(self.trained), minlength=self.n_classes) / len(self.trained)

    @property
    def usual(self) -> float:
        """What is predicted where nothing else is known: the majority of the training rows, or their mean."""
        return float(self.shares.argmax() if self.n_classes else self.trained.mean())


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A way to predict without learning.

    Attributes
    ----------
    name : str
        Key in `BASELINES`.
    predict : callable
        `BaselineRows -> Predicted`, every row with a prediction: where nothing else is known, the majority or the mean.
    tasks : frozenset of str
        "classification", "regression".
    is_directional : bool
        Whether it takes a higher target for a higher return.
    definition : str
        For people.
    """

    name: str
    predict: Callable[[BaselineRows], Predicted]
    tasks: frozenset[str] = frozenset({"classification", "regression"})
    is_directional: bool = False
    definition: str


def baselines_of(target: Target) -> dict[str, Baseline]:
    """The baselines that can predict a target."""
    task = "classification" if target.is_classification else "regression"
    is_directional = neutral_value(target) is not None
    return {
        name: each
        for name, each in BASELINES.items()
        if task in each.tasks and (is_directional or not each.is_directional)
    }


def predict_baselines(
    matrix: pl.DataFrame,
    folds: Iterable[tuple[NDArray[Any], NDArray[Any]]],
    *,
    target: Target,
    seed: int,
    quantiles: tuple[float, ...] = (),
) -> dict[str, Predicted]:
    """Predict the test rows of every fold by each baseline that can.

    Parameters
    ----------
    matrix : DataFrame
        From `build_matrix`.
    folds : iterable of (train, test)
        Row numbers, as a splitter gives them.
    target : Target
        What the matrix was built for.
    seed : int
        Of what is random.
    quantiles : tuple of float
        Levels that the learner predicts too.

    Returns
    -------
    dict of str to Predicted
        By name; rows of the folds below each other, in the folds' order.
    """
    y, neutral = matrix["y"].to_numpy(), neutral_value(target) or 0.0
    last_label, momentum = _ended_labels(matrix)
    baselines = baselines_of(target)
    found: dict[str, list[Predicted]] = {name: [] for name in baselines}
    for number, (train, test) in enumerate(folds):
        rows = BaselineRows(
            trained=y[train],
            n_classes=len(target.classes),
            n_rows=len(test),
            last_label=last_label[test],
            momentum=momentum[test] - neutral,
            neutral=neutral,
            rng=np.random.default_rng([seed, number]),
            quantiles=quantiles,
        )
        for name, baseline in baselines.items():
            found[name].append(baseline.predict(rows))
    return {name: Predicted.concat(parts) for name, parts in found.items()}


def _ended_labels(matrix: pl.DataFrame) -> tuple[Floats, Floats]:
    """Of each row the symbol's last label that had ended before its bar, and the mean target of the last ones."""
    by = ["symbol", *(name for name in (HORIZON,) if name in matrix.columns)]
    # Of labels that ended together the one that began last is the last.
    ended = matrix.select(*by, "label_end", "ts", "y", "target").sort("label_end", "ts")
    ended = ended.select(
        *by,
        pl.col("label_end").alias("ended_at"),
        last_label=pl.col("y").cast(pl.Float64),
        momentum=pl.col("target").cast(pl.Float64).rolling_mean(MOMENTUM_LABELS, min_samples=1).over(by),
    )
    rows = matrix.select(*by, "ts").with_row_index("row").sort("ts", maintain_order=True)
    known = rows.join_asof(
        ended,
        left_on="ts",
        right_on="ended_at",
        by=by,
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
    ).sort("row")
    return tuple(known[name].fill_null(float("nan")).to_numpy() for name in ("last_label", "momentum"))  # type: ignore[return-value]


def _predict_majority(rows: BaselineRows) -> Predicted:
    return _of_classes(np.tile(rows.shares, (rows.n_rows, 1)), gives_probabilities=True)


def _predict_mean(rows: BaselineRows) -> Predicted:
    quantiles = {level: np.full(rows.n_rows, np.quantile(rows.trained, level)) for level in rows.quantiles}
    return Predicted(np.full(rows.n_rows, rows.usual), None, quantiles)


def _predict_last_value(rows: BaselineRows) -> Predicted:
    return _named(rows, rows.last_label)


def _predict_momentum_sign(rows: BaselineRows) -> Predicted:
    sign = np.where(rows.momentum == 0.0, np.nan, np.sign(rows.momentum))
    if rows.n_classes:
        return _named(rows, (sign + 1.0) / 2.0 * (rows.n_classes - 1.0))
    return _named(rows, rows.neutral + sign * float(np.abs(rows.trained - rows.neutral).mean()))


def _predict_random(rows: BaselineRows) -> Predicted:
    return _named(rows, rows.rng.choice(rows.trained, size=rows.n_rows).astype(np.float64))


def _named(rows: BaselineRows, values: Floats) -> Predicted:
    """Class codes or values as predictions, the usual one where they are NaN."""
    known = np.where(np.isnan(values), rows.usual, values)
    if not rows.n_classes:
        return Predicted(known, None, {})
    return _of_classes(np.eye(rows.n_classes)[known.astype(np.int64)], gives_probabilities=False)


def _of_classes(probability: Floats, *, gives_probabilities: bool) -> Predicted:
    places = np.linspace(-1.0, 1.0, probability.shape[1])
    return Predicted(probability @ places, probability, {}, gives_probabilities)


BASELINES: dict[str, Baseline] = {
    each.name: each
    for each in (
        Baseline(
            name="majority",
            predict=_predict_majority,
            tasks=frozenset({"classification"}),
            definition="the most frequent class of the fold's training rows; their shares as probabilities",
        ),
        Baseline(
            name="mean",
            predict=_predict_mean,
            tasks=frozenset({"regression"}),
            definition="the mean of the fold's training rows; their quantiles as quantiles",
        ),
        Baseline(
            name="last_value",
            predict=_predict_last_value,
            definition="the symbol's last label that had ended before the row's bar",
        ),
        Baseline(
            name="momentum_sign",
            predict=_predict_momentum_sign,
            is_directional=True,
            definition=(
                f"up or down as the mean of the symbol's last {MOMENTUM_LABELS} outcomes that had ended before the row's bar: the "
                "highest or the lowest class, or that sign of the mean size of the training rows' labels"
            ),
        ),
        Baseline(
            name="random",
            predict=_predict_random,
            definition="the label of a training row of the fold, drawn by the seed",
        ),
    )
}
