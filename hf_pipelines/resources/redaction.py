"""Redaction: no secret in what is printed, logged, stored or sent.

Lives here: what is secret in the environment, and replacing it in texts, exceptions and what Dagster stores. Does not
live here: where texts come from.

Two nets, one behind the other. Where a text is made: an error of a server or store is cleaned with its whole chain, and
addresses are shown by `shown_address`. Where a text leaves: the command line, Python's logging, events and ticks in the
instance's database, notifications. What is replaced: every secret that the environment holds, in each form in which a
library may quote it, and whatever looks like the user, password or token of any address.
"""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, MutableSet
from functools import lru_cache
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote

T = TypeVar("T")

MARK = "***"

# Secret as a whole: known ones, and whatever is named like one. A key's id names it, and is in each signed request.
SECRET_NAME = re.compile(r"(?i)(SECRET|PASSWORD|PASSWD|TOKEN|(?<!AWS_ACCESS)_KEY$|APIKEY$)")
NO_SECRET = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")

# Addresses that may hold one.
ADDRESSES = (
    "HF_POSTGRES_URL",
    "HF_STUDIES_URL",
    "HF_MLFLOW_URI",
    "HF_S3_ENDPOINT",
    "HF_STORAGE_URI",
    "HF_LANDING_URI",
    "HF_UI_URL",
    "HF_WEBHOOK_URL",
    "HF_PORTFOLIO_URL",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_TRACKING_URI",
)
# Whose path is one as well.
SECRET_PATHS = ("HF_WEBHOOK_URL", "HF_PORTFOLIO_URL")

# Several addresses, by blanks, of services that have their tokens anywhere in them.
SECRET_ADDRESSES = ("HF_ALERT_URLS",)
# Options of such an address that are no secrets.
PLAIN_OPTIONS = (
    "avatar", "batch", "bcc", "cc", "cto", "footer", "format", "from", "image", "mode", "name", "overflow", "preview", "redirect", "reply",
    "retry", "rto", "silent", "smtp", "thread", "to", "topic", "tz", "verify", "wait",
)  # fmt: skip
# Words that a path of a server may have, and that no token is.
PLAIN_PATHS = ("alert", "alerts", "hook", "hooks", "notify", "services", "webhook", "webhooks")

# Options of a database in an address that are none.
OPTIONS = ("sslmode", "application_name", "options", "connect_timeout", "charset", "region", "timeout")

# Shorter pieces are found in words that have nothing to do with them.
LEAST_LENGTH = 4
# Shorter ones count as a word of their own only: the key `test` of a trial server stands in the names of files.
LEAST_LENGTH_INSIDE_WORDS = 8

USER_INFO = re.compile(r"""(\w://)[^\s'"<>\\]*@""")
SECRET_QUERY = re.compile(
    r"""(?i)([?&](?:[\w.-]*[_.-])?(?:token|api_?key|key|secret|pass|password|pwd|sig|signature|auth|credential)=)[^&\s'"<>\\)]+"""
)
BEARER = re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{4,}")

# Names of further variables, such as that of a market data service's key.
_NAMED: MutableSet[str] = set()


def name_secret(variable: str) -> None:
    """Have the content of a variable replaced, whatever the variable's name."""
    _NAMED.add(variable)


def redacted(text: str) -> str:
    """A text without secrets.

    Examples
    --------
    >>> redacted("no route to http://quant:pa55@word@tracker:5000/api?token=abcd&page=2")
    'no route to http://***@tracker:5000/api?token=***&page=2'
    """
    for secret in _secrets():
        if secret not in text:
            continue
        if len(secret) >= LEAST_LENGTH_INSIDE_WORDS:
            text = text.replace(secret, MARK)
        else:
            text = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(secret)}(?![A-Za-z0-9_])", MARK, text)
    text = USER_INFO.sub(rf"\1{MARK}@", text)
    text = SECRET_QUERY.sub(rf"\1{MARK}", text)
    return BEARER.sub(rf"\1 {MARK}", text)


def shown_address(address: str) -> str:
    """An address without its user, password and query, for messages.

    Examples
    --------
    >>> shown_address("postgresql+psycopg2://quant:s3@cret@db:5432/mlflow?sslmode=require")
    'postgresql+psycopg2://***@db:5432/mlflow'
    """
    scheme, separator, rest = address.partition("://")
    user, at, place = rest.rpartition("@")
    place = place.partition("?")[0].partition("#")[0]
    return redacted(f"{scheme}{separator}{MARK + at if at else ''}{place}")


E = TypeVar("E", bound=BaseException)


def clean(error: E) -> E:
    """The same error, with no secret in its words nor in those of what led to it."""
    for each in _chain(error):
        each.args = tuple(_clean_argument(argument) for argument in each.args)
        for name in ("filename", "filename2", "strerror"):
            if isinstance(value := getattr(each, name, None), str) and isinstance(each, OSError):
                setattr(each, name, redacted(value))
    return error


def stored(value: T) -> T:
    """A record of Dagster as it may be stored: the same one, unless it holds a secret."""
    from hf_pipelines.resources.dagster_internals import deserialize_value, serialize_value

    text = serialize_value(value)  # type: ignore[arg-type]
    cleaned = redacted(text)
    return value if cleaned == text else deserialize_value(cleaned)  # type: ignore[return-value]


def guard_process() -> None:
    """Have tracebacks that end this process, and all that it logs, without secrets."""
    sys.excepthook = _print_redacted
    logging.setLogRecordFactory(_RedactedRecord)


class _RedactedRecord(logging.LogRecord):
    """A record of Python's logging."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.exc_info and self.exc_info[0] is not None:
            # Formatters take this text where it is there.
            self.exc_text = redacted("".join(traceback.format_exception(*self.exc_info))).rstrip("\n")

    def getMessage(self) -> str:
        return redacted(super().getMessage())


def _print_redacted(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    print(redacted("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, its causes, contexts and arguments that are errors."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        led = (each.__cause__, each.__context__, *each.args)
        waiting += [one for one in led if isinstance(one, BaseException)]


def _clean_argument(argument: Any) -> Any:
    if isinstance(argument, str):
        return redacted(argument)
    if isinstance(argument, bytes):
        return redacted(argument.decode(errors="replace")).encode()
    return argument


def _secrets() -> tuple[str, ...]:
    """Every secret of the environment in each of its forms, the longest first."""
    return _forms_of(tuple(item for item in os.environ.items() if _is_secret(item[0])))


def _is_secret(name: str) -> bool:
    return (
        name in (*ADDRESSES, *SECRET_ADDRESSES)
        or name in _NAMED
        or (bool(SECRET_NAME.search(name)) and name not in NO_SECRET)
    )


# Asked for each text: the environment hardly ever changes.
@lru_cache(maxsize=8)
def _forms_of(variables: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    found: set[str] = set()
    for name, value in variables:
        if name in SECRET_ADDRESSES:
            found.update(each for address in value.split() for each in _of_service(address))
            continue
        found.update(_of_address(value, has_secret_path=name in SECRET_PATHS) if name in ADDRESSES else [value])
    return tuple(_longest_first(found))


def secrets_of(address: str) -> list[str]:
    """Every secret of one address in each of its forms, the longest first."""
    return _longest_first(set(_of_address(address, has_secret_path=False)))


def _longest_first(found: set[str]) -> list[str]:
    # Twice: an error that quotes it is itself written down as JSON.
    forms = {again for each in found for form in _forms(each) for again in _forms(form)}
    return sorted((each for each in forms if len(each) >= LEAST_LENGTH), key=lambda each: (-len(each), each))


def _of_address(address: str, *, has_secret_path: bool) -> Iterator[str]:
    """User, password, query and where it is one the path of an address, however they were written."""
    rest = address.partition("://")[2] or address
    # A password with characters that must be escaped, and are not, ends at the last of them.
    user_info, at, place = rest.rpartition("@")
    if at:
        user, colon, password = user_info.partition(":")
        yield password if colon else user
        # Parsers each find another piece of it: `p@ss` as a host `ss`.
        yield from re.split(r"[@:/?#]", password if colon else user)
    path, _, query = place.partition("?")
    yield from (value for name, value in parse_qsl(query) if name.lower() not in OPTIONS)
    if has_secret_path:
        yield from path.split("/")[1:]


def _of_service(address: str) -> Iterator[str]:
    """All that may be a token in the address of a service: user, password, path, options, and a host that is no server."""
    rest = address.partition("://")[2] or address
    yield rest
    place, _, query = rest.partition("?")
    yield from (value for name, value in parse_qsl(query) if name.lower() not in PLAIN_OPTIONS)
    user_info, at, place = place.rpartition("@")
    if at:
        yield from (user_info, *re.split(r"[@:/]", user_info))
    host, _, path = place.partition("/")
    name = host.partition(":")[0]
    # `slack://T1JJ3T3L2/...`, `tgram://123456:ABC/...`: a server has a dot, or is this machine.
    if "." not in name and not re.fullmatch(r"localhost|\[.*", name):
        yield from (host, *host.split(":"), place.partition("?")[0])
    yield from (each for each in path.split("/") if each.lower() not in PLAIN_PATHS)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield unquote(secret)
    yield quote(unquote(secret), safe="")
    # As in JSON and in Python's own words for a text.
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
