"""Kept storage: Dagster's SQLite storage keeps what it has read of its migrations.

Dagster reads all its migrations whenever an instance is opened, which a short-lived process of a test does for little else.
"""

from alembic.script import ScriptDirectory


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
