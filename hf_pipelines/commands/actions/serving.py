"""Serving: web UIs and the whole stack, on 127.0.0.1."""

from functools import partial
from typing import Annotated

import typer

from hf_pipelines.commands.app import SERVE, command

Port = Annotated[int, typer.Option(help="Of 127.0.0.1.")]


@command(panel=SERVE, writes=False, examples=("hfp ui", "hfp ui --read-only --port 3001"))
def ui(
    port: Port = 3000,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Viewer mode: nothing can be launched or changed.")
    ] = False,
) -> None:
    """Start the Dagster web UI and daemon on 127.0.0.1."""
    from hf_pipelines.serving.stack import run_ui

    run_ui(port, is_read_only=read_only)


@command(panel=SERVE, writes=False)
def mlflow(port: Port = 5000) -> None:
    """Open MLflow's web UI on the store that the project logs to."""
    from hf_pipelines.serving.mlflow_ui import open_mlflow

    open_mlflow(port, partial(print, flush=True))


@command(panel=SERVE, writes=False)
def stack(web_port: Port = 3000, mlflow_port: Port = 5000, postgres_port: Port = 5432, s3_port: Port = 9000) -> None:
    """Start PostgreSQL, S3, MLflow, web UI and daemon on 127.0.0.1."""
    from hf_pipelines.serving.stack import Ports, run_stack

    run_stack(Ports(web_port, mlflow_port, postgres_port, s3_port))
