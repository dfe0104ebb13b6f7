"""Rollouts: what a challenger and the champion earned since one was started, and the steps that follow from it, in the history.

Lives here: matured results out of stored issues, starting, stopping and going on. Does not live here: the rule (`research.promotion.rollout`),
what a step does (`research.promotion.lifecycle`), splitting an issue (`deciding`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.components.strategy_stages.decided_weights import stored_bars
from hf_pipelines.components.strategy_stages.deciding import CHAMPION_NAME, SHADOW_NAME
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, trade
from hf_pipelines.components.strategy_stages.serving import promotion_of
from hf_pipelines.components.strategy_stages.track_record import LIVE
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.partitions import parse_key, week_key
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.promotion.lifecycle import (
    PROMOTED,
    ROLLOUT_ADVANCED,
    ROLLOUT_STARTED,
    ROLLOUT_STOPPED,
    STAGED,
    states_of,
)
from hf_pipelines.research.promotion.rollout import (
    ADVANCED,
    SHARES,
    STOPPED,
    Floats,
    Rollout,
    RolloutSettings,
    RolloutStep,
    follow_rollout,
)
from hf_pipelines.research.promotion.words import DIGITS_SHOWN
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import Draft, History, history_of, record_decision
from hf_pipelines.resources.trial_ledger import configuration_hash
from hf_pipelines.resources.trial_ledger.returns import session_returns

# Who takes the steps that follow from results, whoever has looked at them.
RULE = "rollout"

BACKFILL = "backfill"

AFTERWARDS = (
    "its issues were made afterwards: this shows how a rollout goes, and is no evidence that the challenger is better"
)


@dataclass(frozen=True)
class Results:
    """Paired net returns of the sessions since the start.

    Attributes
    ----------
    sessions : tuple of date
    challenger, champion : array of shape (n_sessions,)
        Of accounts that follow each with all capital, by the costs of today's YAML.
    n_issues : int
        Issues that they were made from.
    n_other : int
        Issues since the start that do not count: of the other kind, or without the challenger.
    """

    sessions: tuple[date, ...]
    challenger: Floats
    champion: Floats
    n_issues: int
    n_other: int


@dataclass(frozen=True)
class Standing:
    """A rollout, and where it stands by what has matured.

    Attributes
    ----------
    started : mapping
        The record that started it.
    ended : mapping or None
        The record that ended it; None of one that goes on.
    taken : tuple of RolloutStep
        Steps that are recorded.
    rollout : Rollout
        Those, and of one that goes on all that are due.
    """

    started: Mapping[str, Any]
    ended: Mapping[str, Any] | None
    taken: tuple[RolloutStep, ...]
    results: Results
    rollout: Rollout

    @property
    def settings(self) -> RolloutSettings:
        """Those that it was started with."""
        return RolloutSettings(**self.started["rollout"]["settings"])


def start_rollout(
    plan: StrategyPlan,
    store: PartitionStore,
    week: str,
    settings: RolloutSettings,
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> History:
    """Begin the rollout of the configuration that the YAML says, beside the champion: in shadow, without capital.

    Parameters
    ----------
    week : str
        Sunday of the evidence by which it was staged.
    settings : RolloutSettings
        They hold until it ends.

    Raises
    ------
    ValueError
        If the strategy has no gates, the configuration is not staged by that week, nothing serves, or another rollout goes on.
    """
    history, configuration = history_of(store.objects, plan.name), configuration_hash(settings_of(plan))
    if plan.gates is None:
        raise ValueError(
            f"`gates` must stand in the YAML of {plan.name} for a rollout, did not: the week's model serves whatever is decided."
        )
    staged = _staged(history, configuration)
    if staged is None or staged["week"] != week:
        was = "none" if staged is None else staged["week"]
        raise ValueError(
            f"`week` must be the one by which the configuration of {plan.name} is staged, {was}, was {week[:40]}; "
            f"hfp promote {plan.name} {week[:10]} --stage --reason WHY"
        )
    # Issues of a market whose data have ended are all made afterwards: they show how a rollout goes, and are no evidence of skill.
    end = plan.market.partitions.end
    is_live = end is None or end > now.date()
    rollout = {
        "configuration": configuration,
        "share": 0.0,
        "staged": staged["n"],
        # A session that has an issue was seen, whatever a clock that is behind says.
        "first": max(week, now.date().isoformat(), *store.partitions(plan.asset("signals"))[-1:]) if is_live else week,
        "issue_kind": LIVE if is_live else BACKFILL,
        "settings": asdict(settings),
    }
    draft = Draft(kind=ROLLOUT_STARTED, actor=actor, reason=reason, at=_at(now), rollout=rollout)
    return record_decision(store.objects, plan.name, draft, about=history.state)


def stop_rollout(store: PartitionStore, strategy: str, *, actor: str, reason: str, now: datetime) -> History:
    """Take all capital of the challenger back.

    Raises
    ------
    ValueError
        If no rollout goes on.
    """
    history = history_of(store.objects, strategy)
    if (ongoing := history.state.rollout) is None:
        raise ValueError(f"`rollout` of {strategy} must go on to be stopped, none does; see hfp rollout {strategy}.")
    rollout = {"configuration": ongoing.configuration, "share": 0.0}
    draft = Draft(kind=ROLLOUT_STOPPED, actor=actor, reason=reason, at=_at(now), rollout=rollout)
    return record_decision(store.objects, strategy, draft, about=history.state)


def standing_of(
    plan: StrategyPlan, store: PartitionStore, history: History, *, until: date | None = None
) -> Standing | None:
    """Where the newest rollout of a strategy stands by results up to a session; None if there never was one."""
    starts = [each for each in history.records if each["kind"] == ROLLOUT_STARTED]
    if not starts:
        return None
    started, states = starts[-1], states_of(history.records)
    later = history.records[started["n"] :]
    ended = next((each for each in later if states[each["n"]].rollout is None), None)
    within = later if ended is None else later[: ended["n"] - started["n"]]
    # Of one that a person or another decision has ended the last step is none of the rule.
    taken = tuple(_step_of(each) for each in within if "n_sessions" in each["rollout"])
    if ended is not None:
        until = date.fromisoformat(ended["rollout"].get("last_session", ended["at"][:10]))
    results = matured_results(plan, store, started["rollout"], until=until)
    settings = RolloutSettings(**started["rollout"]["settings"])
    found = follow_rollout(results.challenger, results.champion, settings, taken=taken)
    return Standing(started, ended, taken, results, found if ended is None else replace(found, steps=taken))


def advance_rollout(
    plan: StrategyPlan, store: PartitionStore, *, now: datetime, until: date | None = None
) -> tuple[History, Standing | None]:
    """Append every step that is due, one record each; what is recorded already is not recorded again, whoever does it.

    Returns
    -------
    tuple
        The history, and where the rollout stands that went on before; None where none did.

    Raises
    ------
    ChampionChangedError
        If somebody else decides meanwhile.
    PromotionHistoryError
        If the history is not as it was written.
    """
    history = history_of(store.objects, plan.name)
    if history.state.rollout is None:
        return history, None
    standing = standing_of(plan, store, history, until=until)
    assert standing is not None
    for at in range(len(standing.taken), len(standing.rollout.steps)):
        draft = _draft_of(history, standing, at, now=now)
        history = record_decision(store.objects, plan.name, draft, about=history.state)
    return history, standing


def draw_rollout(strategy: str, standing: Standing) -> bytes:
    """A rollout as a picture."""
    from hf_pipelines.research.plots.rollout import rollout_png

    rollout = standing.started["rollout"]
    return rollout_png(
        f"{strategy}, configuration {rollout['configuration'][:DIGITS_SHOWN]}",
        date.fromisoformat(rollout["first"]),
        standing.results.sessions,
        standing.rollout,
        standing.settings,
        note=AFTERWARDS[0].upper() + AFTERWARDS[1:] + "." if rollout["issue_kind"] == BACKFILL else "",
    )


def matured_results(
    plan: StrategyPlan, store: PartitionStore, started: Mapping[str, Any], *, until: date | None = None
) -> Results:
    """Paired returns by the issues since the start in which both have decided.

    Parameters
    ----------
    started : mapping
        `rollout` of the record that started it.
    until : date, optional
        Last session that may be known; by default the last one that is stored.
    """
    asset, partitions = plan.asset("signals"), plan.market.partitions
    days = [day for day in store.partitions(asset) if day >= started["first"]]
    days = [day for day in days if until is None or day <= until.isoformat()]
    pairs = [pair for day in days if (pair := _pair(plan, store, day, started)) is not None]
    nothing = Results((), np.zeros(0), np.zeros(0), len(pairs), len(days) - len(pairs))
    if not pairs:
        return nothing
    issued = [one["session"][0] for one, _ in pairs]
    first = week_key(issued[0])
    if max(store.partitions(plan.market.bars_asset), default="") < first:
        return nothing
    bars = stored_bars(plan, store, first)
    # Of what is held after the last issue nothing was decided: the session after it is the last that counts.
    last = min(day for day in (partitions.next_session(issued[-1]), until) if day is not None)
    bars = bars.filter(pl.col("session") <= last)
    known: Any = bars["session"].max()
    if known is None or known <= issued[0]:
        return nothing
    returns: list[dict[date, float]] = []
    for frames in zip(*pairs, strict=True):
        weights = pl.concat(frames).filter(pl.col("session") <= known)
        found = session_returns(trade(plan, weights, bars).equity, {})
        returns.append(
            {} if found is None else {day: value for day, value in zip(*found, strict=True) if day > issued[0]}
        )
    challenger, champion = returns
    sessions = tuple(sorted({*challenger} & {*champion}))
    own, other = (np.array([each[day] for day in sessions]) for each in (challenger, champion))
    return Results(sessions, own, other, len(pairs), len(days) - len(pairs))


def _pair(
    plan: StrategyPlan, store: PartitionStore, day: str, started: Mapping[str, Any]
) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Weights of challenger and champion in an issue; None of one that does not count."""
    stored = store.read(plan.asset("signals"), day)
    footer, promotion = stored.footer, promotion_of(stored.footer.facts)
    kind = stored.frame["issue_kind"][0]
    if promotion.get("shadow") != started["configuration"] or SHADOW_NAME not in footer.attachments:
        return None
    # What a backfilled issue of the hold-out earned would be a look at it.
    held_back = kind != LIVE and plan.holdout is not None and parse_key(day) >= parse_key(plan.holdout.week)
    if kind != started["issue_kind"] or held_back:
        return None
    columns = [*KEY_COLUMNS, "weight"]
    is_split = CHAMPION_NAME in footer.attachments
    champion = _attached(store, footer, CHAMPION_NAME) if is_split else stored.frame
    return _attached(store, footer, SHADOW_NAME).select(columns), champion.select(columns)


def _attached(store: PartitionStore, footer: Footer, name: str) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(store.read_attachment(footer, name)))


def _draft_of(history: History, standing: Standing, at: int, *, now: datetime) -> Draft:
    """The record of a step by its place; of the last one the promotion, by the evidence that the challenger was staged by."""
    step, results, started = standing.rollout.steps[at], standing.results, standing.started
    configuration = started["rollout"]["configuration"]
    told = {
        "configuration": configuration,
        "share": step.share,
        "started": started["n"],
        "n_sessions": step.n_sessions,
        "last_session": results.sessions[step.n_sessions - 1].isoformat(),
        "evidence": step.evidence,
        "evidence_worse": step.evidence_worse,
        "drawdown": step.drawdown,
        "results": _hash_of(results, step.n_sessions),
    }
    # The same step has the same id, whoever records it: it is recorded once.
    token = sha256(f"{history.strategy} {started['n']} {at}".encode()).hexdigest()[:32]
    common: dict[str, Any] = {"actor": RULE, "reason": step.why, "at": _at(now), "rollout": told, "token": token}
    if step.kind == STOPPED:
        return Draft(kind=ROLLOUT_STOPPED, **common)
    if step.share < SHARES[-1]:
        return Draft(kind=ROLLOUT_ADVANCED, **common)
    staged = _staged(history, configuration)
    assert staged is not None
    names = ("week", "settings", "yaml", "evidence", "gates", "figures")
    return Draft(kind=PROMOTED, **common, **{name: staged[name] for name in names})


def _staged(history: History, configuration: str) -> Mapping[str, Any] | None:
    """The newest record by which a configuration was staged."""
    found = [each for each in history.records if each["kind"] == STAGED and each["configuration"] == configuration]
    return found[-1] if found else None


def _step_of(record: Mapping[str, Any]) -> RolloutStep:
    told = record["rollout"]
    return RolloutStep(
        n_sessions=told["n_sessions"],
        kind=STOPPED if record["kind"] == ROLLOUT_STOPPED else ADVANCED,
        share=told["share"],
        evidence=told["evidence"],
        evidence_worse=told["evidence_worse"],
        drawdown=told["drawdown"],
        why=record["reason"],
    )


def _hash_of(results: Results, n: int) -> str:
    return configuration_hash(
        {
            "sessions": [day.isoformat() for day in results.sessions[:n]],
            "challenger": results.challenger[:n].tolist(),
            "champion": results.champion[:n].tolist(),
        }
    )


def _at(now: datetime) -> str:
    return now.isoformat(timespec="seconds")
