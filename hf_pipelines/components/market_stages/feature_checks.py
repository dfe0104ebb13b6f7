"""Checks of features, besides their replay.

Lives here: what is infinite, and whether reference tables hold what the features read. Does not live here: the replay
(`feature_replay`).
"""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import StageInput
from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.research.features.registry import FEATURES
from hf_pipelines.research.references import MIN_FISCAL_YEARS, REFERENCES, doubtful_periods
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content


def infinite_values(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    frame = content.frame
    names = [name for name, dtype in frame.schema.items() if dtype == pl.Float32]
    is_infinite = frame.select(pl.col(names).is_infinite().any())
    found = []
    for name in (name for name in names if is_infinite[name].item()):
        row = frame.filter(pl.col(name).is_infinite()).row(0, named=True)
        found.append(f"`{name}` must be finite or NaN, was {row[name]} for {row['symbol']} on {row['session']}")
    return Finding(not found, frame.height * len(names), tuple(found[:5]))


def filing_checks(read: tuple[StageInput, ...]) -> tuple[StageCheck, ...]:
    """Where filings are read: whether their figures cover the periods that TTM and growth take them for.

    A week of filings is too short for that; the two years that a week of features reads are not.
    """
    if "fundamentals" not in {each.name for each in read}:
        return ()

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        found, n_years = doubtful_periods(inputs["fundamentals"].frame())
        return Finding(not found, n_years, tuple(found))

    return (
        StageCheck(
            "filings_cover_their_periods",
            "Over all companies, three quarters of income are about three quarters of the year's, and cash flow is the year to "
            "date: looked at once a run, over all filings that its weeks read, if "
            f"they hold {MIN_FISCAL_YEARS} whole fiscal years of a company or more (`values_compared`).",
            evaluate,
            severity=dg.AssetCheckSeverity.WARN,
            sample=lambda contents: [max(contents)] if contents else [],
        ),
    )


def column_checks(market: MarketPlan, group: str, read: tuple[StageInput, ...]) -> tuple[StageCheck, ...]:
    """Where tables are read: whether they hold the figures that the features of the group are made of.

    A column may be absent, and features that read it are NaN: without this check a strategy of the whole group could not be
    trained, and nothing would say why.
    """
    tables = [each.name for each in read[1:]]
    if not tables:
        return ()

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        found, n_columns = [], 0
        for table in tables:
            rows, figures = inputs[table].frame(), REFERENCES[table].figures
            n_columns += len(figures)
            empty = [name for name in figures if rows.height and rows[name].is_nan().all()]
            readers = [name for name in market.feature_groups[group] if table in FEATURES[name].inputs]
            unknown = [name for name in readers if content.frame.height and content.frame[name].is_nan().all()]
            if empty and unknown:
                left_out = ", ".join(f"-{group}/{name}" for name in unknown)
                found.append(
                    f"`{table}` must hold the columns that its features read, was without a value of {', '.join(empty)} in "
                    f"{rows.height} rows; features without a value: {some_of(unknown)}; deliver the columns, or leave the "
                    f"features out: features: [{group}, {left_out}]"
                )
        return Finding(not found, n_columns, tuple(found))

    return (
        StageCheck(
            "tables_hold_their_columns",
            "Every column of the reference tables that features of the group are made of has a value somewhere: looked at once a "
            "run, over all rows that its weeks read.",
            evaluate,
            severity=dg.AssetCheckSeverity.WARN,
            sample=lambda contents: [max(contents)] if contents else [],
        ),
    )
