"""Instance storage: Dagster's own runs, events and schedules, in SQLite or PostgreSQL.

Lives here: the choice between the two by environment, so that one dagster.yaml serves both worlds. Does not live here:
the project's data (`partition_store`).

Dagster concept: instance storage. dagster.yaml names this class and holds no address: the password stays in the
environment of the processes that Dagster starts, and out of the arguments that it gives them.
"""

import os
from typing import Any

from dagster import Field

from hf_pipelines.resources import settings
from hf_pipelines.resources.dagster_internals import ConfigurableClass, ConfigurableClassData, DagsterStorage
from hf_pipelines.resources.redaction import guard_process, redacted
from hf_pipelines.resources.run_claims import RUN_ID, claim_if_worker
from hf_pipelines.resources.run_ends import SettledSqliteStorage
from hf_pipelines.resources.s3_access import forbid_metadata
from hf_pipelines.resources.storage_errors import StorageUnavailableError

# A backfill that is looked at while the code server restarts waits for it; by default it fails and ends its runs.
WAIT_FOR_CODE = "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR"


class InstanceStorage(DagsterStorage, ConfigurableClass):
    """PostgreSQL where HF_POSTGRES_URL is set, else SQLite below DAGSTER_HOME.

    Named in dagster.yaml; building it returns dagster-postgres' or Dagster's own storage, both with settled ends of runs.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        # Not for dagster.yaml: the launcher names the run to the process that it has started.
        return {RUN_ID: Field(str, is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        # Read by Dagster's daemon, and nowhere to be set in dagster.yaml.
        os.environ.setdefault(WAIT_FOR_CODE, "1")
        # Every process of Dagster comes by here.
        guard_process()
        forbid_metadata()
        storage = _opened(inst_data)
        if run_id := config_value.get(RUN_ID):
            claim_if_worker(run_id, storage.run_storage, settings.dagster_home())
        return storage


def _opened(inst_data: ConfigurableClassData | None) -> Any:
    if url := settings.postgres_url():
        return _postgres(url, inst_data)
    # Without DAGSTER_HOME `dagster dev` works in a temporary folder; what it ran should not be lost with it.
    home = settings.dagster_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StorageUnavailableError(
            f"`DAGSTER_HOME` must be a folder that can be written, was {home} ({e.strerror}); set another one."
        ) from e
    return SettledSqliteStorage.from_local(str(home / "storage"), inst_data=inst_data)


def _postgres(url: str, inst_data: ConfigurableClassData | None) -> Any:
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    from hf_pipelines.resources.patient_postgres import PatientPostgresStorage

    try:
        address = make_url(url)
        is_postgres = address.get_backend_name() == "postgresql"
    except (ArgumentError, ValueError):
        is_postgres = False
    if is_postgres and url.partition("://")[2].partition("?")[0].count("@") > 1:
        # Which of them ends the password cannot be known, and the rest would be shown as a host.
        raise StorageUnavailableError(
            "`HF_POSTGRES_URL` must have one @, before the host, had more; write an @ in its password as %40."
        )
    if not is_postgres:
        # The value is not quoted: whatever it is, it may hold a password.
        raise StorageUnavailableError(
            "`HF_POSTGRES_URL` must be like postgresql://user:password@host:5432/database, was something else."
        )
    try:
        return PatientPostgresStorage(url, inst_data=inst_data)
    except (SQLAlchemyError, DagsterPostgresException) as e:
        shown = f"{address.host or 'localhost'}:{address.port or 5432}/{address.database}"
        reason = redacted(str(e.__cause__ or e).strip().split("\n")[0])[:200]
    # Not chained: Dagster stores the whole chain, and a cause may quote the address with its password.
    raise StorageUnavailableError(
        f"`HF_POSTGRES_URL` must be a PostgreSQL database that answers, {shown} did not ({reason}); "
        "start it, correct the address or unset it for SQLite."
    ) from None
