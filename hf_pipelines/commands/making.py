"""Making: what weeks of strategies need, stage by stage, made where it is missing or out of date, a line for each.

Lives here: the way down from the assets of strategies, window by window, to those of the market, and the lines. Does not live
here: the windows (`components`), what a run does (`runs`).
"""

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hf_pipelines.commands.console import quiet
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.market_stages import build_stages as build_market_stages
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import Stage, week_of_key
from hf_pipelines.components.strategy_stages import CHAMPION_MODEL, StrategyPlan, build_stages
from hf_pipelines.components.strategy_stages.champion_model import KINDS as REFIT_KINDS
from hf_pipelines.components.strategy_stages.champion_model import champion_beside
from hf_pipelines.components.strategy_stages.serving import serving_plan
from hf_pipelines.partitions import parse_key, shift_week
from hf_pipelines.resources.footer import SIGNALS
from hf_pipelines.resources.settings import NO_PICTURES

# Variable that says whether assets have pictures.
PICTURES = "HF_PICTURES"


@dataclass(frozen=True)
class Span:
    """Weeks of an asset, by the first and the last of them."""

    asset: str
    first: str
    last: str

    def holding(self, first: str, last: str) -> "Span":
        """The span that holds these weeks too."""
        return Span(self.asset, min(self.first, first), max(self.last, last))


@dataclass(frozen=True)
class Making:
    """What is made in one run: assets of one market or strategy, from a partition to another.

    Attributes
    ----------
    stage : str
        That its seconds are counted for.
    assets : tuple of str
    market : str
    first, last : str
        Partition keys.
    is_drawn : bool
        Whether it has pictures, where these are wanted at all (HF_PICTURES).
    """

    stage: str
    assets: tuple[str, ...]
    market: str
    first: str
    last: str
    is_drawn: bool = True

    @property
    def label(self) -> str:
        """Such as `us_tech: bars, features/technical`."""
        return f"{self.assets[0].split('/')[0]}: {', '.join(asset.split('/', 1)[1] for asset in self.assets)}"

    @property
    def shown(self) -> str:
        """Such as `2013-02-17 to 2013-02-24`."""
        return self.first if self.first == self.last else f"{self.first} to {self.last}"

    @property
    def words(self) -> str:
        """What is made, of when."""
        return f"{self.label}, {self.shown}"


def market_spans(market: MarketPlan, wanted: Mapping[str, tuple[StrategyPlan | None, str, str]]) -> list[Span]:
    """Weeks of the market's assets that others are made from, in the order in which they are made.

    Parameters
    ----------
    market : MarketPlan
    wanted : mapping of str to tuple
        Asset with its strategy, None for one of the market itself, and the keys of the first and the last partition that is made.

    Returns
    -------
    list of Span
        Not before the market's first week.
    """
    of_market = build_market_stages(market)
    by_strategy = {plan.name: _by_asset(build_stages(plan)) for plan, _, _ in wanted.values() if plan}
    spans: dict[str, Span] = {}
    for asset, (plan, first, last) in wanted.items():
        stage = (by_strategy[plan.name] if plan else _by_asset(of_market)).get(asset)
        if stage is not None:
            _hold(spans, stage, Span(asset, week_of_key(first), week_of_key(last)), market)
    # Against the flow: what reads an asset has its span before.
    for stage in reversed(of_market):
        if stage.asset in spans:
            _hold(spans, stage, spans[stage.asset], market)
    return [spans[stage.asset] for stage in of_market if stage.asset in spans]


@dataclass
class Maker:
    """Makes assets and prints a line for each; what is current is not made again.

    Attributes
    ----------
    seconds : mapping of str to float
        What was spent on each stage.
    """

    pipeline: Pipeline
    seconds: dict[str, float] = field(default_factory=dict)

    def make_inputs(self, market: MarketPlan, wanted: Mapping[str, tuple[StrategyPlan | None, str, str]]) -> None:
        """What assets of strategies, or of the market, are made from, of the market: see `spans`."""
        for wave in _waves(market, self.spans(market, wanted)):
            self.make_all(
                [
                    [Making(span.asset.partition("/")[2], (span.asset,), market.name, span.first, span.last)]
                    for span in wave
                ]
            )

    def spans(self, market: MarketPlan, wanted: Mapping[str, tuple[StrategyPlan | None, str, str]]) -> list[Span]:
        """As `market_spans`, with what the champion reads where it is another configuration than that of the YAML."""
        spans: dict[str, Span] = {}
        for each in [*market_spans(market, wanted), *market_spans(market, self._by_champions(wanted))]:
            spans[each.asset] = spans.get(each.asset, each).holding(each.first, each.last)
        return [spans[stage.asset] for stage in build_market_stages(market) if stage.asset in spans]

    def make_all(self, chains: Sequence[Sequence[Making]]) -> None:
        """Chains of runs that do not need each other; of a chain each needs those before it.

        Raises
        ------
        RunFailedError
            With the message of the first failed step.
        """
        for chain in chains:
            for each in chain:
                self.make(each)

    def make(self, making: Making) -> None:
        """Make what of a run is not current.

        Raises
        ------
        RunFailedError
            With the message of the first failed step.
        """
        assets, market = making.assets, self.markets[making.market]
        checker = self.pipeline.checker()
        keys = self.pipeline.partition_keys(assets[-1], making.first, making.last)
        if self.pipeline.kind(assets[-1]) == SIGNALS:
            # Sundays have a partition (a library fact) but no session.
            keys = [key for key in keys if market.partitions.is_session(parse_key(key))]
        else:
            keys = market.partitions.trading_weeks(keys)
        idle = self._idle(assets)
        looked_at = [asset for asset in assets if asset not in idle]
        stale = [key for key in keys if not all(checker.is_current(asset, key).is_current for asset in looked_at)]
        if not stale:
            print(f"  {making.label:<70} {making.shown:<24} {'is current':>12}", flush=True)
            return
        print(f"  {making.label:<70} {making.shown:<24} ", end="", flush=True)
        ending, warnings = "      failed", io.StringIO()
        try:
            # Warnings come after the line, not in the middle of it; how far it was says nothing then.
            with redirect_stderr(warnings), quiet(), nullcontext() if making.is_drawn else _without_pictures():
                seconds = self.pipeline.materialise(assets, stale[0], stale[-1])
            self.seconds[making.stage] = self.seconds.get(making.stage, 0.0) + seconds
            ending = f"{len(stale):>4} in {seconds:4.1f} s"
        finally:
            print(ending, flush=True)
            print(warnings.getvalue(), end="", file=sys.stderr, flush=True)

    @property
    def apart(self) -> dict[str, Any]:
        """Where else than in this process something is computed: `workers`, and what gives the pipeline there (`opened`)."""
        return {}

    @cached_property
    def markets(self) -> dict[str, MarketPlan]:
        """See `Pipeline.markets`."""
        return self.pipeline.markets()

    def _by_champions(
        self, wanted: Mapping[str, tuple[StrategyPlan | None, str, str]]
    ) -> dict[str, tuple[StrategyPlan | None, str, str]]:
        """The same by the champions of their strategies: of issues, and of what the champion's refits are made from."""
        found: dict[str, tuple[StrategyPlan | None, str, str]] = {}
        for asset, (plan, first, last) in wanted.items():
            kind = asset.partition("/")[2]
            if plan is None or kind not in (SIGNALS, CHAMPION_MODEL):
                continue
            try:
                at = serving_plan(plan, self.pipeline.store)
            except ValueError:
                # The run that needs the champion says why it cannot be made; what is beside it is made all the same.
                continue
            if at is not None and at is not plan:
                kinds = REFIT_KINDS if kind == CHAMPION_MODEL else (kind,)
                found |= {at.asset(each): (at, first, last) for each in kinds}
        return found

    def _idle(self, assets: Sequence[str]) -> set[str]:
        """Those of some assets of which nothing is to be made: a champion's refit where the YAML's own is the champion's."""
        refits = {asset for asset in assets if asset.endswith(f"/{CHAMPION_MODEL}")}
        plans = {asset: self.pipeline.strategy(asset.split("/")[0]) for asset in refits}
        return {asset for asset, plan in plans.items() if champion_beside(plan, self.pipeline.store) is None}


@contextmanager
def _without_pictures() -> Iterator[None]:
    before = os.environ.get(PICTURES)
    os.environ[PICTURES] = NO_PICTURES
    try:
        yield
    finally:
        os.environ.pop(PICTURES)
        if before is not None:
            os.environ[PICTURES] = before


def _waves(market: MarketPlan, spans: Sequence[Span]) -> list[list[Span]]:
    """Spans that do not need each other together, those before that others need."""
    inputs = {stage.asset: {each.asset for each in stage.inputs} for stage in build_market_stages(market)}
    depth: dict[str, int] = {}
    for span in spans:
        # In the order in which they are made.
        depth[span.asset] = max((depth[each] + 1 for each in inputs[span.asset] if each in depth), default=0)
    return [[span for span in spans if depth[span.asset] == at] for at in sorted({*depth.values()})]


def _hold(spans: dict[str, Span], stage: Stage, span: Span, market: MarketPlan) -> None:
    """Add what partitions of a stage read of the market."""
    earliest = market.partitions.first_week.isoformat()
    for each in stage.inputs:
        if each.asset.partition("/")[0] == market.name:
            first = max(shift_week(span.first, each.first_week), earliest)
            last = max(shift_week(span.last, each.last_week), earliest)
            spans[each.asset] = spans.get(each.asset, Span(each.asset, first, last)).holding(first, last)


def _by_asset(stages: Sequence[Stage]) -> dict[str, Stage]:
    return {stage.asset: stage for stage in stages}
