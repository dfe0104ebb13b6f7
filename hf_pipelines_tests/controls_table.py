"""How often the controls of a week are wrong: `make controls`. The short form is in `research/robustness/test_controls.py`.

Lives here: many weeks of noise, what permuted twins find in them, and how often a planted signal is found. The limits of both are
calculated (`research.robustness.controls`); this shows that they hold.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from time import process_time
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from hf_pipelines.research.batched_matrix import BatchedMatrix
from hf_pipelines.research.learners import LearnerChoice, choose_learner
from hf_pipelines.research.robustness.controls import FALSE_ALARM, PERMUTED_TWINS, POWER, Controls, run_controls
from hf_pipelines.research.splitters import PurgedWalkForward, Splitter
from hf_pipelines.research.targets import Target, build_target
from hf_pipelines_tests.noise_table import panel_matrix

WALK = PurgedWalkForward(n_splits=2, test_sessions=60, embargo_sessions=1, min_train_sessions=60)

# Weeks of the whole table. Of 3,000 weeks at most 3 are expected to be called by mistake, 9 or more with a probability of 0.4 %.
N_ALARMS, N_POWER = 3_000, 300
FAMILY_ERROR = 0.01
# Of p: more of them lie below it than below the limit of an alarm.
TAIL = 0.01

# What a planted signal must be found by: with one feature alone, which each must find, and with more than there are sessions.
LEARNERS_OF_POWER: Mapping[tuple[str, int], dict[str, Any]] = {
    ("ridge", 1): {},
    ("ridge", 80): {"alpha": 100.0},
    ("lightgbm", 1): {"n_estimators": 100, "num_leaves": 7},
    ("lightgbm", 80): {"n_estimators": 100, "num_leaves": 7},
    ("nearest_neighbours", 10): {"n_neighbors": 20},
}


def controls_of(
    matrix: pl.DataFrame | BatchedMatrix, learner: LearnerChoice, target: Target, splitter: Splitter, *, seed: int = 3
) -> Controls:
    """Controls of a matrix without weights."""
    return run_controls(matrix, learner=learner, splitter=splitter, target=target, weightings=(), seed=seed)


def noise_weeks(n_weeks: int) -> list[Controls]:
    """Controls of so many weeks in which features and overlapping labels persist."""
    target, learner = build_target("forward_return", horizon_bars=5), choose_learner("ridge")
    return [
        controls_of(
            panel_matrix(target, seed=seed, symbols=3, sessions=200, persistence=0.95, n_features=3),
            learner,
            target,
            WALK,
            seed=seed,
        )
        for seed in range(n_weeks)
    ]


def permuted_p(weeks: Sequence[Controls]) -> np.ndarray:
    """p of the permuted twins, a row a week."""
    return np.array([[twin.p for twin in each.twins if twin.kind == "permuted"] for each in weeks])


def share_in_words(n: int, of: int) -> str:
    """A share with its exact bounds of 95 % (Clopper & Pearson 1934)."""
    bounds = stats.binomtest(n, of).proportion_ci(0.95, "exact")
    return f"{n:,} of {of:,} weeks, {n / of:.2%} ({bounds.low:.2%} to {bounds.high:.2%})"


def found_weeks(n_weeks: int) -> Iterator[tuple[str, list[Controls]]]:
    """Name of a learner, and the controls of so many weeks."""
    target = build_target("forward_return", horizon_bars=5)
    for (name, n_features), params in LEARNERS_OF_POWER.items():
        learner = choose_learner(name, params)
        yield (
            f"{name}, {n_features} feature{'s' * (n_features > 1)}",
            [
                controls_of(
                    panel_matrix(target, seed=seed, symbols=5, sessions=400, persistence=0.95, n_features=n_features),
                    learner,
                    target,
                    WALK,
                    seed=seed,
                )
                for seed in range(n_weeks)
            ],
        )


def main() -> int:
    """Print the table; 1 if a limit does not hold."""
    began, faults = process_time(), []
    weeks = noise_weeks(N_ALARMS)
    p = permuted_p(weeks)
    n_alarms = int((p <= FALSE_ALARM / PERMUTED_TWINS + 1e-12).any(axis=1).sum())
    even = float(stats.kstest(p.ravel(), "uniform").pvalue)
    chance = float(stats.binom.sf(n_alarms - 1, N_ALARMS, FALSE_ALARM))
    print(
        f"Permuted, called by mistake: {share_in_words(n_alarms, N_ALARMS)}; {FALSE_ALARM:.2%} is meant (p {chance:.3f})"
    )
    low = int((p <= TAIL).sum())
    print(
        f"That the p of permuted twins are even: p {even:.3f}; up to {TAIL:.0%} {low} of {p.size:,}, {TAIL * p.size:.0f} are meant",
        flush=True,
    )
    if min(chance, even) < FAMILY_ERROR:
        faults.append("permuted twins are found more often than by chance")
    planted = [("ridge, 3 features", weeks), *found_weeks(N_POWER)]
    for name, each in planted:
        n = sum(week.twins[-1].is_found for week in each)
        strength = float(np.mean([week.strength for week in each]))
        print(f"Planted, {name}: strength {strength:.2f}, found in {share_in_words(n, len(each))}", flush=True)
        if stats.binom.cdf(n, len(each), POWER) < FAMILY_ERROR / len(planted):
            faults.append(f"a planted signal is found by {name} in {n} of {len(each)} weeks alone")
    print(*(f"FAULT: {each}" for each in faults), f"{process_time() - began:.0f} s of a processor", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
