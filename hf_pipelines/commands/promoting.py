"""Promoting: what serves, what was decided so far, and deciding anew; the lines of `hfp promote`, `history`, `rollback` and `withdraw`.

Lives here: what the commands ask for, and the words. Does not live here: judging and recording (`components.strategy_stages.promoting`), the
records (`resources.promotions`), what follows from them (`research.promotion.lifecycle`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from hf_pipelines.commands.candidates import candidate_of
from hf_pipelines.commands.gates import gates_lines
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import backtested_week
from hf_pipelines.components.strategy_stages.promoting import Asked, Promotion, promote_week
from hf_pipelines.components.strategy_stages.shadow_record import shadow_in_words
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.promotion.lifecycle import ROLLED_BACK, WITHDRAWN, Lifecycle, Release
from hf_pipelines.research.promotion.serving import serving_of
from hf_pipelines.research.promotion.timeline import out_of_time, timeline_of
from hf_pipelines.research.promotion.words import DIGITS_SHOWN, SERVED_COLUMNS, minute, served_cells
from hf_pipelines.research.wording import printable
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.promotions.following import Followed, follow_history
from hf_pipelines.resources.promotions.history import PASSING, Draft, History, history_of, record_decision
from hf_pipelines.resources.promotions.outbox import OutboxError, deliveries_of
from hf_pipelines.resources.trial_ledger import actor_of, configuration_hash


def stored_history(pipeline: Pipeline, strategy: str) -> History:
    """Everything that was decided on a strategy, be it gone from the project.

    Raises
    ------
    ValueError
        If nothing was decided on it and it is none of the project.
    PromotionHistoryError
        If the history is not as it was written.
    """
    # A path would be read as another folder of the store.
    if "/" not in strategy and (found := history_of(pipeline.store.objects, strategy)).records:
        return found
    return History(pipeline.strategy(strategy).name)


def roll_back(pipeline: Pipeline, strategy: str, reason: str, *, champion: str | None = None) -> History:
    """Make the previous release the champion again.

    Parameters
    ----------
    champion : str, optional
        Version that is left, such as v1.2.0: repeated, the command does not go back twice.

    Raises
    ------
    ValueError
        If there is nothing to go back to, another version is the champion, or no reason is given.
    """
    return _decided(pipeline, strategy, ROLLED_BACK, reason, champion)


def withdraw(pipeline: Pipeline, strategy: str, reason: str, *, champion: str | None = None) -> History:
    """Take the champion away without another in its place; parameters and errors as of `roll_back`."""
    return _decided(pipeline, strategy, WITHDRAWN, reason, champion)


def promote(
    pipeline: Pipeline,
    strategy: str,
    week: str | None,
    reason: str,
    *,
    override: str | None = None,
    stage: bool = False,
) -> Promotion:
    """Hold the configuration of a strategy to its gates, and record what came of it: promoted, staged or refused.

    Parameters
    ----------
    week : str, optional
        Sunday of the evidence; by default the latest week with a backtest.
    override : str, optional
        Who answers for it although gates fail.
    stage : bool
        Whether it waits in staging, and the champion stays.

    Raises
    ------
    ValueError
        If there is no backtest or model of the week, another code, other data or settings have made it, it is made again meanwhile, the
        configuration is the champion by that week already or was withdrawn and is overridden, gates pass that are overridden, or no
        reason is given.
    ChampionChangedError
        If somebody else has decided meanwhile.
    """
    key = backtested_week(pipeline, strategy, week)
    asked = Asked(actor=actor_of({}), reason=reason, override=override, stage=stage)
    return promote_week(candidate_of(pipeline, strategy), key, asked)


def followed(pipeline: Pipeline, history: History) -> Followed:
    """Do what follows from a history: payloads, MLflow's versions and aliases."""
    return follow_history(history, pipeline.store, MLflowTracking(), Clock().now())


def followed_lines(found: Followed) -> Iterator[str]:
    """What was done, and what is done later."""
    yield from found.done
    yield from (f"later, by itself: {fault}" for fault in found.faults)


def payload_lines(pipeline: Pipeline, history: History) -> Iterator[str]:
    """How far the payloads of a strategy have come, after an empty line; nothing where none was ever made."""
    found = deliveries_of(pipeline.store.objects, {history.strategy: history})[history.strategy]
    told = str(found) if isinstance(found, OutboxError) else found.in_words
    if told:
        yield ""
        yield told


def promotion_lines(promotion: Promotion, signals: str) -> Iterator[tuple[str, bool]]:
    """The gate table, what was recorded, and what serves now (`signals` as of `signals_follow`); and whether each line is sound."""
    # Of an override the table says what stood in the way, and no fault of the command.
    yield from ((line, is_sound or not promotion.is_refused) for line, is_sound in gates_lines(promotion.decision))
    history = promotion.history
    yield "", True
    recorded = promotion.record
    yield f"recorded as decision {recorded['n']}: {recorded['kind']}", not promotion.is_refused
    yield from ((line, True) for line in state_lines(history.strategy, history.state, signals))


def _now() -> str:
    return Clock().now().isoformat(timespec="seconds")


def _decided(pipeline: Pipeline, strategy: str, kind: str, reason: str, champion: str | None) -> History:
    history = stored_history(pipeline, strategy)
    now = history.state.champion
    if champion is not None and (now is None or str(now.version) != champion):
        was = "none" if now is None else str(now.version)
        raise ValueError(
            f"`champion` of {strategy} must be {champion[:40]}, was {was}; see hfp history {strategy}: it may be done already."
        )
    draft = Draft(kind=kind, actor=actor_of({}), reason=reason, at=_now())
    return record_decision(pipeline.store.objects, strategy, draft, about=history.state)


def signals_follow(pipeline: Pipeline, history: History) -> str:
    """What the signals of a strategy follow from the next issue on, in words."""
    plan = next((each for each in pipeline.strategies() if each.name == history.strategy), None)
    if plan is None:
        return "it is gone from the project and has no signals"
    own = configuration_hash(settings_of(plan))
    serving = serving_of(history.state, own, is_gated=plan.gates is not None)
    if not serving.is_gated:
        return "ungated: signals follow the week's model, whatever is the champion"
    beside = "; the YAML's configuration is issued beside it as shadow" if serving.shadow else ""
    if serving.share:
        beside = f"; {serving.share:.0%} of the capital follows the YAML's configuration"
    elif history.state.rollout is not None and history.state.rollout.configuration != own:
        beside += "; the challenger that is rolled out is another one, and gets no capital meanwhile"
    if serving.champion is None:
        return f"every weight of its signals is 0 ({serving.reason}){beside}"
    return f"signals follow the champion{beside}"


def shadows_of(pipeline: Pipeline, strategy: str) -> dict[str, Any]:
    """Shadow beside what was issued, by kind of issue, as the newest track record that holds one has scored them; empty without."""
    asset = f"{strategy}/track_record"
    for week in reversed(pipeline.store.partitions(asset)):
        footer = pipeline.store.footer(asset, week)
        found: Any = {} if footer is None else footer.facts.get("shadows")
        if found:
            return {"week": week, "kinds": found}
    return {}


def shadow_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The same in words, a line a kind after an empty one."""
    if found:
        yield ""
    for kind, each in found.get("kinds", {}).items():
        yield f"shadow of {kind} issues before week {found['week']}: {shadow_in_words(each)}"


def history_told(history: History, signals: str) -> dict[str, Any]:
    """A history and what follows from it, for programs; `signals` as of `signals_follow`."""
    state = history.state
    versions = {each.number: str(each.version) for each in state.releases}
    return {
        "strategy": history.strategy,
        "headline": state.headline,
        "signals": signals,
        "champion": _release_told(state.champion),
        "previous": _release_told(state.previous),
        "since": state.since or None,
        "is_withdrawn": state.is_withdrawn,
        "stages": dict(state.stages),
        "releases": [_release_told(each) for each in state.releases],
        "served": [
            {
                **(_release_told(each.release) or {}),
                "since": each.since,
                "until": each.until or None,
                "ended_by": each.ended_by or None,
            }
            for each in timeline_of(history.records).served
        ],
        "decisions": [{**each, "version": versions.get(each["n"])} for each in history.records],
    }


def _release_told(release: Release | None) -> dict[str, Any] | None:
    if release is None:
        return None
    return {
        "version": str(release.version),
        "week": release.week,
        "configuration": release.configuration,
        "decision": release.number,
        "at": release.at,
        "parent": None if release.parent is None else str(release.parent),
        "changed": [*release.changed],
        "is_override": release.is_override,
    }


def state_lines(strategy: str, state: Lifecycle, signals: str) -> Iterator[str]:
    """What serves, and what a rollback would make of it; `signals` as of `signals_follow`."""
    yield f"{strategy}: {state.headline}; {signals}"
    if (previous := state.previous) is not None:
        yield f"previous: {previous.version} of week {previous.week}; it comes back by: hfp rollback {strategy} --reason WHY"
    else:
        yield "previous: none, there is nothing to go back to"


def history_lines(history: History, signals: str) -> Iterator[str]:
    """What serves, then every decision, the first one first, the stage of every configuration, and who served when."""
    state = history.state
    yield from state_lines(history.strategy, state, signals)
    if not history.records:
        return
    if told := out_of_time(history.records):
        yield told
    yield ""
    releases = {each.number: each for each in state.releases}
    for each in history.records:
        yield from map(printable, _decision_lines(each, releases.get(each["n"])))
    yield ""
    for configuration, stage in state.stages.items():
        yield f"configuration {configuration[:DIGITS_SHOWN]}: {stage}"
    if served := timeline_of(history.records).served:
        yield ""
        yield from text_table([SERVED_COLUMNS, *map(served_cells, served)])


def _decision_lines(record: Mapping[str, Any], release: Release | None) -> Iterator[str]:
    kind = record["kind"].replace("_", " ")
    told = f"{kind} {release.version}" if release else kind
    if rollout := record["rollout"]:
        told += f", {rollout['share']:.0%} of the capital to configuration {rollout['configuration'][:DIGITS_SHOWN]}"
    of = f", week {record['week']}, configuration {record['configuration'][:DIGITS_SHOWN]}" if record["week"] else ""
    override = f" in the name of {record['override']}" if record["override"] else ""
    yield f"{record['n']:>4}  {minute(record['at'])}  {told}{of}, by {record['actor']}{override}: {record['reason']}"
    if release is not None and release.changed:
        yield f"      changed since {release.parent}: {', '.join(release.changed)}"
    if failed := [str(each["gate"]) for each in record["gates"] if each["verdict"] not in PASSING]:
        yield f"      gates that stood in the way: {', '.join(failed)}"
