"""Source races: source files that change while a run reads them.

Lives here: reading again what has changed, and refusing to publish without a file that was there before. Does not live
here: listing the files (`resources.market_data`), publishing (`stage_asset`).
"""

from collections.abc import Mapping
from dataclasses import replace

import dagster as dg

from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_run import Computed, StageRun
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.storage_errors import StoredPartitionError

# How often a week is read again because its source files changed meanwhile, before giving up.
MAX_REREADS = 5


def compute_settled(
    stage: Stage, context: dg.AssetExecutionContext, run: StageRun, inputs: Mapping[str, Loaded]
) -> Computed:
    """Compute, and again for partitions whose source files changed meanwhile; none may lose a file it had."""
    computed = stage.compute(run, inputs)
    for _ in range(MAX_REREADS):
        moved = moved_partitions(stage, run, computed.contents)
        if not moved:
            break
        run.log.warning(f"source files of {', '.join(moved[:5])} changed while they were read: reading again")
        again = stage.compute(replace(run, partitions=moved), inputs)
        computed = replace(
            computed,
            contents={
                **{key: each for key, each in computed.contents.items() if key not in moved},
                **again.contents,
            },
            failures={**computed.failures, **again.failures},
            metadata={**computed.metadata, **again.metadata},
        )
    else:
        raise ValueError(
            f"`source` of {stage.asset} must rest for the time of a run, changed {MAX_REREADS} times while it was read; "
            "run it when the files have arrived."
        )
    return _without_losses(stage, context, computed)


def moved_partitions(stage: Stage, run: StageRun, contents: Mapping[str, Content]) -> tuple[str, ...]:
    """Partitions whose source files are no longer those that were read."""
    if stage.manifest is None or not stage.is_manifest_live:
        return ()
    return tuple(key for key, each in contents.items() if dict(stage.manifest(key, now=run.now)) != dict(each.sources))


def _without_losses(stage: Stage, context: dg.AssetExecutionContext, computed: Computed) -> Computed:
    """Refuse partitions that would be made without a file that their current content was made from."""
    if stage.manifest is None or not stage.is_manifest_live:
        return computed
    store = context.resources.io_manager.storage.store()
    lost: dict[str, str] = {}
    for key, content in computed.contents.items():
        if key in stage.known_gaps and content.frame.is_empty():
            continue
        try:
            current = store.footer(stage.asset, key)
        except StoredPartitionError:
            # A damaged object is replaced, whatever it was made from.
            continue
        gone = sorted(set(current.sources) - set(content.sources)) if current else []
        if gone := [name for name in gone if stage.is_own(name, key)]:
            lost[key] = (
                f"`source` must still hold {', '.join(gone[:5])}, which {stage.asset} {key} was made from, was without; "
                "put the file back, or a table of the same name without rows if its rows must go."
            )
    return replace(
        computed,
        contents={key: each for key, each in computed.contents.items() if key not in lost},
        failures={**computed.failures, **lost},
    )
