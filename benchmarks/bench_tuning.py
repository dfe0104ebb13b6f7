"""What a study costs beside its fits, what pruning saves, and how busy trials keep the cores.

- overhead: milliseconds of a processor a trial of `run_study`, kept in memory and shown in a journal, against Optuna's own ask and tell
  on its journal, interleaved, at 100, 200 and 400 trials of TPE; at most 1.2 times as much.
- pruning: folds that the median rule evaluates against all of them, and how much worse the best trial is, over ten seeds of a
  planted optimum; at most 0.7 times the folds, the best within 0.001.
- cores: 50 trials of XGBoost on a matrix like the demo's (5 symbols, 740 sessions, 33 features), by the backends that share this
  machine; at least 85 % of the cores. It says something on a quiet machine alone.

- mlflow: seconds of a processor that MLflow takes for a study of 1,000 trials with two objectives, on SQLite, the best of three; at most 1 second.

What bins that are built once save over trials, at 30 and 300 rounds, says `bench_bins.py`. Exits 1 if a limit is exceeded.

    python benchmarks/bench_tuning.py [overhead] [pruning] [mlflow] [cores]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from hf_pipelines.research.fan_out import FanOut, Threads
from hf_pipelines.research.tuning import Budget, Design, Goal, MemoryJournal, Outcome, Task, read_space, run_study
from hf_pipelines.resources.fan_out.processes import Processes
from hf_pipelines.resources.machine import cores_given
from hf_pipelines.resources.shown_studies import showing

MOST_OVERHEAD, MOST_FOLDS, MOST_WORSE, LEAST_BUSY, MOST_MLFLOW_S = 1.2, 0.7, 1e-3, 0.85, 1.0
LOSS = (Goal("loss", False),)
SPACE = read_space(
    {
        "n_estimators": {"type": "int", "low": 100, "high": 500},
        "max_depth": {"type": "int", "low": 3, "high": 10},
        "learning_rate": {"type": "float", "low": 0.01, "high": 0.2, "log": True},
        "subsample": {"type": "float", "low": 0.6, "high": 1.0},
        "colsample_bytree": {"type": "float", "low": 0.6, "high": 1.0},
        "min_child_weight": {"type": "int", "low": 1, "high": 10},
    }
)
N_FOLDS, SEEDS, TRIALS, KEEPS = 5, 10, 100, 0.5


def planted(point: Any) -> float:
    return (
        abs(np.log10(point["learning_rate"]) + 1.3) * 0.02
        + abs(point["max_depth"] - 5) * 0.004
        + (1 - point["subsample"]) * 0.01
    )


def at_once(task: Task) -> Outcome:
    return Outcome("completed", (planted(task.point),))


def ours(trials: int) -> float:
    design = Design(space=SPACE, goals=LOSS, budget=Budget(trials=trials), seed=1)
    began = time.process_time()
    with showing(
        MemoryJournal(), design, strategy="bench", week=f"{time.time_ns()}", digest="0" * 8, tell=print
    ) as journal:
        run_study(design, at_once, journal=journal)
    return (time.process_time() - began) / trials


def optunas(trials: int) -> float:
    path = Path(os.environ["HF_DATA_DIR"], f"{time.time_ns()}.log")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    began = time.process_time()
    sampler = optuna.samplers.TPESampler(
        seed=1, multivariate=True, group=True, constant_liar=True, warn_independent_sampling=False
    )
    study = optuna.create_study(storage=storage, sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, planted(SPACE.draw(trial)))
    return (time.process_time() - began) / trials


def overhead() -> bool:
    is_good = True
    for trials in (100, 200, 400):
        found = [(ours(trials), optunas(trials)) for _ in range(2)]
        one, other = (min(each) for each in zip(*found, strict=True))
        is_good &= one / other <= MOST_OVERHEAD
        print(
            f"overhead {trials} trials: {one * 1e3:.1f} ms a trial, Optuna's journal {other * 1e3:.1f}: {one / other:.2f} (limit {MOST_OVERHEAD})"
        )
    return is_good


def by_fold(seed: int, task: Task) -> Outcome:
    """Five folds whose noise is small beside what parameters do, stopped where that is hopeless."""
    noise = np.random.default_rng([seed, task.slot]).normal(0, 0.0005, N_FOLDS)
    scores: list[float] = []
    for fold in range(N_FOLDS):
        scores.append(planted(task.point) + noise[fold])
        if task.is_hopeless(scores) and fold < N_FOLDS - 1:
            return Outcome("pruned", fold_scores=tuple(scores))
    return Outcome("completed", (float(np.mean(scores)),), fold_scores=tuple(scores))


def pruning() -> bool:
    shares, worse = [], []
    for seed in range(SEEDS):
        studies = [
            run_study(
                Design(space=SPACE, goals=LOSS, budget=Budget(trials=TRIALS), seed=seed, keeps=keeps),
                partial(by_fold, seed),
            )
            for keeps in (KEEPS, None)
        ]
        folds = [sum(len(each.outcome.fold_scores) for each in study.trials) for study in studies]
        shares.append(folds[0] / folds[1])
        worse.append(studies[0].best.outcome.values[0] - studies[1].best.outcome.values[0])
    print(f"pruning {SEEDS} seeds of {TRIALS} trials: {np.mean(shares):.2f} of the folds, at most {max(shares):.2f} (limit {MOST_FOLDS}); "
          f"best worse by {max(worse):.1e} at most (limit {MOST_WORSE:.0e})")  # fmt: skip
    return float(np.mean(shares)) <= MOST_FOLDS and max(worse) <= MOST_WORSE


def two_goals(task: Task) -> Outcome:
    loss = planted(task.point)
    scores = {f"score_{at}": loss + at for at in range(8)}
    return Outcome("completed", (loss, float(task.point["subsample"])), scores=tuple(scores.items()))


def mlflow() -> bool:
    import polars as pl

    from hf_pipelines.resources.mlflow_studies import log_trials
    from hf_pipelines.resources.mlflow_tracking import MLflowTracking

    goals = (*LOSS, Goal("share", False))
    study = run_study(Design(space=SPACE, goals=goals, budget=Budget(trials=1000), sampler="random"), two_goals)
    table = study.table().select(pl.lit(None, dtype=pl.Int32).alias("fold"), pl.all())
    tracking = MLflowTracking(uri=f"sqlite:///{os.environ['HF_DATA_DIR']}/mlflow.db")
    # Its tables are made, and its modules imported, once.
    tracking.week_run(experiment="bench", partition="2013-02-24")
    walls, used_s = [], []
    for at in range(3):
        began, before = time.perf_counter(), time.process_time()
        runs = tracking.study_run(experiment="bench", asset="bench/tuning", partition="2013-02-24", study=str(at))
        n = log_trials(runs, "2013-02-24", table, goal=LOSS[0])
        runs.end("FINISHED")
        walls.append(time.perf_counter() - began)
        used_s.append(time.process_time() - before)
    print(
        f"mlflow 1,000 trials: {n} runs in {min(walls):.2f} s, {min(used_s):.2f} s of a processor (limit {MOST_MLFLOW_S:g} s)"
    )
    return min(used_s) <= MOST_MLFLOW_S


def fit(matrix: Any, splitter: Any, target: Any, weightings: Any, task: Task) -> Outcome:
    from hf_pipelines.research.cross_validation import cross_validate
    from hf_pipelines.research.learners import choose_learner

    found = cross_validate(
        matrix,
        learner=choose_learner("xgboost", dict(task.point)),
        splitter=splitter,
        target=target,
        weightings=weightings,
        seed=1,
    )
    return Outcome("completed", (found.metrics["log_loss"],))


def cores() -> bool:
    import bench_cv

    evaluate = partial(fit, bench_cv.MATRIX, bench_cv.SPLITTER, bench_cv.TARGET, bench_cv.BALANCED)
    design = Design(space=SPACE, goals=LOSS, budget=Budget(trials=50), seed=1)
    n, hashes, is_good = cores_given(), [], True
    with Processes(n) as processes:
        backends: dict[str, FanOut] = {"threads": Threads(n), "processes": processes}
        for name, fan_out in backends.items():
            list(fan_out(abs, range(2 * n)))
            before, began = used(), time.perf_counter()
            study = run_study(design, evaluate, map_trials=fan_out)
            wall = time.perf_counter() - began
            busy = (used() - before) / wall / n
            hashes.append(study.hash)
            is_good &= busy >= LEAST_BUSY
            print(f"cores {name}: 50 trials in {wall:.0f} s, {busy:.0%} of {n} cores (limit {LEAST_BUSY:.0%})")
    print("the same study:", len(set(hashes)) == 1)
    return is_good and len(set(hashes)) == 1


def used() -> float:
    """Seconds of a processor of this process and its children, those that have ended too: workers that grow are replaced."""
    import psutil

    me = psutil.Process()
    running = [each.cpu_times() for each in (me, *me.children(recursive=True))]
    return sum(each.user + each.system + each.children_user + each.children_system for each in running)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked = [each for each in (overhead, pruning, mlflow, cores) if len(sys.argv) == 1 or each.__name__ in sys.argv]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATA_DIR"] = folder
        sys.exit(0 if all([each() for each in asked]) else 1)


if __name__ == "__main__":
    main()
