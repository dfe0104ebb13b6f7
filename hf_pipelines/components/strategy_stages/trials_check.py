"""Check `trials` of `<strategy>/cv_results`: how much was tried, and what the result is worth after it.

Lives here: the check and what it shows. Does not live here: the ledger (`resources.trial_ledger`), statistics
(`research.overfitting`).
"""

import math
from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.display import picture
from hf_pipelines.components.run_tags import partitions_of_run
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.overfitting import Deflation, SharpeEstimate
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.outages import waiting_out
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.heads import TRIAL
from hf_pipelines.resources.trial_ledger.judging import estimate_of, judge, sharpes_of
from hf_pipelines.resources.trial_ledger.trials import ancestors_of, counted, select

NO_ACCOUNT = "its account is not simulated yet: nothing can be deflated before `backtest`"


def build_trials_check(plan: StrategyPlan) -> dg.AssetChecksDefinition:
    """Check `trials`: it shows what was tried, and warns if the ledger cannot be read whole."""

    @dg.asset_check(
        asset=dg.AssetKey([plan.name, "cv_results"]),
        name="trials",
        # The account of the week is part of what is judged: where both are made, it comes first.
        additional_deps=[dg.AssetKey([plan.name, "backtest"])],
        description=(
            "How many configurations were evaluated for this strategy and those that it descends from, what the best of so many without "
            "skill is expected to show, and the probability that this one is better than that (deflated Sharpe ratio). It warns if the "
            "ledger is damaged, or has no trial of a strategy that it descends from."
        ),
        required_resource_keys={"io_manager"},
    )
    def trials(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with waiting_out(context.get_step_execution_context()):
            store = context.resources.io_manager.storage.store()
            asked = partitions_of_run(context.run.tags, plan.weekly)
            return _judge(plan, store, asked)

    return trials


def _judge(plan: StrategyPlan, store: PartitionStore, asked: Any) -> dg.AssetCheckResult:
    every, unreadable = TrialLedger(store.objects, "").read()
    count = counted(select(every, strategy=plan.name))
    week = max({*(asked or store.partitions(plan.asset("cv_results")))}, default="")
    own = _trial_of(store, plan, week, every)
    sharpe = None if own is None else estimate_of(own)
    inherited = ancestors_of(plan.name, every)
    metadata: dict[str, Any] = {
        "trials": count.height,
        **({"inherited_from": ", ".join(inherited)} if inherited else {}),
    }
    if sharpe is None or count.is_empty():
        told = f"{count.height} trial(s) so far; {NO_ACCOUNT}"
    else:
        judged, lacking = judge(store.objects, count, sharpe)
        unreadable = [*unreadable, *lacking]
        metadata |= _numbers(plan, sharpe, judged)
        told = _in_words(plan, sharpe, judged)
        metadata["best_of_trials"] = _drawn(plan, count, sharpe, judged, told)
    if unreadable:
        metadata["damaged"] = "\n".join(f"{each.address} is {each.what}" for each in unreadable[:5])
        told = (
            f"{told}\nThe ledger is damaged ({some_of([each.address for each in unreadable])}): see hfp ledger verify."
        )
    if strangers := sorted({*plan.descends_from} - {*every["strategy"]}):
        told = (
            f"{told}\n`descends_from` must name strategies with trials in the ledger, was {some_of(strangers)}, of which it has none: "
            "nothing of them counts; correct the name or leave it out."
        )
    return dg.AssetCheckResult(
        check_name="trials",
        passed=not (unreadable or strangers),
        severity=dg.AssetCheckSeverity.WARN,
        description=told,
        metadata=metadata,
    )


def _trial_of(store: PartitionStore, plan: StrategyPlan, week: str, every: pl.DataFrame) -> pl.DataFrame | None:
    """The trial that the account of a week belongs to."""
    asset = plan.asset("backtest")
    try:
        footer = store.footer(asset, week) if week else None
    except StoredPartitionError:
        return None
    found = every.filter(trial=str(footer.facts.get(TRIAL))) if footer is not None else every.clear()
    return None if found.is_empty() else found


def _annual(plan: StrategyPlan) -> float:
    return math.sqrt(usual_sessions(plan.market.partitions.calendar_name)[0])


def _numbers(plan: StrategyPlan, sharpe: SharpeEstimate, judged: Deflation) -> Mapping[str, Any]:
    annual = _annual(plan)
    return {
        "independent_trials": judged.n_independent,
        "sharpe_ratio": sharpe.sharpe * annual,
        "expected_maximum_of_noise": judged.expected_maximum * annual,
        "deflated_sharpe_ratio": judged.deflated,
        "deflated_by_all_trials": judged.deflated_by_all,
        "probabilistic_sharpe_ratio": judged.probabilistic,
        "sessions": sharpe.n,
    }


def _in_words(plan: StrategyPlan, sharpe: SharpeEstimate, judged: Deflation) -> str:
    annual = _annual(plan)
    return (
        f"Sharpe ratio a year {sharpe.sharpe * annual:.2f} after {judged.n_trials} trial{'s' * (judged.n_trials != 1)}, {judged.n_independent} of them "
        f"independent: the best of so many without skill is expected to show {judged.expected_maximum * annual:.2f}. Deflated Sharpe "
        f"ratio {judged.deflated:.3f} ({judged.probabilistic:.3f} if it were the only trial)"
    )


def _drawn(
    plan: StrategyPlan, count: pl.DataFrame, sharpe: SharpeEstimate, judged: Deflation, note: str
) -> dg.MarkdownMetadataValue:
    from hf_pipelines.research.overfitting.plots import best_of_trials_png

    annual = _annual(plan)
    return picture(
        best_of_trials_png,
        (sharpes_of(count) * annual).tolist(),
        trials_variance=judged.trials_variance * annual**2,
        own=sharpe.sharpe * annual,
        note=note,
    )
