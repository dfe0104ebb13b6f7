"""MLflow tracking: one run for each (asset partition, root Dagster run), always ended.

Lives here: finding, opening and ending tracker runs. Does not live here: what is logged (`components.strategy`).

dagster-mlflow's resource ties one MLflow run to one Dagster run and leaves it RUNNING when assets are materialised,
and its parallel steps race to create two. Ours are found by tags: a retry (a new Dagster run with the same root)
re-attaches to the run it left. dagster-mlflow's class still does the connection and the experiment.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from hf_pipelines.resources import settings

# A tracking server that is down must fail the step in seconds, not after MLflow's default of several minutes.
HTTP_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class TrackingUnavailableError(ConnectionError):
    """The tracking server or database could not be reached."""


class MLflowTracking(dg.ConfigurableResource[Any]):
    """MLflow, by explicit runs.

    Parameters
    ----------
    uri : str or None
        Tracking server or SQLAlchemy address; None for HF_MLFLOW_URI or SQLite in the data folder.
    """

    uri: str | None = None

    def tracking_uri(self) -> str:
        return self.uri or settings.mlflow_uri()

    def client(self) -> Any:
        """An MLflow client whose server has answered.

        Raises
        ------
        TrackingUnavailableError
            If it does not answer.
        """
        for name, value in HTTP_SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        uri = self.tracking_uri()
        if uri.startswith("sqlite:///"):
            initialise_schema(uri)
        try:
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
        except (MlflowException, OSError) as e:
            raise TrackingUnavailableError(
                f"`HF_MLFLOW_URI` must answer, {uri.split('@')[-1]} did not ({_first_line(e)}); start the server or unset it."
            ) from e
        return client

    @contextmanager
    def partition_runs(
        self, *, experiment: str, asset: str, partitions: list[str], root_run_id: str
    ) -> Iterator["PartitionRuns"]:
        """Tracker runs of the partitions of one step, FINISHED or FAILED when the block ends."""
        client = self.client()
        experiment_id = _experiment_id(client, experiment)
        runs = {
            key: _open_child(client, experiment_id, strategy=experiment, asset=asset, partition=key, root=root_run_id)
            for key in partitions
        }
        status = "FAILED"
        try:
            yield PartitionRuns(client, runs)
            status = "FINISHED"
        finally:
            for run_id in runs.values():
                _end(client, run_id, status)


class PartitionRuns:
    """Open tracker runs by partition."""

    def __init__(self, client: Any, runs: Mapping[str, str]) -> None:
        self.client = client
        self.runs = runs

    def log(
        self, partition: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Log to the run of a partition; logging the same again changes nothing.

        Raises
        ------
        TrackingUnavailableError
            If the server has gone away; what was published is safe, and a retry logs again.
        """
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException

        now = int(time.time() * 1000)
        try:
            self.client.log_batch(
                self.runs[partition],
                metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
                params=[Param(name, str(value)[:6000]) for name, value in params.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
        except (MlflowException, OSError) as e:
            raise TrackingUnavailableError(
                f"`MLflow` must answer to log {partition}, did not ({_first_line(e)}); the model is published, "
                "re-execute the run to log it."
            ) from e


def initialise_schema(uri: str) -> None:
    """Create MLflow's tables once, alone: four processes that find an empty file at once break it."""
    from filelock import FileLock

    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > 0:
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with FileLock(f"{path}.lock"):
        SqlAlchemyStore(uri, str(path.parent / "mlflow_artifacts"))


def _experiment_id(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:
        # Another step created it in between.
        return str(client.get_experiment_by_name(name).experiment_id)


def _open_child(client: Any, experiment_id: str, *, strategy: str, asset: str, partition: str, root: str) -> str:
    parent = _find_or_create(
        client, experiment_id, f"{strategy} {partition}", {"hf.strategy": strategy, "hf.week": partition}
    )
    _end(client, parent, "FINISHED")
    tags = {"hf.asset": asset, "hf.partition": partition, "hf.root_run_id": root, "mlflow.parentRunId": parent}
    child = _find_or_create(client, experiment_id, f"{asset} {partition}", tags)
    client.update_run(child, status="RUNNING")
    return child


def _find_or_create(client: Any, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = client.search_runs([experiment_id], query, max_results=1)
    if found:
        return str(found[0].info.run_id)
    return str(client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id)


def _end(client: Any, run_id: str, status: str) -> None:
    client.set_terminated(run_id, status=status)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]
