"""Run intents: requested once a state, waited for while under way, requested again only where that may help."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from hf_pipelines.components.automation.run_intents import BACKOFF, RequestState, RunHistory, RunIntent
from hf_pipelines.components.automation.ticks import read_cursor
from hf_pipelines.resources.storage_errors import StorageUnavailableError

WEEKS = ("2020-01-05", "2020-01-12", "2020-02-02")
INTENT = RunIntent("update", ("m/bars",), WEEKS, "state", "files")


@dg.op(config_schema=dg.Field(str, default_value=""))
def step(context: dg.OpExecutionContext) -> None:
    """Fail as told."""
    if context.op_config == "data":
        raise ValueError("a faulty row")
    if context.op_config == "storage":
        raise StorageUnavailableError("`k` must be written")


JOB = dg.GraphDefinition("update", node_defs=[step]).to_job()


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def run(instance: dg.DagsterInstance, failure: str = "", attempt: int = 1, intent: RunIntent = INTENT) -> str:
    result = JOB.execute_in_process(
        instance=instance,
        run_config={
            "ops": {"step": {"config": failure}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        tags=dict(intent.request(attempt).tags),
        raise_on_error=False,
    )
    return result.run_id


def state(instance: dg.DagsterInstance, later: timedelta = timedelta(0)) -> tuple[RequestState, int]:
    return RunHistory(instance, datetime.now(UTC) + later).state_of(INTENT)


def test_intent_over_weeks_that_do_not_follow_each_other_is_one_run_that_names_the_wanted():
    request = INTENT.request(2)
    assert request.run_key == f"{INTENT.key}:2"
    assert request.partition_key is None
    assert {name: value for name, value in request.tags.items() if "partition" in name} == {
        "dagster/asset_partition_range_start": "2020-01-05",
        "dagster/asset_partition_range_end": "2020-02-02",
        "hf/partitions": ",".join(WEEKS),
    }
    single = RunIntent("update", ("m/bars",), WEEKS[:1], "state", "files").request(1)
    assert (single.partition_key, "hf/partitions" in single.tags) == ("2020-01-05", False)


def test_intent_that_was_never_requested_is_due_and_one_that_succeeded_is_settled(instance):
    assert state(instance) == (RequestState.DUE, 1)
    run(instance)
    assert state(instance) == (RequestState.SETTLED, 0)
    # Another state of the same weeks is another intent.
    other = RunIntent(INTENT.job, INTENT.assets, INTENT.partitions, "other state", INTENT.because)
    assert RunHistory(instance, datetime.now(UTC)).state_of(other) == (RequestState.DUE, 1)


def test_run_that_an_earlier_release_asked_for_is_found_by_the_tags_that_it_wrote(instance):
    JOB.execute_in_process(
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={"hf/work": "5dba9e401530eb68", "hf/attempt": "1", "hf/partitions": ",".join(WEEKS)},
    )
    assert state(instance) == (RequestState.SETTLED, 0)


def test_intent_that_failed_by_its_data_is_settled_for_ever(instance):
    run(instance, "data")
    # Dagster says a moment after the failure whether it will execute the run again.
    assert state(instance) == (RequestState.UNDER_WAY, 0)
    assert state(instance, timedelta(days=9)) == (RequestState.SETTLED, 0)


def test_intent_that_failed_by_a_server_is_due_again_after_one_five_and_twenty_five_minutes(instance):
    waits = []
    for attempt in range(1, 5):
        run(instance, "storage", attempt)
        for minutes in (0.5, 1.5, 5.5, 25.5):
            found, next_attempt = state(instance, timedelta(minutes=minutes))
            if found is RequestState.DUE:
                assert next_attempt == attempt + 1
                waits.append(minutes)
                break
    assert waits == [1.5, 5.5, 25.5]
    assert len(BACKOFF) == 3
    assert state(instance, timedelta(days=9)) == (RequestState.SETTLED, 0)


def test_intent_is_under_way_while_its_run_waits_runs_or_will_be_executed_again(instance):
    history = RunHistory(instance, datetime.now(UTC))
    queued = instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.NOT_STARTED, tags=dict(INTENT.request(1).tags))
    assert history.state_of(INTENT) == (RequestState.UNDER_WAY, 0)
    assert history.under_way("update") == queued.run_id
    instance.report_run_failed(queued)
    instance.add_run_tags(queued.run_id, {"dagster/will_retry": "true"})
    assert history.state_of(INTENT) == (RequestState.UNDER_WAY, 0)
    assert history.under_way("update") == queued.run_id
    # Nobody waits for ever for a retry that never came: it died without a step that failed, so it is asked for again.
    late = RunHistory(instance, datetime.now(UTC) + timedelta(minutes=11))
    assert late.state_of(INTENT) == (RequestState.DUE, 2)
    assert late.under_way("update") is None
    retry = instance.create_run_for_job(
        JOB,
        tags=dict(INTENT.request(1).tags),
        parent_run_id=queued.run_id,
        root_run_id=queued.run_id,
        status=dg.DagsterRunStatus.SUCCESS,
    )
    assert retry.parent_run_id == queued.run_id
    assert history.state_of(INTENT) == (RequestState.SETTLED, 0)
    assert history.under_way("update") is None


def test_intent_that_an_operator_cancelled_is_not_requested_again(instance):
    instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.CANCELED, tags=dict(INTENT.request(1).tags))
    assert state(instance, timedelta(days=9)) == (RequestState.SETTLED, 0)


@pytest.mark.parametrize("text", [None, "", "of another release", "[1, 2]", "3"])
def test_cursor_that_cannot_be_read_is_begun_anew(text):
    assert read_cursor(text) == {}
