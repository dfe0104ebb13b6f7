"""Small studies that tests run in processes of their own, and kill."""

import os
import signal
import sys
import time
from pathlib import Path

from hf_pipelines.research.tuning import COMPLETED, FAILED, PRUNED, Budget, Goal, Journal, Outcome, Task, run_study
from hf_pipelines.research.tuning.space import read_space
from hf_pipelines.research.tuning.study import Design, Study
from hf_pipelines.research.tuning.trials import MemoryJournal
from hf_pipelines.resources.shown_studies import showing

SPACE = {"x": {"type": "float", "low": -5.0, "high": 5.0}, "kind": {"type": "categorical", "choices": ["a", "b"]}}


def small_design(trials: int = 12) -> Design:
    return Design(
        space=read_space(SPACE),
        goals=(Goal("loss", is_better_higher=False),),
        budget=Budget(trials=trials),
        batch=4,
        seed=3,
    )


def evaluate(task: Task) -> Outcome:
    """A parabola; slot 2 fails, slot 3 is pruned after two folds."""
    if task.slot == 2:
        return Outcome(FAILED, error="no such luck")
    if task.slot == 3:
        return Outcome(PRUNED, fold_scores=(9.0, 7.0))
    return Outcome(COMPLETED, values=((float(task.point["x"]) - 1.0) ** 2,))


def score_of_small(task: Task) -> Outcome:
    """The score is x; beyond 0.9 the fit ends its process, as a fault of memory in a library does."""
    if task.point["x"] > 0.9:
        os.kill(os.getpid(), signal.SIGSEGV)
    return score_of_all(task)


def score_of_all(task: Task) -> Outcome:
    return Outcome(COMPLETED, values=(float(task.point["x"]),))


def run_shown(
    tell, *, evaluate=evaluate, trials: int = 12, week: str = "2013-02-24", journal: Journal | None = None
) -> Study:
    design = small_design(trials)
    with showing(
        journal or MemoryJournal(), design, strategy="small", week=week, digest="0123456789", tell=tell
    ) as shown:
        return run_study(design, evaluate, journal=shown)


def main(folder: str, at: int) -> None:
    """Be killed in slot `at`, or wait there if there is a file `wait`."""

    def evaluate_until(task: Task) -> Outcome:
        if task.slot == at:
            while Path(folder, "wait").exists():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        return evaluate(task)

    run_shown(print, evaluate=evaluate_until)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
