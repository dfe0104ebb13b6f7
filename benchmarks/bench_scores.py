"""Cost of the scores: the block bootstrap of all of them, and the table of a cross-validation with its baselines.

Predictions are noise, nothing is fitted. Prints wall and CPU seconds, the least of each; exits 1 if the bootstrap of every score of
5,000 sessions x 500 symbols takes more than `MAX_SECONDS` of CPU: on one thread, which is what it takes when the machine is quiet.

    python benchmarks/bench_scores.py [rounds]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import polars as pl

from hf_pipelines.research.cross_validation import CrossValidation
from hf_pipelines.research.metrics.bootstrap import default_block, draw_sessions, interval
from hf_pipelines.research.metrics.session_scores import (
    SessionScores,
    account_scores,
    classification_scores,
    rank_scores,
    regression_scores,
)
from hf_pipelines.research.score_table import session_coefficients, tabulate_scores
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target

SESSIONS, SYMBOLS, LABEL_SESSIONS, SEED = 5_000, 500, 5, 0
MAX_SECONDS = 3.0
TARGET = build_target("direction", horizon_bars=LABEL_SESSIONS)
SPLITTER = PurgedWalkForward(n_splits=5, test_sessions=60)


def days_from(n_sessions: int) -> pl.Series:
    """So many calendar days."""
    return pl.Series([date(2000, 1, 1) + timedelta(days=day) for day in range(n_sessions)])


def probabilities(rng: np.random.Generator, n_rows: int) -> np.ndarray:
    """Of three classes, adding up to 1."""
    raw = rng.random((n_rows, 3))
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def bootstrap() -> Callable[[], int]:
    """Every score of classes, of values with a quantile, and of an account, from rows to intervals."""
    rng = np.random.default_rng(SEED)
    session, days = np.repeat(np.arange(SESSIONS), SYMBOLS), days_from(SESSIONS)
    n_rows = len(session)
    y, probability = rng.integers(0, 3, n_rows).astype(np.float64), probabilities(rng, n_rows)
    value, target = rng.normal(size=n_rows), rng.normal(size=n_rows)
    frame = pl.DataFrame({"session": days.gather(session), "prediction": value, "target": target})
    returns = rng.normal(0.0, 0.01, SESSIONS)

    def run() -> int:
        draws = draw_sessions(
            SESSIONS, block_sessions=default_block(SESSIONS, label_sessions=LABEL_SESSIONS), seed=SEED
        )
        assert draws is not None
        scores = SessionScores(
            SESSIONS,
            [
                *classification_scores(session, n_sessions=SESSIONS, y=y, probability=probability),
                *regression_scores(
                    session,
                    n_sessions=SESSIONS,
                    y=target,
                    prediction=value,
                    quantiles={"quantile_loss_0.1": (0.1, value)},
                ),
                *rank_scores(*session_coefficients(frame, days)),
                *account_scores(np.arange(SESSIONS), n_sessions=SESSIONS, returns=returns, periods_per_year=252.0),
            ],
        )
        return len([interval(values, draws) for values in scores.scores(draws).values()])

    return run


def table(n_sessions: int, n_symbols: int) -> Callable[[], int]:
    """The whole table of a cross-validation of classes: five predictors, folds and pooled."""
    rng = np.random.default_rng(SEED)
    names = pl.DataFrame({"symbol": [f"S{number:04d}" for number in range(n_symbols)]})
    keys = pl.DataFrame({"session": days_from(n_sessions)}).join(names, how="cross")
    ts = pl.col("session").cast(pl.Datetime("us", "UTC"))
    target = rng.normal(0.0, 0.02, keys.height)
    matrix = keys.select(
        "symbol",
        "session",
        ts=ts,
        label_start=ts + timedelta(days=1),
        label_end=ts + timedelta(days=LABEL_SESSIONS),
        target=pl.Series(target),
        y=pl.Series(np.digitize(target, [-0.01, 0.01]).astype(np.float64)),
    )
    parts = []
    for fold, (_, test) in enumerate(SPLITTER.split(matrix)):
        p = probabilities(rng, len(test))
        parts.append(
            matrix[test].select(
                "symbol",
                "session",
                "ts",
                "y",
                "target",
                fold=pl.lit(fold, dtype=pl.Int32),
                trained_until=pl.col("ts").min() - timedelta(days=1),
                prediction=pl.Series(p[:, 2] - p[:, 0]),
                **{f"probability_{name}": pl.Series(p[:, code]) for code, name in enumerate(TARGET.classes)},
            )
        )
    folds = pl.DataFrame({"fold": range(len(parts))}, schema={"fold": pl.Int32})
    result = CrossValidation(pl.concat(parts), pl.DataFrame(), folds, {})
    return lambda: tabulate_scores(result, matrix, splitter=SPLITTER, target=TARGET, seed=SEED).scores.height


def main() -> int:
    """Time each; 0 if the bootstrap is as fast as it must be."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds = {}
    for name, make in (
        (f"bootstrap of every score, {SESSIONS:,} sessions x {SYMBOLS} symbols", bootstrap),
        ("table of 250,000 rows, 5 folds of 60 sessions x 500 symbols", lambda: table(500, 500)),
        ("table of 5,000 symbols, 5 folds of 60 sessions", lambda: table(400, 5_000)),
    ):
        run = make()
        wall, cpu = [], []
        for _ in range(rounds):
            began, used = time.perf_counter(), time.process_time()
            n = run()
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
        seconds[name] = min(cpu)
        print(f"{name}: wall {min(wall):.2f} s, CPU {min(cpu):.2f} s, {n} numbers", flush=True)
    return 0 if next(iter(seconds.values())) <= MAX_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main())
