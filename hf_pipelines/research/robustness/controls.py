"""Controls: copies of a week's last fold in which there is nothing to find, and one in which there is.

Lives here: what is fitted on twins, and what that says of the code that fitted the week's own models. Not here: the twins (`twins`), fitting (`cross_validation`), whether the strategy itself is luck (`overfitting`).

A twin has the rows, the fold, the learner, its preprocessing and the weightings of the strategy. Its labels are those of other
sessions, so that features know nothing of them. What is found in such a twin was seen in the labels of the test rows. In the planted
twin each feature is then mixed with the label of its row: a learner that does not find that finds nothing.

Whether something was found is an exact test. The order of the test rows' labels is drawn as many times more as `DRAWS`, from what the
order of the twin was drawn from; a learner that has not seen it makes all of them equally likely to agree best with its predictions.
So each permuted twin is found with a probability of `FALSE_ALARM / PERMUTED_TWINS` where nothing is wrong, whatever the learner,
however alike its predictions and its labels are from one session to the next.

References
----------
Hoeffding (1951), "A combinatorial central limit theorem", Annals of Mathematical Statistics 22(4): the variance of a sum over a
permutation. Phipson & Smyth (2010), "Permutation p-values should never be zero", SAGMB 9(1): p of drawn permutations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.batched_matrix import BatchedMatrix
from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.robustness.twins import (
    Floats,
    Sample,
    centred_ranks,
    plant,
    relabelled,
    sample_rows,
    tested_labels,
)
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import HORIZON, Target
from hf_pipelines.research.weights import Weightings

TRUSTED, NOT_TRUSTED, CANNOT_BE_JUDGED = "trusted", "not trusted", "cannot be judged"

# Of all permuted twins of a week together, and of the planted one where nothing is planted.
FALSE_ALARM = 0.001
PERMUTED_TWINS = 2
# With fewer no twin can be found at its share of the false alarms; p is (1 + draws at least as good) / (1 + draws).
DRAWS = round(PERMUTED_TWINS / FALSE_ALARM) - 1

# How sure the planted signal must be of being found, and how much of a feature's correlation with its label a learner that works
# has out of sample, at least: trees and networks on a few hundred rows lose some.
POWER = 0.99
EFFICIENCY = 0.5
# A feature that is all label tells nothing of a learner; with less in the test rows than this can show nothing is said.
LARGEST_STRENGTH = 0.95
LARGEST_CORRELATION = 0.7

# Eight blocks have 40,320 orders, and as many rotations of each as there are sessions.
LEAST_BLOCKS = 8

# Learners have smallest leaves and numbers of rows of their own: what one does not find in fewer says nothing of it.
LEAST_TRAIN_ROWS = 200
# Sizes of what costs time, by the names that learners share.
SIZES = {"n_estimators": 100, "epochs": 10}


@dataclass(frozen=True)
class Twin:
    """One twin.

    Attributes
    ----------
    kind : {"permuted", "planted"}
    correlation : float
        Rank correlation of predictions and labels over the test rows; 0 of a constant prediction.
    p : float
        Of the order of its labels among those drawn.
    is_found : bool
    """

    kind: str
    correlation: float
    p: float
    is_found: bool


@dataclass(frozen=True)
class Controls:
    """What the twins of a week say.

    Attributes
    ----------
    verdict : {"trusted", "not trusted", "cannot be judged"}
        Only the first is a pass.
    reasons : tuple of str
        Why it is not trusted, or cannot be judged.
    twins : tuple of Twin
        Those that were fitted.
    strength : float or None
        Correlation of each planted feature with the label.
    n_train, n_test, n_test_sessions : int
        Rows and sessions of the twins.
    n_effective : float
        Independent rows that the test rows are worth: symbols that move together are few.
    """

    verdict: str
    reasons: tuple[str, ...]
    twins: tuple[Twin, ...]
    strength: float | None
    n_train: int
    n_test: int
    n_test_sessions: int
    n_effective: float

    def to_json(self) -> dict[str, Any]:
        """For facts of a content and for programs."""
        return {**asdict(self), "reasons": [*self.reasons], "twins": [asdict(each) for each in self.twins]}


def run_controls(
    matrix: pl.DataFrame | BatchedMatrix,
    *,
    learner: LearnerChoice,
    splitter: Splitter,
    target: Target,
    weightings: Weightings,
    seed: int,
    n_jobs: int = 1,
    **settings: Any,
) -> Controls:
    """Fit a strategy's learner where there is nothing to find, and where there is.

    Parameters
    ----------
    matrix : DataFrame or BatchedMatrix
        Training matrix of the week. Of one that is read in batches the twins' rows are read into memory.
    learner : LearnerChoice
        As in `cross_validate`, and so are `splitter`, `target`, `weightings` and `seed`. Trees and epochs are fewer, see `SIZES`.
    splitter : Splitter
        Its last fold is taken.
    target : Target
    weightings : tuple of ChosenWeighting
    seed : int
    n_jobs : int
        Threads of a learner whose fit is many small ones.
    **settings : mapping
        `missing`, `validation_share` and `times` of `cross_validate`.

    Returns
    -------
    Controls
        The same for the same arguments. "cannot be judged" where the test rows are too few to show anything, where the twins cannot
        be fitted, and where the learner learns nothing from labels.

    Raises
    ------
    ValueError
        If the splitter makes no fold of the matrix.
    """
    sample = sample_rows(matrix, splitter=splitter, seed=seed, n_twins=PERMUTED_TWINS + 1)
    small = _smaller(learner)
    fitted = {"learner": small, "target": target, "weightings": weightings, "seed": seed, "n_jobs": n_jobs, **settings}
    reasons: list[str] = []
    twins: list[Twin] = []
    if sample.test.n_sessions < LEAST_BLOCKS:
        reasons.append(f"its last fold tests {sample.test.n_sessions} sessions, at least {LEAST_BLOCKS} are needed")
        return _judged(sample, twins, reasons, strength=None, n_effective=0.0)
    # As long as labels are where there are enough of them: neighbours go on to overlap.
    blocks = max(min(sample.test.label_sessions, sample.test.n_sessions // LEAST_BLOCKS), 1)
    try:
        for number in range(PERMUTED_TWINS):
            twins.append(_permuted(sample, np.random.default_rng([seed, 1, number]), length=blocks, fitted=fitted))
        rng = np.random.default_rng([seed, 2])
        moved = relabelled(sample, rng, length=1)
        n_effective = effective_rows(sample.test.panel(centred_ranks(tested_labels(sample, moved))))
        strength = planted_strength(n_effective)
        if not learns_labels(learner):
            reasons.append(f"{learner.name} learns nothing from labels: a planted signal says nothing of it")
            strength = None
        elif len(sample.fold.train) < LEAST_TRAIN_ROWS:
            reasons.append(
                f"its last fold is trained on {len(sample.fold.train)} rows, at least {LEAST_TRAIN_ROWS} are needed to find a planted signal"
            )
            strength = None
        elif strength is None:
            reasons.append(
                f"{len(sample.fold.test):,} test rows are worth {n_effective:.0f} independent ones, too few to show a planted signal"
            )
        else:
            planted = plant(moved, sample.fold, strength=strength, categories=_categories(learner))
            twins.append(_judge(sample, planted, rng, kind="planted", length=1, fitted=fitted))
    except ValueError as e:
        reasons.append(f"its twins cannot be fitted: {e}")
        return _judged(sample, twins, reasons, strength=None, n_effective=0.0)
    return _judged(sample, twins, reasons, strength=strength, n_effective=n_effective)


def planted_strength(n_effective: float) -> float | None:
    """Correlation of a feature with the label that a working learner's predictions are found by with a probability of `POWER`.

    Parameters
    ----------
    n_effective : float
        Independent rows that the test rows are worth.

    Returns
    -------
    float or None
        None where no strength would be found so surely.

    Notes
    -----
    Under the permutations a correlation is about normal with a deviation of 1 / sqrt(n), so one that exceeds their quantile
    1 - `FALSE_ALARM` with a probability of `POWER` is their two quantiles added up, over sqrt(n): 5.42 / sqrt(n). Of the feature's own
    correlation it is `EFFICIENCY`.
    """
    from scipy.special import ndtri

    if n_effective <= 0.0:
        return None
    needed = float(ndtri(1.0 - FALSE_ALARM) + ndtri(POWER)) / math.sqrt(n_effective)
    return min(needed / EFFICIENCY, LARGEST_STRENGTH) if needed <= LARGEST_CORRELATION else None


def effective_rows(values: Floats) -> float:
    """Independent rows that a panel is worth to a permutation of its sessions.

    Parameters
    ----------
    values : array of shape (n_sessions, n_columns)
        Labels less their mean, 0 where there is none.

    Returns
    -------
    float
        The number of labels if they are independent, that of the sessions (less one) if all columns are the same; 0 of a constant.
    """
    products = values @ values.T
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    variance = float((centred**2).sum()) / (len(values) - 1)
    return float(np.trace(products)) ** 2 / variance if variance > 0.0 else 0.0


def learns_labels(learner: LearnerChoice) -> bool:
    """Whether what it predicts hangs on how features and labels go together in its training rows."""
    if learner.readers:
        return any(learns_labels(each) for each in learner.readers)
    return learner.entry.family != "baseline" and learner.entry.require_target is None


def controls_in_words(found: Controls) -> str:
    """What the controls of a week say, in a sentence."""
    told = (
        f"controls: the week is {found.verdict}" if found.verdict != CANNOT_BE_JUDGED else "controls: cannot be judged"
    )
    shown = ", ".join(f"{each.kind} {each.correlation:+.2f} (p {each.p:.4f})" for each in found.twins)
    why = f": {'; '.join(found.reasons)}" if found.reasons else ""
    of = f" [{shown}; {found.n_train:,} rows trained on, {found.n_test:,} tested]" if shown else ""
    return f"{told}{why}{of}"


def _permuted(sample: Sample, rng: np.random.Generator, *, length: int, fitted: dict[str, Any]) -> Twin:
    matrix = relabelled(sample, rng, length=length)
    return _judge(sample, matrix, rng, kind="permuted", length=length, fitted=fitted)


def _judge(
    sample: Sample, matrix: pl.DataFrame, rng: np.random.Generator, *, kind: str, length: int, fitted: dict[str, Any]
) -> Twin:
    """Fit a twin and compare the order of its labels with as many others."""
    predictions = cross_validate(matrix, splitter=sample.fold, **fitted).predictions
    keys = [*KEY_COLUMNS, *([HORIZON] if HORIZON in matrix.columns else [])]
    of_rows = matrix[sample.test.rows].select(*keys).join(predictions, on=keys, how="left", maintain_order="left")
    predicted = centred_ranks(of_rows["prediction"].cast(pl.Float64).to_numpy())
    # Of the labels as they were: the twin's order is one of those that are drawn from.
    own = centred_ranks(tested_labels(sample, sample.matrix))
    placed = centred_ranks(tested_labels(sample, matrix))
    agreed = float(predicted @ placed)
    # Equal sums of another order must not differ by rounding.
    margin = 1e-9 * float(np.linalg.norm(predicted) * np.linalg.norm(placed))
    drawn = np.concatenate([own[orders] @ predicted for orders in sample.test.draws(rng, length=length, n=DRAWS)])
    p = (1 + int((drawn >= agreed - margin).sum())) / (1 + DRAWS)
    limit = FALSE_ALARM / (PERMUTED_TWINS if kind == "permuted" else 1)
    norm = float(np.linalg.norm(predicted) * np.linalg.norm(placed))
    return Twin(kind, agreed / norm if norm else 0.0, p, is_found=p <= limit + 1e-12)


def _judged(
    sample: Sample, twins: Sequence[Twin], reasons: Sequence[str], *, strength: float | None, n_effective: float
) -> Controls:
    faults = [
        f"in labels of other sessions it finds a rank correlation of {each.correlation:.2f} (p {each.p:.4f}): it sees labels of the rows "
        "that it is tested on"
        for each in twins
        if each.kind == "permuted" and each.is_found
    ]
    faults += [
        f"it does not find a signal of {strength:.2f} that is planted in every feature (p {each.p:.3f}): it learns nothing"
        for each in twins
        if each.kind == "planted" and not each.is_found
    ]
    return Controls(
        verdict=NOT_TRUSTED if faults else CANNOT_BE_JUDGED if reasons else TRUSTED,
        reasons=(*faults, *reasons),
        twins=tuple(twins),
        strength=strength,
        n_train=len(sample.fold.train),
        n_test=len(sample.fold.test),
        n_test_sessions=sample.test.n_sessions,
        n_effective=n_effective,
    )


def _smaller(learner: LearnerChoice) -> LearnerChoice:
    """The learner with fewer trees and epochs, and so are those inside of it."""

    def small(value: Any) -> Any:
        if isinstance(value, LearnerChoice):
            return _smaller(value)
        return tuple(small(each) for each in value) if isinstance(value, tuple) else value

    sizes = {name: min(learner.params[name], most) for name, most in SIZES.items() if name in learner.params}
    return replace(learner, params={**{name: small(each) for name, each in learner.params.items()}, **sizes})


def _categories(learner: LearnerChoice) -> frozenset[str]:
    """Features that a learner, or one inside of it, takes as categories: their numbers are names."""
    own = map(str, learner.params.get("categories", ()))
    return frozenset(own).union(*(_categories(each) for each in learner.nested))
