"""Routes: which channels an alert goes to, by severity, strategy and kind.

Lives here: reading and applying them. Does not live here: where they are written (`resources.alert_settings`).

`oncall: severity=critical; desk: strategy=momentum_* kind=drift,decay` are two routes. A channel that no route names takes everything;
one that is named takes what any of its routes takes.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hf_pipelines.research.alerts.kinds import KINDS, SEVERITIES

PATTERN = r"[A-Za-z0-9_*?-]{1,80}"
MOST_ROUTES = 100


@dataclass(frozen=True)
class Route:
    """What one channel takes.

    Attributes
    ----------
    channel : str
    severities, kinds : tuple of str
        Those that it takes; any, if empty.
    strategies : tuple of str
        Patterns of names of strategies and markets, with `*` and `?`; any, if empty. What belongs to none of them (daemon, disk) is then
        not taken.
    """

    channel: str
    severities: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def takes(self, *, severity: str, kind: str, owner: str) -> bool:
        """Whether an alert of a strategy or market ("" of none) is taken."""
        return (
            (not self.severities or severity in self.severities)
            and (not self.kinds or kind in self.kinds)
            and (not self.strategies or any(owner and fnmatchcase(owner, each) for each in self.strategies))
        )

    @property
    def words(self) -> str:
        """As it may be written."""
        named = (("severity", self.severities), ("strategy", self.strategies), ("kind", self.kinds))
        conditions = " ".join(f"{name}={','.join(values)}" for name, values in named if values)
        return f"{self.channel}: {conditions or 'everything'}"


def takes(routes: Sequence[Route], channel: str, *, severity: str, kind: str, owner: str) -> bool:
    """Whether a channel takes an alert."""
    own = [each for each in routes if each.channel == channel]
    return not own or any(each.takes(severity=severity, kind=kind, owner=owner) for each in own)


def unmatched(routes: Sequence[Route], owners: Collection[str]) -> list[str]:
    """Patterns of strategies that no strategy and no market has the name for, a line each: such a route takes nothing.

    Parameters
    ----------
    owners : collection of str
        Names of all strategies and markets.
    """
    return [
        f"route `{each.words}`: no strategy or market is named {pattern}"
        for each in routes
        for pattern in each.strategies
        if not any(fnmatchcase(owner, pattern) for owner in owners)
    ]


def parse_routes(text: str, channels: Sequence[str]) -> tuple[Route, ...]:
    """Routes as they are written.

    Raises
    ------
    ValueError
        A line for each that names no channel, field or value that there is.

    Examples
    --------
    >>> parse_routes("desk: kind=drift,decay severity=warning", ["desk"])[0].words
    'desk: severity=warning kind=drift,decay'
    """
    found, faults = list[Route](), list[str]()
    written = [each.strip() for each in text.split(";") if each.strip()]
    if len(written) > MOST_ROUTES:
        raise ValueError(f"`HF_ALERT_ROUTES` must hold at most {MOST_ROUTES} routes, held {len(written)}.")
    for at, each in enumerate(written, 1):
        try:
            found.append(_parse(each, channels))
        except ValueError as e:
            faults.append(f"`HF_ALERT_ROUTES`, route {at}, {e}")
    if faults:
        raise ValueError("\n".join(faults))
    return tuple(found)


def _parse(text: str, channels: Sequence[str]) -> Route:
    # It loads polars, and every command reads settings.
    from hf_pipelines.research.wording import excerpt

    channel, colon, rest = (each.strip() for each in text.partition(":"))
    if not colon:
        raise ValueError(
            f"must be like `desk: severity=critical strategy=momentum_* kind=drift,decay`, was {excerpt(text)}."
        )
    if channel not in channels:
        known = ", ".join(channels) or "none, since HF_ALERT_URLS names no channel"
        raise ValueError(f"must name a channel of HF_ALERT_URLS, one of {known}, was {excerpt(channel)}.")
    given: dict[str, tuple[str, ...]] = {}
    for condition in rest.split():
        name, equals, values = condition.partition("=")
        if not equals or name not in ("severity", "strategy", "kind") or name in given:
            raise ValueError(f"must give severity, strategy and kind at most once each, had {excerpt(condition)}.")
        given[name] = tuple(dict.fromkeys(values.split(",")))
    for name, known_values in (("severity", SEVERITIES), ("kind", tuple(KINDS))):
        if unknown := [value for value in given.get(name, ()) if value not in known_values]:
            raise ValueError(f"`{name}` must be among {', '.join(known_values)}, was {excerpt(unknown[0])}.")
    if bad := [value for value in given.get("strategy", ()) if not re.fullmatch(PATTERN, value)]:
        raise ValueError(
            f"`strategy` must be a name of letters, digits, _ and -, with * and ? for others, was {excerpt(bad[0])}."
        )
    return Route(channel, given.get("severity", ()), given.get("strategy", ()), given.get("kind", ()))
