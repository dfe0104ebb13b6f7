"""The report of a large strategy: seconds, memory and bytes, for 500 symbols over ten years by default.

A market and a strategy are laid into a store in a temporary folder: bars, out-of-fold predictions, the account that follows them by the stage
that makes it, a validation. Then, in a process of its own, what `<strategy>/report` does: reading the week, judging its gates (which decide the
week's weights again and keep three accounts of them), and making the page. Prints seconds and CPU seconds of both parts, the peak of memory, and the
bytes of the page; exits 1 if the page takes more than `LIMIT_S` CPU seconds or has more than `LIMIT_BYTES`.

    PYTHONPATH=. python benchmarks/bench_report.py [symbols [years]]
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages import StrategyPlan, build_stages
from hf_pipelines.components.strategy_stages.decided_weights import stored_inputs
from hf_pipelines.components.strategy_stages.report import REQUIRED, week_results
from hf_pipelines.partitions import shift_week
from hf_pipelines.research.report.making import make_page, numbers_of
from hf_pipelines.research.report.results import WeekResults
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.footer import Stamp, Verdict
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.report_files import page_files
from hf_pipelines_tests.pipeline import Project, ridge_strategy, session_bars, sessions_from
from hf_pipelines_tests.report_results import VALIDATED, results_of, tests_of
from hf_pipelines_tests.sample_bars import REFERENCE

LIMIT_S, LIMIT_BYTES = 5.0, 2_000_000

START, WEEKS_A_YEAR, FOLDS = date(2010, 1, 4), 52, 5
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = Stamp("bench", "bench", NOW.isoformat())


def project_of(folder: Path, symbols: int, years: int) -> Project:
    """The market and the strategy, without their data."""
    sessions = sessions_from(START, years * WEEKS_A_YEAR)
    market = {
        "name": "small",
        "universe": [{"symbol": f"S{at:03d}", "since": str(sessions[0])} for at in range(symbols)],
        "benchmark": REFERENCE,
        "calendar": "XNYS",
        "timezone": "America/New_York",
        "source": {"type": "files", "uri": str(folder / "files")},
        "start": str(sessions[0]),
        "end": str(sessions[-1]),
        "features": ["technical/roc_5"],
    }
    weeks = years * WEEKS_A_YEAR - 1
    strategy = ridge_strategy(
        features=["technical"],
        training={"weeks": weeks, "minimum_rows": 40},
        signal={"type": "rank_long_short", "params": {"n_long": symbols // 10, "n_short": symbols // 10}},
    )
    return Project(folder, market, [strategy])


def lay_out(project: Project, plan: StrategyPlan, symbols: int, years: int) -> str:
    """Store what a report reads; returns its week."""
    store, sessions = project.store, sessions_from(START, years * WEEKS_A_YEAR)
    bars = session_bars(sessions, symbols=symbols)
    roles = pl.when(pl.col("symbol") == REFERENCE).then(pl.lit("reference")).otherwise(pl.lit("member"))
    bars = bars.with_columns(role=roles).sort("symbol", "ts")
    keys = project.weeks
    for key in keys:
        of_week = bars.filter(
            pl.col("session").is_between(date.fromisoformat(key), date.fromisoformat(shift_week(key, 1)), closed="left")
        )
        store.publish(plan.market.bars_asset, key, Content(of_week, has_session_hashes=True), STAMP, kind="bars")
    week = keys[-1]
    members = bars.filter(role="member", session=pl.col("session")).filter(pl.col("session") < date.fromisoformat(week))
    rng = np.random.default_rng(0)
    target = members.select(pl.col("close").shift(-2).over("symbol") / pl.col("close") - 1.0).to_series()
    n = members.height
    place = members["session"].rank("dense").to_numpy()
    predictions = members.select("symbol", "session", "ts").with_columns(
        fold=pl.Series(np.minimum(place * FOLDS // (place.max() + 1), FOLDS - 1), dtype=pl.Int32),
        trained_until=pl.lit(datetime(2009, 12, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC")),
        prediction=target.fill_null(0.0) * 0.02 + pl.Series(rng.normal(0.0, 0.02, n)),
        confidence=pl.Series(rng.random(n)),
        y=target,
        target=target,
    )
    publish(store, plan, "cv_results", week, scored(predictions, symbols))
    publish(store, plan, "backtest", week, account_of(plan, store, week))
    names = tuple(f"S{at:03d}" for at in range(symbols))
    publish(store, plan, "validation", week, Content(tests_of(names), facts=VALIDATED))
    return week


def account_of(plan: StrategyPlan, store: PartitionStore, week: str) -> Content:
    """The account, by the stage that makes it."""
    stage = _stage(plan, "backtest")
    run = StageRun((week,), NOW, logging.getLogger("bench"), store=store, code_version="bench")
    found = stage.compute(run, stored_inputs(plan, store, week))
    return found.contents[week]


def scored(predictions: pl.DataFrame, symbols: int) -> Content:
    """Predictions with scores and importances of made-up results."""
    part = results_of(texts=tuple(f"f{at}" for at in range(min(symbols, 200)))).parts["cv_results"]
    attached = {}
    for name, table in part.tables.items():
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        attached[f"{name}.parquet"] = buffer.getvalue()
    return Content(predictions, attachments=attached, facts={"verdict": "Made up.", "label_sessions": 2, "metrics": {}})


def publish(store: PartitionStore, plan: StrategyPlan, stage: str, week: str, content: Content) -> None:
    digest = content.content_hash()
    guards = {"cv_results": "out_of_fold", "backtest": "fills_after_decisions"}
    verdicts = (
        {guards[stage]: Verdict(passed=True, content_hash=digest, n_compared=1, findings=())} if stage in guards else {}
    )
    store.publish(plan.asset(stage), week, content, STAMP, verdicts=verdicts, kind=stage)


def _stage(plan: StrategyPlan, name: str) -> Stage:
    return next(each for each in build_stages(plan) if each.asset == plan.asset(name))


def gathering(project: Project) -> Callable[[], WeekResults]:
    """What gathers the results of the week, whose own parts are read."""
    plan, store = project.pipeline.strategy("ranking"), PartitionStore(ObjectStore(str(project.folder / "storage")))
    week = project.weeks[-1]
    inputs = {
        name: Loaded(plan.asset(name), {week: store.read(plan.asset(name), week)}, store)
        for name in (*REQUIRED, "validation")
    }
    return partial(week_results, plan, store, week, inputs, checker=CurrencyChecker(store, {}), now=NOW)


def page_of(project: Project) -> bytes:
    """The page of the week that was laid out."""
    return make_page(gathering(project)(), page_files()).html


def measure(folder: Path, symbols: int, years: int) -> dict[str, Any]:
    """What a report takes, in this process."""
    gather = gathering(project_of(folder, symbols, years))
    before = peak_mb()
    clocks = [(time.perf_counter(), time.process_time())]
    results = gather()
    clocks.append((time.perf_counter(), time.process_time()))
    page = make_page(results, page_files())
    numbers_of(page)
    clocks.append((time.perf_counter(), time.process_time()))
    return {
        "gather_s": clocks[1][0] - clocks[0][0],
        "gather_cpu": clocks[1][1] - clocks[0][1],
        "page_s": clocks[2][0] - clocks[1][0],
        "page_cpu": clocks[2][1] - clocks[1][1],
        "before_mb": before,
        "peak_mb": peak_mb(),
        "rows": results.parts["cv_results"].frame.height,
        "bytes": len(page.html),
    }


def peak_mb() -> float:
    """The most memory that this process has had; `getrusage` tells that of the one that started it too."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(lines["VmHWM"].split()[0]) / 1024


def main() -> int:
    """Lay out, measure, compare with the limits."""
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
        return 0
    symbols, years = int((sys.argv[1:2] or ["500"])[0]), int((sys.argv[2:3] or ["10"])[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = project_of(folder, symbols, years)
        lay_out(project, project.pipeline.strategy("ranking"), symbols, years)
        command = [sys.executable, "-W", "ignore", __file__, "--measure", str(folder), str(symbols), str(years)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"{symbols} symbols, {years} years, {found['rows']:,} predictions")
    print(f"reading and judging: {found['gather_s']:.1f} s, {found['gather_cpu']:.1f} CPU s")
    print(f"page: {found['page_s']:.1f} s, {found['page_cpu']:.1f} CPU s, {found['bytes']:,} bytes")
    print(f"memory: {found['before_mb']:,.0f} MB when the week is read, {found['peak_mb']:,.0f} MB at most")
    is_held = found["page_cpu"] <= LIMIT_S and found["bytes"] <= LIMIT_BYTES
    return 0 if is_held else 1


if __name__ == "__main__":
    sys.exit(main())
