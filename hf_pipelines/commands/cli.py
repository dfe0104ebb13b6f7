"""`hfp`: thin commands over the pipeline.

Lives here: words on the command line. Does not live here: what they do (`actions`).
"""

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from hf_pipelines.commands import actions

# Exit status of a program that a closed pipe has ended, as shells give it.
BROKEN_PIPE = 128 + 13

# Help of arguments that most commands have.
ASSET = "path of an asset, such as us_tech/bars, us_tech/features/technical or tech_direction/fitted_model"
PARTITION = "key of a partition, YYYY-MM-DD: the Sunday that a week begins with, or the session of signals"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    warnings.filterwarnings("ignore", message=".*currently in (beta|preview).*")
    options = build_parser().parse_args(arguments)
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


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(prog="hfp", description="Orchestrated quant research that can be trusted.")
    parser.add_argument("--version", action="version", version=f"hf_pipelines {version('hf_pipelines')}")
    parser.add_argument(
        "--project", metavar="PATH", help="folder of the project (default: found from the working folder upwards)"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    init = commands.add_parser("init", help="make a project of your own, with a market and a strategy on the sample")
    init.add_argument("name", help="of its folder and Python package, such as myfund")
    init.add_argument("--into", metavar="PATH", help="another folder for it (default: NAME in the working folder)")
    init.set_defaults(run=actions.init)

    new = commands.add_parser("new", help="add a market, strategy, feature, learner... to the project, with its test")
    new.add_argument("kind", help="market, strategy, feature, learner, target, splitter, rule, engine or source")
    new.add_argument("name", help="of the entry, and of its folder or module")
    new.add_argument("--market", help="that a new strategy trades (default: the only one)")
    new.set_defaults(run=actions.new)

    demo = commands.add_parser("demo", help="run the whole pipeline on real bars and print the result")
    demo.add_argument("--full", action="store_true", help="four weekly models of each strategy instead of one or two")
    demo.set_defaults(run=actions.demo)

    materialise = commands.add_parser("materialise", help="materialise an asset for a range of partitions")
    materialise.add_argument("asset", help=ASSET)
    materialise.add_argument("--from", dest="first", required=True, help="first partition, YYYY-MM-DD")
    materialise.add_argument("--to", dest="last", help="last partition (default: the first)")
    materialise.add_argument(
        "--with-inputs",
        action="store_true",
        help="of an asset of a strategy: make the bars and features first that it reads and that are missing or out of date",
    )
    materialise.set_defaults(run=actions.materialise)

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
    retrain.set_defaults(run=actions.retrain)

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
    compare.set_defaults(run=actions.compare)

    status = commands.add_parser("status", help="say what each market and strategy has, what is late, and what failed")
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument("--strict", action="store_true", help="end with status 2 if something is late or has failed")
    status.set_defaults(run=actions.status)

    current = commands.add_parser(
        "current", help="say which stored partitions of an asset are out of date, and why; status 1 if one is"
    )
    current.add_argument("asset", help=ASSET)
    current.set_defaults(run=actions.current)

    feed = commands.add_parser("feed", help="lay real sessions of the sample into the landing folder of a market")
    feed.add_argument("market", help="a market with a source of type files, such as us_tech_feed")
    feed.add_argument(
        "--init", action="store_true", help="lay down the history that its strategies need, where missing"
    )
    feed.add_argument("--until", help="last session of the history, YYYY-MM-DD (default: a quarter before the end)")
    feed.add_argument("--sessions", type=int, help="how many sessions to feed, after the last one that is there")
    feed.set_defaults(run=actions.feed)

    versions = commands.add_parser("versions", help="list the contents of an asset that are kept, and what needs them")
    versions.add_argument("asset", help=ASSET)
    versions.add_argument("partition", nargs="?", help=f"{PARTITION} (default: all of them)")
    versions.set_defaults(run=actions.versions)

    verify = commands.add_parser(
        "verify",
        help="recompute the hashes of the stored bytes; status 1 if one differs, or is gone and was read",
        description=(
            "Recompute the hashes of the stored bytes. What it proves: nothing was damaged, cut off, mixed up or lost by accident. "
            "What it does not: the hashes have no key, so who may write to the store can write other content with hashes that fit."
        ),
    )
    verify.add_argument("asset", nargs="?", help=f"{ASSET} (default: the whole store)")
    verify.set_defaults(run=actions.verify)

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
    summary.set_defaults(run=actions.ledger_summary)
    sound = asked.add_parser(
        "verify",
        help="look for records that were changed, dropped, reordered, inserted or cut off; status 1 if one is",
        description=(
            "Recompute the hash chains of the ledger and compare their ends with those kept in footers, in Dagster's storage and on "
            "this machine. Who may write to all of these can write another history: note the digest of `hfp ledger summary` elsewhere."
        ),
    )
    sound.set_defaults(run=actions.ledger_verify)
    taken = asked.add_parser("import", help="record the results that were stored before there was a ledger")
    taken.set_defaults(run=actions.ledger_import)

    tuning = commands.add_parser("tuning", help="studies of parameters while they run")
    looked = tuning.add_subparsers(required=True, metavar="what")
    watch = looked.add_parser("watch", help="trials done, best so far and time left of the latest study, until it ends")
    watch.add_argument("strategy", help="whose studies")
    watch.add_argument("week", nargs="?", help="Sunday of the week (default: the study that began last)")
    watch.add_argument("--once", action="store_true", help="say it once")
    watch.set_defaults(run=actions.tuning_watch)
    board = looked.add_parser("ui", help="Optuna's dashboard over the studies of a strategy, on 127.0.0.1")
    board.add_argument("strategy", help="whose studies")
    board.add_argument("--port", type=int, default=8080, help="(default: 8080)")
    board.set_defaults(run=actions.tuning_ui)

    diff = commands.add_parser("diff", help="say which rows differ between two contents of a partition")
    diff.add_argument("asset", help=ASSET)
    diff.add_argument("partition", help=PARTITION)
    diff.add_argument("old", metavar="hash1", help="content hash, how it begins, or `current`")
    diff.add_argument("new", metavar="hash2", nargs="?", default="current", help="(default: current)")
    diff.add_argument("--rows", type=int, default=20, help="how many rows of each kind are shown (default: 20)")
    diff.set_defaults(run=actions.diff)

    features = commands.add_parser("features", help="list the registered features with formula, lookback and source")
    features.add_argument(
        "pattern", nargs="?", help="a word or regular expression, looked for in group/name, formula, inputs and source"
    )
    features.set_defaults(run=actions.features)

    entries = commands.add_parser(
        "entries",
        help="list the learners, preprocessing, targets, splitters, rules, engines and sources with their parameters",
    )
    entries.add_argument("pattern", nargs="?", help="a word or regular expression, looked for in field and name")
    entries.set_defaults(run=actions.entries)

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
    test.set_defaults(run=actions.feature_test)

    replay = commands.add_parser(
        "replay", help="recompute stored features as of each row's time; status 1 if one differs"
    )
    replay.add_argument("group", help="MARKET/GROUP such as us_tech/technical")
    replay.add_argument("--weeks", nargs="+", metavar="SUNDAY", help="weeks by their Sundays (default: all stored)")
    replay.add_argument("--from", dest="first", metavar="SUNDAY", help="or the first of a range of weeks")
    replay.add_argument("--to", dest="last", metavar="SUNDAY", help="and the last of them")
    replay.set_defaults(run=actions.replay)

    reconcile = commands.add_parser(
        "reconcile", help="hold all engines to each other on a backtest, bar by bar; status 1 if one parts"
    )
    reconcile.add_argument("strategy", help="a folder of defs/strategies, such as tech_direction")
    reconcile.add_argument("week", help="its Sunday, YYYY-MM-DD")
    reconcile.set_defaults(run=actions.reconcile)

    explain = commands.add_parser(
        "explain", help="say what an issued prediction is made of, feature by feature, and what would turn it"
    )
    explain.add_argument("strategy", help="whose signals")
    explain.add_argument("symbol", help="a member of its market")
    explain.add_argument("day", help="the session that they were issued for, YYYY-MM-DD")
    explain.set_defaults(run=actions.explain)

    restore = commands.add_parser("restore", help="make an earlier version of a partition current again")
    restore.add_argument("asset", help=ASSET)
    restore.add_argument("partition", help=PARTITION)
    restore.add_argument("hash", help="content hash of the version, or how it begins")
    restore.set_defaults(run=actions.restore)

    ui = commands.add_parser("ui", help="start the Dagster web UI and daemon on 127.0.0.1")
    ui.add_argument("--port", type=int, default=3000, help="of 127.0.0.1 (default: 3000)")
    ui.add_argument("--read-only", action="store_true", help="viewer mode: nothing can be launched or changed")
    ui.set_defaults(run=actions.ui)

    mlflow = commands.add_parser("mlflow", help="open MLflow's web UI on the store that the project logs to")
    mlflow.add_argument("--port", type=int, default=5000, help="of 127.0.0.1 (default: 5000)")
    mlflow.set_defaults(run=actions.mlflow)

    stack = commands.add_parser("stack", help="start PostgreSQL, S3, MLflow, web UI and daemon on 127.0.0.1")
    for name, port in (("web", 3000), ("mlflow", 5000), ("postgres", 5432), ("s3", 9000)):
        stack.add_argument(f"--{name}-port", type=int, default=port, help=f"of 127.0.0.1 (default: {port})")
    stack.set_defaults(run=actions.stack)
    return parser


if __name__ == "__main__":
    sys.exit(main())
