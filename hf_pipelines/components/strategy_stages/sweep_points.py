"""Points of a strategy's sweep: the strategy at each, its account, and the trial that it is in the ledger.

Lives here: what runs in workers, the record, and running them until a deadline. Does not live here: scores and ranks (`research.sweep`), the
asset (`sweep`).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.components.strategy_stages.accounts import middle_of, weigh_path
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, trade
from hf_pipelines.components.strategy_stages.recorded_trials import RecordedTrials
from hf_pipelines.components.strategy_stages.trial_records import settings_of, slot_of
from hf_pipelines.research.backtest import BacktestResult, build_trading_panel
from hf_pipelines.research.backtest.panel import TradingPanel
from hf_pipelines.research.backtest.reconcile import REFERENCE
from hf_pipelines.research.backtest.result import columns_of
from hf_pipelines.research.fan_out import InTime, Lost
from hf_pipelines.research.sweep import (
    COMPLETED,
    ENDED,
    FAILED,
    NOT_RUN,
    PointEntry,
    costs_at,
    point_key,
    score_accounts,
)
from hf_pipelines.research.sweep.entries import SCORES, entry_of_result, is_one_grid
from hf_pipelines.research.tuning.points import rule_at
from hf_pipelines.research.tuning.space import Point
from hf_pipelines.resources.trial_ledger import Slot
from hf_pipelines.resources.trial_ledger.trials import COMPLETED as TRIAL_COMPLETED
from hf_pipelines.resources.trial_ledger.trials import FAILED as TRIAL_FAILED
from hf_pipelines.resources.trial_ledger.trials import PRUNED, SWEEP

# Points that a worker takes at a time: those of one rule are weighed once, and their accounts kept side by side.
POINTS_A_TASK = 16


def plan_at(plan: StrategyPlan, point: Point) -> StrategyPlan:
    """The strategy as if it had been written with a point.

    Raises
    ------
    TypeError, ValueError
        If a value of the point is none that it takes.
    """
    of_rule = {name.removeprefix("rule."): value for name, value in point.items() if name.startswith("rule.")}
    of_costs = {name.removeprefix("costs."): value for name, value in point.items() if name.startswith("costs.")}
    rule = replace(plan.rule, params=rule_at(plan.rule.params, of_rule))
    backtest = replace(plan.backtest, costs=costs_at(plan.backtest.costs, of_costs))
    return replace(plan, rule=rule, backtest=backtest, tuning=None)


@dataclass(frozen=True)
class SweepEvaluation:
    """Accounts of some points: a pure function, sent to workers.

    Attributes
    ----------
    plan : StrategyPlan
        As its predictions were made.
    by_path : mapping of path to DataFrame
        Predictions that are decided on.
    members : DataFrame
        Who belongs to the universe on each session.
    bars : DataFrame
        With the columns that costs read.
    """

    plan: StrategyPlan
    by_path: Mapping[int | None, pl.DataFrame]
    members: pl.DataFrame
    bars: pl.DataFrame

    def __call__(self, points: Sequence[Point]) -> list[PointEntry]:
        found: dict[int, PointEntry] = {}
        plans: dict[int, StrategyPlan] = {}
        weighed: dict[str, dict[int | None, pl.DataFrame]] = {}
        for at, point in enumerate(points):
            try:
                plans[at] = own = plan_at(self.plan, point)
                key = _rule_key(point)
                if key not in weighed:
                    weighed[key] = {
                        path: weigh_path(own, given, self.members, self.bars) for path, given in self.by_path.items()
                    }
            except (TypeError, ValueError) as e:
                plans.pop(at, None)
                found[at] = PointEntry(FAILED, reason=str(e))
        if self.plan.backtest.engine == REFERENCE:
            found |= self._side_by_side(points, plans, weighed)
        else:
            found |= {at: self._alone(own, weighed[_rule_key(points[at])]) for at, own in plans.items()}
        return [found[at] for at in range(len(points))]

    def _side_by_side(
        self,
        points: Sequence[Point],
        plans: Mapping[int, StrategyPlan],
        weighed: Mapping[str, Mapping[int | None, pl.DataFrame]],
    ) -> dict[int, PointEntry]:
        """Points by the reference: one panel for each rule, accounts that can be kept together are."""
        panels: dict[tuple[str, int | None, tuple[str, ...]], TradingPanel] = {}
        first: dict[tuple[int | None, tuple[str, ...]], TradingPanel] = {}
        asked = []
        found: dict[int, PointEntry] = {}
        for at, own in plans.items():
            extra = columns_of(own.backtest.execution, own.backtest.costs)
            try:
                for path, weights in weighed[_rule_key(points[at])].items():
                    key = (_rule_key(points[at]), path, extra)
                    if key not in panels:
                        # Of a large universe prices of each rule's own panel would fill the memory.
                        panels[key] = _sharing(
                            build_trading_panel(weights, self.bars, extra=extra), first.get((path, extra))
                        )
                        first.setdefault((path, extra), panels[key])
                    asked.append((at, panels[key], own.backtest.costs))
            except ValueError as e:
                found[at] = PointEntry(FAILED, reason=str(e))
        if not asked:
            return found
        places, given, costs = zip(*asked, strict=True)
        entries = score_accounts(
            given, costs, self.plan.backtest.execution, periods_per_year=self.plan.market.bars_per_year
        )
        of_paths: dict[int, list[PointEntry]] = {}
        for at, entry in zip(places, entries, strict=True):
            of_paths.setdefault(at, []).append(entry)
        return {at: _middle(each) for at, each in of_paths.items()} | found

    def _alone(self, own: StrategyPlan, weights: Mapping[int | None, pl.DataFrame]) -> PointEntry:
        try:
            by_path: dict[int | None, BacktestResult] = {
                path: trade(own, each, self.bars) for path, each in weights.items()
            }
        except ValueError as e:
            return PointEntry(FAILED, reason=str(e))
        return entry_of_result(middle_of(by_path))


def _sharing(panel: TradingPanel, first: TradingPanel | None) -> TradingPanel:
    """A panel with the prices of another one, where it is of the same grid: the bars are the same."""
    if first is None or not is_one_grid(first, panel):
        return panel
    return replace(first, weights=panel.weights)


def _rule_key(point: Point) -> str:
    return point_key({name: value for name, value in point.items() if name.startswith("rule.")})


def _middle(entries: list[PointEntry]) -> PointEntry:
    """Of several paths the one of the middle return, as a backtest shows it; a failed one stands for all."""
    if (failed := next((each for each in entries if each.state != COMPLETED), None)) is not None:
        return failed
    return sorted(entries, key=lambda each: each.scores["total_return"])[(len(entries) - 1) // 2]


class RecordedPoints(RecordedTrials):
    """The trials of a week's points; the point that the strategy is, is its own. `plan` is as its predictions were made."""

    source = SWEEP

    def __post_init__(self) -> None:
        """Read once what is known."""
        super().__post_init__()
        # Points differ in numbers alone: what they are computed by is read once.
        self._own_code: str = settings_of(self.plan)["own_code"]

    def known(self, point: Point) -> PointEntry | None:
        """How a point has ended in a run that was killed."""
        kept = self.progress.restore(self._slot(point)[0].id)
        return None if kept is None else _entry_of(kept)

    def begin(self, point: Point) -> None:
        """Record its trial."""
        slot, settings = self._slot(point)
        self.begin_trial(point_key(point), slot, settings, differs=dict(point))

    def end(self, point: Point, entry: PointEntry) -> None:
        """Record how it ended, then keep it; one that the deadline has ended may run again."""
        if (opened := self.open.pop(point_key(point), None)) is not None:
            outcome = {COMPLETED: TRIAL_COMPLETED, ENDED: PRUNED}.get(entry.state, TRIAL_FAILED)
            returns = (entry.sessions, entry.returns) if len(entry.returns) > 1 else None
            opened.end(outcome, scores=entry.scores, returns=returns, error=entry.reason)
        if entry.state != ENDED:
            self.progress.keep(self._slot(point)[0].id, _bytes_of(entry))

    def _slot(self, point: Point) -> tuple[Slot, dict[str, Any]]:
        name = point_key(point)
        if name not in self.slots:
            try:
                settings = settings_of(plan_at(self.plan, point), own_code=self._own_code)
            except (TypeError, ValueError):
                # No configuration that has an account: it fails, and is told apart by its point.
                settings = {**settings_of(self.plan, own_code=self._own_code), "point": dict(point)}
            self.slots[name] = slot_of(self.plan, self.key, self.data, settings=settings), settings
        return self.slots[name]


def run_points(
    points: Sequence[Point],
    evaluate: Callable[[Sequence[Point]], list[PointEntry]],
    *,
    map_in_time: InTime,
    record: RecordedPoints,
    seconds_left: Callable[[], float] | None,
) -> list[PointEntry]:
    """Evaluate points, a few at a time, until a deadline.

    Returns
    -------
    list of PointEntry
        In the order of `points`; the same for any number of workers, but for what a deadline leaves out.
    """
    ended = {point_key(each): entry for each in points if (entry := record.known(each)) is not None}
    waiting = [each for each in points if point_key(each) not in ended]
    tasks = [waiting[at : at + POINTS_A_TASK] for at in range(0, len(waiting), POINTS_A_TASK)]
    begun: list[Point] = []

    def drawn() -> Iterator[list[Point]]:
        for task in tasks:
            for each in task:
                record.begin(each)
                begun.append(each)
            yield task

    def end(point: Point, entry: PointEntry) -> None:
        record.end(point, entry)
        ended[point_key(point)] = entry

    for place, made in map_in_time(evaluate, drawn(), seconds_left):
        entries = [PointEntry(FAILED, reason=made.reason)] * len(tasks[place]) if isinstance(made, Lost) else made
        for point, entry in zip(tasks[place], entries, strict=True):
            end(point, entry)
    for point in begun:
        if point_key(point) not in ended:
            end(point, PointEntry(ENDED, reason="it was under way at the deadline"))
    late = PointEntry(NOT_RUN, reason="the deadline came before it began")
    return [ended.get(point_key(each), late) for each in points]


def _bytes_of(entry: PointEntry) -> bytes:
    """A line of JSON, and below it the returns to the last bit."""
    told = {"state": entry.state, "reason": entry.reason, "scores": [entry.scores.get(name) for name in SCORES]}
    told |= {"sessions": [each.isoformat() for each in entry.sessions]}
    return json.dumps(told).encode() + b"\n" + np.asarray(entry.returns, np.float64).tobytes()


def _entry_of(kept: bytes) -> PointEntry:
    told, _, body = kept.partition(b"\n")
    found = json.loads(told)
    scores = {name: value for name, value in zip(SCORES, found["scores"], strict=True) if value is not None}
    return PointEntry(
        found["state"],
        reason=found["reason"],
        scores=scores,
        sessions=tuple(date.fromisoformat(each) for each in found["sessions"]),
        returns=tuple(np.frombuffer(body, np.float64).tolist()),
    )
