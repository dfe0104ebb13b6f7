"""Making: what weeks of strategies need, stage by stage, made where it is missing or out of date, a line for each.

Lives here: the way down from the assets of strategies, window by window, to those of the market, and the lines. Does not live
here: the windows (`components`), what a run does (`runs`).
"""

import io
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.market_stages import build_stages as build_market_stages
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import Stage, week_of_key
from hf_pipelines.components.strategy_stages import CHAMPION_MODEL, StrategyPlan, build_stages
from hf_pipelines.components.strategy_stages.champion_model import champion_beside
from hf_pipelines.partitions import parse_key, shift_week
from hf_pipelines.resources.footer import SIGNALS


@dataclass(frozen=True)
class Span:
    """Weeks of an asset, by the first and the last of them."""

    asset: str
    first: str
    last: str

    def holding(self, first: str, last: str) -> "Span":
        """The span that holds these weeks too."""
        return Span(self.asset, min(self.first, first), max(self.last, last))


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
        """What assets of strategies, or of the market, are made from, of the market: see `market_spans`."""
        for span in market_spans(market, wanted):
            self.make(span.asset.partition("/")[2], [span.asset], market, span.first, span.last)

    def make(self, stage: str, assets: Sequence[str], market: MarketPlan, first: str, last: str) -> None:
        """Assets of one market or strategy, from a partition to another, in one run.

        Raises
        ------
        RunFailedError
            With the message of the first failed step.
        """
        checker = self.pipeline.checker()
        keys = self.pipeline.partition_keys(assets[-1], first, last)
        if self.pipeline.kind(assets[-1]) == SIGNALS:
            # Sundays have a partition (a library fact) but no session.
            keys = [key for key in keys if market.partitions.is_session(parse_key(key))]
        else:
            keys = market.partitions.trading_weeks(keys)
        idle = self._idle(assets)
        looked_at = [asset for asset in assets if asset not in idle]
        stale = [key for key in keys if not all(checker.is_current(asset, key).is_current for asset in looked_at)]
        label = f"{assets[0].split('/')[0]}: {', '.join(asset.split('/', 1)[1] for asset in assets)}"
        shown = first if first == last else f"{first} to {last}"
        if not stale:
            print(f"  {label:<70} {shown:<24} {'is current':>12}", flush=True)
            return
        print(f"  {label:<70} {shown:<24} ", end="", flush=True)
        ending, warnings = "", io.StringIO()
        try:
            # Warnings come after the line, not in the middle of it.
            with redirect_stderr(warnings):
                seconds = self.pipeline.materialise(assets, stale[0], stale[-1])
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
            ending = f"{len(stale):>4} in {seconds:4.1f} s"
        finally:
            print(ending, flush=True)
            print(warnings.getvalue(), end="", file=sys.stderr, flush=True)

    def _idle(self, assets: Sequence[str]) -> set[str]:
        """Those of some assets of which nothing is to be made: a champion's refit where the YAML's own is the champion's."""
        refits = {asset for asset in assets if asset.endswith(f"/{CHAMPION_MODEL}")}
        plans = {asset: self.pipeline.strategy(asset.split("/")[0]) for asset in refits}
        return {asset for asset, plan in plans.items() if champion_beside(plan, self.pipeline.store) is None}


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
