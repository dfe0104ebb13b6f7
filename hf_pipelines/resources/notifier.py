"""Notifier: how a notification reaches a person.

Lives here: what a notification says, the log (always) and the webhook (where HF_WEBHOOK_URL is set), links into the web
UI. Does not live here: what is worth a notification, and what is still to be delivered (`components.operations`).

The address of the webhook holds a token: it is read where it is used, and appears in no log, error or configuration.
"""

import json
import os
import socket
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from http.client import HTTPException
from threading import Thread
from time import sleep
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.redaction import redacted

LOG_NAME = "notifications.jsonl"

# A receiver that is well answers within a second; one that is not must not hold up the watch.
POST_TIMEOUT_S = 5.0
POST_DEADLINE_S = 8.0
POST_ATTEMPTS = 2
POST_BACKOFF_S = 0.5

EVENT_WORDS = {"opened": "OPENED", "healed": "HEALED", "dismissed": "DISMISSED"}
KIND_WORDS = {"run": "failed run", "check": "failed check", "late": "late", "stopped": "stopped"}


class NotDeliveredError(RuntimeError):
    """The webhook did not take a notification; the message never holds its address."""


@dataclass(frozen=True)
class Notification:
    """One message of an incident.

    Attributes
    ----------
    id : str
        Of the incident. A message may come twice after a crash: (`id`, `event`) identifies it.
    event : str
        "opened", "healed", or "dismissed" by a person.
    kind : str
        "run", "check" or "late"; "stopped" for what should happen by itself and does not: `asset` names it.
    asset, partition : str
    severity : str
        "ERROR", or "WARN" for checks that only warn.
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
        faults: list[str] = []
        poster = Thread(target=_post_patiently, args=(notification, faults), daemon=True)
        poster.start()
        # An address that does not resolve, or a receiver that answers byte by byte, has no timeout of its own.
        poster.join(POST_DEADLINE_S)
        fault = faults[-1] if faults else f"no answer within {POST_DEADLINE_S:.0f} s"
        if fault:
            raise NotDeliveredError(f"the webhook did not take {notification.event} {notification.id}: {fault}")


def run_link(run_id: str) -> str:
    """Page of a run."""
    return f"{settings.ui_url()}/runs/{run_id}"


def check_link(asset: str, check: str) -> str:
    """Page of a check of an asset."""
    query = urlencode({"view": "checks", "checkDetail": check})
    return f"{settings.ui_url()}/assets/{quote(asset)}?{query}"


def _post_patiently(notification: Notification, faults: list[str]) -> None:
    """Append what came of each attempt; "" once it was accepted."""
    for attempt in range(POST_ATTEMPTS):
        if attempt:
            sleep(POST_BACKOFF_S)
        faults.append(_post(notification))
        if not faults[-1]:
            return


def _post(notification: Notification) -> str:
    """Post once; "" if it was accepted, else why not, in words that do not name the address."""
    url = settings.webhook_url() or ""
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            return "`HF_WEBHOOK_URL` must be an address that begins with http:// or https://, was another"
        request = urllib.request.Request(
            url,
            json.dumps(notification.payload()).encode(),
            {
                "Content-Type": "application/json",
                "Idempotency-Key": f"{notification.id}-{notification.event}",
                "User-Agent": "hf_pipelines",
            },
        )
        with _OPENER.open(request, timeout=POST_TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as e:
        return f"HTTP {e.code}"
    except urllib.error.URLError as e:
        return _name_of(e.reason)
    except (OSError, HTTPException, ValueError) as e:
        return _name_of(e)


def _name_of(fault: object) -> str:
    """Kind of an error; its own message may hold the address."""
    if isinstance(fault, socket.gaierror):
        return "its host has no address"
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return type(fault).__name__


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would send the notification, and the address in its headers, to another server."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)
