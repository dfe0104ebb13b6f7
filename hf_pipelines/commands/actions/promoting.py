"""Promoting: what serves, what was decided so far, deciding anew and taking it back."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hf_pipelines.commands.actions.looking import say_judged
from hf_pipelines.commands.app import JUDGE, AsJson, StrategyName, command
from hf_pipelines.commands.console import say, say_json

Reason = Annotated[str, typer.Option(help="Why; kept and shown for ever.")]
Champion = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION",
        help="The champion that is left, such as v1.2.0; refused if it is another one, so that it is never done twice.",
    ),
]


@command(
    panel=JUDGE,
    writes=True,
    examples=(
        'hfp promote tech_ranking --reason "better in every fold"',
        'hfp promote tech_ranking 2013-02-24 --reason "the desk accepts the drawdown" --override "Ann Lee"',
    ),
)
def promote(
    strategy: StrategyName,
    reason: Reason,
    week: Annotated[
        str | None,
        typer.Argument(
            help="Sunday of the week whose evidence is judged (default: the latest with a backtest).",
            show_default=False,
        ),
    ] = None,
    override: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Promote although gates fail, in the name of a person; shown for ever."),
    ] = None,
    stage: Annotated[bool, typer.Option("--stage", help="Leave it in staging; the champion stays.")] = False,
    as_json: AsJson = False,
) -> int:
    """Hold the configuration of a strategy to its gates and make it the champion if all pass; status 1 if it is refused.

    Refusals are recorded too. Signals follow the champion from the next issue on, of a strategy whose YAML has gates.
    """
    from hf_pipelines.commands.promoting import (
        followed,
        followed_lines,
        history_told,
        promotion_lines,
        signals_follow,
    )
    from hf_pipelines.commands.promoting import promote as ask
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    found = ask(pipeline, strategy, week, reason, override=override, stage=stage)
    signals = signals_follow(pipeline, found.history)
    if as_json:
        told = {
            "is_refused": found.is_refused,
            "gates": found.decision.to_json(),
            "history": history_told(found.history, signals),
            "followed": asdict(followed(pipeline, found.history)),
        }
        say_json(told)
        return int(found.is_refused)
    status = say_judged(promotion_lines(found, signals))
    say(followed_lines(followed(pipeline, found.history)))
    return status


@command(
    panel=JUDGE,
    writes="sync",
    examples=("hfp history tech_ranking", "hfp history tech_ranking --json", "hfp history tech_ranking --sync"),
)
def history(
    strategy: StrategyName,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync",
            help="Write payloads and MLflow's aliases that are missing and send what waits; status 1 if that fails.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Print the champion of a strategy, who served when, and every decision so far: who, when, why.

    A history of which a record was changed, exchanged or removed is refused by the name of that record.
    """
    from hf_pipelines.commands.promoting import (
        followed,
        followed_lines,
        history_lines,
        history_told,
        payload_lines,
        shadow_lines,
        shadows_of,
        signals_follow,
        stored_history,
    )
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    found = stored_history(pipeline, strategy)
    if sync:
        done = followed(pipeline, found)
        if as_json:
            say_json(asdict(done))
        else:
            say(followed_lines(done))
        return int(not done.is_whole)
    signals, shadows = signals_follow(pipeline, found), shadows_of(pipeline, strategy)
    if as_json:
        say_json({**history_told(found, signals), "shadows": shadows})
    else:
        say(history_lines(found, signals))
        say(payload_lines(pipeline, found))
        say(shadow_lines(shadows))
    return 0


@command(
    panel=JUDGE,
    writes=True,
    examples=('hfp rollback tech_ranking --reason "turnover doubled" --champion v1.1.0',),
)
def rollback(strategy: StrategyName, reason: Reason, champion: Champion = None) -> None:
    """Make the previous release of a strategy the champion again; twice goes two releases back."""
    from hf_pipelines.commands.promoting import followed, followed_lines, roll_back, signals_follow, state_lines
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    found = roll_back(pipeline, strategy, reason, champion=champion)
    say(state_lines(strategy, found.state, signals_follow(pipeline, found)))
    say(followed_lines(followed(pipeline, found)))


@command(panel=JUDGE, writes=True, examples=('hfp withdraw tech_ranking --reason "the vendor has changed its bars"',))
def withdraw(strategy: StrategyName, reason: Reason, champion: Champion = None) -> None:
    """Take the champion of a strategy away, and every refit of its configuration; nothing takes its place by itself."""
    from hf_pipelines.commands.promoting import followed, followed_lines, signals_follow, state_lines
    from hf_pipelines.commands.promoting import withdraw as take_away
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    found = take_away(pipeline, strategy, reason, champion=champion)
    say(state_lines(strategy, found.state, signals_follow(pipeline, found)))
    say(followed_lines(followed(pipeline, found)))


@command(
    panel=JUDGE,
    writes=True,
    examples=(
        "hfp rollout tech_ranking",
        'hfp rollout tech_ranking --start 2013-02-24 --reason "passed every gate"',
        'hfp rollout tech_ranking --stop --reason "the desk wants its capital back"',
    ),
)
def rollout(
    strategy: StrategyName,
    start: Annotated[
        str | None,
        typer.Option(metavar="SUNDAY", help="Begin, with what the YAML says: the week by which it is staged."),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Take all capital of the challenger back.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is begun or stopped; kept and shown for ever.")] = None,
    picture: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw the newest rollout into a PNG file, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print how much of the capital follows a challenger, by which results, and every step so far; record the steps that are due.

    In shadow first, then 10, 25, 50 and 100 % of the capital, each by a test of what both have earned since the start; back to nothing at once
    where it has lost too much, or earns less. Steps are recorded once, whoever asks, and before each new issue.
    """
    from hf_pipelines.commands.promoting import followed, followed_lines
    from hf_pipelines.commands.rollouts import advanced, rollout_lines, rollout_told, write_rollout_picture
    from hf_pipelines.commands.rollouts import start as begin
    from hf_pipelines.commands.rollouts import stop as end
    from hf_pipelines.commands.runs import Pipeline

    if (start is not None) + stop > 1 or (reason is not None) != (start is not None or stop):
        raise ValueError("`reason` must be given with either `start` or `stop`, and with nothing else, was not.")
    pipeline = Pipeline.open()
    if start is not None:
        begin(pipeline, strategy, start, str(reason))
    elif stop:
        end(pipeline, strategy, str(reason))
    history, standing = advanced(pipeline, strategy)
    # The last step is a promotion.
    done = followed(pipeline, history)
    if as_json:
        say_json({**rollout_told(history, standing), "followed": asdict(done)})
    else:
        say(rollout_lines(history, standing))
        say(followed_lines(done))
    if picture is not None:
        write_rollout_picture(history, standing, Path(picture))
