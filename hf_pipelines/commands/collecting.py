"""Collecting: what is old and needed by nothing; the lines of `hfp gc`.

Lives here: what would go and stay, in words. Does not live here: what may go (`resources.retention`), the weekly job
(`components.automation.housekeeping`).
"""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.fit_states import old_fits
from hf_pipelines.resources.lineage import current_footers
from hf_pipelines.resources.parquet_io_manager import open_store
from hf_pipelines.resources.retention import Judged, Policy, judge_runs, judge_versions, prune


def gc_lines(*, is_wanted: bool) -> Iterator[str]:
    """What goes and what stays, each with the reason; removed where it is wanted.

    Parameters
    ----------
    is_wanted : bool
        Whether it is removed, or only told.
    """
    settings.prepare_dagster_home()
    store, instance, now = open_store(), dg.DagsterInstance.get(), Clock().now()
    policy = Policy(days=settings.keep_days(), versions=settings.keep_versions())
    footers = current_footers(store)
    judged = [
        *judge_versions(store, footers, policy, now),
        *judge_runs(instance, footers, policy, now),
        *(
            Judged("fit", key, written, True, f"a fit that was not ended for {policy.days} days")
            for key, written in old_fits(store.objects, before=now - timedelta(days=policy.days)).items()
        ),
    ]
    for each in judged:
        yield f"{'goes' if each.goes else 'stays':<5}  {each.kind:<7}  {each.written:%Y-%m-%d}  {each.name}: {each.why}"
    counts = Counter((each.kind, each.goes) for each in judged)
    told = ", ".join(
        f"{counts[kind, True]} of {counts[kind, True] + counts[kind, False]} {kind}s"
        for kind in ("version", "run", "fit")
    )
    if not is_wanted:
        yield f"Would remove {told}; nothing was removed: hfp gc --yes"
        return
    for each in judged:
        if each.goes:
            prune(store, instance, each)
    yield f"Removed {told}"
