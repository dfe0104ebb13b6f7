"""Alerts: trying the channels, and how they have fared; the lines of `hfp alert test` and of `hfp status`.

Lives here: what is sent on request, and the words for a terminal. Does not live here: sending (`resources.alert_channels`), when the
daemon sends (`resources.alert_desk`).
"""

from collections.abc import Collection
from datetime import UTC, datetime
from time import perf_counter

from hf_pipelines.research.alerts.desk import NOTED, Alert, Due, Item
from hf_pipelines.research.alerts.kinds import CRITICAL, KINDS, SEVERITIES
from hf_pipelines.research.alerts.routes import takes, unmatched
from hf_pipelines.research.alerts.wording import message_of
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources import settings
from hf_pipelines.resources.alert_channels import UnusableChannelError, limit_of, send
from hf_pipelines.resources.alert_settings import QUIET, URLS, AlertChannel, AlertSettings, alert_settings
from hf_pipelines.resources.webhook import NotDeliveredError

HOW_TO_SET = f'set {URLS}, such as {URLS}="desk=slack://... oncall=tgram://...", and start the services again'


def try_channels(only: str | None, owners: Collection[str]) -> tuple[list[str], bool]:
    """Send a test message to each channel, or to one; whatever the hour and the routes.

    Parameters
    ----------
    owners : collection of str
        Names of strategies and markets: a route may name none of them.

    Returns
    -------
    lines : list of str
        What came of each, and what each channel takes.
    is_well : bool
        Whether every one took it.

    Raises
    ------
    ValueError
        If there is no channel, or none of that name.
    """
    found = alert_settings()
    if not found.channels:
        raise ValueError(f"`{URLS}` must name a channel to be tried, was empty; {HOW_TO_SET}.")
    if only is not None and only not in found.names:
        raise ValueError(f"`channel` must be one of {', '.join(found.names)}, was {only[:40]!r}.")
    results = [_try(each, found) for each in found.channels if only in (None, each.name)]
    lines = [line for line, _ in results]
    lines += ["", *route_lines(found, owners)]
    return lines, all(is_sent for _, is_sent in results)


def _try(channel: AlertChannel, found: AlertSettings) -> tuple[str, bool]:
    now = datetime.now(UTC)
    alert = Alert(
        kind="test",
        subject="test",
        owner="",
        severity=CRITICAL,
        what="alerts of hf_pipelines",
        cause=f"Sent by `hfp alert test` to the channel {channel.name} at {now.astimezone(found.zone):%Y-%m-%d %H:%M:%S} {found.zone.key}: "
        "nothing has failed. A name with <markup> & such must look like this: <b>.",
        remedy="nothing, if you can read this",
        url=settings.ui_url(),
        noted_at=now,
        moment="test",
    )
    began = perf_counter()
    try:
        send(channel, message_of(Due((Item(NOTED, alert),)), zone=found.zone, limit=limit_of(channel)))
    except (NotDeliveredError, UnusableChannelError) as e:
        return f"{channel.name}: NOT sent: {e}", False
    return f"{channel.name}: sent in {perf_counter() - began:.1f} s; see that it has arrived", True


def route_lines(found: AlertSettings, owners: Collection[str]) -> list[str]:
    """What each channel takes, what goes nowhere, and routes that take nothing."""
    lines = [f"{each.words}" for each in found.routes]
    lines += [f"{name}: everything" for name in found.names if name not in {each.channel for each in found.routes}]
    lines += [f"NOTE: {each}" for each in unmatched(found.routes, owners)]
    if untaken := _untaken(found, owners):
        lines.append(f"NOTE: no channel takes {some_of(untaken)}; such alerts are in the log, and in hfp incident list")
    quiet = found.policy.quiet
    lines.append(
        f"Quiet hours {quiet}: only what is critical is sent, the rest as a digest after them."
        if quiet
        else f"No quiet hours ({QUIET})."
    )
    return lines


def _untaken(found: AlertSettings, owners: Collection[str]) -> list[str]:
    """Kinds of alerts, a severity each, that no channel takes for any strategy or market."""
    return [
        f"{severity} {kind}"
        for kind in KINDS
        for severity in SEVERITIES[1:]
        if not any(
            takes(found.routes, name, severity=severity, kind=kind, owner=owner)
            for name in found.names
            for owner in (*owners, "")
        )
    ]
