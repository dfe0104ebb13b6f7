"""Following: what a history of promotions leaves outside of itself: payloads in the outbox and at the webhook, models in MLflow's registry.

Lives here: doing all of it, and what could not be done. Does not live here: each part (`outbox`, `registered_models`), when (commands, the
asset, the sensor).

A decision stands once its record does. Everything else follows from the records, by steps that change nothing where they were done: whoever
comes next does what a process that died, or a server that was away, has left undone.
"""

from dataclasses import dataclass
from datetime import datetime

from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import History
from hf_pipelines.resources.promotions.outbox import OutboxError, fill_outbox, send_outbox
from hf_pipelines.resources.promotions.registered_models import held_by, steps_between, take_steps, wanted_of
from hf_pipelines.resources.storage_errors import StorageUnavailableError
from hf_pipelines.resources.webhook import NotDeliveredError


@dataclass(frozen=True)
class Followed:
    """What was done after a decision.

    Attributes
    ----------
    done : tuple of str
        In words.
    faults : tuple of str
        What could not be done now; it is done later.
    """

    done: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to be done."""
        return not self.faults


def follow_history(history: History, store: PartitionStore, tracking: MLflowTracking, now: datetime) -> Followed:
    """Do what follows from a history; nothing that fails of it is an error of who decided."""
    done, faults = [], []
    try:
        payloads = fill_outbox(store.objects, history)
        done.append(send_outbox(store.objects, history, payloads, now).in_words)
    except (StorageUnavailableError, OutboxError, NotDeliveredError) as e:
        faults.append(str(e))
    try:
        done.append(register(history, store, tracking))
    except (StorageUnavailableError, TrackingUnavailableError) as e:
        faults.append(str(e))
    return Followed(tuple(filter(None, done)), tuple(faults))


def register(history: History, store: PartitionStore, tracking: MLflowTracking) -> str:
    """Make MLflow's registry hold what the history says; returns what it holds, in words, "" where nothing was ever promoted.

    Raises
    ------
    TrackingUnavailableError, StorageUnavailableError
    """
    wanted = wanted_of(history, store)
    if not wanted.versions:
        return ""
    with tracking.registry(history.strategy) as (client, experiment_id):
        held = held_by(client, wanted.name)
        take_steps(client, experiment_id, steps_between(held, wanted), held=held, wanted=wanted)
    named = {each["hf.decision"]: each["hf.version"] for each in wanted.versions.values()}
    told = ", ".join(f"{alias} {named[decision]}" for alias, decision in wanted.aliases.items())
    return f"MLflow: {len(wanted.versions)} version(s) of {wanted.name}, {told or 'no alias'}"
