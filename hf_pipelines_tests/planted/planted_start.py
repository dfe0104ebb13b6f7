"""Planted start: a code server forks its runs from a process that has imported the libraries, instead of starting each anew.

Importing is most of what a short run costs. The project's own code is not among what is imported before: each run loads
it from the files, as one that was started anew does. Tests of how runs start, die and are found dead leave it alone.
"""

import multiprocessing
from multiprocessing import forkserver

# What runs of bars and features import, and what those of models do besides.
OF_DATA = [
    "dagster",
    "dagster.components",
    "dagster._core.execution.api",
    "dagster._grpc.impl",
    "polars",
    "pyarrow.parquet",
    "numba",
    "exchange_calendars",
    "obstore",
]
OF_MODELS = ["sklearn.linear_model", "sklearn.pipeline", "dagster_mlflow", "mlflow", "matplotlib.pyplot", "skops.io"]
LIBRARIES = {"data": OF_DATA, "models": [*OF_DATA, *OF_MODELS]}


def fork_runs(kind: str) -> None:
    """Start the fork server, which imports beside the code server, and have runs forked from it."""
    get_context = multiprocessing.get_context
    forkserver.set_forkserver_preload(LIBRARIES[kind])
    forkserver.ensure_running()

    def chosen(method=None):
        return get_context("forkserver" if method == "spawn" else method)

    multiprocessing.get_context = chosen
