"""Stages through Dagster: the same content however a partition is computed, and each partition on its own feet."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.partitions import shift_week
from hf_pipelines.research.features import FEATURES
from hf_pipelines_tests.conftest import FIRST_SESSION, quick_features
from hf_pipelines_tests.pipeline import (
    RETRAINED,
    Project,
    files_market,
    ridge_strategy,
    session_bars,
    sessions_from,
    shipped_features,
    trees_strategy,
    write_sessions,
)

WEEKS = 17
MODEL_WEEKS = ("2012-03-25", "2012-04-08")
DAYS = ("2012-03-26", "2012-04-12")
SHARED_DAYS = ("2012-03-28", "2012-04-09", "2012-04-12")
STRATEGIES = ("ranking", "direction")


def _market(folder: Path) -> dict:
    # Five symbols, each listed eight sessions after the one before: the last in the middle of week six.
    bars = session_bars(sessions_from(FIRST_SESSION, WEEKS), symbols=5, seed=3, late_bars=8)
    # The second is halted for three weeks: its last six bars then reach further back than the weeks that a week reads.
    is_halted = (pl.col("symbol") == "S001") & pl.col("session").is_between(date(2012, 2, 21), date(2012, 3, 9))
    bars = bars.filter(~is_halted)
    return files_market(folder, bars, features=["quick", *shipped_features("temporal")])


def _strategies() -> list[dict]:
    return [ridge_strategy(), trees_strategy(features=["quick", "temporal/day_of_week"])]


@pytest.fixture(scope="module")
def ranged(tmp_path_factory, quick, mlflow_template) -> Project:
    """Every asset over a range of partitions in one run."""
    folder = tmp_path_factory.mktemp("ranged")
    project = Project(folder, _market(folder / "source"), _strategies(), mlflow_template=mlflow_template)
    weeks = project.weeks
    project.make(["small/bars", "small/features/quick", "small/features/temporal"], weeks[0], weeks[-1])
    for strategy in STRATEGIES:
        project.retrain(strategy, *MODEL_WEEKS)
        # The range holds two Sundays: they are left out, the sessions are issued.
        project.run(f"{strategy}/signals", *DAYS)
    return project


def _attachments(project: Project, strategy: str, week: str) -> dict[str, bytes]:
    footer = project.store.footer(f"{strategy}/fitted_model", week)
    return {name: project.store.read_attachment(footer, name) for name in footer.attachments}


def test_stages_computed_one_partition_at_a_time_from_the_last_to_the_first_hold_what_a_range_holds(
    ranged, tmp_path, mlflow_template
):
    alone = Project(tmp_path, ranged.market, _strategies(), mlflow_template=mlflow_template)
    # Backwards: whatever is computed, later weeks are already stored.
    for week in reversed(alone.weeks):
        alone.make("small/bars", week)
    for week in reversed(alone.weeks[4:]):
        alone.make(["small/features/quick", "small/features/temporal"], week)
    for week in reversed(alone.weeks[1:4]):
        alone.make(["small/features/quick", "small/features/temporal"], week)
    for strategy in STRATEGIES:
        for week in reversed(MODEL_WEEKS):
            alone.retrain(strategy, week)
        for day in reversed(SHARED_DAYS):
            alone.make(f"{strategy}/signals", day)

    compared = 0
    for asset in alone.code_versions:
        expected = ranged.hashes(asset)
        for key, found in alone.hashes(asset).items():
            assert found == expected[key], f"{asset} {key}"
            compared += 1
    assert compared == 17 + 2 * 16 + 2 * (len(RETRAINED) * len(MODEL_WEEKS) + len(SHARED_DAYS))
    for strategy in STRATEGIES:
        for week in MODEL_WEEKS:
            assert _attachments(alone, strategy, week) == _attachments(ranged, strategy, week)


def test_stages_in_a_fresh_process_and_store_hold_what_a_range_holds(ranged, tmp_path, mlflow_template):
    run = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            __name__,
            str(tmp_path),
            str(ranged.folder / "source"),
            str(mlflow_template),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert set(found) == set(ranged.code_versions) - {
        "small/features_report",
        "ranking/track_record",
        "direction/track_record",
        "ranking/full_validation",
        "direction/full_validation",
        "ranking/drift",
        "direction/drift",
        "ranking/report",
        "direction/report",
        "ranking/promotion",
        "direction/promotion",
    }
    for asset, hashes in found.items():
        expected = ranged.hashes(asset)
        assert hashes and all(expected[key] == each for key, each in hashes.items()), asset


def test_features_of_a_late_listing_are_the_same_alone_and_in_a_range(ranged):
    store = ranged.store
    bars = pl.concat([store.read("small/bars", week).frame for week in ranged.weeks])
    first = dict(bars.filter(pl.col("role") == "member").group_by("symbol").agg(pl.col("session").min()).iter_rows())
    sessions = sorted(set(bars["session"]))
    assert [sessions.index(first[symbol]) for symbol in sorted(first)] == [0, 8, 16, 24, 32]
    features = pl.concat([store.read("small/features/quick", week).frame for week in ranged.weeks])
    for symbol, day in first.items():
        own = features.filter(pl.col("symbol") == symbol).sort("ts")
        assert own["session"][0] == day
        # Six bars for the change over five: five values are unknown.
        assert own["quick_roc_5"].is_nan().to_list()[:7] == [True] * 5 + [False] * 2


def test_features_after_a_halt_are_unknown_until_their_own_weeks_hold_the_window(ranged):
    weeks = [week for week in ranged.weeks if week >= "2012-03-11"]
    features = pl.concat([ranged.store.read("small/features/quick", week).frame for week in weeks])
    halted = features.filter(pl.col("symbol") == "S001").sort("ts")
    assert halted["session"][0] == date(2012, 3, 12)
    assert halted["quick_roc_5"].is_nan().to_list()[:7] == [True] * 5 + [False] * 2


def test_stage_over_a_range_publishes_sound_partitions_and_names_the_others(tmp_path, quick, mlflow_template):
    bars = session_bars(sessions_from(FIRST_SESSION, 6), symbols=3, seed=5)
    market = files_market(tmp_path / "source", bars, features=["quick"])
    project = Project(tmp_path, market, mlflow_template=mlflow_template)
    weeks = project.weeks
    broken = bars.filter(pl.col("session") == pl.lit("2012-01-18").str.to_date()).drop("close")
    broken.write_parquet(tmp_path / "source" / "2012-01-18.parquet")

    run = project.run("small/bars", weeks[0], weeks[-1])

    assert not run.success
    assert set(run.materialised["small/bars"]) == set(weeks) - {"2012-01-15"}
    assert project.store.partitions("small/bars") == [week for week in weeks if week != "2012-01-15"]
    assert "was not published for 1 partition(s)" in run.message and "missing columns close" in run.message

    # Its readers fail for the weeks that reach back to it, and name the command; the others are made.
    features = project.run("small/features/quick", weeks[0], weeks[-1])
    missing = "hfp materialise small/bars --from 2012-01-15 --to 2012-01-15"
    assert not features.success and missing in features.message
    reach = {week for week in weeks if shift_week(week, -3) <= "2012-01-15" <= week}
    assert project.store.partitions("small/features/quick") == sorted(set(weeks) - reach)

    # The file is mended: the same range, and nothing is out of date.
    write_sessions(tmp_path / "source", bars)
    project.make(["small/bars", "small/features/quick"], weeks[0], weeks[-1])
    assert project.out_of_date() == {} and project.store.partitions("small/features/quick") == weeks


def test_stage_metadata_of_each_partition_is_recorded_for_the_ui(ranged):
    run = ranged.make("small/bars", "2012-02-05", "2012-02-12")
    noted = run.materialised["small/bars"]
    assert {key: (note["rows"], note["sessions"], note["outcome"]) for key, note in noted.items()} == {
        # The fourth symbol is listed on 7 February (session 24), the fifth on the 17th (session 32).
        "2012-02-05": (24, 5, "unchanged"),
        "2012-02-12": (26, 5, "unchanged"),
    }
    assert (
        noted["2012-02-05"]["content_hash"].replace(" ", "")
        == ranged.store.footer("small/bars", "2012-02-05").content_hash
    )


def _in_a_fresh_process(folder: Path, source: Path, mlflow_template: Path) -> None:
    FEATURES.update({feature.name: feature for feature in quick_features()})
    market = {**_market(folder / "unused"), "source": {"type": "files", "uri": str(source)}}
    project = Project(folder, market, _strategies(), mlflow_template=mlflow_template)
    week = MODEL_WEEKS[-1]
    # Only what the week needs.
    project.make("small/bars", shift_week(week, -13), week)
    project.make(["small/features/quick", "small/features/temporal"], shift_week(week, -10), week)
    for strategy in STRATEGIES:
        project.make([f"{strategy}/{stage}" for stage in RETRAINED], week)
        project.make(f"{strategy}/signals", SHARED_DAYS[-1])
    hashes = {asset: project.hashes(asset) for asset in project.code_versions}
    print(json.dumps({asset: found for asset, found in hashes.items() if found}))


if __name__ == "__main__":
    _in_a_fresh_process(*(Path(argument) for argument in sys.argv[1:]))
