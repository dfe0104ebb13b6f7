"""`hfp mlflow`: serves the store that the project logs to, ends with its servers, and leaves a tracking server where it is."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.serving.mlflow_ui import _say_pages, open_mlflow
from hf_pipelines.serving.service import ServiceFailedError
from hf_pipelines_tests.servers import free_port

pytestmark = pytest.mark.servers


@pytest.mark.long
def test_mlflow_is_served_on_the_store_of_the_project_and_ended(tmp_path: Path, mlflow_template: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "hf_pipelines.commands.cli", "mlflow", "--port", str(port)]
    env = {**os.environ, "HF_DATA_DIR": str(tmp_path)}
    env.pop("HF_MLFLOW_URI", None)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == f"MLflow's UI on http://127.0.0.1:{port}, of sqlite:///{tmp_path}/mlflow.db; Ctrl-C stops it.\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert b"MLflow" in page.read()
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert output == "MLflow's UI is stopped.\n" and process.returncode == 0, errors
    assert started and not any(each.is_running() for each in started)


def test_runs_of_each_strategy_have_an_address_that_leads_to_them(tmp_path, mlflow_template):
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    client, said = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"), []
    _say_pages(client, "http://127.0.0.1:5000", said.append)
    assert said == []
    number = client.create_experiment("ranking")
    _say_pages(client, "http://127.0.0.1:5000", said.append)
    assert "Model training" in said[0]
    assert said[1:] == [f"  ranking: http://127.0.0.1:5000/#/experiments/{number}?workflowType=machine_learning"]


def test_mlflow_of_a_server_is_its_address_without_the_password(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    port = free_port()
    monkeypatch.setenv("HF_MLFLOW_URI", f"http://quant:hunter2@127.0.0.1:{port}")
    with pytest.raises(TrackingUnavailableError) as refused:
        open_mlflow(5000, print)
    assert "hunter2" not in str(refused.value)


def test_mlflow_on_a_port_that_is_taken_says_another(monkeypatch, tmp_path, mlflow_template):
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("HF_MLFLOW_URI", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceFailedError, match=f"hfp mlflow --port {port + 1}"):
            open_mlflow(port, print)
