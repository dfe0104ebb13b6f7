"""MLflow's runs: those of the partitions of one step, below the run of their strategy and week.

Lives here: finding, opening, filling and ending them. Does not live here: the connection (`mlflow_tracking`), what is logged
(`components.strategy_stages`), the sizes that MLflow takes (`mlflow_values`).
"""

import json
import math
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg

from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError, answering
from hf_pipelines.resources.mlflow_steps import StepSender
from hf_pipelines.resources.mlflow_values import (
    MAX_TAG_LENGTH,
    ModelNote,
    RunNotes,
    batches,
    loggable_name,
    shortened,
    write_files,
)
from hf_pipelines.resources.redaction import redacted, shown_address

# Pictures are worth so much of a step's time; an artifact store that is away takes no more.
FILES_TIMEOUT_S = 20.0

# What a run that failed says; an attempt that begins anew takes them away.
ERROR, TRACE = "hf.error", "hf.trace"

# Of runs below another one, in MLflow's own words; of the run of a study its hash.
PARENT, STUDY = "mlflow.parentRunId", "hf.study"

# Of a week whose strategy was changed: parameters that are not those of its first model any more.
CHANGED = "hf.changed_params"


class PartitionRuns:
    """Open tracker runs by partition, each below the one of its strategy and week."""

    def __init__(self, client: Any, uri: str) -> None:
        self.client = client
        self.uri = uri
        self.runs: dict[str, str] = {}
        self.parents: dict[str, str] = {}
        self._experiment_id = ""
        self._begins: dict[str, int] = {}
        self._steps = StepSender(self._send, (TrackingUnavailableError,))

    def open(self, experiment_id: str, *, strategy: str, asset: str, partition: str, root: str) -> None:
        """Find or create the run of (asset, partition, root) below the one of (strategy, week), and start it."""
        self.open_parent(experiment_id, strategy=strategy, partition=partition)
        self._open_below(experiment_id, asset, partition, {"hf.root_run_id": root})

    def open_study(self, experiment_id: str, *, strategy: str, asset: str, partition: str, study: str) -> None:
        """Find or create the run of a study, which is told from others by its hash, below that of (strategy, week), and start it."""
        self.open_parent(experiment_id, strategy=strategy, partition=partition)
        self._open_below(experiment_id, asset, partition, {STUDY: study})

    def _open_below(self, experiment_id: str, asset: str, partition: str, own: Mapping[str, str]) -> None:
        tags = {"hf.asset": asset, "hf.partition": partition, **own, PARENT: self.parents[partition]}
        child = _find_or_create(self.client, experiment_id, f"{asset} {partition}", tags)
        self.runs[partition] = str(child.info.run_id)
        for name in (ERROR, TRACE):
            if name in child.data.tags:
                self.client.delete_tag(child.info.run_id, name)
        if child.info.status != "RUNNING":
            self.client.update_run(child.info.run_id, status="RUNNING")

    def open_parent(self, experiment_id: str, *, strategy: str, partition: str) -> None:
        """Find or create the run of (strategy, week), which is never left RUNNING: it waits for nothing."""
        self._experiment_id = experiment_id
        week = {"hf.strategy": strategy, "hf.week": partition}
        parent = _find_or_create(self.client, experiment_id, f"{strategy} {partition}", week)
        self.parents[partition] = str(parent.info.run_id)
        if parent.info.status != "FINISHED":
            self.client.set_terminated(parent.info.run_id, status="FINISHED")

    def log(
        self, partition: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Log to the run of a partition; logging the same again changes nothing.

        Raises
        ------
        TrackingUnavailableError
            If the server has gone away; what was published is safe, and a retry logs again.
        """
        self.note(partition, RunNotes(params=params, metrics=metrics, tags=tags))

    def note(self, partition: str, notes: RunNotes) -> None:
        """Log everything of a partition to its run; logging the same again changes nothing.

        Files are logged if their store takes them within `FILES_TIMEOUT_S`; without them nothing fails.

        Raises
        ------
        TrackingUnavailableError
            If the server has gone away; what was published is safe, and a retry logs again.
        """
        self._note(self.runs[partition], partition, notes)

    def note_week(self, partition: str, notes: RunNotes) -> None:
        """Log to the run of strategy and week, as `note`."""
        self._note(self.parents[partition], partition, notes)

    def log_step(self, partition: str, step: int, numbers: Mapping[str, float]) -> None:
        """Log numbers of a step of a fit that goes on, without waiting for the server; the same step again changes nothing."""
        self._steps.put(
            self.runs[partition], [(loggable_name(name), float(value), step) for name, value in numbers.items()]
        )

    def fail(self, error: BaseException) -> None:
        """Write why to the runs that are open: the first line, and the trace."""
        if isinstance(error, TrackingUnavailableError):
            return
        told = redacted("".join(traceback.format_exception(error)))
        first = (redacted(str(error)).strip().splitlines() or [type(error).__name__])[0]
        # The end of a trace says most.
        tags = {ERROR: first[:MAX_TAG_LENGTH], TRACE: told[-MAX_TAG_LENGTH:]}
        for partition, run_id in self.runs.items():
            try:
                self._note(run_id, partition, RunNotes(tags=tags))
            except TrackingUnavailableError as e:
                dg.get_dagster_logger().warning(f"{e} The reason of the failure is not on its run.")
                return

    def end(self, status: str) -> None:
        """End every run.

        Raises
        ------
        TrackingUnavailableError
            If the server has gone away, unless `status` is FAILED: then the failure that led here is the one to tell.
        """
        self._close_steps()
        for partition, run_id in self.runs.items():
            try:
                with self.answering(f"end the run of {partition}"):
                    self.client.set_terminated(run_id, status=status)
            except TrackingUnavailableError as e:
                if status != "FAILED":
                    raise
                dg.get_dagster_logger().warning(f"{e} Run {run_id} stays RUNNING until then.")

    def answering(self, deed: str) -> AbstractContextManager[None]:
        """While it is open, a server that has gone away is one error that says what was not logged: such as "log 2013-02-24"."""
        return answering(self.uri, self._unlogged(deed))

    def _note(self, run_id: str, partition: str, notes: RunNotes) -> None:
        with self.answering(f"log {partition}"):
            for each in batches(self._new(run_id, notes), time_ms=self._began(run_id)):
                self.client.log_batch(run_id, **each)
            if notes.dataset is not None:
                self.client.log_inputs(run_id, [notes.dataset.to_mlflow()])
            if notes.model is not None:
                self._point_to(run_id, notes.model)
        if notes.files:
            self._log_files(run_id, notes.files)

    def _new(self, run_id: str, notes: RunNotes) -> RunNotes:
        """Notes without the parameters that the run has: MLflow refuses another value. Those that changed are in a tag."""
        if not notes.params:
            return notes
        told = {loggable_name(name): shortened(value) for name, value in notes.params.items()}
        before = self.client.get_run(run_id).data.params
        changed = {name: value for name, value in told.items() if before.get(name, value) != value}
        tags = {CHANGED: json.dumps(changed)} if changed else {}
        new = {name: value for name, value in told.items() if name not in before}
        return replace(notes, params=new, tags={**notes.tags, **tags})

    def _point_to(self, run_id: str, model: ModelNote) -> None:
        """A model of MLflow without bytes: what `mlflow.create_external_model` makes, without its global state."""
        found = self.client.search_logged_models([self._experiment_id], f"source_run_id = '{run_id}'")
        if any(each.tags.get("hf.sha256") == model.sha256 for each in found):
            return
        made = self.client.create_logged_model(
            self._experiment_id,
            name=model.name,
            source_run_id=run_id,
            tags={
                **model.tags,
                "mlflow.model.isExternal": "true",
                "hf.sha256": model.sha256,
                "hf.address": redacted(model.address)[:MAX_TAG_LENGTH],
            },
        )
        self.client.finalize_logged_model(made.model_id, "READY")

    def _log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Log files, in a thread of its own: a client of an artifact store may try for minutes."""
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            write_files(files, Path(folder))
            reason = _within(FILES_TIMEOUT_S, partial(self.client.log_artifacts, run_id, folder))
        if reason:
            dg.get_dagster_logger().warning(
                f"Pictures of MLflow run {run_id} were not logged: {redacted(reason)[:300]}. They are on the asset too."
            )

    def _send(self, run_id: str, points: Any) -> None:
        from mlflow.entities import Metric

        with self.answering("log a step"):
            began = self._began(run_id)
            known = [(name, value, step) for name, value, step in points if math.isfinite(value)]
            self.client.log_batch(run_id, metrics=[Metric(name, value, began, step) for name, value, step in known])

    def _close_steps(self) -> None:
        if lost := self._steps.close():
            dg.get_dagster_logger().warning(
                f"{lost} points of a fit that went on were not logged: {shown_address(self.uri)} was slow or away. Nothing else is "
                "lost; the losses are in the report of the model."
            )

    def _began(self, run_id: str) -> int:
        """Start of a run: MLflow keeps every (metric, time), and a retry's point must be the same point."""
        if run_id not in self._begins:
            self._begins[run_id] = int(self.client.get_run(run_id).info.start_time)
        return self._begins[run_id]

    def _unlogged(self, deed: str) -> Callable[[str], str]:
        return lambda reason: (
            f"`HF_MLFLOW_URI` must answer to {deed}, {shown_address(self.uri)} did not ({reason}); "
            "what was published is safe, re-execute the run to log it."
        )


def _within(seconds: float, call: Callable[[], Any]) -> str:
    """Why a call did not end well within some seconds; "" if it did."""
    told: list[str] = []

    def work() -> None:
        try:
            call()
        # Whatever a client of S3, of a server or of a disk raises: pictures are not worth a failed run.
        except Exception as e:  # noqa: BLE001
            told.append(f"{type(e).__name__}: {e}")

    thread = threading.Thread(target=work, name="mlflow-files", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return f"it took longer than {seconds:g} s"
    return told[0] if told else ""


def _find_or_create(client: Any, experiment_id: str, name: str, tags: Mapping[str, str]) -> Any:
    """The run with these tags, a parent's without one of its own; a new one is RUNNING."""
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = client.search_runs([experiment_id], query, max_results=100, order_by=["attributes.start_time ASC"])
    # Children carry the strategy and the week too.
    own = [run for run in found if (PARENT in run.data.tags) == (PARENT in tags)]
    return own[0] if own else client.create_run(experiment_id, run_name=name, tags=dict(tags))
