"""Brisk: Dagster's daemon looks at its sensors every second instead of every five.

Python imports a module of this name when it starts; a test puts this folder on PYTHONPATH. Nothing else is changed.
"""

import sys

if "dagster._daemon" in sys.orig_argv:
    from dagster._daemon import sensor

    sensor.MIN_INTERVAL_LOOP_TIME = 1
