"""Transport of source `http`: one answer of a service, tried again where it may help.

Lives here: the request, the key, the limits of an answer on its way, and distinguishing an outage from a refusal. Does not live
here: which rows are asked for and what an answer must hold (`http`).
"""

import os
import ssl
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from hf_pipelines.research.wording import excerpt, some_of
from hf_pipelines.resources.limits import Limits
from hf_pipelines.resources.market_data import MarketDataOutageError, MarketDataRefusedError
from hf_pipelines.resources.market_data.tables import RefusedTableError
from hf_pipelines.resources.redaction import name_secret

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

JSON_TYPE = "application/json"
PARQUET_TYPE = "application/vnd.apache.parquet"

# Waits between the tries of one request; a longer outage is for the step to wait out.
WAITS_S = (0.5, 2.0)
# A service that asks for more than this is left to the step.
LONGEST_WAIT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
# A server that drips bytes never runs into the timeout between two of them.
TIMEOUTS_A_PAGE = 10

CHUNK_BYTES = 1 << 16

# Status codes of 4xx that are no refusal: too slow, too early, too many.
PASSING_STATUS = (408, 425, 429)
REMEDIES = {
    401: "set the key of the service in the variable that `api_key_env` names",
    403: "see that the key may read this table and these symbols",
    404: "see that `base_url` is right and that the service knows these symbols",
}


@dataclass(frozen=True)
class HttpTransport:
    """Asks one service.

    Parameters
    ----------
    base_url, api_key_env, timeout_s
        As of `HttpSource`.
    """

    base_url: str
    api_key_env: str | None
    timeout_s: float

    def get(self, session: "Session", table: str, query: dict[str, str], n_left: int) -> tuple["Response", bytes]:
        """One answer of status 200, tried again after a short wait."""
        waits = [*WAITS_S]
        while True:
            try:
                return self._try(session, table, query, n_left)
            except MarketDataOutageError as e:
                if not waits or e.retry_after_s > LONGEST_WAIT_S:
                    raise
                time.sleep(max(waits.pop(0), e.retry_after_s))

    def _try(self, session: "Session", table: str, query: dict[str, str], n_left: int) -> tuple["Response", bytes]:
        import requests
        import urllib3

        url = f"{self.base_url.rstrip('/')}/{table}"
        asked = f"GET {url} for {some_of(query['symbols'].split(','))} from {query['start']} to {query['end']}"
        began = time.monotonic()
        try:
            # A redirect would carry the key to wherever it points.
            with session.get(
                url,
                params=query,
                headers={"Accept": f"{PARQUET_TYPE}, {JSON_TYPE}", "Accept-Encoding": "gzip"},
                timeout=(min(CONNECT_TIMEOUT_S, self.timeout_s), self.timeout_s),
                allow_redirects=False,
                stream=True,
            ) as answer:
                self._check_status(answer, asked)
                payload, decoder = bytearray(), _Decoder(answer.headers.get("Content-Encoding", ""))
                # As it comes, and decoded here: a kilobyte may be a megabyte, and that again.
                for piece in answer.raw.stream(CHUNK_BYTES, decode_content=False):
                    payload += decoder.decode(piece, n_left + 1 - len(payload))
                    if len(payload) > n_left:
                        raise RefusedTableError(f"it has more than {Limits.of_arrivals().n_bytes:,} bytes")
                    if time.monotonic() - began > TIMEOUTS_A_PAGE * self.timeout_s:
                        raise self._outage(asked, f"took longer than {TIMEOUTS_A_PAGE * self.timeout_s:g} s")
                decoder.require_end()
                return answer, bytes(payload)
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as e:
            raise self._outage(asked, f"timed out after {self.timeout_s:g} s") from e
        except (requests.ConnectionError, urllib3.exceptions.HTTPError) as e:
            if certificate := _certificate_fault(e):
                raise MarketDataRefusedError(
                    f"`source` must answer {asked} with a certificate that can be trusted, was not: {certificate}; see that "
                    "`base_url` is right; if it is, name the file of the authority that signed it in REQUESTS_CA_BUNDLE."
                ) from e
            raise self._outage(asked, f"broke off: {_reason(e)}") from e

    def _check_status(self, answer: "Response", asked: str) -> None:
        status = answer.status_code
        if status == 200:
            return
        if status >= 500 or status in PASSING_STATUS:
            raise self._outage(asked, f"was answered {status}", _retry_after_s(answer))
        remedy = REMEDIES.get(status, "see what the service says to it")
        if 300 <= status < 400:
            remedy = "set `base_url` to where the service is now"
        raise MarketDataRefusedError(f"`source` must answer {asked}, refused with {status}; {remedy}.")

    def _outage(self, asked: str, what: str, retry_after_s: float = 0.0) -> MarketDataOutageError:
        error = MarketDataOutageError(f"`source` must answer {asked}, {what}.")
        error.retry_after_s = retry_after_s
        return error

    def session(self) -> "Session":
        import requests

        session = requests.Session()
        key = self._key()

        def authorise(request: "PreparedRequest") -> "PreparedRequest":
            if key:
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        # Set even without a key: requests would look into ~/.netrc otherwise.
        session.auth = authorise
        return session

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        name_secret(self.api_key_env)
        key = os.environ.get(self.api_key_env, "")
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise MarketDataRefusedError(
                f"`api_key_env` must name a variable that holds a key of printable characters, {self.api_key_env} holds none; set it."
            )
        return key


class _Decoder:
    """An answer's bytes as they were before they were encoded, never more than are asked for."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip"):
            raise RefusedTableError(f"it is encoded as {excerpt(name)}, which was not asked for")
        self._gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16) if name == "gzip" else None

    def decode(self, piece: bytes, n_bytes: int) -> bytes:
        if self._gzip is None:
            return piece
        try:
            return self._gzip.decompress(piece, max(n_bytes, 1))
        except zlib.error as e:
            raise RefusedTableError("it is not encoded as its header says") from e

    def require_end(self) -> None:
        if self._gzip is not None and not self._gzip.eof:
            raise RefusedTableError("it is not encoded as its header says")


def _certificate_fault(error: Exception) -> str:
    """What is wrong with a certificate, in words; "" if it is something else that failed."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message or "it could not be verified"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it comes from, outermost first; libraries keep the inner one in any of three places."""
    seen: set[int] = set()
    found: list[BaseException] = [error]
    while found:
        cause = found.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        found += [each for each in inner if isinstance(each, BaseException)]


def _retry_after_s(answer: "Response") -> float:
    """Seconds that a service asks to be left alone for, as it says in seconds or by a date; 0 if it does not."""
    asked = answer.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        wait_s = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return max(wait_s, 0.0)


def _reason(error: Exception) -> str:
    """The innermost cause in words: the outer ones repeat addresses and objects."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return (" ".join(str(cause).split()) or type(cause).__name__)[:200]
