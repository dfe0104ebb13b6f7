"""`hfp`: thin commands over the pipeline.

Lives here: words on the command line. Does not live here: anything they do.
"""

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    warnings.filterwarnings("ignore", message=".*currently in (beta|preview).*")
    options = _parser().parse_args(arguments)
    from hf_pipelines.resources.object_store import StorageUnavailableError
    from hf_pipelines.runs import RunFailedError

    try:
        options.run(options)
    except (ValueError, RunFailedError, StorageUnavailableError) as e:
        print(f"hfp: {e}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hfp", description="Orchestrated quant research that can be trusted.")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser("demo", help="run the whole pipeline on real bars and print the result")
    demo.set_defaults(run=_demo)

    materialise = commands.add_parser("materialise", help="materialise an asset for a range of partitions")
    materialise.add_argument("asset", help="asset path such as us_tech/bars")
    materialise.add_argument("--from", dest="first", required=True, help="first partition, YYYY-MM-DD")
    materialise.add_argument("--to", dest="last", help="last partition (default: the first)")
    materialise.set_defaults(run=_materialise)

    retrain = commands.add_parser("retrain", help="train, test and backtest a strategy for one week")
    retrain.add_argument("strategy")
    retrain.add_argument("--week", required=True, help="its Sunday, YYYY-MM-DD")
    retrain.set_defaults(run=_retrain)

    current = commands.add_parser("current", help="say which stored partitions of an asset are out of date, and why")
    current.add_argument("asset")
    current.set_defaults(run=_current)

    ui = commands.add_parser("ui", help="start the Dagster web UI and daemon on 127.0.0.1")
    ui.add_argument("--port", type=int, default=3000)
    ui.set_defaults(run=_ui)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from hf_pipelines.demo import Demo
    from hf_pipelines.runs import Pipeline

    Demo(Pipeline.open()).run()


def _materialise(options: argparse.Namespace) -> None:
    from hf_pipelines.runs import Pipeline

    pipeline = Pipeline.open()
    keys = pipeline.partition_keys(options.asset, options.first, options.last or options.first)
    if not keys:
        raise ValueError(f"`to` must not be before `from` {options.first}, was {options.last}.")
    seconds = pipeline.materialise([options.asset], keys[0], keys[-1])
    print(f"{options.asset}: {len(keys)} partition(s) from {keys[0]} to {keys[-1]} in {seconds:.1f} s")


def _retrain(options: argparse.Namespace) -> None:
    from hf_pipelines.components.strategy_stages import RETRAINED
    from hf_pipelines.runs import Pipeline

    pipeline = Pipeline.open()
    assets = [f"{options.strategy}/{stage}" for stage in RETRAINED]
    pipeline.partition_keys(assets[0], options.week, options.week)
    seconds = pipeline.materialise(assets, options.week, options.week)
    print(f"{options.strategy}: model of week {options.week} in {seconds:.1f} s")


def _current(options: argparse.Namespace) -> None:
    from hf_pipelines.runs import Pipeline

    pipeline = Pipeline.open()
    if options.asset not in pipeline.assets():
        raise ValueError(f"`asset` must be one of {', '.join(pipeline.assets())}, was {options.asset[:80]!r}.")
    checker = pipeline.checker()
    keys = pipeline.store.partitions(options.asset)
    stale = {key: found for key in keys if not (found := checker.is_current(options.asset, key)).is_current}
    for key, found in stale.items():
        print(f"{options.asset} {key}: {found.reason}")
    print(f"{options.asset}: {len(keys) - len(stale)} of {len(keys)} stored partitions are current")


def _ui(options: argparse.Namespace) -> None:
    from hf_pipelines.resources import settings

    home = settings.prepare_dagster_home()
    root = settings.PACKAGE_ROOT.parent
    print(f"Dagster web UI on http://127.0.0.1:{options.port} (instance in {home}); Ctrl-C stops it.", flush=True)
    command = [
        sys.executable, "-m", "dagster", "dev", "-w", str(root / "workspace.yaml"),
        "-h", "127.0.0.1", "-p", str(options.port),
    ]  # fmt: skip
    # In this process' place: whoever stops `hfp ui`, by Ctrl-C or by its pid, stops the servers with it.
    # A shell's `&` leaves SIGINT ignored, and Dagster then ignores SIGTERM as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execve(sys.executable, command, os.environ)


if __name__ == "__main__":
    sys.exit(main())
