"""Making: partitions of assets, and the sessions of the sample that arrive."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from hf_pipelines.commands.app import MAKE, Asset, MarketName, StrategyName, command
from hf_pipelines.commands.console import say


@command(
    panel=MAKE,
    writes=True,
    examples=(
        "hfp materialise us_tech/bars --from 2012-01-01 --to 2012-03-04",
        "hfp materialise tech_direction/training_matrix --from 2013-02-24 --with-inputs",
    ),
)
def materialise(
    asset: Asset,
    first: Annotated[str, typer.Option("--from", help="First partition, YYYY-MM-DD.")],
    last: Annotated[str | None, typer.Option("--to", help="Last partition (default: the first).")] = None,
    with_inputs: Annotated[
        bool,
        typer.Option(
            "--with-inputs",
            help="Make the bars and features first that it reads and that are missing or out of date.",
        ),
    ] = False,
) -> None:
    """Materialise an asset for a range of partitions."""
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    keys = pipeline.partition_keys(asset, first, last or first)
    if not keys:
        raise ValueError(f"`to` must not be before `from` {first}, was {last}.")
    if with_inputs:
        from hf_pipelines.commands.making import Maker

        owner = asset.partition("/")[0]
        if (market := pipeline.markets().get(owner)) is not None:
            Maker(pipeline).make_inputs(market, {asset: (None, keys[0], keys[-1])})
        else:
            plan = pipeline.strategy(owner)
            Maker(pipeline).make_inputs(plan.market, {asset: (plan, keys[0], keys[-1])})
    until = f" --to {keys[-1]}" if len(keys) > 1 else ""
    with _naming_all_at_once(f"materialise {asset} --from {keys[0]}{until}", with_inputs):
        seconds = pipeline.materialise([asset], keys[0], keys[-1])
    say([f"{asset}: {len(keys)} partition(s) from {keys[0]} to {keys[-1]} in {seconds:.1f} s"])


@command(
    panel=MAKE,
    writes=True,
    examples=(
        "hfp retrain tech_direction --week 2013-02-24",
        "hfp retrain tech_direction --week 2012-11-04 --to 2012-11-25 --with-inputs",
    ),
)
def retrain(
    strategy: StrategyName,
    week: Annotated[str, typer.Option(help="Its Sunday, YYYY-MM-DD.")],
    last: Annotated[str | None, typer.Option("--to", help="Last of several weeks (default: the one).")] = None,
    final_refit: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Fit the model of a promoted configuration, of this name, on all weeks, the hold-out among them.",
        ),
    ] = None,
    with_inputs: Annotated[
        bool, typer.Option("--with-inputs", help="Make the bars and features first that are missing or out of date.")
    ] = False,
) -> None:
    """Train, test and backtest a strategy for one week."""
    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.components.strategy_stages import retrained
    from hf_pipelines.resources.clock import Clock
    from hf_pipelines.resources.holdout import FINAL_REFIT_TAG

    pipeline = Pipeline.open()
    plan = pipeline.strategy(strategy)
    assets = [f"{strategy}/{stage}" for stage in retrained(plan)]
    tags = {}
    if final_refit is not None:
        assets.append(refit := f"{strategy}/refit_matrix")
        if refit not in pipeline.assets():
            raise ValueError(
                f"`final-refit` must be of a strategy with a hold-out, was of {strategy}, whose models are fitted on all weeks; leave it "
                "out."
            )
        tags = {FINAL_REFIT_TAG: final_refit}
    keys = pipeline.partition_keys(assets[0], week, last or week, named=("week", "to"))
    if not keys:
        raise ValueError(f"`to` must not be before `week` {week}, was {last}.")
    if with_inputs:
        from hf_pipelines.commands.making import Maker
        from hf_pipelines.components.strategy_stages.training_matrix import require_window

        # Before minutes are spent on inputs of a matrix that cannot be made.
        require_window(plan, keys[0])
        wanted = {asset: (plan, keys[0], keys[-1]) for asset in assets}
        Maker(pipeline).make_inputs(plan.market, wanted)
    until = f" --to {keys[-1]}" if len(keys) > 1 else ""
    with _naming_all_at_once(f"retrain {strategy} --week {keys[0]}{until}", with_inputs):
        began = Clock().now()
        seconds = pipeline.materialise(assets, keys[0], keys[-1], tags=tags)
    shown = f"model of week {keys[0]}" if len(keys) == 1 else f"models of {len(keys)} weeks, {keys[0]} to {keys[-1]},"
    say([f"{strategy}: {shown} in {seconds:.1f} s", *pipeline.verdict_lines(strategy, keys[-1], began=began)])


@contextmanager
def _naming_all_at_once(command: str, with_inputs: bool) -> Iterator[None]:
    """A run that fails for what is missing names a command for each asset; one makes them all."""
    from hf_pipelines.commands.runs import RunFailedError
    from hf_pipelines.resources.parquet_io_manager import inputs_first

    try:
        yield
    except RunFailedError as e:
        if with_inputs:
            raise
        # A stage names its own week; here it is the command as it was typed.
        raise RunFailedError(inputs_first(str(e), command)) from e


@command(panel=MAKE, writes=True, examples=("hfp feed us_tech_feed --init", "hfp feed us_tech_feed --sessions 5"))
def feed(
    market: MarketName,
    init: Annotated[
        bool, typer.Option("--init", help="Lay down the history that its strategies need, where missing.")
    ] = False,
    until: Annotated[
        str | None, typer.Option(help="Last session of the history, YYYY-MM-DD (default: a quarter before the end).")
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(help="How many sessions to feed, after the last one that is there.")
    ] = None,
) -> None:
    """Lay real sessions of the sample into the landing folder of a market with a source of type files."""
    from hf_pipelines.commands.feed import SampleReplay
    from hf_pipelines.commands.runs import require_market

    require_market(market)
    if not init and sessions is None:
        raise ValueError("`feed` must be given --init, --sessions or both, was neither.")
    if until and not init:
        raise ValueError(f"`until` must come with --init: it ends the history, was {until} alone.")
    replay = SampleReplay.open(market)
    if init:
        say([replay.lay_history(until)])
    if sessions is not None:
        say([replay.lay_next(sessions)])
