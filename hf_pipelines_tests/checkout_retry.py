"""One asset partition as a Dagster run, or a re-execution of one: `python -m hf_pipelines_tests.checkout_retry`.

Arguments: strategy, stage, week and, for a re-execution, the run to retry. Prints one JSON object. It does what the
web UI's "Re-execute" does: a new run with the same root.
"""

import json
import sys

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository

from hf_pipelines.resources import settings


def main(strategy: str, stage: str, week: str, parent_run_id: str | None = None) -> None:
    settings.prepare_dagster_home()
    repository = ReconstructableRepository.for_module("hf_pipelines.definitions", "defs")
    job = repository.get_reconstructable_job(f"{strategy}_retrain")
    options = None
    if parent_run_id is not None:
        options = dg.ReexecutionOptions(parent_run_id=parent_run_id, step_selection=[f"{strategy}__{stage}"])
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            job,
            instance=instance,
            asset_selection=None if options else [dg.AssetKey([strategy, stage])],
            tags={"dagster/partition": week},
            reexecution_options=options,
        )
        run = instance.get_run_by_id(result.run_id)
    failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    messages = [error.to_string() for error in failures if error is not None]
    root = run.root_run_id if run is not None else None
    print(json.dumps({"run_id": result.run_id, "root": root, "success": result.success, "messages": messages}))


if __name__ == "__main__":
    main(*sys.argv[1:])
