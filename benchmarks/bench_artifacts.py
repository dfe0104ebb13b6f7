"""Size of every learner's artifact, and the work of a fresh process that loads it and predicts one session of 500 symbols.

Each entry is fitted with its defaults (members: ridge or logistic, lightgbm, random_forest), saved, and loaded in a process of its
own. Work is CPU seconds without imports. Exits 1 if an entry takes more than LIMIT_S.

    python -m benchmarks.bench_artifacts [sessions [learner ...]]
    python -m benchmarks.bench_artifacts 60 lightgbm ridge
"""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.cross_validation import fit_final
from hf_pipelines.research.learners import LEARNERS, LearnerChoice, choose_learner
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.targets import Target, build_target
from hf_pipelines_tests.sample_matrix import random_matrix

SYMBOLS, FEATURES, SESSIONS, SEED = 500, 30, 60, 7
LIMIT_S = 1.0
MEMBERS = {
    "regression": ["ridge", "lightgbm", "random_forest"],
    "classification": ["logistic", "lightgbm", "random_forest"],
}
# What forecasts volatility is fitted to it.
OF_VOLATILITY = ("garch", "gjr_garch", "egarch")


def target_of(name: str) -> Target:
    """A target that the entry can fit."""
    if name in OF_VOLATILITY:
        return build_target("realised_volatility", horizon_bars=5)
    task = "regression" if "regression" in LEARNERS[name].tasks else "classification"
    horizon = LEARNERS[name].params.get("horizon_bars")
    bars = int(getattr(horizon, "default", 0) or 5)
    return build_target("forward_return" if task == "regression" else "direction", horizon_bars=bars)


def choice_of(name: str, target: Target) -> LearnerChoice:
    """The entry with its defaults, and what has none."""
    task = "classification" if target.is_classification else "regression"
    needed: dict[str, Any] = {"members": MEMBERS[task], "final": MEMBERS[task][0], "feature": "feature_0"}
    if name in OF_VOLATILITY:
        needed["horizon_bars"] = 5
    return choose_learner(name, {each: value for each, value in needed.items() if each in LEARNERS[name].params})


def matrix_for(target: Target, sessions: int) -> pl.DataFrame:
    """Random walks of 500 symbols, features of one scale."""
    matrix = random_matrix(target, symbols=SYMBOLS, sessions=sessions, n_features=2)
    rng = np.random.default_rng(SEED)
    more = rng.standard_normal((matrix.height, FEATURES - 2), dtype=np.float32)
    return matrix.with_columns(pl.Series(f"feature_{at + 2}", more[:, at]) for at in range(FEATURES - 2))


@contextmanager
def importing() -> Iterator[list[float]]:
    """CPU seconds of all imports within, those inside of functions too."""
    seconds, depth, original = [0.0], [0], builtins.__import__

    def timed(*args: Any, **options: Any) -> Any:
        depth[0] += 1
        start = time.process_time()
        try:
            return original(*args, **options)
        finally:
            depth[0] -= 1
            if not depth[0]:
                seconds[0] += time.process_time() - start

    builtins.__import__ = timed  # type: ignore[assignment]
    try:
        yield seconds
    finally:
        builtins.__import__ = original


def ask(folder: str) -> dict[str, float]:
    """Load what was saved and predict the last session."""
    from hf_pipelines.research.learners import Setup, build_pipeline, predict_frame

    about = json.loads(Path(folder, "about.json").read_text())
    rows = pl.read_parquet(Path(folder, "rows.parquet"))
    data = Path(folder, "model").read_bytes()
    wanted = (rows["session"] == rows["session"].max()).to_numpy()
    with importing() as imports:
        start = time.process_time()
        settings = about["settings"]
        choice = choose_learner(settings["type"], settings["params"])
        pipeline = build_pipeline(choice, Setup(about["task"])).load(data)
        predict_frame(pipeline, rows, features=about["features"], classes=about["classes"], wanted=wanted)
        total = time.process_time() - start
    return {"imports": imports[0], "work": total - imports[0], "symbols": int(wanted.sum())}


def line_of(name: str, sessions: int) -> tuple[str, bool]:
    """A line of the table; True if it holds."""
    target = target_of(name)
    choice = choice_of(name, target)
    history = choice.history_bars
    # What reads history is fitted on as much again.
    matrix = matrix_for(target, sessions + 2 * history)
    start = time.process_time()
    pipeline = fit_final(matrix, learner=choice, target=target, seed=SEED)
    fit_s = time.process_time() - start
    data = pipeline.save()
    last = matrix["session"].unique().sort()[-(history + 1)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model").write_bytes(data)
        matrix.filter(pl.col("session") >= last).write_parquet(Path(folder, "rows.parquet"))
        about = {
            "settings": choice.settings(),
            "task": "classification" if target.is_classification else "regression",
            "features": feature_names(matrix),
            "classes": list(target.classes),
        }
        Path(folder, "about.json").write_text(json.dumps(about))
        printed = subprocess.check_output([sys.executable, "-m", "benchmarks.bench_artifacts", "ask", folder]).decode()
    found = json.loads(printed.splitlines()[-1])
    line = (
        f"| `{name}` | {len(data) / 1e3:,.0f} | {fit_s:.1f} | {found['work']:.3f} | {found['imports']:.2f} | "
        f"{found['symbols']} |"
    )
    return line, found["work"] <= LIMIT_S


def main() -> int:
    """Print the table; 0 if every entry holds."""
    if sys.argv[1:2] == ["ask"]:
        print(json.dumps(ask(sys.argv[2])))
        return 0
    sessions = int(sys.argv[1]) if sys.argv[1:] else SESSIONS
    print(
        f"{SYMBOLS} symbols x {sessions} sessions (more for what reads history) x {FEATURES} features, defaults of every entry\n"
    )
    print("| learner | artifact, kB | fit, CPU s | loaded and predicted, CPU s | imports, CPU s | symbols |")
    print("|---|---|---|---|---|---|")
    slow = []
    for name in sys.argv[2:] or list(LEARNERS):
        line, is_quick = line_of(name, sessions)
        print(line, flush=True)
        slow += [] if is_quick else [name]
    print(f"\nabove {LIMIT_S} s: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
