"""Collecting: what is old and needed by nothing; the lines of `hfp gc`.

Lives here: what would go and stay, in words. Does not live here: what may go (`resources.retention`), the weekly job
(`components.automation.housekeeping`).
"""

from collections import Counter
from collections.abc import Iterator

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.parquet_io_manager import open_store
from hf_pipelines.resources.retention import COLLECTORS, Holdings, Policy, judge_old, remove_judged


def gc_lines(*, is_wanted: bool) -> Iterator[str]:
    """What goes and what stays, each with the reason; removed where it is wanted.

    Parameters
    ----------
    is_wanted : bool
        Whether it is removed, or only told.
    """
    settings.prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        holdings = Holdings(open_store(), instance, MLflowTracking(), Policy.from_environment(), Clock().now())
        judged = judge_old(holdings)
        for each in judged:
            verdict = "goes" if each.goes else "stays"
            yield f"{verdict:<5}  {each.kind:<11}  {each.written:%Y-%m-%d}  {each.name}: {each.why}"
        gone = [*remove_judged(holdings, judged)] if is_wanted else [each for each in judged if each.goes]
    for kind, reason in holdings.unseen.items():
        yield f"{COLLECTORS[kind].many} were not looked at: {reason}"
    counts, all_counts = Counter(each.kind for each in gone), Counter(each.kind for each in judged)
    told = ", ".join(f"{counts[kind]} of {all_counts[kind]} {each.many}" for kind, each in COLLECTORS.items())
    yield f"Removed {told}" if is_wanted else f"Would remove {told}; nothing was removed: hfp gc --yes"
