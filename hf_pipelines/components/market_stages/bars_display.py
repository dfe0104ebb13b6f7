"""How the page of `<market>/bars` shows what is there, what is missing, and what was quarantined.

Lives here: metadata values, and the check of the quarantine with the places that it names. Does not live here: what is published of a
week (`bars_content`), the figure (`research.plots.bars`).
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import polars as pl

from hf_pipelines.components.display import picture
from hf_pipelines.components.market_stages.bars_content import QUARANTINE
from hf_pipelines.components.market_stages.plan import MarketPlan, WeekDates
from hf_pipelines.components.stage_checks import Evaluate, Finding, check_from_facts
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.partitions import parse_key
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.market_data.files import session_of_name
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import attached_key


def bars_metadata(market: MarketPlan, dates: WeekDates, content: Content) -> dict[str, Any]:
    """What there is of a week in words and numbers, and in a picture where something is wrong: a sound week needs none."""
    from hf_pipelines.research.plots.frames import bar_states

    facts: Mapping[str, Any] = content.facts
    frame = content.frame
    members = frame.filter(pl.col("role") == "member")
    last = frame["session"].max()
    due = [day for day in dates.closed if last is None or day <= last]  # type: ignore[operator]
    expected = market.universe.member_sessions(due, with_references=True)
    states = bar_states(expected, frame, quarantined=facts["quarantined"], suspect=facts["suspect"])
    counts = dict(states.group_by("state").len().iter_rows())
    wrong = [f"{counts[each]:,} {each}" for each in ("quarantined", "missing", "suspect") if each in counts]
    there = counts.get("there", 0) + counts.get("suspect", 0)
    return {
        "headline": f"{there:,} of {states.height:,} symbol-sessions are there; {', '.join(wrong) or 'nothing wrong with them'}",
        **({"coverage": _picture(states, f"Bars, {market.name}, week {dates.week}")} if wrong else {}),
        "symbols": frame["symbol"].n_unique(),
        "sessions": frame["session"].n_unique(),
        "members_per_session": members.select("symbol", "session").n_unique() / max(members["session"].n_unique(), 1),
        "quarantined": len(facts["quarantined"]),
        "events_out_of_place": len(facts["events"]),
        "missing": len(facts["missing"]),
        "suspect": len(facts["suspect"]),
        "strays": len(facts["strays"]),
        "unknown_rows": facts["unknown_rows"],
    }


def _picture(states: pl.DataFrame, heading: str) -> Any:
    from hf_pipelines.research.plots.bars import bars_png

    return picture(bars_png, states, heading=heading)


def faulty_rows(market: MarketPlan) -> Evaluate:
    """The check that nothing was quarantined: it names the files of what was, and where its rows lie."""
    noted = check_from_facts("quarantined", total="expected", unit="symbol-sessions")

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        found = noted(run, inputs, key, content)
        if found.passed or QUARANTINE not in content.attachments:
            return found
        facts: Any = content.facts["quarantined"]
        files = files_of({line.split()[1] for line in facts}, content.sources)
        told = f"{found.findings[0]}; {'from ' + some_of(files) if files else 'of no file that is named'}"
        if run.store is None:
            return Finding(False, found.n_compared, (told,))
        digest = sha256(content.attachments[QUARANTINE]).hexdigest()
        place = run.store.objects.address(attached_key(market.bars_asset, key, QUARANTINE, digest))
        return Finding(False, found.n_compared, (told,), places=(place,))

    return evaluate


def files_of(sessions: set[str], sources: Mapping[str, str]) -> list[str]:
    """Names of the source files of some sessions; of a source whose files hold many sessions all of them."""
    days = {parse_key(each) for each in sessions}
    named = [name for name in sorted(sources) if session_of_name(name) in days]
    return named or [name for name in sorted(sources) if session_of_name(name) is None]
