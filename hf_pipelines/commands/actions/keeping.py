"""Keeping: the contents that the store keeps, whether their bytes are sound, and earlier ones again."""

from typing import Annotated

import typer

from hf_pipelines.commands.app import KEEP, Asset, MaybeAsset, Partition, command
from hf_pipelines.commands.console import say


@command(panel=KEEP, writes=False, examples=("hfp versions tech_direction/fitted_model 2013-02-24",))
def versions(
    asset: Asset,
    partition: Annotated[
        str | None,
        typer.Argument(
            help="Key of a partition, YYYY-MM-DD: the Sunday that a week begins with, or the session of signals (default: all of them).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the contents of an asset that are kept, and what needs them."""
    from hf_pipelines.commands.store import versions_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    say(versions_lines(open_store(), asset, partition))


@command(
    panel=KEEP,
    writes=False,
    examples=("hfp diff tech_direction/signals 2013-02-27 4be1", "hfp diff us_tech/bars 2013-02-24 4be1 77a0"),
)
def diff(
    asset: Asset,
    partition: Partition,
    old: Annotated[str, typer.Argument(metavar="HASH1", help="Content hash, how it begins, or `current`.")],
    new: Annotated[str, typer.Argument(metavar="HASH2", help="The other one.")] = "current",
    rows: Annotated[int, typer.Option(help="How many rows of each kind are shown.")] = 20,
) -> None:
    """Say which rows differ between two contents of a partition."""
    from hf_pipelines.commands.store import diff_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    if rows < 0:
        raise ValueError(f"`rows` must be at least 0, was {rows}.")
    say(diff_lines(open_store(), asset, partition, old, new, rows))


@command(panel=KEEP, writes=False, examples=("hfp verify", "hfp verify tech_direction/fitted_model"))
def verify(asset: MaybeAsset = None) -> int:
    """Recompute the hashes of the stored bytes; status 1 if one differs, or is gone and was read.

    What it proves: nothing was damaged, cut off, mixed up or lost by accident. What it does not: the hashes have no key, so who may write
    to the store can write other content with hashes that fit.
    """
    from hf_pipelines.commands.store import print_progress, verify_promotions, verify_store
    from hf_pipelines.commands.trials import verify_trials
    from hf_pipelines.resources.parquet_io_manager import open_store

    store = open_store()
    mismatches = verify_store(store, asset, print, print_progress)
    faults = [] if asset else verify_trials(store, print, says_nothing_of_none=True)
    damaged = [] if asset else verify_promotions(store, print)
    return 1 if mismatches or faults or damaged else 0


@command(panel=KEEP, writes=True, examples=("hfp restore tech_direction/fitted_model 2013-02-24 4be1",))
def restore(
    asset: Asset,
    partition: Partition,
    content: Annotated[str, typer.Argument(metavar="HASH", help="Content hash of the version, or how it begins.")],
) -> None:
    """Make an earlier version of a partition current again."""
    from hf_pipelines.commands.store import restore_lines
    from hf_pipelines.resources.parquet_io_manager import open_store

    say(restore_lines(open_store(), asset, partition, content))


@command(panel=KEEP, writes="yes", examples=("hfp gc", "hfp gc --yes"))
def gc(yes: Annotated[bool, typer.Option("--yes", help="Remove it; without it nothing is removed.")] = False) -> None:
    """Say what is old and needed by nothing, and why each thing goes or stays.

    Earlier versions of partitions, finished runs and their logs, MLflow's runs, shown studies and fits that were never ended, by
    HF_KEEP_DAYS, HF_KEEP_VERSIONS and HF_KEEP_GB: what the weekly job housekeeping removes.
    """
    from hf_pipelines.commands.collecting import gc_lines

    say(gc_lines(is_wanted=yes))
