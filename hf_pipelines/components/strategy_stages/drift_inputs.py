"""Inputs of drift: what is known at the close of a session of the model that decided it.

Lives here: which model that was, the sessions it was trained on, its out-of-fold predictions, and what came of what was issued. Does not live
here: the judgement (`research.drift`), the stage (`drift`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import Any

import polars as pl

from hf_pipelines.components.stage import StageInput, week_of_key, window
from hf_pipelines.components.strategy_stages.accounts import with_cost_columns
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, feature_frames, trade
from hf_pipelines.components.strategy_stages.serving import (
    CHAMPION_MODEL,
    champion_plan,
    held_by,
    load_inputs,
    promotion_of,
)
from hf_pipelines.components.strategy_stages.track_record import LIVE, outcome_is_open
from hf_pipelines.partitions import parse_key, shift_week
from hf_pipelines.research.account_summary import summarise_account
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.drift.day import Seen
from hf_pipelines.research.matrix import join_features, label_features
from hf_pipelines.research.predictions import decided_predictions, latest_predictions
from hf_pipelines.research.signals import upgrade_issue
from hf_pipelines.research.targets import HORIZON, neutral_value
from hf_pipelines.resources.lineage import read_content
from hf_pipelines.resources.parquet_io_manager import Loaded, load_partitions
from hf_pipelines.resources.partition_codec import Stored
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

# Weeks of issues that are looked at: a half year.
ISSUE_WEEKS = 26

Hashes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class ReadOnce(PartitionStore):
    """A store of which a run reads each partition once: days next to each other read nearly the same."""

    kept: dict[tuple[str, str], Stored] = field(default_factory=dict, compare=False, repr=False)

    def read(self, asset: str, partition: str) -> Stored:
        if (asset, partition) not in self.kept:
            self.kept[asset, partition] = super().read(asset, partition)
        return self.kept[asset, partition]


@dataclass(frozen=True)
class Served:
    """The model that decided a session.

    Attributes
    ----------
    at : StrategyPlan
        Configuration that it is of.
    model : Stored
    out_of_fold : Stored or None
        The cross-validation that it belongs to, if that is stored.
    """

    at: StrategyPlan
    model: Stored
    out_of_fold: Stored | None

    @property
    def week(self) -> str:
        return self.model.footer.partition


def served_by(plan: StrategyPlan, store: PartitionStore, issue: Stored) -> Served | str:
    """The model that decided an issue; why there is none in words."""
    facts = promotion_of(issue.footer.facts)
    week = str(facts.get("model_week", ""))
    if not week:
        return f"nothing serves: {facts.get('reason') or 'no model has decided the session'}"
    for name in ("fitted_model", CHAMPION_MODEL):
        digest = issue.footer.inputs.get(plan.asset(name), {}).get(week)
        if digest is None:
            continue
        try:
            held = held_by(plan, store, facts)
            at = champion_plan(plan, held) if held.serving.champion is not None else plan
            model = read_content(store, plan.asset(name), week, digest)
        except (ValueError, ObjectMissingError, StoredPartitionError) as e:
            return f"the model of week {week} that decided it cannot be read: {e}"
        return Served(at, model, _out_of_fold(plan, store, model, held.history.records if facts["is_gated"] else ()))
    return f"nothing serves: the model of week {week} is none of the strategy's own"


def _out_of_fold(
    plan: StrategyPlan, store: PartitionStore, model: Stored, records: Sequence[Mapping[str, Any]]
) -> Stored | None:
    """Its own cross-validation, or that by which its configuration was promoted."""
    asset = plan.asset("cv_results")
    of_model = model.footer.inputs.get(asset, {})
    promoted = [each["evidence"].get(asset, {}) for each in reversed(records) if each.get("evidence")]
    for week, digest in [*of_model.items(), *(pair for each in promoted[:1] for pair in each.items())]:
        try:
            return read_content(store, asset, week, digest)
        except (ValueError, ObjectMissingError, StoredPartitionError):
            # Retention has taken it: what is said of it is that it is not stored.
            continue
    return None


def see(plan: StrategyPlan, store: PartitionStore, served: Served, key: str) -> tuple[Seen, Hashes]:
    """What is known at the close of a session, and the contents that it was read from.

    Raises
    ------
    ValueError
        If bars or features of the session's own week are not there.
    """
    at, session, partitions = served.at, parse_key(key), plan.market.partitions
    own = week_of_key(key)
    first = min(shift_week(served.week, -at.training.weeks), shift_week(own, -ISSUE_WEEKS))
    back = (parse_key(first) - parse_key(own)).days // 7
    features, bars = at.feature_inputs(back, 0), at.bars_input(-ISSUE_WEEKS - at.history_weeks, 0)
    inputs = load_inputs(at, store, (*features, bars), key)
    inputs["bars"].require([own])
    weeks = [
        each for each in window(partitions, features[0], key) if all(each in inputs[f.name].parts for f in features)
    ]
    if own not in weeks:
        inputs[features[0].name].require([own])
    row = served.model.frame.row(0, named=True)
    trained = at.selection_weeks(partitions.weeks_around(served.week, first=-at.training.weeks, last=-1))
    trained_until = min(row["trained_until"].date(), *(parse_key(shift_week(each, 1)) for each in trained[-1:]))
    known = _known_features(inputs, features, weeks, session, str(row["features"]).split(","))
    days = [day for day in partitions.sessions if parse_key(weeks[0]) <= day <= session]
    held = {parse_key(each) for each in trained}
    days = [day for day in days if day > trained_until or parse_key(week_of_key(day.isoformat())) in held]
    rows, kind, hashes = _issued(plan, store, key)
    bar_weeks = [each for each in window(partitions, bars, key) if each in inputs["bars"].parts]
    issued_weeks = [each for each in weeks if each in bar_weeks]
    read = inputs["bars"].frame(bar_weeks).filter(pl.col("session") <= session)
    frames = [each.filter(pl.col("session") <= session) for each in feature_frames(at, inputs, issued_weeks)] if _is_whole(at, inputs, issued_weeks) else [known.filter(pl.col("session") >= parse_key(issued_weeks[0]))]  # fmt: skip
    labels = label_features(frames, bars=read, target=at.target, cutoff=None, sectors=at.market.universe.sectors).labels
    close = partitions.session_close(session)
    seen = Seen(
        sessions=days,
        features=known,
        names=str(row["features"]).split(","),
        trained_until=trained_until,
        out_of_fold=None if served.out_of_fold is None else _calibration_rows(at, served.out_of_fold.frame),
        issued=_with_outcome(at, rows, labels.filter(pl.col("label_end") <= close)),
        sharpe=_sharpe(at, rows, with_cost_columns(at, read, frames), label_sessions=_label_sessions(served)),
        importance=_importance(served.model),
        label_sessions=_label_sessions(served),
        neutral=_neutral(at),
        has_direction=bool(at.target.classes) or neutral_value(at.target) is not None,
        age_days=float((session - parse_key(served.week)).days),
        kind=kind,
    )
    hashes = {**hashes, **inputs["bars"].hashes(bar_weeks)}
    for each in features:
        hashes = {**hashes, **inputs[each.name].hashes(weeks)}
    footers = [served.model.footer, *([] if served.out_of_fold is None else [served.out_of_fold.footer])]
    return seen, {**hashes, **{each.asset: {each.partition: each.content_hash} for each in footers}}


def _is_whole(at: StrategyPlan, inputs: Mapping[str, Loaded], weeks: Sequence[str]) -> bool:
    """Whether every feature is in every week: one that has left the market is not in the newest."""
    return all(
        {*names} <= {*inputs[f"features_{group}"].parts[week].frame.columns}
        for group, names in at.feature_names.items()
        for week in weeks
    )


def _known_features(
    inputs: Mapping[str, Loaded],
    features: Sequence[StageInput],
    weeks: Sequence[str],
    session: date,
    names: Sequence[str],
) -> pl.DataFrame:
    """Rows of all weeks with those of the features that are there; null in weeks that lack one."""
    groups = []
    for each in features:
        parts = [inputs[each.name].parts[week].frame for week in weeks]
        held = [name for name in names if any(name in part.columns for part in parts)]
        wanted = [part.select(*KEY_COLUMNS, *(name for name in held if name in part.columns)) for part in parts]
        groups.append(pl.concat(wanted, how="diagonal").sort("symbol", "ts"))
    return join_features(groups).filter(pl.col("session") <= session)


def _issued(plan: StrategyPlan, store: PartitionStore, key: str) -> tuple[pl.DataFrame, str, Hashes]:
    """Rows of the issues up to a session, live ones where there are any, else those that were backfilled."""
    asset, partitions = plan.asset("signals"), plan.market.partitions
    weeks = partitions.weeks_around(week_of_key(key), first=-ISSUE_WEEKS, last=0)
    days = [day.isoformat() for week in weeks for day in partitions.sessions_of_week(week) if day.isoformat() <= key]
    loaded = load_partitions(store, asset, days, facts=StageInput("signals", asset, is_optional=True).asset_in().metadata or {}, tags={})  # fmt: skip
    held = [day for day in days if day in loaded.parts]
    # Issues next to each other are of one version: upgraded together.
    versions = groupby((loaded.parts[day].frame for day in held), key=lambda frame: frame.schema)
    rows = pl.concat([upgrade_issue(pl.concat(alike)) for _, alike in versions])
    if plan.holdout is not None:
        # The session itself has no outcome yet.
        rows = rows.filter(outcome_is_open(plan.holdout) | (pl.col("session") == parse_key(key)))
    kinds = set(rows["issue_kind"])
    kind = LIVE if LIVE in kinds else str(min(kinds))
    return rows.filter(issue_kind=kind), kind, loaded.hashes(held)


def _with_outcome(at: StrategyPlan, issued: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Issued predictions beside what came; null while that is not known."""
    known = labels.filter(pl.col(HORIZON) == at.decided_horizon) if HORIZON in labels.columns else labels
    is_binary = len(at.target.classes) == 2
    right = pl.when(pl.col("calibrated_probability").is_not_null()).then("confidence") if is_binary else pl.lit(None)
    rows = issued.select(*KEY_COLUMNS, "prediction", *_confidence(at), right.cast(pl.Float64).alias("probability"))
    outcome = known.select(*KEY_COLUMNS, "label_end", realised=_realised(at))
    return rows.join(outcome, on=KEY_COLUMNS, how="left", maintain_order="left")


def _calibration_rows(at: StrategyPlan, predictions: pl.DataFrame) -> pl.DataFrame:
    """Out-of-fold predictions, one a row and path."""
    rows = latest_predictions(predictions)
    if at.decided_horizon is not None:
        rows = decided_predictions(rows, horizon=at.decided_horizon)
    return rows.select("symbol", "session", "prediction", *_confidence(at), realised=_realised(at))


def _confidence(at: StrategyPlan) -> list[pl.Expr]:
    # Of a number it is a place among the rows of its time, which is the same whatever happens.
    return [
        (pl.col("confidence") if at.target.is_classification else pl.lit(None, dtype=pl.Float64)).alias("confidence")
    ]


def _realised(at: StrategyPlan) -> pl.Expr:
    """What came, as the prediction has it: of classes their places on [-1, 1]."""
    n_classes = len(at.target.classes)
    return pl.col("y") * 2.0 / (n_classes - 1) - 1.0 if n_classes > 1 else pl.col("y")


def _neutral(at: StrategyPlan) -> float | None:
    return 0.0 if at.target.classes else neutral_value(at.target)


def _importance(model: Stored) -> dict[str, float]:
    found: Any = model.footer.facts.get("importances") or {}
    return {str(name): float(each) for name, each in found.items()}


def _label_sessions(served: Served) -> int:
    found = None if served.out_of_fold is None else served.out_of_fold.footer.facts.get("label_sessions")
    return found if isinstance(found, int) else max(served.at.target.horizon_bars, 1)


def _sharpe(
    at: StrategyPlan, issued: pl.DataFrame, bars: pl.DataFrame, *, label_sessions: int
) -> tuple[float, float, float]:
    """Sharpe ratio a year of the account of what was issued, with its interval; NaN where it is too short."""
    unknown = (math.nan, math.nan, math.nan)
    first = issued["session"].min()
    traded = bars.filter(pl.col("session") >= first)
    if issued["session"].n_unique() < 2 or traded.is_empty():
        return unknown
    summary = summarise_account(trade(at, issued.select(*KEY_COLUMNS, "weight"), traded), label_sessions=label_sessions)
    row = summary.filter(metric="sharpe_ratio").select("value", "low", "high").row(0)
    return tuple(math.nan if each is None else float(each) for each in row)  # type: ignore[return-value]
