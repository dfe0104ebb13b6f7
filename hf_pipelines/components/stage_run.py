"""Stage run: what a stage's computation is given, and what it returns.

Lives here: the types of both, and computing one partition at a time. Does not live here: the stage itself (`stage`), its
checks (`stage_checks`), publishing (`stage_asset`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from hf_pipelines.research.learners import Progress
from hf_pipelines.research.learners.learner import NO_PROGRESS, LoggedProgress
from hf_pipelines.resources.fit_states import FitStates
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.trial_ledger import Slot, TrialLedger


@dataclass(frozen=True)
class Variant:
    """How a strategy that is tried differs from itself: by `source` and `differs` the ledger tells its trials from others."""

    source: str
    differs: Mapping[str, Any]


@dataclass(frozen=True)
class StageRun:
    """What a computation knows of its run.

    Attributes
    ----------
    partitions : tuple of str
        Partition keys to compute.
    now : datetime
        Wall clock at the start of the step, UTC.
    log : object
        Dagster's logger.
    tracked : mapping of partition to str
        Run of the experiment tracker, where there is one.
    store : PartitionStore, optional
        Where the stage publishes.
    final_refit : str or None
        Of a run that is the final refit of a promoted configuration its name.
    fits : FitStates, optional
        Where long fits keep their state, see `progress`.
    log_step : callable, optional
        `(partition, step, numbers)` to the experiment tracker, as a fit goes on.
    code_version : str
        Of the stage.
    trials : TrialLedger or None
        Where evaluated configurations are recorded; None where a stored partition is replayed.
    slot : Slot or None
        Of the trial under way.
    made : mapping of partition to Content
        What the run has computed of earlier partitions and not published yet.
    variant : Variant or None
        Of a strategy that is tried with other settings than its own.
    """

    partitions: tuple[str, ...]
    now: datetime
    log: Any
    tracked: Mapping[str, str] = field(default_factory=dict)
    store: PartitionStore | None = None
    final_refit: str | None = None
    code_version: str = ""
    trials: TrialLedger | None = None
    slot: Slot | None = None
    made: Mapping[str, Content] = field(default_factory=dict)
    fits: FitStates | None = None
    log_step: Callable[[str, int, Mapping[str, float]], None] | None = None
    variant: Variant | None = None

    def progress(self, partition: str, *, inputs: Mapping[str, Any], place: str = "") -> Progress:
        """Progress of a long fit of a partition at one place, such as `fold 2`, by the content hashes of what is fitted."""
        if self.fits is None:
            return NO_PROGRESS if self.log_step is None else LoggedProgress(partial(self.log_step, partition))
        if self.log_step is None:
            return self.fits.progress(partition, place=place, inputs=inputs)
        return self.fits.progress(partition, place=place, inputs=inputs, log=partial(self.log_step, partition))


@dataclass(frozen=True)
class Computed:
    """Contents by partition, and why others have none; metadata is shown in the UI.

    Partitions in `skipped` name no session: over a range they need no content.
    """

    contents: Mapping[str, Content]
    failures: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()


class StageCompute(Protocol):
    """Computes the content of every partition of a run."""

    def __call__(self, run: StageRun, inputs: Mapping[str, Loaded]) -> Computed: ...


def each_partition(
    compute_one: Callable[[StageRun, Mapping[str, Loaded], str], tuple[Content, Mapping[str, Any]]],
    *,
    is_needed: Callable[[str], bool] = lambda key: True,
) -> StageCompute:
    """A computation that looks at one partition at a time; over a range one bad partition does not stop the rest.

    Parameters
    ----------
    compute_one : callable
        Raises ValueError for a partition that cannot be computed.
    is_needed : callable
        Over a range, partitions for which it is false are skipped.
    """

    def compute(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        if len(run.partitions) == 1:
            (key,) = run.partitions
            content, notes = compute_one(run, inputs, key)
            return Computed({key: content}, metadata={key: notes})
        contents: dict[str, Content] = {}
        failures, metadata = {}, {}
        needed = [key for key in run.partitions if is_needed(key)]
        for number, key in enumerate(needed, start=1):
            try:
                contents[key], metadata[key] = compute_one(replace(run, made=contents), inputs, key)
            except ValueError as e:
                failures[key] = str(e)
            run.log.info(f"{key}: {number} of {len(needed)} partitions computed")
        return Computed(contents, failures, metadata, tuple(sorted(set(run.partitions) - set(needed))))

    return compute
