"""`<market>/features/<group>`: one float32 column a feature, replayed before it is published.

Lives here: the stage, and cutting a range into weeks. Does not live here: what it reads (`feature_inputs`), its checks
(`feature_replay`, `feature_checks`), the features (`research.features`).
"""

import re
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import markdown_table
from hf_pipelines.components.market_stages.feature_checks import column_checks, filing_checks, infinite_values
from hf_pipelines.components.market_stages.feature_inputs import (
    calendar_manifest,
    feature_inputs,
    features_of,
    reads_calendar,
)
from hf_pipelines.components.market_stages.feature_replay import feature_replay, recomputing, replays_of
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import Stage, StageInput, column_schema, weeks_to_make, window
from hf_pipelines.components.stage_checks import StageCheck
from hf_pipelines.components.stage_run import Computed, StageRun
from hf_pipelines.partitions import week_of_session
from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.panel import CalendarChange
from hf_pipelines.research.features.registry import FEATURES, compute_features
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.replay_record import read_record
from hf_pipelines.resources.requirements import require_all

# What Dagster takes as the name of a tag.
TAG_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")


def features_stage(market: MarketPlan, group: str) -> Stage:
    """`<market>/features/<group>`: one float32 column a feature."""
    features = [FEATURES[name] for name in market.feature_groups[group]]
    read = feature_inputs(market, group)

    def compute(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        return _compute_features(market, run, inputs, group, read)

    return Stage(
        asset=market.features_asset(group),
        kind="features",
        description=(
            f"Features of group {group}, one float32 column each, over the members of {market.name}. Each value is a "
            "function of exactly its last lookback bars; NaN until a symbol has them."
        ),
        kinds=frozenset({"polars", "numba", "parquet"}),
        partitions=market.partitions.weekly,
        inputs=read,
        compute=compute,
        code_version=code_version(
            compute_features,
            Feature,
            CalendarChange,
            *(feature.compute for feature in features),
            *(feature.together for feature in features if feature.together is not None),
            fields={
                "features": [(each.name, each.lookback_bars, each.lookback_days, each.inputs) for each in features],
                **_fields(market, {item for each in features for item in each.inputs}),
            },
            chosen_from=(FEATURES,),
        ),
        checks=(
            feature_replay(market, group),
            StageCheck(
                "finite",
                "No feature is infinite in any row: NaN is what is not known. Run before publishing.",
                infinite_values,
                is_guard=True,
            ),
            *filing_checks(read),
            *column_checks(market, group, read),
        ),
        pool=market.name,
        manifest=partial(calendar_manifest, market, group) if reads_calendar(market, group) else None,
        column_schema=column_schema(
            {each.name: f"{each.formula} ({each.window})" for each in features},
            {each.name: pl.Float32() for each in features},
        ),
        # The search of Dagster's open-source web UI looks at tags, not at columns.
        tags={f"feature/{each.name}": "" for each in features if TAG_NAME.fullmatch(each.name)},
    )


def _compute_features(
    market: MarketPlan, run: StageRun, inputs: Mapping[str, Loaded], group: str, read: tuple[StageInput, ...]
) -> Computed:
    ready, failures = [], {}
    weeks, skipped = weeks_to_make(market.partitions, run)
    for key in weeks:
        try:
            require_all(*(partial(inputs[each.name].require, window(market.partitions, each, key)) for each in read))
            ready.append(key)
        except ValueError as e:
            failures[key] = str(e)
    if not ready:
        return Computed({}, failures, skipped=skipped)
    began = perf_counter()
    with recomputing(market, group) as recompute:
        replays = replays_of(market, group, ready, inputs, recompute)
    n_times = sum(map(len, replays.values()))
    where = "here" if recompute is compute_features else "in a process of its own"
    run.log.info(f"{group}: replayed {n_times} time(s) {where} in {perf_counter() - began:.1f} s, before computing")
    frame = features_of(market, ready, inputs, group, read, compute_features)
    by_week = frame.with_columns(week_of_session()).partition_by("week", as_dict=True, include_key=False)
    empty = frame.clear()
    contents = {
        key: Content(
            by_week.get((key,), empty),
            inputs={
                asset: hashes
                for each in read
                for asset, hashes in inputs[each.name].hashes(window(market.partitions, each, key)).items()
            },
            sources=calendar_manifest(market, group, key, run.now) if reads_calendar(market, group) else {},
            has_session_hashes=True,
            replays=replays[key],
        )
        for key in ready
    }
    rejected = read_record(inputs["bars"].store, market.features_asset(group)).rejected
    for key in [each for each in ready if each in rejected]:
        digest, found = rejected[key]
        if contents[key].content_hash() == digest:
            del contents[key]
            failures[key] = (
                f"`{market.features_asset(group)}` must not be published with what the replay of every row has rejected, was "
                f"the same again ({digest[:12]}): {found}; correct the feature."
            )
    metadata = {key: _features_metadata(each.frame) for key, each in contents.items()}
    return Computed(contents, failures, metadata, skipped)


def _fields(market: MarketPlan, inputs: set[str]) -> dict[str, Any]:
    """What else of the market's YAML a group's values depend on."""
    return {
        "benchmark": market.universe.benchmark,
        "calendar": market.partitions.calendar_name,
        "universe": market.universe.spells,
        **({"volatility_index": market.universe.volatility_index} if "volatility_index" in inputs else {}),
        **({"sectors": sorted(market.universe.sectors.items())} if "sector" in inputs else {}),
    }


def _features_metadata(frame: pl.DataFrame) -> dict[str, Any]:
    names = [name for name, dtype in frame.schema.items() if dtype == pl.Float32]
    if not frame.height:
        return {"symbols": 0, "members_per_session": 0.0}
    is_complete = ~pl.any_horizontal(pl.col(names).is_nan())
    nulls = frame.select(pl.col(names).is_nan().mean()).row(0, named=True)
    return {
        "symbols": frame["symbol"].n_unique(),
        "members_per_session": frame.filter(is_complete).height / frame["session"].n_unique(),
        "null_share": sum(nulls.values()) / len(nulls),
        "latest_ts": str(frame["ts"].max()),
        "null_shares": dg.MetadataValue.md(markdown_table(_null_shares(nulls))),
    }


def _null_shares(nulls: Mapping[str, float]) -> pl.DataFrame:
    """Every feature that lacks values, the worst first, and how many lack none."""
    rows = sorted(((name, share) for name, share in nulls.items() if share), key=lambda each: -each[1])
    if whole := len(nulls) - len(rows):
        rows.append((f"{whole} more, each" if rows else f"all {whole}", 0.0))
    return pl.DataFrame(rows, schema=["feature", "null share"], orient="row")
