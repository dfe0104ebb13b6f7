"""MLflow tracking: one run for each (asset partition, root Dagster run), always ended.

Lives here: finding, opening and ending tracker runs. Does not live here: what is logged (`components.strategy_stages`).

Dagster concept: resource. dagster-mlflow's class makes the connection and the experiment; its `_setup` is not called. That
one makes a run the active one of the whole process, leaves it RUNNING when assets are materialised, and lets parallel
steps create two. Ours are found by tags and named in every call, so no run is active: a retry (a new Dagster run with
the same root) re-attaches to the run it left.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.redaction import MARK, redacted, secrets_of, shown_address

# A tracking server that is down must fail the step in seconds, not after MLflow's default of several minutes.
CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # It prints the address of each run that ends, with the user and password of HF_MLFLOW_URI.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
CONNECT_TIMEOUT_S = 10

# Creating a fresh schema takes about five seconds; whoever waits longer than this waits for something broken.
LOCK_TIMEOUT_S = 120

# MLflow's connection keeps its address and experiment in globals while it is made.
_CONNECTING = threading.Lock()

# MLflow refuses longer values.
MAX_PARAM_LENGTH = 6000


class TrackingUnavailableError(ConnectionError):
    """The tracking server or database could not be used."""


class MLflowTracking(dg.ConfigurableResource[Any]):
    """MLflow, by explicit runs.

    Parameters
    ----------
    uri : str or None
        Tracking server or SQLAlchemy address; None for HF_MLFLOW_URI or SQLite in the data folder.
    """

    uri: str | None = None

    def tracking_uri(self) -> str:
        # SQLAlchemy 2.1 takes `postgresql://` for another driver than the one installed.
        return (self.uri or settings.mlflow_uri()).replace("postgresql://", "postgresql+psycopg2://", 1)

    def client(self) -> Any:
        """An MLflow client whose server has answered.

        Raises
        ------
        TrackingUnavailableError
            If it does not answer, within seconds.
        """
        from mlflow import MlflowClient

        with self._connecting():
            client = MlflowClient(tracking_uri=self.tracking_uri())
            client.search_experiments(max_results=1)
        return client

    @contextmanager
    def partition_runs(
        self, *, experiment: str, asset: str, partitions: Sequence[str], root_run_id: str
    ) -> Iterator["PartitionRuns"]:
        """Tracker runs of the partitions of one step, FINISHED or FAILED when the block ends.

        Raises
        ------
        TrackingUnavailableError
            If the server does not answer, before the block begins or after it.
        """
        uri = self.tracking_uri()
        with self._connecting():
            connection = _connect(uri, experiment, job=asset, run_id=root_run_id)
        client, experiment_id = connection.tracking_client, str(connection.experiment.experiment_id)
        runs = PartitionRuns(client, uri)
        status = "FAILED"
        try:
            with _answering(uri, _unusable(uri)), _alone(uri):
                for key in partitions:
                    runs.open(experiment_id, strategy=experiment, asset=asset, partition=key, root=root_run_id)
            yield runs
            status = "FINISHED"
        finally:
            runs.end(status)

    def end_runs_of(self, root_run_id: str) -> list[str]:
        """End as FAILED the runs that a killed process of one root Dagster run left RUNNING; returns their ids.

        Raises
        ------
        TrackingUnavailableError
        """
        client, uri = self.client(), self.tracking_uri()
        with _answering(uri, _unusable(uri)):
            experiments = [each.experiment_id for each in client.search_experiments(max_results=1000)]
            query = f"tags.`hf.root_run_id` = '{root_run_id}' and attributes.status = 'RUNNING'"
            left = [str(run.info.run_id) for run in client.search_runs(experiments, query)]
            for run_id in left:
                client.set_terminated(run_id, status="FAILED")
        return left

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        uri = self.tracking_uri()
        for name, value in CLIENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        # A fresh SQLite file that four processes initialise at once breaks: its schema is made by one, alone.
        alone = _alone(uri) if uri.startswith("sqlite:") else nullcontext()
        with _answering(uri, _unusable(uri)), alone:
            _probe_database(uri)
            yield


class PartitionRuns:
    """Open tracker runs by partition."""

    def __init__(self, client: Any, uri: str) -> None:
        self.client = client
        self.uri = uri
        self.runs: dict[str, str] = {}
        self._begins: dict[str, int] = {}

    def open(self, experiment_id: str, *, strategy: str, asset: str, partition: str, root: str) -> None:
        """Find or create the run of (asset, partition, root) below the one of (strategy, week), and start it."""
        week = {"hf.strategy": strategy, "hf.week": partition}
        parent = _find_or_create(self.client, experiment_id, f"{strategy} {partition}", week)
        if parent.status != "FINISHED":
            # A parent only groups its children: it has nothing to wait for.
            self.client.set_terminated(parent.run_id, status="FINISHED")
        of_child = {"hf.asset": asset, "hf.partition": partition, "hf.root_run_id": root}
        tags = {**of_child, "mlflow.parentRunId": parent.run_id}
        child = _find_or_create(self.client, experiment_id, f"{asset} {partition}", tags)
        self.runs[partition] = str(child.run_id)
        if child.status != "RUNNING":
            self.client.update_run(child.run_id, status="RUNNING")

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

        with _answering(self.uri, self._unlogged(f"log {partition}")):
            began = self._began(partition)
            self.client.log_batch(
                self.runs[partition],
                metrics=[Metric(name, value, began, 0) for name, value in metrics.items()],
                params=[Param(name, str(value)[:MAX_PARAM_LENGTH]) for name, value in params.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )

    def log_step(self, partition: str, step: int, numbers: Mapping[str, float]) -> None:
        """Log numbers of a step of a fit that goes on; the same step again changes nothing.

        Raises
        ------
        TrackingUnavailableError
            If the server has gone away.
        """
        from mlflow.entities import Metric

        with _answering(self.uri, self._unlogged(f"log a step of {partition}")):
            began = self._began(partition)
            metrics = [Metric(name, value, began, step) for name, value in numbers.items()]
            self.client.log_batch(self.runs[partition], metrics=metrics)

    def _began(self, partition: str) -> int:
        """Start of a run: MLflow keeps every (metric, time), and a retry's point must be the same point."""
        if partition not in self._begins:
            self._begins[partition] = int(self.client.get_run(self.runs[partition]).info.start_time)
        return self._begins[partition]

    def end(self, status: str) -> None:
        """End every run.

        Raises
        ------
        TrackingUnavailableError
            If the server has gone away, unless `status` is FAILED: then the failure that led here is the one to tell.
        """
        for partition, run_id in self.runs.items():
            try:
                with _answering(self.uri, self._unlogged(f"end the run of {partition}")):
                    self.client.set_terminated(run_id, status=status)
            except TrackingUnavailableError as e:
                if status != "FAILED":
                    raise
                dg.get_dagster_logger().warning(f"{e} Run {run_id} stays RUNNING until then.")

    def _unlogged(self, deed: str) -> Callable[[str], str]:
        return lambda reason: (
            f"`HF_MLFLOW_URI` must answer to {deed}, {shown_address(self.uri)} did not ({reason}); "
            "what was published is safe, re-execute the run to log it."
        )


def _unusable(uri: str) -> Callable[[str], str]:
    return lambda reason: (
        f"`HF_MLFLOW_URI` must be a tracking server or database that answers, {shown_address(uri)} did not ({reason}); "
        "start it, correct the address or unset it for SQLite."
    )


@contextmanager
def _answering(uri: str, message: Callable[[str], str]) -> Iterator[None]:
    """Turn what a server or database that cannot be used raises into one error without secrets."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except TrackingUnavailableError:
        raise
    except (MlflowException, SQLAlchemyError, OSError) as e:
        # Not chained: Dagster stores the whole chain, and the causes quote the address with its password.
        raise TrackingUnavailableError(message(_reason(e, uri))) from None


def _reason(error: Exception, uri: str) -> str:
    """The message of an error, without what is secret in an address that need not be that of the environment."""
    text = redacted(str(error).split("\n")[0])
    for secret in secrets_of(uri):
        text = text.replace(secret, MARK)
    return text[:300]


def _alone(uri: str) -> AbstractContextManager[Any]:
    """One process of this machine at a time: MLflow has no create-if-absent."""
    from filelock import FileLock

    is_file = uri.startswith("sqlite:///")
    path = Path(uri.removeprefix("sqlite:///").split("?")[0]) if is_file else settings.data_dir() / "mlflow"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock: AbstractContextManager[Any] = FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT_S)
    return lock


def _probe_database(uri: str) -> None:
    """Try a database server once: MLflow itself would try for a hundred seconds."""
    if uri.startswith(("http:", "https:", "sqlite:")) or "://" not in uri:
        return
    from sqlalchemy import create_engine

    is_postgres = uri.startswith("postgresql")
    engine = create_engine(uri, connect_args={"connect_timeout": CONNECT_TIMEOUT_S} if is_postgres else {})
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _connect(uri: str, experiment: str, *, job: str, run_id: str) -> Any:
    """dagster-mlflow's connection with its experiment."""
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        client = MlflowClient(tracking_uri=uri)
        # Without a location MLflow would put artifacts below the working folder of whoever comes first.
        folder = Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlflow_artifacts" / experiment
        if client.get_experiment_by_name(experiment) is None:
            client.create_experiment(experiment, artifact_location=folder.as_uri())
    context = SimpleNamespace(
        log=dg.get_dagster_logger(),
        dagster_run=SimpleNamespace(job_name=job),
        run_id=run_id,
        resource_config={"experiment_name": experiment, "mlflow_tracking_uri": uri},
    )
    with _CONNECTING:
        return _explicit_runs()(context)


@lru_cache(maxsize=1)
def _explicit_runs() -> Any:
    """dagster-mlflow's class without an active run; made here because importing it imports mlflow (1.7 s)."""
    from dagster_mlflow.resources import MlFlow

    class ExplicitRuns(MlFlow):  # type: ignore[misc]
        def _setup(self) -> None:
            """Open no run: `PartitionRuns` does, by tags."""

    return ExplicitRuns


def _find_or_create(client: Any, experiment_id: str, name: str, tags: Mapping[str, str]) -> Any:
    """Id and status of the run with these tags; a new one is RUNNING."""
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = client.search_runs([experiment_id], query, max_results=1, order_by=["attributes.start_time ASC"])
    return found[0].info if found else client.create_run(experiment_id, run_name=name, tags=dict(tags)).info
