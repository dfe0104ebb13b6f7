"""The front door: everything in `defs/`, with the resources it runs on."""

from pathlib import Path

import dagster as dg

from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.parquet_io_manager import ParquetIOManager, Storage


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions of this code location.

    The steps of a run share one process: importing the ML stack costs seconds a process. A run is the unit of
    parallelism.
    """
    storage = Storage()
    tree = dg.ComponentTree.for_project(Path(__file__).parent)
    return dg.Definitions.merge(
        # `dg.load_from_defs_folder` would also import every installed component library to list it: a second.
        tree.build_defs(tree.defs_module_path),
        dg.Definitions(component_tree=tree),
        dg.Definitions(
            resources={
                "storage": storage,
                "io_manager": ParquetIOManager(storage=storage),
                "mlflow": MLflowTracking(),
                "clock": Clock(),
            },
            executor=dg.in_process_executor,
        ),
    )
