"""Promoting: a week of a strategy is held to its gates, and what came of it is recorded; the same for a command and for the asset.

Lives here: which evidence a decision is about, and that nothing of it changes meanwhile. Does not live here: the gates
(`research.promotion`), the records (`resources.promotions`), what is shown (`commands.promoting`, `promotion`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.evidence import STAGES, champion_of, gather_evidence
from hf_pipelines.components.strategy_stages.figures import figures_of
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.promotion import Decision, Evidence, Judged, judge_gates
from hf_pipelines.research.promotion.lifecycle import OVERRIDDEN, PROMOTED, REFUSED, STAGED, Event, follow
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.footer import FITTED_MODEL
from hf_pipelines.resources.parquet_io_manager import verdict_faults
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import Draft, History, history_of, record_decision
from hf_pipelines.resources.requirements import require_all
from hf_pipelines.resources.trial_ledger import configuration_hash

# What a promotion cannot do without, whatever its gates ask.
NEEDED = ("training_matrix", "cv_results", "backtest", FITTED_MODEL)

# Gates on accounts that have to be kept again.
TAKING_SECONDS = ("beats_portfolios", "engines_agree")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The present configuration of a strategy, and where its evidence lies.

    Attributes
    ----------
    plan : StrategyPlan
    yaml : mapping
        Its YAML with every default.
    store : PartitionStore
    checker : CurrencyChecker
        With the present code and settings.
    now : datetime
        UTC.
    """

    plan: StrategyPlan
    yaml: Mapping[str, Any]
    store: PartitionStore
    checker: CurrencyChecker
    now: datetime

    @property
    def history(self) -> History:
        """Everything that was decided on the strategy so far."""
        return history_of(self.store.objects, self.plan.name)

    def first_faults(self, week: str) -> tuple[Judged, ...]:
        """Gates that a week fails for certain, by what is stored alone; without any, all that it fails.

        Raises
        ------
        ValueError, PromotionHistoryError
            As `judge`.
        """
        _, brief = self._judged(week, is_brief=True)
        certain = tuple(each for each in brief.failed if each.gate not in TAKING_SECONDS)
        return certain or self.judge(week)[1].failed

    def judge(self, week: str) -> tuple[Evidence, Decision]:
        """A week held to the strategy's gates; nothing is recorded.

        Raises
        ------
        ValueError
            If bars or features that the backtest reads are not stored, or the champion's account is stored no more.
        PromotionHistoryError
            If the history is not as it was written.
        """
        return self._judged(week, is_brief=False)

    def _judged(self, week: str, *, is_brief: bool) -> tuple[Evidence, Decision]:
        champion = champion_of(self.plan, self.store)
        evidence = gather_evidence(
            self.plan, self.store, week, checker=self.checker, now=self.now, champion=champion, is_brief=is_brief
        )
        return evidence, judge_gates(evidence, self.plan.gates)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who wants a promotion, and how.

    Attributes
    ----------
    actor, reason : str
    override : str, optional
        Who answers for it although gates fail.
    stage : bool
        Whether it waits in staging, and the champion stays.
    token : str
        Of a request that may be made again after a crash: what was recorded under it is not recorded twice. "" of any other.
    """

    actor: str
    reason: str
    override: str | None = None
    stage: bool = False
    token: str = ""


@dataclass(frozen=True)
class Promotion:
    """What came of asking for a promotion.

    Attributes
    ----------
    history : History
        With what was recorded.
    record : mapping
        The decision.
    """

    history: History
    record: Mapping[str, Any] = field(repr=False)

    @property
    def is_refused(self) -> bool:
        """Whether gates have stood in the way."""
        return bool(self.record["kind"] == REFUSED)

    @property
    def decision(self) -> Decision:
        """Every gate as it was judged."""
        return Decision.of_record(self.record)


def promote_week(candidate: Candidate, week: str, asked: Asked) -> Promotion:
    """Hold a week of a configuration to its gates, and record what came of it: promoted, staged, overridden or refused.

    Raises
    ------
    ValueError
        If anything of the week is missing, damaged, lacks a passed check, or was made by other code, data or settings; if it is made again
        meanwhile; if the configuration is the champion by that week already, or was withdrawn and is overridden; if gates pass that are
        overridden; if no reason is given.
    ChampionChangedError
        If somebody else has decided meanwhile.
    """
    if asked.override is not None and asked.stage:
        raise ValueError("`override` must be left out beside `stage`, was given; only what passes its gates is staged.")
    plan, store, history = candidate.plan, candidate.store, candidate.history
    if (done := history.recorded(asked.token)) is not None:
        return Promotion(history, done)
    token = asked.token or uuid4().hex
    evidence, settings = _evidence(candidate, week), settings_of(plan)
    wished = STAGED if asked.stage else PROMOTED if asked.override is None else OVERRIDDEN
    # What could not follow, whatever the gates say, is no refusal of the configuration.
    follow(history.state, Event(wished, week, configuration_hash(settings), settings))
    known, decision = candidate.judge(week)
    if (now := _hashes(plan, store, week)) != evidence:
        others = sorted(asset for asset in {*now, *evidence} if now.get(asset) != evidence.get(asset))
        raise ValueError(
            f"`week` must be one that nothing is made of while it is judged, {', '.join(others)} of {week} changed; promote again."
        )
    if asked.override is not None and decision.is_passed:
        raise ValueError(f"`override` must be left out where every gate passes, was {asked.override[:40]!r}.")
    is_refused = asked.override is None and not decision.is_passed
    draft = Draft(
        kind=REFUSED if is_refused else wished,
        actor=asked.actor,
        reason=asked.reason,
        at=candidate.now.isoformat(timespec="seconds"),
        week=week,
        settings=settings,
        yaml=candidate.yaml,
        evidence=evidence,
        gates=decision.to_json()["gates"],
        override=asked.override or "",
        figures=figures_of(plan, store, week, known),
        token=token,
    )
    recorded = record_decision(store.objects, plan.name, draft, about=history.state)
    record = recorded.recorded(token)
    assert record is not None
    return Promotion(recorded, record)


def _evidence(candidate: Candidate, week: str) -> dict[str, dict[str, str]]:
    """Content hashes of what the week's decision is about: each read, what its footer says, and through its checks."""
    plan, found = candidate.plan, _hashes(candidate.plan, candidate.store, week)
    for asset in map(plan.asset, NEEDED):
        if asset not in found:
            raise ValueError(
                f"`week` must be one of which {asset} is stored, was {week}; hfp retrain {plan.name} --week {week}"
            )
        # The settings that are recorded must be those that have made the evidence.
        if not candidate.checker.is_current(asset, week).is_current:
            raise ValueError(
                f"`week` must be one whose {asset} today's code, data and settings have made, was {week}; "
                f"hfp retrain {plan.name} --week {week} --with-inputs"
            )
    guards = {
        stage.asset: [check.name for check in stage.checks if check.is_guard]
        for stage in build_stages(plan)
        if stage.asset in found
    }
    require_all(*(partial(_require_checked, candidate.store, asset, week, names) for asset, names in guards.items()))
    return found


def _require_checked(store: PartitionStore, asset: str, week: str, guards: list[str]) -> None:
    """Read a partition, which compares its content with its hash, and refuse it without a passed verdict of each guard."""
    parts = {week: store.read(asset, week)}
    faults = [fault for guard in guards for fault in verdict_faults(parts, asset, guard).values()]
    if faults:
        raise ValueError("\n".join(faults))


def _hashes(plan: StrategyPlan, store: PartitionStore, week: str) -> dict[str, dict[str, str]]:
    """Content hash of every stage of a week that is stored, as its footer says it."""
    footers = {asset: store.footer(asset, week) for asset in map(plan.asset, (*STAGES, FITTED_MODEL))}
    return {asset: {week: footer.content_hash} for asset, footer in footers.items() if footer is not None}
