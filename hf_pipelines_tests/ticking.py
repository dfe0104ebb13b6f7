"""Sensors of a small market, ticked in this process: what each tick asks for is run at once."""

import os
import time
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path

import polars as pl
import yaml

from hf_pipelines.components.automation.arrivals import Arrivals
from hf_pipelines.components.automation.run_intents import RunHistory
from hf_pipelines.components.automation.strategy_sensor import StrategySensor
from hf_pipelines.components.automation.ticks import Tick
from hf_pipelines.components.run_tags import expanded
from hf_pipelines.components.strategy import Strategy
from hf_pipelines.components.strategy_stages import StrategyPlan
from hf_pipelines_tests.pipeline import Project, market_of

LATER = datetime(2030, 1, 1, tzinfo=UTC)


class Ticking:
    """A project whose sensors tick in this process, each with its cursor; `source`: where its session files land, if they do."""

    def __init__(self, project: Project, source: Path | None = None) -> None:
        self.project = project
        landing = {} if source is None else {"source": {"type": "files", "uri": str(source)}}
        self.market = market_of({**project.market, **landing})
        self.source = source or project.folder
        self.cursors: dict[str, str | None] = {"arrivals": None, "follows": None}

    def arrivals(self, now: datetime = LATER, *, run: bool = True, then: datetime | None = None) -> Tick:
        """`then`: what the clock of the runs says, and of the ticks but where they ask how long ago a run has ended."""
        history = RunHistory(self.project.instance, now)
        tick = Arrivals(self.market, self.project.store, history, then or now).tick(self.cursors["arrivals"])
        return self._after("arrivals", tick, run, then)

    @cached_property
    def plan(self) -> StrategyPlan:
        return Strategy.resolve_from_yaml(yaml.safe_dump(dict(self.project.strategies[0]))).plan(self.market)

    def follows(self, now: datetime = LATER, *, run: bool = True) -> Tick:
        tick = StrategySensor(self.plan, self.project.store, RunHistory(self.project.instance, now), now).tick(
            self.cursors["follows"]
        )
        return self._after("follows", tick, run)

    def _after(self, name: str, tick: Tick, run: bool, then: datetime | None = None) -> Tick:
        self.cursors[name] = tick.cursor
        clock = {"resources": {"clock": {"config": {"fixed": then.isoformat()}}}} if then else {}
        for request in tick.requests if run else ():
            self.project.definitions.resolve_job_def(request.job_name).execute_in_process(
                instance=self.project.instance,
                partition_key=request.partition_key,
                asset_selection=request.asset_selection,
                tags=dict(request.tags),
                run_config=clock,
                raise_on_error=False,
            )
        return tick

    def write(self, day: date, frame: pl.DataFrame | None, name: str = "{day}.parquet", age_s: float = 60.0) -> None:
        path = self.source / name.format(day=day)
        if frame is None:
            path.unlink()
            return
        frame.write_parquet(path)
        os.utime(path, (time.time() - age_s, time.time() - age_s))


def asked(tick: Tick) -> list[tuple[list[str], str]]:
    """Assets and partitions of the requests."""
    return [
        (
            ["/".join(key.path) for key in request.asset_selection],
            request.partition_key or ",".join(expanded(request.tags["hf/partitions"])),
        )
        for request in tick.requests
    ]
