"""`<market>/<table>`: filings, insider trades, short interest or news, each row with the time it could first be known.

Lives here: reading a table's source for weeks, what is published or quarantined. Does not live here: what a row must
look like (`research.references`), which row counts for which session (`research.features.point_in_time`).

A row belongs to the week in which it became available: a restatement is a row of a later week, and what was known
before stays where it was.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import Stage, column_schema
from hf_pipelines.components.stage_checks import StageCheck, check_from_facts
from hf_pipelines.components.stage_run import Computed, StageRun
from hf_pipelines.partitions import week_key
from hf_pipelines.research.references import REFERENCES, check_structure, validate_references
from hf_pipelines.research.sentiment import lexicon_scores, score_news
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

COLUMN_DESCRIPTIONS = {
    "symbol": "member of the universe",
    "event_time": "what the row is about, UTC: period end, trade, settlement or publication",
    "available_at": "when it could first be known, UTC: it counts for sessions that open later",
}


def reference_stage(market: MarketPlan, table: str) -> Stage:
    """`<market>/<table>`: point-in-time rows, checked."""
    contract = REFERENCES[table]
    return Stage(
        asset=market.reference_asset(table),
        kind=table,
        description=(
            f"{table.replace('_', ' ').capitalize()} of the members of {market.name}, by the week in which they became "
            f"available. `event_time` is the {contract.about}. A correction is a row of its own with a later `available_at`."
        ),
        kinds=frozenset({"polars", "parquet"}),
        partitions=market.partitions.weekly,
        inputs=(),
        compute=partial(_compute_rows, market, table),
        code_version=code_version(
            check_structure,
            validate_references,
            *([score_news, lexicon_scores] if table == "news" else []),
            fields={
                "universe": sorted(market.universe.members),
                **({"news_scorer": market.news_scorer} if table == "news" else {}),
                "max_faulty_share": market.max_faulty_share,
            },
        ),
        checks=(
            StageCheck(
                "no_faulty_rows",
                "No row had to be quarantined.",
                check_from_facts("quarantined", total="rows", unit="rows"),
            ),
        ),
        column_schema=column_schema(
            {name: COLUMN_DESCRIPTIONS.get(name, name.replace("_", " ")) for name in contract.schema}, contract.schema
        ),
        pool=market.name,
        manifest=partial(market.reference_manifest, table),
        is_manifest_live=market.reference_asset(table) in market.watched_folders,
    )


def _compute_rows(market: MarketPlan, table: str, run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
    # Weeks without rows are usual: a mistyped folder would look like them.
    if absent := market.absent_folder(market.reference_asset(table), field="references"):
        raise ValueError(absent)
    files = market.reference_sources[table].read(table, run.partitions, run.now)
    contents: dict[str, Content] = {}
    failures: dict[str, str] = {}
    metadata: dict[str, dict[str, Any]] = {}
    for key, of_week in files.items():
        try:
            contents[key] = _content(market, table, key, of_week, run.now)
        except ValueError as e:
            failures[key] = str(e)
            continue
        rows = contents[key].frame
        metadata[key] = {
            "symbols": rows["symbol"].n_unique(),
            "quarantined": len(contents[key].facts["quarantined"]),  # type: ignore[arg-type]
            "unknown_rows": contents[key].facts["unknown_rows"],
            **({"latest_available_at": str(rows["available_at"].max())} if rows.height else {}),
        }
    return Computed(contents, failures, metadata)


def _content(market: MarketPlan, table: str, key: str, files: list[SourceFile], now: datetime) -> Content:
    frames = [_rows_of(market, table, key, file) for file in files]
    raw = pl.concat([pl.DataFrame(schema=REFERENCES[table].schema), *frames])
    checked = validate_references(
        raw,
        table,
        universe=market.universe.members,
        source=", ".join(file.name for file in files[:3]) or key,
        now=now,
        max_faulty_share=market.max_faulty_share,
    )
    rows = checked.rows
    if table == "news" and rows.height:
        rows = score_news(rows, market.scorer).select(*REFERENCES[table].schema)
    quarantined = checked.quarantined
    return Content(
        frame=rows,
        attachments={"quarantine.csv": quarantined.write_csv().encode()} if quarantined.height else {},
        sources={file.name: file.sha256 for file in files},
        facts={
            "rows": raw.height,
            "quarantined": [
                f"{symbol} {at:%Y-%m-%d} {reason}"
                for symbol, at, reason in quarantined.select("symbol", "available_at", "reason").iter_rows()
            ],
            "unknown_rows": checked.n_unknown,
        },
    )


def _rows_of(market: MarketPlan, table: str, key: str, file: SourceFile) -> pl.DataFrame:
    if file.frame is None:
        raise ValueError(file.fault)
    if not file.frame.width:
        return pl.DataFrame(schema=REFERENCES[table].schema)
    rows = check_structure(file.frame, table, source=file.name)
    # A service gives the days of rows in UTC, a vendor's files in the market's time zone.
    local, utc = (
        rows["available_at"].dt.convert_time_zone(zone).dt.date() for zone in (market.partitions.timezone, "UTC")
    )
    strays = [
        str(day)
        for day, other in zip(local.to_list(), utc.to_list(), strict=True)
        if key not in (week_key(day), week_key(other))
    ]
    if strays:
        raise ValueError(
            f"`available_at` must lie in the week {key} of {file.name}, was {', '.join(sorted(set(strays))[:5])}; name a file "
            "by the day on which its rows became available."
        )
    return rows
