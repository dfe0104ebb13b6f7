"""Yahoo's session: the session that the package yfinance uses, so that no answer can do harm.

Lives here: caps on what is taken, while it is taken, and from whom. Does not live here: what is asked and what the answer
means (`yfinance`).

The package asks and parses in one step, with cookies and through the proxy of this process: unlike files and answers of
other services these are parsed here, and not in the reader's process. So its cap is far lower than theirs, and Yahoo is
the only one who may answer. Redirects between its hosts are followed (its page of consent is one), and only by https.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data import MarketDataRefusedError

# Sixty years of days of a symbol are 3 MB; counted as decoded.
MAX_ANSWER_BYTES = 20_000_000

HOSTS = ("yahoo.com",)


def capped_session(hosts: Sequence[str] = HOSTS, max_bytes: int = MAX_ANSWER_BYTES, schemes: str = "https") -> Any:
    """A session of curl_cffi, as yfinance makes it, that refuses more than `max_bytes` and other hosts than `hosts`.

    Raises
    ------
    ImportError
        If yfinance is not installed whole.
    """
    # Without its types: it comes with the extra `yfinance` alone.
    curl: Any = import_module("curl_cffi")
    requests: Any = import_module("curl_cffi.requests")
    most = min(max_bytes, settings.max_file_bytes())

    class CappedSession(requests.Session):  # type: ignore[misc]
        def request(self, method: str, url: str, **options: Any) -> Any:
            taken: list[bytes] = []
            n_taken = 0

            def take(chunk: bytes) -> int:
                nonlocal n_taken
                n_taken += len(chunk)
                if n_taken > most:
                    return STOP
                taken.append(chunk)
                return len(chunk)

            try:
                response = super().request(method, url, **options, content_callback=take)
            except requests.exceptions.RequestException as e:
                if n_taken > most:
                    raise MarketDataRefusedError(
                        f"`source` yfinance must answer in at most {most:,} bytes, were more from {_host(url)}."
                    ) from e
                raise
            if not _is_of(_host(response.url), hosts):
                raise MarketDataRefusedError(
                    f"`source` yfinance must be answered by {', '.join(hosts)}, was by {_host(response.url)[:100]}."
                )
            response.content = b"".join(taken)
            return response

    return CappedSession(impersonate="chrome", curl_options={curl.CurlOpt.REDIR_PROTOCOLS_STR: schemes})


# The value that ends a transfer of curl (CURL_WRITEFUNC_ERROR).
STOP = 0xFFFFFFFF


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_of(host: str, hosts: Sequence[str]) -> bool:
    return any(host == each or host.endswith(f".{each}") for each in hosts)
