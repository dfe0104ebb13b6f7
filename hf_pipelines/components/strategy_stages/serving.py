"""Serving an issue: by which configuration and by which models it is decided.

Lives here: which decision an issue is held to, the champion's configuration out of its record, and which stored model of it serves. Does not
live here: who serves (`research.promotion.serving`), the history (`resources.promotions`), the rows of an issue (`issue_rows`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from hf_pipelines.components.stage import StageInput, week_of_key, window
from hf_pipelines.components.strategy_stages.controls import CONTROLS
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.partitions import parse_key, shift_week
from hf_pipelines.research.promotion.serving import Refit, Serving, refit_faults, serving_of
from hf_pipelines.research.signals import Reason
from hf_pipelines.resources.parquet_io_manager import Loaded, load_partitions
from hf_pipelines.resources.partition_codec import Stored, decode
from hf_pipelines.resources.partition_store import VERSIONS, PartitionStore
from hf_pipelines.resources.promotions.history import History, history_of
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError
from hf_pipelines.resources.trial_ledger import configuration_hash

# Facts of footers: of a model the hash of what it was fitted with, of an issue what it was decided under.
FITTED_WITH, PROMOTION = "fitted_with", "promotion"

# Asset of the champion's refits where the YAML says another configuration.
CHAMPION_MODEL = "champion_model"

# Of a configuration, what no model depends on.
AFTER_THE_FIT = ("rule", "account")

# Of an issue that no decision says anything about.
UNGATED: Mapping[str, Any] = {"is_gated": False}

# The outer score that a refit is held to, of the metrics of its model: more of both is better.
SCORE = {True: "accuracy", False: "r2"}


@dataclass(frozen=True)
class Held:
    """What an issue is held to.

    Attributes
    ----------
    history : History
        Up to the decision.
    serving : Serving
    margin : float
        How far the score of a refit may fall.
    needs_controls : bool
        Whether a refit without trusted controls may not serve.
    """

    history: History
    serving: Serving
    margin: float
    needs_controls: bool

    def facts(self) -> dict[str, Any]:
        """For the footer: what a later recomputation is held to."""
        if not self.serving.is_gated:
            return dict(UNGATED)
        champion, reason = self.serving.champion, self.serving.reason
        return {
            "is_gated": True,
            "record": self.serving.record,
            "sha256": self.history.last,
            "champion": "" if champion is None else str(champion.version),
            "configuration": "" if champion is None else champion.configuration,
            "is_override": champion is not None and champion.is_override,
            "reason": str(reason or ""),
            "shadow": self.serving.shadow,
            "share": self.serving.share,
            "refit_margin": self.margin,
            "needs_controls": self.needs_controls,
        }


def held_by(plan: StrategyPlan, store: PartitionStore | None, stated: Mapping[str, Any] | None) -> Held:
    """What an issue is decided under: what `stated` of its footer says, else the newest decision.

    Raises
    ------
    PromotionHistoryError
        If the history is not as it was written.
    ValueError
        If the history has not the decision that is stated.
    """
    is_gated = plan.gates is not None if stated is None else bool(stated["is_gated"])
    if not is_gated or store is None:
        return Held(History(plan.name), Serving(is_gated=False), 0.0, needs_controls=False)
    history = history_of(store.objects, plan.name)
    own = configuration_hash(settings_of(plan))
    if stated is None:
        margin, needs_controls = plan.refit_margin, bool((plan.gates or {}).get("controls"))
        return Held(history, serving_of(history.state, own, is_gated=True), margin, needs_controls)
    history = history.at(stated["record"])
    if history.last != stated["sha256"]:
        raise ValueError(
            f"`promotions` of {plan.name} must hold the decision {stated['record']} that the issue names, {stated['sha256'][:12]}, held "
            f"{history.last[:12]}; restore the history that the issue was made under."
        )
    serving = replace(serving_of(history.state, own, is_gated=True), shadow=stated["shadow"], share=stated["share"])
    return Held(history, serving, stated["refit_margin"], stated["needs_controls"])


def stated_of(plan: StrategyPlan, store: PartitionStore | None, key: str) -> Mapping[str, Any] | None:
    """What the issue of a session says that it was decided under; None where there is no issue."""
    footer = None if store is None else store.footer(plan.asset("signals"), key)
    return None if footer is None else promotion_of(footer.facts)


def promotion_of(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an issue was decided under, from its footer's facts; of one that says nothing: the week's model."""
    found = facts.get(PROMOTION)
    return found if isinstance(found, Mapping) else UNGATED


def fitted_with(settings: Mapping[str, Any]) -> str:
    """Hash of a configuration without what comes after the fit: configurations that differ in nothing else have the same models."""
    return configuration_hash({name: each for name, each in settings.items() if name not in AFTER_THE_FIT})


def champion_plan(plan: StrategyPlan, held: Held) -> StrategyPlan:
    """The configuration that serves: today's where that is the champion's, else out of the record that made it the champion.

    Raises
    ------
    ValueError
        If today's code, market and modules do not make of the record what it was.
    """
    champion = held.serving.champion
    if champion is None or plan.plan_of is None:
        raise ValueError(f"`champion` of {plan.name} must serve to have a plan, did not.")
    if configuration_hash(settings_of(plan)) == champion.configuration:
        return plan
    record = held.history.records[champion.number - 1]
    remedy = f"put back what it was made with, promote another, or withdraw it: hfp withdraw {plan.name} --reason WHY"
    try:
        found = plan.plan_of(record["yaml"])
    except (ValueError, TypeError, KeyError) as e:
        raise ValueError(
            f"`champion` of {plan.name} must be made of the YAML of decision {champion.number}, could not ({e}); {remedy}."
        ) from e
    if (was := configuration_hash(settings_of(found))) != champion.configuration:
        raise ValueError(
            f"`champion` of {plan.name} must be configuration {champion.configuration[:12]} by today's code and market, was {was[:12]}; "
            f"{remedy}."
        )
    return found


def serving_plan(plan: StrategyPlan, store: PartitionStore | None) -> StrategyPlan | None:
    """The configuration of the champion as of now; None where the history does not decide, or nothing serves.

    Raises
    ------
    ValueError
        If the champion cannot be made of its record, or the history is damaged.
    """
    held = held_by(plan, store, None)
    return None if held.serving.champion is None else champion_plan(plan, held)


def load_inputs(
    plan: StrategyPlan, store: PartitionStore, inputs: tuple[StageInput, ...], key: str
) -> dict[str, Loaded]:
    """Inputs of a session out of the store, as a run would read them."""
    partitions = plan.market.partitions
    return {
        each.name: load_partitions(
            store, each.asset, window(partitions, each, key), facts=each.asset_in().metadata or {}, tags={}
        )
        for each in inputs
    }


@dataclass(frozen=True)
class Models:
    """Models of a configuration that may decide an issue.

    Attributes
    ----------
    by_day : mapping of session to Stored
        The session's own, and of those before it that the rule looks at, as far as there are any; empty: no model may serve the session.
    held_back : mapping of week to str
        Refits that may not serve it, and why.
    controls : mapping of asset to (week to content hash)
        What their soundness was read from.
    """

    by_day: Mapping[str, Stored]
    held_back: Mapping[str, str]
    controls: Mapping[str, Mapping[str, str]]


def choose_models(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str, held: Held) -> Models:
    """Of each session that an issue depends on the newest sound model of the configuration of a plan."""
    store, asset = inputs["fitted_model"].store, plan.asset("fitted_model")
    fitted = fitted_with(settings_of(plan))
    days = [day.isoformat() for day in plan.decided_sessions(parse_key(key))]
    first = shift_week(allowed_weeks(plan, days[0])[0], -plan.max_model_age_weeks - 1)
    taken = _promoted_models(held.history, asset, fitted)
    promoted = {(week, digest) for week, digest in taken if first <= week <= week_of_key(key)}
    read = sorted({*inputs["fitted_model"].parts, *inputs[CHAMPION_MODEL].parts, *(week for week, _ in promoted)})
    found: dict[str, Stored] = {}
    for week in read:
        if (model := _model_of(inputs, week, fitted, promoted, asset=asset)) is not None:
            found[week] = model
    refits: list[Refit] = []
    hashes: dict[str, str] = {}
    for week, model in found.items():
        verdict, digest = _controls(plan, store, model)
        hashes |= digest
        metrics: Any = model.footer.facts.get("metrics") or {}
        score = metrics.get(SCORE[plan.target.is_classification])
        is_taken = (week, model.footer.content_hash) in promoted
        refits.append(Refit(week, score, verdict, is_taken=is_taken))
    within = timedelta(weeks=plan.max_model_age_weeks + 1)
    faults = refit_faults(refits, margin=held.margin, needs_controls=held.needs_controls, within=within)
    by_day = {}
    for day in days:
        allowed = allowed_weeks(plan, day)
        if sound := [week for week in allowed if week in found and week not in faults]:
            by_day[day] = known_before(plan, found[sound[-1]], day)
    own = allowed_weeks(plan, key)
    served = by_day[key].footer.partition if key in by_day else ""
    return Models(
        by_day=by_day if key in by_day else {},
        held_back={week: why for week, why in faults.items() if week in own and week > served},
        controls={plan.asset("validation"): hashes} if hashes else {},
    )


def without_model(plan: StrategyPlan, store: PartitionStore | None, stated: Mapping[str, Any], key: str) -> str:
    """Why no model of the champion decided an issue, and what gives the next issue one; "" where one did, or nothing serves."""
    if stated.get("reason") != Reason.NO_SOUND_MODEL:
        return ""
    weeks, week, champion = allowed_weeks(plan, key), week_of_key(key), held_by(plan, store, stated).serving.champion
    told = f"champion {stated['champion']} must have a sound model of week {weeks[-1]}, or of one since {weeks[0]}"
    if held_back := stated.get("held_back"):
        why = "; ".join(f"that of week {of_week} is held back: {each}" for of_week, each in held_back.items())
        return f"{told}, had none: {why}; mend that, or: hfp rollback {plan.name} --reason WHY"
    is_own = champion is None or fitted_with(champion.settings) == fitted_with(settings_of(plan))
    command = (
        f"retrain {plan.name} --week {week}" if is_own else f"materialise {plan.asset(CHAMPION_MODEL)} --from {week}"
    )
    return f"{told}, was stored in none; make it for the next issue: hfp {command} --with-inputs"


def allowed_weeks(plan: StrategyPlan, day: str) -> list[str]:
    """Weeks whose model may serve a session, the newest last."""
    return plan.market.partitions.weeks_around(week_of_key(day), first=-plan.max_model_age_weeks, last=0)


def known_before(plan: StrategyPlan, model: Stored, day: str) -> Stored:
    """A model that is to serve a session, refused if it could know what came after the decision."""
    close, as_of = plan.market.partitions.session_close(parse_key(day)), model.frame["as_of"][0]
    if as_of > close:
        raise ValueError(
            f"`as_of` of the model of week {model.footer.partition} must not be after the decision at {close}, was {as_of}."
        )
    return model


def _promoted_models(history: History, asset: str, fitted: str) -> set[tuple[str, str]]:
    """Week and content hash of each model that a decision has made the champion: the evidence of its release."""
    records = [
        history.records[each.number - 1] for each in history.state.releases if fitted_with(each.settings) == fitted
    ]
    return {(week, digest) for each in records for week, digest in each["evidence"].get(asset, {}).items()}


def _model_of(
    inputs: Mapping[str, Loaded], week: str, fitted: str, promoted: set[tuple[str, str]], *, asset: str
) -> Stored | None:
    """The stored model of a week that was fitted so: the YAML's, the champion's refit, or the one that was promoted, be it an earlier content."""
    for name in ("fitted_model", CHAMPION_MODEL):
        model = inputs[name].parts.get(week)
        if model is not None and (
            model.footer.facts.get(FITTED_WITH) == fitted or (week, model.footer.content_hash) in promoted
        ):
            return model
    store = inputs["fitted_model"].store
    for of_week, digest in sorted(promoted):
        if of_week == week and (kept := _kept(store, asset, week, digest)) is not None:
            return kept
    return None


def _kept(store: PartitionStore, asset: str, week: str, digest: str) -> Stored | None:
    try:
        return decode(store.objects.get(f"{VERSIONS}/{asset}/{week}/{digest}.parquet"), asset=asset, partition=week)
    except ObjectMissingError:
        return None


def _controls(plan: StrategyPlan, store: PartitionStore, model: Stored) -> tuple[str | None, dict[str, str]]:
    """What the controls of a model's own out-of-fold predictions found, and the content that says it."""
    if (verdict := model.footer.facts.get(CONTROLS)) is not None:
        return str(verdict), {}
    week, results = model.footer.partition, plan.asset("cv_results")
    try:
        footer = store.footer(plan.asset("validation"), week)
    except StoredPartitionError:
        return None, {}
    found = None if footer is None else footer.facts.get(CONTROLS)
    # Made of other predictions they say nothing of this model.
    if (
        footer is None
        or not isinstance(found, Mapping)
        or footer.inputs.get(results) != model.footer.inputs.get(results)
    ):
        return None, {}
    return str(found["verdict"]), {week: footer.content_hash}
