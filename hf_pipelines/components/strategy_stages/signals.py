"""`<strategy>/signals`: target weights of one session, one immutable issue a day."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import picture
from hf_pipelines.components.market_stages.universe import Universe
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_checks import REPLAY_DESCRIPTION, Finding, StageCheck, replay_guard
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.changes_display import changes_metadata, issue_table
from hf_pipelines.components.strategy_stages.controls import verdict_of
from hf_pipelines.components.strategy_stages.deciding import (
    compared_rows,
    decide_issue,
    decided_by,
    issue_inputs,
    promotion_metadata,
)
from hf_pipelines.components.strategy_stages.interval_display import (
    interval_columns,
    interval_fields,
    interval_stage_functions,
)
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.rollouts import advance_rollout, draw_rollout
from hf_pipelines.components.strategy_stages.serving import held_by, promotion_of, stated_of, without_model
from hf_pipelines.partitions import parse_key
from hf_pipelines.research.intervals import ServedIntervals
from hf_pipelines.research.learners import build_pipeline, choose_learner, predict_frame
from hf_pipelines.research.matrix import join_features, usable_rows
from hf_pipelines.research.promotion.serving import refit_faults, serving_of
from hf_pipelines.research.signals import (
    SIGNALS_SCHEMA_VERSION,
    add_absent_members,
    apply_rule,
    reason_functions,
    reason_in_words,
    reasons,
    rule_functions,
    rule_needs,
    window_sessions,
    zero_reasons,
)
from hf_pipelines.research.signals.split_capital import split_capital
from hf_pipelines.research.targets import Target
from hf_pipelines.resources.footer import SIGNALS
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content


def signals(plan: StrategyPlan) -> Stage:
    """`<strategy>/signals`: target weights of one session, one immutable issue a day."""
    partitions = plan.market.partitions

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        session = parse_key(key)
        partitions.require_session(session)
        # One that is there is held to what it was decided under; before another one the steps of a rollout are taken.
        stated, standing = stated_of(plan, run.store, key), None
        if stated is None and plan.gates is not None and run.store is not None:
            _, standing = advance_rollout(plan, run.store, now=run.now, until=session)
        held = held_by(plan, run.store, stated)
        issue = decide_issue(plan, run, inputs, key, held)
        weights = issue.rows
        # Below a day an issue has several decisions: what is shown is the last one.
        last = weights.filter(pl.col("ts") == pl.col("ts").max())
        week = issue.model_week
        metadata = {
            **changes_metadata(plan, run, session, last, decided_by=decided_by(issue.promotion)),
            "preview": dg.MetadataValue.md(
                issue_table(last, ("symbol", "weight", "prediction", "confidence", *interval_columns(plan)))
            ),
            "decisions": weights["ts"].n_unique(),
            "members": last.height,
            "without_prediction": last["prediction"].is_nan().sum(),
            "positions": last.filter(pl.col("weight") != 0.0).height,
            "gross_exposure": float(last["weight"].abs().sum()),
            "net_exposure": float(last["weight"].sum()),
            "issue_kind": weights["issue_kind"][0],
            **({"model_week": week, "controls": _controls_of(plan, run, week)} if week else {}),
            **promotion_metadata(issue),
            **({} if standing is None else {"rollout": picture(draw_rollout, plan.name, standing)}),
        }
        return issue.content(), metadata

    def replays(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        """Champion and shadow, each by what the issue says that it was decided under: another decision may have come since."""
        held = held_by(plan, run.store, promotion_of(content.facts))

        def again(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> pl.DataFrame:
            return compared_rows(decide_issue(plan, run, inputs, key, held).content())

        guard = replay_guard(again, compared=compared_rows)
        return guard.evaluate(run, inputs, key, content)

    def model_is_older(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        late = content.frame.filter(pl.col("model_as_of") > pl.col("as_of"))
        return Finding(
            late.is_empty(),
            content.frame.height,
            tuple(f"model as of {row['model_as_of']} decided {row['as_of']}" for row in late.head(1).to_dicts()),
        )

    def champion_decides(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        """Of a strategy without gates, and of one without a champion, every issue passes."""
        why = without_model(plan, run.store, promotion_of(content.facts), key)
        return Finding(not why, 1, (f"every weight is 0: {why}",) if why else ())

    return Stage(
        asset=plan.asset("signals"),
        kind=SIGNALS,
        description=(
            "Target weights decided at the session's close by the model of its week. Written once: a later recomputation "
            "is kept beside it with a table of differences. `issue_kind` is live if issued before the next open."
        ),
        kinds=frozenset({plan.learner.choice.entry.family, "parquet"}),
        partitions=plan.daily,
        inputs=issue_inputs(plan, is_gated=plan.gates is not None),
        compute=each_partition(compute, is_needed=lambda key: partitions.is_session(parse_key(key))),
        code_version=code_version(
            join_features,
            predict_frame,
            choose_learner,
            build_pipeline,
            *plan.learner.choice.predicting_functions(),
            *plan.history_functions,
            usable_rows,
            add_absent_members,
            reasons,
            reason_in_words,
            zero_reasons,
            rule_functions,
            *reason_functions(plan.rule.name, plan.rule.params),
            apply_rule,
            rule_needs,
            window_sessions,
            Universe.member_sessions,
            serving_of,
            refit_faults,
            split_capital,
            *plan.rule.functions,
            *interval_stage_functions(plan, ServedIntervals, Target),
            fields={
                **interval_fields(plan),
                "missing": plan.training.missing,
                "universe": plan.market.universe.spells,
                "features": plan.feature_names,
                "rule": [plan.rule.name, dict(plan.rule.params)],
                "max_model_age_weeks": plan.max_model_age_weeks,
                "schema": SIGNALS_SCHEMA_VERSION,
                **({"history_bars": plan.learner.choice.history_bars} if plan.learner_weeks else {}),
                # A rule that remembers looks back on fewer sessions near it.
                **({"start": plan.start.isoformat()} if plan.start is not None and plan.memory_weeks else {}),
            },
            chosen_from=CHOSEN_FROM,
        ),
        checks=(
            StageCheck("replay", REPLAY_DESCRIPTION, replays, is_guard=True),
            StageCheck(
                "model_known_before", "The model's `as_of` is not after the decision.", model_is_older, is_guard=True
            ),
            *(
                [StageCheck("champion_decides", "Where a champion serves, a model of it decided.", champion_decides)]
                if plan.gates is not None
                else []
            ),
        ),
        pool=plan.name,
        rests=partitions.rests_before,
        reads_holdout="always",
    )


def _controls_of(plan: StrategyPlan, run: StageRun, week: str) -> str:
    """What the controls of the model's week say; it changes no issue."""
    verdict = None if run.store is None else verdict_of(run.store, plan.name, week)
    return verdict or "not made"
