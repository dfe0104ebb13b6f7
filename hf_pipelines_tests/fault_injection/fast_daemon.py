"""Fast daemon: how often Dagster's daemon looks at sensors, else every five seconds, and at backfills, else every thirty."""

from dagster._daemon import controller, sensor


def set_pace(seconds: float) -> None:
    sensor.MIN_INTERVAL_LOOP_TIME = controller.DEFAULT_DAEMON_INTERVAL_SECONDS = seconds
