"""Lifecycle: champion, previous, versions and stages of a strategy, as its history of decisions has them.

Lives here: which event may follow which, and what follows from all of them. Does not live here: where events are stored
(`resources.promotions`), what a gate judges.

What serves is a stack. A promotion lays a release on it; a rollback takes the uppermost away, so that two of them go two releases back;
a withdrawal takes every release of the champion's configuration away and leaves nothing that serves, until a promotion or a rollback.

A version names a configuration by its first two numbers, and a refit of it by the third: no two releases have the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, NamedTuple

from hf_pipelines.research.promotion.rollout import SHARES

STAGED, PROMOTED, OVERRIDDEN, REFUSED = "staged", "promoted", "overridden", "refused"
ROLLED_BACK, WITHDRAWN = "rolled_back", "withdrawn"
ROLLOUT_STARTED, ROLLOUT_ADVANCED, ROLLOUT_STOPPED = "rollout_started", "rollout_advanced", "rollout_stopped"
# What is judged, what serves, and how much of the capital follows a challenger.
OF_A_CONFIGURATION, OF_THE_CHAMPION = (STAGED, PROMOTED, OVERRIDDEN, REFUSED), (ROLLED_BACK, WITHDRAWN)
OF_A_ROLLOUT = (ROLLOUT_STARTED, ROLLOUT_ADVANCED, ROLLOUT_STOPPED)
KINDS = (*OF_A_CONFIGURATION, *OF_THE_CHAMPION, *OF_A_ROLLOUT)

DEVELOPMENT, STAGING, PRODUCTION, DEPRECATED, ARCHIVED = STAGES = (
    "development", "staging", "production", "deprecated", "archived",
)  # fmt: skip

# The stage of a configuration after an event of it; what is not named here is refused. A refit of the champion that is refused leaves
# the champion where it is. What was withdrawn comes back through its gates alone, and by no override.
TRANSITIONS: dict[tuple[str, str], str] = {
    (DEVELOPMENT, REFUSED): DEVELOPMENT,
    (DEVELOPMENT, STAGED): STAGING,
    (DEVELOPMENT, PROMOTED): PRODUCTION,
    (DEVELOPMENT, OVERRIDDEN): PRODUCTION,
    # Or where it stood before it was staged.
    (STAGING, REFUSED): DEVELOPMENT,
    (STAGING, STAGED): STAGING,
    (STAGING, PROMOTED): PRODUCTION,
    (STAGING, OVERRIDDEN): PRODUCTION,
    (STAGING, ROLLOUT_STARTED): STAGING,
    (STAGING, ROLLOUT_ADVANCED): STAGING,
    # As where it is refused.
    (STAGING, ROLLOUT_STOPPED): DEVELOPMENT,
    (PRODUCTION, REFUSED): PRODUCTION,
    (PRODUCTION, PROMOTED): PRODUCTION,
    (PRODUCTION, OVERRIDDEN): PRODUCTION,
    (PRODUCTION, ROLLED_BACK): DEPRECATED,
    (PRODUCTION, WITHDRAWN): ARCHIVED,
    (DEPRECATED, REFUSED): DEPRECATED,
    (DEPRECATED, STAGED): STAGING,
    (DEPRECATED, PROMOTED): PRODUCTION,
    (DEPRECATED, OVERRIDDEN): PRODUCTION,
    (ARCHIVED, REFUSED): ARCHIVED,
    (ARCHIVED, STAGED): STAGING,
    (ARCHIVED, PROMOTED): PRODUCTION,
}

# A change of these makes another major version; of anything else a minor one.
MAJOR_SETTINGS = ("features", "target")


class IllegalEventError(ValueError):
    """An event that cannot follow those before it."""


class Version(NamedTuple):
    """Semantic version of a release."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class Event:
    """One decision.

    Attributes
    ----------
    kind : str
        One of KINDS.
    week : str
        Sunday of the week that was judged; "" of a rollback and a withdrawal.
    configuration : str
        Hash of what was judged; "" as `week`.
    settings : mapping
        What the hash is of; empty as `week`.
    at : str
        When, ISO 8601, UTC: shown, and decides nothing.
    rollout : mapping
        Of a rollout its `configuration` and `share`; else empty.
    """

    kind: str
    week: str = ""
    configuration: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    at: str = ""
    rollout: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> Event:
        """What the lifecycle takes of a record of a history."""
        return Event(
            record["kind"], record["week"], record["configuration"], record["settings"], record["at"],
            record.get("rollout", {}),
        )  # fmt: skip


@dataclass(frozen=True)
class Release:
    """A configuration, by the model of a week, that was made the champion.

    Attributes
    ----------
    number : int
        Of its event in the history, from 1 on.
    version : Version
    parent : Version or None
        Of the release that it was compared with: an earlier one of the same configuration, else the champion before it, or the last
        release where nothing served.
    changed : tuple of str
        Settings that differ from the parent's, by name; empty for a refit and for the first release.
    is_override : bool
        Whether gates failed, and a person took it all the same.
    """

    number: int
    configuration: str
    week: str
    settings: Mapping[str, Any]
    at: str
    version: Version
    parent: Version | None
    changed: tuple[str, ...]
    is_override: bool


@dataclass(frozen=True)
class OngoingRollout:
    """A challenger beside the champion.

    Attributes
    ----------
    number : int
        Of the event that started it.
    configuration : str
    share : float
        Of the capital that follows it; 0 in shadow.
    n_steps : int
        So far.
    """

    number: int
    configuration: str
    share: float = 0.0
    n_steps: int = 0


@dataclass(frozen=True)
class Lifecycle:
    """What follows from a history.

    Attributes
    ----------
    number : int
        Events so far.
    releases : tuple of Release
        All that were ever made champion, in order.
    served : tuple of Release
        The stack: the champion is the last of it, unless it was withdrawn.
    is_withdrawn : bool
        Whether the champion was withdrawn, and nothing has taken its place.
    since : str
        When the champion began to serve, or was withdrawn; "" before the first promotion.
    stages : mapping of configuration to stage
        Of every configuration that was ever judged.
    staged_from : mapping of configuration to stage
        Where a configuration stood before it was staged: there it is again once it is refused.
    rollout : OngoingRollout or None
        It ends with the champion that it was started beside.
    """

    number: int = 0
    releases: tuple[Release, ...] = ()
    served: tuple[Release, ...] = ()
    is_withdrawn: bool = False
    since: str = ""
    stages: Mapping[str, str] = field(default_factory=dict)
    staged_from: Mapping[str, str] = field(default_factory=dict)
    rollout: OngoingRollout | None = None

    @property
    def champion(self) -> Release | None:
        """What serves; None before the first promotion and after a withdrawal."""
        return None if self.is_withdrawn or not self.served else self.served[-1]

    @property
    def previous(self) -> Release | None:
        """What a rollback makes the champion; None where there is nothing to go back to."""
        below = self.served if self.is_withdrawn else self.served[:-1]
        return below[-1] if below else None

    @property
    def headline(self) -> str:
        """What serves, in words; an override shows for as long as it does."""
        champion = self.champion
        if champion is None:
            return f"no champion: withdrawn on {self.since[:10]}" if self.is_withdrawn else "no champion"
        override = ", by override" if champion.is_override else ""
        beside = (
            ""
            if self.rollout is None
            else f"; {self.rollout.share:.0%} of the capital follows configuration {self.rollout.configuration[:12]}"
        )
        return f"champion {champion.version} of week {champion.week} since {self.since[:10]}{override}{beside}"


def lifecycle_of(events: Iterable[Event]) -> Lifecycle:
    """What follows from all events of a strategy, in their order.

    Raises
    ------
    IllegalEventError
        If one cannot follow those before it; the message names its number.
    """
    state = Lifecycle()
    for event in events:
        try:
            state = follow(state, event)
        except IllegalEventError as e:
            raise IllegalEventError(f"event {state.number + 1} of the history: {e}") from e
    return state


def follow(state: Lifecycle, event: Event) -> Lifecycle:
    """What follows from one more event.

    Raises
    ------
    IllegalEventError
        If the event cannot follow: a stage that does not allow it, the champion promoted again by the same week, nothing to go back to, a
        share that is not the next one.
    """
    if event.kind not in KINDS:
        raise IllegalEventError(f"`kind` must be one of {', '.join(KINDS)}, was {event.kind[:40]!r}.")
    if event.kind == ROLLED_BACK:
        return _rolled_back(state, event)
    if event.kind == WITHDRAWN:
        return _withdrawn(state, event)
    if event.kind in OF_A_ROLLOUT:
        return _rolled_out(state, event)
    if not (event.configuration and event.week):
        raise IllegalEventError(f"`configuration` and `week` of an event {event.kind} must be given, one was empty.")
    before = state.stages.get(event.configuration, DEVELOPMENT)
    stage = _stage_after(state, event.configuration, event.kind)
    if (before, event.kind) == (STAGING, REFUSED):
        stage = state.staged_from[event.configuration]
    stages = {**state.stages, event.configuration: stage}
    if event.kind == REFUSED:
        rollout = None if state.rollout and state.rollout.configuration == event.configuration else state.rollout
        return replace(state, number=state.number + 1, stages=_settled(stages), rollout=rollout)
    if event.kind == STAGED:
        came_from = state.staged_from if before == STAGING else {**state.staged_from, event.configuration: before}
        return replace(state, number=state.number + 1, stages=_settled(stages), staged_from=came_from)
    return _promoted(state, event, stages)


def states_of(records: Iterable[Mapping[str, Any]]) -> list[Lifecycle]:
    """What followed before the first record of a history, and after each of them."""
    return [*accumulate(map(Event.of_record, records), follow, initial=Lifecycle())]


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of settings that differ, or that only one of the two has, sorted."""
    absent = object()
    names = {*before, *after}
    return tuple(sorted(name for name in names if before.get(name, absent) != after.get(name, absent)))


def _stage_after(state: Lifecycle, configuration: str, kind: str) -> str:
    stage = state.stages.get(configuration, DEVELOPMENT)
    if (after := TRANSITIONS.get((stage, kind))) is None:
        allowed = [of for of, each in TRANSITIONS if each == kind]
        remedy = "; what was withdrawn comes back only by passing its gates" if stage == ARCHIVED else ""
        raise IllegalEventError(
            f"`stage` of configuration {configuration[:12]} must be one of {', '.join(allowed)} to be {kind}, was {stage}{remedy}."
        )
    return after


def _promoted(state: Lifecycle, event: Event, stages: dict[str, str]) -> Lifecycle:
    champion = state.champion
    if champion and (champion.configuration, champion.week) == (event.configuration, event.week):
        raise IllegalEventError(
            f"`week` must be another than that of the champion {champion.version} of the same configuration, was {event.week}; it is the "
            "champion already."
        )
    if event.rollout and (
        state.rollout is None
        or (state.rollout.configuration, state.rollout.n_steps) != (event.configuration, len(SHARES) - 1)
    ):
        raise IllegalEventError(
            f"`rollout` of configuration {event.configuration[:12]} must stand at {SHARES[-2]:.0%} to be completed, did not."
        )
    if champion and champion.configuration != event.configuration:
        stages[champion.configuration] = DEPRECATED
    number = state.number + 1
    version, parent, changed = _version_of(state, event)
    release = Release(
        number, event.configuration, event.week, event.settings, event.at, version, parent, changed,
        is_override=event.kind == OVERRIDDEN,
    )  # fmt: skip
    return replace(
        state,
        number=number,
        releases=(*state.releases, release),
        served=(*state.served, release),
        is_withdrawn=False,
        since=event.at,
        stages=_settled(stages),
        rollout=None,
    )


def _rolled_back(state: Lifecycle, event: Event) -> Lifecycle:
    champion, previous = state.champion, state.previous
    if previous is None:
        raise IllegalEventError(
            f"`previous` must be a release to go back to, was none: {len(state.served)} of {len(state.releases)} releases are left; "
            "withdraw the champion if it must not serve, or promote another."
        )
    stages = dict(state.stages)
    if champion:
        stages[champion.configuration] = _stage_after(state, champion.configuration, ROLLED_BACK)
    stages[previous.configuration] = PRODUCTION
    served = state.served if state.is_withdrawn else state.served[:-1]
    return replace(
        state,
        number=state.number + 1,
        served=served,
        is_withdrawn=False,
        since=event.at,
        stages=_settled(stages),
        rollout=None,
    )


def _withdrawn(state: Lifecycle, event: Event) -> Lifecycle:
    champion = state.champion
    if champion is None:
        was = "withdrawn already" if state.is_withdrawn else "not there"
        raise IllegalEventError(f"`champion` must serve to be withdrawn, was {was}.")
    stages = {
        **state.stages,
        champion.configuration: _stage_after(state, champion.configuration, WITHDRAWN),
    }
    # An earlier refit of the same configuration is no way back.
    served = tuple(each for each in state.served if each.configuration != champion.configuration)
    return replace(
        state,
        number=state.number + 1,
        served=served,
        is_withdrawn=True,
        since=event.at,
        stages=_settled(stages),
        rollout=None,
    )


def _rolled_out(state: Lifecycle, event: Event) -> Lifecycle:
    if not event.rollout:
        raise IllegalEventError(f"`rollout` of an event {event.kind} must be given, was empty.")
    configuration, share, ongoing = str(event.rollout["configuration"]), float(event.rollout["share"]), state.rollout
    stage = _stage_after(state, configuration, event.kind)
    number = state.number + 1
    if event.kind == ROLLOUT_STARTED:
        if state.champion is None:
            raise IllegalEventError(
                "`champion` must serve for a challenger to be rolled out beside it, did not; promote it."
            )
        if ongoing is not None:
            raise IllegalEventError(
                f"`rollout` must have ended before another one is started, that of configuration {ongoing.configuration[:12]} has not; stop it."
            )
        allowed: tuple[float, ...] = (0.0,)
        rollout: OngoingRollout | None = OngoingRollout(number, configuration)
    else:
        if ongoing is None or ongoing.configuration != configuration:
            was = "none" if ongoing is None else f"that of configuration {ongoing.configuration[:12]}"
            raise IllegalEventError(
                f"`rollout` of configuration {configuration[:12]} must go on to be {event.kind}, was {was}."
            )
        # All of the capital is a promotion.
        allowed = SHARES[ongoing.n_steps : len(SHARES) - 1][:1] if event.kind == ROLLOUT_ADVANCED else (0.0,)
        rollout = None if event.kind == ROLLOUT_STOPPED else replace(ongoing, share=share, n_steps=ongoing.n_steps + 1)
    if share not in allowed:
        asked = ", ".join(f"{each:.0%}" for each in allowed) or "a promotion"
        raise IllegalEventError(f"`share` of what is {event.kind} must be {asked}, was {share:.0%}.")
    if event.kind == ROLLOUT_STOPPED:
        stage = state.staged_from[configuration]
    return replace(state, number=number, stages=_settled({**state.stages, configuration: stage}), rollout=rollout)


def _settled(stages: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(stages.items()))


def _version_of(state: Lifecycle, event: Event) -> tuple[Version, Version | None, tuple[str, ...]]:
    """Version of a new release, its parent, and what differs from it."""
    known = [each.version for each in state.releases]
    refits = [each for each in state.releases if each.configuration == event.configuration]
    if refits:
        major, minor, _ = of = refits[-1].version
        last = max(each.patch for each in known if each[:2] == (major, minor))
        return Version(major, minor, last + 1), of, ()
    if not known:
        return Version(1, 0, 0), None, ()
    parent = state.champion or state.releases[-1]
    changed = changed_settings(parent.settings, event.settings)
    if any(name in MAJOR_SETTINGS for name in changed):
        return Version(max(each.major for each in known) + 1, 0, 0), parent.version, changed
    major = parent.version.major
    minor = max(each.minor for each in known if each.major == major)
    return Version(major, minor + 1, 0), parent.version, changed
