"""Finished runs of Dagster with their events, and what they printed."""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.compute_logs import FOLDER
from hf_pipelines.resources.dagster_internals import FINISHED_STATUSES
from hf_pipelines.resources.retention.judging import Holdings, Judged
from hf_pipelines.resources.retention.roots import RUN

__all__ = ["LOG", "RUN", "judge", "judge_logs", "remove", "remove_log"]

LOG = "log"

# Runs looked at in one go: deleting is a transaction each.
RUNS_A_TIME = 1_000

_RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def judge(holdings: Holdings) -> list[Judged]:
    """Finished runs that are old, at most `RUNS_A_TIME`, the oldest first.

    A run that made something that is still current stays: its events are what the web UI knows of that partition.
    """
    wanted = dg.RunsFilter(statuses=list(FINISHED_STATUSES), updated_before=holdings.oldest)
    judged = []
    for record in holdings.instance.get_run_records(wanted, limit=RUNS_A_TIME, ascending=True):
        run_id = record.dagster_run.run_id
        why = holdings.needed.get((RUN, run_id))
        goes = f"{holdings.aged}, and made nothing that is current"
        judged.append(Judged(RUN, run_id, record.update_timestamp, why is None, why or goes))
    return judged


def remove(holdings: Holdings, judged: Judged) -> None:
    """Delete a run with its events."""
    if holdings.instance.has_run(judged.name):
        holdings.instance.delete_run(judged.name)


def judge_logs(holdings: Holdings) -> list[Judged]:
    """What runs have printed: it goes with its run, and where the run is gone once it is old."""
    of_runs = {each.name: each for each in holdings.judged[RUN]}
    judged = []
    for run_id, (written, size) in sorted(_logs(holdings), key=lambda each: (each[1], each[0])):
        run = of_runs.get(run_id)
        if run is not None:
            goes, why = run.goes, f"its run {run.why}" if run.goes else run.why
        elif holdings.instance.has_run(run_id):
            goes, why = False, "its run stays"
        else:
            goes = written < holdings.oldest
            why = f"{holdings.aged}, and its run is gone" if goes else holdings.young
        is_spare = not goes and (RUN, run_id) not in holdings.needed
        judged.append(Judged(LOG, run_id, written, goes, why, size, is_spare))
    return judged


def remove_log(holdings: Holdings, judged: Judged) -> None:
    """Delete what a run has printed, wherever the instance keeps it."""
    holdings.instance.compute_log_manager.delete_logs(prefix=[judged.name])


def _logs(holdings: Holdings) -> Iterator[tuple[str, tuple[datetime, int]]]:
    """Runs with logs, when the last one was written, and all their bytes."""
    found: dict[str, tuple[datetime, int]] = {}
    for name, written, size in _files(holdings):
        if _RUN_ID.fullmatch(name):
            before, sum_before = found.get(name, (written, 0))
            found[name] = max(before, written), sum_before + size
    yield from found.items()


def _files(holdings: Holdings) -> Iterator[tuple[str, datetime, int]]:
    objects = holdings.store.objects
    if objects.is_remote:
        for key, (written, size) in objects.ages_and_sizes(FOLDER).items():
            yield key.removeprefix(f"{FOLDER}/storage/").partition("/")[0], written, size
        return
    folder = Path(settings.dagster_home(), "storage")
    for entry in os.scandir(folder) if folder.is_dir() else ():
        for at, _, names in os.walk(entry.path) if entry.is_dir(follow_symlinks=False) else ():
            for name in names:
                status = os.lstat(os.path.join(at, name))
                yield entry.name, datetime.fromtimestamp(status.st_mtime, UTC), status.st_size
