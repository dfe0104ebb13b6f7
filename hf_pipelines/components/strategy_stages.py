"""The assets of a strategy, in flow order: training_matrix, cv_results, fitted_model, backtest, signals, track_record.

Lives here: which inputs each asset reads, the one research function it calls, its checks and what it shows. Does not
live here: maths (`research`), the YAML (`strategy`), storage (`resources`).
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.market import Market
from hf_pipelines.components.stage import (
    Finding,
    Stage,
    StageCheck,
    StageInput,
    StageRun,
    each_partition,
    replay_guard,
    week_of_key,
    window,
)
from hf_pipelines.partitions import parse_key
from hf_pipelines.research.backtest import ENGINES, BacktestResult, Fill
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.cross_validation import cross_validate, feature_importances, fit_final, latest_predictions
from hf_pipelines.research.learners import LEARNERS, ParamValue, predict_frame, resolve_params
from hf_pipelines.research.matrix import build_matrix, feature_names, join_features
from hf_pipelines.research.signals import RULES, apply_rule
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import TARGETS, Target
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_store import Content, Stored

# What the weekly retrain job makes, in order.
RETRAINED = ("training_matrix", "cv_results", "fitted_model", "backtest")

SIGNALS_SCHEMA_VERSION = 1

# Folds run side by side, one thread each, and so does the final fit: on a quiet machine that is as fast, on a busy
# one two threads that wait for each other were 14 times slower.
FOLDS_AT_A_TIME = 2


@dataclass(frozen=True)
class StrategyPlan:
    """A strategy in research's own types; made by `Strategy.plan`."""

    name: str
    market: Market
    feature_names: Mapping[str, tuple[str, ...]]
    target: Target
    train_weeks: int
    minimum_rows: int
    weighting: str
    splitter: PurgedWalkForward
    learner: str
    params: Mapping[str, ParamValue]
    seed: int
    rule: str
    rule_params: Mapping[str, Any]
    engine: str
    fill: Fill
    initial_cash: float
    costs: Costs
    max_model_age_weeks: int
    track_record_weeks: int

    def asset(self, stage: str) -> str:
        return f"{self.name}/{stage}"

    @property
    def all_features(self) -> list[str]:
        return [name for names in self.feature_names.values() for name in names]

    def feature_inputs(self, first_week: int, last_week: int) -> tuple[StageInput, ...]:
        return tuple(
            StageInput(
                f"features_{group}",
                self.market.features_asset(group),
                first_week=first_week,
                last_week=last_week,
                guards=("replay",),
                is_optional=True,
            )
            for group in self.feature_names
        )

    def bars_input(self, first_week: int, last_week: int) -> StageInput:
        return StageInput("bars", self.market.bars_asset, first_week=first_week, last_week=last_week, is_optional=True)


def build_stages(plan: StrategyPlan) -> list[Stage]:
    """Every asset of a strategy, in flow order."""
    return [
        training_matrix(plan),
        cv_results(plan),
        fitted_model(plan),
        backtest(plan),
        signals(plan),
        track_record(plan),
    ]


def training_matrix(plan: StrategyPlan) -> Stage:
    """`<strategy>/training_matrix`: X, y, label interval and weight of the trailing weeks."""
    partitions = plan.market.partitions
    bars = plan.bars_input(-plan.train_weeks, -1)
    features = plan.feature_inputs(-plan.train_weeks, -1)

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        weeks = window(partitions, bars, key)
        if len(weeks) < plan.train_weeks:
            raise ValueError(
                f"`training.weeks` must lie inside the data of {plan.market.name}, which begin in week "
                f"{partitions.first_week}, was {plan.train_weeks} weeks before {key}; "
                f"the first week with a whole window is {_first_whole_week(plan)}."
            )
        matrix = build_matrix(
            _feature_frames(plan, inputs, weeks),
            bars=inputs["bars"].frame(weeks),
            target=plan.target,
            cutoff=partitions.week_begin(key),
            minimum_rows=plan.minimum_rows,
            weighting=plan.weighting,
        )
        hashes: dict[str, dict[str, str]] = {}
        for stage_input in (bars, *features):
            hashes |= inputs[stage_input.name].hashes(weeks)
        metadata = {
            "symbols": matrix["symbol"].n_unique(),
            "features": len(plan.all_features),
            "first_session": str(matrix["session"].min()),
            "last_label_end": str(matrix["label_end"].max()),
            "members_per_session": matrix.height / matrix["session"].n_unique(),
            "mean_target": float(matrix["target"].to_numpy().mean()),
        }
        return Content(matrix, inputs=hashes), metadata

    def recompute_features(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> pl.DataFrame:
        joined = join_features(_feature_frames(plan, inputs, window(partitions, bars, key)))
        return joined.filter(~pl.any_horizontal(pl.col(plan.all_features).is_nan()))

    def labels_end_before_week(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        late = content.frame.filter(pl.col("label_end") >= partitions.week_begin(key))
        shown = tuple(
            f"{row['symbol']} {row['session']} has label_end {row['label_end']}" for row in late.head(5).to_dicts()
        )
        return Finding(late.is_empty(), content.frame.height, shown)

    return Stage(
        asset=plan.asset("training_matrix"),
        description=(
            f"Training rows of the {plan.train_weeks} weeks before the week: features known at `ts`, "
            f"{plan.target.name} over {plan.target.horizon_bars} bars, `label_end` strictly before the week."
        ),
        kinds=frozenset({"polars", "parquet"}),
        partitions=partitions.weekly,
        inputs=(bars, *features),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            build_matrix,
            TARGETS[plan.target.name].encode,
            fields={
                "features": plan.feature_names,
                "target": [plan.target.name, plan.target.horizon_bars, dict(plan.target.params)],
                "training": [plan.train_weeks, plan.minimum_rows, plan.weighting],
            },
        ),
        checks=(
            replay_guard(
                recompute_features, compared=lambda content: content.frame.select(*KEY_COLUMNS, *plan.all_features)
            ),
            StageCheck(
                "labels_end_before_week",
                "Every training row's label ended before the week that the model serves.",
                labels_end_before_week,
                is_guard=True,
            ),
        ),
    )


def _feature_frames(plan: StrategyPlan, inputs: Mapping[str, Loaded], weeks: Sequence[str]) -> list[pl.DataFrame]:
    return [
        inputs[f"features_{group}"].frame(weeks).select(*KEY_COLUMNS, *names)
        for group, names in plan.feature_names.items()
    ]


def _first_whole_week(plan: StrategyPlan) -> str:
    partitions = plan.market.partitions
    keys = partitions.weeks_between(partitions.first_week, partitions.end or date.today())
    return keys[plan.train_weeks] if len(keys) > plan.train_weeks else "none yet"


def cv_results(plan: StrategyPlan) -> Stage:
    """`<strategy>/cv_results`: out-of-fold predictions and fold metrics."""
    matrix = StageInput("training_matrix", plan.asset("training_matrix"), guards=("replay",))

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        result = cross_validate(
            _single(inputs["training_matrix"], key).frame,
            learner=plan.learner,
            params=plan.params,
            splitter=plan.splitter,
            target=plan.target,
            weighting=plan.weighting,
            seed=plan.seed,
            n_jobs=FOLDS_AT_A_TIME,
        )
        metadata = {
            "folds": result.fold_metrics.height,
            "fit_s": perf_counter() - began,
            **result.metrics,
            "fold_metrics": dg.MetadataValue.md(_markdown_table(result.fold_metrics)),
        }
        content = Content(
            result.predictions,
            attachments={"fold_metrics.parquet": _parquet(result.fold_metrics)},
            inputs=inputs["training_matrix"].hashes([key]),
            facts={"metrics": result.metrics},
        )
        return content, metadata

    def latest_is_unique(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        latest = latest_predictions(content.frame)
        repeated = latest.filter(pl.struct("symbol", "ts").is_duplicated())
        leaked = content.frame.filter(pl.col("trained_until") >= pl.col("ts"))
        faults = [f"{row['symbol']} {row['ts']} is predicted twice" for row in repeated.head(2).to_dicts()]
        faults += [
            f"fold {row['fold']} predicts {row['symbol']} {row['ts']} but knew labels until {row['trained_until']}"
            for row in leaked.head(3).to_dicts()
        ]
        return Finding(not faults, content.frame.height, tuple(faults))

    return Stage(
        asset=plan.asset("cv_results"),
        description=(
            "Out-of-fold predictions by purged, embargoed walk-forward over sessions: each row is predicted by a model "
            "that knew only labels that had ended before it."
        ),
        kinds=frozenset({LEARNERS[plan.learner].family, "parquet"}),
        partitions=plan.market.partitions.weekly,
        inputs=(matrix,),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            cross_validate, PurgedWalkForward, *_learner_functions(plan), fields=_learner_fields(plan)
        ),
        checks=(
            StageCheck(
                "out_of_fold",
                "Every prediction was made by a model that knew no label ending at or after it; (symbol, ts) is unique "
                "in the latest-trained folds.",
                latest_is_unique,
                is_guard=True,
            ),
        ),
    )


def fitted_model(plan: StrategyPlan) -> Stage:
    """`<strategy>/fitted_model`: the model of a week, in its library's own format, with its card."""
    partitions = plan.market.partitions
    matrix = StageInput("training_matrix", plan.asset("training_matrix"), guards=("replay",))
    cross_validation = StageInput("cv_results", plan.asset("cv_results"), guards=("out_of_fold",))
    learner = LEARNERS[plan.learner]

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        train = _single(inputs["training_matrix"], key).frame
        estimator = fit_final(
            train,
            learner=plan.learner,
            params=plan.params,
            target=plan.target,
            seed=plan.seed,
            n_threads=1,
        )
        names = feature_names(train)
        importances = feature_importances(estimator, names)
        artifact = learner.save(estimator)
        metrics = _single(inputs["cv_results"], key).footer.facts["metrics"]
        card = pl.DataFrame(
            {
                "strategy": [plan.name],
                "week": [key],
                "learner": [plan.learner],
                "as_of": [partitions.week_begin(key)],
                "created_at": [run.now],
                "trained_until": [train["label_end"].max()],
                "n_rows": [train.height],
                "features": [",".join(names)],
                "classes": [",".join(plan.target.classes)],
            },
            schema_overrides={name: pl.Datetime("us", "UTC") for name in ("as_of", "created_at", "trained_until")},
        )
        content = Content(
            card,
            attachments={model_name(plan): artifact},
            inputs={**inputs["training_matrix"].hashes([key]), **inputs["cv_results"].hashes([key])},
            facts={
                "params": resolve_params(plan.learner, plan.params),
                "metrics": metrics,
                "importances": importances,
                "mlflow_run_id": run.tracked.get(key, ""),
            },
        )
        return content, _model_metadata(content, importances, seconds=perf_counter() - began)

    def serves_its_week(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        row = content.frame.row(0, named=True)
        is_past = row["trained_until"] < row["as_of"]
        fault = () if is_past else (f"trained until {row['trained_until']}, serves from {row['as_of']}",)
        return Finding(is_past, 1, fault)

    return Stage(
        asset=plan.asset("fitted_model"),
        description=(
            "The model that serves the week, fitted on the whole training matrix. The Parquet row is its card; the "
            "native artifact is attached and its sha256 checked before it is parsed."
        ),
        kinds=frozenset({LEARNERS[plan.learner].family, "mlflow"}),
        partitions=partitions.weekly,
        inputs=(matrix, cross_validation),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(fit_final, *_learner_functions(plan), fields=_learner_fields(plan)),
        checks=(
            StageCheck(
                "trained_before_week",
                "Every label the model learned from ended before the week it serves.",
                serves_its_week,
                is_guard=True,
            ),
        ),
        track=partial(_track_model, plan),
    )


def model_name(plan: StrategyPlan) -> str:
    """Name of the model's artifact among the attachments."""
    return f"model.{LEARNERS[plan.learner].extension}"


def _model_metadata(content: Content, importances: Mapping[str, float], *, seconds: float) -> dict[str, Any]:
    from hf_pipelines.research.plots import importances_png

    row = content.frame.row(0, named=True)
    (artifact,) = content.attachments.values()
    return {
        "train_rows": row["n_rows"],
        "fit_s": seconds,
        "artifact_kb": len(artifact) / 1024,
        "as_of": str(row["as_of"]),
        "trained_until": str(row["trained_until"]),
        "mlflow_run_id": content.facts["mlflow_run_id"],
        **_numeric(content.facts["metrics"]),
        "importances": _picture(importances_png(list(importances), list(importances.values()))),
    }


class _ModelTracker:
    """Logs a fitted model to its open tracker run."""

    def __init__(self, runs: Any, plan: StrategyPlan) -> None:
        self.partition_runs = runs
        self.runs = runs.runs
        self.plan = plan

    def log(self, partition: str, content: Content) -> None:
        digest = content.content_hash()
        (name,) = content.attachments
        row = content.frame.row(0, named=True)
        self.partition_runs.log(
            partition,
            params={"learner": self.plan.learner, **content.facts["params"]},  # type: ignore[dict-item]
            metrics=_numeric(content.facts["metrics"]),
            tags={
                "hf.content_hash": digest,
                "hf.artifact": name,
                "hf.as_of": row["as_of"].isoformat(),
                "hf.issued": row["created_at"].isoformat(),
                "hf.inputs": ",".join(each for hashes in content.inputs.values() for each in hashes.values()),
            },
        )


@contextmanager
def _track_model(plan: StrategyPlan, context: dg.AssetExecutionContext) -> Iterator[_ModelTracker]:
    run = context.run
    with context.resources.mlflow.partition_runs(
        experiment=plan.name,
        asset=plan.asset("fitted_model"),
        partitions=list(context.partition_keys),
        root_run_id=run.root_run_id or run.run_id,
    ) as runs:
        yield _ModelTracker(runs, plan)


def backtest(plan: StrategyPlan) -> Stage:
    """`<strategy>/backtest`: the out-of-fold predictions, traded."""
    partitions = plan.market.partitions
    cross_validation = StageInput("cv_results", plan.asset("cv_results"), guards=("out_of_fold",))
    bars = plan.bars_input(-plan.train_weeks, -1)

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        weeks = window(partitions, bars, key)
        predictions = latest_predictions(_single(inputs["cv_results"], key).frame)
        weights = apply_rule(predictions, rule=plan.rule, params=plan.rule_params)
        result = _trade(plan, weights, inputs["bars"].frame(weeks))
        content = Content(
            result.equity,
            attachments={
                "trades.parquet": _parquet(result.trades),
                "drawdowns.parquet": _parquet(result.drawdowns),
            },
            inputs={**inputs["cv_results"].hashes([key]), **inputs["bars"].hashes(weeks)},
            facts={"metrics": _numeric(result.metrics)},
        )
        return content, {**_backtest_metadata(result), "backtest_s": perf_counter() - began}

    return Stage(
        asset=plan.asset("backtest"),
        description=(
            "Account that follows the out-of-fold predictions: decided at the close, filled at the next bar, with costs. "
            "Equity by session; trades and drawdowns are attached."
        ),
        kinds=frozenset({"numba", "parquet"}),
        partitions=partitions.weekly,
        inputs=(cross_validation, bars),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            ENGINES[plan.engine].run, apply_rule, RULES[plan.rule].weigh, fields=_trading_fields(plan)
        ),
        checks=(
            StageCheck(
                "fills_after_decisions",
                "No trade is filled on or before the bar that decided it.",
                _fills_late,
                is_guard=True,
            ),
        ),
    )


def _trade(plan: StrategyPlan, weights: pl.DataFrame, bars: pl.DataFrame) -> BacktestResult:
    return ENGINES[plan.engine].run(
        weights,
        bars,
        plan.costs,
        periods_per_year=plan.market.periods_per_year,
        initial_cash=plan.initial_cash,
        fill=plan.fill,
    )


def _fills_late(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    trades = pl.read_parquet(io.BytesIO(content.attachments["trades.parquet"]))
    early = trades.filter(pl.col("session") <= pl.col("decision_session"))
    shown = tuple(
        f"{row['symbol']} decided {row['decision_session']}, filled {row['session']}"
        for row in early.head(5).to_dicts()
    )
    return Finding(early.is_empty(), trades.height, shown)


def _backtest_metadata(result: BacktestResult) -> dict[str, Any]:
    from hf_pipelines.research.plots import equity_png

    return {**_numeric(result.metrics), "equity": _picture(equity_png(result))}


def signals(plan: StrategyPlan) -> Stage:
    """`<strategy>/signals`: target weights of one session, one immutable issue a day."""
    partitions = plan.market.partitions
    features = plan.feature_inputs(0, 0)
    models = StageInput(
        "fitted_model",
        plan.asset("fitted_model"),
        first_week=-plan.max_model_age_weeks,
        guards=("trained_before_week",),
        is_optional=True,
    )

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        session = parse_key(key)
        partitions.require_session(session)
        model = _model_for(plan, inputs["fitted_model"], key)
        weights = _signal_frame(plan, inputs, key, model, now=run.now)
        week = week_of_key(key)
        hashes = inputs["fitted_model"].hashes([model.footer.partition])
        for each in features:
            hashes |= inputs[each.name].session_hash(week, key)
        taken = weights.filter(pl.col("weight") != 0.0)
        metadata = {
            "members": weights.height,
            "positions": taken.height,
            "gross_exposure": float(weights["weight"].abs().sum()),
            "net_exposure": float(weights["weight"].sum()),
            "issue_kind": weights["issue_kind"][0],
            "model_week": model.footer.partition,
            "preview": dg.MetadataValue.md(
                _markdown_table(weights.select("symbol", "weight", "prediction", "confidence"))
            ),
        }
        return Content(weights, inputs=hashes, facts={"schema_version": SIGNALS_SCHEMA_VERSION}), metadata

    def recompute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> pl.DataFrame:
        model = _model_for(plan, inputs["fitted_model"], key)
        return _comparable(_signal_frame(plan, inputs, key, model, now=run.now))

    def model_is_older(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        late = content.frame.filter(pl.col("model_as_of") > pl.col("as_of"))
        return Finding(
            late.is_empty(),
            content.frame.height,
            tuple(f"model as of {row['model_as_of']} decided {row['as_of']}" for row in late.head(1).to_dicts()),
        )

    return Stage(
        asset=plan.asset("signals"),
        description=(
            "Target weights decided at the session's close by the model of its week. Written once: a later recomputation "
            "is kept beside it with a table of differences. `issue_kind` is live if issued before the next open."
        ),
        kinds=frozenset({LEARNERS[plan.learner].family, "parquet"}),
        partitions=partitions.daily,
        inputs=(*features, models),
        compute=each_partition(compute, is_needed=lambda key: partitions.is_session(parse_key(key))),
        code_version=code_version(
            apply_rule,
            RULES[plan.rule].weigh,
            predict_frame,
            fields={"rule": [plan.rule, dict(plan.rule_params)], "max_model_age_weeks": plan.max_model_age_weeks},
        ),
        checks=(
            replay_guard(recompute, compared=lambda content: _comparable(content.frame)),
            StageCheck(
                "model_known_before", "The model's `as_of` is not after the decision.", model_is_older, is_guard=True
            ),
        ),
        is_issue=True,
    )


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
    plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str, model: Stored, *, now: datetime
) -> pl.DataFrame:
    session, week = parse_key(key), week_of_key(key)
    joined = join_features(
        [frame.filter(pl.col("session") == session) for frame in _feature_frames(plan, inputs, [week])]
    )
    if joined.is_empty():
        raise ValueError(
            f"`features` of {plan.market.name} must hold session {key}, had no row of it; materialise bars and features "
            f"of week {week} first."
        )
    members = joined.filter(~pl.any_horizontal(pl.col(plan.all_features).is_nan()))
    if members.is_empty():
        raise ValueError(
            f"`features` of {plan.market.name} must be complete for a symbol on {key}, were for none of {joined.height}; "
            "the longest lookback reaches before the first bar."
        )
    estimator = LEARNERS[plan.learner].load(inputs["fitted_model"].attachment(model.footer.partition, model_name(plan)))
    classes = [each for each in model.frame["classes"][0].split(",") if each]
    predictions = predict_frame(estimator, members, features=model.frame["features"][0].split(","), classes=classes)
    weights = apply_rule(predictions, rule=plan.rule, params=plan.rule_params)
    partitions = plan.market.partitions
    close = partitions.session_close(session)
    next_open = partitions.session_open(partitions.next_session(session))
    created = model.frame["created_at"][0]
    kind = issue_kind(now=now, decision=close, next_open=next_open, model_created_at=created)
    return (
        predictions.join(weights, on=KEY_COLUMNS, how="left")
        .select(*KEY_COLUMNS, "weight", "prediction", "confidence")
        .with_columns(
            model_version=pl.lit(model.footer.content_hash),
            model_as_of=pl.lit(model.frame["as_of"][0]),
            as_of=pl.lit(close).cast(pl.Datetime("us", "UTC")),
            created_at=pl.lit(now).cast(pl.Datetime("us", "UTC")),
            issue_kind=pl.lit(kind),
        )
        .sort("symbol")
    )


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
    return frame.select(*KEY_COLUMNS, "weight", "prediction", "confidence")


def track_record(plan: StrategyPlan) -> Stage:
    """`<strategy>/track_record`: the signals as issued, as they performed."""
    partitions = plan.market.partitions
    issued = StageInput(
        "signals", plan.asset("signals"), first_week=-plan.track_record_weeks, last_week=-1, is_optional=True
    )
    bars = plan.bars_input(-plan.track_record_weeks, -1)

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        weeks = window(partitions, bars, key)
        days = [day.isoformat() for week in weeks for day in partitions.sessions_of_week(week)]
        held = [day for day in days if day in inputs["signals"].parts]
        if not held:
            raise ValueError(
                f"`{plan.asset('signals')}` must hold an issue in the {plan.track_record_weeks} weeks before {key}, had none; "
                "materialise signals first."
            )
        signals_frame = inputs["signals"].frame(held)
        traded = [week for week in weeks if week >= week_of_key(held[0])]
        bars_frame = inputs["bars"].frame(traded)
        frames: list[pl.DataFrame] = []
        records: dict[str, dict[str, float]] = {}
        metadata: dict[str, Any] = {"issues": len(held)}
        for (kind,), of_kind in sorted(signals_frame.partition_by("issue_kind", as_dict=True).items()):
            result = _trade(plan, of_kind.select(*KEY_COLUMNS, "weight"), bars_frame)
            frames.append(result.equity.with_columns(record=pl.lit(kind)))
            records[kind] = _numeric(result.metrics)
            metadata |= {f"{kind}_{name}": value for name, value in _backtest_metadata(result).items()}
            metadata[f"{kind}_issues"] = of_kind["session"].n_unique()
        hashes = {**inputs["signals"].hashes(held), **inputs["bars"].hashes(traded)}
        return Content(pl.concat(frames), inputs=hashes, facts={"records": records}), metadata

    return Stage(
        asset=plan.asset("track_record"),
        description=(
            f"Account that followed the signals issued in the {plan.track_record_weeks} weeks before the week, live and "
            "backfilled issues apart: the point-in-time walk-forward, each day by the model of its week."
        ),
        kinds=frozenset({"numba", "parquet"}),
        partitions=partitions.weekly,
        inputs=(issued, bars),
        compute=each_partition(compute),
        code_version=code_version(ENGINES[plan.engine].run, fields=_trading_fields(plan)),
    )


def _single(loaded: Loaded, key: str) -> Stored:
    loaded.require([key])
    return loaded.parts[key]


def _learner_functions(plan: StrategyPlan) -> tuple[Any, ...]:
    learner = LEARNERS[plan.learner]
    return (learner.build, learner.save)


def _learner_fields(plan: StrategyPlan) -> dict[str, Any]:
    return {
        "learner": [plan.learner, resolve_params(plan.learner, plan.params), plan.seed],
        "splitter": str(plan.splitter),
        "weighting": plan.weighting,
    }


def _trading_fields(plan: StrategyPlan) -> dict[str, Any]:
    return {
        "rule": [plan.rule, dict(plan.rule_params)],
        "engine": [plan.engine, plan.fill, plan.initial_cash],
        "costs": str(plan.costs),
    }


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _numeric(metrics: Any) -> dict[str, float]:
    """Metrics as plain floats; undefined ones (NaN) are left out, never shown as a number."""
    return {name: float(value) for name, value in metrics.items() if value == value}


def _picture(png: bytes) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})")


def _markdown_table(frame: pl.DataFrame) -> str:
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * frame.width]
    for row in frame.iter_rows():
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
