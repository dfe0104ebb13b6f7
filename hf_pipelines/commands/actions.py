"""Actions: what each command of `hfp` does, in a few calls.

Lives here: one function a command, which gets the parsed arguments and returns its exit status where it has more than one. Does not live
here: the arguments and their words (`cli`), the work itself (the modules that they import; each imports what it needs when it is
called, so that a bare command starts at once).
"""

import argparse
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path


def init(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.scaffolding import make_project

    folder = Path(options.into or options.name)
    made = make_project(options.name, folder)
    _print(
        [
            f"{options.name}: {len(made)} files in {folder.absolute()}. Next:",
            f"  cd {folder}",
            "  make demo    # or, in this environment: hfp demo",
            "  make test",
        ]
    )


def new(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.scaffolding import KINDS, add_entry
    from hf_pipelines.resources.project import require_project

    if options.kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, was {options.kind[:40]!r}.")
    _print(add_entry(options.kind, options.name, require_project(), market=options.market))


def demo(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.demo import Demo
    from hf_pipelines.commands.runs import Pipeline

    Demo(Pipeline.open(), is_full=options.full).run()


def materialise(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    keys = pipeline.partition_keys(options.asset, options.first, options.last or options.first)
    if not keys:
        raise ValueError(f"`to` must not be before `from` {options.first}, was {options.last}.")
    if options.with_inputs:
        from hf_pipelines.commands.making import Maker

        plan = pipeline.strategy(options.asset.partition("/")[0])
        Maker(pipeline).make_inputs(plan.market, {options.asset: (plan, keys[0], keys[-1])})
    seconds = pipeline.materialise([options.asset], keys[0], keys[-1])
    print(f"{options.asset}: {len(keys)} partition(s) from {keys[0]} to {keys[-1]} in {seconds:.1f} s")


def retrain(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.components.strategy_stages import retrained
    from hf_pipelines.resources.holdout import FINAL_REFIT_TAG

    pipeline = Pipeline.open()
    plan = pipeline.strategy(options.strategy)
    assets = [f"{options.strategy}/{stage}" for stage in retrained(plan)]
    tags = {}
    if options.final_refit is not None:
        assets.append(refit := f"{options.strategy}/refit_matrix")
        if refit not in pipeline.assets():
            raise ValueError(
                f"`final-refit` must be of a strategy with a hold-out, was of {options.strategy}, whose models are fitted on all "
                "weeks; leave it out."
            )
        tags = {FINAL_REFIT_TAG: options.final_refit}
    named = ("week", "to")
    keys = pipeline.partition_keys(assets[0], options.week, options.last or options.week, named=named)
    if not keys:
        raise ValueError(f"`to` must not be before `week` {options.week}, was {options.last}.")
    if options.with_inputs:
        from hf_pipelines.commands.making import Maker
        from hf_pipelines.components.strategy_stages.training_matrix import require_window

        # Before minutes are spent on inputs of a matrix that cannot be made.
        require_window(plan, keys[0])
        wanted = {asset: (plan, keys[0], keys[-1]) for asset in assets}
        Maker(pipeline).make_inputs(plan.market, wanted)
    seconds = pipeline.materialise(assets, keys[0], keys[-1], tags=tags)
    shown = f"model of week {keys[0]}" if len(keys) == 1 else f"models of {len(keys)} weeks, {keys[0]} to {keys[-1]},"
    print(f"{options.strategy}: {shown} in {seconds:.1f} s")
    _print(pipeline.verdict_lines(options.strategy, keys[-1]))


def compare(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.compare import compare_lines
    from hf_pipelines.commands.runs import Pipeline

    _print(compare_lines(Pipeline.open(), options.strategies, options.week))


def status(options: argparse.Namespace) -> int:
    import json

    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.components.yaml_lines import fault_lines

    # It has a line of its own for each component that is left out.
    pipeline = Pipeline.open(tells_faults=False)
    status = pipeline.status()
    faults = fault_lines(pipeline.faults)
    if options.json:
        print(json.dumps({**status.to_json(), "left_out": faults}, indent=1))
    else:
        print("\n".join([*status.lines(), *(f"not loaded: {each}" for each in faults)]))
    return 2 if options.strict and (faults or not status.is_well) else 0


def current(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.runs import Pipeline

    lines, n_stale = Pipeline.open().current_lines(options.asset)
    _print(lines)
    return 1 if n_stale else 0


def feed(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.feed import SampleReplay
    from hf_pipelines.commands.runs import require_market

    require_market(options.market)
    if not options.init and options.sessions is None:
        raise ValueError("`feed` must be given --init, --sessions or both, was neither.")
    if options.until and not options.init:
        raise ValueError(f"`until` must come with --init: it ends the history, was {options.until} alone.")
    feed = SampleReplay.open(options.market)
    if options.init:
        print(feed.lay_history(options.until), flush=True)
    if options.sessions is not None:
        print(feed.lay_next(options.sessions), flush=True)


def explain(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.explain import explain_lines
    from hf_pipelines.commands.runs import Pipeline

    _print(explain_lines(Pipeline.open(), options.strategy, options.symbol, options.day))


def restore(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.store import restore_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    _print(restore_lines(open_store(), options.asset, options.partition, options.hash))


def versions(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.store import versions_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    _print(versions_lines(open_store(), options.asset, options.partition))


def verify(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.store import print_progress, verify_store
    from hf_pipelines.commands.trials import verify_trials
    from hf_pipelines.resources.parquet_io_manager import open_store

    store = open_store()
    mismatches = verify_store(store, options.asset, print, print_progress)
    faults = [] if options.asset else verify_trials(store, print, says_nothing_of_none=True)
    return 1 if mismatches or faults else 0


def ledger_summary(options: argparse.Namespace) -> int:
    import json

    from hf_pipelines.commands.trials import Scope, summarise, summary_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    scope = Scope(options.strategy, options.market, options.actor, options.since, options.until)
    found = summarise(open_store(), scope)
    _print([json.dumps(found, indent=1)] if options.json else summary_lines(found))
    return 1 if found["unreadable"] else 0


def ledger_import(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.trials import import_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    _print(import_lines(open_store()))


def ledger_verify(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.trials import verify_trials
    from hf_pipelines.resources.parquet_io_manager import open_store

    return 1 if verify_trials(open_store(), print) else 0


def tuning_watch(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.tuning import watch_study

    return watch_study(options.strategy, options.week, print, once=options.once)


def tuning_ui(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.tuning import serve_dashboard

    serve_dashboard(options.strategy, options.port, print)


def diff(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.store import diff_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    if options.rows < 0:
        raise ValueError(f"`rows` must be at least 0, was {options.rows}.")
    _print(diff_lines(open_store(), options.asset, options.partition, options.old, options.new, options.rows))


def features(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.runs import stored_features
    from hf_pipelines.commands.store import features_lines
    from hf_pipelines.components.yaml_lines import fault_lines

    stored, faults = stored_features()
    for line in fault_lines(faults):
        # A user who has mistyped a feature looks its name up here.
        print(f"hfp: not shown, the market cannot be loaded: {line}", file=sys.stderr)
    _print(features_lines(options.pattern, stored=stored))


def entries(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.entries import entries_lines
    from hf_pipelines.components.yaml_lines import fault_lines
    from hf_pipelines.definitions import sound_defs

    # Modules of one's own are registered where a market or a strategy that names them is loaded.
    _, faults = sound_defs()
    for line in fault_lines(faults):
        print(f"hfp: not shown, what it names cannot be loaded: {line}", file=sys.stderr)
    _print(entries_lines(options.pattern))


def feature_test(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.features import feature_test_lines
    from hf_pipelines.commands.runs import load_market
    from hf_pipelines.resources.parquet_io_manager import open_store

    return _print_judged(feature_test_lines(open_store(), load_market(options.market), options.name))


def replay(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.features import replay_lines
    from hf_pipelines.commands.runs import load_market
    from hf_pipelines.resources.parquet_io_manager import open_store

    market, _, group = options.group.replace("/features/", "/").partition("/")
    span = (options.first, options.last)
    return _print_judged(replay_lines(open_store(), load_market(market), group, *span, weeks=options.weeks))


def reconcile(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.reconcile import reconcile_lines
    from hf_pipelines.commands.runs import Pipeline

    return _print_judged(reconcile_lines(Pipeline.open(), options.strategy, options.week))


def _print_judged(lines: Iterable[tuple[str, bool]]) -> int:
    is_sound = True
    for line, passed in lines:
        print(line, flush=True)
        is_sound = is_sound and passed
    return 0 if is_sound else 1


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def ui(options: argparse.Namespace) -> None:
    from hf_pipelines.serving.stack import run_ui

    run_ui(options.port, is_read_only=options.read_only)


def mlflow(options: argparse.Namespace) -> None:
    from hf_pipelines.serving.mlflow_ui import open_mlflow

    open_mlflow(options.port, partial(print, flush=True))


def stack(options: argparse.Namespace) -> None:
    from hf_pipelines.serving.stack import Ports, run_stack

    run_stack(Ports(options.web_port, options.mlflow_port, options.postgres_port, options.s3_port))
