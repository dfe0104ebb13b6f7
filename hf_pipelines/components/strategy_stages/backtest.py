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
from hf_pipelines.research.cross_validation import latest_predictions
from hf_pipelines.research.signals import RULES, add_absent_members, apply_rule
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_store import Content


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
        members = plan.market.member_sessions(predictions["session"].unique().to_list())
        weights = apply_rule(add_absent_members(predictions, members), rule=plan.rule.name, params=plan.rule.params)
        result = trade(plan, weights, inputs["bars"].frame(weeks))
        content = Content(
            result.equity,
            attachments={
                "trades.parquet": parquet_bytes(result.trades),
                "drawdowns.parquet": parquet_bytes(result.drawdowns),
            },
            inputs={**inputs["cv_results"].hashes([key]), **inputs["bars"].hashes(weeks)},
            facts={"metrics": numeric(result.metrics)},
        )
        return content, {**backtest_metadata(result), "backtest_s": perf_counter() - began}

    return Stage(
        asset=plan.asset("backtest"),
        description=(
            "Account that follows the out-of-fold predictions: decided at the close, filled at the next bar, with costs. "
            "Equity by session; trades and drawdowns are attached."
        ),
        kinds=frozenset({"numba", "parquet"}),
        partitions=partitions.weekly,
        inputs=(cross_validation, bars),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            ENGINES[plan.backtest.engine].run,
            latest_predictions,
            add_absent_members,
            apply_rule,
            RULES[plan.rule.name].weigh,
            RULES[plan.rule.name].check,
            Costs,
            BacktestResult,
            fields={
                **trading_fields(plan),
                "rule": [plan.rule.name, dict(plan.rule.params)],
                "universe": plan.market.spells,
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


def _fills_late(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    trades = pl.read_parquet(io.BytesIO(content.attachments["trades.parquet"]))
    # By bars, not by sessions: below a day a decision may be filled on a later bar of its session.
    early = trades.filter(pl.col("ts") <= pl.col("decision_ts"))
    shown = tuple(
        f"{row['symbol']} decided at {row['decision_ts']}, filled on the bar of {row['ts']}"
        for row in early.head(5).to_dicts()
    )
    return Finding(early.is_empty(), trades.height, shown)
