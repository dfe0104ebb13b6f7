"""Alarms that ask for a refit, through the sensor: the week under way, once each, with the reason on its run."""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.research.drift.day import CALLS, COLUMNS
from hf_pipelines.research.drift.standing import Standing
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines_tests.drift_quarters import publish
from hf_pipelines_tests.pipeline import RETRAINED, ridge_strategy
from hf_pipelines_tests.ticking import Ticking, asked

STAGES = [f"ranking/{stage}" for stage in RETRAINED]


@pytest.fixture(scope="module")
def trained(small_project, tmp_path_factory):
    """A strategy whose drift and decay ask for a refit, with the model of the newest week."""
    project = small_project.copy(tmp_path_factory.mktemp("trained") / "project")
    project.rewrite(strategies=[ridge_strategy(drift={"retrain_on": ["drift", "decay"], "most_a_quarter": 2})])
    for asset in ("small/bars", "small/features/quick"):
        # The newest week has begun by the bars of the one before.
        project.store.objects.delete(f"{asset}/{project.weeks[-1]}.parquet")
    assert asked(Ticking(project).follows()) == [(STAGES, project.weeks[-1])]
    return project


@pytest.fixture
def ticking(trained, tmp_path):
    found = Ticking(trained.copy(tmp_path / "project"))
    assert asked(found.follows()) == []
    return found


def say(ticking: Ticking, day: str, **raised_on: date) -> None:
    """A session of drift in which alarms of some kinds stand."""
    states = {
        kind: asdict(Standing(True, 3, 0, raised_on[kind]) if kind in raised_on else Standing()) for kind in CALLS
    }
    told = {kind: {name: f"{each}" if isinstance(each, date) else each for name, each in state.items()} for kind, state in states.items()}  # fmt: skip
    content = Content(pl.DataFrame(schema=COLUMNS), facts={"sentence": "Drift.", "standing": told})
    publish(ticking.project.store, "ranking/drift", day, content)


def test_alarm_asks_once_for_the_week_under_way_and_its_run_says_why(ticking):
    week, now = ticking.project.weeks[-1], datetime.now(UTC)
    first, *_, last = (f"{day}" for day in ticking.market.partitions.sessions_of_week(ticking.project.weeks[-2]))
    say(ticking, first, accuracy=date.fromisoformat(first))
    # An alarm that is not named in the YAML.
    assert asked(ticking.follows(now)) == []
    say(ticking, last, drift=date.fromisoformat(first))
    before = ticking.project.store.footer("ranking/fitted_model", week).content_hash
    tick = ticking.follows(now, run=False)
    assert asked(tick) == [(STAGES, week)]
    assert tick.notes == (f"refit of week {week} by alarm of drift, raised on {first}",)
    # A tick that died before its cursor was saved asks by the same run key.
    assert {each.run_key for each in ticking.follows(now).requests} == {each.run_key for each in tick.requests}
    (record,) = ticking.project.instance.get_run_records(dg.RunsFilter(tags={"hf/alarm": f"drift {first}"}))
    assert record.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    assert record.dagster_run.tags["hf/because"] == f"alarm of drift, raised on {first}"
    # Made from the same it is the same model; the alarm lasts and asks for no second one, also of a sensor without a memory.
    assert ticking.project.store.footer("ranking/fitted_model", week).content_hash == before
    assert asked(ticking.follows(now + timedelta(days=30))) == []
    ticking.cursors["follows"] = None
    assert asked(ticking.follows(now + timedelta(days=30))) == []


def test_second_alarm_waits_for_the_rest(ticking):
    week, now = ticking.project.weeks[-1], datetime.now(UTC)
    days = [f"{day}" for day in ticking.market.partitions.sessions_of_week(ticking.project.weeks[-2])]
    say(ticking, days[0], decay=date.fromisoformat(days[0]))
    (request,) = ticking.follows(now, run=False).requests
    # Its run is cancelled by an operator: that alarm has asked.
    job = ticking.project.definitions.resolve_job_def("ranking_retrain")
    run = ticking.project.instance.create_run_for_job(job, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED)
    waits = ticking.follows(now, run=False)
    assert asked(waits) == []
    ticking.project.instance.report_run_canceled(run)
    assert asked(ticking.follows(now + timedelta(days=8), run=False)) == []
    say(ticking, days[1], decay=date.fromisoformat(days[1]))
    tick = ticking.follows(now + timedelta(days=6), run=False)
    assert asked(tick) == []
    assert tick.notes[0].startswith(f"alarm decay {days[1]} asks for a refit after ")
    assert asked(ticking.follows(now + timedelta(days=8), run=False)) == [(STAGES, week)]


def test_alarm_of_a_damaged_session_asks_for_nothing(ticking):
    day = ticking.market.partitions.sessions_of_week(ticking.project.weeks[-2])[0]
    say(ticking, f"{day}", drift=day)
    ticking.project.store.objects.put(f"ranking/drift/{day}.parquet", b"PAR1 truncated")
    assert asked(ticking.follows(datetime.now(UTC))) == []
