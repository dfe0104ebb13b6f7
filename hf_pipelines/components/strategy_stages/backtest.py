"""`<strategy>/backtest`: the account that follows the out-of-fold predictions."""

import io
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import backtest_metadata, numeric, parquet_bytes
from hf_pipelines.components.stage import Stage, StageInput, window
from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.plan import REGISTRIES, StrategyPlan, single, trade, trading_fields
from hf_pipelines.research.backtest import ENGINES, BacktestResult
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.cross_validation import latest_predictions, share_trained_on_later, split_by_path
from hf_pipelines.research.signals import RULES, add_absent_members, apply_rule
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

# What an account of such predictions shows: whether a pattern holds in every period, not what could have been earned.
NO_WALK_FORWARD = "No walk-forward: of {:.0%} of the predictions the model was trained on later data"


def backtest(plan: StrategyPlan) -> Stage:
    """`<strategy>/backtest`: the out-of-fold predictions, traded."""
    partitions = plan.market.partitions
    cross_validation = StageInput("cv_results", plan.asset("cv_results"), guards=("out_of_fold",))
    bars = plan.bars_input(-plan.training.weeks, -1)

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        weeks = window(partitions, bars, key)
        predictions = latest_predictions(single(inputs["cv_results"], key).frame)
        # As in an issue: weights are shares of the members, whether something can be said of all of them or not.
        members = plan.market.universe.member_sessions(predictions["session"].unique().to_list())
        by_path = {
            path: trade(
                plan,
                apply_rule(add_absent_members(each, members), rule=plan.rule.name, params=plan.rule.params),
                inputs["bars"].frame(weeks),
            )
            for path, each in split_by_path(predictions).items()
        }
        middle = sorted(by_path.values(), key=lambda each: each.metrics["total_return"])[(len(by_path) - 1) // 2]
        later = share_trained_on_later(predictions)
        note = NO_WALK_FORWARD.format(later) if later else ""
        content = Content(
            _along_paths(by_path, "equity"),
            attachments={
                "trades.parquet": parquet_bytes(_along_paths(by_path, "trades")),
                "drawdowns.parquet": parquet_bytes(_along_paths(by_path, "drawdowns")),
            },
            inputs={**inputs["cv_results"].hashes([key]), **inputs["bars"].hashes(weeks)},
            facts={
                "metrics": numeric(middle.metrics),
                "trained_on_later": later,
                "paths": {str(path): numeric(each.metrics) for path, each in by_path.items() if path is not None},
            },
        )
        labels = {"label": note, "trained_on_later": later} if note else {}
        labels |= {"paths": len(by_path)} if len(by_path) > 1 else {}
        return content, {**backtest_metadata(middle, note), **labels, "backtest_s": perf_counter() - began}

    return Stage(
        asset=plan.asset("backtest"),
        kind="backtest",
        description=(
            "Account that follows the out-of-fold predictions: decided at the close, filled at the next bar, with costs. "
            "Equity by session; trades and drawdowns are attached."
            + " No walk-forward: models were trained on data after the sessions that they predict."
            * plan.splitter.trains_on_later
        ),
        kinds=frozenset({"numba", "parquet"}),
        partitions=partitions.weekly,
        inputs=(cross_validation, bars),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            ENGINES[plan.backtest.engine].run,
            latest_predictions,
            share_trained_on_later,
            split_by_path,
            add_absent_members,
            apply_rule,
            RULES[plan.rule.name].weigh,
            RULES[plan.rule.name].check,
            Costs,
            BacktestResult,
            fields={
                **trading_fields(plan),
                "rule": [plan.rule.name, dict(plan.rule.params)],
                "universe": plan.market.universe.spells,
            },
            chosen_from=REGISTRIES,
        ),
        checks=(
            StageCheck(
                "fills_after_decisions",
                "No trade is filled on or before the bar that decided it.",
                _fills_late,
                is_guard=True,
            ),
        ),
    )


def _along_paths(by_path: Mapping[int | None, BacktestResult], table: str) -> pl.DataFrame:
    """A table of each path's account, below each other, with the `path` where there are several."""
    frames: dict[int | None, pl.DataFrame] = {path: getattr(each, table) for path, each in by_path.items()}
    return pl.concat(
        [
            frame if path is None else frame.select(pl.lit(path, dtype=pl.Int32).alias("path"), pl.all())
            for path, frame in frames.items()
        ]
    )


def _fills_late(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    trades = pl.read_parquet(io.BytesIO(content.attachments["trades.parquet"]))
    # By bars, not by sessions: below a day a decision may be filled on a later bar of its session.
    early = trades.filter(pl.col("ts") <= pl.col("decision_ts"))
    shown = tuple(
        f"{row['symbol']} decided at {row['decision_ts']}, filled on the bar of {row['ts']}"
        for row in early.head(5).to_dicts()
    )
    return Finding(early.is_empty(), trades.height, shown)
