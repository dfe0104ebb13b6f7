"""Instance storage: Dagster's own runs, events and schedules, in SQLite or PostgreSQL.

Lives here: the choice between the two by environment, so that one dagster.yaml serves both worlds. Does not live here:
the project's data (`partition_store`).
"""

import os
from typing import Any

from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from hf_pipelines.resources import settings


class InstanceStorage(DagsterStorage, ConfigurableClass):
    """PostgreSQL where HF_POSTGRES_URL is set, else SQLite below DAGSTER_HOME.

    Named in dagster.yaml; building it returns dagster-postgres' or Dagster's own storage.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        if url := settings.postgres_url():
            from dagster_postgres import DagsterPostgresStorage

            return DagsterPostgresStorage(url, inst_data=inst_data)
        # Without DAGSTER_HOME `dagster dev` works in a temporary folder; what it ran should not be lost with it.
        home = settings.dagster_home()
        os.makedirs(home, exist_ok=True)
        return DagsterSqliteStorage.from_local(str(home / "storage"), inst_data=inst_data)
