"""Kept storage: Dagster's SQLite storage keeps its engines, and what it has read of its migrations.

Dagster makes an engine for each question, which then compiles each statement anew, and reads all its migrations whenever
an instance is opened: most of what a tick and an event cost. The statements and their answers are the same.
"""

from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sql import create_engine


def keep() -> None:
    """Keep engines and migrations."""
    engines = {}

    def kept_engine(address, **options):
        if address not in engines:
            engines[address] = create_engine(address, **options)
        return engines[address]

    for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        module.create_engine = kept_engine
    keep_migrations()


def keep_migrations() -> None:
    """Read the migrations of each kind of storage once."""
    directories = {}
    from_config = ScriptDirectory.from_config

    def kept_directory(config):
        place = config.get_main_option("script_location")
        if place not in directories:
            directories[place] = from_config(config)
        return directories[place]

    ScriptDirectory.from_config = kept_directory
