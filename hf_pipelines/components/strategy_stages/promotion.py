"""`<strategy>/promotion`: a week is held to the strategy's gates and what came of it is recorded, from the web UI as by `hfp promote`.

Lives here: the asset, who asks for it and why, and what it shows. Does not live here: the decision (`promoting`), the records and what follows
from them (`resources.promotions`).

Dagster concept: asset without an output of its own. What it makes is a record of the history, which is written once; a run that is tried again
after a crash finds the record that it has left. Nothing asks for it but a person.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.asset_facts import docs_of
from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import in_a_window, markdown_table, picture
from hf_pipelines.components.market_stages import manifests
from hf_pipelines.components.strategy_stages import notes_of
from hf_pipelines.components.strategy_stages.evidence import STAGES
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.promoting import Asked, Candidate, Promotion, promote_week
from hf_pipelines.research.promotion import GATES, Decision, judge_gates
from hf_pipelines.research.promotion.timeline import Timeline, timeline_of
from hf_pipelines.research.promotion.words import GATE_COLUMNS, SERVED_COLUMNS, gate_cells, served_cells
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.footer import FITTED_MODEL
from hf_pipelines.resources.outages import waiting_out
from hf_pipelines.resources.parquet_io_manager import KIND_KEY
from hf_pipelines.resources.promotions.following import Followed, follow_history
from hf_pipelines.resources.trial_ledger import actor_of

KIND = "promotion"

# Run tags that say the same as the configuration, for who has only tags to fill in.
REASON_TAG, ACTOR_TAG = "hf/reason", "hf/actor"

DESCRIPTION = (
    "The week's evidence is read again, with its hashes and checks, and held to the strategy's gates; promoted or refused, it is recorded for "
    "ever. Made when it is asked for, with a reason: configuration `reason` of the step, or the run tag hf/reason. The same as hfp promote."
)


class PromotionConfig(dg.Config):
    """What a person says in the launchpad."""

    reason: str = ""
    actor: str = ""
    override: str = ""
    stage: bool = False


def build_promotion(
    plan: StrategyPlan,
    *,
    owners: Sequence[str],
    yaml: Mapping[str, Any],
    versions: Mapping[str, str],
    issues: Collection[str],
) -> dg.AssetsDefinition:
    """The asset.

    Parameters
    ----------
    plan : StrategyPlan
    owners : sequence of str
    yaml : mapping
        The strategy's YAML with every default.
    versions : mapping of asset path to code version
        Of all that the evidence is made from.
    issues : collection of asset paths
        Those of them whose partitions are written once.
    """

    @dg.asset(
        key=dg.AssetKey([plan.name, KIND]),
        deps=[dg.AssetKey([plan.name, stage]) for stage in (*STAGES, FITTED_MODEL)],
        group_name=plan.name,
        description=DESCRIPTION,
        kinds={"python"},
        owners=list(owners),
        tags={"stage": KIND, **plan.tags},
        partitions_def=plan.weekly,
        code_version=code_version(judge_gates, *(each.judge for each in GATES.values()), fields={}),
        check_specs=[
            dg.AssetCheckSpec(
                "gates",
                asset=dg.AssetKey([plan.name, KIND]),
                description="Every gate of the strategy passes, of evidence whose hashes and checks were looked at again.",
            )
        ],
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        required_resource_keys={"clock", "io_manager", "mlflow"},
        metadata={KIND_KEY: KIND, **docs_of(KIND), **notes_of(plan)},
    )
    def promotion(context: dg.AssetExecutionContext, config: PromotionConfig) -> Iterator[Any]:
        with waiting_out(context.get_step_execution_context()):
            yield _decided(context, config)

    def _decided(context: dg.AssetExecutionContext, config: PromotionConfig) -> dg.MaterializeResult[Any]:
        now = context.resources.clock.now()
        store = context.resources.io_manager.storage.store()
        live = {asset: partial(each, now=now) for asset, each in manifests(plan.market).items()}
        checker = CurrencyChecker(store, versions, live, issues)
        candidate = Candidate(plan=plan, yaml=yaml, store=store, checker=checker, now=now)
        try:
            found = promote_week(candidate, context.partition_key, asked_of(config, context.run))
        except ValueError as e:
            # Nothing of it heals by being tried again.
            raise dg.Failure(str(e), allow_retries=False) from e
        followed = follow_history(found.history, store, context.resources.mlflow, now)
        for fault in followed.faults:
            context.log.warning(f"later, by itself: {fault}")
        return dg.MaterializeResult(
            metadata=shown(found, followed, now),
            data_version=dg.DataVersion(found.history.hashes[found.record["n"] - 1]),
            check_results=[_check(found)],
        )

    return promotion


def asked_of(config: PromotionConfig, run: dg.DagsterRun) -> Asked:
    """Who wants a promotion and why: as the configuration of the step says, else the run's tags.

    Raises
    ------
    ValueError
        If no reason is given.
    """
    reason = config.reason or run.tags.get(REASON_TAG, "")
    if not reason.strip():
        raise ValueError(
            "`reason` must be given, was empty; in the launchpad write ops: <strategy>__promotion: config: reason: WHY, or give the run the "
            f"tag {REASON_TAG}; on the command line: hfp promote STRATEGY --reason WHY."
        )
    # A retry is another run of the same root, and the same request.
    token = sha256((run.root_run_id or run.run_id).encode()).hexdigest()[:32]
    actor = config.actor or run.tags.get(ACTOR_TAG) or actor_of(run.tags)
    return Asked(actor=actor, reason=reason, override=config.override or None, stage=config.stage, token=token)


def shown(found: Promotion, followed: Followed, now: datetime) -> dict[str, Any]:
    """Metadata: what was recorded, the gate table and who served when, as tables and as pictures, and what followed."""
    from hf_pipelines.research.promotion.plots import gates_png, timeline_png

    decision, history, record = found.decision, found.history, found.record
    timeline = timeline_of(history.records)
    told = f"recorded as decision {record['n']}: {record['kind'].replace('_', ' ')}, by {record['actor']}: {record['reason']}"
    return {
        "headline": decision.headline,
        "recorded": told,
        "state": history.state.headline,
        "gates": in_a_window(gate_table(decision)),
        "picture": picture(gates_png, decision, told=told),
        "served": in_a_window(served_table(timeline)),
        "timeline": picture(
            timeline_png, timeline, strategy=history.strategy, told=history.state.headline, now=now
        ),
        "followed": "\n".join([*followed.done, *(f"later, by itself: {each}" for each in followed.faults)]) or "nothing",
        "decision": record["n"],
        "n_failed": len(decision.failed),
        "reason": record["reason"],
        "actor": record["actor"],
    }  # fmt: skip


def gate_table(decision: Decision) -> str:
    """Every gate with value, threshold, verdict and why, as Markdown; commands that make what is missing below."""
    rows = [(*gate_cells(each), each.why) for each in decision.gates]
    table = markdown_table(pl.DataFrame(rows, schema=[*GATE_COLUMNS], orient="row"))
    commands = [f"- {each.gate}: `{each.command}`" for each in decision.failed if each.command]
    return "\n".join([table, *(["", "What makes what is missing:", "", *commands] if commands else [])])


def served_table(timeline: Timeline) -> str:
    """Who served when, as Markdown, the newest first."""
    rows = [served_cells(each) for each in reversed(timeline.served)]
    if not rows:
        return "Nothing was ever promoted."
    return markdown_table(pl.DataFrame(rows, schema=[*SERVED_COLUMNS], orient="row"))


def _check(found: Promotion) -> dg.AssetCheckResult:
    decision = found.decision
    return dg.AssetCheckResult(
        check_name="gates",
        passed=decision.is_passed,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n".join([decision.headline, *(f"{each.gate}: {each.why}" for each in decision.failed)]),
    )
