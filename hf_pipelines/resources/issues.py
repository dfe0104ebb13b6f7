"""Issues: the signals that were issued, and `latest.json`, which names the newest for readers that want no listing.

Lives here: which stored issue is the newest that can be one, what is wrong with `latest.json`, writing it. Does not live here:
issuing (`partition_store`), the callers (`parquet_io_manager`, `components.automation`).

An issue counts if its bytes are those that were published, for its own day, by a model that the store has or had, and not for
a day to come. An issue that is gone is not derived from anything: it is put back from a backup, and until then `latest.json`
goes on to name it, so that an older one is never traded as the newest.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256

from hf_pipelines.resources.footer import FITTED_MODEL
from hf_pipelines.resources.issued_signals import LATEST
from hf_pipelines.resources.partition_codec import decode
from hf_pipelines.resources.partition_store import PartitionStore, is_partition_key
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

# A file of half a kilobyte.
MAX_LATEST_BYTES = 100_000

# Issues known to be sound: a tick costs no more than a listing.
MAX_SOUND = 4096
_SOUND: set[tuple[PartitionStore, str, str, str]] = set()


def latest_key(asset: str) -> str:
    return f"{asset}/{LATEST}"


def issue_fault(store: PartitionStore, asset: str, day: str, now: datetime, payload: bytes | None = None) -> str:
    """Why a stored object cannot be an issue; "" if it can. `payload`: its bytes, where they have been read."""
    try:
        payload = store.payload(asset, day) if payload is None else payload
        stored = decode(payload, asset=asset, partition=day)
    except (StoredPartitionError, ObjectMissingError) as e:
        return str(e)
    columns = {name: set(stored.frame[name].to_list()) for name in stored.frame.columns}
    if days := sorted(str(each) for each in columns.get("session", {day}) if str(each) != day):
        return f"`{asset}` {day} must be of its own day, was of {days[0]}"
    decided = [each for each in columns.get("as_of", set()) if each is not None]
    if day > now.astimezone(UTC).date().isoformat() or any(each > now for each in decided):
        return f"`{asset}` {day} must be of a session that has closed, was of one to come"
    models = {str(each) for each in columns.get("model_version", set()) if each is not None}
    # Of a rollout the challenger may decide alone.
    is_split = bool(columns.get("challenger_version", set()) - {None})
    if not models and not is_split and columns.get("weight", set()) - {0.0}:
        return f"`{asset}` {day} must be by a model where it has a position, was by none"
    if unknown := sorted(models - _models(store, stored.footer.inputs)):
        return f"`{asset}` {day} must be by a model that the store has or had, was by {unknown[0][:12]}"
    return ""


def _models(store: PartitionStore, inputs: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Content hashes of the models that an issue was made from, as far as they are stored."""
    found: set[str] = set()
    for asset, week in _model_weeks(store, inputs):
        found |= set(store.versions(asset, week))
        try:
            current = store.footer(asset, week)
        except StoredPartitionError:
            # Damaged: its readers name it. It was there.
            found.add(inputs[asset][week])
            continue
        found |= {current.content_hash} if current else set()
    return found


def _model_weeks(store: PartitionStore, inputs: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Those of an issue's inputs that are models. Of what is read by session, which a model never is, nothing is asked."""
    whole = [asset for asset, hashes in inputs.items() if not any("#" in key for key in hashes)]
    return [(asset, week) for asset in whole if store.kind(asset) == FITTED_MODEL for week in inputs[asset]]


def newest_issue(store: PartitionStore, asset: str, days: Iterable[str], now: datetime) -> str | None:
    """The newest of `days` of which there is an issue that can be one; None if there is none."""
    tags = store.tags(asset)
    wanted = sorted(set(days) & set(tags), reverse=True)
    return next((day for day in wanted if _is_sound(store, asset, day, tags[day], now)), None)


def _is_sound(store: PartitionStore, asset: str, day: str, tag: str, now: datetime) -> bool:
    """Whether an issue has no fault; one that had none is not looked at again until it changes."""
    known = (store, asset, day, tag)
    if known not in _SOUND:
        if issue_fault(store, asset, day, now):
            return False
        if len(_SOUND) >= MAX_SOUND:
            _SOUND.clear()
        _SOUND.add(known)
    return True


def latest_of(store: PartitionStore, asset: str, day: str) -> bytes:
    """What `latest.json` says where `day` is the newest issue."""
    payload = store.payload(asset, day)
    issued = decode(payload, asset=asset, partition=day)
    row = issued.frame.row(0, named=True)
    latest = {
        "day": day,
        "path": store.key(asset, day),
        "sha256": sha256(payload).hexdigest(),
        "content_hash": issued.footer.content_hash,
        "model": row["model_version"],
        "issue_kind": row["issue_kind"],
        "schema_version": issued.footer.facts["schema_version"],
    }
    return json.dumps(latest, indent=1).encode()


def named_day(store: PartitionStore, asset: str) -> str | None:
    """Day that `latest.json` names; None if it names none."""
    try:
        latest = json.loads(store.objects.get(latest_key(asset), max_bytes=MAX_LATEST_BYTES))
        day = str(latest["day"])
    except (ObjectMissingError, StoredPartitionError, ValueError, KeyError, TypeError):
        return None
    return day if is_partition_key(day) else None


def lost_issue(store: PartitionStore, asset: str, days: Iterable[str]) -> str | None:
    """Day among `days` that `latest.json` names and of which there is no issue any more."""
    day = named_day(store, asset)
    return day if day in set(days) and day is not None and not store.objects.exists(store.key(asset, day)) else None


def latest_fault(store: PartitionStore, asset: str, days: Iterable[str], now: datetime) -> str:
    """What is wrong with `latest.json`, in words, where an issue can be of `days`; "" if nothing is."""
    allowed = set(days)
    if (lost := lost_issue(store, asset, allowed)) is not None:
        return (
            f"`{store.key(asset, lost)}` must be there, {LATEST} names it as the newest issue, was missing; put back the bytes "
            "that were issued, from a backup: issued signals are not made again"
        )
    newest = newest_issue(store, asset, allowed, now)
    held = _held(store, asset)
    named = named_day(store, asset)
    if newest is None and named is None:
        return ""
    # One whose model has been lost since was the newest all the same.
    if (
        named in allowed
        and named is not None
        and named >= (newest or "")
        and held == _latest_or_none(store, asset, named)
    ):
        return ""
    must = f"name the newest issue {newest} as it is stored" if newest else "not be there without an issue"
    was = "missing" if held is None else f"naming {named or 'nothing'}"
    return f"`{latest_key(asset)}` must {must}, was {was}; the next tick of the strategy's sensor writes it again"


def _held(store: PartitionStore, asset: str) -> bytes | None:
    try:
        return store.objects.get(latest_key(asset), max_bytes=MAX_LATEST_BYTES)
    except ObjectMissingError:
        return None
    except StoredPartitionError:
        return b""


def _latest_or_none(store: PartitionStore, asset: str, day: str) -> bytes | None:
    try:
        return latest_of(store, asset, day)
    except (StoredPartitionError, KeyError):
        return None


def point_to_latest(store: PartitionStore, asset: str, days: Iterable[str], now: datetime) -> bool:
    """Make `latest.json` name the newest issue of `days`; returns whether it was written. One that is gone stays named."""
    allowed = set(days)
    if lost_issue(store, asset, allowed) is not None:
        return False
    newest = newest_issue(store, asset, allowed, now)
    if newest is None or not latest_fault(store, asset, allowed, now):
        return False
    store.objects.put(latest_key(asset), latest_of(store, asset, newest))
    return True
