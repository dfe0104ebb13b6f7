"""The front door: everything in `defs/`, with the resources it runs on."""

import warnings
from pathlib import Path

import dagster as dg

from hf_pipelines.components.automation.housekeeping import housekeeping, housekeeping_schedule
from hf_pipelines.components.automation.retraining import end_tracker_runs
from hf_pipelines.components.operations.watch import operations_definitions
from hf_pipelines.components.yaml_lines import LOADING_ERRORS, FaultyYAMLError, loading_fault
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines.resources.parquet_io_manager import ParquetIOManager, Storage
from hf_pipelines.resources.s3_client import S3Client, if_set
from hf_pipelines.resources.settings import PACKAGE_ROOT


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions of this code location.

    The steps of a run share one process: importing the ML stack costs seconds a process. A run is the unit of
    parallelism.
    """
    storage = Storage()
    tree = dg.ComponentTree.for_project(Path(__file__).parent)
    # `dg.load_from_defs_folder` would also import every installed component library to list it: a second. Like it, no
    # warning for each argument of Dagster's that may still change: its version is pinned.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        try:
            loaded = tree.build_defs(tree.defs_module_path)
        except LOADING_ERRORS as e:
            # The web UI shows the last error first: the fault, not what Dagster wraps around it.
            if not (told := loading_fault(e, PACKAGE_ROOT / "defs")):
                raise
            raise FaultyYAMLError(told) from e
    return dg.Definitions.merge(
        loaded,
        dg.Definitions(component_tree=tree),
        operations_definitions(tree),
        dg.Definitions(
            resources={
                "storage": storage,
                "io_manager": ParquetIOManager(storage=storage),
                "mlflow": MLflowTracking(uri=if_set("HF_MLFLOW_URI")),
                "clock": Clock(),
                "notifier": Notifier(),
                "s3": S3Client.from_environment(),
            },
            jobs=[housekeeping],
            schedules=[housekeeping_schedule],
            sensors=[end_tracker_runs],
            executor=dg.in_process_executor,
        ),
    )
