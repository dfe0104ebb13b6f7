"""Replay of the sample: real sessions of the sample arrive in the landing folder of a market, so that anyone can watch the sensors work.

Lives here: which sessions come next, how much history a market's strategies need before the first, and laying both
down. Does not live here: what reacts to it (`components.automation`), what a session file is (`resources.market_data`).

A file is put whole, by one put under its own name that leaves alone what is there: no reader sees half a session, and
feeding again never rewrites one.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import dagster as dg
import polars as pl

from hf_pipelines.commands.runs import require_market
from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.market_stages import build_stages as build_market_stages
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.strategy_stages import build_stages, retrained
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.market_data.sample import SampleSource
from hf_pipelines.resources.project import require_project
from hf_pipelines.resources.storage_errors import ObjectExistsError, StorageOutageError, StorageUnavailableError

# A quarter of daily arrivals is left to feed: long enough to watch several weekly models.
FED_WEEKS = 13


@dataclass(frozen=True)
class SampleReplay:
    """A market that is fed, and the weeks of history that its strategies need before a week they serve."""

    market: MarketPlan
    history_weeks: int

    @staticmethod
    def open(name: str) -> "SampleReplay":
        """Market of a folder below `defs/markets`, with the strategies that trade it.

        Raises
        ------
        ValueError
            If there is no such market, its source is not of type `files`, or the sample lacks its symbols.
        """
        require_market(name)
        project = require_project()
        project.use()
        tree = dg.ComponentTree.for_project(project.root)
        market = tree.load_component(f"markets/{name}", expected_type=Market).plan
        if market.bars_asset not in market.watched_folders:
            raise ValueError(
                f"`market` must have a source of type files to be fed, {name} has {market.source.spec.type}."
            )
        strategies = tree.get_all_components(of_type=Strategy)
        feed = SampleReplay(market, history_weeks(market, [each for each in strategies if each.market == name]))
        feed.sample  # noqa: B018 - raises for symbols that the sample does not have
        return feed

    @property
    def folder(self) -> FilesSource:
        """Where session files arrive."""
        return self.market.watched_folders[self.market.bars_asset]

    @cached_property
    def sample(self) -> SampleSource:
        try:
            return SampleSource(
                (*self.market.universe.members, self.market.universe.benchmark), self.market.partitions.hours
            )
        except ValueError as e:
            raise ValueError(f"`market` must trade symbols of the sample to be fed from it: {e}") from e

    @cached_property
    def fed_sessions(self) -> tuple[date, ...]:
        """Sessions of the market that the sample holds, ascending."""
        partitions = self.market.partitions
        sessions = partitions.sessions_between(partitions.start, partitions.end or partitions.sessions[-1])
        held = {day for file in self.sample.read(sessions) if file.frame is not None for day in file.frame["session"]}
        return tuple(sorted(held))

    def lay_history(self, until: str | None = None) -> str:
        """Lay down what is missing of the history up to the session `until`; returns what was done, in words.

        Raises
        ------
        ValueError
            If the market has not enough sessions before `until`, or none after it.
        StorageUnavailableError
            If the landing folder cannot be written.
        """
        last = _parse_until(until) if until else self._default_until()
        days = self.history(last)
        present = set(self.folder.sessions())
        laid = self._lay(day for day in days if day not in present)
        following = next((day for day in self.fed_sessions if day > days[0] and day not in {*present, *days}), None)
        return (
            f"{self.market.name}: history of {len(days)} sessions from {days[0]} to {days[-1]} in "
            f"{self.folder.objects.uri}, {laid} laid down, {len(days) - laid} there already; "
            + (f"the next session is {following}" if following else "no session is left to feed")
        )

    def lay_next(self, n_sessions: int) -> str:
        """Lay down the next sessions, those first whose files were removed; returns what was done, in words.

        Raises
        ------
        ValueError
            If there is no history yet, or no session is left.
        StorageUnavailableError
            If the landing folder cannot be written.
        """
        if n_sessions < 1:
            raise ValueError(f"`sessions` must be at least 1, was {n_sessions}.")
        name, uri = self.market.name, self.folder.objects.uri
        known = set(self.fed_sessions)
        present = [day for day in self.folder.sessions() if day in known]
        if not present:
            raise ValueError(f"`{uri}` must hold the history of {name}, was empty; lay it down: hfp feed {name} --init")
        left = [day for day in self.fed_sessions if day > present[0] and day not in present]
        if not left:
            raise ValueError(
                f"`sessions` must be left in the sample to be fed, none is: {uri} holds {name} up to its last session "
                f"{present[-1]}; to begin anew, empty the folder."
            )
        days = left[:n_sessions]
        self._lay(days)
        short = f" ({n_sessions} were asked for: the sample has no more)" if len(days) < n_sessions else ""
        fed = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
        return f"{name}: fed {len(days)} session(s), {fed}{short}; {len(left) - len(days)} left"

    def history(self, until: date) -> list[date]:
        """Sessions that must be there before the session after `until` can be served."""
        sessions = self.fed_sessions
        following = next((day for day in sessions if day > until), None)
        if following is None or until < sessions[0]:
            raise ValueError(
                f"`until` must leave sessions to feed, of which the last is {sessions[-1]}, and be at least "
                f"{self._first_until()}, was {until}."
            )
        first = parse_key(shift_week(week_key(following), -self.history_weeks))
        if first < self.market.partitions.first_week:
            raise ValueError(
                f"`until` must be at least {self._first_until()}: {self.market.name} begins {self.market.partitions.start} and its "
                f"strategies need {self.history_weeks} weeks of history, was {until}."
            )
        return [day for day in sessions if first <= day <= until]

    def _default_until(self) -> date:
        begin = parse_key(shift_week(week_key(self.fed_sessions[-1]), 1 - FED_WEEKS))
        return max(day for day in self.fed_sessions if day < begin)

    def _first_until(self) -> date:
        """Last session before the first week that has enough history."""
        week = shift_week(week_key(self.market.partitions.start), self.history_weeks)
        return max((day for day in self.fed_sessions if day < parse_key(week)), default=self.fed_sessions[0])

    def _lay(self, days: Iterable[date]) -> int:
        wanted = list(days)
        files = self.sample.read(wanted)
        frames = [file.frame for file in files if file.frame is not None]
        if not frames:
            return 0
        by_session = pl.concat(frames).sort("session", "symbol").partition_by("session", as_dict=True)
        return sum(self._put(f"{day}.parquet", by_session[(day,)]) for day in sorted(wanted))

    def _put(self, name: str, frame: pl.DataFrame) -> bool:
        payload = io.BytesIO()
        frame.write_parquet(payload)
        landing = self.folder.objects
        try:
            landing.put(name, payload.getvalue(), create_only=True)
        except ObjectExistsError:
            # Another process has put it at the same moment.
            return False
        except StorageOutageError:
            raise
        except StorageUnavailableError as e:
            raise StorageUnavailableError(
                f"`{landing.uri}` must be a folder or prefix that can be written, was not; make it one, or change "
                f"`uri` of market {self.market.name} or HF_LANDING_URI: {e}"
            ) from e
        return True


def _parse_until(until: str) -> date:
    try:
        return parse_key(until)
    except ValueError as e:
        raise ValueError(f"`until` must be a date YYYY-MM-DD, was {until[:40]!r}.") from e


def history_weeks(market: MarketPlan, strategies: Sequence[Strategy]) -> int:
    """Weeks of bars that must lie before a week, so that models of that week can be trained and give signals.

    The longest way down from what is retrained weekly and from the signals, window by window, to the bars; without
    strategies that of the features.
    """
    by_asset = {stage.asset: stage for stage in build_market_stages(market)}
    wanted = [*by_asset]
    for strategy in strategies:
        plan = strategy.plan(market)
        by_asset |= {stage.asset: stage for stage in build_stages(plan)}
        wanted += [plan.asset(stage) for stage in (*retrained(plan), "signals")]
    return max(_weeks_down(by_asset, asset) for asset in wanted)


def _weeks_down(by_asset: Mapping[str, Stage], asset: str) -> int:
    inputs = by_asset[asset].inputs
    return max((-each.first_week + _weeks_down(by_asset, each.asset) for each in inputs), default=0)
