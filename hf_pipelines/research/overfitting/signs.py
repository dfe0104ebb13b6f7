"""Signs of overfitting: what the fits of `fits` say about a learner, in numbers and in words.

Lives here: the test of the gap between training and test score, the two curves, how even scores are over folds. Not here: the fits
(`fits`), pictures (`plots`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.overfitting.fits import (
    CHOSEN,
    LEARNING,
    PERMUTED,
    VALIDATION,
    Overfitting,
    upper_limit,
)

# Scores that are 0 by chance.
SIGNED = ("information_coefficient", "linear_information_coefficient", "r2")

# More of the way from chance to a perfect training score than this, and most of what is seen in training is noise.
MEMORISING_SHARE = 0.5
# Fewer cannot say that a gap is among the 5 % largest.
LEAST_PERMUTATIONS = 19


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
    limit = upper_limit(gaps)
    perfect = 1.0 if is_better_higher(found.asked.score) else 0.0
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


def gap_in_words(gap: GapTest, *, score: str) -> str:
    """What the test of the gap says, in sentences."""
    n = len(gap.permuted_gaps)
    beside = f"95 % of the gaps of {n} permutations of the labels are at most {gap.gap_limit:.3g}"
    if gap.is_flagged:
        verdict = "OVERFIT: it learned what does not hold outside of its training rows."
    elif gap.is_memorising:
        verdict = "It learns labels by heart: neither the training score nor the gap says what was learned."
    else:
        verdict = "No larger than chance makes it."
    return (
        f"{score}: {gap.train_score:.3g} on training rows, {gap.test_score:.3g} on test rows, a gap of {gap.gap:.3g}; {beside}. "
        f"{verdict} Of labels without meaning it learns {max(gap.memorised_share, 0.0):.0%} by heart."
    )


def validation_in_words(curve: pl.DataFrame, *, parameter: str, score: str) -> str:
    """Which value of the parameter does best on the test rows, and what it costs to choose by it."""
    best = curve.sort("test_score", descending=is_better_higher(score), maintain_order=True).row(0, named=True)
    own = curve.filter("is_chosen").row(0, named=True)
    found = (
        f"is the best of {curve.height}"
        if own["point"] == best["point"]
        else f"is not the best of {curve.height}: {best['point']} has {best['test_score']:.3g}"
    )
    return (
        f"{score} on test rows with {parameter} {own['point']}, the learner's own, is {own['test_score']:.3g}, which {found}. "
        f"{curve.height} configurations were tried: who takes the best of them has made so many trials."
    )


def stability_in_words(found: Mapping[str, float], *, score: str) -> str:
    """How even a score is over the folds, in a sentence."""
    n, n_known = found["n_folds"], found["n_folds"] - found["n_undefined"]
    if not n_known:
        return f"{score} is defined in none of {n} folds."
    spread = f", standard deviation {found['std']:.3g}" if n_known > 1 else ""
    signs = f", above 0 in {found['n_positive']} of {n_known}" if score in SIGNED else ""
    undefined = f" ({found['n_undefined']} more without)" if found["n_undefined"] else ""
    return (
        f"{score} from {found['lowest']:.3g} to {found['highest']:.3g} over {n_known} folds{undefined}, mean {found['mean']:.3g}"
        f"{spread}{signs}."
    )


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
