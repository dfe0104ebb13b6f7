"""Reporting: the weekly report on a market's features, its job and its schedule.

Lives here: when it is requested. Does not live here: the report (`market_stages.features_report`).

Dagster concept: partitioned job and schedule. Sunday 06:00 in the market's time zone the week that has ended is
requested, if it has features: after the retraining, which is more urgent.
"""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg

from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.partitions import shift_week, week_key
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.dagster_internals import UnresolvedAssetJobDefinition
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.partition_store import PartitionStore

REPORT_CRON = "0 6 * * 0"


def report_job(market: MarketPlan) -> UnresolvedAssetJobDefinition:
    """Job `<market>_report`: the report on a week's features."""
    return dg.define_asset_job(
        name=f"{market.name}_report",
        selection=dg.AssetSelection.assets(dg.AssetKey(market.report_asset.split("/"))),
        description=f"Coverage and correlations of the features of {market.name}, in pictures.",
    )


def report_schedule(
    market: MarketPlan, job: UnresolvedAssetJobDefinition, versions: Mapping[str, str]
) -> dg.ScheduleDefinition:
    """Request the week that has ended, every Sunday 06:00 in the market's time zone."""
    timezone = market.partitions.timezone

    @dg.schedule(
        name=f"{market.name}_weekly_report",
        job=job,
        cron_schedule=REPORT_CRON,
        execution_timezone=timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED if market.partitions.end else dg.DefaultScheduleStatus.RUNNING,
        description="Report on the features of the week that has ended. Off by default for a market whose data have an end.",
    )
    def schedule(context: dg.ScheduleEvaluationContext, storage: Storage) -> dg.RunRequest | dg.SkipReason:
        local = context.scheduled_execution_time.astimezone(ZoneInfo(timezone))
        return request_report(market, local, storage.store(), versions)

    return schedule


def request_report(
    market: MarketPlan, local: datetime, store: PartitionStore, versions: Mapping[str, str]
) -> dg.RunRequest | dg.SkipReason:
    """Run request for the week before the one of `local`, unless it has no features or its report is current."""
    key = shift_week(week_key(local.date()), -1)
    lacking = [group for group in market.feature_groups if key not in store.partitions(market.features_asset(group))]
    if lacking:
        return dg.SkipReason(f"{market.name} has no features of group {', '.join(lacking)} in week {key}.")
    checker = CurrencyChecker(store, versions)
    if checker.is_current(market.report_asset, key).is_current:
        return dg.SkipReason(f"the report of week {key} is made from what is stored now.")
    return dg.RunRequest(run_key=f"{market.report_asset}:{key}", partition_key=key)
