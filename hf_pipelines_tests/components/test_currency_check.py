"""Currency through Dagster: what is out of date, exactly, and the check that says so in the UI."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.partitions import shift_week
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines_tests.conftest import FIRST_SESSION
from hf_pipelines_tests.pipeline import RETRAINED, Project, files_market, ridge_strategy, session_bars, sessions_from

WEEKS = 110
TRAIN_WEEKS = 104
BARS, FEATURES = "small/bars", "small/features/quick"


@pytest.fixture(scope="module")
def long_project(tmp_path_factory, quick, mlflow_template) -> Project:
    """Two symbols over 110 weeks with models of two years."""
    folder = tmp_path_factory.mktemp("long")
    bars = session_bars(sessions_from(FIRST_SESSION, WEEKS), symbols=2, seed=9)
    market = files_market(folder / "source", bars, features=["quick"])
    strategy = ridge_strategy(training={"weeks": TRAIN_WEEKS, "minimum_rows": 100})
    project = Project(folder, market, [strategy], mlflow_template=mlflow_template)
    weeks = project.weeks
    project.make([BARS, FEATURES], weeks[0], weeks[-1])
    for number in (104, 106, 108):
        project.retrain("ranking", weeks[number])
    project.make("ranking/signals", sessions_of(project, weeks[104])[0])
    project.make("ranking/signals", sessions_of(project, weeks[108])[0])
    return project


def sessions_of(project: Project, week: str) -> list[str]:
    return [day.isoformat() for day in project.partitions.sessions_of_week(week)]


def judged_by(project: Project, week: str) -> list[str]:
    """The week and the ten after it: 44 sessions, with two holidays among those of ten weeks."""
    return [shift_week(week, offset) for offset in range(11)]


@pytest.fixture
def revised(long_project: Project, tmp_path: Path) -> Iterator[tuple[Project, str]]:
    """A copy in which the bars of week 5, 100 weeks before the model of week 105, were corrected and read again."""
    project = long_project.copy(tmp_path / "project")
    week = project.weeks[4]
    day = sessions_of(project, week)[1]
    source = Path(project.market["source"]["uri"]) / f"{day}.parquet"
    original = source.read_bytes()
    pl.read_parquet(source).with_columns(high=pl.col("high") * 1.5, close=pl.col("high") * 1.4).write_parquet(source)
    try:
        yield project, week
    finally:
        source.write_bytes(original)


def test_is_current_after_a_range_and_an_identical_single_run_finds_nothing_out_of_date(long_project):
    hashes = {asset: long_project.hashes(asset) for asset in long_project.code_versions}
    assert sum(map(len, hashes.values())) == 110 + 110 + 3 * len(RETRAINED) + 2
    assert long_project.out_of_date() == {}

    week = long_project.weeks[60]
    run = long_project.make([BARS, FEATURES], week)

    assert [run.materialised[asset][week]["outcome"] for asset in (BARS, FEATURES)] == ["unchanged", "unchanged"]
    assert {asset: long_project.hashes(asset) for asset in long_project.code_versions} == hashes
    assert long_project.out_of_date() == {}
    assert long_project.store.versions(BARS, week) == []


def test_is_current_after_a_source_file_changed_names_its_week_and_what_was_made_of_it(revised):
    project, week = revised
    reasons = project.out_of_date()
    day = sessions_of(project, week)[1]
    assert reasons[f"{BARS} {week}"] == f"source files added, changed or gone: {day}.parquet"
    # Nothing was read again yet, and yet all that stands on it is known to be out of date.
    assert {name.split(" ")[0] for name in reasons} >= {FEATURES, "ranking/training_matrix", "ranking/signals"}
    # And the weeks that are judged by its bars.
    assert set(project.out_of_date(BARS)) == {f"{BARS} {each}" for each in judged_by(project, week)}


def test_is_current_after_a_revision_100_weeks_back_finds_exactly_the_matrices_that_read_it(revised):
    project, week = revised
    weeks = project.weeks
    before = project.hashes(BARS)
    run = project.make(BARS, week, judged_by(project, week)[-1])
    outcomes = {key: each["outcome"] for key, each in run.materialised[BARS].items()}
    assert outcomes == {week: "changed", **dict.fromkeys(judged_by(project, week)[1:], "unchanged")}

    # The longest window of the group has six bars: two weeks and one to spare are read.
    features = [shift_week(week, offset) for offset in range(4)]
    reasons = project.out_of_date()
    assert set(project.out_of_date(BARS)) == set()
    assert set(project.out_of_date(FEATURES)) == {f"{FEATURES} {each}" for each in features}
    # Matrices of weeks 104, 106 and 108 read the 104 weeks before: from weeks 0, 2 and 4 on. Week 4 is in all three.
    assert weeks.index(week) == 4
    models = [weeks[number] for number in (104, 106, 108)]
    stale = {f"ranking/{stage} {each}" for each in models for stage in RETRAINED}
    stale |= {f"ranking/signals {sessions_of(project, weeks[number])[0]}" for number in (104, 108)}
    assert set(reasons) == {f"{FEATURES} {each}" for each in features} | stale
    now = project.hashes(BARS)
    assert reasons[f"{FEATURES} {week}"] == f"input {BARS} {week} was {before[week][:12]}, is now {now[week][:12]}"
    for each in models:
        assert f"{week} was {before[week][:12]}, is now" in reasons[f"ranking/training_matrix {each}"]
        assert f"input ranking/training_matrix {each} is out of date" in reasons[f"ranking/fitted_model {each}"]
    # What it was is kept.
    assert project.store.versions(BARS, week) == [before[week]]


def test_is_current_after_a_revision_before_a_window_leaves_its_matrix_alone(long_project, tmp_path):
    project = long_project.copy(tmp_path / "project")
    weeks = project.weeks
    # Week 0 is read by the features of weeks 0 to 3. Models 104 and 106 read from weeks 0 and 2 on, 108 from week 4 on.
    stored = project.store.read(BARS, weeks[0])
    footer = stored.footer
    corrected = stored.frame.with_columns(pl.col("high") * 1.01)
    stamp = Stamp(footer.code_version, "by hand", footer.created_at)
    project.store.publish(BARS, weeks[0], Content(corrected, sources=footer.sources, has_session_hashes=True), stamp)
    stale = {name.split(" ")[1] for name in project.out_of_date("ranking/training_matrix", "ranking/fitted_model")}
    assert stale == {weeks[104], weeks[106]}
    assert set(project.out_of_date("ranking/signals")) == {f"ranking/signals {sessions_of(project, weeks[104])[0]}"}
    assert set(project.out_of_date(FEATURES)) == {f"{FEATURES} {weeks[number]}" for number in range(4)}

    # `high` is no input of these features: made again they are the same, and so nothing else is out of date.
    project.make(FEATURES, weeks[0], weeks[3])
    assert set(project.out_of_date(FEATURES, "ranking/training_matrix")) == {f"ranking/training_matrix {weeks[104]}"}


def test_is_current_check_in_dagster_names_partition_and_reason(revised):
    project, week = revised
    project.make(BARS, week, judged_by(project, week)[-1])
    check = dg.AssetCheckKey(dg.AssetKey(FEATURES.split("/")), "is_current")
    job = project.definitions.resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_check_selection={check}, asset_selection=set()).execute_in_process(
        instance=project.instance
    )
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert evaluation.metadata["partitions"].value == WEEKS
    rows = [record.data for record in evaluation.metadata["failed"].records]
    assert [row["partition"] for row in rows] == [shift_week(week, offset) for offset in range(4)]
    assert rows[0]["finding"].startswith(f"input {BARS} {week} was ")

    # Made again, its own run records that it is current.
    run = project.make(FEATURES, week, shift_week(week, 3))
    assert run.checks[FEATURES, "is_current"].passed
    recorded = project.instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
    assert recorded.status.value == "SUCCEEDED"
