"""`hfp`: thin commands over the pipeline.

Lives here: words on the command line. Does not live here: anything they do.
"""

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

# Exit status of a program that a closed pipe has ended, as shells give it.
BROKEN_PIPE = 128 + 13

# Help of arguments that most commands have.
ASSET = "path of an asset, such as us_tech/bars, us_tech/features/technical or tech_direction/fitted_model"
PARTITION = "key of a partition, YYYY-MM-DD: the Sunday that a week begins with, or the session of signals"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    warnings.filterwarnings("ignore", message=".*currently in (beta|preview).*")
    options = _parser().parse_args(arguments)
    from hf_pipelines.resources import settings
    from hf_pipelines.resources.redaction import guard_process, redacted

    guard_process()
    try:
        if options.project is not None:
            from hf_pipelines.resources.project import project_at

            os.environ["HF_PROJECT"] = str(project_at(Path(options.project), named="project").root)
        # Where the definitions notice it, Dagster makes a traceback of it.
        settings.require_sound()
        # A command with more than one outcome returns its exit status.
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader (`| head`) has closed the pipe: print nothing more, not at the end of the process either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except _expected_failures() as e:
        message = _message_of(e)
        if not message:
            raise
        from hf_pipelines.research.wording import with_nearest

        print(f"hfp: {redacted(with_nearest(message))}", file=sys.stderr)
        return 1


def _expected_failures() -> tuple[type[Exception], ...]:
    """Errors that are shown as one line; imported when one happened, since the servers' supervisor needs no pipeline."""
    from hf_pipelines.commands.runs import RunFailedError
    from hf_pipelines.components.yaml_lines import LOADING_ERRORS
    from hf_pipelines.resources.storage_errors import ObjectMissingError, StorageUnavailableError
    from hf_pipelines.serving.service import ServiceFailedError

    ours = (ValueError, RunFailedError, ObjectMissingError, StorageUnavailableError, ServiceFailedError)
    return (*ours, *LOADING_ERRORS, OSError, *_database_errors())


# Errors of a disk that is full, or that the user may not write.
DISK_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def _database_errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import OperationalError

    return (OperationalError,)


def _message_of(error: Exception) -> str:
    """The error as one line; "" for a fault of the code, which needs its traceback."""
    from hf_pipelines.components.yaml_lines import LOADING_ERRORS, loading_fault
    from hf_pipelines.resources.project import require_project

    if isinstance(error, LOADING_ERRORS):
        return loading_fault(error, require_project().defs)
    if isinstance(error, _database_errors()):
        return f"the database of runs refused it: {getattr(error, 'orig', '')}"
    # Errors that the project raises itself have no errno.
    if isinstance(error, OSError) and error.errno is not None:
        return str(error) if error.errno in DISK_CODES else ""
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hfp", description="Orchestrated quant research that can be trusted.")
    parser.add_argument("--version", action="version", version=f"hf_pipelines {version('hf_pipelines')}")
    parser.add_argument(
        "--project", metavar="PATH", help="folder of the project (default: found from the working folder upwards)"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    init = commands.add_parser("init", help="make a project of your own, with a market and a strategy on the sample")
    init.add_argument("name", help="of its folder and Python package, such as myfund")
    init.add_argument("--into", metavar="PATH", help="another folder for it (default: NAME in the working folder)")
    init.set_defaults(run=_init)

    new = commands.add_parser("new", help="add a market, strategy, feature, learner... to the project, with its test")
    new.add_argument("kind", help="market, strategy, feature, learner, target, splitter, rule, engine or source")
    new.add_argument("name", help="of the entry, and of its folder or module")
    new.add_argument("--market", help="that a new strategy trades (default: the only one)")
    new.set_defaults(run=_new)

    demo = commands.add_parser("demo", help="run the whole pipeline on real bars and print the result")
    demo.add_argument("--full", action="store_true", help="four weekly models of each strategy instead of one or two")
    demo.set_defaults(run=_demo)

    materialise = commands.add_parser("materialise", help="materialise an asset for a range of partitions")
    materialise.add_argument("asset", help=ASSET)
    materialise.add_argument("--from", dest="first", required=True, help="first partition, YYYY-MM-DD")
    materialise.add_argument("--to", dest="last", help="last partition (default: the first)")
    materialise.set_defaults(run=_materialise)

    retrain = commands.add_parser("retrain", help="train, test and backtest a strategy for one week")
    retrain.add_argument("strategy", help="a folder of defs/strategies, such as tech_direction")
    retrain.add_argument("--week", required=True, help="its Sunday, YYYY-MM-DD")
    retrain.add_argument("--to", dest="last", help="last of several weeks (default: the one)")
    retrain.add_argument(
        "--final-refit",
        metavar="NAME",
        help="fit the model of a promoted configuration, of this name, on all weeks, the hold-out among them",
    )
    retrain.add_argument(
        "--with-inputs", action="store_true", help="make the bars and features first that are missing or out of date"
    )
    retrain.set_defaults(run=_retrain)

    compare = commands.add_parser(
        "compare",
        help="say whether a strategy, week or learner is better than another, or only luckier",
        description=(
            "Compare the first one with the others on the rows and sessions that all of them have: out-of-fold scores and net returns, "
            "each difference with an interval and a p-value (Diebold-Mariano, all of them together by Holm). Of more than two also "
            "whether the first is beaten by the best of the others (Hansen's test), and which may be the best (model confidence set)."
        ),
    )
    compare.add_argument(
        "strategies",
        nargs="+",
        metavar="strategy",
        help="STRATEGY, STRATEGY@SUNDAY for a week of it, or STRATEGY@SUNDAY:HASH for an earlier content of a week, such as that of "
        "another learner (hfp versions STRATEGY/cv_results SUNDAY)",
    )
    compare.add_argument(
        "--week", help="of those that name none, its Sunday (default: the latest that all of them have)"
    )
    compare.set_defaults(run=_compare)

    status = commands.add_parser("status", help="say what each market and strategy has, what is late, and what failed")
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument("--strict", action="store_true", help="end with status 2 if something is late or has failed")
    status.set_defaults(run=_status)

    current = commands.add_parser(
        "current", help="say which stored partitions of an asset are out of date, and why; status 1 if one is"
    )
    current.add_argument("asset", help=ASSET)
    current.set_defaults(run=_current)

    feed = commands.add_parser("feed", help="lay real sessions of the sample into the landing folder of a market")
    feed.add_argument("market", help="a market with a source of type files, such as us_tech_feed")
    feed.add_argument(
        "--init", action="store_true", help="lay down the history that its strategies need, where missing"
    )
    feed.add_argument("--until", help="last session of the history, YYYY-MM-DD (default: a quarter before the end)")
    feed.add_argument("--sessions", type=int, help="how many sessions to feed, after the last one that is there")
    feed.set_defaults(run=_feed)

    versions = commands.add_parser("versions", help="list the contents of an asset that are kept, and what needs them")
    versions.add_argument("asset", help=ASSET)
    versions.add_argument("partition", nargs="?", help=f"{PARTITION} (default: all of them)")
    versions.set_defaults(run=_versions)

    verify = commands.add_parser(
        "verify",
        help="recompute the hashes of the stored bytes; status 1 if one differs, or is gone and was read",
        description=(
            "Recompute the hashes of the stored bytes. What it proves: nothing was damaged, cut off, mixed up or lost by accident. "
            "What it does not: the hashes have no key, so who may write to the store can write other content with hashes that fit."
        ),
    )
    verify.add_argument("asset", nargs="?", help=f"{ASSET} (default: the whole store)")
    verify.set_defaults(run=_verify)

    ledger = commands.add_parser("ledger", help="the ledger of trials: every evaluated configuration")
    asked = ledger.add_subparsers(required=True, metavar="what")
    summary = asked.add_parser(
        "summary",
        help="how many trials were made, how many are independent, and what the best result is worth after them",
    )
    summary.add_argument("strategy", nargs="?", help="with those it descends from (default: all strategies)")
    summary.add_argument("--market", help="of one market")
    summary.add_argument("--actor", help="by one actor: a name of HF_ACTOR, schedule or sensor")
    summary.add_argument("--since", help="begun on this day or later, YYYY-MM-DD (UTC)")
    summary.add_argument("--until", help="begun before this day, YYYY-MM-DD (UTC)")
    summary.add_argument("--json", action="store_true", help="for programs")
    summary.set_defaults(run=_ledger_summary)
    sound = asked.add_parser(
        "verify",
        help="look for records that were changed, dropped, reordered, inserted or cut off; status 1 if one is",
        description=(
            "Recompute the hash chains of the ledger and compare their ends with those kept in footers, in Dagster's storage and on "
            "this machine. Who may write to all of these can write another history: note the digest of `hfp ledger summary` elsewhere."
        ),
    )
    sound.set_defaults(run=_ledger_verify)
    taken = asked.add_parser("import", help="record the results that were stored before there was a ledger")
    taken.set_defaults(run=_ledger_import)

    diff = commands.add_parser("diff", help="say which rows differ between two contents of a partition")
    diff.add_argument("asset", help=ASSET)
    diff.add_argument("partition", help=PARTITION)
    diff.add_argument("old", metavar="hash1", help="content hash, how it begins, or `current`")
    diff.add_argument("new", metavar="hash2", nargs="?", default="current", help="(default: current)")
    diff.add_argument("--rows", type=int, default=20, help="how many rows of each kind are shown (default: 20)")
    diff.set_defaults(run=_diff)

    features = commands.add_parser("features", help="list the registered features with formula, lookback and source")
    features.add_argument(
        "pattern", nargs="?", help="a word or regular expression, looked for in group/name, formula, inputs and source"
    )
    features.set_defaults(run=_features)

    entries = commands.add_parser(
        "entries",
        help="list the learners, preprocessing, targets, splitters, rules, engines and sources with their parameters",
    )
    entries.add_argument("pattern", nargs="?", help="a word or regular expression, looked for in field and name")
    entries.set_defaults(run=_entries)

    feature = commands.add_parser("feature", help="judge one feature")
    judged = feature.add_subparsers(required=True, metavar="what")
    test = judged.add_parser(
        "test", help="play what would betray a leak, a growing window or a unit; status 1 if one is found"
    )
    test.add_argument(
        "name",
        help="a registered feature such as technical/rsi_14 or rsi_14, also of a module named in `modules` of the market",
    )
    test.add_argument("--market", default="us_tech", help="whose bars and modules (default: us_tech)")
    test.set_defaults(run=_feature_test)

    replay = commands.add_parser(
        "replay", help="recompute stored features as of each row's time; status 1 if one differs"
    )
    replay.add_argument("group", help="MARKET/GROUP such as us_tech/technical")
    replay.add_argument("--weeks", nargs="+", metavar="SUNDAY", help="weeks by their Sundays (default: all stored)")
    replay.add_argument("--from", dest="first", metavar="SUNDAY", help="or the first of a range of weeks")
    replay.add_argument("--to", dest="last", metavar="SUNDAY", help="and the last of them")
    replay.set_defaults(run=_replay)

    explain = commands.add_parser(
        "explain", help="say what an issued prediction is made of, feature by feature, and what would turn it"
    )
    explain.add_argument("strategy", help="whose signals")
    explain.add_argument("symbol", help="a member of its market")
    explain.add_argument("day", help="the session that they were issued for, YYYY-MM-DD")
    explain.set_defaults(run=_explain)

    restore = commands.add_parser("restore", help="make an earlier version of a partition current again")
    restore.add_argument("asset", help=ASSET)
    restore.add_argument("partition", help=PARTITION)
    restore.add_argument("hash", help="content hash of the version, or how it begins")
    restore.set_defaults(run=_restore)

    ui = commands.add_parser("ui", help="start the Dagster web UI and daemon on 127.0.0.1")
    ui.add_argument("--port", type=int, default=3000, help="of 127.0.0.1 (default: 3000)")
    ui.add_argument("--read-only", action="store_true", help="viewer mode: nothing can be launched or changed")
    ui.set_defaults(run=_ui)

    stack = commands.add_parser("stack", help="start PostgreSQL, S3, MLflow, web UI and daemon on 127.0.0.1")
    for name, port in (("web", 3000), ("mlflow", 5000), ("postgres", 5432), ("s3", 9000)):
        stack.add_argument(f"--{name}-port", type=int, default=port, help=f"of 127.0.0.1 (default: {port})")
    stack.set_defaults(run=_stack)
    return parser


def _init(options: argparse.Namespace) -> None:
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


def _new(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.scaffolding import KINDS, add_entry
    from hf_pipelines.resources.project import require_project

    if options.kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, was {options.kind[:40]!r}.")
    _print(add_entry(options.kind, options.name, require_project(), market=options.market))


def _demo(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.demo import Demo
    from hf_pipelines.commands.runs import Pipeline

    Demo(Pipeline.open(), is_full=options.full).run()


def _materialise(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    keys = pipeline.partition_keys(options.asset, options.first, options.last or options.first)
    if not keys:
        raise ValueError(f"`to` must not be before `from` {options.first}, was {options.last}.")
    seconds = pipeline.materialise([options.asset], keys[0], keys[-1])
    print(f"{options.asset}: {len(keys)} partition(s) from {keys[0]} to {keys[-1]} in {seconds:.1f} s")


def _retrain(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.components.strategy_stages import RETRAINED
    from hf_pipelines.resources.holdout import FINAL_REFIT_TAG

    pipeline = Pipeline.open()
    pipeline.require_strategy(options.strategy)
    assets = [f"{options.strategy}/{stage}" for stage in RETRAINED]
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

        (plan,) = [each for each in pipeline.strategies() if each.name == options.strategy]
        wanted = {asset: (plan, keys[0], keys[-1]) for asset in assets}
        Maker(pipeline).make_inputs(plan.market, wanted)
    seconds = pipeline.materialise(assets, keys[0], keys[-1], tags=tags)
    shown = f"model of week {keys[0]}" if len(keys) == 1 else f"models of {len(keys)} weeks, {keys[0]} to {keys[-1]},"
    print(f"{options.strategy}: {shown} in {seconds:.1f} s")
    _print(pipeline.verdict_lines(options.strategy, keys[-1]))


def _compare(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.compare import compare_lines
    from hf_pipelines.commands.runs import Pipeline

    _print(compare_lines(Pipeline.open(), options.strategies, options.week))


def _status(options: argparse.Namespace) -> int:
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


def _current(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.runs import Pipeline

    lines, n_stale = Pipeline.open().current_lines(options.asset)
    _print(lines)
    return 1 if n_stale else 0


def _feed(options: argparse.Namespace) -> None:
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


def _explain(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.explain import explain_lines
    from hf_pipelines.commands.runs import Pipeline

    _print(explain_lines(Pipeline.open(), options.strategy, options.symbol, options.day))


def _restore(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.store import restore_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    _print(restore_lines(open_store(), options.asset, options.partition, options.hash))


def _versions(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.store import versions_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    _print(versions_lines(open_store(), options.asset, options.partition))


def _verify(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.store import print_progress, verify_store
    from hf_pipelines.commands.trials import verify_trials
    from hf_pipelines.resources.parquet_io_manager import open_store

    store = open_store()
    mismatches = verify_store(store, options.asset, print, print_progress)
    faults = [] if options.asset else verify_trials(store, print, says_nothing_of_none=True)
    return 1 if mismatches or faults else 0


def _ledger_summary(options: argparse.Namespace) -> int:
    import json

    from hf_pipelines.commands.trials import Scope, summarise, summary_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    scope = Scope(options.strategy, options.market, options.actor, options.since, options.until)
    found = summarise(open_store(), scope)
    _print([json.dumps(found, indent=1)] if options.json else summary_lines(found))
    return 1 if found["unreadable"] else 0


def _ledger_import(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.trials import import_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    _print(import_lines(open_store()))


def _ledger_verify(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.trials import verify_trials
    from hf_pipelines.resources.parquet_io_manager import open_store

    return 1 if verify_trials(open_store(), print) else 0


def _diff(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.store import diff_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    if options.rows < 0:
        raise ValueError(f"`rows` must be at least 0, was {options.rows}.")
    _print(diff_lines(open_store(), options.asset, options.partition, options.old, options.new, options.rows))


def _features(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.runs import stored_features
    from hf_pipelines.commands.store import features_lines
    from hf_pipelines.components.yaml_lines import fault_lines

    stored, faults = stored_features()
    for line in fault_lines(faults):
        # A user who has mistyped a feature looks its name up here.
        print(f"hfp: not shown, the market cannot be loaded: {line}", file=sys.stderr)
    _print(features_lines(options.pattern, stored=stored))


def _entries(options: argparse.Namespace) -> None:
    from hf_pipelines.commands.entries import entries_lines
    from hf_pipelines.components.yaml_lines import fault_lines
    from hf_pipelines.definitions import sound_defs

    # Modules of one's own are registered where a market or a strategy that names them is loaded.
    _, faults = sound_defs()
    for line in fault_lines(faults):
        print(f"hfp: not shown, what it names cannot be loaded: {line}", file=sys.stderr)
    _print(entries_lines(options.pattern))


def _feature_test(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.features import feature_test_lines
    from hf_pipelines.commands.runs import load_market
    from hf_pipelines.resources.parquet_io_manager import open_store

    return _print_judged(feature_test_lines(open_store(), load_market(options.market), options.name))


def _replay(options: argparse.Namespace) -> int:
    from hf_pipelines.commands.features import replay_lines
    from hf_pipelines.commands.runs import load_market
    from hf_pipelines.resources.parquet_io_manager import open_store

    market, _, group = options.group.replace("/features/", "/").partition("/")
    span = (options.first, options.last)
    return _print_judged(replay_lines(open_store(), load_market(market), group, *span, weeks=options.weeks))


def _print_judged(lines: Iterable[tuple[str, bool]]) -> int:
    is_sound = True
    for line, passed in lines:
        print(line, flush=True)
        is_sound = is_sound and passed
    return 0 if is_sound else 1


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _ui(options: argparse.Namespace) -> None:
    from hf_pipelines.serving.stack import run_ui

    run_ui(options.port, is_read_only=options.read_only)


def _stack(options: argparse.Namespace) -> None:
    from hf_pipelines.serving.stack import Ports, run_stack

    run_stack(Ports(options.web_port, options.mlflow_port, options.postgres_port, options.s3_port))


if __name__ == "__main__":
    sys.exit(main())
