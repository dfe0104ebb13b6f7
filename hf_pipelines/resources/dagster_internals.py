"""Dagster internals: every name that the project takes from Dagster's private modules.

Lives here: where each of them is found. Does not live here: what is done with it, and Dagster's public names (`dagster`).

A new version of Dagster may move, change or remove any of them. Its test names which, and import rules keep private imports
out of all other modules. A name is imported when it is first asked for: storages and gRPC clients take seconds to import, and
the code location needs neither.
"""

# Whoever imports from here uses them.
# ruff: noqa: F401

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
    from dagster._core.errors import (
        DagsterLaunchFailedError,
        DagsterUserCodeProcessError,
        DagsterUserCodeUnreachableError,
    )
    from dagster._core.events import JobFailureData
    from dagster._core.execution.context.system import StepExecutionContext
    from dagster._core.execution.plan.objects import StepFailureData
    from dagster._core.instance.ref import InstanceRef
    from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
    from dagster._core.remote_origin import RemoteJobOrigin
    from dagster._core.remote_representation.code_location import GrpcServerCodeLocation
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        InstigatorTick,
        InstigatorType,
        TickData,
        TickStatus,
    )
    from dagster._core.storage.base_storage import DagsterStorage
    from dagster._core.storage.compute_log_manager import ComputeLogManager
    from dagster._core.storage.dagster_run import FINISHED_STATUSES, IN_PROGRESS_RUN_STATUSES, NOT_FINISHED_STATUSES
    from dagster._core.storage.event_log import SqliteEventLogStorage
    from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
    from dagster._core.storage.runs import RunStorage, SqliteRunStorage
    from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
    from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
    from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, GRPC_INFO_TAG, MAX_RETRIES_TAG, WILL_RETRY_TAG
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import (
        CanCancelExecutionRequest,
        CanCancelExecutionResult,
        ExecuteExternalJobArgs,
        GetCurrentRunsResult,
        StartRunResult,
    )
    from dagster._serdes import ConfigurableClass, ConfigurableClassData, deserialize_value, serialize_value
    from dagster._utils.interrupts import setup_interrupt_handlers
    from dagster._utils.schedules import get_latest_completed_cron_tick
    from dagster_shared.error import SerializableErrorInfo

# `python -m` of it is the daemon.
DAEMON_MODULE = "dagster._daemon"

# The same as above, for the program: private module of Dagster, and what is taken from it.
NAMES: dict[str, tuple[str, ...]] = {
    "dagster._core.definitions.unresolved_asset_job_definition": ("UnresolvedAssetJobDefinition",),
    "dagster._core.errors": (
        "DagsterLaunchFailedError",
        "DagsterUserCodeProcessError",
        "DagsterUserCodeUnreachableError",
    ),
    "dagster._core.events": ("JobFailureData",),
    "dagster._core.execution.context.system": ("StepExecutionContext",),
    "dagster._core.execution.plan.objects": ("StepFailureData",),
    "dagster._core.instance.ref": ("InstanceRef",),
    "dagster._core.launcher": (
        "CheckRunHealthResult",
        "DefaultRunLauncher",
        "LaunchRunContext",
        "WorkerStatus",
    ),
    "dagster._core.remote_origin": ("RemoteJobOrigin",),
    "dagster._core.remote_representation.code_location": ("GrpcServerCodeLocation",),
    "dagster._core.scheduler.instigation": (
        "InstigatorState",
        "InstigatorStatus",
        "InstigatorTick",
        "InstigatorType",
        "TickData",
        "TickStatus",
    ),
    "dagster._core.storage.base_storage": ("DagsterStorage",),
    "dagster._core.storage.compute_log_manager": ("ComputeLogManager",),
    "dagster._core.storage.dagster_run": (
        "FINISHED_STATUSES",
        "IN_PROGRESS_RUN_STATUSES",
        "NOT_FINISHED_STATUSES",
    ),
    "dagster._core.storage.event_log": ("SqliteEventLogStorage",),
    "dagster._core.storage.local_compute_log_manager": ("LocalComputeLogManager",),
    "dagster._core.storage.runs": ("RunStorage", "SqliteRunStorage"),
    "dagster._core.storage.schedules.sqlite.sqlite_schedule_storage": ("SqliteScheduleStorage",),
    "dagster._core.storage.sqlite_storage": ("DagsterSqliteStorage",),
    "dagster._core.storage.tags": (
        "AUTO_RETRY_RUN_ID_TAG",
        "GRPC_INFO_TAG",
        "MAX_RETRIES_TAG",
        "WILL_RETRY_TAG",
    ),
    "dagster._core.workspace.context": ("WorkspaceProcessContext",),
    "dagster._core.workspace.load_target": ("WorkspaceFileTarget",),
    "dagster._grpc.client": ("DagsterGrpcClient",),
    "dagster._grpc.types": (
        "CanCancelExecutionRequest",
        "CanCancelExecutionResult",
        "ExecuteExternalJobArgs",
        "GetCurrentRunsResult",
        "StartRunResult",
    ),
    "dagster._serdes": (
        "ConfigurableClass",
        "ConfigurableClassData",
        "deserialize_value",
        "serialize_value",
    ),
    "dagster._utils.interrupts": ("setup_interrupt_handlers",),
    "dagster._utils.schedules": ("get_latest_completed_cron_tick",),
    "dagster_shared.error": ("SerializableErrorInfo",),
}

_MODULE_OF = {name: module for module, names in NAMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """The name from its module, kept for the next time."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = found
        return found
