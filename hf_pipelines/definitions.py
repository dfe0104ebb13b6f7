"""The front door: everything in `defs/`, with the resources it runs on."""

import os
import warnings
from pathlib import Path

import dagster as dg

from hf_pipelines.components.automation.retraining import end_tracker_runs
from hf_pipelines.components.operations.watch import operations_definitions
from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines.resources.parquet_io_manager import ParquetIOManager, Storage


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
        loaded = tree.build_defs(tree.defs_module_path)
    return dg.Definitions.merge(
        loaded,
        dg.Definitions(component_tree=tree),
        operations_definitions(tree),
        dg.Definitions(
            resources={
                "storage": storage,
                "io_manager": ParquetIOManager(storage=storage),
                "mlflow": MLflowTracking(uri=_if_set("HF_MLFLOW_URI")),
                "clock": Clock(),
                "notifier": Notifier(),
                **_s3_resource(),
            },
            sensors=[end_tracker_runs],
            executor=dg.in_process_executor,
        ),
    )


def _if_set(name: str) -> dg.EnvVar | None:
    """A variable by its name, so that its value shows in no page and no event; None where it is not set."""
    return dg.EnvVar(name) if os.environ.get(name) else None


def _s3_resource() -> dict[str, object]:
    """dagster-aws' S3 client `s3`, for sensors that list a bucket; only where storage is S3."""
    if not settings.storage_uri().startswith("s3://"):
        return {}
    # Half a second to import, which nobody without S3 should wait for.
    from dagster_aws.s3 import S3Resource

    region = "AWS_DEFAULT_REGION" if os.environ.get("AWS_DEFAULT_REGION") else "AWS_REGION"
    s3 = S3Resource(
        endpoint_url=_if_set("HF_S3_ENDPOINT"),
        region_name=_if_set(region),
        # Without them boto3 asks the machine for its role.
        aws_access_key_id=_if_set("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=_if_set("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=_if_set("AWS_SESSION_TOKEN"),
        max_attempts=3,
    )
    return {"s3": s3}
