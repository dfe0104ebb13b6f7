"""Triggers: when an alarm asks for an extra refit.

Lives here: one decision over what stands and what was asked for before. Not here: the alarms (`standing`), the request
(`components.automation`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hf_pipelines.research.drift.standing import Standing


@dataclass(frozen=True)
class Triggers:
    """Which alarms ask for a refit, and how often at most.

    Attributes
    ----------
    kinds : tuple of str
        Of `drift`, `decay`, `accuracy` and `age`, in the order in which they are asked for; none: no alarm asks.
    cooldown_days : int
        Days after a refit that was asked for in which none is.
    most_a_quarter : int
        Refits that are asked for in a quarter of a calendar year (UTC).
    """

    kinds: tuple[str, ...] = ()
    cooldown_days: int = 7
    most_a_quarter: int = 4


@dataclass(frozen=True)
class Asked:
    """What asks for a refit.

    Attributes
    ----------
    kind : str
    alarm : str
        The alarm, the same as long as it lasts.
    """

    kind: str
    alarm: str


def alarm_of(kind: str, standing: Standing) -> str:
    """Name of an alarm that stands: its kind and the session that raised it."""
    return f"{kind} {standing.raised_on}"


def next_refit(
    triggers: Triggers,
    standing: Mapping[str, Standing],
    *,
    answered: Collection[str],
    asked_at: Sequence[datetime],
    now: datetime,
) -> Asked | str | None:
    """The refit that is to be asked for now; in words why one must wait; None if nothing asks.

    Parameters
    ----------
    triggers : Triggers
    standing : mapping of kind to Standing
        As the newest session left it.
    answered : collection of str
        Alarms (`alarm_of`) for which a refit was asked for already: an alarm that lasts asks once.
    asked_at : sequence of datetime
        When refits were asked for by any alarm, UTC.
    now : datetime
        UTC.

    Returns
    -------
    Asked, str or None
    """
    waiting = [
        Asked(kind, alarm)
        for kind in triggers.kinds
        if kind in standing and standing[kind].is_raised
        for alarm in [alarm_of(kind, standing[kind])]
        if alarm not in answered
    ]
    if not waiting:
        return None
    first = waiting[0]
    if asked_at and now - max(asked_at) < timedelta(days=triggers.cooldown_days):
        until = max(asked_at) + timedelta(days=triggers.cooldown_days)
        return f"alarm {first.alarm} asks for a refit after {until:%Y-%m-%d %H:%M}: the last one was asked for at {max(asked_at):%Y-%m-%d %H:%M}"
    begin = datetime(now.year, 3 * ((now.month - 1) // 3) + 1, 1, tzinfo=now.tzinfo)
    of_quarter = sum(each >= begin for each in asked_at)
    if of_quarter >= triggers.most_a_quarter:
        return f"alarm {first.alarm} asks for no refit: {of_quarter} were asked for in this quarter, {triggers.most_a_quarter} are allowed"
    return first
