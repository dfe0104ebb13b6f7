"""Display of drift: what the page of a session shows, with pictures of the weeks before it.

Lives here: the metadata, and what the pictures are drawn of. Does not live here: drawing (`research.plots.drift`).
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.display import in_a_window, markdown_table, picture
from hf_pipelines.components.stage import week_of_key
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.partitions import parse_key
from hf_pipelines.research.drift.day import DriftDay, Seen
from hf_pipelines.resources.storage_errors import StoredPartitionError

# Weeks before a session that its pictures show.
SHOWN_WEEKS = 26

# Fact: the accuracy of a session, so that later ones can draw it.
MATURED = "matured"


def shown(
    plan: StrategyPlan, run: StageRun, key: str, *, told: str, week: str, seen: Seen, day: DriftDay
) -> dict[str, Any]:
    """What the page of a session shows; over a range the last one alone has pictures."""
    numbers = {row["measure"]: row["value"] for row in day.measures.to_dicts() if row["value"] is not None}
    return {
        "says": told,
        "model_week": week,
        "columns": in_a_window(markdown_table(day.columns.sort("share", descending=True, nulls_last=True))),
        "measures": in_a_window(markdown_table(day.measures)),
        "window_sessions": day.window_sessions,
        **({"cannot_be_judged": dg.MetadataValue.text("\n".join(day.lacking))} if day.lacking else {}),
        **(_pictures(plan, run, key, seen, day) if key == _last(plan, run) else {}),
        **numbers,
    }


def matured_facts(day: DriftDay) -> dict[str, float | None]:
    """The accuracy of a session, for pictures of later ones; empty where nothing can be right or wrong."""
    rows = day.measures.filter(measure="accuracy").select("value", "low", "high", "expected").to_dicts()
    return rows[0] if rows else {}


def _last(plan: StrategyPlan, run: StageRun) -> str:
    sessions = [key for key in run.partitions if plan.market.partitions.is_session(parse_key(key))]
    return max(sessions, default="")


def _pictures(plan: StrategyPlan, run: StageRun, key: str, seen: Seen, day: DriftDay) -> dict[str, Any]:
    def draw_shifts() -> bytes:
        from hf_pipelines.research.plots.drift import shifts_png

        return shifts_png(_weeks(plan, run, key, day), heading=plan.name)

    def draw_outputs() -> bytes:
        from hf_pipelines.research.plots.drift import outputs_png

        assert seen.out_of_fold is not None
        window = seen.sessions[-day.window_sessions :] if day.window_sessions else seen.sessions[-1:]
        issued = seen.issued.filter(pl.col("session").is_in([*window]))
        return outputs_png(
            seen.out_of_fold["prediction"].to_list(),
            issued["prediction"].to_list(),
            heading=plan.name,
            sessions=issued["session"].n_unique(),
        )

    def draw_accuracy() -> bytes:
        from hf_pipelines.research.plots.drift import accuracy_png

        return accuracy_png(_accuracies(plan, run, key, day), heading=plan.name)

    return {
        **({} if day.columns.is_empty() else {"shifts": picture(draw_shifts)}),
        **({} if seen.out_of_fold is None else {"predictions": picture(draw_outputs)}),
        **({"accuracy_over_time": picture(draw_accuracy)} if matured_facts(day) else {}),
    }


def _earlier(plan: StrategyPlan, run: StageRun, key: str) -> list[str]:
    """Sessions before one, of the weeks that are shown."""
    stored = [] if run.store is None else run.store.partitions(plan.asset("drift"))
    first = plan.market.partitions.weeks_around(week_of_key(key), first=-SHOWN_WEEKS, last=0)[0]
    return sorted({each for each in (*stored, *run.made) if first <= each < key})


def _weeks(plan: StrategyPlan, run: StageRun, key: str, day: DriftDay) -> pl.DataFrame:
    """Columns of the last session of each week, the session itself the last."""
    last = {week_of_key(each): each for each in _earlier(plan, run, key)} | {week_of_key(key): key}
    frames = []
    for each in last.values():
        frame = day.columns if each == key else _columns(plan, run, each)
        frames.append(frame.select(session=pl.lit(parse_key(each)), column="column", verdict="verdict", shift="shift"))
    return pl.concat(frames)


def _columns(plan: StrategyPlan, run: StageRun, key: str) -> pl.DataFrame:
    if key in run.made:
        return run.made[key].frame
    assert run.store is not None
    try:
        return run.store.read(plan.asset("drift"), key).frame
    except StoredPartitionError:
        # Whoever reads it is told so; a picture goes without.
        return pl.DataFrame(schema={"column": pl.String, "verdict": pl.String, "shift": pl.Float64})


def _accuracies(plan: StrategyPlan, run: StageRun, key: str, day: DriftDay) -> pl.DataFrame:
    rows: list[dict[str, float | date | None]] = []
    for each in _earlier(plan, run, key):
        facts = run.made[each].facts if each in run.made else _facts(plan, run, each)
        found: Any = facts.get(MATURED) or {}
        rows.append({"session": parse_key(each), **found})
    rows.append({"session": parse_key(key), **matured_facts(day)})
    schema = {"session": pl.Date, **dict.fromkeys(("value", "low", "high", "expected"), pl.Float64)}
    return pl.DataFrame(rows, schema=schema)


def _facts(plan: StrategyPlan, run: StageRun, key: str) -> Mapping[str, object]:
    assert run.store is not None
    asset = plan.asset("drift")
    try:
        return run.store.peek(run.store.key(asset, key), asset=asset, partition=key).facts
    except StoredPartitionError:
        return {}
