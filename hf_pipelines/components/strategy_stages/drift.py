"""`<strategy>/drift`: whether what the model of a session reads, says and achieves is still what it was trained on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import parquet_bytes
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage, StageInput
from hf_pipelines.components.stage_run import Computed, StageRun, each_partition
from hf_pipelines.components.strategy_stages.drift_display import MATURED, matured_facts, shown
from hf_pipelines.components.strategy_stages.drift_inputs import ReadOnce, see, served_by
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, holdout_fields, trade, trading_fields
from hf_pipelines.partitions import parse_key
from hf_pipelines.research.account_summary import summarise_account
from hf_pipelines.research.backtest import BacktestResult
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.drift.day import CALLS, COLUMNS, judge_session
from hf_pipelines.research.drift.standing import Standing, next_standing
from hf_pipelines.research.drift.words import sentence_of
from hf_pipelines.research.matrix import join_features, label_features
from hf_pipelines.research.predictions import decided_predictions, latest_predictions
from hf_pipelines.research.promotion.serving import serving_of
from hf_pipelines.research.signals import upgrade_issue
from hf_pipelines.research.targets import TARGETS, neutral_value
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError

# Attachment: a row a measure. Its facts: what is said in words, where each call stands, and what cannot be judged.
MEASURES_NAME = "measures.parquet"
SENTENCE, STANDING, LACKING = "sentence", "standing", "lacking"

DESCRIPTION = (
    "What a session says of the model that decided it: each feature and output against the sessions that the model was trained on, "
    "accuracy, information coefficient and Sharpe ratio of what was issued, the decay of its score, and the age of the model. A row a column. "
    "The field's bands are drawn; drift is what windows of training do not show by themselves. hfp drift STRATEGY shows it."
)


def drift(plan: StrategyPlan) -> Stage:
    """`<strategy>/drift`: what a session says of the model that decided it."""
    partitions = plan.market.partitions

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        session, store = parse_key(key), run.store
        partitions.require_session(session)
        inputs["signals"].require([key])
        assert store is not None
        issue = inputs["signals"].parts[key]
        served = served_by(plan, store, issue)
        before = _standing_before(plan, run, key)
        if isinstance(served, str):
            told = f"Cannot be judged: {served}."
            nothing = Content(
                pl.DataFrame(schema=COLUMNS),
                inputs=inputs["signals"].hashes([key]),
                facts={SENTENCE: told, STANDING: _as_facts(before), LACKING: [served]},
            )
            return nothing, {"says": told}
        seen, hashes = see(plan, store, served, key)
        day = judge_session(
            seen,
            window_sessions=plan.drift.window_sessions,
            error=plan.drift.family_error,
            as_of=partitions.session_close(session),
        )
        standing = {
            kind: next_standing(
                before[kind], day.called[kind], session, since=day.since[kind], is_clear=day.is_clear.get(kind)
            )
            for kind in CALLS
        }
        told = sentence_of(day, standing)
        facts: dict[str, Any] = {
            SENTENCE: told,
            STANDING: _as_facts(standing),
            LACKING: list(day.lacking),
            "called": dict(day.called),
            MATURED: matured_facts(day),
            "model_week": served.week,
            "model": served.model.footer.content_hash,
            "issue_kind": seen.kind,
            "window_sessions": day.window_sessions,
            "p": None if day.p != day.p else day.p,
            "family_error": day.error,
        }
        content = Content(
            day.columns, attachments={MEASURES_NAME: parquet_bytes(day.measures)}, inputs=hashes, facts=facts
        )
        return content, shown(plan, run, key, told=told, week=served.week, seen=seen, day=day)

    of_each = each_partition(compute, is_needed=lambda key: partitions.is_session(parse_key(key)))

    def compute_all(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        store = None if run.store is None else ReadOnce(run.store.objects, run.store.cache)
        return of_each(replace(run, store=store), inputs)

    return Stage(
        asset=plan.asset("drift"),
        kind="drift",
        description=DESCRIPTION,
        kinds=frozenset({"parquet"}),
        partitions=plan.daily,
        inputs=(StageInput("signals", plan.asset("signals"), is_optional=True),),
        compute=compute_all,
        code_version=code_version(
            judge_session,
            next_standing,
            sentence_of,
            join_features,
            label_features,
            latest_predictions,
            decided_predictions,
            upgrade_issue,
            summarise_account,
            neutral_value,
            serving_of,
            trade,
            *plan.backtest.functions,
            type(plan.target),
            TARGETS[plan.target.name].label,
            Costs,
            BacktestResult,
            fields={
                **trading_fields(plan),
                **holdout_fields(plan),
                "target": [plan.target.name, dict(plan.target.params), plan.target.classes],
                "window_sessions": plan.drift.window_sessions,
                "family_error": plan.drift.family_error,
            },
            chosen_from=CHOSEN_FROM,
        ),
        # Issues are what is known as it happens; of backfilled ones in a hold-out no outcome is read.
        reads_holdout="always",
    )


def standing_of(facts: Mapping[str, Any]) -> dict[str, Standing]:
    """Where each call stands, from the facts of a footer."""
    held: Mapping[str, Mapping[str, Any]] = facts.get(STANDING) or {}
    return {kind: _standing(held[kind]) if kind in held else Standing() for kind in CALLS}


def newest_drift(store: PartitionStore, asset: str) -> Footer | None:
    """Footer of the newest session; None without one, and where it is damaged: `hfp verify` names that."""
    days = store.partitions(asset)
    try:
        return store.peek(store.key(asset, days[-1]), asset=asset, partition=days[-1]) if days else None
    except StoredPartitionError:
        return None


def _standing(held: Mapping[str, Any]) -> Standing:
    days = {name: None if held[name] is None else date.fromisoformat(held[name]) for name in ("raised_on", "since")}
    return Standing(**{**held, **days})


def _as_facts(standing: Mapping[str, Standing]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps({kind: asdict(each) for kind, each in standing.items()}, default=str))
    return found


def _standing_before(plan: StrategyPlan, run: StageRun, key: str) -> dict[str, Standing]:
    """What the session before said, the newest that is there: an alarm lasts, and is over, by several sessions together."""
    made = [each for each in run.made if each < key]
    stored = [] if run.store is None else [each for each in run.store.partitions(plan.asset("drift")) if each < key]
    newest = max([*made, *stored], default=None)
    if newest is None:
        return standing_of({})
    if newest in run.made:
        return standing_of(run.made[newest].facts)
    assert run.store is not None
    try:
        footer = run.store.footer(plan.asset("drift"), newest)
    except StoredPartitionError:
        # Whoever reads it is told so; what stood begins anew.
        return standing_of({})
    return standing_of({} if footer is None else footer.facts)
