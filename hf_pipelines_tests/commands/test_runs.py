"""Runs of `hfp materialise`: what a range says of the checks that failed in it."""

from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.commands import console
from hf_pipelines.commands.cli import main
from hf_pipelines.commands.runs import Pipeline, RunFailedError
from hf_pipelines.definitions import defs
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.project import PACKAGE_ROOT
from hf_pipelines_tests.conftest import FIRST_SESSION
from hf_pipelines_tests.pipeline import Project, files_market, session_bars, sessions_from

BARS = "small/bars"


def faulty(folder: Path, template: Path, days: list[str]) -> Project:
    """Bars of eight weeks; on each of `days` S001 has a negative volume."""
    bars = session_bars(sessions_from(FIRST_SESSION, 8), symbols=5, seed=5)
    is_faulty = (pl.col("symbol") == "S001") & pl.col("session").is_in([date.fromisoformat(day) for day in days])
    bars = bars.with_columns(volume=pl.when(is_faulty).then(-1.0).otherwise("volume"))
    market = files_market(folder / "source", bars, features=["temporal/day_of_week"])
    return Project(folder / "project", market, mlflow_template=template)


def pipeline_of(project: Project) -> Pipeline:
    return Pipeline(project.definitions, project.instance, project.store)


def said_of_rows(printed: str) -> str:
    """What is printed of `no_faulty_rows`; that the quarantined rows are missing is another check's, after it."""
    return printed.partition("WARN: ")[0]


def quarantined(week: str, day: str, n_rows: int = 30) -> str:
    """5 symbols and the benchmark on each session of the week."""
    return f"{week}: quarantined: 1 of {n_rows} symbol-sessions: S001 {day} negative volume; from {day}.parquet"


def test_run_over_a_range_prints_every_week_whose_check_failed(tmp_path, mlflow_template, capsys):
    project = faulty(tmp_path, mlflow_template, ["2012-01-10", "2012-01-26", "2012-01-31"])
    weeks = project.weeks
    pipeline_of(project).materialise([BARS], weeks[0], weeks[-1])
    assert said_of_rows(capsys.readouterr().err) == (
        f"ERROR: check no_faulty_rows of {BARS}: {quarantined('2012-01-08', '2012-01-10')}\n"
        f"    {quarantined('2012-01-22', '2012-01-26')}\n"
        f"    {quarantined('2012-01-29', '2012-01-31')}\n"
    )


def test_run_over_more_faulty_weeks_than_are_shown_says_how_many_more(tmp_path, mlflow_template, capsys):
    days = ["2012-01-04", "2012-01-11", "2012-01-18", "2012-01-25", "2012-02-01", "2012-02-08", "2012-02-15"]
    project = faulty(tmp_path, mlflow_template, days)
    weeks = project.weeks
    pipeline_of(project).materialise([BARS], weeks[0], weeks[-1])
    lines = said_of_rows(capsys.readouterr().err).splitlines()
    assert len(lines) == 5
    assert lines[-1].endswith(f"{quarantined('2012-01-29', '2012-02-01')}; and 2 more partition(s)")


def test_run_that_fails_prints_the_failing_checks_of_its_other_weeks(tmp_path, mlflow_template, capsys):
    project = faulty(tmp_path, mlflow_template, ["2012-01-10"])
    (tmp_path / "source" / "2012-01-25.parquet").write_bytes(b"half a file")
    weeks = project.weeks
    with pytest.raises(RunFailedError, match=r"was not published for 1 partition\(s\)"):
        pipeline_of(project).materialise([BARS], weeks[0], weeks[-1])
    assert said_of_rows(capsys.readouterr().err) == (
        f"ERROR: check no_faulty_rows of {BARS}: {quarantined('2012-01-08', '2012-01-10')}\n"
    )


def test_retrain_of_what_is_no_strategy_names_the_strategies(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    folders = sorted(each.parent.name for each in (PACKAGE_ROOT / "defs" / "strategies").glob("*/defs.yaml"))
    for name in ("nope", "us_tech"):
        assert main(["retrain", name, "--week", "2013-02-24"]) == 1
        assert capsys.readouterr().err == f"hfp: `strategy` must be one of {', '.join(folders)}, was {name!r}.\n"


def test_holes_of_signals_are_sessions_alone(tmp_path):
    pipeline = Pipeline(defs(), dg.DagsterInstance.ephemeral(), Storage(uri=str(tmp_path)).store())
    # Thursday and Friday, and Monday of the week after: the Sunday between can never be made.
    assert pipeline.holes("tech_direction/signals", ["2013-02-20", "2013-02-26"]) == [
        "2013-02-21",
        "2013-02-22",
        "2013-02-25",
    ]
    assert pipeline.holes("us_tech/bars", ["2013-02-03", "2013-02-24"]) == ["2013-02-10", "2013-02-17"]


def test_run_tells_on_stderr_how_far_it_is_and_a_quiet_one_does_not(tmp_path, mlflow_template, monkeypatch, capsys):
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    project = faulty(tmp_path, mlflow_template, [])
    weeks = project.weeks
    pipeline_of(project).materialise([BARS], weeks[0], weeks[2])
    told = [line for line in capsys.readouterr().err.splitlines() if " of 3, " in line]
    assert [line.split(", about")[0] for line in told if "of 3, small/bars" in line][:2] == [
        f"run of {BARS}: {at} of 3, {BARS} {week}" for at, week in enumerate(weeks[:2], start=1)
    ]
    console.set_quiet(True)
    try:
        pipeline_of(project).materialise([BARS], weeks[3], weeks[4])
    finally:
        console.set_quiet(False)
    assert capsys.readouterr().err == ""
