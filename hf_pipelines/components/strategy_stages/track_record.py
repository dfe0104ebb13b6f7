"""`<strategy>/track_record`: the signals as issued, as they performed."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import backtest_metadata
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage, StageInput, week_of_key, window
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.accounts import account_label, with_cost_columns
from hf_pipelines.components.strategy_stages.plan import (
    StrategyPlan,
    feature_frames,
    holdout_fields,
    trade,
    trading_fields,
)
from hf_pipelines.components.strategy_stages.shadow_record import shadow_in_words, shadow_record
from hf_pipelines.partitions import parse_key
from hf_pipelines.research.account_summary import benchmark_index, summarise_account, values_of
from hf_pipelines.research.backtest import BacktestResult
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.costs import Costs
from hf_pipelines.resources.holdout import Holdout
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

# Of `issue_kind`.
LIVE = "live"


def track_record(plan: StrategyPlan) -> Stage:
    """`<strategy>/track_record`: the signals as issued, as they performed."""
    partitions = plan.market.partitions
    issued = StageInput(
        "signals", plan.asset("signals"), first_week=-plan.track_record_weeks, last_week=-1, is_optional=True
    )
    bars = plan.bars_input(-plan.track_record_weeks, -1)
    features = plan.feature_inputs(-plan.track_record_weeks, -1) if plan.backtest.features else ()

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        weeks = window(partitions, bars, key)
        days = [day.isoformat() for week in weeks for day in partitions.sessions_of_week(week)]
        held = [day for day in days if day in inputs["signals"].parts]
        if not held:
            raise ValueError(
                f"`{plan.asset('signals')}` must hold an issue in the {plan.track_record_weeks} weeks before {key}, had none; "
                "materialise signals first."
            )
        # Issues of every schema version have these columns.
        signals_frame = inputs["signals"].frame(held, columns=[*KEY_COLUMNS, "weight", "issue_kind"])
        if plan.holdout is not None:
            signals_frame = _not_held_back(plan.holdout, signals_frame, key)
            days_left = {each.isoformat() for each in signals_frame["session"].unique()}
            held = [day for day in held if day in days_left]
        traded = [week for week in weeks if week >= week_of_key(held[0])]
        read = feature_frames(plan, inputs, traded) if features else []
        bars_frame = with_cost_columns(plan, inputs["bars"].frame(traded), read)
        frames: list[pl.DataFrame] = []
        records: dict[str, dict[str, float]] = {}
        shadows: dict[str, dict[str, Any]] = {}
        metadata: dict[str, Any] = {"issues": len(held)}
        for (kind,), of_kind in sorted(signals_frame.partition_by("issue_kind", as_dict=True).items()):
            result = trade(plan, of_kind.select(*KEY_COLUMNS, "weight"), bars_frame)
            frames.append(result.equity.with_columns(record=pl.lit(kind)))
            benchmark = plan.market.universe.benchmark
            index = benchmark_index(result, bars_frame, benchmark)
            summary = summarise_account(result, benchmark=index)
            records[kind] = values_of(summary)
            label = account_label(plan, key, kind="issued live" if kind == LIVE else f"{kind}: simulated")
            held_to = None if index is None else (benchmark, index)
            shown = backtest_metadata(result, summary=summary, label=label, benchmark=held_to)
            metadata |= {f"{kind}_{name}": value for name, value in shown.items()}
            metadata[f"{kind}_issues"] = of_kind["session"].n_unique()
            if (beside := shadow_record(plan, inputs["signals"], of_kind, bars_frame)) is not None:
                frames += beside.frames
                shadows[str(kind)] = dict(beside.found)
                metadata[f"{kind}_shadow"] = shadow_in_words(beside.found)
        of_weeks = [inputs[each.name].hashes(traded) for each in (bars, *features)]
        hashes = {**inputs["signals"].hashes(held), **{name: of for each in of_weeks for name, of in each.items()}}
        return Content(
            pl.concat(frames), inputs=hashes, facts={"records": records, **({"shadows": shadows} if shadows else {})}
        ), metadata

    return Stage(
        asset=plan.asset("track_record"),
        kind="track_record",
        description=(
            f"Account that followed the signals issued in the {plan.track_record_weeks} weeks before the week, live and "
            "backfilled issues apart: the point-in-time walk-forward, each day by the model of its week. Of issues with a shadow its account, "
            "and that of what was issued on the same sessions."
        ),
        kinds=frozenset({"numba", "parquet"}),
        partitions=plan.weekly,
        inputs=(issued, bars, *features),
        compute=each_partition(compute),
        code_version=code_version(
            *plan.backtest.functions,
            benchmark_index,
            summarise_account,
            values_of,
            Costs,
            BacktestResult,
            shadow_record,
            fields={**trading_fields(plan), "weeks": plan.track_record_weeks, **holdout_fields(plan)},
            chosen_from=CHOSEN_FROM,
        ),
        reads_holdout="always",
    )


def outcome_is_open(holdout: Holdout) -> pl.Expr:
    """Which rows of issues have an outcome that may be seen: those before the hold-out, and those that were issued live."""
    return (pl.col("issue_kind") == LIVE) | (pl.col("session") < parse_key(holdout.week))


def _not_held_back(holdout: Holdout, issues: pl.DataFrame, key: str) -> pl.DataFrame:
    """Issues whose outcome may be seen: what was issued live is known as it happens; backfilled in the hold-out it is a test of it."""
    shown = issues.filter(outcome_is_open(holdout))
    if shown.is_empty():
        raise ValueError(
            f"`{holdout.strategy}/signals` must hold an issue for {key} that was live, or that lies before the hold-out, which begins with "
            f"week {holdout.week}, had backfilled ones of the hold-out alone; look at them: hfp holdout {holdout.strategy} --reason WHY"
        )
    return shown
