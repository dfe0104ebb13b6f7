"""A try of 50 symbols over 5 years: seconds from the command's words to its answer, with its stages.

Run: `python -m benchmarks.bench_try [--symbols 50] [--weeks 260]`. A project is made in a temporary folder: random bars, the features that the market
`us_tech` stores, boosted trees on all of them, five folds. Then four tries: another depth, another horizon, another rule, and one feature group more, which is
computed. Each must take less than a minute; exits with 1 if one does not. Starting Python and loading the libraries is told apart.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from datetime import date
from io import StringIO
from pathlib import Path
from time import perf_counter

from hf_pipelines_tests.pipeline import (
    Project,
    files_market,
    prepare_mlflow,
    session_bars,
    sessions_from,
    shipped_features,
    trees_strategy,
)

LIMIT_S = 60.0

# Features look back on a year.
HISTORY_WEEKS = 56

TRIES = {
    "another depth": ["learner.params.max_depth=4"],
    "another horizon": ["target.horizon_bars=10"],
    "another rule": ["signal.params.threshold=0.5"],
    "one group more": ["features=[technical, cross_asset, temporal]"],
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", type=int, default=50)
    parser.add_argument("--weeks", type=int, default=260)
    given = parser.parse_args()
    os.environ["HF_PICTURES"] = "none"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATA_DIR"] = folder
        project, week = _project(Path(folder), given.symbols, given.weeks)
        began = perf_counter()
        subprocess.run([sys.executable, "-c", "import hf_pipelines.commands.tries"], check=True)
        print(f"starting Python, loading libraries: {perf_counter() - began:5.1f} s")
        return max(_try(project, week, name, sets) for name, sets in TRIES.items())


def _project(folder: Path, symbols: int, weeks: int) -> tuple[Project, str]:
    began = perf_counter()
    sessions = sessions_from(date(2007, 1, 3), weeks + HISTORY_WEEKS)
    bars = session_bars(sessions, symbols=symbols, seed=3)
    market = files_market(folder / "source", bars, features=shipped_features("technical", "cross_asset"))
    strategy = trees_strategy(
        features=["technical", "cross_asset"],
        target={"type": "direction", "horizon_bars": 5, "params": {"upper": 0.01, "lower": -0.01}},
        training={"weeks": weeks, "minimum_rows": 500, "weighting": "class_balance"},
        cross_validation={"n_splits": 5, "embargo_sessions": 1},
        learner={"type": "xgboost_classifier", "params": {"n_estimators": 300, "max_depth": 6}, "seed": 7},
    )
    project = Project(folder / "project", market, [strategy], mlflow_template=prepare_mlflow(folder / "mlflow.db"))
    every = project.weeks
    project.make(["small/bars"], every[0], every[-2])
    groups = ["small/features/technical", "small/features/cross_asset"]
    project.make(groups, every[-1 - weeks], every[-2])
    project.make([f"direction/{each}" for each in ("training_matrix", "cv_results", "backtest")], every[-1])
    matrix = project.store.read("direction/training_matrix", every[-1]).frame
    print(
        f"{symbols} symbols, {weeks} weeks: a matrix of {matrix.height:,} rows by {matrix.width} columns, made in {perf_counter() - began:.0f} s"
    )
    return project, every[-1]


def _try(project: Project, week: str, name: str, sets: list[str]) -> int:
    from hf_pipelines.commands.tries import candidate, make_try, try_lines

    told: list[str] = []
    began = perf_counter()
    project.reload()
    chosen = candidate(project.pipeline, "direction", sets)
    tried = make_try(project.pipeline, chosen, [week], told.append)
    with redirect_stdout(StringIO()):
        n_lines = len([*try_lines(project.pipeline, chosen, tried)])
    seconds = perf_counter() - began
    stages = ", ".join(line for line in told if line.endswith(" s"))
    is_kept = seconds < LIMIT_S
    print(
        f"{name:<16} {seconds:5.1f} s of {LIMIT_S:.0f} ({'kept' if is_kept else 'NOT KEPT'}), {n_lines} lines: {stages}"
    )
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
