"""`<strategy>/backtest`: the account that follows the out-of-fold predictions."""

import io
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import backtest_metadata, numeric, parquet_bytes
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.accounts import account_label, middle_of
from hf_pipelines.components.strategy_stages.decided_weights import decide, deciding_functions, traded_inputs
from hf_pipelines.components.strategy_stages.model_tracking import track_backtest
from hf_pipelines.components.strategy_stages.plan import (
    StrategyPlan,
    holdout_fields,
    single,
    trade,
    trading_fields,
)
from hf_pipelines.components.strategy_stages.reconciliation import engines_check
from hf_pipelines.components.strategy_stages.score_display import account_metadata
from hf_pipelines.components.strategy_stages.trial_records import recording_backtest
from hf_pipelines.components.strategy_stages.tuned import SELECTED, plan_of_results, selection_note
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.account_summary import benchmark_index, summarise_account, values_of
from hf_pipelines.research.account_table import tabulate_accounts
from hf_pipelines.research.backtest import BacktestResult
from hf_pipelines.research.backtest.account_baselines import account_baselines
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.predictions import share_trained_on_later
from hf_pipelines.research.signals import explain_rule
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.trial_ledger.returns import SESSIONS_PER_YEAR

# Of the random strategies that each account is held to: the same draws for every strategy.
BASELINE_SEED = 0

# What an account of such predictions shows: whether a pattern holds in every period, not what could have been earned.
NO_WALK_FORWARD = "No walk-forward: of {:.0%} of the predictions the model was trained on later data"


# Numbers and picture are of one path.
MIDDLE_OF_PATHS = "The middle one of {n} paths, which return {low:+.1%} to {high:+.1%}"


def backtest(plan: StrategyPlan) -> Stage:
    """`<strategy>/backtest`: the out-of-fold predictions, traded."""
    declared = traded_inputs(plan)
    horizon = plan.decided_horizon

    def resolve(inputs: Mapping[str, Loaded], key: str) -> StrategyPlan:
        return plan_of_results(plan, single(inputs["cv_results"], key).footer.facts)

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        decided = decide(plan, inputs, key, horizon=horizon)
        results = single(inputs["cv_results"], key)
        by_path = {path: trade(plan, weights, decided.bars) for path, weights in decided.weights.items()}
        middle = middle_of(by_path)
        of_middle = next(path for path, each in by_path.items() if each is middle)
        baselines = account_baselines(
            middle,
            decided.bars,
            benchmark=plan.market.universe.benchmark,
            costs=plan.backtest.costs,
            execution=plan.backtest.execution,
            periods_per_year=plan.market.bars_per_year,
            seed=BASELINE_SEED,
        )
        # Absent in results stored before they were scored in blocks.
        label_sessions: Any = results.footer.facts.get("label_sessions", 1)
        table = tabulate_accounts(
            by_path,
            decided.by_path,
            label_sessions=label_sessions,
            periods_per_year=plan.market.bars_per_year,
        )
        index = benchmark_index(middle, decided.bars, plan.market.universe.benchmark)
        summaries = {
            path: summarise_account(each, label_sessions=label_sessions, benchmark=index)
            for path, each in by_path.items()
        }
        summary = summaries[of_middle]
        told_by_rule = resolve(inputs, key).explain(decided.given[of_middle], bars=decided.bars)
        later = share_trained_on_later(decided.predictions)
        note = selection_note(results.footer.facts)
        if later:
            note = "\n".join(filter(None, (note, NO_WALK_FORWARD.format(later))))
        if len(by_path) > 1:
            returns = [each.metrics["total_return"] for each in by_path.values()]
            told = MIDDLE_OF_PATHS.format(n=len(returns), low=min(returns), high=max(returns))
            note = "\n".join(filter(None, (note, told)))
        content = Content(
            _along_paths({path: each.equity for path, each in by_path.items()}),
            attachments={
                "summary.parquet": parquet_bytes(_along_paths(summaries)),
                **{
                    f"{name}.parquet": parquet_bytes(
                        _along_paths({path: getattr(each, name) for path, each in by_path.items()})
                    )
                    for name in ("trades", "drawdowns", "round_trips")
                },
                "baselines.parquet": parquet_bytes(baselines.table),
                "baseline_curves.parquet": parquet_bytes(baselines.drawn),
                "fold_metrics.parquet": parquet_bytes(table.fold_metrics),
                "scores.parquet": parquet_bytes(table.scores),
            },
            inputs={**inputs["cv_results"].hashes([key]), **_hashes(inputs, decided.weeks)},
            facts={
                "metrics": values_of(summary),
                SESSIONS_PER_YEAR: usual_sessions(plan.market.partitions.calendar_name)[0],
                "trained_on_later": later,
                "beats_random": baselines.beats_random,
                **({SELECTED: True} if results.footer.facts.get(SELECTED) else {}),
                "paths": {str(path): numeric(each.metrics) for path, each in by_path.items() if path is not None},
            },
        )
        labels = {"label": note, "trained_on_later": later} if note else {}
        labels |= {"paths": len(by_path)} if len(by_path) > 1 else {}
        scores = account_metadata(table, heading=f"{plan.name}, week {key}")
        return content, {
            **backtest_metadata(middle, note, baselines, summary, label=account_label(plan, key)),
            **labels,
            **scores,
            **{name: dg.MetadataValue.md(text) for name, text in told_by_rule.items()},
            "backtest_s": perf_counter() - began,
        }

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
        partitions=plan.weekly,
        inputs=declared,
        compute=each_partition(recording_backtest(plan, compute, resolve=resolve)),
        is_range_run=False,
        code_version=code_version(
            *plan.backtest.functions,
            *deciding_functions(plan),
            share_trained_on_later,
            tabulate_accounts,
            benchmark_index,
            summarise_account,
            values_of,
            account_baselines,
            is_better_higher,
            explain_rule,
            Costs,
            BacktestResult,
            fields={
                **trading_fields(plan),
                "rule": [plan.rule.name, dict(plan.rule.params)],
                "universe": plan.market.universe.spells,
                **({} if horizon is None else {"horizon": horizon}),
                **holdout_fields(plan),
            },
            chosen_from=CHOSEN_FROM,
        ),
        checks=(
            StageCheck(
                "fills_after_decisions",
                "No trade is filled on or before the bar that decided it.",
                _fills_late,
                is_guard=True,
            ),
            engines_check(plan),
        ),
        track=partial(track_backtest, plan),
    )


def _hashes(inputs: Mapping[str, Loaded], weeks: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    hashes: dict[str, dict[str, str]] = {}
    for name, of_input in weeks.items():
        hashes |= inputs[name].hashes(of_input)
    return hashes


def _along_paths(frames: Mapping[int | None, pl.DataFrame]) -> pl.DataFrame:
    """A table of each path's account, below each other, with the `path` where there are several."""
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
