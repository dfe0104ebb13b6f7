"""Webhook: one JSON message to an address that is a secret.

Lives here: a bounded number of attempts in a bounded time, without redirects. Does not live here: what is sent (`notifier`,
`promotions.relay`), and what is still to be sent (`delivery`, `promotions.outbox`).
"""

import socket
import urllib.error
import urllib.request
from http.client import HTTPException
from threading import Thread
from time import sleep
from typing import Any
from urllib.parse import urlsplit

# A receiver that is well answers within a second; one that is not must not hold up who sends.
POST_TIMEOUT_S = 5.0
POST_DEADLINE_S = 8.0
POST_ATTEMPTS = 2
POST_BACKOFF_S = 0.5


class NotDeliveredError(RuntimeError):
    """The webhook did not take a message; the error's own text never holds its address."""


def post_json(url: str, body: bytes, *, key: str, variable: str, what: str) -> None:
    """Post a message.

    Parameters
    ----------
    url : str
    body : bytes
        JSON.
    key : str
        The same for the same message whenever it is sent, as header `Idempotency-Key`.
    variable : str
        Of the environment that has the address, for errors.
    what : str
        The message in words, for errors.

    Raises
    ------
    NotDeliveredError
        If no attempt was accepted.
    """
    faults: list[str] = []
    poster = Thread(target=_post_patiently, args=(url, body, key, variable, faults), daemon=True)
    poster.start()
    # An address that does not resolve, or a receiver that answers byte by byte, has no timeout of its own.
    poster.join(POST_DEADLINE_S)
    fault = faults[-1] if faults else f"no answer within {POST_DEADLINE_S:.0f} s"
    if fault:
        raise NotDeliveredError(f"the webhook did not take {what}: {fault}")


def _post_patiently(url: str, body: bytes, key: str, variable: str, faults: list[str]) -> None:
    """Append what came of each attempt; "" once it was accepted."""
    for attempt in range(POST_ATTEMPTS):
        if attempt:
            sleep(POST_BACKOFF_S)
        faults.append(_post(url, body, key, variable))
        if not faults[-1]:
            return


def _post(url: str, body: bytes, key: str, variable: str) -> str:
    """Post once; "" if it was accepted, else why not, in words that do not name the address."""
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            return f"`{variable}` must be an address that begins with http:// or https://, was another"
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "hf_pipelines"}
        with _OPENER.open(urllib.request.Request(url, body, headers), timeout=POST_TIMEOUT_S):
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
    """A redirect would send the message, and the address in its headers, to another server."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)
