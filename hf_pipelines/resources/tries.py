"""Tries: configurations that were tried beside a strategy, and what they came to.

Lives here: where a try lies in the store, its record, finding it again. Does not live here: computing it
(`components.strategy_stages.trying`), how often something was tried (`trial_ledger`).

Layout below the store's root, apart from everything that is current::

    _tries/<strategy>/<id>/<strategy>/<stage>/<week>.parquet   what it came to, by the layout of a store
    _tries/<strategy>/<id>/try.json                            its record, written last: without one there is no try
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from hf_pipelines.research.wording import excerpt, some_of
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError

TRIES = "_tries"
RECORD = "try.json"

NAME = re.compile(r"(?P<strategy>[A-Za-z0-9][A-Za-z0-9_.-]{0,99})~(?P<id>[0-9a-f]{4,8})")

ID_DIGITS = 8


class FaultyTryError(ValueError):
    """A record of a try cannot be read."""


@dataclass(frozen=True)
class TriedWeek:
    """What a try came to in one week.

    Attributes
    ----------
    trial : str
        Of the ledger.
    contents : mapping of stage to content hash
        Of what lies in the store of the try.
    matrix : str
        Content hash of the training rows.
    data : mapping of asset path to str
        Digest of the contents that the training rows are made of.
    metrics : mapping of stage to (name to value)
    seconds : float
        That it took.
    """

    trial: str
    contents: Mapping[str, str]
    matrix: str
    data: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, float | None]]
    seconds: float


@dataclass(frozen=True)
class TryRecord:
    """A configuration that was tried.

    Attributes
    ----------
    made_at : str
        UTC, ISO 8601.
    file : str
        YAML that it was made of.
    before, yaml : str
        Text of that file then, and with what was set.
    base : str
        SHA-256 of the strategy's own file then; "" of a strategy that the project did not have.
    given : tuple of str
        What was set, as it was given.
    differs : mapping of field to (value of the strategy, value tried)
    settings : mapping of field to value
        All that may change the result, flat.
    weeks : mapping of week to TriedWeek
    """

    strategy: str
    id: str
    made_at: str
    actor: str
    file: str
    before: str
    yaml: str
    base: str
    given: tuple[str, ...]
    differs: Mapping[str, tuple[Any, Any]]
    settings: Mapping[str, Any]
    weeks: Mapping[str, TriedWeek]

    @property
    def name(self) -> str:
        return f"{self.strategy}~{self.id}"

    @property
    def made(self) -> datetime:
        return datetime.fromisoformat(self.made_at)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}

    @staticmethod
    def from_json(payload: bytes, key: str) -> "TryRecord":
        """Read a record.

        Raises
        ------
        FaultyTryError
            If it is none.
        """
        try:
            fields = json.loads(payload)
            fields.pop("name")
            weeks = {week: TriedWeek(**each) for week, each in fields.pop("weeks").items()}
            differs = {name: (before, now) for name, (before, now) in fields.pop("differs").items()}
            found = TryRecord(**{**fields, "given": tuple(fields["given"])}, weeks=weeks, differs=differs)
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise FaultyTryError(f"`{key}` must be the record of a try, was not; remove it.") from e
        if try_key(found.strategy, found.id) != key:
            raise FaultyTryError(
                f"`{key}` must be the record of the try that it lies in, was of {found.name}; remove it."
            )
        return found


def id_of(trials: Mapping[str, str], text: str) -> str:
    """Id of a try, from its trials by week and its YAML: the same try again has the same one."""
    told = json.dumps([sorted(trials.items()), text])
    return sha256(told.encode()).hexdigest()[:ID_DIGITS]


def try_key(strategy: str, number: str) -> str:
    return f"{TRIES}/{strategy}/{number}/{RECORD}"


def inner_key(key: str) -> tuple[str, str]:
    """Folder of the try that an object of the store lies in, "" of none, and the object's key below it."""
    *folder, inner = key.split("/", 3)
    return ("/".join(folder), inner) if len(folder) == 3 and folder[0] == TRIES else ("", key)


def store_of_try(store: PartitionStore, strategy: str, number: str) -> PartitionStore:
    """Where the contents of a try lie."""
    return PartitionStore(
        ObjectStore(f"{store.objects.uri.rstrip('/')}/{TRIES}/{strategy}/{number}", store.objects.endpoint)
    )


def put_try(store: PartitionStore, record: TryRecord) -> None:
    """Write the record of a try whose contents are stored."""
    payload = json.dumps(record.to_json(), indent=1, sort_keys=True).encode()
    store.objects.put(try_key(record.strategy, record.id), payload)


def list_tries(store: PartitionStore, strategy: str | None = None) -> Iterator[TryRecord]:
    """Every try, or those of a strategy, the latest last.

    Raises
    ------
    FaultyTryError
        If a record cannot be read.
    """
    keys = store.objects.keys(TRIES if strategy is None else f"{TRIES}/{strategy}")
    found = [TryRecord.from_json(store.objects.get(key), key) for key in keys if key.endswith(f"/{RECORD}")]
    yield from sorted(found, key=lambda each: (each.made_at, each.name))


def find_try(store: PartitionStore, name: str) -> TryRecord:
    """The try of a name, `STRATEGY~ID`, of which the id may be given by its first four characters or more.

    Raises
    ------
    ValueError
        If no try has the name, or several do.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"`try` must be named STRATEGY~ID, as hfp tries shows it, was {excerpt(name)!r}.")
    folder = f"{TRIES}/{found['strategy']}"
    known = [key.split("/")[2] for key in store.objects.keys(folder) if key.endswith(f"/{RECORD}")]
    matching = [each for each in known if each.startswith(found["id"])]
    if len(matching) != 1:
        names = some_of([f"{found['strategy']}~{each}" for each in matching or known]) or "there is none"
        raise ValueError(f"`try` must be one of the strategy's ({names}), was {name[:80]!r}; hfp tries shows all.")
    key = try_key(found["strategy"], matching[0])
    try:
        return TryRecord.from_json(store.objects.get(key), key)
    except ObjectMissingError as e:
        raise ValueError(f"`try` must be there, {name[:80]!r} was removed meanwhile.") from e
