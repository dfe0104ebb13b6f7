"""Explanations: contributions of boosted trees beside shap's TreeExplainer, and what tracking costs a run.

    python benchmarks/bench_explanations.py [rounds]

Prints, for each library, the least CPU seconds of 500 symbols x 1 session as the learner explains them and by shap, interleaved, and how far
they are from each other; the seconds of a whole test set; and the seconds that MLflow takes for a model's run in SQLite.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import polars as pl

from hf_pipelines.research.learners import Rows, Setup, TrainingRows, build_pipeline, choose_learner
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.mlflow_values import DatasetNote, ModelNote, RunNotes

N_SYMBOLS, N_FEATURES, N_TRAIN, N_TEST = 500, 60, 5_000, 5_000
LEARNERS = {
    "xgboost": {"n_estimators": 300, "max_depth": 6},
    "lightgbm": {"n_estimators": 300, "num_leaves": 31, "early_stopping_rounds": 300},
    "catboost": {"n_estimators": 300, "depth": 6, "early_stopping_rounds": 300},
}
N_RUNS = 20


def rows_of(n: int, *, seed: int) -> TrainingRows:
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, N_FEATURES)).astype(np.float32)
    y = X[:, 0] + 0.5 * X[:, 1] * X[:, 2] + random.normal(size=n)
    session = np.arange(n) // N_SYMBOLS
    ts = pl.Series([datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=int(day)) for day in session])
    keys = pl.DataFrame(
        {
            "symbol": [f"S{at % N_SYMBOLS:03d}" for at in range(n)],
            "session": [date(2020, 1, 1) + timedelta(days=int(day)) for day in session],
            "ts": ts,
            "bar": session.astype(np.int32),
            "label_start": ts,
            "label_end": ts + timedelta(hours=1),
        }
    )
    return TrainingRows(keys, X, tuple(f"f{at}" for at in range(N_FEATURES)), y=y, weight=np.ones(n))


def least(rounds: int, *calls: Callable[[], object]) -> list[float]:
    """Least CPU seconds of each call, one after the other in every round."""
    found = np.full((rounds, len(calls)), np.inf)
    for number in range(rounds):
        for at, call in enumerate(calls):
            began = process_time()
            call()
            found[number, at] = process_time() - began
    return [float(each) for each in found.min(axis=0)]


def compare(rounds: int) -> None:
    from shap import TreeExplainer

    train, test = rows_of(N_TRAIN, seed=0), rows_of(N_TEST, seed=1)
    order = np.arange(N_TRAIN)
    session = Rows(test.keys[:N_SYMBOLS], test.X[:N_SYMBOLS], test.names)
    whole = Rows(test.keys, test.X, test.names)
    print(
        f"{N_SYMBOLS} rows, {N_FEATURES} features, 300 trees; whole test set: {N_TEST:,} rows; CPU seconds, one thread"
    )
    for name, params in LEARNERS.items():
        pipeline = build_pipeline(choose_learner(name, params), Setup("regression"))
        pipeline.fit(train.take(order < 4_000), train.take(order >= 4_000))
        model = pipeline.estimator if name == "xgboost" else pipeline.estimator.models["point"]
        own, by_shap = least(
            rounds,
            lambda: pipeline.contributions(session),  # noqa: B023
            lambda: TreeExplainer(model).shap_values(session.X),  # noqa: B023
        )
        found = pipeline.contributions(session)
        assert found is not None
        apart = np.abs(found.values[:, 0] - TreeExplainer(model).shap_values(session.X)).max()
        (of_all,) = least(1, lambda: pipeline.contributions(whole))  # noqa: B023
        print(
            f"  {name:9} own {own:.3f}  shap {by_shap:.3f}  apart by {apart:.1e}  whole test set {of_all:.1f}",
            flush=True,
        )


def track() -> None:
    names = [f"group/feature_{at}" for at in range(N_FEATURES)]
    notes = RunNotes(
        params={f"p{at}": at for at in range(40)},
        metrics={f"m{at}": 0.1 * at for at in range(25)},
        tags={f"hf.tag_{at}": "x" * 64 for at in range(18)},
        steps={f"fold/m{at}": [0.1] * 5 for at in range(25)},
        dataset=DatasetNote("s/training_matrix", "s3://b/x", "ab" * 32, names, 10_000),
        model=ModelNote("s-week", "s3://b/m", "0" * 64),
        files={
            "features.txt": "\n".join(names).encode(),
            **{f"pictures/{at}.png": b"\x89PNG" * 9_000 for at in range(5)},
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        tracking = MLflowTracking(uri=f"sqlite:///{Path(folder) / 'mlflow.db'}")
        tracking.client()
        took = []
        for week in range(N_RUNS):
            began, began_cpu = perf_counter(), process_time()
            key = f"2020-W{week:02d}"
            with tracking.partition_runs(
                experiment="s", asset="s/fitted_model", partitions=[key], root_run_id=f"r{week}"
            ) as runs:
                runs.note(key, notes)
                runs.note_week(key, RunNotes(params=notes.params, metrics=notes.metrics, tags=notes.tags))
            tracking.week_run(experiment="s", partition=key).note_week(key, RunNotes(metrics={"backtest/sharpe": 1.0}))
            took.append((perf_counter() - began, process_time() - began_cpu))
        # The first makes the connection.
        wall, cpu = np.median(np.array(took[1:]), axis=0)
        print(
            f"tracking of a retrained week, SQLite: {wall:.2f} s, {cpu:.2f} of CPU (the first {took[0][0]:.1f}); "
            f"200 weeks: {200 * cpu:.0f} s of CPU"
        )


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    compare(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    track()
