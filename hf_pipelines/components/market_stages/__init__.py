"""The assets of a market, one module each, in flow order.

Lives here: which inputs each asset reads, the research functions it calls, its checks and what it shows. Does not live
here: maths (`research`), the YAML (`market`), storage and sources (`resources`).
"""

from functools import lru_cache, partial

from hf_pipelines.components.market_stages.bars import bars_stage
from hf_pipelines.components.market_stages.feature_inputs import calendar_manifests
from hf_pipelines.components.market_stages.features import features_stage
from hf_pipelines.components.market_stages.features_report import features_report_stage
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.market_stages.reference import reference_stage
from hf_pipelines.components.stage import SourceManifest, Stage

__all__ = ["MarketPlan", "build_report_stages", "build_stages", "code_versions", "manifests"]


# To hash the code of all features takes longer than the rest of loading a market, whose strategies need its versions too.
_KEPT_PLANS = 16


@lru_cache(maxsize=_KEPT_PLANS)
def build_stages(market: MarketPlan) -> tuple[Stage, ...]:
    """What the market's `update_job` makes, in flow order."""
    return (
        bars_stage(market),
        *(reference_stage(market, table) for table in market.references),
        *(features_stage(market, group) for group in market.feature_groups),
    )


@lru_cache(maxsize=_KEPT_PLANS)
def build_report_stages(market: MarketPlan) -> tuple[Stage, ...]:
    """What looks at the features and from which nothing is made: not made with every session."""
    return (features_report_stage(market),) if market.feature_groups else ()


def code_versions(market: MarketPlan) -> dict[str, str]:
    """Code version of every asset of a market."""
    return {stage.asset: stage.code_version for stage in (*build_stages(market), *build_report_stages(market))}


def manifests(market: MarketPlan) -> dict[str, SourceManifest]:
    """What lists the source files of each asset that is made from some, and overrides of the calendar."""
    tables = {market.reference_asset(table): partial(market.reference_manifest, table) for table in market.references}
    return {market.bars_asset: market.bars_manifest, **tables, **calendar_manifests(market)}
