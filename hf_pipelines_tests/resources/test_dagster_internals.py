"""Private names of Dagster: each is where it was, with the signature that is used; no other module imports one."""

import ast
import inspect
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hf_pipelines.resources import dagster_internals
from hf_pipelines.resources.dagster_internals import DAEMON_MODULE, NAMES

PACKAGE = Path(dagster_internals.__file__).resolve().parents[1]
MODULE = Path(dagster_internals.__file__)
ALL_NAMES = sorted(name for names in NAMES.values() for name in names)


# How each one is called: positional arguments, and names of keyword arguments.
CALLS = {
    "CanCancelExecutionRequest": ((), ["run_id"]),
    "CheckRunHealthResult": (("status", "reason"), []),
    "ConfigurableClassData": (("module", "Class", "yaml"), []),
    "DagsterGrpcClient": ((), ["host", "port", "socket", "use_ssl"]),
    "DagsterGrpcClient.can_cancel_execution": (("self", "request"), ["timeout"]),
    "DagsterGrpcClient.get_current_runs": (("self",), []),
    "DagsterGrpcClient.start_run": (("self", "request"), []),
    "DagsterLaunchFailedError": (("message",), ["serializable_error_info"]),
    "DagsterSqliteStorage": (("base_dir", "inst_data"), []),
    "DagsterSqliteStorage.from_local": (("base_dir",), ["inst_data"]),
    "DefaultRunLauncher.terminate": (("self", "run_id"), []),
    "ExecuteExternalJobArgs": ((), ["job_origin", "run_id", "instance_ref"]),
    "InstanceRef._replace": (("self",), ["storage_data"]),
    "LocalComputeLogManager": (("base_dir",), ["inst_data"]),
    "RunStorage.get_runs": (("self", "filters"), []),
    "SqliteEventLogStorage": (("base_dir",), []),
    "SqliteRunStorage": (("conn_string",), []),
    "SqliteScheduleStorage": (("conn_string",), []),
    "WorkspaceFileTarget": ((), ["paths"]),
    "WorkspaceProcessContext": (("instance", "target"), ["version", "read_only"]),
    "deserialize_value": (("text", "type"), []),
    "get_latest_completed_cron_tick": (("cron", "at", "time zone"), []),
    "serialize_value": (("value",), []),
    "setup_interrupt_handlers": ((), []),
}

# What our classes replace: a method that no longer exists would never be called. With its parameters, in their order.
REPLACED = {
    "ConfigurableClass.config_type": [],
    "ConfigurableClass.from_config_value": ["inst_data", "config_value"],
    "DefaultRunLauncher.check_run_worker_health": ["self", "run"],
    "DefaultRunLauncher.launch_run": ["self", "context"],
    "DefaultRunLauncher.terminate": ["self", "run_id"],
    "SqliteEventLogStorage._connect": ["self", "shard"],
    "SqliteEventLogStorage.get_logs_for_all_runs_by_log_id": ["self", "after_cursor", "dagster_event_type", "limit"],
    "SqliteEventLogStorage.store_event": ["self", "event"],
    "SqliteEventLogStorage.store_event_batch": ["self", "events"],
    "SqliteRunStorage.connect": ["self"],
    "SqliteScheduleStorage.connect": ["self"],
    "SqliteScheduleStorage.create_tick": ["self", "tick_data"],
    "SqliteScheduleStorage.update_tick": ["self", "tick"],
}

# What is read of them besides.
READ = {
    "CanCancelExecutionResult": ["can_cancel"],
    "DagsterGrpcClient": ["host", "port", "socket", "use_ssl"],
    "DefaultRunLauncher": ["supports_check_run_worker_health"],
    "GetCurrentRunsResult": ["current_runs"],
    "GrpcServerCodeLocation": ["client"],
    "InstanceRef": ["storage_data"],
    "InstigatorState": [
        "instigator_data",
        "instigator_origin_id",
        "instigator_type",
        "name",
        "selector_id",
        "status",
    ],
    "InstigatorStatus": ["DECLARED_IN_CODE", "RUNNING"],
    "InstigatorTick": ["error", "timestamp"],
    "InstigatorType": ["SCHEDULE", "SENSOR"],
    "LaunchRunContext": ["dagster_run", "workspace"],
    "RemoteJobOrigin": ["repository_origin"],
    "StartRunResult": ["message", "serializable_error_info", "success"],
    "StepExecutionContext": ["log", "previous_attempt_count", "step"],
    "TickStatus": ["FAILURE", "SKIPPED", "SUCCESS"],
    "WorkerStatus": ["NOT_FOUND", "RUNNING"],
}

SET_IN_INIT = ("GrpcServerCodeLocation",)

# The values by which tags and statuses are stored.
VALUES = {
    "AUTO_RETRY_RUN_ID_TAG": "dagster/auto_retry_run_id",
    "GRPC_INFO_TAG": ".dagster/grpc_info",
    "MAX_RETRIES_TAG": "dagster/max_retries",
    "WILL_RETRY_TAG": "dagster/will_retry",
}


def _found(path: str) -> object:
    found: object = dagster_internals
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in NAMES for name in NAMES[module]])
def test_private_name_is_where_dagster_had_it(module, name):
    assert find_spec(module) is not None, f"{module} is gone from this version of Dagster"
    assert hasattr(dagster_internals, name), f"{name} is gone from {module} of this version of Dagster"


@pytest.mark.parametrize("path", CALLS)
def test_call_still_fits_the_signature(path):
    arguments, keywords = CALLS[path]
    inspect.signature(_found(path)).bind(*arguments, **dict.fromkeys(keywords))


@pytest.mark.parametrize("path", REPLACED)
def test_method_that_is_replaced_is_there_with_its_parameters(path):
    assert list(inspect.signature(_found(path)).parameters) == REPLACED[path]


@pytest.mark.parametrize("name", READ)
def test_attributes_that_are_read_are_there(name):
    found = _found(name)
    # Fields of named tuples and records are attributes of the class; a plain class sets its own in its `__init__`.
    made = re.findall(r"\bself\.(\w+)(?::[^=]+)? = ", inspect.getsource(found.__init__)) if name in SET_IN_INIT else []
    fields = {*dir(found), *inspect.signature(found).parameters, *made}
    assert sorted(set(READ[name]) - fields) == []


@pytest.mark.parametrize("name", VALUES)
def test_tag_has_the_value_that_stored_runs_carry(name):
    assert _found(name) == VALUES[name]


def test_statuses_of_runs_are_those_that_decisions_rest_on():
    ended = {"SUCCESS", "FAILURE", "CANCELED"}
    assert {each.value for each in dagster_internals.FINISHED_STATUSES} == ended
    assert ended.isdisjoint({each.value for each in dagster_internals.IN_PROGRESS_RUN_STATUSES})
    assert ended.isdisjoint({each.value for each in dagster_internals.NOT_FINISHED_STATUSES})


def test_daemon_starts_as_a_module():
    assert find_spec(f"{DAEMON_MODULE}.__main__") is not None


def test_storage_and_launcher_keep_their_parts_under_the_names_that_are_used(tmp_path):
    storage = dagster_internals.DagsterSqliteStorage(str(tmp_path))
    assert storage._event_log_storage._base_dir
    assert storage._schedule_storage is storage.schedule_storage and storage.run_storage is not None
    assert dagster_internals.DefaultRunLauncher()._run_ids == set()


def test_no_other_module_imports_a_private_module_of_dagster():
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"\bdagster\._", line) and path != MODULE
    ]
    assert found == []


def test_names_for_the_type_checker_are_those_of_the_program_and_each_is_used():
    imports = (each for each in ast.walk(ast.parse(MODULE.read_text())) if isinstance(each, ast.ImportFrom))
    typed = {
        each.module: tuple(alias.name for alias in each.names)
        for each in imports
        if (each.module or "").startswith(("dagster.", "dagster_shared."))
    }
    assert typed == NAMES
    others = "\n".join(path.read_text() for path in sorted(PACKAGE.rglob("*.py")) if path != MODULE)
    assert [name for name in ALL_NAMES if not re.search(rf"\b{name}\b", others)] == []


def test_asking_for_no_name_imports_nothing_of_dagster():
    code = "import sys, hf_pipelines.resources.dagster_internals; print([m for m in sys.modules if m[:7] == 'dagster'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"
