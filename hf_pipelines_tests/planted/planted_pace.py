"""Planted pace: Dagster's daemon looks at its sensors every second instead of every five, at backfills instead of every thirty."""

from dagster._daemon import controller, sensor


def hasten() -> None:
    sensor.MIN_INTERVAL_LOOP_TIME = controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1
