"""Compute logs: in the bucket where storage is S3, on disk else; a log that cannot be stored holds up nobody."""

from pathlib import Path
from time import perf_counter

import boto3
import pytest
import yaml
from dagster._core.storage.compute_log_manager import ComputeIOType, ComputeLogManager
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData

from hf_pipelines_tests.checkout import REPOSITORY
from hf_pipelines_tests.servers import free_port, s3_server

LOG_KEY = ["run", "compute_logs", "step"]


def manager() -> ComputeLogManager:  # type: ignore[type-arg]
    """What dagster.yaml names, as an instance builds it."""
    named = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())["compute_logs"]
    data = ConfigurableClassData(named["module"], named["class"], yaml.safe_dump(named["config"]))
    built = data.rehydrate(as_type=ComputeLogManager)
    # What Dagster hands on to the processes of runs, as an argument.
    assert built.inst_data == data
    return built


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))


def test_compute_logs_where_storage_is_a_folder_are_on_disk(tmp_path: Path) -> None:
    built = manager()
    assert isinstance(built, LocalComputeLogManager)
    with built.open_log_stream(LOG_KEY, ComputeIOType.STDERR) as stream:
        assert stream is not None
        stream.write("said\n")
    assert (tmp_path / "home" / "storage" / "run" / "compute_logs" / "step.err").read_text() == "said\n"


@pytest.mark.servers
def test_compute_logs_where_storage_is_s3_are_below_its_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path) as s3:
        for name, value in s3.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_STORAGE_URI", f"s3://{s3.bucket}/research/prod")
        with manager().open_log_stream(LOG_KEY, ComputeIOType.STDERR) as stream:
            assert stream is not None
            stream.write("said\n")
        client = boto3.client("s3", endpoint_url=s3.endpoint)
        key = "research/prod/_compute_logs/storage/run/compute_logs/step.err"
        assert client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() == b"said\n"
        # Another machine, which has no local copy, reads it from there.
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere"))
        assert manager().get_log_data(LOG_KEY).stderr == b"said\n"


def test_compute_logs_whose_bucket_is_away_let_the_run_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    monkeypatch.setenv("HF_S3_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("HF_STORAGE_URI", "s3://away/storage")
    built, began = manager(), perf_counter()
    with built.open_log_stream(LOG_KEY, ComputeIOType.STDERR) as stream:
        assert stream is not None
        stream.write("said\n")
    # Three attempts for each of two streams, with a second or two between them.
    assert perf_counter() - began < 60
    assert "could not be stored in s3://away/storage/_compute_logs" in caplog.text
