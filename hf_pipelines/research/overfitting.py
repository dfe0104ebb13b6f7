"""Overfitting: how much better a learner does on what it was trained on, and what size and settings change.

Lives here: the gap of training and test score with its distribution under permuted labels, curves over training size and over
one parameter, and how even scores are over folds. Not here: how a fold is fitted (`cross_validation`), what a score means
(`metrics`), pictures (`overfitting_plots`).

Every fit is made by `cross_validate` on the training rows that the splitter gives, or on fewer of them: the purge, the embargo,
the weightings and the cut of validation rows are those of the cross-validation itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.metrics import classification_metrics, mean_information_coefficient, regression_metrics
from hf_pipelines.research.splitters.past_blocks import SessionTimes
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import HORIZON, Target

Rows = npt.NDArray[np.int64]

# Scores that a gap can be taken of, and whether higher is better.
_RANKS = {"information_coefficient": True, "linear_information_coefficient": True}
_VALUES = {"r2": True, "directional_accuracy": True, "mse": False, "rmse": False, "mae": False}
_CLASSES = {
    "accuracy": True,
    "balanced_accuracy": True,
    "f1": True,
    "auc": True,
    "log_loss": False,
    "brier": False,
}
IS_HIGHER_BETTER = {**_RANKS, **_VALUES, **_CLASSES}

# One in so many gaps of a learner that learned nothing false is called too large.
FLAGGED_SHARE = 0.05
# More of the way from chance to a perfect training score than this, and most of what is seen in training is noise.
MEMORISING_SHARE = 0.5
# Fewer cannot say that a gap is among the 5 % largest.
LEAST_PERMUTATIONS = 19

# Permuted labels keep their neighbours within a block. Blocks of four labels' length break an eighth of the overlaps at each
# end; of fewer than eight blocks there are too few orders.
BLOCK_LABELS = 4
LEAST_BLOCKS = 8
LEAST_BLOCK_SESSIONS = 5
# A halted symbol's label may last for months.
USUAL_LABELS = 0.95

# Kinds of fits in `Overfitting.scores`.
CHOSEN, PERMUTED, LEARNING, VALIDATION = "chosen", "permuted", "learning_curve", "validation_curve"


@dataclass(frozen=True)
class Diagnostics:
    """What is asked for beside the scores of the folds; each part costs fits.

    Attributes
    ----------
    score : str
        A key of `IS_HIGHER_BETTER`.
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

    @property
    def is_asked(self) -> bool:
        """Whether anything is."""
        return bool(self.permutations or self.train_shares or self.candidates)

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
class GapTest:
    """The mean gap of the folds beside those of permuted labels.

    Attributes
    ----------
    gap, train_score, test_score : float
        Of the learner, means over the folds.
    permuted_gaps : array of shape (n_permutations,)
        The mean gap of each permutation.
    gap_limit : float
        95th percentile of the permuted gaps: the smallest of them that one more of their kind exceeds with a probability of 5 %
        at most.
    is_flagged : bool
        The gap exceeds it: what was learned holds in the training rows and not in the test rows, beyond what any learner of this
        kind makes of chance. A relation that changed, or a feature that knows the labels of its training rows.
    memorised_share : float
        How much of the way from chance (the test score after permuted labels) to a perfect score the learner goes in training
        where there is nothing to learn: 0 for one that learns nothing by heart, 1 for one that learns all of it.
    is_memorising : bool
        More than half of it: the training score says nothing about what was learned, and the gap cannot.
    """

    gap: float
    train_score: float
    test_score: float
    permuted_gaps: npt.NDArray[np.float64]
    gap_limit: float
    is_flagged: bool
    memorised_share: float
    is_memorising: bool


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
            "gap": (train - test) * (1.0 if IS_HIGHER_BETTER[self.score] else -1.0),
        }


def default_score(target: Target) -> str:
    """Score that gaps and curves are of unless another is named."""
    return "accuracy" if target.is_classification else "information_coefficient"


def scores_of(target: Target) -> dict[str, bool]:
    """Scores that a target has, and whether higher is better."""
    return {**(_CLASSES if target.is_classification else _VALUES), **_RANKS}


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
    matrix, learner, splitter, target, seed, n_jobs
        As in `cross_validate`; the result is the same for any `n_jobs`.
    asked : Diagnostics
    on_fits : callable, optional
        `(fits made, fits in all)`, called now and then.
    **settings
        `weightings`, `missing` and `validation_share` of `cross_validate`.

    Returns
    -------
    Overfitting

    Raises
    ------
    ValueError
        As `cross_validate`; if the score is undefined in a fold, such as a rank correlation of one symbol.

    Notes
    -----
    Labels are permuted within the training rows of a fold, `y` and `target` together: its sessions are rotated by a random
    number, cut into blocks, and the blocks put into a random order; each symbol's labels follow. So labels of a session and of
    its neighbours stay together, overlapping as they do, each symbol keeps its own labels, and what is lost is what the
    features of a row know of its label. Test rows keep theirs. Intervals of labels stay with their rows: so do weights
    by uniqueness and the cut of validation rows.
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

    with _one_blas_thread():
        keep(run.rows(CHOSEN, asked.chosen_value if asked.parameter else "", folds, learner, n_jobs=n_jobs))
        for share in asked.train_shares:
            smaller = [
                replace(fold, train=nearest_sessions(times, fold.train, fold.test, share=share)) for fold in folds
            ]
            keep(run.rows(LEARNING, share, smaller, learner, n_jobs=n_jobs))
        for value, candidate in asked.candidates:
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
    return regression_metrics(y, known["prediction"].to_numpy())[score]


def judge_gap(found: Overfitting) -> GapTest:
    """Compare the mean gap over the folds with those of permuted labels.

    Raises
    ------
    ValueError
        If there are fewer than `LEAST_PERMUTATIONS`.
    """
    chosen, permuted = found.scores.filter(kind=CHOSEN), found.scores.filter(kind=PERMUTED)
    of_each = permuted.group_by("point", maintain_order=True).agg(pl.col("gap").mean())
    if of_each.height < LEAST_PERMUTATIONS:
        raise ValueError(f"`permutations` must be at least {LEAST_PERMUTATIONS} to judge a gap, was {of_each.height}.")
    gap, gaps = _mean(chosen, "gap"), of_each["gap"].to_numpy()
    limit = _upper_limit(gaps)
    perfect = 1.0 if IS_HIGHER_BETTER[found.asked.score] else 0.0
    chance = _mean(permuted, "test_score")
    # No score is better than perfect; where chance is, there is nothing to learn by heart.
    share = (_mean(permuted, "train_score") - chance) / (perfect - chance) if perfect != chance else 0.0
    return GapTest(
        gap=gap,
        train_score=_mean(chosen, "train_score"),
        test_score=_mean(chosen, "test_score"),
        permuted_gaps=gaps,
        gap_limit=limit,
        is_flagged=gap > limit,
        memorised_share=share,
        is_memorising=share > MEMORISING_SHARE,
    )


def gaps_by_fold(found: Overfitting) -> pl.DataFrame:
    """Columns for the fold metrics: `fold`, `train_<score>`, `gap` and, of permuted labels, `permuted_gap_95`."""
    chosen = found.scores.filter(kind=CHOSEN).select(
        "fold", pl.col("train_score").alias(f"train_{found.asked.score}"), "gap"
    )
    permuted = found.scores.filter(kind=PERMUTED)
    if permuted.is_empty():
        return chosen
    limits = [_upper_limit(permuted.filter(fold=fold)["gap"].to_numpy()) for fold in chosen["fold"]]
    return chosen.with_columns(permuted_gap_95=pl.Series(limits))


def learning_curve(found: Overfitting) -> pl.DataFrame:
    """Scores over the size of the training sets, the whole ones last.

    Returns
    -------
    DataFrame
        `point` (share of the sessions), `n_train_sessions` and `n_train` (means over the folds), `train_score`, `test_score`,
        `train_low`, `train_high`, `test_low`, `test_high` (lowest and highest fold).
    """
    scores = found.scores.filter(pl.col("kind").is_in([LEARNING, CHOSEN]))
    whole = pl.when(kind=CHOSEN).then(pl.lit("1.0")).otherwise("point")
    return _curve(scores.with_columns(point=whole)).sort("n_train_sessions", maintain_order=True)


def validation_curve(found: Overfitting) -> pl.DataFrame:
    """Scores over the values of one parameter, in the order of numbers, the learner's own value among them.

    Returns
    -------
    DataFrame
        As `learning_curve`; `point` is the value, `is_chosen` whether the learner has it.
    """
    scores = found.scores.filter(pl.col("kind").is_in([VALIDATION, CHOSEN]))
    curve = _curve(scores).join(
        scores.select("point", is_chosen=pl.col("kind") == CHOSEN).unique(), on="point", maintain_order="left"
    )
    order = sorted(range(curve.height), key=lambda at: _in_order(curve["point"][at], at))
    return curve[order]


def stability(fold_metrics: pl.DataFrame, *, score: str) -> dict[str, float]:
    """How even a score is over the folds.

    Parameters
    ----------
    fold_metrics : DataFrame
        As in `CrossValidation`.
    score : str
        A column of it.

    Returns
    -------
    dict
        `mean`, `std` (sample, NaN for one fold), `lowest`, `highest`, `n_folds`, `n_undefined` (folds whose score is NaN: left
        out), `n_positive`.
    """
    values = fold_metrics[score].to_numpy().astype(np.float64)
    known = values[np.isfinite(values)]
    nan = math.nan
    return {
        "mean": float(known.mean()) if len(known) else nan,
        "std": float(known.std(ddof=1)) if len(known) > 1 else nan,
        "lowest": float(known.min()) if len(known) else nan,
        "highest": float(known.max()) if len(known) else nan,
        "n_folds": len(values),
        "n_undefined": len(values) - len(known),
        "n_positive": int((known > 0.0).sum()),
    }


def permute_labels(
    matrix: pl.DataFrame, train: Rows, *, times: SessionTimes, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`y` and `target` of a matrix with those of some rows permuted by blocks of sessions; see `diagnose`.

    Parameters
    ----------
    matrix : DataFrame
        A training matrix.
    train : int array
        Rows whose labels are permuted among each other.
    times : SessionTimes
        Of the matrix.
    rng : Generator

    Returns
    -------
    y, target : arrays of shape (n_rows,)
        Those of other rows as they were.
    """
    sessions, code = np.unique(times.code[train], return_inverse=True)
    ends = np.searchsorted(times.first_ts, times.rows.end[train], side="right") - 1
    label = int(np.quantile(ends - times.code[train], USUAL_LABELS)) + 1
    n = len(sessions)
    length = min(max(BLOCK_LABELS * label, LEAST_BLOCK_SESSIONS), max(n // LEAST_BLOCKS, label))
    # Where each session stands in the new order.
    place = np.argsort(_shuffled(n, length=length, rng=rng))
    _, symbol = np.unique(matrix["symbol"].to_numpy()[train], return_inverse=True)
    horizon = matrix[HORIZON].to_numpy()[train] if HORIZON in matrix.columns else np.zeros(len(train), dtype=np.int64)
    ts = times.rows.start[train]
    to = train[np.lexsort((ts, horizon, symbol))]
    taken = train[np.lexsort((ts, place[code], horizon, symbol))]
    y, target = matrix["y"].to_numpy().copy(), matrix["target"].to_numpy().copy()
    y[to], target[to] = y[taken], target[taken]
    return y, target


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
    from joblib import Parallel, delayed

    def fit(number: int, fold: _Fold) -> list[dict[str, Any]]:
        rng = np.random.default_rng([seed, number, fold.number])
        y, target = permute_labels(run.matrix, fold.train, times=times, rng=rng)
        matrix = run.matrix.with_columns(y=pl.Series(y), target=pl.Series(target))
        return run.rows(PERMUTED, number, [fold], learner, matrix=matrix)

    tasks = [partial(fit, number, fold) for number in range(n) for fold in folds]
    yield from Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(delayed(task)() for task in tasks)


def _one_blas_thread() -> Any:
    from threadpoolctl import threadpool_limits

    # Around all fits: limits that threads set and take back by themselves would undo each other.
    return threadpool_limits(limits=1, user_api="blas")


def _predicted(fold: _Fold) -> Rows:
    return np.union1d(fold.train, fold.test)


def _shuffled(n: int, *, length: int, rng: np.random.Generator) -> Rows:
    """Numbers up to n, rotated and cut into blocks of `length` or a little more, the blocks in a random order."""
    blocks = np.array_split(np.roll(np.arange(n), int(rng.integers(n))), max(n // length, 1))
    return np.concatenate([blocks[at] for at in rng.permutation(len(blocks))])


def _upper_limit(values: npt.NDArray[np.float64]) -> float:
    """Value that one more of the same kind exceeds with a probability of `FLAGGED_SHARE` at most."""
    n = len(values)
    at = min(math.ceil((1.0 - FLAGGED_SHARE) * (n + 1) - 1e-9), n)
    return float(np.sort(values)[at - 1])


def _mean(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].to_numpy().mean())


def _curve(scores: pl.DataFrame) -> pl.DataFrame:
    return scores.group_by("point", maintain_order=True).agg(
        pl.col("n_train_sessions", "n_train", "train_score", "test_score").mean(),
        train_low=pl.col("train_score").min(),
        train_high=pl.col("train_score").max(),
        test_low=pl.col("test_score").min(),
        test_high=pl.col("test_score").max(),
    )


def _in_order(point: str, at: int) -> tuple[float, int]:
    """Numbers by their size; names as they were given."""
    try:
        return float(point), at
    except ValueError:
        return math.inf, at
