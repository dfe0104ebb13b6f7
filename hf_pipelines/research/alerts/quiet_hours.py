"""Quiet hours: when a warning waits for the morning.

Lives here: reading them, and whether a moment is one of them. Does not live here: what waits (`desk`).
"""

import re
from dataclasses import dataclass
from datetime import datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@dataclass(frozen=True)
class QuietHours:
    """From a time of the day to another one, on the clock of the wall, over midnight if the second is the earlier one.

    Where clocks are set forward the quiet hours are as much shorter, where they are set back as much longer.
    """

    begin: time
    end: time
    zone: ZoneInfo

    def covers(self, at: datetime) -> bool:
        """Whether a moment (with a time zone) is quiet: from the begin on, until before the end."""
        local = at.astimezone(self.zone).time()
        if self.begin < self.end:
            return self.begin <= local < self.end
        return local >= self.begin or local < self.end

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M} {self.zone.key}"


def parse_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise ValueError(f"`HF_ALERT_TIMEZONE` must be a time zone such as Europe/Berlin, was {name[:40]!r}.") from e


def parse_quiet_hours(text: str, zone: ZoneInfo) -> QuietHours:
    """Quiet hours as they are written.

    Raises
    ------
    ValueError
        If they are none, or from a time to the same.

    Examples
    --------
    >>> str(parse_quiet_hours("22:00-07:00", ZoneInfo("UTC")))
    '22:00-07:00 UTC'
    """
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])", text, re.ASCII)
    if found is None or found.group(1, 2) == found.group(3, 4):
        raise ValueError(f"`HF_ALERT_QUIET` must be from one time to another, such as 22:00-07:00, was {text[:40]!r}.")
    first, second = (time(int(found[at]), int(found[at + 1])) for at in (1, 3))
    return QuietHours(first, second, zone)
