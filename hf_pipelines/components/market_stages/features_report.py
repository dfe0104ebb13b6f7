"""`<market>/features_report`: which symbols have feature values, and which features are redundant, in pictures.

Lives here: the weeks that are looked at, and what is shown. Does not live here: coverage and correlations
(`research.features_report`), how they are drawn (`research.plots.features`).

An asset of its own, since nothing is made from it: drawing costs more than the features of a day, and the daily path
must not pay for it. Its schedule requests it once a week.
"""

import math
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import in_a_window, markdown_table, parquet_bytes, picture
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import Stage, StageInput, window
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.research.features_report import (
    closest_pairs,
    clustered,
    feature_correlations,
    feature_coverage,
)
from hf_pipelines.research.matrix import join_features
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

# A quarter of daily bars; a market with more bars a week looks at fewer weeks, at least one.
BARS_SHOWN = 63
WEEKS_PER_YEAR = 365.25 / 7

# Lines of the tables beside the pictures.
LINES_SHOWN = 10


def features_report_stage(market: MarketPlan) -> Stage:
    """`<market>/features_report`: coverage by symbol and session, correlations of features."""
    weeks = math.ceil(BARS_SHOWN / (market.usual_bars_per_year / WEEKS_PER_YEAR))
    read = tuple(
        StageInput(
            f"features_{group}",
            market.features_asset(group),
            first_week=1 - weeks,
            guards=("replay",),
            is_optional=True,
        )
        for group in market.feature_groups
    )

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        for each in read:
            inputs[each.name].require([key])
        asked = window(market.partitions, read[0], key)
        held = [week for week in asked if all(week in inputs[each.name].parts for each in read)]
        features = join_features([inputs[each.name].frame(held) for each in read])
        if features.is_empty():
            raise ValueError(f"`features` of {market.name} must have rows in the weeks to {key}, had none.")
        last: date = features["session"].max()  # type: ignore[assignment]
        # Sessions after the last one that has features are yet to come.
        sessions = [day for week in held for day in market.partitions.sessions_of_week(week) if day <= last]
        coverage = feature_coverage(features, market.universe.member_sessions(sessions))
        correlations = feature_correlations(features)
        hashes: dict[str, dict[str, str]] = {}
        for each in read:
            hashes |= inputs[each.name].hashes(held)
        content = Content(coverage, attachments={"correlations.parquet": parquet_bytes(correlations)}, inputs=hashes)
        return content, _shown(market.name, coverage, correlations, n_weeks=len(held))

    return Stage(
        asset=market.report_asset,
        kind="features_report",
        description=(
            f"Which symbols of {market.name} have feature values (share of features that are not NaN, by symbol and session) and "
            f"which features are redundant (rank correlations), over the {weeks} weeks to the end of the week: tables and pictures."
        ),
        kinds=frozenset({"polars", "matplotlib", "parquet"}),
        partitions=market.partitions.weekly,
        inputs=read,
        compute=each_partition(compute),
        code_version=code_version(
            feature_coverage, feature_correlations, fields={"weeks": weeks, "universe": market.universe.spells}
        ),
    )


def _shown(market: str, coverage: pl.DataFrame, correlations: pl.DataFrame, *, n_weeks: int) -> dict[str, Any]:
    from hf_pipelines.research.plots.features import SHOWN_FEATURES, correlations_png, coverage_png

    first, last = str(coverage["session"].min()), str(coverage["session"].max())
    drawn = clustered(correlations, SHOWN_FEATURES)
    symbols = coverage.group_by("symbol").agg(pl.col("coverage").mean()).sort("coverage", "symbol")
    mean: Any = coverage["coverage"].mean()
    return {
        "headline": f"{mean:.1%} of {correlations.height} features have values, of {symbols.height} symbols over {n_weeks} weeks",
        "coverage": picture(coverage_png, coverage, heading=market),
        "correlations": picture(
            correlations_png,
            drawn,
            n_features=correlations.height,
            heading=market,
            period=f"sessions {first} to {last}",
        ),
        "least_covered": dg.MetadataValue.md(markdown_table(symbols.head(LINES_SHOWN))),
        "most_correlated": in_a_window(markdown_table(closest_pairs(correlations, LINES_SHOWN))),
        "mean_coverage": coverage["coverage"].mean(),
        "symbols": symbols.height,
        "features": correlations.height,
        "sessions": coverage["session"].n_unique(),
        "weeks": n_weeks,
    }
