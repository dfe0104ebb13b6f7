"""Deciding an issue: its rows, what they were made from, and what it says of who decided it.

Lives here: the issue of the week's model, of the champion beside its shadow, and the one without positions. Does not live here: who serves
(`serving`), the rows themselves (`issue_rows`), the stage and what its page shows (`signals`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from io import BytesIO
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.display import parquet_bytes
from hf_pipelines.components.stage import StageInput, week_of_key, window
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.changes_display import issue_table
from hf_pipelines.components.strategy_stages.issue_rows import history_sessions, issue_rows, zero_rows
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.serving import (
    CHAMPION_MODEL,
    PROMOTION,
    Held,
    Models,
    allowed_weeks,
    champion_plan,
    choose_models,
    known_before,
    load_inputs,
)
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.partitions import parse_key
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.signals import SIGNALS_SCHEMA_VERSION, Reason
from hf_pipelines.research.signals.split_capital import split_capital
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import VOLATILE_COLUMNS, Content, Stored
from hf_pipelines.resources.requirements import require_all
from hf_pipelines.resources.trial_ledger import configuration_hash

# Attachments of an issue, in its columns: what another configuration would have held, and of one that is split what the champion would have.
SHADOW_NAME, CHAMPION_NAME = "shadow.parquet", "champion.parquet"

# What a recomputation is held to.
DECIDED = (
    "weight", "prediction", "confidence", "reason", "reason_detail", "calibrated_probability", "lower", "upper", "class_set"
)  # fmt: skip

Hashes = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Issue:
    """An issue that is not stored yet.

    Attributes
    ----------
    rows : DataFrame
        In the columns of `ISSUE_COLUMNS`.
    inputs : mapping of asset to (partition to content hash)
    promotion : mapping
        What it was decided under, for its footer.
    shadow : DataFrame or None
        Rows of the shadow, without the columns that say when they were made.
    champion : DataFrame or None
        Of an issue that is split the rows of the champion alone, as `shadow`.
    """

    rows: pl.DataFrame
    inputs: Mapping[str, Mapping[str, str]]
    promotion: Mapping[str, Any]
    shadow: pl.DataFrame | None = None
    champion: pl.DataFrame | None = None

    @property
    def model_week(self) -> str:
        """Week of the model that decided it; "" where none served."""
        return str(self.promotion["model_week"])

    def content(self) -> Content:
        beside = {SHADOW_NAME: self.shadow, CHAMPION_NAME: self.champion}
        attached = {name: parquet_bytes(rows) for name, rows in beside.items() if rows is not None}
        facts = {"schema_version": SIGNALS_SCHEMA_VERSION, PROMOTION: dict(self.promotion)}
        return Content(self.rows, attachments=attached, inputs=self.inputs, facts=facts)


def issue_inputs(plan: StrategyPlan, *, is_gated: bool) -> tuple[StageInput, ...]:
    """What the issue of a session is made from, by any configuration of a strategy."""
    # A refit is held to the one before it, which may be as old.
    more = plan.max_model_age_weeks + 1 if is_gated else 0
    models = [
        StageInput(
            name,
            plan.asset(name),
            first_week=-plan.max_model_age_weeks - plan.memory_weeks - more,
            guards=("trained_before_week",),
            is_optional=True,
            offsets_a_week=7,
        )
        for name in ("fitted_model", *([CHAMPION_MODEL] if is_gated else []))
    ]
    return (*_features(plan), *_bars(plan), *models)


def _features(plan: StrategyPlan) -> tuple[StageInput, ...]:
    return plan.feature_inputs(-plan.learner_weeks - plan.memory_weeks, 0, offsets_a_week=7)


def _bars(plan: StrategyPlan) -> tuple[StageInput, ...]:
    # Only where the rule looks back on bars.
    return (replace(plan.bars_input(-plan.issue_bars_weeks, 0), offsets_a_week=7),) if plan.rule_weeks else ()


def decide_issue(plan: StrategyPlan, run: StageRun, inputs: Mapping[str, Loaded], key: str, held: Held) -> Issue:
    """The issue of a session.

    Raises
    ------
    ValueError
        If what it is made from is not there, or the champion cannot be made of its record.
    """
    if not held.serving.is_gated:
        models = _week_models(plan, inputs, key)
        rows, hashes = _rows(plan, inputs, key, models, now=run.now)
        return Issue(rows, hashes, {**held.facts(), "model_week": models[key].footer.partition})
    own = _of_champion(plan, inputs, key, held, now=run.now)
    if not held.serving.shadow:
        return own
    shadow, made_from, told = _shadow(plan, inputs, key, held, now=run.now)
    # Of a week of which each has a content of its own the champion's is named; the shadow's rows name theirs.
    issue = Issue(own.rows, _merged(made_from, own.inputs), {**own.promotion, **told}, shadow)
    # A challenger that cannot decide gets no capital in this issue.
    if shadow is None or held.serving.share == 0.0:
        return issue
    share, configuration = held.serving.share, held.serving.shadow
    rows = split_capital(own.rows, shadow, share=share, challenger_version=configuration)
    return replace(issue, rows=rows, champion=_lasting(own.rows))


def _of_champion(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str, held: Held, *, now: datetime) -> Issue:
    """The issue of what serves: of the champion by its newest sound model, or without positions."""
    champion, reason = held.serving.champion, held.serving.reason
    told = {**held.facts(), "model_week": "", "held_back": {}}
    if champion is None:
        return Issue(zero_rows(plan, key, reason or Reason.NO_CHAMPION, now=now), {}, told)
    at = champion_plan(plan, held)
    own = inputs if at is plan and plan.gates is not None else _inputs_of(at, inputs, key)
    found = choose_models(at, own, key, held)
    told |= {"held_back": dict(found.held_back)}
    if not found.by_day:
        rows = zero_rows(plan, key, Reason.NO_SOUND_MODEL, now=now)
        return Issue(rows, found.controls, {**told, "reason": str(Reason.NO_SOUND_MODEL)})
    rows, hashes = _rows(at, own, key, found.by_day, now=now)
    return Issue(rows, _merged(hashes, found.controls), {**told, "model_week": found.by_day[key].footer.partition})


def compared_rows(content: Content) -> pl.DataFrame:
    """What a recomputation of an issue is held to, its shadow's among it."""
    own = content.frame.select(*KEY_COLUMNS, *DECIDED)
    if SHADOW_NAME not in content.attachments:
        return own
    shadow = pl.read_parquet(BytesIO(content.attachments[SHADOW_NAME])).select(
        *KEY_COLUMNS, *(pl.col(name).alias(f"shadow_{name}") for name in DECIDED)
    )
    return own.join(shadow, on=[*KEY_COLUMNS], how="full", coalesce=True).sort("ts", "symbol")


def decided_by(promotion: Mapping[str, Any]) -> str:
    """Who decided an issue, in words."""
    week = promotion.get("model_week", "")
    if not promotion["is_gated"]:
        return f"the model of week {week}, ungated" if week else "the model of its week, ungated"
    if not promotion["champion"]:
        return f"nothing: {promotion['reason']}"
    champion = f"champion {promotion['champion']}{', by override' if promotion['is_override'] else ''}"
    return f"{champion}, the model of week {week}" if week else f"{champion}: {promotion['reason']}"


def promotion_metadata(issue: Issue) -> dict[str, Any]:
    """The same for the page of the issue, with what was held back and what the shadow would hold."""
    told = issue.promotion
    found: dict[str, Any] = {"decided_by": decided_by(told)}
    if not told["is_gated"]:
        return found
    found["promotion_record"] = told["record"]
    if told["champion"]:
        found["configuration"] = told["configuration"]
    if told["held_back"]:
        found["held_back"] = "\n".join(held_back_lines(told))
    if told["shadow"]:
        found["shadow"] = shadow_words(told)
    if issue.shadow is not None:
        last = issue.shadow.filter(pl.col("ts") == pl.col("ts").max())
        found["shadow_weights"] = dg.MetadataValue.md(issue_table(last, ("symbol", "weight", "prediction")))
    return found


def held_back_lines(promotion: Mapping[str, Any]) -> list[str]:
    """Refits that might have decided an issue and did not, a line each."""
    return [f"the refit of week {week} is held back: {why}" for week, why in promotion.get("held_back", {}).items()]


def shadow_words(promotion: Mapping[str, Any]) -> str:
    """Which configuration is issued beside the champion."""
    told = f"configuration {promotion['shadow'][:12]}"
    week, share = promotion.get("shadow_model_week", ""), promotion.get("share", 0.0)
    capital = f", {share:.0%} of the capital" if share else ""
    return f"{told}, the model of week {week}{capital}" if week else f"{told}: none, {promotion.get('shadow_why', '')}"


def _shadow(
    plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str, held: Held, *, now: datetime
) -> tuple[pl.DataFrame | None, Hashes, dict[str, str]]:
    """Rows of the configuration of the YAML, what they were made from, and their model's week or why there are none.

    Whatever it lacks, the issue of the champion does not wait for it.
    """
    try:
        if configuration_hash(settings_of(plan)) != held.serving.shadow:
            raise ValueError("the YAML says another configuration now")
        own = inputs if plan.gates is not None else _inputs_of(plan, inputs, key)
        found: Models = choose_models(plan, own, key, held)
        if not found.by_day:
            raise ValueError("; ".join(found.held_back.values()) or str(Reason.NO_SOUND_MODEL))
        rows, hashes = _rows(plan, own, key, found.by_day, now=now)
    except ValueError as e:
        return None, {}, {"shadow_why": str(e)}
    week = found.by_day[key].footer.partition
    made_from = _merged(hashes, found.controls)
    return _lasting(rows), made_from, {"shadow_model_week": week}


def _lasting(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without the columns that say when they were made."""
    return rows.drop(*(name for name in VOLATILE_COLUMNS if name in rows.columns))


def _inputs_of(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str) -> Mapping[str, Loaded]:
    """What another configuration than the YAML's is made from, known as of the same time."""
    models = inputs["fitted_model"]
    loaded = load_inputs(plan, models.store, issue_inputs(plan, is_gated=True), key)
    return loaded if models.known_at is None else {name: each.cut(models.known_at) for name, each in loaded.items()}


def _rows(
    plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str, models: Mapping[str, Stored], *, now: datetime
) -> tuple[pl.DataFrame, Hashes]:
    """Rows by some models, and the contents that they were made from."""
    partitions, features, bars = plan.market.partitions, _features(plan), _bars(plan)
    bar_weeks = {each.name: window(partitions, each, key) for each in bars}
    require_all(
        *(partial(inputs[each.name].require, [*history_sessions(plan, key)]) for each in features),
        *(partial(inputs[name].require, weeks) for name, weeks in bar_weeks.items()),
    )
    rows = issue_rows(plan, inputs, key, models, now=now)
    hashes: Hashes = {}
    for week, model in sorted({each.footer.partition: each for each in models.values()}.items()):
        hashes = _merged(hashes, {model.footer.asset: {week: model.footer.content_hash}})
    for name, weeks in bar_weeks.items():
        hashes = _merged(hashes, inputs[name].hashes(weeks))
    for each in features:
        for of_week, read in history_sessions(plan, key).items():
            # A session before it may have no row.
            has_row = inputs[each.name].parts[of_week].footer.session_hashes
            for day in (day for day in read if day in has_row or day == key):
                hashes = _merged(hashes, inputs[each.name].session_hash(of_week, day))
    return rows, hashes


def _merged(hashes: Mapping[str, Mapping[str, str]], more: Mapping[str, Mapping[str, str]]) -> Hashes:
    return {asset: {**hashes.get(asset, {}), **more.get(asset, {})} for asset in {**hashes, **more}}


def _week_models(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str) -> dict[str, Stored]:
    """Of each session that an issue depends on the newest model, whichever configuration it is of."""
    days = [day.isoformat() for day in plan.decided_sessions(parse_key(key))]
    # One of each week: a model that is not there is named once.
    served = {week_of_key(day): day for day in reversed(days)}
    require_all(
        *(partial(inputs[each.name].require, [*history_sessions(plan, key)]) for each in _features(plan)),
        *(partial(inputs[each.name].require, window(plan.market.partitions, each, key)) for each in _bars(plan)),
        *(partial(_model_for, plan, inputs["fitted_model"], served[week]) for week in sorted(served)),
    )
    return {day: _model_for(plan, inputs["fitted_model"], day) for day in days}


def _model_for(plan: StrategyPlan, models: Loaded, key: str) -> Stored:
    """Newest model that may serve a session.

    Raises
    ------
    ValueError
        If there is none of the weeks allowed.
    """
    ready = [each for each in allowed_weeks(plan, key) if each in models.parts]
    if not ready:
        week = week_of_key(key)
        raise ValueError(
            f"`{plan.asset('fitted_model')}` must have a model of week {week} for the signals of {key}, had none; "
            f"retrain it: hfp retrain {plan.name} --week {week}"
        )
    return known_before(plan, models.parts[ready[-1]], key)
