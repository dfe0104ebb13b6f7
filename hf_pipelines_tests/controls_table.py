"""How often the controls of a week are wrong: part of `make noise`. The short form is in `research/robustness/test_controls.py`.

Lives here: many weeks of noise, what permuted twins find in them, and how often a planted signal is found. The limits of both are
calculated (`research.robustness.controls`); this shows that they hold.
"""

import sys
from collections.abc import Iterator, Mapping
from time import process_time
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from hf_pipelines.research.batched_matrix import BatchedMatrix
from hf_pipelines.research.learners import LearnerChoice, choose_learner
from hf_pipelines.research.robustness.controls import FALSE_ALARM, POWER, Controls, run_controls
from hf_pipelines.research.splitters import PurgedWalkForward, Splitter
from hf_pipelines.research.targets import Target, build_target
from hf_pipelines_tests.noise_table import panel_matrix

WALK = PurgedWalkForward(n_splits=2, test_sessions=60, embargo_sessions=1, min_train_sessions=60)

# Weeks of the whole table. Of 3,000 weeks at most 3 are expected to be called by mistake, 9 or more with a probability of 0.4 %.
N_ALARMS, N_POWER = 3_000, 300
FAMILY_ERROR = 0.01

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


def permuted_p(n_weeks: int) -> np.ndarray:
    """p of the permuted twins of so many weeks in which features and overlapping labels persist."""
    target, learner = build_target("forward_return", horizon_bars=5), choose_learner("ridge")
    return np.array(
        [
            twin.p
            for seed in range(n_weeks)
            for twin in controls_of(
                panel_matrix(target, seed=seed, symbols=3, sessions=200, persistence=0.95, n_features=3),
                learner,
                target,
                WALK,
                seed=seed,
            ).twins[:2]
        ]
    )


def found_shares(n_weeks: int) -> Iterator[tuple[str, float, int]]:
    """Name, strength and the number of weeks of `n_weeks` in which the planted signal is found."""
    target = build_target("forward_return", horizon_bars=5)
    for (name, n_features), params in LEARNERS_OF_POWER.items():
        learner = choose_learner(name, params)
        found = [
            controls_of(
                panel_matrix(target, seed=seed, symbols=5, sessions=400, persistence=0.95, n_features=n_features),
                learner,
                target,
                WALK,
                seed=seed,
            )
            for seed in range(n_weeks)
        ]
        n = sum(each.twins[-1].is_found for each in found)
        yield f"{name}, {n_features} features", float(np.mean([each.strength for each in found])), n


def main() -> int:
    """Print the table; 1 if a limit does not hold."""
    began, faults = process_time(), []
    p = permuted_p(N_ALARMS)
    n_alarms = int((p <= FALSE_ALARM / 2 + 1e-12).sum())
    even = float(stats.kstest(p, "uniform").pvalue)
    chance = float(stats.binom.sf(n_alarms - 1, N_ALARMS, FALSE_ALARM))
    print(
        f"Permuted twins of {N_ALARMS:,} weeks: {n_alarms} weeks called by mistake, {FALSE_ALARM * N_ALARMS:.0f} are expected (p {chance:.3f}); "
        f"that their p are even: {even:.3f}"
    )
    if min(chance, even) < FAMILY_ERROR:
        faults.append("permuted twins are found more often than by chance")
    for name, strength, n in found_shares(N_POWER):
        print(f"Planted, {name}: strength {strength:.2f}, found in {n} of {N_POWER} weeks")
        if stats.binom.cdf(n, N_POWER, POWER) < FAMILY_ERROR / len(LEARNERS_OF_POWER):
            faults.append(f"a planted signal is found by {name} in {n} of {N_POWER} weeks alone")
    print(*(f"FAULT: {each}" for each in faults), f"{process_time() - began:.0f} s of a processor", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
