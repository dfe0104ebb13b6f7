"""What every learner, splitter and step of preprocessing finds in noise, by a pairwise design: part of `make noise`.

Lives here: the design, its runs, and what their scores say about chance. The short form is in `test_learner_noise.py`.

Each entry of the registry with each of its tasks is fitted on `N_SEEDS` panels of noise, each time by another splitter and behind
another step, chosen so that every pair of learner and step, learner and splitter, and splitter and step occurs: a covering array of
strength two with the panels as its fourth column. Scores of a level, be it a learner, a splitter or a step, are averaged over the
runs of a panel; over panels they are independent, so that their mean is tested against chance by Student's t, and all of these
tests together by Holm's method at the family error.

References
----------
Cohen, Dalal, Fredman, Patton (1997), "The AETG System", IEEE Transactions on Software Engineering 23(7): greedy covering arrays.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from hf_pipelines.research.learners import PREPROCESSING, Step, Task
from hf_pipelines.research.learners.array_bytes import arrays_format
from hf_pipelines.research.learners.prediction import feature_array
from hf_pipelines.research.learners.selectors import KBest
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.significance import adjust_holm
from hf_pipelines.research.splitters import SPLITTERS
from hf_pipelines.research.targets import Target
from hf_pipelines_tests.noise_table import FAMILY_ERROR, N_SEEDS, Recipe, excess_scores, panel_matrix, validate
from hf_pipelines_tests.sample_learners import fits_behind, learner_levels, sized_learner, sized_splitter, target_of

Level = tuple[str, Task]

# No step before the learner.
PLAIN = "none"

SYMBOLS, SESSIONS, FEATURES, PERSISTENCE = 8, 160, 6, 0.95

HORIZON_BARS = 5

# The planted leak is judged by learners that cost little.
LEAKING: list[Level] = [("ridge", "regression"), ("logistic", "classification")]
LEAKING_FEATURES = 60


@dataclass(frozen=True)
class DesignRun:
    """One cross-validation of the design."""

    seed: int
    learner: Level
    splitter: str
    step: str

    @property
    def levels(self) -> tuple[tuple[str, str], ...]:
        """Factor and level of everything that it belongs to."""
        return (
            ("all", "all"),
            ("learner", ", ".join(self.learner)),
            ("splitter", self.splitter),
            ("preprocessing", self.step),
        )


@dataclass(frozen=True)
class Judged:
    """Scores less chance of the runs of one level, a number a panel."""

    factor: str
    level: str
    score: str
    excess: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.excess)) if self.excess else math.nan

    @property
    def p(self) -> float:
        """Two-sided; NaN where there are too few numbers, as of a learner that predicts a constant."""
        if len(self.excess) < 3 or np.ptp(self.excess) == 0.0:
            return math.nan
        return float(stats.ttest_1samp(self.excess, 0.0).pvalue)


def pairwise_design(
    learners: Sequence[Level], splitters: Sequence[str], steps: Sequence[str], *, n_seeds: int
) -> list[DesignRun]:
    """Runs in which every pair of levels that fit together occurs, and every learner once a panel.

    Greedy: of all splitters and steps the run takes those that add the most pairs which do not occur yet, and among equals those
    that were used least.
    """
    covered: set[tuple[str, ...]] = set()
    used: Counter[str] = Counter()
    runs = []
    for at, learner in enumerate(learners):
        fitting = [step for step in steps if fits_behind(*learner, _step(step))]
        for number in range(max(n_seeds, len(fitting), len(splitters))):
            options = itertools.product(splitters, fitting)
            splitter, step = max(
                options,
                key=lambda option: (
                    # Those of the learner first: only its own runs can hold them.
                    len(_pairs(learner, *option) - {option} - covered),
                    option not in covered,
                    -used[option[0]] - used[option[1]],
                    option,
                ),
            )
            covered |= _pairs(learner, splitter, step)
            used.update((splitter, step))
            # Each learner begins at another panel: else a splitter that is always taken first would see the first panels alone.
            runs.append(DesignRun((number + 7 * at) % n_seeds, learner, splitter, step))
    # Of few learners the runs may be too few for the pairs of the others.
    for splitter, step in itertools.product(splitters, steps):
        fitting_learners = [each for each in learners if fits_behind(*each, _step(step))]
        if (splitter, step) not in covered and fitting_learners:
            runs.append(DesignRun(len(runs) % n_seeds, fitting_learners[0], splitter, step))
    return runs


def missing_pairs(
    runs: Collection[DesignRun], learners: Sequence[Level], splitters: Sequence[str], steps: Sequence[str]
) -> set[tuple[str, ...]]:
    """Pairs of levels that fit together and occur in no run."""
    wanted = {
        pair
        for learner, splitter, step in itertools.product(learners, splitters, steps)
        if fits_behind(*learner, _step(step))
        for pair in _pairs(learner, splitter, step)
    }
    return wanted - {pair for run in runs for pair in _pairs(run.learner, run.splitter, run.step)}


def _step(name: str) -> str | None:
    return None if name == PLAIN else name


def _pairs(learner: Level, splitter: str, step: str) -> set[tuple[str, ...]]:
    return {(*learner, splitter), (*learner, step), (splitter, step)}


def whole_design(n_seeds: int = N_SEEDS) -> list[DesignRun]:
    """The design over every entry of the registries."""
    return pairwise_design(learner_levels(), sorted(SPLITTERS), [PLAIN, *sorted(PREPROCESSING)], n_seeds=n_seeds)


def noise_panel(target: Target, *, seed: int, n_features: int = FEATURES) -> pl.DataFrame:
    """Training matrix of random walks with persistent features that know nothing of them."""
    return panel_matrix(
        target, seed=seed, symbols=SYMBOLS, sessions=SESSIONS, persistence=PERSISTENCE, n_features=n_features
    )


def judge_runs(runs: Sequence[DesignRun], *, n_features: int = FEATURES, is_leaking: bool = False) -> list[Judged]:
    """Scores of every level of some runs, less chance."""
    found: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for seed in sorted({run.seed for run in runs}):
        matrices: dict[str, pl.DataFrame] = {}
        for run in (run for run in runs if run.seed == seed):
            (name, task), target = run.learner, target_of(*run.learner, horizon_bars=HORIZON_BARS)
            if target.name not in matrices:
                matrices[target.name] = noise_panel(target, seed=seed, n_features=n_features)
            matrix = matrices[target.name]
            with _fitted_on_all(matrix, task) if is_leaking else nullcontext():
                recipe = Recipe(name, sized_learner(name, target, step=_step(run.step)), target, (), seed=seed)
                result = validate(matrix, recipe, sized_splitter(run.splitter), n_jobs=1)
            for score, excess in excess_scores(result.predictions, target).items():
                for factor, level in run.levels:
                    # A constant prediction ranks nothing.
                    if math.isfinite(excess):
                        found.setdefault((factor, level, score), {}).setdefault(seed, []).append(excess)
        print(f"noise of learners: panel {seed} done", file=sys.stderr, flush=True)
    return [
        Judged(*key, tuple(float(np.mean(each)) for each in by_seed.values())) for key, by_seed in sorted(found.items())
    ]


def adjusted(judged: Sequence[Judged]) -> list[float]:
    """Holm's p-values; 1 of what cannot be tested."""
    return np.nan_to_num(adjust_holm([each.p for each in judged]), nan=1.0).tolist()


LEAK = "fitted_on_all_rows"


class _FittedOnAll(KBest):
    """Selects features by all rows, test rows among them: a fault of the kind that the table must find."""

    def __init__(self, X: np.ndarray, y: np.ndarray, task: str) -> None:
        super().__init__(k=3, task=task)
        self.all_rows = X, y

    def fit(self, X: Any, y: Any) -> _FittedOnAll:
        super().fit(*self.all_rows)
        return self


@contextmanager
def _fitted_on_all(matrix: pl.DataFrame, task: Task) -> Iterator[None]:
    """The planted leak in the registry of preprocessing, for one matrix."""
    X, y = feature_array(matrix, feature_names(matrix)), matrix["y"].to_numpy()
    PREPROCESSING[LEAK] = Step(
        name=LEAK,
        build=lambda params, setup: _FittedOnAll(X, y, task),
        params={},
        format=arrays_format("kept_", "n_features_in_"),
        keeps_columns=False,
    )
    try:
        yield
    finally:
        del PREPROCESSING[LEAK]


def leak_runs(step: str, *, n_seeds: int = N_SEEDS) -> list[DesignRun]:
    """The cheap learners behind a step, by one splitter."""
    return [DesignRun(seed, learner, "purged_walk_forward", step) for learner in LEAKING for seed in range(n_seeds)]


def report_learner_noise() -> Iterator[str]:
    """Print the table; what is not chance, and a planted leak that is not found."""
    runs = whole_design()
    began = process_time()
    judged = judge_runs(runs)
    cpu_s = process_time() - began
    levels = learner_levels()
    n_triples = len(levels) * len(SPLITTERS) * (len(PREPROCESSING) + 1)
    print(
        f"\nNoise in {N_SEEDS} panels of {SYMBOLS} symbols and {SESSIONS} sessions: {len(runs)} runs hold every pair of {len(levels)} "
        f"learners with their tasks, {len(SPLITTERS)} splitters and {len(PREPROCESSING) + 1} steps ({n_triples} triples), in {cpu_s:.0f} s\n"
    )
    print(f"{'factor':15}{'level':40}{'score':26}{'n':>4}{'mean':>9}{'p':>8}{'Holm':>8}")
    for each, p in zip(judged, adjusted(judged), strict=True):
        print(
            f"{each.factor:15}{each.level:40}{each.score:26}{len(each.excess):4}{each.mean:9.4f}{each.p:8.3f}{p:8.3f}"
        )
        if p < FAMILY_ERROR:
            yield f"{each.score} of {each.factor} {each.level} is not chance: {each.mean:.4f}, Holm p {p:.4f}"
    leaked = judge_runs(leak_runs(LEAK), n_features=LEAKING_FEATURES, is_leaking=True)
    honest = judge_runs(leak_runs("k_best"), n_features=LEAKING_FEATURES)
    for word, found in (("fitted on all rows", leaked), ("fitted inside the fold", honest)):
        p = min(adjusted(found))
        print(
            f"selection of features {word}: largest mean {max(each.mean for each in found):.4f}, smallest Holm p {p:.2g}"
        )
        if (p < FAMILY_ERROR) != (found is leaked):
            yield f"a selection {word} has a smallest Holm p of {p:.3g}"


if __name__ == "__main__":
    faults = list(report_learner_noise())
    print(*(f"FAULT: {fault}" for fault in faults), sep="\n")
    sys.exit(1 if faults else 0)
