"""What cross-validation finds where there is nothing, and where there is little: part of `make noise`.

Lives here: panels of noise, every splitter of the registry with the learners of the shipped strategies on them, and what the
scores say about chance. The short form is in `test_noise.py`. Not here: every learner in small sizes (`learner_noise`), and which
signals each of them finds (`learner_signals`).

Scores of one splitter, learner and panel are one number; over panels of different seeds they are independent, so that their mean
is tested against chance by Student's t, and all of these tests together by Holm's method: with a probability of at most 1 % any
of them fails where nothing is wrong.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import polars as pl
import yaml
from scipy import stats

from hf_pipelines.research.cross_validation import CrossValidation, cross_validate
from hf_pipelines.research.label_permutation import permute_labels
from hf_pipelines.research.learners import LearnerChoice, choose_learner
from hf_pipelines.research.matrix import build_matrix, feature_names
from hf_pipelines.research.metrics import coefficient_summary, information_coefficient
from hf_pipelines.research.overfitting import Diagnostics, diagnose
from hf_pipelines.research.overfitting.signs import GapTest, judge_gap
from hf_pipelines.research.predictions import latest_predictions, split_by_path
from hf_pipelines.research.significance import adjust_holm
from hf_pipelines.research.splitters import SPLITTERS, PurgedWalkForward, Splitter, build_splitter
from hf_pipelines.research.splitters.past_blocks import SessionTimes
from hf_pipelines.research.targets import Target, build_target
from hf_pipelines.research.weights import Weightings, choose_weightings
from hf_pipelines_tests.sample_matrix import plain_bars, random_matrix

STRATEGIES = Path(__file__).resolve().parents[1] / "hf_pipelines" / "defs" / "strategies"
SHIPPED = ("tech_direction", "tech_ranking")

FAMILY_ERROR = 0.01
N_SEEDS = 20

# The defaults of every splitter work on them, with labels of ten bars.
SESSIONS, SYMBOLS, FEATURES = 440, 10, 8
# Of a session to the next, as features of trailing windows have it.
PERSISTENCE = 0.95


@dataclass(frozen=True)
class Recipe:
    """A learner with the target and the weightings that it is fitted with."""

    name: str
    learner: LearnerChoice
    target: Target
    weightings: Weightings
    seed: int


@dataclass(frozen=True)
class Tested:
    """Scores of some panels beside chance.

    Attributes
    ----------
    excess : tuple of float
        Score less what chance gives, of each panel.
    p : float
        Two-sided, of a mean that far from 0.
    """

    splitter: str
    learner: str
    score: str
    excess: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.excess))

    @property
    def p(self) -> float:
        return float(stats.ttest_1samp(self.excess, 0.0).pvalue)


def shipped_recipe(strategy: str, *, params: Mapping[str, Any] | None = None) -> Recipe:
    """Learner, target and weightings of a shipped strategy, with other values of some parameters of the learner."""
    given = yaml.safe_load((STRATEGIES / strategy / "defs.yaml").read_text())["attributes"]
    learner, target = given["learner"], given["target"]
    return Recipe(
        name=learner["type"],
        learner=choose_learner(learner["type"], {**learner.get("params", {}), **(params or {})}),
        target=build_target(target["type"], horizon_bars=target["horizon_bars"], params=target.get("params")),
        weightings=choose_weightings(given["training"].get("weighting", "none")),
        seed=learner.get("seed", 0),
    )


def noise_matrix(target: Target, *, seed: int, symbols: int = SYMBOLS, sessions: int = SESSIONS) -> pl.DataFrame:
    """Training matrix of random walks that share a market, with persistent features that know nothing of them."""
    return panel_matrix(target, seed=seed, symbols=symbols, sessions=sessions, persistence=PERSISTENCE)


def skilled_matrix(target: Target, *, seed: int, symbols: int, sessions: int, skill: float) -> pl.DataFrame:
    """The same with fresh features in each session, the first of which has a correlation of `skill` with the labels of it."""
    matrix = panel_matrix(target, seed=seed, symbols=symbols, sessions=sessions, persistence=0.0)
    outcome = pl.col("target") - pl.col("target").mean().over("ts")
    known = skill * outcome / outcome.std() + math.sqrt(1.0 - skill**2) * pl.col("feature_0")
    return matrix.with_columns(known.cast(pl.Float32).alias("feature_0"))


def panel_matrix(
    target: Target, *, seed: int, symbols: int, sessions: int, persistence: float, n_features: int = FEATURES
) -> pl.DataFrame:
    """Training matrix of random walks and features of their own, each a share `persistence` of that of the session before."""
    rng = np.random.default_rng(seed)
    steps = 0.01 * rng.normal(size=sessions) + 0.02 * rng.normal(size=(symbols, sessions))
    names = [f"S{number:03d}" for number in range(symbols)]
    bars = plain_bars(dict(zip(names, (100.0 * np.exp(np.cumsum(steps, axis=1))).tolist(), strict=True)))
    values = np.zeros((n_features, symbols, sessions))
    values[..., 0] = rng.normal(size=(n_features, symbols))
    for at in range(1, sessions):
        shock = rng.normal(size=(n_features, symbols)) * math.sqrt(1.0 - persistence**2)
        values[..., at] = persistence * values[..., at - 1] + shock
    columns = {f"feature_{at}": pl.Series(each.ravel().astype(np.float32)) for at, each in enumerate(values)}
    features = bars.select("symbol", "session", "ts").with_columns(**columns)
    return build_matrix(features, bars=bars, target=target, cutoff=None, minimum_rows=1)


def validate(matrix: pl.DataFrame, recipe: Recipe, splitter: Splitter, *, n_jobs: int = 2) -> CrossValidation:
    """Cross-validate a recipe."""
    return cross_validate(
        matrix,
        learner=recipe.learner,
        splitter=splitter,
        target=recipe.target,
        weightings=recipe.weightings,
        seed=recipe.seed,
        n_jobs=n_jobs,
    )


def excess_scores(predictions: pl.DataFrame, target: Target) -> dict[str, float]:
    """Information coefficient and accuracy of out-of-fold predictions, each less what chance gives.

    Chance gives an information coefficient of 0, and in each fold the accuracy that predictions and labels of these shares of
    classes have if they know nothing of each other; of a return the classes are the signs.
    """
    found = []
    for path in split_by_path(latest_predictions(predictions)).values():
        # Where a learner knows too little of a symbol it says nothing.
        path = path.filter(pl.col("prediction").is_finite())
        coefficient = information_coefficient(path)["information_coefficient"].to_numpy()
        if target.is_classification:
            chosen = path.select(f"probability_{name}" for name in target.classes).to_numpy().argmax(axis=1)
            happened = path["y"].to_numpy().astype(int)
        else:
            chosen, happened = (np.sign(path[name].to_numpy()).astype(int) for name in ("prediction", "y"))
        fold, excess = path["fold"].to_numpy(), 0.0
        for number in np.unique(fold):
            of_fold = fold == number
            pairs = [(chosen[of_fold] == code, happened[of_fold] == code) for code in np.unique(happened)]
            right = sum(float((a & b).mean()) - float(a.mean()) * float(b.mean()) for a, b in pairs)
            excess += right * of_fold.mean()
        # A constant prediction has none.
        known = coefficient[np.isfinite(coefficient)]
        found.append((float(known.mean()) if len(known) else math.nan, excess))
    coefficients, accuracies = zip(*found, strict=True)
    return {"information coefficient": float(np.mean(coefficients)), "accuracy": float(np.mean(accuracies))}


def noise_tests(
    recipes: Sequence[Recipe], *, seeds: Sequence[int], splitters: Mapping[str, Splitter] | None = None
) -> list[Tested]:
    """Scores of every splitter with every recipe on panels of noise."""
    built = splitters or {name: build_splitter(name) for name in SPLITTERS}
    found: dict[tuple[str, str, str], list[float]] = {}
    for seed in seeds:
        for recipe in recipes:
            matrix = noise_matrix(recipe.target, seed=seed)
            for name, splitter in built.items():
                scores = excess_scores(validate(matrix, recipe, splitter).predictions, recipe.target)
                for score, excess in scores.items():
                    found.setdefault((name, recipe.name, score), []).append(excess)
        print(f"noise: seed {seed} done", file=sys.stderr, flush=True)
    return [Tested(*key, tuple(excess)) for key, excess in sorted(found.items())]


def coefficient_t(matrix: pl.DataFrame, recipe: Recipe, splitter: Splitter) -> tuple[float, float]:
    """Mean information coefficient of a cross-validation and its t by Newey and West."""
    predictions = latest_predictions(validate(matrix, recipe, splitter).predictions)
    summary = coefficient_summary(information_coefficient(predictions)["information_coefficient"].to_numpy())
    return summary["mean"], summary["t"]


def with_permuted_labels(matrix: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """A matrix whose features know nothing of its labels any more."""
    every = np.arange(matrix.height)
    y, target = permute_labels(matrix, every, times=SessionTimes.of(matrix), rng=np.random.default_rng(seed))
    return matrix.with_columns(y=pl.Series(y), target=pl.Series(target))


def shuffled_apart(matrix: pl.DataFrame, rows: np.ndarray, *, seed: int) -> pl.DataFrame:
    """A matrix in which features and labels of some rows are shuffled among each other, their times left."""
    order = np.arange(matrix.height)
    order[rows] = np.random.default_rng(seed).permutation(rows)
    moved = [*feature_names(matrix), "y", "target"]
    return matrix.with_columns(matrix[order].select(moved))


ONE_FOLD = PurgedWalkForward(n_splits=1, test_sessions=30, embargo_sessions=1, min_train_sessions=20)


def gap_of(kind: str, *, seed: int) -> GapTest:
    """Test of the gap of a ridge on a small panel.

    Parameters
    ----------
    kind : {"overfit", "honest"}
        overfit: a feature knows three fifths of the labels before the first test row, and nothing after. honest: it knows a
        fifth of all.
    seed : int
    """
    target = build_target("forward_return", horizon_bars=3)
    is_overfit = kind == "overfit"
    matrix = random_matrix(target, symbols=8, sessions=120, skill=0.6 if is_overfit else 0.2, seed=seed)
    if is_overfit:
        matrix = faded(matrix, seed=seed)
    return judged(matrix, choose_learner("ridge", {}), target)


def judged(matrix: pl.DataFrame, learner: LearnerChoice, target: Target) -> GapTest:
    """Test of the gap of a learner, by 19 permutations of the labels of one fold."""
    asked = Diagnostics("information_coefficient", permutations=19)
    return judge_gap(
        diagnose(matrix, asked=asked, learner=learner, splitter=ONE_FOLD, target=target, weightings=(), seed=5)
    )


def faded(matrix: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """A matrix whose first feature tells nothing of its label from the first tested session on."""
    _, test = next(iter(ONE_FOLD.split(matrix)))
    noise = pl.Series(np.random.default_rng(seed).normal(size=matrix.height).astype(np.float32))
    is_tested = pl.col("session") >= matrix["session"][int(test[0])]
    return matrix.with_columns(feature_0=pl.when(is_tested).then(noise).otherwise("feature_0"))


def main() -> int:
    """Print the whole table; 1 if anything is not as it must be."""
    began, cpu = perf_counter(), process_time()
    recipes = [shipped_recipe(name) for name in SHIPPED]
    faults = [*_report_gaps(), *_report_planted(recipes), *_report_noise(recipes)]
    for fault in faults:
        print(f"FAULT: {fault}")
    print(f"\n{(perf_counter() - began) / 60:.1f} minutes, {(process_time() - cpu) / 60:.1f} of a processor")
    return 1 if faults else 0


def _report_noise(recipes: Sequence[Recipe]) -> Iterator[str]:
    tested = noise_tests(recipes, seeds=range(N_SEEDS))
    adjusted = adjust_holm([each.p for each in tested])
    print(
        f"Noise, {N_SEEDS} panels of {SYMBOLS} symbols and {SESSIONS} sessions; score less chance, Student's t over panels\n"
    )
    print(f"{'splitter':22}{'learner':20}{'score':26}{'mean':>9}{'std':>8}{'p':>8}{'Holm':>8}")
    for each, p in zip(tested, adjusted, strict=True):
        spread = np.std(each.excess, ddof=1)
        print(f"{each.splitter:22}{each.learner:20}{each.score:26}{each.mean:9.4f}{spread:8.4f}{each.p:8.3f}{p:8.3f}")
        if p < FAMILY_ERROR:
            yield f"{each.score} of {each.learner} by {each.splitter} is not chance: {each.mean:.4f}, Holm p {p:.4f}"
    print(f"\nsmallest p {min(each.p for each in tested):.4f} of {len(tested)} tests, by Holm {min(adjusted):.3f}")


def _report_planted(recipes: Sequence[Recipe]) -> Iterator[str]:
    print(
        "\nA planted information coefficient of 0.05 in 100 symbols and 750 sessions, and the same with permuted labels\n"
    )
    limit = float(stats.norm.isf(FAMILY_ERROR / 2))
    for recipe in recipes:
        matrix = skilled_matrix(recipe.target, seed=1, symbols=100, sessions=750, skill=0.05)
        for name, frame, is_there in (
            ("planted", matrix, True),
            ("permuted", with_permuted_labels(matrix, seed=2), False),
        ):
            mean, t = coefficient_t(frame, recipe, build_splitter("purged_walk_forward"))
            print(f"{recipe.name:20}{name:10} coefficient {mean:8.4f}, t {t:6.2f}")
            if (t > limit) != is_there or (not is_there and abs(t) > limit):
                yield f"{name} labels of {recipe.name}: t {t:.2f}, limit {limit:.2f}"


def _report_gaps() -> Iterator[str]:
    print("\nGap between training and test score beyond 95 % of those of permuted labels\n")
    for kind, seeds, least, most in (("overfit", 20, 19, 20), ("honest", 100, 0, 10)):
        n = sum(gap_of(kind, seed=seed).is_flagged for seed in range(seeds))
        print(f"{kind:10} flagged in {n} of {seeds} seeds")
        if not least <= n <= most:
            yield f"{kind} learners must be flagged in {least} to {most} of {seeds} seeds, was {n}"


if __name__ == "__main__":
    sys.exit(main())
