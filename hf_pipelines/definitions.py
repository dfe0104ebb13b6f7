"""The front door: everything in `defs/`, with the resources it runs on.

A project of its own has such a module too, which calls `build_defs`:

    @dg.definitions
    def defs() -> dg.Definitions:
        return build_defs(Path(__file__))
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import dagster as dg

from hf_pipelines.components.automation.housekeeping import housekeeping, housekeeping_schedule
from hf_pipelines.components.automation.retraining import end_tracker_runs
from hf_pipelines.components.component_tree import LoadedComponents, load_components, load_sound_components
from hf_pipelines.components.operations.following import promotions_sensor
from hf_pipelines.components.operations.watch import operations_definitions
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines.resources.parquet_io_manager import ParquetIOManager, Storage
from hf_pipelines.resources.project import PACKAGE_ROOT, project_of, require_project
from hf_pipelines.resources.s3_client import S3Client, if_set


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions of this code location.

    Raises
    ------
    FaultyYAMLError
        If a component cannot be loaded: a line a fault, with its file and line.
    """
    return build_defs(PACKAGE_ROOT)


def build_defs(path_within_project: Path, *others: dg.Definitions) -> dg.Definitions:
    """Definitions of a project: its markets and strategies, what operates them, and the resources that they run on.

    Parameters
    ----------
    path_within_project : Path
        A file or folder of the project, such as `Path(__file__)` of its definitions module.
    *others : dg.Definitions
        Further assets, checks, jobs, sensors of the project's own.

    Returns
    -------
    dg.Definitions
        Assets, checks, jobs, schedules, sensors and resources.

    Raises
    ------
    ValueError
        If it lies in no project.
    FaultyYAMLError
        If a component cannot be loaded: a line a fault, with its file and line.
    """
    project = project_of(path_within_project)
    project.use()
    with _without_dagster_warnings():
        return dg.Definitions.merge(definitions_of(load_components(project.root)), *others)


def project_defs() -> dg.Definitions:
    """Definitions of the project of this process, from its own module.

    Raises
    ------
    ValueError
        If there is no project, or its module has no `defs`.
    FaultyYAMLError
        If a component cannot be loaded.
    """
    project = require_project()
    if project.is_ours:
        return defs()
    project.use()
    found = getattr(import_module(project.definitions), "defs", None)
    found = found() if callable(found) else found
    if not isinstance(found, dg.Definitions):
        raise ValueError(
            f"`{project.definitions}` must have Dagster definitions named `defs`, was without; write in it: defs = "
            "build_defs(Path(__file__))"
        )
    return found


def sound_defs() -> tuple[dg.Definitions, dict[Path, str]]:
    """Definitions of the project's components that can be loaded, and the faults of the others by their folders."""
    project = require_project()
    project.use()
    with _without_dagster_warnings():
        loaded = load_sound_components(project.root)
    return definitions_of(loaded), loaded.faults


@contextmanager
def _without_dagster_warnings() -> Iterator[None]:
    """No warning for each argument of Dagster's that may still change: its version is pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield


def definitions_of(loaded: LoadedComponents) -> dg.Definitions:
    """Definitions of components, with the resources they run on.

    The steps of a run share one process: importing the ML stack costs seconds a process. A run is the unit of
    parallelism.
    """
    storage = Storage()
    return dg.Definitions.merge(
        loaded.definitions,
        dg.Definitions(component_tree=loaded.tree),
        operations_definitions(loaded.tree),
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
            sensors=[end_tracker_runs, promotions_sensor()],
            executor=dg.in_process_executor,
        ),
    )
