"""Alert channels: one message to one service, by apprise.

Lives here: what apprise makes of an address, sending in a bounded time, and what it says of a failure. Does not live here: which addresses
there are (`alert_settings`), what is sent (`research.alerts`), when it is tried again (`alert_desk`).

Apprise is of an extra, and is imported where it is used. Text is sent as plain text: apprise then escapes what a service would read as
markup. A redirect is not followed: it would send the message, and often the token, to another server. Nothing is kept on disk.
"""

import logging
from functools import lru_cache
from typing import Any

from hf_pipelines.research.alerts.wording import MOST_CHARACTERS, Message
from hf_pipelines.resources.alert_settings import AlertChannel
from hf_pipelines.resources.redaction import redacted
from hf_pipelines.resources.webhook import NotDeliveredError

# A service that is well answers within a second; one that is not must not hold up who sends.
SEND_DEADLINE_S = 10.0
MOST_FAULT = 200


class UnusableChannelError(ValueError):
    """An address that apprise makes nothing of; the error's text does not hold it."""


def require_usable(channel: AlertChannel) -> None:
    """Refuse an address that apprise makes nothing of.

    Raises
    ------
    UnusableChannelError
    """
    _service(channel)


def limit_of(channel: AlertChannel) -> int:
    """Characters that one message to a channel may have."""
    return min(int(_service(channel).body_maxlen), MOST_CHARACTERS)


def send(channel: AlertChannel, message: Message) -> None:
    """Send a message.

    Raises
    ------
    UnusableChannelError
        If the address is none.
    NotDeliveredError
        If the service did not take it for all of its targets; the address is not in the message.
    """
    import apprise

    service = _service(channel)
    app = apprise.Apprise(asset=service.asset)
    app.add(service)
    result = app.notify(
        body=message.body,
        title=message.title,
        body_format=apprise.NotifyFormat.TEXT.value,
        notify_type=(apprise.NotifyType.FAILURE if message.is_critical else apprise.NotifyType.INFO).value,
        timeout=SEND_DEADLINE_S,
    )
    # PARTIAL: one of several targets has it, and will have it again.
    if result.status is not apprise.AppriseResultStatus.SUCCESS:
        raise NotDeliveredError(f"channel {channel.name} did not take it: {_fault(result)}")


def _fault(result: Any) -> str:
    """What apprise says of a failure."""
    if result.status.name == "TIMEOUT":
        return f"no answer within {SEND_DEADLINE_S:.0f} s"
    said = [str(each.message) for each in result.logs()]
    return redacted(" ".join(" ".join(said[:2]).split()))[:MOST_FAULT] or result.status.name.lower()


# A service remembers how many messages it may send in a while.
@lru_cache(maxsize=64)
def _service(channel: AlertChannel) -> Any:
    import apprise

    # What it logs comes back with the result, and is told by who sends.
    logging.getLogger("apprise").propagate = False
    asset = apprise.AppriseAsset(
        app_id="hf_pipelines",
        app_desc="hf_pipelines",
        app_url="",
        image_url_mask=None,
        image_url_logo=None,
        http_redirects=False,
        secure_logging=True,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    service = apprise.Apprise.instantiate(channel.url, asset=asset, suppress_exceptions=True)
    if service is None:
        raise UnusableChannelError(
            f"{channel.words}, must be one that apprise takes, was none (its service is unknown, or a part is missing); it is not shown, since "
            "it may hold a token."
        )
    return service
