"""On time: the check that shows in the web UI what is late, and why.

Lives here: one check on each market's bars and on each strategy's models and signals. Does not live here: the decision
(`lateness`), reporting it while nothing runs (`watch`).

Dagster concept: asset check. It runs with every run that makes its asset; between runs the watch reports it anew when
the answer has changed.
"""

from collections.abc import Iterable, Sequence

import dagster as dg

from hf_pipelines.components.operations.inventory import Inventory, Watched, WatchedStrategy, read_market, read_strategy
from hf_pipelines.components.operations.lateness import Late
from hf_pipelines.components.operations.outcomes import ON_TIME
from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.parquet_io_manager import Storage

DESCRIPTIONS = {
    "bars": "Every session that has closed (in a replay: that later data have passed) has bars.",
    "fitted_model": "The newest week, by the data, has its model.",
    "signals": "Every session with bars since the strategy is in use has its signals.",
}

MAX_NAMED = 5


def on_time_checks(watched: Watched) -> list[dg.AssetChecksDefinition]:
    """The check of every market and strategy."""
    of_markets = [_build(watched, market.bars_asset) for market in watched.markets]
    of_strategies = [
        _build(watched, f"{strategy.name}/{stage}")
        for strategy in watched.strategies
        for stage in ("fitted_model", "signals")
    ]
    return [*of_markets, *of_strategies]


def evaluations(late: Iterable[Late], assets: Iterable[str]) -> dict[str, dg.AssetCheckEvaluation]:
    """Result of each asset's check now."""
    by_asset: dict[str, list[Late]] = {asset: [] for asset in assets}
    for each in late:
        by_asset[each.asset].append(each)
    return {
        asset: dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset.split("/")),
            check_name=ON_TIME,
            passed=not found,
            severity=dg.AssetCheckSeverity.ERROR,
            description=_described(found),
            metadata=_metadata(found),
        )
        for asset, found in by_asset.items()
    }


def assets_of(watched: Watched) -> list[str]:
    """Assets that have the check."""
    stages = ("fitted_model", "signals")
    return [
        *(market.bars_asset for market in watched.markets),
        *(f"{strategy.name}/{stage}" for strategy in watched.strategies for stage in stages),
    ]


def _build(watched: Watched, asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey(asset.split("/")),
        name=ON_TIME,
        description=f"{DESCRIPTIONS[asset.rsplit('/', 1)[1]]} Late is what is missing HF_LATE_HOURS after it could be there.",
    )
    def on_time(storage: Storage, clock: Clock) -> dg.AssetCheckResult:
        now = clock.now()
        late = _read(watched, asset, storage, clock).late(now, settings.late_after())
        found = evaluations((each for each in late if each.asset == asset), [asset])[asset]
        return dg.AssetCheckResult(
            passed=found.passed, severity=found.severity, description=found.description, metadata=found.metadata
        )

    return on_time


def _read(watched: Watched, asset: str, storage: Storage, clock: Clock) -> Inventory:
    """The market or strategy that an asset belongs to."""
    store, owner = storage.store(), asset.split("/")[0]
    if markets := [each for each in watched.markets if each.bars_asset == asset]:
        return Inventory((read_market(store, markets[0]),), ())
    (strategy,) = (each for each in watched.strategies if each.name == owner)
    return _inventory_of(strategy, storage, clock)


def _inventory_of(strategy: WatchedStrategy, storage: Storage, clock: Clock) -> Inventory:
    store = storage.store()
    market = read_market(store, strategy.market)
    return Inventory((), (read_strategy(store, strategy, market, clock.now()),))


def _described(late: Sequence[Late]) -> str:
    if not late:
        return "nothing is late"
    shown = "; ".join(each.why for each in late[:MAX_NAMED])
    return shown + (f"; and {len(late) - MAX_NAMED} more" if len(late) > MAX_NAMED else "")


def _metadata(late: Sequence[Late]) -> dict[str, dg.MetadataValue]:
    rows = [dg.TableRecord({"partition": each.partition, "why": each.why, "remedy": each.remedy}) for each in late]
    found: dict[str, dg.MetadataValue] = {"late": dg.MetadataValue.int(len(late))}
    if rows:
        found["what is late"] = dg.MetadataValue.table(rows)
    return found
