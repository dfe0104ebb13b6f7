"""Drift that a dead run has left out, through the sensor: asked for once for what was issued, and for nothing else."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from hf_pipelines.research.promotion import GATES
from hf_pipelines_tests.pipeline import ridge_strategy
from hf_pipelines_tests.ticking import Ticking, asked

WEEK = "2012-04-08"
DRIFT = "ranking/drift"
NO_CHAMPION = {name: False if each.bound is None else None for name, each in GATES.items()}


def test_drift_that_its_run_did_not_come_to_is_asked_for_once(small_project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    project.rewrite(strategies=[ridge_strategy()])
    project.retrain("ranking", WEEK)
    ticking = Ticking(project)
    store, now = project.store, datetime.now(UTC)
    days = [f"{day}" for day in ticking.market.partitions.sessions_of_week(WEEK)]
    project.make(["ranking/signals", DRIFT], days[0])
    # The run of the next died between the two; the third has no issue, and none of it is to be judged.
    project.make(["ranking/signals"], days[1])
    (request,) = [each for each in ticking.follows(now, run=False).requests if each.job_name == "ranking_issue"]
    assert "ranking/signals" in ["/".join(key.path) for key in request.asset_selection]
    for day in days[2:]:
        project.make(["ranking/signals", DRIFT], day)
    job = project.definitions.resolve_job_def("ranking_issue")
    running = project.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    waits = ticking.follows(now, run=False)
    assert not [each for each in asked(waits) if DRIFT in each[0]]
    assert f"drift of {days[1]}: waits for run {running.run_id[:8]} of ranking_issue" in waits.notes
    project.instance.report_run_canceled(running)
    assert ([DRIFT], days[1]) in asked(ticking.follows(now))
    assert store.partitions(DRIFT) == days
    ticking.cursors["follows"] = None
    assert not [each for each in asked(ticking.follows(now)) if DRIFT in each[0]]

    # One that cannot be judged is not asked for again until what it reads has changed.
    key = store.key(DRIFT, days[1])
    store.objects.delete(key)
    store.objects.put(store.key("ranking/signals", days[1]), b"PAR1 truncated")
    assert ([DRIFT], days[1]) in asked(ticking.follows(now))
    assert not store.objects.exists(key)
    later = ticking.follows(now + timedelta(minutes=5))
    assert asked(later) == []
    assert f"drift of {days[1]} failed and waits for their features to change" in later.notes


def test_issue_without_a_champion_is_judged_once_in_words(small_project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    project.rewrite(strategies=[ridge_strategy(gates=NO_CHAMPION)])
    project.retrain("ranking", WEEK)
    ticking = Ticking(project)
    for day in ticking.market.partitions.sessions_of_week(WEEK):
        project.make(["ranking/signals"], f"{day}")
    now = datetime.now(UTC)
    (found,) = [each for each in asked(ticking.follows(now)) if each[0] == [DRIFT]]
    assert len(project.store.partitions(DRIFT)) == len(found[1].split(","))
    assert asked(ticking.follows(now)) == []
