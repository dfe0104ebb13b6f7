"""Lateness: what should be there by now and is not, for `hfp status`, the notifications and the checks.

Lives here: the one decision, a pure function of what is stored, the calendar and the time. Does not live here: reading
the store (`inventory`), the messages (`watch`), making what is late (`automation`).

An alarm that is always on is ignored. So nothing is due in a market without bars; one whose `end` has passed is judged by
its data (a replay has no today); only the newest sessions are judged; and weeks that never had a model are listed as
gaps, not as late.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from hf_pipelines.partitions import KEY_FORMAT, MarketPartitions, parse_key, shift_week, week_key

# A file that has just arrived is on its way: sensors, a queue and a run lie before its bars.
ARRIVAL_PATIENCE = timedelta(minutes=30)

# Four weeks: what is older is history, and for a person to look at.
JUDGED_SESSIONS = 20


@dataclass(frozen=True)
class MarketInventory:
    """What is stored of a market.

    Attributes
    ----------
    bars_asset : str
    first_session : date or None
        First session that has bars; None for a market that was never used.
    bars : mapping of session to datetime
        Sessions of the newest weeks that have bars, and when they first had (UTC).
    bars_weeks : tuple of str
        Every week that has bars.
    known_gaps : frozenset of str
        Weeks that owe no bars.
    landing : str or None
        Folder or prefix into which its files arrive, None if no files arrive.
    arrived : mapping of session to datetime
        Newest sessions whose files lie there, and since when (UTC).
    """

    name: str
    bars_asset: str
    partitions: MarketPartitions
    first_session: date | None = None
    bars: Mapping[date, datetime] = field(default_factory=dict)
    bars_weeks: tuple[str, ...] = ()
    known_gaps: frozenset[str] = frozenset()
    landing: str | None = None
    arrived: Mapping[date, datetime] = field(default_factory=dict)

    @property
    def last_session(self) -> date | None:
        return max(self.bars, default=None)

    @property
    def newest_week(self) -> str | None:
        """Week that has begun by the data, None without bars or after the market's end."""
        return None if self.last_session is None else self.partitions.newest_week(self.last_session)


@dataclass(frozen=True)
class StrategyInventory:
    """What is stored of a strategy.

    Attributes
    ----------
    models : mapping of week to datetime or None
        Every week that has a model, and when it was made (UTC) where that matters.
    issued : frozenset of date
        Sessions of the newest weeks whose signals were issued.
    last_issued : date or None
        Newest session of all whose signals were issued.
    max_model_age_weeks : int
        How many weeks old a model may be to serve a session.
    missing : tuple of (asset, first week, last week)
        What the model of the newest week is trained on and is not there, in stretches.
    rejected : mapping of week to asset
        Weeks without a model since a guard has rejected a stage of theirs, and which.
    holdout : str or None
        First week of its hold-out.
    """

    name: str
    market: MarketInventory
    models: Mapping[str, datetime | None] = field(default_factory=dict)
    issued: frozenset[date] = frozenset()
    last_issued: date | None = None
    max_model_age_weeks: int = 0
    missing: tuple[tuple[str, str, str], ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    holdout: str | None = None

    @property
    def model_asset(self) -> str:
        return f"{self.name}/fitted_model"

    @property
    def signals_asset(self) -> str:
        return f"{self.name}/signals"

    def serving(self, session: date) -> list[str]:
        """Weeks whose models may serve a session, the oldest first."""
        week = week_key(session)
        allowed = (shift_week(week, -age) for age in range(self.max_model_age_weeks, -1, -1))
        return [each for each in allowed if each in self.models]


@dataclass(frozen=True)
class Expectation:
    """A partition that must be there by a time.

    Attributes
    ----------
    asset, partition : str
        The partition is the session for bars and signals, the week for models.
    due : datetime
        From then on it is late (UTC).
    is_met : bool
    why : str
        In words, why it is expected and since when.
    remedy : str
        What to do if it does not arrive.
    """

    asset: str
    partition: str
    due: datetime
    is_met: bool
    why: str
    remedy: str


@dataclass(frozen=True)
class Late:
    """A partition that should be there and is not."""

    asset: str
    partition: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Gap:
    """A week that lacks a model, bars or features; a backfill fills it, no sensor does.

    Of models: after the first week that has one. Of bars and features: between weeks that have some.

    Attributes
    ----------
    landing : str
        Folder or prefix in which no file of the week lies, so that no command can make it; "" where it can.
    """

    asset: str
    partition: str
    remedy: str
    is_rejected: bool = False
    landing: str = ""


def find_late(
    markets: Iterable[MarketInventory],
    strategies: Iterable[StrategyInventory],
    *,
    now: datetime,
    late_after: timedelta,
) -> list[Late]:
    """Everything that is late, by asset and partition.

    Parameters
    ----------
    markets, strategies : what they have
    now : datetime
        Wall clock, UTC.
    late_after : timedelta
        Patience: how long after something could be there it is late.
    """
    found = expectations(markets, strategies, now=now, late_after=late_after)
    late = [each for each in found if not each.is_met and each.due <= now]
    return [Late(each.asset, each.partition, each.why, each.remedy) for each in late]


def expectations(
    markets: Iterable[MarketInventory],
    strategies: Iterable[StrategyInventory],
    *,
    now: datetime,
    late_after: timedelta,
) -> list[Expectation]:
    """Everything that is judged, met or not, by asset and partition."""
    found: list[Expectation] = []
    for market in markets:
        found += _of_bars(market, now, late_after)
    for strategy in strategies:
        found += [*_of_model(strategy, late_after), *_of_signals(strategy, now, late_after)]
    return sorted(found, key=lambda each: (each.asset, each.partition))


def find_gaps(strategy: StrategyInventory) -> list[Gap]:
    """Weeks with bars and without a model, after the first one with a model; the market's newest week is left out."""
    newest = strategy.market.newest_week
    first = min(strategy.models, default=None)
    if first is None:
        return []
    weeks = [each for each in strategy.market.bars_weeks if first < each and each != newest]
    return [
        Gap(
            strategy.rejected.get(week, strategy.model_asset),
            week,
            f"hfp retrain {strategy.name} --week {week}",
            is_rejected=week in strategy.rejected,
        )
        for week in weeks
        if week not in strategy.models
    ]


def find_holes(
    asset: str, weeks: Collection[str], partitions: MarketPartitions, known_gaps: Collection[str] = ()
) -> list[Gap]:
    """Weeks with sessions that are missing between the stored weeks of an asset."""
    between = partitions.weeks_between(parse_key(min(weeks)), parse_key(max(weeks))) if weeks else []
    return [
        Gap(asset, week, f"hfp materialise {asset} --from {week} --to {week}")
        for week in sorted({*between} - {*weeks} - {*known_gaps})
        if partitions.sessions_of_week(week)
    ]


def judged_sessions(market: MarketInventory, now: datetime) -> Sequence[date]:
    """The newest sessions: up to the last one that closed, or that has bars where the market's end has passed."""
    partitions = market.partitions
    if is_live(partitions, now):
        closed = [day for day in _window(partitions, _local_date(partitions, now)) if partitions.hours[day][1] <= now]
        return closed[-JUDGED_SESSIONS:]
    known = [day for day in (market.last_session, max(market.arrived, default=None)) if day is not None]
    return _window(partitions, max(known))[-JUDGED_SESSIONS:] if known else []


def is_live(partitions: MarketPartitions, now: datetime) -> bool:
    """Whether the market goes on: it has no end, or a future one."""
    return partitions.end is None or _local_date(partitions, now) <= partitions.end


def _window(partitions: MarketPartitions, last: date) -> Sequence[date]:
    """The judged sessions up to `last`, and a few before."""
    after = bisect_right(partitions.sessions, last)
    return partitions.sessions[max(after - JUDGED_SESSIONS - 2, 0) : after]


def _local_date(partitions: MarketPartitions, now: datetime) -> date:
    return now.astimezone(ZoneInfo(partitions.timezone)).date()


def _of_bars(market: MarketInventory, now: datetime, late_after: timedelta) -> Iterator[Expectation]:
    begin = min([*market.arrived, *([market.first_session] if market.first_session else [])], default=None)
    if begin is None:
        return
    hours = market.partitions.hours
    live = is_live(market.partitions, now)
    for session in judged_sessions(market, now):
        if session < begin or week_key(session) in market.known_gaps:
            continue
        if session in market.arrived and session not in market.bars:
            at = market.arrived[session]
            since = at + max(ARRIVAL_PATIENCE - late_after, timedelta(0))
            why = f"its file is there since {_shown(at)} and it has no bars"
        elif market.first_session is None:
            continue
        elif live:
            since, why = hours[session][1], f"it closed at {_shown(hours[session][1])} and has no bars"
        else:
            later = min((day for day in market.bars if day > session), default=None)
            if later is None:
                # The newest session that has bars: nothing is due after it in a replay.
                continue
            since, why = market.bars[later], f"{later} has bars since {_shown(market.bars[later])} and it has none"
        yield Expectation(
            asset=market.bars_asset,
            partition=session.isoformat(),
            due=since + late_after,
            is_met=session in market.bars,
            why=f"session {session}: {why}",
            remedy=_bars_remedy(market, session),
        )


def _bars_remedy(market: MarketInventory, session: date) -> str:
    if session in market.arrived:
        week = week_key(session)
        return (
            "it is taken by itself once what has stopped or failed is mended (hfp status names that); "
            f"at once: hfp materialise {market.bars_asset} --from {week} --to {week}"
        )
    if market.landing is not None:
        return f"put its file ({session}.parquet or .csv) into {market.landing}; it is taken from there by itself"
    last, week = market.last_session, week_key(session)
    # From where the bars end, so that no hole is left before the sessions that are judged.
    first = week if last is None or last > session else week_key(market.partitions.next_session(last))
    return f"hfp materialise {market.bars_asset} --from {first} --to {week}"


def _of_model(strategy: StrategyInventory, late_after: timedelta) -> Iterator[Expectation]:
    week = strategy.market.newest_week
    # What was never trained is not in use.
    if week is None or not (strategy.models or strategy.last_issued):
        return
    begin = strategy.market.partitions.week_begin(week)
    before = max((day for day in strategy.market.bars if day < parse_key(week)), default=None)
    complete = begin if before is None else max(begin, strategy.market.bars[before])
    yield Expectation(
        asset=strategy.model_asset,
        partition=week,
        due=complete + late_after,
        is_met=week in strategy.models,
        why=f"week {week} could be trained for since {_shown(complete)} and has no model",
        remedy=_retrain_remedy(strategy, week),
    )


def _retrain_remedy(strategy: StrategyInventory, week: str) -> str:
    """Commands in order: the inputs of a training first, without which it fails."""
    if week in strategy.rejected:
        asset = strategy.rejected[week]
        return (
            f"a guard has rejected {asset} {week} (kept under _rejected/{asset}): read in its failed run what was found and "
            f"mend that; then hfp retrain {strategy.name} --week {week}"
        )
    missing = strategy.missing if week == strategy.market.newest_week else ()
    made = [f"hfp materialise {asset} --from {first} --to {last}" for asset, first, last in missing]
    return "; then ".join([*made, f"hfp retrain {strategy.name} --week {week}"])


def _of_signals(strategy: StrategyInventory, now: datetime, late_after: timedelta) -> Iterator[Expectation]:
    market = strategy.market
    for session in judged_sessions(market, now):
        known = market.bars.get(session) or market.arrived.get(session)
        if known is None or not _owes_signals(strategy, session):
            continue
        closed = market.partitions.hours[session][1]
        serving = strategy.serving(session)
        made = strategy.models[serving[-1]] if serving else None
        since = max(each for each in (closed, known, made) if each is not None)
        if session not in market.bars:
            since += max(ARRIVAL_PATIENCE - late_after, timedelta(0))
            why = "its file is there, and neither bars nor signals"
            remedy = _bars_remedy(market, session)
        elif serving:
            why = "it has bars and a model, and no signals"
            remedy = f"hfp materialise {strategy.signals_asset} --from {session} --to {session}"
        else:
            why = f"it has bars, and no signals since week {week_key(session)} has no model"
            remedy = _retrain_remedy(strategy, week_key(session))
        yield Expectation(
            asset=strategy.signals_asset,
            partition=session.isoformat(),
            due=since + late_after,
            is_met=session in strategy.issued,
            why=f"session {session}: since {_shown(since)} {why}",
            remedy=remedy,
        )


def _owes_signals(strategy: StrategyInventory, session: date) -> bool:
    """Whether the strategy was in use on a session.

    It has a model to serve it; or it issued signals for an earlier session; or its models end before the newest week
    that has bars. A week that is trained for in hindsight, years back, does not put the weeks after it in use.
    """
    if strategy.serving(session) or any(day < session for day in strategy.issued):
        return True
    last = strategy.market.last_session
    is_newest = last is not None and week_key(session) == week_key(last)
    return is_newest and min(strategy.models, default="9") < week_key(session)


def _shown(at: datetime) -> str:
    return f"{at:{KEY_FORMAT} %H:%M} UTC"
