"""Alert settings: channels, routes and quiet hours, as the environment names them.

Lives here: reading and refusing them. Does not live here: their table (`settings`), sending (`alert_channels`), what they decide
(`research.alerts`).

The address of a channel holds its token: it appears in no log, error, state or output. A faulty one is named by its variable and position.
"""

import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from zoneinfo import ZoneInfo

from hf_pipelines.research.alerts.desk import Alert, Policy
from hf_pipelines.research.alerts.quiet_hours import parse_quiet_hours, parse_zone
from hf_pipelines.research.alerts.routes import Route, parse_routes, takes
from hf_pipelines.resources.variables import whole_number

URLS, ROUTES, QUIET, ZONE = "HF_ALERT_URLS", "HF_ALERT_ROUTES", "HF_ALERT_QUIET", "HF_ALERT_TIMEZONE"
GATHER, REMIND = "HF_ALERT_GATHER_SECONDS", "HF_ALERT_REMIND_HOURS"

# Each takes some seconds of a look if it does not answer.
MOST_CHANNELS = 20
NAME = r"[a-z][a-z0-9_-]{0,31}"
ADDRESS = r"[A-Za-z][A-Za-z0-9+.-]{1,31}://\S+"


@dataclass(frozen=True)
class AlertChannel:
    """Where alerts go.

    Attributes
    ----------
    name : str
        As routes call it.
    position : int
        In the variable, from 1 on.
    """

    name: str
    position: int
    url: str = field(repr=False)

    @property
    def words(self) -> str:
        """For errors."""
        return f"`{URLS}`, address {self.position} ({self.name})"


@dataclass(frozen=True)
class AlertSettings:
    """All that alerts need to know."""

    channels: tuple[AlertChannel, ...] = ()
    routes: tuple[Route, ...] = ()
    policy: Policy = field(default_factory=Policy)
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.channels]

    def takes(self, channel: str, alert: Alert) -> bool:
        """Whether an alert is routed to a channel."""
        return takes(self.routes, channel, severity=alert.severity, kind=alert.kind, owner=alert.owner)


def alert_settings() -> AlertSettings:
    """Alert settings of the environment.

    Raises
    ------
    ValueError
        If one cannot be used, without what it holds of an address.
    """
    channels = _channels(os.environ.get(URLS, ""))
    if channels and find_spec("apprise") is None:
        raise ValueError(
            f"`{URLS}` must be left out where apprise is not installed, was set; install the extra: "
            'pip install "hf_pipelines[alerts]".'
        )
    zone = parse_zone(os.environ.get(ZONE) or "UTC")
    quiet = os.environ.get(QUIET)
    return AlertSettings(
        channels,
        parse_routes(os.environ.get(ROUTES, ""), [each.name for each in channels]),
        Policy(
            gather=timedelta(seconds=whole_number(GATHER, 60, least=0, most=3600)),
            remind=timedelta(hours=whole_number(REMIND, 24, least=1, most=8784)),
            quiet=parse_quiet_hours(quiet, zone) if quiet else None,
        ),
        zone,
    )


def _channels(text: str) -> tuple[AlertChannel, ...]:
    found: list[AlertChannel] = []
    written = text.split()
    if len(written) > MOST_CHANNELS:
        raise ValueError(f"`{URLS}` must hold at most {MOST_CHANNELS} addresses, held {len(written)}.")
    for at, each in enumerate(written, 1):
        named = re.fullmatch(rf"(?:({NAME})=)?({ADDRESS})", each)
        if named is None:
            raise ValueError(
                f"`{URLS}`, address {at}, must be like slack://... or desk=slack://..., with a name of at most 32 small letters, digits, _ and -, "
                "was something else; it is not shown, since it may hold a token."
            )
        scheme = re.sub(r"[^a-z0-9]", "", named[2].partition("://")[0].lower())
        name = named[1] or f"{scheme}{at}"
        if name in [channel.name for channel in found]:
            raise ValueError(f"`{URLS}` must name each channel once, was {name} twice; give one of them another name.")
        found.append(AlertChannel(name, at, named[2]))
    return tuple(found)
