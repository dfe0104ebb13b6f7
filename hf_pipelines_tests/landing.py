"""Landing: a checkout with a small market whose session files arrive one by one, and a strategy that follows it.

Lives here: laying files out as a vendor would, and reading what became of them. Does not live here: the servers
(`running`), and what is asserted.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.resources.market_data.files import SETTLE_S
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.checkout import Checkout, make_checkout
from hf_pipelines_tests.pipeline import (
    RETRAINED,
    TIMEZONE,
    files_market,
    ridge_strategy,
    session_bars,
    sessions_from,
    shipped_features,
)
from hf_pipelines_tests.running import FINISHED, Running
from hf_pipelines_tests.servers import wait_until

MARKET, STRATEGY = "small", "follower"

LOOK_EVERY_S = 0.2
GROUPS = ("temporal", "cross_asset")
FIRST_SESSION = date(2012, 1, 3)

# The longest lookback of these groups is 61 bars: 15 weeks of bars before the first week of features.
LOOKBACK_WEEKS = 15
TRAIN_WEEKS = 6
HISTORY_WEEKS = LOOKBACK_WEEKS + TRAIN_WEEKS

FOLLOWER = ridge_strategy(
    STRATEGY,
    features=["temporal/day_of_week", "cross_asset"],
    training={"weeks": TRAIN_WEEKS, "minimum_rows": 40},
    cross_validation={"n_splits": 2, "min_train_sessions": 5},
)


@dataclass(frozen=True)
class Landing:
    """A market that is fed from a folder.

    Attributes
    ----------
    checkout : Checkout
    folder : Path
        Where its session files land.
    bars : DataFrame
        All that the vendor will ever send.
    """

    checkout: Checkout
    folder: Path
    bars: pl.DataFrame

    @cached_property
    def sessions(self) -> list[date]:
        return self.bars["session"].unique().sort().to_list()

    @cached_property
    def partitions(self) -> MarketPartitions:
        return MarketPartitions("XNYS", TIMEZONE, self.sessions[0], self.sessions[-1])

    @cached_property
    def weeks(self) -> list[str]:
        return self.partitions.weeks_between(self.sessions[0], self.sessions[-1])

    @property
    def store(self) -> PartitionStore:
        return self.checkout.store()

    def sessions_of(self, *weeks: int) -> list[date]:
        """Sessions of weeks by their number, counted from the first."""
        return [day for week in weeks for day in self.partitions.sessions_of_week(self.weeks[week])]

    def deliver(self, days: Iterable[date], *, bars: pl.DataFrame | None = None, name: str = "{day}.parquet") -> None:
        """Lay down one file a session, each whole at once and the batch within the settling time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        bars = self.bars if bars is None else bars
        written = []
        for day in days:
            target = self.folder / name.format(day=day)
            part = target.with_name(f".{target.name}.part")
            bars.filter(pl.col("session") == day).write_parquet(part)
            written.append((part, target))
        for part, target in written:
            os.replace(part, target)

    def deliver_settled(self, days: Iterable[date]) -> None:
        """Lay down files that look as if they had been there for a while."""
        chosen = list(days)
        self.deliver(chosen)
        then = time.time() - 10 * SETTLE_S
        for day in chosen:
            os.utime(self.folder / f"{day}.parquet", (then, then))

    def hashes(self, *assets: str) -> dict[str, str]:
        """Content hash of every stored partition, by `<asset>/<partition>`."""
        store = self.store
        found = {}
        for asset in assets or self.assets:
            for key in store.partitions(asset):
                footer = store.footer(asset, key)
                assert footer is not None
                found[f"{asset}/{key}"] = footer.content_hash
        return found

    @property
    def assets(self) -> list[str]:
        stages = (*RETRAINED, "signals")
        groups = [f"{MARKET}/features/{group}" for group in GROUPS]
        return [f"{MARKET}/bars", *groups, *(f"{STRATEGY}/{stage}" for stage in stages)]

    def issues(self) -> list[str]:
        return self.store.partitions(f"{STRATEGY}/signals")


def make_landing(
    folder: Path,
    *,
    weeks: int = HISTORY_WEEKS + 3,
    symbols: int = 4,
    seed: int = 11,
    market: Mapping[str, Any] | None = None,
    strategies: Sequence[Mapping[str, Any]] = (FOLLOWER,),
) -> Landing:
    """A checkout in `folder` with the market `small`; nothing has landed yet."""
    bars = session_bars(sessions_from(FIRST_SESSION, weeks), seed=seed, symbols=symbols)
    landing = folder / "landing"
    attributes = {
        **files_market(landing, bars.clear(), features=shipped_features(*GROUPS), name=MARKET),
        **(market or {}),
    }
    members = bars.filter(pl.col("symbol").str.starts_with("S"))["symbol"].unique().sort().to_list()
    attributes |= {
        "universe": [{"symbol": symbol} for symbol in members],
        "start": str(bars["session"].min()),
        "end": str(bars["session"].max()),
    }
    checkout = make_checkout(folder / "checkout", strategies, folder / "data", markets=[attributes])
    return Landing(checkout, landing, bars)


def settle(services: Running, *, quiet_ticks: int = 2, timeout_s: float = 600.0) -> None:
    """Wait until every sensor has ticked `quiet_ticks` times in a row without asking for a run, and no run is left."""
    began = time.time()

    def is_quiet() -> bool:
        runs = services.runs()
        if any(run["status"] not in FINISHED for run in runs):
            return False
        ended = [run["ended"] or run["created"] for run in runs]
        since = max([began, *ended])
        ticks = services.ticks()
        return all(_quiet(ticks.get(name, []), since, quiet_ticks) for name in following(services.checkout))

    wait_until(is_quiet, "quiet sensors", timeout_s=timeout_s, every_s=LOOK_EVERY_S)


def _quiet(ticks: Sequence[Mapping[str, Any]], since: float, count: int) -> bool:
    """Whether the last ticks, all begun after `since`, asked for nothing."""
    last = ticks[:count]
    return len(last) == count and all(
        each["timestamp"] > since
        and each["status"] == "SKIPPED"
        and not any(word in (each["skipReason"] or "") for word in ("arriving", "under way", "waits"))
        for each in last
    )


def following(checkout: Checkout) -> list[str]:
    """Names of the sensors of a checkout that follow files and features."""
    found = []
    for path in sorted((checkout.root / "hf_pipelines" / "defs").glob("*/*/defs.yaml")):
        attributes = yaml.safe_load(path.read_text())["attributes"]
        if path.parent.parent.name == "strategies":
            found.append(f"{attributes['name']}_follows")
        elif attributes["source"]["type"] in ("files", "http"):
            found.append(f"{attributes['name']}_arrivals")
    assert found, f"nothing follows in {checkout.root}"
    return found
