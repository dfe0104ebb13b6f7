"""Judging: whether a result is worth something, what a prediction is made of, how many trials it took."""

import re
from pathlib import Path
from typing import Annotated

import typer

from hf_pipelines.commands.actions.looking import say_judged
from hf_pipelines.commands.app import JUDGE, AsJson, StrategyName, Week, command, feature_group, ledger_group
from hf_pipelines.commands.completion import markets, strategies
from hf_pipelines.commands.console import say, say_json


@command(
    panel=JUDGE,
    writes=False,
    examples=(
        "hfp compare tech_direction tech_ranking",
        "hfp compare tech_ranking@2013-02-24 tech_ranking@2013-02-17",
        "hfp compare tech_ranking tech_ranking~04ed tech_ranking~7b78 --picture tries.png",
    ),
)
def compare(
    strategy: Annotated[
        list[str],
        typer.Argument(
            help="Up to ten: STRATEGY, STRATEGY@SUNDAY for a week of it, STRATEGY@SUNDAY:HASH for an earlier content of a week, such as that "
            "of another learner (hfp versions STRATEGY/cv_results SUNDAY), or STRATEGY~ID for a try (hfp tries).",
            autocompletion=strategies,
        ),
    ],
    week: Annotated[
        str | None,
        typer.Option(help="Of those that name none, its Sunday (default: the latest that all of them have)."),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Draw them beside each other into a PNG file, too: equity, scores, agreement."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a strategy, try, week or learner is better than another, or only luckier.

    Compare the first one with the others on the rows and sessions that all of them have: out-of-fold scores and net returns, each
    difference with an interval and a p-value (Diebold-Mariano, all of them together by Holm). Of more than two also whether the first is
    beaten by the best of the others (Hansen's test), and which may be the best (model confidence set). Then the parameters that differ,
    the scores of all with the best marked, and how far their predictions agree.
    """
    from hf_pipelines.commands.compare import compare_runs, write_picture
    from hf_pipelines.commands.runs import Pipeline

    found = compare_runs(Pipeline.open(), strategy, week)
    if as_json:
        say_json(found.to_json())
    else:
        say(found.lines())
    if picture is not None:
        write_picture(found, Path(picture))


LatestWeek = Annotated[
    str | None, typer.Argument(help="Its Sunday, YYYY-MM-DD (default: the latest that there is).", show_default=False)
]


@command(
    panel=JUDGE,
    writes=False,
    examples=("hfp leaderboard tech_ranking", "hfp leaderboard tech_ranking 2013-02-24 --json"),
)
def leaderboard(
    strategy: StrategyName,
    week: LatestWeek = None,
    as_json: AsJson = False,
) -> None:
    """Print the candidates of a week in order, beside the baselines, and say whether these are beaten.

    Each with its interval, whether it may be the best (model confidence set), what its model costs, and why it has no rank if it has none.
    """
    from hf_pipelines.commands.leaderboard import leaderboard_lines, leaderboard_of
    from hf_pipelines.commands.runs import Pipeline

    found = leaderboard_of(Pipeline.open(), strategy, week)
    if as_json:
        say_json(found)
    else:
        say(leaderboard_lines(found))


@command(
    panel=JUDGE,
    writes=False,
    examples=("hfp sweep tech_ranking", "hfp sweep tech_ranking 2013-02-24 --json"),
)
def sweep(
    strategy: StrategyName,
    week: LatestWeek = None,
    as_json: AsJson = False,
) -> None:
    """Print the points of a week's sweep in order of their deflated Sharpe ratio, each beside its neighbours.

    With what the best of so many trials without skill is expected to show, and why a point has no rank if it has none.
    """
    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.commands.sweep import sweep_lines, sweep_of

    found = sweep_of(Pipeline.open(), strategy, week)
    if as_json:
        say_json(found)
    else:
        say(sweep_lines(found))


@command(panel=JUDGE, writes=False, examples=("hfp explain tech_direction AAPL 2013-02-27",))
def explain(
    strategy: StrategyName,
    symbol: Annotated[str, typer.Argument(help="A member of its market.")],
    day: Annotated[str, typer.Argument(help="The session that they were issued for, YYYY-MM-DD.")],
) -> None:
    """Say what an issued prediction is made of, feature by feature, and what would turn it."""
    from hf_pipelines.commands.explain import explain_lines
    from hf_pipelines.commands.runs import Pipeline

    say(explain_lines(Pipeline.open(), strategy, symbol, day))


ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="STRATEGY for its latest model, STRATEGY@SUNDAY for that of a week, STRATEGY@SUNDAY:HASH for an earlier content of it.",
        autocompletion=strategies,
    ),
]


@command(panel=JUDGE, writes=False, examples=("hfp card tech_ranking", "hfp card tech_ranking@2013-02-24 --json"))
def card(model: ModelName, as_json: AsJson = False) -> None:
    """Print the card of a model: learner, parameters, features, scores, trials, data, what it was made from, artifacts."""
    from hf_pipelines.commands.cards import card_lines, card_of
    from hf_pipelines.commands.runs import Pipeline

    found = card_of(Pipeline.open(), model)
    if as_json:
        say_json(found)
    else:
        say(card_lines(found))


@command(
    panel=JUDGE,
    writes=False,
    examples=("hfp reproduce tech_ranking@2013-02-24", "hfp reproduce tech_ranking@2013-02-24:4be1"),
)
def reproduce(model: ModelName) -> int:
    """Make a model again from the contents that its card names; status 1 if other bytes come out, or a content is missing.

    Nothing is stored, and no trial is recorded.
    """
    from hf_pipelines.commands.cards import reproduced, reproduction_lines
    from hf_pipelines.commands.runs import Pipeline

    return say_judged(reproduction_lines(*reproduced(Pipeline.open(), model)))


@command(
    panel=JUDGE,
    writes="full",
    examples=(
        "hfp validate tech_direction",
        "hfp validate tech_direction 2013-02-24 --json",
        "hfp validate tech_direction --full",
    ),
)
def validate(
    strategy: StrategyName,
    week: LatestWeek = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Make refits too: paths of combinatorial cross-validation, neighbours of the parameters, controls on every fold.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Say what a sceptic asks of a backtest; status 1 if it lives on one thing.

    By year, regime, sector and symbol; later, dearer, without its best sessions and its best symbol; other orders of the same sessions,
    shocks and declines; beside all trials that count. Without --full nothing is fitted and nothing is stored.
    """
    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.commands.validating import full_validation_of, validation_lines, validation_of

    found = (full_validation_of if full else validation_of)(Pipeline.open(), strategy, week)
    if as_json:
        say_json(found)
        return int(not all(is_sound for _, is_sound in validation_lines(found)))
    return say_judged(validation_lines(found))


@command(
    panel=JUDGE,
    writes=True,
    examples=(
        "hfp report tech_direction --open",
        "hfp report tech_direction 2013-02-24 --out tech_direction.html",
        "hfp report --overview",
    ),
)
def report(
    strategy: Annotated[
        str | None,
        typer.Argument(
            help="A folder of defs/strategies, such as tech_direction.", autocompletion=strategies, show_default=False
        ),
    ] = None,
    week: LatestWeek = None,
    overview: Annotated[bool, typer.Option("--overview", help="Of all strategies, side by side.")] = False,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Write the page into a file, too.")] = None,
    opens: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Make one HTML page of all that is stored of a strategy and week, or of all strategies, and say where it lies.

    The verdict and its gates first, then the account, its predictions, the search, the model, its trades and what it was made from. It needs
    no network. Nothing is fitted; what is missing is named with the command that makes it.
    """
    from hf_pipelines.commands.reporting import open_page, overview_of, report_of
    from hf_pipelines.commands.runs import Pipeline

    if overview == (strategy is not None):
        raise ValueError(
            "`strategy` must be given, or --overview instead of it, was given with it or without both; hfp report STRATEGY or hfp report --overview."
        )
    path = None if out is None else Path(out)
    if strategy is None:
        found = overview_of(Pipeline.open(), out=path)
    else:
        found = report_of(Pipeline.open(), strategy, week, out=path)
    say(found.lines())
    if opens:
        open_page(found)


@command(
    panel=JUDGE,
    writes=False,
    examples=("hfp gates tech_ranking", "hfp gates tech_ranking 2013-02-24 --json"),
)
def gates(
    strategy: StrategyName,
    week: LatestWeek = None,
    as_json: AsJson = False,
) -> int:
    """Say whether a strategy may be promoted, gate by gate, and why not; status 1 if it is refused.

    Each gate with its value, threshold and verdict; one whose input is missing, or was chosen by the rows that it is measured on, fails
    with the command that makes it. A strategy without `gates` is judged by the defaults. Nothing is fitted and nothing is stored.
    """
    from hf_pipelines.commands.gates import gates_lines, gates_of
    from hf_pipelines.commands.runs import Pipeline

    found = gates_of(Pipeline.open(), strategy, week)
    if as_json:
        say_json(found.to_json())
        return int(not found.is_passed)
    return say_judged(gates_lines(found))


@command(
    panel=JUDGE,
    writes=True,
    examples=("hfp holdout tech_ranking", 'hfp holdout tech_ranking --reason "before it goes live"'),
)
def holdout(
    strategy: StrategyName,
    reason: Annotated[
        str | None, typer.Option(help="Look at it, and why: one of few looks, recorded and shown for ever.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List every look at a strategy's hold-out; with a reason, take one.

    A look shows the account that followed the issues of the held-out sessions, and how they predicted. It is counted before it is shown.
    """
    from hf_pipelines.commands.holdout import holdout_lines, look, look_line, looks_told
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    taken = None if reason is None else look(pipeline, strategy, reason)
    found = looks_told(pipeline, strategy)
    if as_json:
        say_json(found)
        return
    if taken is not None:
        say([look_line(taken), ""])
    say(holdout_lines(found))


@command(panel=JUDGE, writes=False, examples=("hfp reconcile tech_direction 2013-02-24",))
def reconcile(strategy: StrategyName, week: Week) -> int:
    """Hold all engines to each other on a backtest, bar by bar; status 1 if one parts."""
    from hf_pipelines.commands.reconcile import reconcile_lines
    from hf_pipelines.commands.runs import Pipeline

    return say_judged(reconcile_lines(Pipeline.open(), strategy, week))


@command(
    panel=JUDGE,
    writes="record",
    examples=("hfp replay us_tech/technical --weeks 2013-02-24,2013-02-17", "hfp replay us_tech --record"),
)
def replay(
    group: Annotated[str, typer.Argument(help="MARKET/GROUP such as us_tech/technical; with --record a MARKET.")],
    weeks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SUNDAY",
            help="Weeks by their Sundays, with commas between or an option each (default: all stored).",
        ),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="SUNDAY", help="Or the first of a range of weeks.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="SUNDAY", help="And the last of them.")] = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Of all groups of a MARKET every week whose content was not replayed yet, as every night; what differs is rejected.",
        ),
    ] = False,
) -> int:
    """Recompute stored features as of each row's time; status 1 if one differs."""
    from hf_pipelines.commands.features import recorded_replay_lines, replay_lines
    from hf_pipelines.commands.runs import load_market
    from hf_pipelines.resources.parquet_io_manager import open_store

    market, _, name = group.replace("/features/", "/").partition("/")
    if record:
        if name or weeks or first or last:
            raise ValueError("`--record` must stand with a MARKET alone, was with a group or weeks; leave them out.")
        return say_judged(recorded_replay_lines(open_store(), load_market(market)))
    wanted = [key for each in weeks or () for key in re.split(r"[,\s]+", each) if key]
    return say_judged(replay_lines(open_store(), load_market(market), name, first, last, weeks=wanted or None))


@command(panel=JUDGE, group=feature_group, writes=False, name="test", examples=("hfp feature test technical/rsi_14",))
def feature_test(
    name: Annotated[
        str,
        typer.Argument(
            help="A registered feature such as technical/rsi_14 or rsi_14, also of a module named in `modules` of the market."
        ),
    ],
    market: Annotated[str, typer.Option(help="Whose bars and modules.", autocompletion=markets)] = "us_tech",
) -> int:
    """Play what would betray a leak, a growing window or a unit; status 1 if one is found."""
    from hf_pipelines.commands.features import feature_test_lines
    from hf_pipelines.commands.runs import load_market
    from hf_pipelines.resources.parquet_io_manager import open_store

    return say_judged(feature_test_lines(open_store(), load_market(market), name))


@command(
    panel=JUDGE,
    writes=False,
    group=ledger_group,
    name="summary",
    examples=("hfp ledger summary tech_ranking", "hfp ledger summary --since 2026-01-01 --json"),
)
def ledger_summary(
    strategy: Annotated[
        str | None,
        typer.Argument(
            help="With those it descends from (default: all strategies).", autocompletion=strategies, show_default=False
        ),
    ] = None,
    market: Annotated[str | None, typer.Option(help="Of one market.", autocompletion=markets)] = None,
    actor: Annotated[str | None, typer.Option(help="By one actor: a name of HF_ACTOR, schedule or sensor.")] = None,
    since: Annotated[str | None, typer.Option(help="Begun on this day or later, YYYY-MM-DD (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Begun before this day, YYYY-MM-DD (UTC).")] = None,
    as_json: AsJson = False,
) -> int:
    """How many trials were made, how many are independent, and what the best result is worth after them."""
    from hf_pipelines.commands.trials import Scope, summarise, summary_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    found = summarise(open_store(), Scope(strategy, market, actor, since, until))
    if as_json:
        say_json(found)
    else:
        say(summary_lines(found))
    return 1 if found["unreadable"] else 0


@command(panel=JUDGE, group=ledger_group, writes=False, name="verify")
def ledger_verify() -> int:
    """Look for records that were changed, dropped, reordered, inserted or cut off; status 1 if one is.

    Recompute the hash chains of the ledger and compare their ends with those kept in footers, in Dagster's storage and on this machine. Who
    may write to all of these can write another history: note the digest of `hfp ledger summary` elsewhere.
    """
    from hf_pipelines.commands.trials import verify_trials
    from hf_pipelines.resources.parquet_io_manager import open_store

    return 1 if verify_trials(open_store(), print) else 0


@command(panel=JUDGE, group=ledger_group, writes=True, name="import")
def ledger_import() -> None:
    """Record the results that were stored before there was a ledger."""
    from hf_pipelines.commands.trials import import_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    say(import_lines(open_store()))
