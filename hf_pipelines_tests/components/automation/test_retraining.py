"""Automation: the weekly schedule asks for the week that begins, across DST, and only while there are data."""

import contextvars
import tempfile
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from hf_pipelines.definitions import defs
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines_tests.pipeline import RETRAINED, Project

NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def project_definitions() -> dg.Definitions:
    return defs()


@lru_cache(maxsize=1)
def _home() -> str:
    """Of an instance on disk: a schedule opens it by its address."""
    return tempfile.mkdtemp(prefix="schedule_home_")


def _tick(definitions: dg.Definitions, name: str, at: datetime, storage: Storage | None = None) -> dg.RunRequest | str:
    """What a tick asks for, or why it asks for nothing."""
    # In a context of its own: an instance leaves its storage behind in the context, and dies.
    return contextvars.copy_context().run(_tick_here, definitions, name, at, storage)


def _tick_here(
    definitions: dg.Definitions, name: str, at: datetime, storage: Storage | None = None
) -> dg.RunRequest | str:
    instance = dg.DagsterInstance.from_config(_home())
    context = dg.build_schedule_context(
        instance=instance,
        resources={"storage": storage or Storage(), "clock": Clock(fixed=at.isoformat())},
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
    )
    evaluated = definitions.resolve_schedule_def(f"{name}_weekly_retrain").evaluate_tick(context)
    return evaluated.run_requests[0] if evaluated.run_requests else evaluated.skip_message


def _ticks(schedule: dg.ScheduleDefinition, start: datetime, end: datetime) -> list[datetime]:
    """Every time at which the daemon would evaluate the schedule."""
    times = schedule_execution_time_iterator(
        start.timestamp(), schedule.cron_schedule, schedule.execution_timezone, ascending=True
    )
    found = []
    for each in times:
        if each >= end:
            return found
        found.append(each)
    raise AssertionError("the iterator ends")


@pytest.mark.parametrize("name", ["tech_direction", "tech_ranking"])
def test_schedule_of_sunday_2_o_clock_asks_for_the_week_that_begins_in_every_week_of_a_year(project_definitions, name):
    schedule = project_definitions.resolve_schedule_def(f"{name}_weekly_retrain")
    # In 2012 New York's clocks changed on 11 March (02:00 did not exist) and on 4 November.
    ticks = _ticks(schedule, datetime(2012, 1, 1, tzinfo=NEW_YORK), datetime(2013, 1, 1, tzinfo=NEW_YORK))
    assert len(ticks) == 53
    sundays = [datetime(2012, 1, 1) + timedelta(weeks=number) for number in range(53)]
    asked = [_tick(project_definitions, name, tick) for tick in ticks]
    # Its YAML begins with the 27th week.
    weeks = [f"{day:%Y-%m-%d}" for day in sundays]
    assert asked[:26] == [
        f"{name} begins in week 2012-07-01 (`start`): there is no week {week}." for week in weeks[:26]
    ]
    assert [request.partition_key for request in asked[26:]] == weeks[26:]
    assert [request.run_key for request in asked[26:]] == [f"{name}:{week}" for week in weeks[26:]]
    hours = {f"{day:%m-%d}": tick.astimezone(UTC).hour for day, tick in zip(sundays, ticks, strict=True)}
    # 02:00 is 07:00 UTC in winter and 06:00 in summer; where it is skipped, 03:00 summer time takes its place.
    assert (hours["03-04"], hours["03-11"], hours["03-18"]) == (7, 7, 6)
    assert (hours["10-28"], hours["11-04"], hours["11-11"]) == (6, 7, 7)


def test_schedule_outside_the_market_s_data_asks_for_nothing_and_says_why(project_definitions):
    expected = "us_tech has sessions from 2000-03-01 to 2013-03-01: there is no week {}."
    assert _tick(project_definitions, "tech_direction", datetime(2013, 3, 3, 2, tzinfo=NEW_YORK)) == expected.format(
        "2013-03-03"
    )
    assert _tick(project_definitions, "tech_direction", datetime(2026, 11, 15, 2, tzinfo=NEW_YORK)) == expected.format(
        "2026-11-15"
    )
    # The weeks of the first and of the last session are inside.
    assert (
        _tick(project_definitions, "tech_direction", datetime(2013, 2, 24, 2, tzinfo=NEW_YORK)).partition_key
        == "2013-02-24"
    )


def test_schedule_of_a_strategy_without_a_start_begins_with_its_market(small_project):
    expected = "small has sessions from 2012-01-03 to 2012-05-04: there is no week 2011-12-25."
    assert _tick(small_project.definitions, "ranking", datetime(2011, 12, 25, 2, tzinfo=NEW_YORK)) == expected
    asked = _tick(small_project.definitions, "ranking", datetime(2012, 1, 1, 2, tzinfo=NEW_YORK))
    assert asked.partition_key == "2012-01-01"


def test_schedule_is_off_by_default_only_where_the_data_have_an_end(project_definitions, small_project, tmp_path):
    for name in ("tech_direction", "tech_ranking"):
        schedule = project_definitions.resolve_schedule_def(f"{name}_weekly_retrain")
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    project = small_project.copy(tmp_path / "project")
    assert _status(project) is dg.DefaultScheduleStatus.STOPPED
    project.rewrite({name: value for name, value in project.market.items() if name != "end"})
    assert _status(project) is dg.DefaultScheduleStatus.RUNNING
    # The week under way has a partition: a schedule that runs asks for one that exists.
    now = datetime.now(NEW_YORK)
    sunday = (now - timedelta(days=(now.weekday() + 1) % 7)).replace(hour=2, minute=0, second=0, microsecond=0)
    asked = _tick(project.definitions, "ranking", sunday)
    job = project.definitions.resolve_job_def("ranking_retrain")
    assert asked.partition_key == f"{sunday:%Y-%m-%d}" == job.partitions_def.get_last_partition_key()


def _status(project: Project) -> dg.DefaultScheduleStatus:
    return project.definitions.resolve_schedule_def("ranking_weekly_retrain").default_status


@pytest.mark.parametrize("name", ["tech_direction", "tech_ranking"])
def test_retrain_job_makes_the_model_and_its_backtest_and_no_data(project_definitions, name):
    job = project_definitions.resolve_job_def(f"{name}_retrain")
    made = {"/".join(key.path) for key in job.asset_layer.executable_asset_keys}
    assert made == {f"{name}/{stage}" for stage in RETRAINED}
    assert job.partitions_def.get_first_partition_key() == "2012-07-01"
    assert job.partitions_def.get_last_partition_key() == "2013-02-24"


def test_retrain_job_of_a_tick_trains_the_model_of_its_week(small_project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    asked = _tick(project.definitions, "ranking", datetime(2012, 4, 8, 2, tzinfo=NEW_YORK))
    result = project.definitions.resolve_job_def("ranking_retrain").execute_in_process(
        instance=project.instance, partition_key=asked.partition_key, tags=asked.tags
    )
    assert result.success
    made = {f"ranking/{stage}": project.store.partitions(f"ranking/{stage}") for stage in RETRAINED}
    assert made == {f"ranking/{stage}": ["2012-04-08"] for stage in RETRAINED}
    card = project.store.read("ranking/fitted_model", "2012-04-08").frame.row(0, named=True)
    assert card["trained_until"] < card["as_of"] == datetime(2012, 4, 8, 4, tzinfo=UTC)
