"""Stage asset: Dagster's asset of a stage, and what its run does.

Lives here: reading inputs, calling the computation, running checks before publishing, and turning all that into one
Dagster asset. Does not live here: what is computed (`research`), how it is stored (`resources`).

Dagster concept: asset factory. A run covers one partition or a range of them; guards run per partition before anything
is published, and a partition that fails one is never current.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import dagster as dg

from hf_pipelines.components.asset_facts import docs_of
from hf_pipelines.components.run_tags import partitions_of_run, wanted_partitions
from hf_pipelines.components.source_races import MAX_REREADS, compute_settled, moved_partitions
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_checks import Finding, check_result
from hf_pipelines.components.stage_run import Computed, StageRun
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.fit_states import FitStates
from hf_pipelines.resources.footer import Verdict
from hf_pipelines.resources.holdout import final_refit_of
from hf_pipelines.resources.outages import waiting_out
from hf_pipelines.resources.parquet_io_manager import KIND_KEY, Loaded, Publication, describe_faults
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.trial_ledger import TrialLedger, actor_of

# Of a partition that Dagster has and the calendar does not.
NOTHING_TO_MAKE = "No session: there is nothing to make, and nothing is stored."


def build_asset(
    stage: Stage, *, owners: Sequence[str] = (), tags: Mapping[str, str] | None = None
) -> dg.AssetsDefinition:
    """The Dagster asset, with who it belongs to and what else the catalogue's search finds it by."""

    @dg.asset(
        key=stage.key,
        ins={each.name: each.asset_in() for each in stage.inputs},
        group_name=stage.asset.split("/")[0],
        description=stage.description,
        kinds=set(stage.kinds),
        owners=list(owners),
        tags={"stage": stage.kind, **(tags or {}), **stage.tags},
        partitions_def=stage.partitions,
        code_version=stage.code_version,
        pool=stage.pool,
        check_specs=[
            dg.AssetCheckSpec(check.name, asset=stage.key, description=check.description) for check in stage.checks
        ],
        backfill_policy=dg.BackfillPolicy.single_run() if stage.is_range_run else dg.BackfillPolicy.multi_run(1),
        required_resource_keys={"clock", "io_manager"} | ({"mlflow"} if stage.track else set()),
        metadata={KIND_KEY: stage.kind, **docs_of(stage.kind), **stage.metadata}
        | ({"dagster/column_schema": stage.column_schema} if stage.column_schema else {}),
        output_required=False,
    )
    def body(context: dg.AssetExecutionContext, **inputs: Loaded) -> Iterator[Any]:
        with waiting_out(context.get_step_execution_context()):
            yield from _execute(stage, context, inputs)

    return body


def build_currency_check(
    stage: Stage, code_versions: Mapping[str, str], issues: Collection[str] = ()
) -> dg.AssetChecksDefinition:
    """Check `is_current`: is what is stored what would be computed now?

    Parameters
    ----------
    code_versions : mapping of asset path to code version
        Of this asset and of all that lie upstream of it.
    issues : collection of asset paths
        Those of them whose partitions are written once.
    """

    @dg.asset_check(
        asset=stage.key,
        name="is_current",
        description="What is stored was made by this code from inputs that have not changed since (content hashes).",
        required_resource_keys={"clock", "io_manager"},
    )
    def is_current(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with waiting_out(context.get_step_execution_context()):
            return judge(context)

    def judge(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        store = context.resources.io_manager.storage.store()
        manifests = {stage.asset: partial(stage.manifest, now=context.resources.clock.now())} if stage.manifest else {}
        checker = CurrencyChecker(store, code_versions, manifests, issues)
        stored = store.partitions(stage.asset)
        asked = partitions_of_run(context.run.tags, stage.partitions) or stored
        judged = {key: checker.is_current(stage.asset, key) for key in sorted({*asked} & {*stored})}
        found = {key: Finding(each.is_current, 1, (each.reason,)) for key, each in judged.items()}
        remedy = f"hfp current {stage.asset} names the commands that make it again"
        return check_result("is_current", dg.AssetCheckSeverity.WARN, found, remedy=remedy)

    return is_current


def _execute(stage: Stage, context: dg.AssetExecutionContext, inputs: Mapping[str, Loaded]) -> Iterator[Any]:
    wanted = wanted_partitions(context.run.tags, context.partition_keys)
    store = context.resources.io_manager.storage.store()
    run = StageRun(
        partitions=wanted,
        now=context.resources.clock.now(),
        log=context.log,
        store=store,
        final_refit=final_refit_of(context.run.tags),
        fits=FitStates(store.objects, stage.asset, stage.code_version) if stage.keeps_fits else None,
        code_version=stage.code_version,
        trials=TrialLedger(store.objects, actor_of(context.run.tags), context.resources.clock.now),
    )
    with stage.track(context) if stage.track else nullcontext(None) as tracker:
        if tracker is not None:
            run = replace(run, tracked=tracker.runs, log_step=tracker.log_step)
        began = perf_counter()
        computed = compute_settled(stage, context, run, inputs)
        # A range is computed at once: each of its partitions shows the mean.
        compute_s = (perf_counter() - began) / max(len(computed.contents), 1)
        noted = {key: {**computed.metadata.get(key, {}), "compute_s": compute_s} for key in computed.contents}
        publication, results = check_contents(stage, run, inputs, replace(computed, metadata=noted))
        _report_rests(stage, context, publication)
        if publication.is_whole and len(wanted) == len(context.partition_keys):
            yield dg.Output(publication, data_version=_data_version(publication))
        else:
            _publish_part(stage, context, publication)
        _publish_moved(stage, context, run, inputs, publication)
        if run.fits is not None:
            for key in publication.contents:
                run.fits.clear(key)
        yield from results
        if tracker is not None:
            for key, content in publication.contents.items():
                tracker.log(key, content, publication.metadata.get(key, {}))
        if publication.rejected or publication.failures:
            raise _failure(stage, publication)


def _publish_moved(
    stage: Stage,
    context: dg.AssetExecutionContext,
    run: StageRun,
    inputs: Mapping[str, Loaded],
    publication: Publication,
) -> None:
    """Publish again the partitions whose files arrived between the last look and the publish."""
    for _ in range(MAX_REREADS):
        moved = moved_partitions(stage, run, publication.contents)
        if not moved:
            return
        run.log.warning(f"source files of {', '.join(moved[:5])} changed while they were published: once more")
        again = replace(run, partitions=moved)
        publication, _results = check_contents(stage, again, inputs, compute_settled(stage, context, again, inputs))
        _publish_part(stage, context, publication)
        if publication.rejected or publication.failures:
            raise _failure(stage, publication)


def _failure(stage: Stage, publication: Publication) -> dg.Failure:
    faults = describe_faults(stage.asset, publication, is_watched=stage.is_manifest_live)
    lost = sorted({*publication.failures, *publication.rejected})
    return dg.Failure(faults, metadata={"not_published": some_of(lost)}, allow_retries=False)


def _report_rests(stage: Stage, context: dg.AssetExecutionContext, publication: Publication) -> None:
    """Report the partitions that never hold anything, so that the web UI does not show them as missing for ever."""
    for rest in sorted({rest for key in publication.contents for rest in stage.rests(key)}):
        context.log_event(dg.AssetMaterialization(stage.key, description=NOTHING_TO_MAKE, partition=rest))


def _publish_part(stage: Stage, context: dg.AssetExecutionContext, publication: Publication) -> None:
    """Publish the sound partitions of a run; an Output would report the others as materialised too."""
    step = context.get_step_execution_context()
    for key, note in context.resources.io_manager.publish(step, stage.key, publication).items():
        context.log_event(dg.AssetMaterialization(stage.key, partition=key, metadata=note))


def check_contents(
    stage: Stage, run: StageRun, inputs: Mapping[str, Loaded], computed: Computed
) -> tuple[Publication, list[dg.AssetCheckResult]]:
    """What may be published of what was computed, and what the checks found."""
    began = perf_counter()
    found = {check.name: check.findings(run, inputs, computed.contents) for check in stage.checks}
    guards = [check.name for check in stage.checks if check.is_guard]
    rejected: dict[str, Content] = {}
    verdicts: dict[str, dict[str, Verdict]] = {}
    for key, content in computed.contents.items():
        digest = content.content_hash()
        of_key = {name: found[name][key] for name in guards}
        verdicts[key] = {
            name: Verdict(each.passed, digest, each.n_compared, each.findings) for name, each in of_key.items()
        }
        if not all(each.passed for each in of_key.values()):
            rejected[key] = content
    # Like the computation: of a range, each partition shows the mean.
    took = {"checks_s": (perf_counter() - began) / max(len(computed.contents), 1)} if stage.checks else {}
    metadata = {key: {**computed.metadata.get(key, {}), **took} for key in computed.contents}
    publication = Publication(
        contents={key: content for key, content in computed.contents.items() if key not in rejected},
        rejected=rejected,
        failures=computed.failures,
        skipped=computed.skipped,
        verdicts=verdicts,
        metadata=metadata,
    )
    return publication, [check_result(check.name, check.severity, found[check.name]) for check in stage.checks]


def _data_version(publication: Publication) -> dg.DataVersion | None:
    """Content hash of a single partition; a range would stamp one version on all, so it gets none of ours."""
    if len(publication.contents) != 1:
        return None
    return dg.DataVersion(next(iter(publication.contents.values())).content_hash())
