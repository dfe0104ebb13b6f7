"""What a failed run shows first: events of real runs, as Dagster makes them and as the instance stores them."""

from pathlib import Path

import dagster as dg
import pytest

from hf_pipelines.components.operations.cause import first_failure
from hf_pipelines.resources.storage_errors import StorageOutageError

REMEDY = "`bars` must be published for 2013-02-24, was missing; run: hfp materialise us_tech/bars --from 2013-02-24"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An instance with the storage of the project."""
    monkeypatch.setenv("HF_POSTGRES_URL", "")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    custom = {"module": "hf_pipelines.resources.instance_storage", "class": "InstanceStorage", "config": {}}
    (tmp_path / "dagster.yaml").write_text(f"storage:\n  custom: {custom}\n")
    with dg.DagsterInstance.get() as instance:
        yield instance


def failed(instance: dg.DagsterInstance, error: Exception) -> dict[str, dg.DagsterEvent]:
    """Events of a run whose one step raises."""

    @dg.op
    def body() -> None:
        raise error

    @dg.job
    def chain() -> None:
        body()

    result = chain.execute_in_process(
        instance=instance,
        raise_on_error=False,
    )
    entries = [each.dagster_event for each in instance.all_logs(result.run_id)]
    return {each.event_type_value: each for each in entries if each is not None}


@pytest.mark.parametrize(
    ("error", "first_line"),
    [
        (ValueError(REMEDY), REMEDY),
        (dg.Failure(f"{REMEDY}\n2013-02-24: rejected"), REMEDY),
        (StorageOutageError(REMEDY), REMEDY),
        # Its words alone would be 'role'.
        (KeyError("role"), "KeyError: 'role'"),
    ],
    ids=["value", "failure", "own", "unforeseen"],
)
def test_failed_run_shows_the_remedy_in_its_first_line(
    instance: dg.DagsterInstance, error: Exception, first_line: str
) -> None:
    events = failed(instance, error)
    step, run = events["STEP_FAILURE"], events["PIPELINE_FAILURE"]

    shown = step.step_failure_data.error
    assert shown.message.splitlines()[0] == first_line
    # Where it was raised, and nothing of Dagster's.
    assert "raise error\n" in shown.stack[-1] and shown.cause is None
    assert run.message.splitlines()[0] == first_line and "'body'" in run.message.splitlines()[-1]
    assert run.job_failure_data.error is None


def test_first_failure_of_a_stored_run_has_the_words_without_the_class(instance: dg.DagsterInstance) -> None:
    events = failed(instance, ValueError("`week` must be a Sunday: was 2013-02-25"))
    # What follows the first colon is not all of it.
    assert first_failure(events.values()) == ("body", "`week` must be a Sunday: was 2013-02-25")
