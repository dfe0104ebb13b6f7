"""Rows of an issue: what a configuration decides of a session by the models that serve it, and an issue without positions.

Lives here: predictions, weights and reasons of one session in the columns of an issue. Does not live here: which configuration and which
models serve (`serving`), the stage (`signals`), the rule and the reasons (`research.signals`).
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

import polars as pl

from hf_pipelines.components.stage import week_of_key, window
from hf_pipelines.components.strategy_stages.decision_versions import decision_versions
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.components.strategy_stages.interval_display import interval_columns, with_intervals
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, feature_frames
from hf_pipelines.components.strategy_stages.tuned import plan_of_results
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.learners import Pipeline, predict_frame
from hf_pipelines.research.matrix import join_features, usable_rows
from hf_pipelines.research.signals import ISSUE_COLUMNS, Reason, add_absent_members, reasons, window_sessions
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Stored


def issue_rows(
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
    store = inputs["fitted_model"].store
    # Of one week there is one model, and two weeks may have theirs from different assets.
    parts = {made: Loaded(each.footer.asset, {made: each}, store) for made, each in by_week.items()}
    loaded = {made: load_model(parts[made], each) for made, each in by_week.items()}
    weeks = {day: models[day].footer.partition for day in held}
    predicted = pl.concat([_predict(plan, inputs, day, parts[made], made, loaded[made]) for day, made in weeks.items()])
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


def zero_rows(plan: StrategyPlan, key: str, reason: Reason, *, now: datetime) -> pl.DataFrame:
    """An issue without positions: each member with weight 0 and the one reason, at each decision of the session."""
    session, partitions = parse_key(key), plan.market.partitions
    close = partitions.session_close(session)
    times = plan.market.bar_grid.ends({session: partitions.hours[session]})
    members = plan.market.universe.member_sessions([session]).select("symbol", "session")
    kind = issue_kind(now=now, decision=close, next_open=partitions.session_open(partitions.next_session(session)))
    return _as_issue(
        members.join(times, on="session").with_columns(
            weight=pl.lit(0.0),
            prediction=pl.lit(float("nan")),
            confidence=pl.lit(float("nan")),
            reason=pl.lit(str(reason)),
            as_of=pl.lit(close),
            created_at=pl.lit(now),
            issue_kind=pl.lit(kind),
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
    plan: StrategyPlan, inputs: Mapping[str, Loaded], day: str, models: Loaded, week: str, pipeline: Pipeline
) -> pl.DataFrame:
    """Predictions of a session by the model of the week that serves it."""
    model = models.parts[week]
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
    return with_intervals(plan, predicted, models, model)


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


def issue_kind(
    *, now: datetime, decision: datetime, next_open: datetime, model_created_at: datetime | None = None
) -> str:
    """Whether a signal could have been traded; `model_created_at` is None where no model has decided.

    Returns
    -------
    str
        "live" if it is issued after its close and before the next session's open by a model that existed at the
        decision; else "backfill".
    """
    is_live = decision <= now < next_open and (model_created_at is None or model_created_at < decision)
    return "live" if is_live else "backfill"
