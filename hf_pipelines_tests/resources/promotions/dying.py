"""Dying: a process that decides and does what follows, and is killed after each single step of it, until nothing is left to be done.

Run as a module: folder of store and tracker, kinds of the decisions. For each attempt it forks a child that has everything imported and
nothing opened; the child takes one step that changes something outside of it (an object, a call to MLflow, a POST) and dies by SIGKILL. It
prints a line for each step, and ends with 0 when a child has ended by itself.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from hf_pipelines.resources import webhook
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.following import Followed, follow_history
from hf_pipelines.resources.promotions.history import history_of, record_decision
from hf_pipelines_tests.resources.promotions.deciding import draft

STRATEGY = "tech"
RULES = ("long", "short", "flat", "wide")
MOST_STEPS = 60

# What changes something outside of the process.
STEPS: dict[Any, tuple[str, ...]] = {
    ObjectStore: ("put_durably",),
    webhook: ("_post",),
    MlflowClient: (
        *("create_registered_model", "create_logged_model", "finalize_logged_model", "create_model_version"),
        *("set_model_version_tag", "set_registered_model_alias", "delete_registered_model_alias"),
    ),
}


def opened(folder: Path) -> tuple[PartitionStore, MLflowTracking]:
    return PartitionStore(ObjectStore(str(folder / "storage"))), MLflowTracking(
        uri=os.environ.get("HF_MLFLOW_URI") or f"sqlite:///{folder / 'mlflow.db'}"
    )


def decide_all(folder: Path, kinds: list[str]) -> Followed:
    """Each decision under an id of its own, as a run that is executed again asks for it, and what follows."""
    store, tracking = opened(folder)
    followed = Followed((), ())
    for number, kind in enumerate(kinds):
        asked = draft(kind, RULES[number], token=f"{number:032d}")
        if history_of(store.objects, STRATEGY).recorded(asked.token) is None:
            record_decision(store.objects, STRATEGY, asked)
        followed = follow_history(history_of(store.objects, STRATEGY), store, tracking, datetime.now(UTC))
        assert followed.is_whole, followed.faults
    return followed


def dying_after(step: Callable[..., Any], name: str, telling: int) -> Callable[..., Any]:
    def taken(*given: Any, **more: Any) -> Any:
        done = step(*given, **more)
        os.write(telling, f"{name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
        return done

    return taken


def attempt(folder: Path, kinds: list[str], *, spared: str) -> tuple[int, str]:
    """Exit status of a child, and the step that it has died after; `spared` is a step that does not end it."""
    told, telling = os.pipe()
    child = os.fork()
    if not child:
        for owner, names in STEPS.items():
            for name in names:
                if name != spared:
                    setattr(owner, name, dying_after(getattr(owner, name), name, telling))
        decide_all(folder, kinds)
        os._exit(0)
    os.close(telling)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(told) as last:
        return status, last.read().strip()


def warm_up(folder: Path) -> None:
    """What each child would do for itself at its first call: on a database of its own, which no child opens."""
    shutil.copy(folder / "mlflow.db", folder / f"warm_{os.getpid()}.db")
    with MLflowTracking(uri=f"sqlite:///{folder / f'warm_{os.getpid()}.db'}").registry("warm") as (client, _):
        client.search_registered_models()


def main(folder: Path, kinds: list[str]) -> int:
    warm_up(folder)
    last = ""
    for _ in range(MOST_STEPS):
        # What was posted and not noted is posted again: that one goes on to the note.
        status, last = attempt(folder, kinds, spared="_post" if last == "_post" else "")
        if status != -signal.SIGKILL:
            return status
        print(last)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
