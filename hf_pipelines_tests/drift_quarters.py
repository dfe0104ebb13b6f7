"""Live quarters with known faults, through the asset `drift` and the watch: `make drift-quarters`.

Lives here: a store of a market, models and issues whose numbers are drawn, what is planted into them, and how it was told. What is upstream of the
asset is written, not fitted: a year of fits would say nothing more of drift. The short form is in `components/test_drift.py`.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import polars as pl
import yaml

from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy import Strategy
from hf_pipelines.components.strategy_stages.drift import drift
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.partitions import week_key
from hf_pipelines.research.signals import ISSUE_COLUMNS
from hf_pipelines.research.targets import build_labels
from hf_pipelines.resources.footer import Stamp, Verdict
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import load_partitions
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.drift_series import drawn_series
from hf_pipelines_tests.pipeline import TIMEZONE, market_of, ridge_strategy, session_bars, sessions_from
from hf_pipelines_tests.sample_bars import REFERENCE

NAMES = ("roc_5", "candle_body", "overnight_gap", "bar_range", "candle_upper_shadow", "candle_lower_shadow")
# How persistent each is: what is alike over weeks cannot be judged by a year.
KINDS = ("AR 0.5", "iid", "iid", "GARCH", "AR 0.5", "iid")
FEATURES = [f"technical/{name}" for name in NAMES]

START = date(2011, 1, 2)
TRAINING_WEEKS, LIVE_WEEKS = 78, 22
N_SYMBOLS = 12

# Sessions after the first live one at which a fault begins and ends; then two windows more.
BEGINS, ENDS = 20, 65

NONE, LEVEL, DEAD, DECAYED, VOLATILITY = "none", "level shift", "dead column", "decayed signal", "doubled volatility"
PLANTED = (NONE, LEVEL, DEAD, DECAYED, VOLATILITY)

# Coefficient of a prediction and what comes.
SKILL = 0.35

# Sessions within which a fault must be raised, by what it is.
WITHIN = {LEVEL: 25, DEAD: 12, DECAYED: 45, VOLATILITY: 25}
# Sessions after its end within which it must be resolved.
RESOLVED_WITHIN = 60


@dataclass(frozen=True)
class Quarter:
    """What a quarter has told.

    Attributes
    ----------
    sessions : list of date
    store : PartitionStore
        With all but the asset's own partitions.
    contents : mapping of session to Content
        Of the asset.
    """

    sessions: list[date]
    planted_on: date
    store: PartitionStore
    contents: Mapping[date, Content]

    @property
    def facts(self) -> dict[date, Mapping[str, Any]]:
        return {day: each.facts for day, each in self.contents.items()}

    def publish(self, day: date) -> None:
        """Publish what the asset says of a session."""
        self.write(day.isoformat(), self.contents[day])

    def write(self, key: str, content: Content) -> None:
        """Publish something else of a session."""
        publish(self.store, "ranking/drift", key, content)

    def alarms(self, kind: str) -> list[tuple[int, int | None]]:
        """Places at which alarms of a kind were raised, and at which they were over; None: they stand."""
        found: list[tuple[int, int | None]] = []
        for place, day in enumerate(self.sessions):
            stands = self.facts[day]["standing"][kind]["is_raised"]
            if stands and (not found or found[-1][1] is not None):
                found.append((place, None))
            elif not stands and found and found[-1][1] is None:
                found[-1] = (found[-1][0], place)
        return found


def make_plan(folder: Path) -> tuple[StrategyPlan, pl.DataFrame]:
    """A strategy on a market of files that has so many weeks, and bars of it."""
    sessions = sessions_from(START, TRAINING_WEEKS + LIVE_WEEKS + 2)
    is_member = pl.col("symbol") != REFERENCE
    bars = session_bars(sessions, symbols=N_SYMBOLS, seed=1, has_events=False).with_columns(
        role=pl.when(is_member).then(pl.lit("member")).otherwise(pl.lit("reference"))
    )
    members = sorted({*bars["symbol"]} - {REFERENCE})
    market = {
        "name": "small",
        "universe": [{"symbol": each, "since": str(sessions[0])} for each in members],
        "benchmark": REFERENCE,
        "calendar": "XNYS",
        "timezone": TIMEZONE,
        "source": {"type": "files", "uri": str(folder / "source")},
        "start": str(sessions[0]),
        "end": str(sessions[-1]),
        "features": FEATURES,
    }
    strategy = ridge_strategy(features=FEATURES, training={"weeks": TRAINING_WEEKS, "minimum_rows": 40})
    return Strategy.resolve_from_yaml(yaml.safe_dump(strategy)).plan(market_of(market)), bars


def write_store(
    plan: StrategyPlan, bars: pl.DataFrame, store: PartitionStore, *, seed: int, planted: str
) -> list[date]:
    """Write bars, features, cross-validation, models and issues; returns the live sessions."""
    rng = np.random.default_rng([seed, PLANTED.index(planted)])
    sessions = bars["session"].unique().sort().to_list()
    weeks = sorted({week_key(day) for day in sessions})
    first_live = next(day for day in sessions if week_key(day) == weeks[TRAINING_WEEKS])
    live = [day for day in sessions if day >= first_live][: -plan.target.horizon_bars - 1]
    faulty = live[BEGINS:ENDS]
    rows = bars.filter(pl.col("role") == "member").select("symbol", "session", "ts").sort("session", "symbol")
    n_sessions = rows["session"].n_unique()
    is_faulty = rows["session"].is_in(faulty).to_numpy()
    columns: dict[str, np.ndarray] = {}
    for name, kind in zip(NAMES, KINDS, strict=True):
        common, own = drawn_series(rng, kind, (n_sessions, 1)), drawn_series(rng, kind, (n_sessions, N_SYMBOLS))
        columns[name] = (np.sqrt(0.3) * common + np.sqrt(0.7) * own).ravel()
    if planted == LEVEL:
        columns[NAMES[1]] = columns[NAMES[1]] + 1.5 * is_faulty
    if planted == DEAD:
        columns[NAMES[1]] = np.where(is_faulty, np.nan, columns[NAMES[1]])
    if planted == VOLATILITY:
        for name in NAMES[:4]:
            columns[name] = np.where(is_faulty, 2.0 * columns[name], columns[name])
    features = rows.with_columns(pl.Series(name, values, dtype=pl.Float32) for name, values in columns.items())
    labels = build_labels(bars.filter(pl.col("role") == "member"), plan.target).sort("session", "symbol")
    scored = rows.join(labels, on=["symbol", "session", "ts"], how="left", maintain_order="left")
    y = scored["y"].to_numpy()
    known = y / np.nanstd(y)
    skill = np.where(is_faulty & (planted == DECAYED), 0.0, SKILL)
    said = 0.01 * (skill * np.nan_to_num(known) + np.sqrt(1.0 - SKILL**2) * rng.standard_normal(len(y)))
    if planted == DEAD:
        said = np.where(is_faulty, np.nan, said)
    predicted = scored.with_columns(prediction=pl.Series(said), confidence=pl.lit(0.5))
    _write_weeks(plan, bars, features, predicted, store, weeks, first_live)
    for day in live:
        _write_issue(plan, predicted.filter(session=day), store, day)
    return live


def publish(store: PartitionStore, asset: str, key: str, content: Content, *guards: str) -> str:
    verdicts = {name: Verdict(True, content.content_hash(), 1, ()) for name in guards}
    stamp = Stamp("drawn", "drawn", datetime(2011, 1, 1, tzinfo=UTC).isoformat())
    return store.publish(asset, key, content, stamp, verdicts=verdicts).footer.content_hash


def _write_weeks(
    plan: StrategyPlan,
    bars: pl.DataFrame,
    features: pl.DataFrame,
    predicted: pl.DataFrame,
    store: PartitionStore,
    weeks: Sequence[str],
    first_live: date,
) -> None:
    asset = plan.market.features_asset("technical")
    in_week = pl.col("session").map_elements(week_key, return_dtype=pl.String)
    for name, frame, guards in ((plan.market.bars_asset, bars, ()), (asset, features, ("replay",))):
        for (week,), of_week in frame.with_columns(week=in_week).partition_by("week", as_dict=True).items():
            content = Content(of_week.drop("week").sort("symbol", "ts"), has_session_hashes=True)
            publish(store, name, str(week), content, *guards)
    trained = predicted.filter(pl.col("session") < first_live, pl.col("y").is_not_null())
    out_of_fold = trained.with_columns(fold=pl.lit(0, dtype=pl.Int32), trained_until=pl.col("ts") - timedelta(days=365))
    for week in weeks[TRAINING_WEEKS:]:
        begins = plan.market.partitions.week_begin(week)
        results = publish(
            store, plan.asset("cv_results"), week, Content(out_of_fold, facts={"label_sessions": 2}), "out_of_fold"
        )
        until = bars.filter(pl.col("ts") < begins)["ts"].max()
        card = pl.DataFrame(
            {"as_of": [begins], "created_at": [begins], "trained_until": [until], "features": [",".join(NAMES)]}
        )
        inputs = {plan.asset("cv_results"): {week: results}}
        publish(store, plan.asset("fitted_model"), week, Content(card, inputs=inputs), "trained_before_week")


def _write_issue(plan: StrategyPlan, rows: pl.DataFrame, store: PartitionStore, day: date) -> None:
    week = week_key(day)
    place = pl.col("prediction").fill_nan(None).rank()
    weight = ((place == place.max()).cast(pl.Float64) - (place == place.min()).cast(pl.Float64)).fill_null(0.0) / 2.0
    issue = rows.with_columns(weight=weight, issue_kind=pl.lit("live")).select(
        (pl.col(name) if name in (*rows.columns, "weight", "issue_kind") else pl.lit(None)).cast(kind).alias(name)
        for name, kind in ISSUE_COLUMNS.items()
    )
    model = store.footer(plan.asset("fitted_model"), week)
    assert model is not None
    facts = {"schema_version": 3, "promotion": {"is_gated": False, "model_week": week}}
    inputs = {plan.asset("fitted_model"): {week: model.content_hash}}
    publish(store, plan.asset("signals"), day.isoformat(), Content(issue, inputs=inputs, facts=facts))


def play(folder: Path, *, seed: int, planted: str, places: slice = slice(None)) -> Quarter:
    """A quarter, or some sessions of it, session by session through the asset's own computation."""
    plan, bars = make_plan(folder)
    store = PartitionStore(ObjectStore(str(folder / "storage")))
    every = write_store(plan, bars, store, seed=seed, planted=planted)
    live = every[places]
    stage = drift(plan)
    keys = tuple(day.isoformat() for day in live)
    signals = load_partitions(
        store, plan.asset("signals"), keys, facts=stage.inputs[0].asset_in().metadata or {}, tags={}
    )
    run = StageRun(keys, datetime(2013, 1, 1, tzinfo=UTC), logging.getLogger("drift"), store=store)
    made = stage.compute(run, {"signals": signals})
    assert not made.failures, made.failures
    return Quarter(live, every[BEGINS], store, {day: made.contents[day.isoformat()] for day in live})


def main() -> int:
    """Print a line a fault; 1 if a limit does not hold."""
    n_seeds = int(os.environ.get("HF_DRIFT_SEEDS", "20"))
    began, faults = process_time(), []
    print(f"{n_seeds} seeds, {N_SYMBOLS} symbols, faults from session {BEGINS} to {ENDS} of {LIVE_WEEKS} weeks")
    for planted in PLANTED:
        quarters = []
        for seed in range(n_seeds):
            with tempfile.TemporaryDirectory() as folder:
                quarters.append(play(Path(folder), seed=seed, planted=planted))
        if planted == NONE:
            n = {kind: sum(len(each.alarms(kind)) for each in quarters) for kind in ("drift", "decay", "accuracy")}
            days = sum(len(each.sessions) for each in quarters)
            called = (
                sum(each.facts[day]["called"]["drift"] is True for each in quarters for day in each.sessions)
                if days
                else 0
            )
            print(
                f"none planted: {n} alarms in {n_seeds} quarters; drift called on {called / days:.1%} of {days} days",
                flush=True,
            )
            if called / days > 0.1:
                faults.append(f"none planted: called on {called / days:.1%} of days")
            continue
        kind = "decay" if planted == DECAYED else "drift"
        waited, once, over = [], 0, []
        for each in quarters:
            found = [alarm for alarm in each.alarms(kind) if alarm[0] >= BEGINS]
            if found:
                waited.append(found[0][0] - BEGINS)
                over.append(None if found[0][1] is None else found[0][1] - ENDS)
            once += len(found) == 1
        told = sorted(waited)
        ended = sorted(each for each in over if each is not None)
        print(
            f"{planted}: raised in {len(waited)} of {n_seeds}, after {told} sessions; once in {once}; resolved {ended} sessions after its end",
            flush=True,
        )
        late = [each for each in waited if each > WITHIN[planted]]
        if len(waited) < n_seeds or late:
            faults.append(
                f"{planted}: raised in {len(waited)} of {n_seeds}, later than {WITHIN[planted]} sessions in {len(late)}"
            )
    print(f"{process_time() - began:.0f} CPU seconds")
    for fault in faults:
        print(f"LIMIT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
