"""Content of bars: what is published of a week, and what is noted beside it.

Lives here: the frame, the quarantine and the facts that the checks report. Does not live here: the judging (`settled_bars`),
the checks (`bars`).
"""

import polars as pl

from hf_pipelines.components.market_stages.plan import MarketPlan, WeekDates
from hf_pipelines.components.market_stages.settled_bars import NO_BARS, SettledBars
from hf_pipelines.partitions import days_of_week
from hf_pipelines.research.bars import CheckedBars, missing_bars, stale_bars
from hf_pipelines.research.events import describe_carried
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.partition_codec import Content

# The check `complete` names the missing session itself: one fault is one alarm.
GAP_RULE = "gap"

# What is attached to a week some of whose rows were refused: these rows as they came, with the reason.
QUARANTINE = "quarantine.csv"


def bars_content(
    market: MarketPlan,
    dates: WeekDates,
    files: list[tuple[SourceFile, CheckedBars]],
    settled: SettledBars,
    level_warnings: pl.DataFrame,
) -> Content:
    """Of a week; `level_warnings`: of its levels in dispute."""
    key, days = dates.week, dates.closed
    of_week = pl.col("session").is_in(days)
    used = [
        file
        for file, checked in files
        if set(file.sessions) <= set(days)
        or any(each.filter(of_week).height for each in (checked.bars, checked.quarantined))
    ]
    bars = settled.bars.get(key, NO_BARS).filter(of_week)
    # A row of a day without a session belongs to the week all the same.
    all_days = [day for day in days_of_week(key) if day in days or day not in market.partitions.hours]
    quarantined = settled.quarantined.filter(pl.col("session").is_in(all_days))
    verdicts = pl.concat([settled.verdicts.filter(of_week), level_warnings]).sort(
        "symbol", "session", maintain_order=True
    )
    is_suspect = (pl.col("severity") == "warning") & (pl.col("rule") != GAP_RULE)
    suspect = verdicts.filter(is_suspect).select("symbol", "session", "rule", "reason")
    # A session after the last one that came is not missing yet: the check `on_time` reports it when it is late.
    last = max(bars["session"].to_list(), default=None)
    # Symbol-sessions that should have bars.
    expected = market.universe.member_sessions(
        [day for day in days if last is None or day <= last], with_references=True
    )
    bars_expected = expected if market.bar_grid.is_daily else _each_bar(market, expected)
    missing = missing_bars(bars, bars_expected)
    weeks = (*dates.weeks_before, key)
    stale = stale_bars(pl.concat([settled.came[each] for each in weeks if each in settled.came] or [NO_BARS]))
    stale = stale.filter(of_week)
    return Content(
        frame=bars,
        attachments={QUARANTINE: quarantined.write_csv().encode()} if quarantined.height else {},
        sources={file.name: file.sha256 for file in used},
        facts={
            "expected": expected.height,
            "quarantined": named(quarantined.select("symbol", "session", "reason").unique(maintain_order=True)),
            "events": describe_carried(settled.carried, all_days),
            "missing": named(missing) if market.bar_grid.is_daily else _counted(missing, bars_expected),
            "stale": named(stale.select("symbol", "session")),
            "suspect": named(suspect),
            "unknown_rows": sum(checked.n_unknown for file, checked in files if set(file.sessions) <= set(days)),
        },
        has_session_hashes=True,
    )


def _each_bar(market: MarketPlan, expected: pl.DataFrame) -> pl.DataFrame:
    days = expected["session"].unique().to_list()
    ends = market.bar_grid.ends({day: market.partitions.hours[day] for day in days})
    return expected.join(ends, on="session", how="inner")


def _counted(missing: pl.DataFrame, expected: pl.DataFrame) -> list[str]:
    """One line a symbol-session: a session of minutes lacks hundreds of bars."""
    of_session = expected.group_by("symbol", "session").len("n_expected")
    counts = missing.group_by("symbol", "session").len("n_missing").join(of_session, on=["symbol", "session"])
    rows = counts.sort("session", "symbol").select("symbol", "session", "n_missing", "n_expected").iter_rows()
    return [f"{symbol} {session} ({n} of {n_all} bars)" for symbol, session, n, n_all in rows]


def named(rows: pl.DataFrame) -> list[str]:
    return [" ".join(str(value) for value in row) for row in rows.iter_rows()]
