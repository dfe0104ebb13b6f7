"""Retention: what is old and needed by nothing, and its removal.

**Roots** (`roots`) are what may never go: each part of the project names what it needs, by one function and one line. **Collectors**
(`COLLECTORS`) judge one kind of thing each: it goes, or stays, and why. Whatever stays keeps what it was made from.

| kind | goes when it is old (HF_KEEP_DAYS), or above HF_KEEP_GB of its kind, and |
|---|---|
| tracked run | its model is not stored any more, and no registered version with an alias points to it |
| log | its Dagster run goes, or is gone |
| run | it made nothing that is current |
| study | always: it is a copy to look at, its trials are in the store and in the ledger |
| fit | it was never ended |
| try | it is beyond the newest HF_KEEP_VERSIONS of its strategy, or was never ended |
| version | it is beyond the newest HF_KEEP_VERSIONS of its partition, and nothing that stays was made from it |

Things go in this order, readers before what they point to: a removal that is killed anywhere leaves nothing that points to what is gone.
Nothing of the trial ledger ever goes, its series among them: what was tried counts forever. Nor does any record of a promotion.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.resources.retention import dagster_runs, fits, studies, tracked_runs, tries, versions
from hf_pipelines.resources.retention.judging import Holdings, Judged, Policy, within_bytes
from hf_pipelines.resources.retention.roots import needed_by_roots

__all__ = ["COLLECTORS", "Collector", "Holdings", "Judged", "Policy", "judge_old", "remove_judged"]


@dataclass(frozen=True)
class Collector:
    """One kind of thing.

    Attributes
    ----------
    many : str
        Several of the kind, in words.
    judge : callable
        All of the kind that are looked at, in the order in which they may go.
    remove : callable
        Removes one; nothing happens where it is gone.
    """

    many: str
    judge: Callable[[Holdings], list[Judged]]
    remove: Callable[[Holdings, Judged], None]


# In the order of removal.
COLLECTORS = {
    tracked_runs.KIND: Collector("tracked runs", tracked_runs.judge, tracked_runs.remove),
    dagster_runs.LOG: Collector("logs", dagster_runs.judge_logs, dagster_runs.remove_log),
    dagster_runs.RUN: Collector("runs", dagster_runs.judge, dagster_runs.remove),
    studies.KIND: Collector("studies", studies.judge, studies.remove),
    fits.KIND: Collector("fits", fits.judge, fits.remove),
    tries.KIND: Collector("tries", tries.judge, tries.remove),
    versions.KIND: Collector("versions", versions.judge, versions.remove),
}


def judge_old(holdings: Holdings) -> list[Judged]:
    """Everything that retention looks at, in the order of removal.

    A tracker or a database of studies that does not answer is written to `holdings.unseen`: its things stay, others go.
    """
    holdings.needed = needed_by_roots(holdings)
    # Tracked runs ask which models stay, logs which runs do.
    for kind in reversed(COLLECTORS):
        try:
            judged = COLLECTORS[kind].judge(holdings)
        except (TrackingUnavailableError, ConnectionError) as e:
            holdings.unseen[kind] = str(e)
            judged = []
        holdings.judged[kind] = within_bytes(judged, holdings.policy, holdings.now)
        if kind == versions.KIND:
            holdings.judged[kind] = versions.keep_what_stays_descends_from(holdings, holdings.judged[kind])
    return [each for kind in COLLECTORS for each in holdings.judged[kind]]


def remove_judged(holdings: Holdings, judged: Iterable[Judged]) -> Iterator[Judged]:
    """Remove what goes, in the order of `judge_old`; yields each that was removed.

    Where the tracker went away, or was not looked at, models stay: its runs may point to them.
    """
    for each in judged:
        if not each.goes or (each.is_model and tracked_runs.KIND in holdings.unseen):
            continue
        try:
            COLLECTORS[each.kind].remove(holdings, each)
        except (TrackingUnavailableError, ConnectionError) as e:
            holdings.unseen[each.kind] = str(e)
            continue
        yield each
