"""`<strategy>/signals`: target weights of one session, one immutable issue a day."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.market_stages.universe import Universe
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage, StageInput, week_of_key, window
from hf_pipelines.components.stage_checks import Finding, StageCheck, replay_guard
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.changes_display import changes_metadata, issue_table
from hf_pipelines.components.strategy_stages.controls import verdict_of
from hf_pipelines.components.strategy_stages.decision_versions import decision_versions
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.components.strategy_stages.interval_display import (
    interval_columns,
    interval_fields,
    interval_stage_functions,
    with_intervals,
)
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, feature_frames
from hf_pipelines.components.strategy_stages.tuned import plan_of_results
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.intervals import ServedIntervals
from hf_pipelines.research.learners import Pipeline, build_pipeline, choose_learner, predict_frame
from hf_pipelines.research.matrix import join_features, usable_rows
from hf_pipelines.research.signals import (
    ISSUE_COLUMNS,
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
from hf_pipelines.research.targets import Target
from hf_pipelines.resources.footer import SIGNALS
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content, Stored
from hf_pipelines.resources.requirements import require_all

# What a recomputation is held to.
DECIDED = (
    "weight", "prediction", "confidence", "reason", "reason_detail", "calibrated_probability", "lower", "upper", "class_set"
)  # fmt: skip


def signals(plan: StrategyPlan) -> Stage:
    """`<strategy>/signals`: target weights of one session, one immutable issue a day."""
    partitions = plan.market.partitions
    features = plan.feature_inputs(-plan.learner_weeks - plan.memory_weeks, 0, offsets_a_week=7)
    models = StageInput(
        "fitted_model",
        plan.asset("fitted_model"),
        first_week=-plan.max_model_age_weeks - plan.memory_weeks,
        guards=("trained_before_week",),
        is_optional=True,
        offsets_a_week=7,
    )

    # Only where the rule looks back on bars.
    bars = [replace(plan.bars_input(-plan.issue_bars_weeks, 0), offsets_a_week=7)] if plan.rule_weeks else []

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        session = parse_key(key)
        partitions.require_session(session)
        days = [day.isoformat() for day in plan.decided_sessions(session)]
        bar_weeks = {each.name: window(partitions, each, key) for each in bars}
        # One of each week: a model that is not there is named once.
        served = {week_of_key(day): day for day in reversed(days)}
        require_all(
            *(partial(inputs[each.name].require, [*history_sessions(plan, key)]) for each in features),
            *(partial(inputs[name].require, weeks) for name, weeks in bar_weeks.items()),
            *(partial(_model_for, plan, inputs["fitted_model"], served[week]) for week in sorted(served)),
        )
        models = {day: _model_for(plan, inputs["fitted_model"], day) for day in days}
        model = models[key]
        weights = _signal_frame(plan, inputs, key, models, now=run.now)
        hashes = inputs["fitted_model"].hashes(sorted({each.footer.partition for each in models.values()}))
        for name, weeks in bar_weeks.items():
            hashes |= inputs[name].hashes(weeks)
        for each in features:
            for of_week, read in history_sessions(plan, key).items():
                # A session before it may have no row.
                held = inputs[each.name].parts[of_week].footer.session_hashes
                for day in (day for day in read if day in held or day == key):
                    for asset, found in inputs[each.name].session_hash(of_week, day).items():
                        hashes[asset] = {**hashes.get(asset, {}), **found}
        # Below a day an issue has several decisions: what is shown is the last one.
        last = weights.filter(pl.col("ts") == pl.col("ts").max())
        metadata = {
            **changes_metadata(plan, run, session, last, model_week=model.footer.partition),
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
            "model_week": model.footer.partition,
            # Of the week that its model was fitted in.
            "controls": _controls_of(plan, run, model.footer.partition),
        }
        return Content(weights, inputs=hashes, facts={"schema_version": SIGNALS_SCHEMA_VERSION}), metadata

    def recompute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> pl.DataFrame:
        days = [day.isoformat() for day in plan.decided_sessions(parse_key(key))]
        models = {day: _model_for(plan, inputs["fitted_model"], day) for day in days}
        return _comparable(_signal_frame(plan, inputs, key, models, now=run.now))

    def model_is_older(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        late = content.frame.filter(pl.col("model_as_of") > pl.col("as_of"))
        return Finding(
            late.is_empty(),
            content.frame.height,
            tuple(f"model as of {row['model_as_of']} decided {row['as_of']}" for row in late.head(1).to_dicts()),
        )

    return Stage(
        asset=plan.asset("signals"),
        kind=SIGNALS,
        description=(
            "Target weights decided at the session's close by the model of its week. Written once: a later recomputation "
            "is kept beside it with a table of differences. `issue_kind` is live if issued before the next open."
        ),
        kinds=frozenset({plan.learner.choice.entry.family, "parquet"}),
        partitions=plan.daily,
        inputs=(*features, *bars, models),
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
            replay_guard(recompute, compared=lambda content: _comparable(content.frame)),
            StageCheck(
                "model_known_before", "The model's `as_of` is not after the decision.", model_is_older, is_guard=True
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


def _model_for(plan: StrategyPlan, models: Loaded, key: str) -> Stored:
    """Newest model that may serve a session.

    Raises
    ------
    ValueError
        If there is none of the weeks allowed.
    """
    week = week_of_key(key)
    close = plan.market.partitions.session_close(parse_key(key))
    allowed = plan.market.partitions.weeks_around(week, first=-plan.max_model_age_weeks, last=0)
    ready = [each for each in allowed if each in models.parts]
    if not ready:
        raise ValueError(
            f"`{plan.asset('fitted_model')}` must have a model of week {week} for the signals of {key}, had none; "
            f"retrain it: hfp retrain {plan.name} --week {week}"
        )
    model = models.parts[ready[-1]]
    as_of = model.frame["as_of"][0]
    if as_of > close:
        raise ValueError(
            f"`as_of` of the model of week {ready[-1]} must not be after the decision at {close}, was {as_of}."
        )
    return model


def _signal_frame(
    plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str, models: Mapping[str, Stored], *, now: datetime
) -> pl.DataFrame:
    """An issue; `models` by session: its own, and before it those whose predictions the rule looks at."""
    session, model = parse_key(key), models[key]
    week = week_of_key(key)
    of_day = {day: _session_features(plan, inputs, day) for day in models}
    joined = of_day[key]
    if joined.is_empty():
        raise ValueError(
            f"`features` of {plan.market.name} must hold session {key}, had no row of it; see that the source has "
            f"bars of it, then run hfp materialise {plan.market.bars_asset} --from {week} and "
            f"{', '.join(f'hfp materialise {plan.market.features_asset(group)} --from {week}' for group in plan.feature_names)}"
        )
    # A study may have set the rule and left out features.
    served = plan_of_results(plan, model.footer.facts)
    if usable_rows(joined, served.all_features, missing=plan.training.missing).is_empty():
        raise ValueError(
            f"`features` of {plan.market.name} must be complete for a symbol on {key}, were for none of {joined.height}; "
            "the longest lookback reaches before the first bar."
        )
    # Of an earlier session without rows nothing is known. Each by the model that served it, as in its own issue: the state
    # of a rule is made anew from them, never read from what was issued.
    held = {day: frame for day, frame in of_day.items() if not frame.is_empty()}
    by_week = {each.footer.partition: each for each in models.values()}
    loaded = {made: load_model(inputs["fitted_model"], each) for made, each in by_week.items()}
    predicted = pl.concat(
        [_predict(plan, inputs, day, models[day], loaded[models[day].footer.partition]) for day in held]
    )
    if plan.rule.needs.features:
        read = pl.concat([frame.select(*KEY_COLUMNS, *plan.rule.needs.features) for frame in held.values()])
        predicted = predicted.join(read, on=KEY_COLUMNS, how="left", maintain_order="left")
    members = plan.market.universe.member_sessions([parse_key(day) for day in held])
    given = add_absent_members(predicted, members)
    bars = (
        inputs["bars"].frame(window(plan.market.partitions, plan.bars_input(-plan.issue_bars_weeks, 0), key))
        if plan.rule_weeks
        else None
    )
    is_own = pl.col("session") == session
    weights = served.weigh(given, bars=bars)
    decided = weights.join(
        served.zero_reasons(given, weights, bars=bars), on=KEY_COLUMNS, how="inner", maintain_order="left"
    )
    partitions = plan.market.partitions
    close = partitions.session_close(session)
    next_open = partitions.session_open(partitions.next_session(session))
    created = model.frame["created_at"][0]
    kind = issue_kind(now=now, decision=close, next_open=next_open, model_created_at=created)
    rule_version, sizing_version = decision_versions(served.rule)
    issue = given.filter(is_own).join(decided, on=KEY_COLUMNS, how="left", maintain_order="left")
    why = reasons(issue, joined, of_model=model.frame["features"][0].split(","), of_rule=plan.rule.needs.features)
    return _as_issue(
        issue.with_columns(
            *why.get_columns(),
            calibrated_probability(issue, loaded[model.footer.partition], classes=plan.target.classes),
            *(_unknown_as_null(issue[name]) for name in interval_columns(plan)),
            model_version=pl.lit(model.footer.content_hash),
            model_as_of=pl.lit(model.frame["as_of"][0]),
            as_of=pl.lit(close),
            created_at=pl.lit(now),
            issue_kind=pl.lit(kind),
            rule_version=pl.lit(rule_version),
            sizing_version=pl.lit(sizing_version),
        )
    ).sort("ts", "symbol")


def _as_issue(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of an issue, null those that nothing fills."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in ISSUE_COLUMNS.items()
    )


def calibrated_probability(issue: pl.DataFrame, pipeline: Pipeline, *, classes: Sequence[str]) -> pl.Series:
    """Probability of the target's last class, up or right; null where no calibration changes it."""
    # A calibration of too few rows, and one that nothing was fitted on, tell a reason.
    is_calibrated = pipeline.calibrator is not None and not getattr(pipeline.calibrator, "reason", "")
    column = f"probability_{classes[-1]}" if classes else ""
    values = (
        issue[column].fill_nan(None) if is_calibrated else pl.repeat(None, issue.height, dtype=pl.Float64, eager=True)
    )
    return values.alias("calibrated_probability")


def _session_features(plan: StrategyPlan, inputs: Mapping[str, Loaded], day: str) -> pl.DataFrame:
    return _features_with_history(plan, inputs, day).filter(pl.col("session") == parse_key(day))


def _predict(
    plan: StrategyPlan, inputs: Mapping[str, Loaded], day: str, model: Stored, pipeline: Pipeline
) -> pl.DataFrame:
    """Predictions of a session by the model that serves it."""
    with_history = _features_with_history(plan, inputs, day)
    predicted = predict_frame(
        pipeline,
        with_history,
        features=model.frame["features"][0].split(","),
        classes=[each for each in model.frame["classes"][0].split(",") if each],
        missing=plan.training.missing,
        wanted=(with_history["session"] == parse_key(day)).to_numpy(),
        times=plan.bar_times(with_history["session"]),
    )
    return with_intervals(plan, predicted, inputs["fitted_model"], model)


def _unknown_as_null(values: pl.Series) -> pl.Series:
    """Of a member without a prediction there is no number."""
    return values.fill_nan(None) if values.dtype.is_float() else values


def history_sessions(plan: StrategyPlan, key: str) -> dict[str, list[str]]:
    """Sessions whose features a day's signals read, by week: of those that the rule looks at, and what a learner of sequences
    looks back on from each."""
    days = {each for day in plan.decided_sessions(parse_key(key)) for each in _learner_sessions(plan, day)}
    return _by_week(sorted(days))


def _by_week(days: list[date]) -> dict[str, list[str]]:
    weeks: dict[str, list[str]] = {}
    for day in days:
        weeks.setdefault(week_key(day), []).append(day.isoformat())
    return weeks


def _learner_sessions(plan: StrategyPlan, day: date) -> list[date]:
    """A session, and those before it that a learner of sequences looks back on."""
    if not plan.learner_weeks:
        return [day]
    first = parse_key(shift_week(week_key(day), -plan.learner_weeks))
    # A session has a bar at least.
    n_sessions = 1 + plan.learner.choice.history_bars
    days = window_sessions(plan.market.partitions.sessions, day, n_sessions=n_sessions)
    return [each for each in days if each >= first]


def _features_with_history(plan: StrategyPlan, inputs: Mapping[str, Loaded], day: str) -> pl.DataFrame:
    """Features of a session's rows and of those before them that the learner reads, in the order of training."""
    days = _learner_sessions(plan, parse_key(day))
    frames = feature_frames(plan, inputs, [*_by_week(days)])
    joined = join_features([frame.filter(pl.col("session").is_in(days)) for frame in frames])
    return joined.sort("ts", "symbol") if plan.learner_weeks else joined


def issue_kind(*, now: datetime, decision: datetime, next_open: datetime, model_created_at: datetime) -> str:
    """Whether a signal could have been traded.

    Returns
    -------
    str
        "live" if it is issued after its close and before the next session's open by a model that existed at the
        decision; else "backfill".
    """
    is_live = decision <= now < next_open and model_created_at < decision
    return "live" if is_live else "backfill"


def _comparable(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(*KEY_COLUMNS, *DECIDED)
