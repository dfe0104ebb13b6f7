"""Cost of the refits of `hfp validate --full`, against the same fits without any of this project.

The paths of combinatorial cross-validation, 15 fits, on a matrix as large as that of `tech_direction` on the market of the demo: by
`cross_validate`, as the full validation fits them, and by XGBoost alone on the same rows and weights, each predicting its test rows. In
every round, so that a busy machine slows both. Prints CPU seconds, the least of each, and their ratio; exits 1 above `MOST_TIMES`.

    python benchmarks/bench_validation.py [rounds]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from benchmarks.bench_confidence import BALANCED, DIRECTION, SEED, TREES, matrix_of
from hf_pipelines.components.strategy_stages.full_validation import N_FOLDS, N_TEST_FOLDS
from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.splitters import CombinatorialPurged
from hf_pipelines.research.weights import sample_weights

MOST_TIMES = 1.1
PARAMS = {**TREES, "n_estimators": 100}
SPLITTER = CombinatorialPurged(n_folds=N_FOLDS, n_test_folds=N_TEST_FOLDS)


def refits(matrix: pl.DataFrame) -> None:
    """As the full validation makes them."""
    cross_validate(
        matrix,
        learner=choose_learner("xgboost_classifier", PARAMS),
        splitter=SPLITTER,
        target=DIRECTION,
        weightings=BALANCED,
        seed=SEED,
        n_jobs=1,
    )


def bare_fits(matrix: pl.DataFrame) -> None:
    """The library's own classifier, fold by fold."""
    from xgboost import XGBClassifier

    X = matrix.select(feature_names(matrix)).to_numpy().astype(np.float32)
    y = matrix["y"].to_numpy().astype(int)
    for train, test in SPLITTER.split(matrix):
        weight = sample_weights(matrix[train], weightings=BALANCED, target=DIRECTION)
        model = XGBClassifier(**PARAMS, tree_method="hist", n_jobs=1, random_state=SEED)
        model.fit(X[train], y[train], sample_weight=weight)
        model.predict_proba(X[test])


def main() -> None:
    """Run both `rounds` times."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    matrix = matrix_of(DIRECTION)
    parts: dict[str, Callable[[pl.DataFrame], None]] = {"bare fits": bare_fits, "refits": refits}
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, run in parts.items():
            began = time.process_time()
            run(matrix)
            seconds[name].append(time.process_time() - began)
    least = {name: min(each) for name, each in seconds.items()}
    for name, each in least.items():
        print(f"{name:12s} {each:7.2f} s CPU for {SPLITTER.get_n_splits()} fits")
    times = least["refits"] / least["bare fits"]
    print(f"refits take {times:.2f}x the bare fits (limit {MOST_TIMES}x)")
    sys.exit(times > MOST_TIMES)


if __name__ == "__main__":
    main()
