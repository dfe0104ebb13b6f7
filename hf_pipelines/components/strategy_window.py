"""Strategy window: whether the folds and the labels of a strategy fit into its weeks of training, at the best.

Lives here: what is refused when the YAML is loaded, because no week can have it. Does not live here: what a week turns out to hold
(`strategy_stages`).
"""

import math
from collections.abc import Iterator, Sequence
from datetime import date

import polars as pl

from hf_pipelines.components.market_stages import MarketPlan
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.partitions import usual_sessions, week_start


def misfits(plan: StrategyPlan) -> Iterator[tuple[str, str]]:
    """What of a strategy no week of its market can hold: the field of its YAML, and the fault."""
    yield from _too_many_members(plan)
    sessions = _fullest_window(plan)
    if not sessions:
        # The market has fewer weeks than a window, or will have them: a run names the first week with a whole one.
        return
    weeks, name = plan.training.weeks, plan.market.name
    n_bars = len(sessions) * _bars_of_session(plan.market)
    needs = plan.target.needs
    if needs.horizon_bars >= n_bars:
        yield (
            "target",
            f"`target` must look less than the {n_bars} bars ahead that {weeks} `training.weeks` of market {name} hold at most, was "
            f"{needs.horizon_bars}; take a shorter horizon, or more weeks.",
        )
        return
    n_all = len(_known_sessions(plan.market)) * _bars_of_session(plan.market)
    if plan.market.partitions.end is not None and needs.history_bars + needs.horizon_bars >= n_all:
        yield (
            "target",
            f"`target` must look at fewer bars than the {n_all} that market {name} has in all, was {needs.history_bars} before a "
            f"row and {needs.horizon_bars} after it; take a shorter horizon or look back on fewer bars.",
        )
        return
    try:
        rows = _best_rows(sessions)
        for _ in plan.splitter.build().split(rows, groups=rows):
            pass
    except ValueError as e:
        yield (
            "cross_validation",
            f"{str(e).removesuffix('.')}. So many sessions are the most that {weeks} `training.weeks` of market {name} hold.",
        )


def _too_many_members(plan: StrategyPlan) -> Iterator[tuple[str, str]]:
    """Rules of a study that take more symbols than there are: their weights would all be 0, without a word."""
    if plan.tuning is None:
        return
    asked = [sum(plan.tuned(point).rule.needs.members.values()) for point in plan.tuning.design.space.corners()]
    n_members = len(plan.market.universe.members)
    if max(asked) > n_members:
        yield (
            "tuning",
            f"`tuning.space.rule` must take at most the {n_members} members of `universe` of market {plan.market.name}, was up to "
            f"{max(asked)}; lower its `high`.",
        )


def _known_sessions(market: MarketPlan) -> list[date]:
    partitions = market.partitions
    return [day for day in partitions.sessions if partitions.end is None or day <= partitions.end]


def _fullest_window(plan: StrategyPlan) -> list[date]:
    """Sessions of as many weeks as a model is trained on, where most of them lie; none if the market has not so many weeks."""
    days, n_weeks = _known_sessions(plan.market), plan.training.weeks
    if not days:
        return []
    first = week_start(days[0])
    week = [(day - first).days // 7 for day in days]
    starts = [at for at in range(len(days)) if at == 0 or week[at] != week[at - 1]]
    best: tuple[int, int] = (0, 0)
    stop = 0
    for start in starts:
        if week[start] + n_weeks > week[-1] + 1:
            break
        while stop < len(days) and week[stop] < week[start] + n_weeks:
            stop += 1
        best = max(best, (stop - start, start))
    n, start = best
    return days[start : start + n]


def _bars_of_session(market: MarketPlan) -> int:
    return math.ceil(market.usual_bars_per_year / usual_sessions(market.partitions.calendar_name)[0])


def _best_rows(sessions: Sequence[date]) -> pl.DataFrame:
    """Times of a matrix that lacks no session, with labels as short as there are: what fits into no such matrix fits into none."""
    at = pl.Series(sessions).cast(pl.Datetime("us", "UTC"))
    times = pl.DataFrame({"symbol": "", "session": sessions, "ts": at}).with_columns(label_start=at.dt.offset_by("1m"))
    return times.with_columns(label_end="label_start")
