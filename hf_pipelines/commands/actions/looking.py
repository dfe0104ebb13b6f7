"""Looking: what there is, what is late or out of date, what a study has found so far."""

import sys
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from hf_pipelines.commands.app import LOOK, AsJson, Asset, StrategyName, command, tuning_group
from hf_pipelines.commands.completion import kinds
from hf_pipelines.commands.console import say, say_json


@command(
    panel=LOOK,
    writes=False,
    examples=("hfp status", "hfp status --json | jq .late", "hfp status --strict || mail -s late desk@example.com"),
)
def status(
    as_json: AsJson = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 2 if something is late or has failed.")
    ] = False,
) -> int:
    """Say what each market and strategy has, what is late, and what failed."""
    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.components.yaml_lines import fault_lines

    # It has a line of its own for each component that is left out.
    pipeline = Pipeline.open(tells_faults=False)
    found = pipeline.status()
    faults = fault_lines(pipeline.faults)
    if as_json:
        say_json({**found.to_json(), "left_out": faults})
    else:
        say("\n".join([*found.lines(), *(f"not loaded: {each}" for each in faults)]).splitlines())
    return 2 if strict and (faults or not found.is_well) else 0


@command(panel=LOOK, writes=False, examples=("hfp current tech_direction/fitted_model",))
def current(asset: Asset, as_json: AsJson = False) -> int:
    """Say which stored partitions of an asset are out of date, and why; status 1 if one is."""
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    if as_json:
        judged = pipeline.judged(asset)
        found = {key: {"is_current": each.is_current, "reason": each.reason} for key, each in judged.items()}
        say_json({"asset": asset, "partitions": found})
        return 0 if all(each.is_current for each in judged.values()) else 1
    lines, n_stale = pipeline.current_lines(asset)
    say(lines)
    return 1 if n_stale else 0


@command(panel=LOOK, writes=False, examples=("hfp signals tech_ranking", "hfp signals tech_ranking 2013-02-27 --json"))
def signals(
    strategy: StrategyName,
    day: Annotated[
        str | None, typer.Argument(help="A session, YYYY-MM-DD (default: the latest issue).", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the target weights of a session as they were issued, with the change against the session before."""
    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.commands.signals import issue_lines, issue_of

    found = issue_of(Pipeline.open(), strategy, day)
    if as_json:
        say_json(found)
    else:
        say(issue_lines(found))


@command(panel=LOOK, writes=False, examples=("hfp drift tech_ranking", "hfp drift tech_ranking 2013-02-27 --json"))
def drift(
    strategy: StrategyName,
    day: Annotated[
        str | None, typer.Argument(help="A session, YYYY-MM-DD (default: the newest).", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether what the model of a session reads, says and achieves is still what it was trained on, and since when it is not."""
    from hf_pipelines.commands.drift import drift_lines, drift_of
    from hf_pipelines.commands.runs import Pipeline

    found = drift_of(Pipeline.open(), strategy, day)
    if as_json:
        say_json(found)
    else:
        say(drift_lines(found))


@command(
    panel=LOOK,
    writes=False,
    name="list",
    examples=("hfp list learners", "hfp list features roc", "hfp list targets barrier", "hfp list strategies --json"),
)
def list_entries(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="markets, strategies, features, learners, targets, splitters, rules, engines, sources and others; without it those that there are.",
            autocompletion=kinds,
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="A word or regular expression, looked for in names, and in the formula, inputs and source of features.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what can be named in YAML: entries with their parameters, defaults, ranges and search spaces; markets and strategies."""
    from hf_pipelines.commands.entries import listed

    found = listed(kind, pattern, tell=lambda line: print(line, file=sys.stderr))
    if as_json:
        say_json(found.rows)
    else:
        say(found.lines)


@command(panel=LOOK, group=tuning_group, writes=False, name="watch", examples=("hfp tuning watch tech_ranking",))
def tuning_watch(
    strategy: StrategyName,
    week: Annotated[
        str | None,
        typer.Argument(help="Sunday of the week (default: the study that began last).", show_default=False),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Say it once.")] = False,
) -> int:
    """Trials done, best so far and time left of the latest study, until it ends."""
    from hf_pipelines.commands.tuning import watch_study

    return watch_study(strategy, week, _print_now, once=once)


@command(panel=LOOK, group=tuning_group, writes=False, name="ui", examples=("hfp tuning ui tech_ranking --port 8081",))
def tuning_ui(
    strategy: StrategyName,
    port: Annotated[int, typer.Option(help="Of 127.0.0.1.")] = 8080,
) -> None:
    """Optuna's dashboard over the studies of a strategy, on 127.0.0.1."""
    from hf_pipelines.commands.tuning import serve_dashboard

    serve_dashboard(strategy, port, _print_now)


def _print_now(line: str) -> None:
    say([line])


def say_judged(lines: Iterable[tuple[str, bool]]) -> int:
    """Print lines with what each has found; the exit status is 1 if one found a fault."""
    is_sound = True

    def shown() -> Iterator[str]:
        nonlocal is_sound
        for line, passed in lines:
            is_sound = is_sound and passed
            yield line

    say(shown())
    return 0 if is_sound else 1
