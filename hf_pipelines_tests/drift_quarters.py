"""Live quarters with known faults, through the asset `drift` and the watch: `make drift-quarters`.

Lives here: a store of a market, models and issues whose numbers are drawn, what is planted into them, and how it was told. What is upstream of the
asset is written, not fitted: a year of fits would say nothing more of drift. The short form is in `components/test_drift.py`.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
WITHIN = {LEVEL: 25, DEAD: 12, DECAYED: 45, VOLATILITY: 40}
# Columns that are changed.
PLANTED_INTO = {LEVEL: NAMES[1:2], DEAD: NAMES[1:2], VOLATILITY: NAMES[:4]}
# Sessions between two alarms by chance of a strategy, of all kinds together: a year.
NOMINAL_SESSIONS = 252
KINDS_OF_ALARMS = ("drift", "decay", "accuracy")
# Sessions after the end of a fault in which its window still holds most of it.
LINGERS = 10
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


# What becomes of the features of a week.
Change = Callable[[pl.DataFrame, str], pl.DataFrame]


def _as_is(frame: pl.DataFrame, week: str) -> pl.DataFrame:
    return frame


def make_plan(folder: Path, seed: int) -> tuple[StrategyPlan, pl.DataFrame]:
    """A strategy on a market of files that has so many weeks, and bars of it: quarters that shared them would tell the same by chance."""
    sessions = sessions_from(START, TRAINING_WEEKS + LIVE_WEEKS + 2)
    is_member = pl.col("symbol") != REFERENCE
    bars = session_bars(sessions, symbols=N_SYMBOLS, seed=1 + seed, has_events=False).with_columns(
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
    plan: StrategyPlan, bars: pl.DataFrame, store: PartitionStore, *, seed: int, planted: str, change: Change = _as_is
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
    _write_weeks(plan, bars, features, predicted, store, weeks, first_live, change)
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
    change: Change,
) -> None:
    asset = plan.market.features_asset("technical")
    in_week = pl.col("session").map_elements(week_key, return_dtype=pl.String)
    for name, frame, guards in ((plan.market.bars_asset, bars, ()), (asset, features, ("replay",))):
        for (week,), of_week in frame.with_columns(week=in_week).partition_by("week", as_dict=True).items():
            told = of_week.drop("week") if name != asset else change(of_week.drop("week"), str(week))
            content = Content(told.sort("symbol", "ts"), has_session_hashes=True)
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


def play(folder: Path, *, seed: int, planted: str, places: slice = slice(None), change: Change = _as_is) -> Quarter:
    """A quarter, or some sessions of it, session by session through the asset's own computation; features of a week as `change` has them."""
    plan, bars = make_plan(folder, seed)
    store = PartitionStore(ObjectStore(str(folder / "storage")))
    every = write_store(plan, bars, store, seed=seed, planted=planted, change=change)
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


@dataclass(frozen=True)
class Told:
    """What one quarter has told: sessions after its begin until an alarm stood and named the fault, after its end until that was resolved.

    Attributes
    ----------
    n_named : int
        Alarms that named the fault while it lasted.
    by_chance : tuple of str
        Alarms of any kind when there was no fault, with the session that raised each; of a quarter with one those before it.
    """

    planted: str
    n_named: int
    by_chance: tuple[str, ...]
    n_called: int
    n_sessions: int
    waited: int | None
    resolved: int | None

    @property
    def fault(self) -> str:
        """What does not hold, "" if all does."""
        if self.planted == NONE:
            return ""
        if self.waited is None or self.waited > WITHIN[self.planted]:
            return f"named after {self.waited}, must be within {WITHIN[self.planted]}"
        if self.n_named > 1:
            return f"named by {self.n_named} alarms"
        # One that stands when the quarter ends has had no more sessions than these.
        if (self.n_sessions - ENDS if self.resolved is None else self.resolved) > RESOLVED_WITHIN:
            return f"resolved after {self.resolved}, must be within {RESOLVED_WITHIN}"
        return ""


def told_of(quarter: Quarter, planted: str) -> Told:
    """What a quarter has told of what was planted into it."""
    n = len(quarter.sessions)
    until = n if planted == NONE else BEGINS
    by_chance = [f"{kind} {place}" for kind in KINDS_OF_ALARMS for place, _ in quarter.alarms(kind) if place < until]
    kind = "decay" if planted == DECAYED else "drift"
    own: list[tuple[int, int | None]] = []
    for raised, ended in quarter.alarms(kind):
        # One that chance had raised before goes on with what it is told of now.
        lasted = range(max(raised, until), n if ended is None else ended)
        first = next((place for place in lasted if _is_named(quarter, place, planted)), n)
        own += [(first, ended)] if first <= ENDS + LINGERS else []
    waited, over = (own[0][0] - BEGINS, own[0][1]) if own else (None, None)
    n_called = sum(each["called"][kind] is True for each in quarter.facts.values())
    resolved = None if over is None else max(over - ENDS, 0)
    return Told(planted, len(own), tuple(by_chance), n_called, n, waited, resolved)


def _is_named(quarter: Quarter, place: int, planted: str) -> bool:
    """Whether a session calls what was planted."""
    if planted == DECAYED:
        return True
    drifted = quarter.contents[quarter.sessions[place]].frame.filter(verdict="drifted")["column"]
    return bool({*drifted} & {*PLANTED_INTO[planted]})


def main() -> int:
    """Print a line a quarter, and a table; 1 if a limit does not hold."""
    n_seeds = int(os.environ.get("HF_DRIFT_SEEDS", "20"))
    began, every = process_time(), []
    print(
        f"{n_seeds} seeds, {N_SYMBOLS} symbols, {LIVE_WEEKS} weeks; faults from session {BEGINS} to {ENDS}", flush=True
    )
    for seed in range(n_seeds):
        for planted in PLANTED:
            with tempfile.TemporaryDirectory() as folder:
                told = told_of(play(Path(folder), seed=seed, planted=planted), planted)
            every.append(told)
            print(f"{seed:>3} {planted:<20} {told.fault or 'holds'}: {told}", flush=True)
    for line in table(every):
        print(line)
    print(f"{process_time() - began:.0f} CPU seconds")
    return int(any(each.fault for each in every) or is_above_nominal(every))


def is_above_nominal(every: Sequence[Told]) -> bool:
    """Whether quarters without a fault have more alarms than the nominal number of as many sessions."""
    quiet = [each for each in every if each.planted == NONE]
    return sum(len(each.by_chance) for each in quiet) > sum(each.n_sessions for each in quiet) / NOMINAL_SESSIONS


def table(every: Sequence[Told]) -> list[str]:
    """A line a fault, and what was raised without one beside the nominal number."""
    lines = [f"{'planted':<20}{'quarters':>9}{'named':>8}{'sessions until':>16}{'once':>6}{'resolved':>9}{'after':>16}{'called':>8}"]  # fmt: skip
    for planted in PLANTED:
        of = [each for each in every if each.planted == planted]
        waited = sorted(each.waited for each in of if each.waited is not None)
        after = sorted(each.resolved for each in of if each.resolved is not None)
        raised = sum(len(each.by_chance) for each in of) if planted == NONE else len(waited)
        called = sum(each.n_called for each in of) / max(sum(each.n_sessions for each in of), 1)
        shown = [f"{each[len(each) // 2]}, most {each[-1]}" if each else "" for each in (waited, after)]
        once = "" if planted == NONE else f"{sum(each.n_named == 1 for each in of)}"
        lines.append(f"{planted:<20}{len(of):>9}{raised:>8}{shown[0]:>16}{once:>6}{len(after):>9}{shown[1]:>16}{called:>8.1%}")  # fmt: skip
    quiet = [each for each in every if each.planted == NONE]
    n_sessions = sum(each.n_sessions for each in quiet)
    n, chance = sum(len(each.by_chance) for each in quiet), sorted(f for each in quiet for f in each.by_chance)
    lines.append(f"without a fault: {n} alarms in {n_sessions} sessions, nominal {n_sessions / NOMINAL_SESSIONS:.1f} ({', '.join(chance)})")  # fmt: skip
    before = [each for each in every if each.planted != NONE]
    lines.append(
        f"before a fault: {sum(len(each.by_chance) for each in before)} alarms in {BEGINS * len(before)} sessions"
    )
    return lines


if __name__ == "__main__":
    sys.exit(main())
