"""Notifier: how a notification reaches a person.

Lives here: what a notification says, the log (always) and the webhook (where HF_WEBHOOK_URL is set), links into the web
UI. Does not live here: posting (`webhook`), what is worth a notification, and what is still to be delivered (`components.operations`).

The address of the webhook holds a token: it is read where it is used, and appears in no log, error or configuration.
"""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, urlencode

import dagster as dg

from hf_pipelines.research.alerts.kinds import KINDS, STOPPABLE
from hf_pipelines.resources import settings
from hf_pipelines.resources.redaction import redacted
from hf_pipelines.resources.webhook import post_json

LOG_NAME = "notifications.jsonl"

EVENT_WORDS = {"opened": "OPENED", "healed": "HEALED", "dismissed": "DISMISSED", "noted": "NOTED"}
KIND_WORDS = {name: kind.words for name, kind in KINDS.items() if name not in STOPPABLE} | {"stopped": "stopped"}


@dataclass(frozen=True)
class Notification:
    """One message of an incident.

    Attributes
    ----------
    id : str
        Of the incident. A message may come twice after a crash: (`id`, `event`) identifies it.
    event : str
        "opened", "healed", or "dismissed" by a person; "noted" of what is no fault, such as a promotion.
    kind : str
        One of `KIND_WORDS`, such as "run", "check" or "late"; "stopped" for what should happen by itself and does not: `asset` names it.
    asset, partition : str
    severity : str
        "ERROR", "WARN" for checks that only warn, or "INFO" of what is noted.
    cause, remedy : str
        What happened, and what to do about it; "" for what has healed or was dismissed.
    url : str
        Where the web UI shows it.
    at : str
        When it was noticed, ISO 8601 in UTC.
    """

    id: str
    event: str
    kind: str
    asset: str
    partition: str
    severity: str
    cause: str
    remedy: str
    url: str
    at: str

    @property
    def text(self) -> str:
        """One line for a person."""
        what = f"{KIND_WORDS.get(self.kind, self.kind)}: {self.asset} {self.partition}".strip()
        cause = " ".join(self.cause.split())
        remedy = f" | do: {self.remedy}" if self.remedy else ""
        severity = " (warning)" if self.severity == "WARN" else ""
        return f"{EVENT_WORDS.get(self.event, self.event)} {what}{severity}: {cause}{remedy} | {self.url}"

    def payload(self) -> dict[str, str]:
        """What the webhook receives: the fields, and `text`, which chat services show."""
        return {name: redacted(value) for name, value in {**asdict(self), "text": self.text}.items()}


class Notifier(dg.ConfigurableResource[Any]):
    """One channel: the log, and the webhook where there is one."""

    def log(self, notification: Notification, log: Any) -> None:
        """Write to the log of the tick, and append one line to `notifications.jsonl` in the data folder."""
        (log.warning if notification.event == "opened" else log.info)(redacted(notification.text))
        try:
            path = settings.data_dir() / LOG_NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            # A pipe under that name is not waited for.
            opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
            with os.fdopen(opened, "a") as file:
                file.write(json.dumps(notification.payload()) + "\n")
        except OSError as e:
            # The log has it.
            log.warning(f"{LOG_NAME} was not written: {e.strerror}")

    def has_webhook(self) -> bool:
        return settings.webhook_url() is not None

    def post(self, notification: Notification) -> None:
        """Post to the webhook, with a bounded number of attempts in a bounded time.

        Raises
        ------
        NotDeliveredError
            If none was accepted; the webhook's address is not in the message.
        """
        post_json(
            settings.webhook_url() or "",
            json.dumps(notification.payload()).encode(),
            key=f"{notification.id}-{notification.event}",
            variable="HF_WEBHOOK_URL",
            what=f"{notification.event} {notification.id}",
        )


def run_link(run_id: str) -> str:
    """Page of a run."""
    return f"{settings.ui_url()}/runs/{run_id}"


def asset_link(asset: str) -> str:
    """Page of an asset."""
    return f"{settings.ui_url()}/assets/{quote(asset)}"


def check_link(asset: str, check: str) -> str:
    """Page of a check of an asset."""
    query = urlencode({"view": "checks", "checkDetail": check})
    return f"{asset_link(asset)}?{query}"
