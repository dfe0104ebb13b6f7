"""MLflow tracking: one run for each (asset partition, root Dagster run), always ended.

Lives here: the connection. Does not live here: the runs (`mlflow_runs`), what is logged (`components.strategy_stages`).

Dagster concept: resource. dagster-mlflow's class makes the connection and the experiment; its `_setup` is not called. That
one makes a run the active one of the whole process, leaves it RUNNING when assets are materialised, and lets parallel
steps create two. Ours are found by tags and named in every call, so no run is active: a retry (a new Dagster run with
the same root) re-attaches to the run it left.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.mlflow_errors import answering, unusable
from hf_pipelines.resources.mlflow_runs import ERROR, PartitionRuns
from hf_pipelines.resources.mlflow_values import MAX_TAG_LENGTH
from hf_pipelines.resources.redaction import redacted

# A tracking server that is down must fail the step in seconds, not after MLflow's default of several minutes.
CLIENT_SETTINGS = {
    # It would report what is used to its makers, from threads of its own; it looks at this when it is imported.
    "MLFLOW_DISABLE_TELEMETRY": "true",
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
        with self._connecting():
            client = _client(self.tracking_uri())
            client.search_experiments(max_results=1)
        return client

    @contextmanager
    def partition_runs(
        self, *, experiment: str, asset: str, partitions: Sequence[str], root_run_id: str
    ) -> Iterator[PartitionRuns]:
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
            with answering(uri, unusable(uri)), _alone(uri):
                for key in partitions:
                    runs.open(experiment_id, strategy=experiment, asset=asset, partition=key, root=root_run_id)
            yield runs
            status = "FINISHED"
        except BaseException as e:
            # A user who terminates the run too.
            runs.fail(e)
            raise
        finally:
            runs.end(status)

    def week_run(self, *, experiment: str, partition: str) -> PartitionRuns:
        """The run of a strategy's week alone, to be filled by what has no run of its own.

        Raises
        ------
        TrackingUnavailableError
        """
        with self._unopened(experiment) as (runs, experiment_id):
            runs.open_parent(experiment_id, strategy=experiment, partition=partition)
        return runs

    def study_run(self, *, experiment: str, asset: str, partition: str, study: str) -> PartitionRuns:
        """The run of a study below that of its strategy and week, RUNNING; whoever takes it ends it.

        Parameters
        ----------
        study : str
            Its hash: the same study has one run, another one of the same week another.

        Raises
        ------
        TrackingUnavailableError
        """
        with self._unopened(experiment) as (runs, experiment_id):
            runs.open_study(experiment_id, strategy=experiment, asset=asset, partition=partition, study=study)
        return runs

    @contextmanager
    def _unopened(self, experiment: str) -> Iterator[tuple[PartitionRuns, str]]:
        """Runs to be opened while no other process of this machine does, and the id of their experiment."""
        uri = self.tracking_uri()
        with self._connecting():
            connection = _connect(uri, experiment, job=experiment, run_id="")
        with answering(uri, unusable(uri)), _alone(uri):
            yield PartitionRuns(connection.tracking_client, uri), str(connection.experiment.experiment_id)

    @contextmanager
    def registry(self, experiment: str) -> Iterator[tuple[Any, str]]:
        """A client and the id of an experiment, while no other process of this machine changes what is registered.

        Raises
        ------
        TrackingUnavailableError
            If the server does not answer, before the block or in it.
        """
        uri = self.tracking_uri()
        with self._connecting():
            connection = _connect(uri, experiment, job=experiment, run_id="")
        with answering(uri, unusable(uri)), _alone(uri):
            yield _client(uri), str(connection.experiment.experiment_id)

    def end_runs_of(self, root_run_id: str, *, reason: str = "") -> list[str]:
        """End as FAILED the runs that a killed process of one root Dagster run left RUNNING; returns their ids.

        Parameters
        ----------
        root_run_id : str
        reason : str
            Why, for their tag `hf.error`.

        Raises
        ------
        TrackingUnavailableError
        """
        client, uri = self.client(), self.tracking_uri()
        with answering(uri, unusable(uri)):
            experiments = [each.experiment_id for each in client.search_experiments(max_results=1000)]
            query = f"tags.`hf.root_run_id` = '{root_run_id}' and attributes.status = 'RUNNING'"
            left = [str(run.info.run_id) for run in client.search_runs(experiments, query)]
            for run_id in left:
                if reason:
                    client.set_tag(run_id, ERROR, redacted(reason).strip().splitlines()[0][:MAX_TAG_LENGTH])
                client.set_terminated(run_id, status="FAILED")
        return left

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        uri = self.tracking_uri()
        for name, value in CLIENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        # A fresh SQLite file that four processes initialise at once breaks: its schema is made by one, alone.
        alone = _alone(uri) if uri.startswith("sqlite:") else nullcontext()
        with answering(uri, unusable(uri)), alone:
            _probe_database(uri)
            yield


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


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


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
