"""Overfitting: the folds of a cross-validation fitted again, each scored on its training rows and on its test rows.

Lives here: fits on permuted labels, on fewer sessions, and with other values of one parameter. Not here: what their scores say
(`signs`), how a fold is fitted (`cross_validation`), how labels are permuted (`label_permutation`).

Every fit is made by `cross_validate` on the training rows that the splitter gives, or on fewer of them: the purge, the embargo,
the weightings and the cut of validation rows are those of the cross-validation itself.

References
----------
Ojala & Garriga (2010), "Permutation Tests for Studying Classifier Performance", J. Machine Learning Research 11. Perlich, Provost & Simonoff
(2003), "Tree Induction vs. Logistic Regression: A Learning-Curve Analysis", J. Machine Learning Research 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.fan_out import side_by_side
from hf_pipelines.research.label_permutation import permute_labels
from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.learners.fit_faults import FitError
from hf_pipelines.research.metrics import classification_metrics, mean_information_coefficient, regression_metrics
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.splitters.past_blocks import SessionTimes
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import Target, neutral_value

Rows = npt.NDArray[np.int64]

# Scores that a gap can be taken of.
_RANKS = ("information_coefficient", "linear_information_coefficient")
_VALUES = ("r2", "directional_accuracy", "mse", "rmse", "mae")
_CLASSES = ("accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "brier")

# One in so many gaps of a learner that learned nothing false is called too large.
FLAGGED_SHARE = 0.05

# Kinds of fits in `Overfitting.scores`.
CHOSEN, PERMUTED, LEARNING, VALIDATION = "chosen", "permuted", "learning_curve", "validation_curve"


@dataclass(frozen=True)
class Diagnostics:
    """What is asked for beside the scores of the folds; each part costs fits.

    Attributes
    ----------
    score : str
        One of `scores_of` the target.
    permutations : int
        How often each fold is fitted on permuted labels; 0: not.
    train_shares : tuple of float
        Points of the learning curve below 1: shares of a fold's training sessions.
    parameter : str
        Of the validation curve; "": none.
    candidates : tuple of (value, LearnerChoice)
        Points of the validation curve other than the learner itself.
    chosen_value : object
        Value of the parameter that the learner itself has.
    """

    score: str
    permutations: int = 0
    train_shares: tuple[float, ...] = ()
    parameter: str = ""
    candidates: tuple[tuple[Any, LearnerChoice], ...] = ()
    chosen_value: Any = None

    def count_fits(self, n_folds: int) -> int:
        """Fits that are made, those of the cross-validation itself not counted."""
        return n_folds * (1 + self.permutations + len(self.train_shares) + len(self.candidates))


@dataclass(frozen=True)
class Overfitting:
    """Scores on training and test rows of every fit that was made.

    Attributes
    ----------
    scores : DataFrame
        `kind` (chosen, permuted, learning_curve, validation_curve), `point` (number of the permutation, share of the training
        sessions, value of the parameter; as text), `fold`, `n_train`, `n_train_sessions`, `train_score`, `test_score`, `gap`
        (how much better the training score is: positive where it is, whichever way the score runs).
    asked : Diagnostics
    n_fits, n_configurations : int
        Fits made, and how many configurations of the learner they tried, itself included.
    """

    scores: pl.DataFrame
    asked: Diagnostics
    n_fits: int
    n_configurations: int

    @property
    def n_folds(self) -> int:
        """Folds of the cross-validation."""
        return self.scores.filter(kind=CHOSEN).height


@dataclass(frozen=True)
class _Fold:
    number: int
    train: Rows
    test: Rows


@dataclass(frozen=True)
class _TrainedAndTested:
    """Folds that predict their training rows too, each on a path of its own: no row is predicted twice on one."""

    folds: Sequence[_Fold]

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[Rows, Rows]]:
        for fold in self.folds:
            yield fold.train, _predicted(fold)

    def paths(self, X: object, y: object = None, groups: object = None) -> Iterator[Rows]:
        for fold in self.folds:
            yield np.full(len(_predicted(fold)), fold.number)


@dataclass(frozen=True)
class _Run:
    """One cross-validation after the other on the same matrix and settings."""

    matrix: pl.DataFrame
    target: Target
    score: str
    settings: Mapping[str, Any]
    n_train_sessions: Callable[[Rows], int] = field(repr=False)

    def rows(
        self,
        kind: str,
        point: object,
        folds: Sequence[_Fold],
        learner: LearnerChoice,
        *,
        matrix: pl.DataFrame | None = None,
        n_jobs: int = 1,
    ) -> list[dict[str, Any]]:
        """Scores of each fold on its training and its test rows."""
        result = cross_validate(
            self.matrix if matrix is None else matrix,
            learner=learner,
            splitter=_TrainedAndTested(folds),
            target=self.target,
            n_jobs=n_jobs,
            **self.settings,
        )
        parts = result.predictions.partition_by("fold", maintain_order=True)
        return [self._row(kind, point, fold, predictions) for fold, predictions in zip(folds, parts, strict=True)]

    def _row(self, kind: str, point: object, fold: _Fold, predictions: pl.DataFrame) -> dict[str, Any]:
        is_train = pl.Series(np.isin(_predicted(fold), fold.train))
        train, test = (
            score_predictions(predictions.filter(part), score=self.score, target=self.target)
            for part in (is_train, ~is_train)
        )
        if not (math.isfinite(train) and math.isfinite(test)):
            raise ValueError(
                f"`diagnostics.score` must be defined in every fold, was not in fold {fold.number} for {self.score}; take "
                f"{'accuracy' if self.target.is_classification else 'mae'}, which always is."
            )
        return {
            "kind": kind,
            "point": str(point),
            "fold": fold.number,
            "n_train": len(fold.train),
            "n_train_sessions": self.n_train_sessions(fold.train),
            "train_score": train,
            "test_score": test,
            "gap": (train - test) * (1.0 if is_better_higher(self.score) else -1.0),
        }


def default_score(target: Target) -> str:
    """Score that gaps and curves are of unless another is named."""
    return "accuracy" if target.is_classification else "information_coefficient"


def scores_of(target: Target) -> list[str]:
    """Scores that a target has, those of its own kind first."""
    own = _CLASSES if target.is_classification else _VALUES
    is_undefined = not target.is_classification and neutral_value(target) is None
    return [name for name in (*own, *_RANKS) if not (is_undefined and name == "directional_accuracy")]


def diagnose(
    matrix: pl.DataFrame,
    *,
    asked: Diagnostics,
    learner: LearnerChoice,
    splitter: Splitter,
    target: Target,
    seed: int,
    n_jobs: int = 1,
    on_fits: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Overfitting:
    """Fit the folds of a cross-validation again, in the ways that are asked for.

    Parameters
    ----------
    matrix : DataFrame of shape (n_rows, n_columns)
        From `build_matrix`.
    asked : Diagnostics
        Which fits.
    learner : LearnerChoice
        As in `cross_validate`, and so are `splitter`, `target` and `seed`.
    splitter : Splitter
    target : Target
    seed : int
    n_jobs : int
        Fits at a time; the result is the same for any.
    on_fits : callable, optional
        `(fits made, fits in all)`, called now and then.
    **settings : mapping
        `weightings`, `missing` and `validation_share` of `cross_validate`.

    Returns
    -------
    Overfitting

    Raises
    ------
    ValueError
        As `cross_validate`; if the score is undefined in a fold, such as a rank correlation of one symbol.
    """
    folds = [_Fold(at, train, test) for at, (train, test) in enumerate(splitter.split(matrix))]
    times = SessionTimes.of(matrix)
    run = _Run(
        matrix,
        target,
        asked.score,
        {"seed": seed, **settings},
        n_train_sessions=lambda rows: len(np.unique(times.code[rows])),
    )
    n_fits, n_done = asked.count_fits(len(folds)), 0
    found: list[dict[str, Any]] = []

    def keep(rows: list[dict[str, Any]]) -> None:
        nonlocal n_done
        found.extend(rows)
        n_done += len(rows)
        if on_fits is not None:
            on_fits(n_done, n_fits)

    # Around all fits: limits that threads set and take back by themselves would undo each other.
    with one_blas_thread():
        keep(run.rows(CHOSEN, asked.chosen_value if asked.parameter else "", folds, learner, n_jobs=n_jobs))
        for share in asked.train_shares:
            smaller = [
                replace(fold, train=nearest_sessions(times, fold.train, fold.test, share=share)) for fold in folds
            ]
            with _named("learning_curve", share):
                keep(run.rows(LEARNING, share, smaller, learner, n_jobs=n_jobs))
        for value, candidate in asked.candidates:
            with _named("validation_curve", value):
                keep(run.rows(VALIDATION, value, folds, candidate, n_jobs=n_jobs))
        for rows in _permuted(run, times, folds, learner, n=asked.permutations, seed=seed, n_jobs=n_jobs):
            keep(rows)
    return Overfitting(
        pl.DataFrame(found, schema_overrides={"fold": pl.Int32}),
        asked,
        n_fits=n_done,
        n_configurations=1 + len(asked.candidates),
    )


def score_predictions(predictions: pl.DataFrame, *, score: str, target: Target) -> float:
    """One score of out-of-fold predictions, as in the fold metrics; rows without a prediction are left out."""
    known = predictions.filter(pl.col("prediction").is_finite())
    if score in _RANKS:
        return mean_information_coefficient(known, is_ranked=score == "information_coefficient")
    y = known["y"].to_numpy()
    if target.is_classification:
        return classification_metrics(y, known.select(f"probability_{name}" for name in target.classes).to_numpy())[
            score
        ]
    return regression_metrics(y, known["prediction"].to_numpy(), neutral=neutral_value(target))[score]


def nearest_sessions(times: SessionTimes, train: Rows, test: Rows, *, share: float) -> Rows:
    """Training rows of the share of a fold's training sessions that lie nearest to its test rows, one session at least.

    Of a walk-forward the latest ones; where a fold is trained on later data too, those on both sides.
    """
    sessions = np.unique(times.code[train])
    tested = np.unique(times.code[test])
    at = np.searchsorted(tested, sessions)
    before, after = tested[np.maximum(at - 1, 0)], tested[np.minimum(at, len(tested) - 1)]
    distance = np.minimum(np.abs(sessions - before), np.abs(sessions - after))
    n = max(round(share * len(sessions)), 1)
    kept = sessions[np.argsort(distance, kind="stable")[:n]]
    return train[np.isin(times.code[train], kept)]


def gaps_by_fold(found: Overfitting) -> pl.DataFrame:
    """Columns for the fold metrics: `fold`, `train_<score>`, `gap` and, of permuted labels, `permuted_gap_95`."""
    chosen = found.scores.filter(kind=CHOSEN).select(
        "fold", pl.col("train_score").alias(f"train_{found.asked.score}"), "gap"
    )
    permuted = found.scores.filter(kind=PERMUTED)
    if permuted.is_empty():
        return chosen
    limits = [upper_limit(permuted.filter(fold=fold)["gap"].to_numpy()) for fold in chosen["fold"]]
    return chosen.with_columns(permuted_gap_95=pl.Series(limits))


def upper_limit(values: npt.NDArray[np.float64]) -> float:
    """Value that one more of the same kind exceeds with a probability of `FLAGGED_SHARE` at most."""
    n = len(values)
    at = min(math.ceil((1.0 - FLAGGED_SHARE) * (n + 1) - 1e-9), n)
    return float(np.sort(values)[at - 1])


def _permuted(
    run: _Run,
    times: SessionTimes,
    folds: Sequence[_Fold],
    learner: LearnerChoice,
    *,
    n: int,
    seed: int,
    n_jobs: int,
) -> Iterator[list[dict[str, Any]]]:
    """Scores of each permutation and fold, fits side by side."""

    def fit(number: int, fold: _Fold) -> list[dict[str, Any]]:
        rng = np.random.default_rng([seed, number, fold.number])
        y, target = permute_labels(run.matrix, fold.train, times=times, rng=rng)
        matrix = run.matrix.with_columns(y=pl.Series(y), target=pl.Series(target))
        try:
            return run.rows(PERMUTED, number, [fold], learner, matrix=matrix)
        except FitError as e:
            # Alone it was fold 0.
            raise e.with_places(f"fold {fold.number}", f"permutation {number}", *e.places[1:]) from e.__cause__

    tasks = [partial(fit, number, fold) for number in range(n) for fold in folds]
    yield from side_by_side(tasks, n_jobs=n_jobs)


@contextmanager
def _named(part: str, point: object) -> Iterator[None]:
    """Name the point of a curve that cannot be fitted: the learner itself could."""
    try:
        yield
    except ValueError as e:
        raise ValueError(
            f"`diagnostics.{part}` must have points that every fold can be fitted with, was {point}: {e}"
        ) from e


def _predicted(fold: _Fold) -> Rows:
    return np.union1d(fold.train, fold.test)
