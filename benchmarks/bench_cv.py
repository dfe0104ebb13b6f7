"""Cost of our cross-validation and final fit against bare XGBoost on the same folds.

Three ways, one after the other in every round so that a busy machine slows all of them: ours; bare XGBoost
with the same thread plan (one fold a thread); bare XGBoost fold after fold with all threads. Prints the
fastest and the median of each and the ratio of ours to each; exits 1 if predictions differ or ours takes more
than MAX_RATIO times the faster bare way.

    python benchmarks/bench_cv.py [rounds]
    python benchmarks/bench_cv.py rounds large [trees]

`large` has 250,000 rows of 60 features and counts CPU seconds, with the scores, their intervals and the baselines on our side, as
`cv_results` makes them; fewer trees make the fits cheaper, not the scores, and so the ratio worse.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
from joblib import Parallel, delayed
from xgboost import XGBClassifier

from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.score_table import tabulate_scores
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.weights import choose_weightings, sample_weights

IS_LARGE = "large" in sys.argv
SYMBOLS, SESSIONS, FEATURES = (500, 500, 60) if IS_LARGE else (5, 740, 33)
SEED = 7
MAX_RATIO = 1.05 if IS_LARGE else 1.15
LEARNER = choose_learner("xgboost", {"n_estimators": int(sys.argv[3])} if len(sys.argv) > 3 else {})
clock = time.process_time if IS_LARGE else time.perf_counter
TARGET = build_target("direction", horizon_bars=5)
BALANCED = choose_weightings("class_balance")
SPLITTER = PurgedWalkForward(n_splits=5, test_sessions=60, embargo_sessions=5)
N_CORES = os.cpu_count() or 1


def synthetic_matrix() -> pl.DataFrame:
    """Rows of noise features, three balanced classes, labels of five days."""
    rng = np.random.default_rng(SEED)
    days = [date(2010, 1, 1) + timedelta(days=day) for day in range(SESSIONS)]
    keys = pl.DataFrame({"session": days}).join(
        pl.DataFrame({"symbol": [f"S{number:03d}" for number in range(SYMBOLS)]}), how="cross"
    )
    target = rng.normal(0.0, 0.02, keys.height)
    y = np.digitize(target, [-0.01, 0.01]).astype(np.float64)
    ts = pl.col("session").cast(pl.Datetime("us", "UTC"))
    features = rng.normal(size=(keys.height, FEATURES)).astype(np.float32)
    matrix = keys.select(
        "symbol",
        "session",
        ts=ts,
        label_start=ts + timedelta(days=1),
        label_end=ts + timedelta(days=5),
        target=pl.Series(target),
        y=pl.Series(y),
        **{f"feature_{number:02d}": pl.Series(features[:, number]) for number in range(FEATURES)},
    )
    return matrix.with_columns(weight=pl.Series(sample_weights(matrix, weightings=BALANCED, target=TARGET)))


MATRIX = synthetic_matrix()
X = np.ascontiguousarray(MATRIX.select(feature_names(MATRIX)).to_numpy())
Y = MATRIX["y"].to_numpy()
FOLDS = list(SPLITTER.split(MATRIX))


def bare_fit(train: np.ndarray, *, n_threads: int) -> XGBClassifier:
    weight = sample_weights(MATRIX[train].select("y"), weightings=BALANCED, target=TARGET)
    estimator = XGBClassifier(**LEARNER.params, random_state=SEED, n_jobs=n_threads)
    return estimator.fit(X[train], Y[train], sample_weight=weight)


def bare_fold(train: np.ndarray, test: np.ndarray, *, n_threads: int) -> np.ndarray:
    return np.asarray(bare_fit(train, n_threads=n_threads).predict_proba(X[test]))


def bare_one_fold_a_thread() -> np.ndarray:
    work = (delayed(bare_fold)(train, test, n_threads=1) for train, test in FOLDS)
    return np.concatenate(Parallel(n_jobs=N_CORES, prefer="threads")(work))


def bare_all_threads() -> np.ndarray:
    return np.concatenate([bare_fold(train, test, n_threads=N_CORES) for train, test in FOLDS])


def our_cross_validation() -> np.ndarray:
    result = cross_validate(
        MATRIX,
        learner=LEARNER,
        splitter=SPLITTER,
        target=TARGET,
        weightings=BALANCED,
        seed=SEED,
        n_jobs=N_CORES,
    )
    if IS_LARGE:
        tabulate_scores(result, MATRIX, splitter=SPLITTER, target=TARGET, seed=SEED)
    return result.predictions.select(f"probability_{name}" for name in TARGET.classes).to_numpy()


def our_final_fit() -> np.ndarray:
    pipeline = fit_final(MATRIX, learner=LEARNER, target=TARGET, seed=SEED)
    return np.asarray(pipeline.estimator.predict_proba(X))


def bare_final_fit() -> np.ndarray:
    return np.asarray(bare_fit(np.arange(len(Y)), n_threads=1).predict_proba(X))


def compare(title: str, ways: dict[str, Callable[[], np.ndarray]], *, rounds: int) -> bool:
    """Time the ways in turn; the first is ours. True if it agrees and costs little more than the best."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = clock()
            results[name] = way()
            seconds[name].append(clock() - start)
        print("  " + ", ".join(f"{name}: {values[-1]:.3f} s" for name, values in seconds.items()), flush=True)
    ours, *others = ways
    difference = max(float(np.abs(results[ours] - results[name]).max()) for name in others)
    print(f"{title}: {rounds} rounds on {N_CORES} cores, largest probability difference {difference:.1e}")
    for name, values in seconds.items():
        ratio = min(seconds[ours]) / min(values)
        median = statistics.median(values)
        print(f"  {name:28} min {min(values):6.3f} s  median {median:6.3f} s  ours/this {ratio:.3f}")
    worst = min(seconds[ours]) / min(min(seconds[name]) for name in others)
    return difference < 1e-6 and worst <= MAX_RATIO


def main() -> int:
    """Run both comparisons; 0 if both hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{datetime.now():%Y-%m-%d %H:%M}  {len(Y)} rows x {FEATURES} features, {len(FOLDS)} folds")
    cross_validation = {
        "cross_validate": our_cross_validation,
        "bare, one fold a thread": bare_one_fold_a_thread,
    }
    if not IS_LARGE:
        # Threads that wait for each other spend CPU seconds, too: by those this way is never the faster one.
        cross_validation["bare, all threads, in turn"] = bare_all_threads
    # The first call of each library pays for its imports: not what is compared.
    bare_fold(FOLDS[0][0][:200], FOLDS[0][1], n_threads=1)
    is_good = compare("cross-validation", cross_validation, rounds=rounds)
    if IS_LARGE:
        return 0 if is_good else 1
    # One thread each, the default of `fit_final`: more threads wait for each other on a busy machine.
    final = {"fit_final": our_final_fit, "bare, one thread": bare_final_fit}
    return 0 if compare("final fit", final, rounds=rounds) & is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
