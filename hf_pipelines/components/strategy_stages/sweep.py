"""`<strategy>/sweep`: settings of rule, sizing and costs on the stored predictions of a week, each a trial."""

from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import in_a_window, markdown_table, picture
from hf_pipelines.components.market_stages.universe import Universe
from hf_pipelines.components.modules import CHOSEN_FROM, registering
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.decided_weights import decide, traded_inputs
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, holdout_fields, single, trading_fields
from hf_pipelines.components.strategy_stages.sweep_plan import SweepPlan
from hf_pipelines.components.strategy_stages.sweep_points import RecordedPoints, SweepEvaluation, run_points
from hf_pipelines.components.strategy_stages.tuned import plan_of_results
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.matrix import join_features
from hf_pipelines.research.overfitting import deflate, estimate_sharpe
from hf_pipelines.research.predictions import decided_predictions, latest_predictions, split_by_path
from hf_pipelines.research.signals import add_absent_members, apply_rule, misremembered
from hf_pipelines.research.sweep import COMPLETED, PointEntry, Ranked, costs_at, rank_points, score_accounts
from hf_pipelines.research.sweep.entries import entry_of_result
from hf_pipelines.research.tuning.points import rule_at
from hf_pipelines.research.tuning.samplers import draw_ahead, sampler_of
from hf_pipelines.research.tuning.space import Dimension, Space
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.trial_ledger.judging import judge
from hf_pipelines.resources.trial_ledger.trials import counted, select

# Rows of the page; all are in the partition.
POINTS_SHOWN = 30

VERDICT, CHOSEN, CHOICE = "verdict", "chosen", "choice"

SELECTED = "Selected, not out of sample: of {n} points on the same predictions the best flatters itself. Nothing is made of it."


def sweep(plan: StrategyPlan) -> Stage:
    """`<strategy>/sweep`: a row for each point."""
    assert plan.sweep is not None
    asked = plan.sweep
    horizon = plan.decided_horizon

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        decided = decide(plan, inputs, key, horizon=horizon)
        footer, matrix = single(inputs["cv_results"], key).footer, plan.asset("training_matrix")
        # As the predictions were made: a study may have set the rule.
        at = plan_of_results(plan, footer.facts)
        of_inputs = dict(inputs["cv_results"].hashes([key]))
        for name, of_input in decided.weeks.items():
            of_inputs |= inputs[name].hashes(of_input)
        members = plan.market.universe.member_sessions(decided.predictions["session"].unique().to_list())
        record = RecordedPoints(
            at, run, key, {matrix: footer.inputs.get(matrix, {})}, run.progress(key, inputs=of_inputs, place="sweep")
        )
        points = asked.points()
        evaluation = SweepEvaluation(at, decided.by_path, members, decided.bars)
        entries = _run(run, asked, points, evaluation, record, began)
        found = rank_points(
            points,
            entries,
            asked.space,
            is_grid=asked.is_grid,
            choice=asked.choice,
            sessions_per_year=usual_sessions(plan.market.partitions.calendar_name)[0],
            **_tried(plan, run, entries),
        )
        facts = {
            VERDICT: found.verdict,
            CHOSEN: None if found.chosen is None else found.chosen["point"],
            CHOICE: asked.choice,
            "selected": True,
            "n_points": len(points),
            "deadline_s": asked.deadline_s,
            "dimensions": [*asked.space.names],
        }
        content = Content(found.table, inputs=of_inputs, facts=facts)
        return content, {**_metadata(plan, asked, key, found), "sweep_s": perf_counter() - began}

    return Stage(
        asset=plan.asset("sweep"),
        kind="sweep",
        description=(
            "Settings of rule, sizing and costs on the stored out-of-fold predictions, each a trial: one row a point, ranked by the deflated "
            "Sharpe ratio, with the mean and the worst of its neighbours. Selected, not out of sample: nothing is made of it."
        ),
        kinds=frozenset({"numba", "parquet"}),
        partitions=plan.weekly,
        inputs=traded_inputs(plan),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            *plan.backtest.functions,
            score_accounts,
            entry_of_result,
            costs_at,
            rank_points,
            estimate_sharpe,
            deflate,
            rule_at,
            draw_ahead,
            sampler_of,
            Space,
            Dimension,
            latest_predictions,
            *([] if horizon is None else [decided_predictions]),
            split_by_path,
            join_features,
            add_absent_members,
            apply_rule,
            misremembered,
            Universe.member_sessions,
            *plan.rule.functions,
            fields={
                **trading_fields(plan),
                "rule": [plan.rule.name, dict(plan.rule.params)],
                "universe": plan.market.universe.spells,
                "sweep": asked.fields(),
                **({} if horizon is None else {"horizon": horizon}),
                **holdout_fields(plan),
            },
            chosen_from=CHOSEN_FROM,
        ),
        keeps_fits=True,
    )


def _run(
    run: StageRun,
    asked: SweepPlan,
    points: list[dict[str, Any]],
    evaluation: SweepEvaluation,
    record: RecordedPoints,
    began: float,
) -> list[PointEntry]:
    # Imported for a strategy that has one.
    from hf_pipelines.resources.fan_out import open_fan_out

    left = None if asked.deadline_s is None else partial(_left, began + asked.deadline_s)
    with open_fan_out(run.log.info, prepare=registering(), n_threads=1, can_end=left is not None) as fan_out:
        return run_points(points, evaluation, map_in_time=fan_out.in_time, record=record, seconds_left=left)


def _left(until: float) -> float:
    return until - perf_counter()


def _tried(plan: StrategyPlan, run: StageRun, entries: list[PointEntry]) -> dict[str, Any]:
    """What the ledger says of all trials that the best was chosen from; nothing where there is no ledger, or no Sharpe ratio."""
    estimates = [estimate_sharpe(each.returns) for each in entries if len(each.returns) > 1]
    known = [each for each in estimates if each.sharpe == each.sharpe]
    if run.trials is None or not known:
        return {}
    trials, _ = run.trials.read()
    judged, _ = judge(
        run.trials.objects, counted(select(trials, strategy=plan.name)), max(known, key=lambda each: each.sharpe)
    )
    return {
        "n_trials": judged.n_trials,
        "n_independent": judged.n_independent,
        "trials_variance": judged.trials_variance,
    }


def _metadata(plan: StrategyPlan, asked: SweepPlan, key: str, found: Ranked) -> dict[str, Any]:
    from hf_pipelines.research.sweep.plots import sweep_png

    table = found.table
    counts = dict(table.group_by("state").agg(pl.len()).iter_rows())
    failed = table.filter(state="failed")
    drawn = {}
    if found.chosen is not None and found.chosen["sharpe_ratio"] is not None:
        heading = f"{plan.name}, week {key}"
        drawn = {"picture": picture(sweep_png, found, asked.space, heading=heading, is_grid=asked.is_grid)}
    shown = table.head(POINTS_SHOWN).drop("point", "reason", "state", "probabilistic")
    return {
        VERDICT: found.verdict,
        CHOSEN: "none" if found.chosen is None else found.chosen["point"],
        "selected": SELECTED.format(n=counts.get(COMPLETED, 0)),
        **drawn,
        "points": in_a_window(markdown_table(shown)),
        **{f"points_{state.replace(' ', '_')}": n for state, n in counts.items()},
        **({"first_failure": f"{failed['point'][0]}: {failed['reason'][0]}"} if failed.height else {}),
    }
