"""History: one record of each decision on a strategy, in order, written once and never changed.

Lives here: writing and reading records. Does not live here: what follows from them (`research.promotion.lifecycle`), judging gates.

Objects below the store's root::

    _promotions/<strategy>/<number>.json    from 1 on, without a hole

A record begins with the SHA-256 of the rest and holds that of the record before it: one that was changed, removed from the middle or put
in another's place is refused by its name, and with it the whole history, since what follows from a part of it is not known. Records
that were cut off at the end leave no trace here: a store that was restored from an older copy has an older champion.

Of two decisions at once one takes the next number. The other is written behind it if the champion that it was made about still serves; else
it is refused, and its maker looks again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from hf_pipelines.research.promotion.lifecycle import (
    OF_A_CONFIGURATION,
    OF_A_ROLLOUT,
    OVERRIDDEN,
    PROMOTED,
    STAGED,
    STAGING,
    Event,
    IllegalEventError,
    Lifecycle,
    follow,
    lifecycle_of,
)
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import ObjectExistsError, ObjectMissingError, ObjectRefusedError
from hf_pipelines.resources.trial_ledger.records import (
    MOST_RECORD_BYTES,
    ORIGIN,
    RecordError,
    read_line,
    write_record,
)
from hf_pipelines.resources.trial_ledger.trials import configuration_hash

FOLDER = "_promotions"
VERSION = 1
MOST_REASON = 500

# Verdicts of a gate that does not stand in the way.
PASSING = ("passed", "not asked")

# Type of each field of a record besides its hash.
FIELDS: dict[str, type] = {
    "v": int, "strategy": str, "n": int, "prev": str, "id": str, "at": str, "kind": str, "actor": str, "reason": str, "override": str,
    "week": str, "configuration": str, "settings": dict, "yaml": dict, "yaml_hash": str, "evidence": dict, "gates": list, "figures": dict,
    "rollout": dict,
}  # fmt: skip


class PromotionHistoryError(ValueError):
    """A history that is not as it was written."""


class ChampionChangedError(ValueError):
    """Another decision came first."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is to be recorded.

    Attributes
    ----------
    kind : str
        One of `research.promotion.lifecycle.KINDS`.
    actor : str
        By whom: a person or an agent, a schedule, a sensor.
    reason : str
        1 to 500 characters.
    at : str
        When, ISO 8601, UTC.
    week : str
        Sunday of the week that was judged; "" of a rollback and a withdrawal, which are about the champion.
    settings : mapping
        What the configuration's hash is of; empty as `week`.
    yaml : mapping
        The strategy's YAML with every default; empty as `week`.
    evidence : mapping of asset to (partition to content hash)
        What the gates have read.
    gates : sequence of mapping
        The gate table, a gate each: `gate`, `value`, `threshold`, `verdict` and `why`, and what else is told of it, as JSON values.
    override : str
        Who answers for a configuration whose gates failed; "" where none did.
    figures : mapping of name to mapping
        What a portfolio layer is told of it, `value` and `why` there is none, by the names of `research.promotion.payload.FIGURES`.
    rollout : mapping
        Of a rollout its `configuration`, the `share` of the capital from then on, and what it was decided by; of a promotion by which a rollout
        ends the same; else empty.
    token : str
        32 hexadecimal digits that name the request, the id of its record; "" for a random one.
    """

    kind: str
    actor: str
    reason: str
    at: str
    week: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    yaml: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gates: Sequence[Mapping[str, Any]] = ()
    override: str = ""
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rollout: Mapping[str, Any] = field(default_factory=dict)
    token: str = ""

    @property
    def configuration(self) -> str:
        """Hash of the settings; "" without any."""
        return configuration_hash(self.settings) if self.settings else ""

    @property
    def event(self) -> Event:
        """What the lifecycle takes of it."""
        return Event(self.kind, self.week, self.configuration, self.settings, self.at, self.rollout)


@dataclass(frozen=True)
class History:
    """All decisions on a strategy.

    Attributes
    ----------
    strategy : str
    records : tuple of mapping
        Fields of each record, in order, as `FIELDS` names them.
    last : str
        SHA-256 of the last record; 64 zeros of an empty history.
    state : Lifecycle
        What follows from them.
    """

    strategy: str
    records: tuple[Mapping[str, Any], ...] = ()
    last: str = ORIGIN
    state: Lifecycle = field(default_factory=Lifecycle)

    @property
    def hashes(self) -> list[str]:
        """SHA-256 of each record."""
        return [*(each["prev"] for each in self.records[1:]), *([self.last] if self.records else [])]

    def recorded(self, token: str) -> Mapping[str, Any] | None:
        """The record of a request, by its id; None if there is none."""
        return next((each for each in self.records if token and each["id"] == token), None)

    def at(self, number: int) -> "History":
        """As it was after its first decisions.

        Raises
        ------
        ValueError
            If there were not so many yet.
        """
        if number == len(self.records):
            return self
        if number > len(self.records):
            raise ValueError(
                f"`promotions` of {self.strategy} must hold {number} decisions, held {len(self.records)}; restore the later ones from a copy of "
                "the store."
            )
        records = self.records[:number]
        return History(
            self.strategy, records, self.records[number]["prev"], lifecycle_of(map(Event.of_record, records))
        )

    def kept_records(self) -> list[tuple[Mapping[str, Any], str]]:
        """Records whose evidence may never go, with why: of the champion, of all that rollbacks may reach, of what is staged."""
        found = {}
        for release in self.state.served:
            found[release.number] = f"{self.strategy} {release.version} may be gone back to"
        if (champion := self.state.champion) is not None:
            found[champion.number] = f"it is the champion of {self.strategy}, {champion.version}"
        staged = {}
        for number, record in enumerate(self.records, 1):
            if record["kind"] == STAGED and self.state.stages[record["configuration"]] == STAGING:
                staged[record["configuration"]] = number
        for number in staged.values():
            found.setdefault(number, f"{self.strategy} has it staged")
        return [(self.records[number - 1], why) for number, why in sorted(found.items())]


def strategies_with_history(objects: ObjectStore) -> list[str]:
    """Strategies on which anything was ever decided, those that are gone among them."""
    return objects.folders(FOLDER)


def history_of(objects: ObjectStore, strategy: str) -> History:
    """All decisions on a strategy; an empty history where there are none.

    Raises
    ------
    PromotionHistoryError
        If an object is no record, was changed, is not of this history, or one is missing; the message names it.
    StorageUnavailableError
        If the store does not answer.
    """
    history = History(strategy)
    for key in objects.keys(f"{FOLDER}/{strategy}"):
        expected = _key(strategy, history.state.number + 1)
        if key != expected:
            if key > expected and _is_number(key):
                raise _refused(objects, expected, "is missing", remedy="restore it from a copy of the store")
            raise _refused(objects, key, "is none", remedy="move it out of the store")
        history = _with(objects, history, key, _read(objects, key))
    return history


def histories_of(objects: ObjectStore) -> dict[str, "History | PromotionHistoryError"]:
    """Histories of all strategies that have one, be they gone from the project; of a damaged one what is wrong with it."""
    found: dict[str, History | PromotionHistoryError] = {}
    for strategy in sorted(strategies_with_history(objects)):
        try:
            found[strategy] = history_of(objects, strategy)
        except PromotionHistoryError as e:
            found[strategy] = e
    return found


def record_decision(objects: ObjectStore, strategy: str, draft: Draft, *, about: Lifecycle | None = None) -> History:
    """Record a decision as the next of its strategy, once.

    Parameters
    ----------
    about : Lifecycle, optional
        The state that the decision was made about; by default what is stored when it is called.

    Returns
    -------
    History
        With the decision as its last record, unless others have come behind it. One whose `token` has a record already is not
        recorded again.

    Raises
    ------
    ValueError
        If it has no reason, no actor, or gates that say something else than its kind.
    IllegalEventError
        If it cannot follow what was decided before.
    ChampionChangedError
        If another champion serves than it was made about.
    PromotionHistoryError
        If the history is not as it was written: nothing is added then.
    StorageUnavailableError
        If it could not be recorded.
    """
    _require_sound(draft)
    token = draft.token or uuid4().hex
    history = history_of(objects, strategy)
    if history.recorded(draft.token) is not None:
        return history
    about = about or history.state
    while True:
        if _serving(history.state) != _serving(about):
            raise ChampionChangedError(
                f"`champion` of {strategy} must be the one that the decision was made about, {_told(about)}, was {_told(history.state)}; "
                f"another decision came first: see hfp history {strategy}, then decide again."
            )
        fields = _fields(history, draft, token)
        # What cannot follow is refused before anything is written.
        following = follow(history.state, draft.event)
        record = write_record(fields)
        try:
            objects.put_durably(_key(strategy, history.state.number + 1), record.line)
        except ObjectExistsError:
            taken, history = _key(strategy, history.state.number + 1), history_of(objects, strategy)
            if len(history.records) < fields["n"]:
                raise _refused(objects, taken, "is no file that is read", remedy="move it out of the store") from None
            # A store that has written it, but whose answer was lost, was asked again.
            if history.recorded(token) is not None:
                return history
            continue
        return History(strategy, (*history.records, fields), record.hash, following)


def _require_sound(draft: Draft) -> None:
    if not 0 < len(draft.reason.strip()) <= MOST_REASON:
        raise ValueError(
            f"`reason` must say in 1 to {MOST_REASON} characters why, was {draft.reason.strip()[:40]!r}; it is shown for ever."
        )
    if not draft.actor.strip():
        raise ValueError("`actor` must be a name, was empty; set HF_ACTOR.")
    given = [bool(each) for each in (draft.settings, draft.yaml, draft.week)]
    if not all(given) if draft.kind in OF_A_CONFIGURATION else any(given):
        raise ValueError(
            f"`settings`, `yaml` and `week` must be given of {', '.join(OF_A_CONFIGURATION)} and of no other kind, was {draft.kind}."
        )
    if (
        draft.kind in OF_A_ROLLOUT
        and not draft.rollout
        or draft.rollout
        and draft.kind not in (*OF_A_ROLLOUT, PROMOTED)
    ):
        raise ValueError(
            f"`rollout` must be given of {', '.join(OF_A_ROLLOUT)}, was {'given' if draft.rollout else 'not'} of {draft.kind}."
        )
    if (draft.kind == OVERRIDDEN) != bool(draft.override.strip()):
        raise ValueError(
            f"`override` must name a person where gates are overridden and nowhere else, was {draft.override[:40]!r}."
        )
    failed = sorted(str(each["gate"]) for each in draft.gates if each["verdict"] not in PASSING)
    if draft.kind in (PROMOTED, STAGED) and (failed or not draft.gates):
        was = f"{', '.join(failed[:5])} failed" if failed else "no gate was judged"
        raise ValueError(
            f"`gates` must all have passed for what is {draft.kind}, {was}; mend what failed, or override it by name."
        )


def _fields(history: History, draft: Draft, token: str) -> dict[str, Any]:
    return {
        "v": VERSION,
        "strategy": history.strategy,
        "n": history.state.number + 1,
        "prev": history.last,
        "id": token,
        "at": draft.at,
        "kind": draft.kind,
        "actor": draft.actor.strip(),
        "reason": draft.reason.strip(),
        "override": draft.override.strip(),
        "week": draft.week,
        "configuration": draft.configuration,
        "settings": dict(draft.settings),
        "yaml": dict(draft.yaml),
        "yaml_hash": configuration_hash(draft.yaml) if draft.yaml else "",
        "evidence": {asset: dict(parts) for asset, parts in draft.evidence.items()},
        "gates": [dict(each) for each in draft.gates],
        "figures": {name: dict(each) for name, each in draft.figures.items()},
        "rollout": dict(draft.rollout),
    }


def _with(objects: ObjectStore, history: History, key: str, found: tuple[Mapping[str, Any], str]) -> History:
    """The history with one more record that was read."""
    fields, digest = found
    # Records that were written before there were figures and rollouts are as sound.
    fields = {"figures": {}, "rollout": {}, **fields}
    for name in FIELDS:
        if type(fields.get(name)) is not FIELDS[name]:
            raise _refused(objects, key, f"has no `{name}` of type {FIELDS[name].__name__}")
    if fields["v"] > VERSION:
        raise _refused(objects, key, f"is of version {fields['v']}", remedy="read it with a newer hf_pipelines")
    if (fields["strategy"], fields["n"]) != (history.strategy, history.state.number + 1):
        raise _refused(objects, key, f"is number {fields['n']} of {fields['strategy'][:80]}")
    if fields["prev"] != history.last:
        raise _refused(objects, key, "does not follow the one before it: one of the two was changed or exchanged")
    if not (
        _is_evidence(fields["evidence"])
        and all(_is_gate(each) for each in fields["gates"])
        and all(_is_figure(each) for each in fields["figures"].values())
        and _is_rollout(fields["rollout"], fields["kind"])
    ):
        raise _refused(objects, key, "has `evidence`, `gates`, `figures` or `rollout` of another form")
    for name, of in (("configuration", "settings"), ("yaml_hash", "yaml")):
        if fields[name] != (configuration_hash(fields[of]) if fields[of] else ""):
            raise _refused(objects, key, f"has a `{name}` that is not the hash of its `{of}`")
    try:
        state = follow(history.state, Event.of_record(fields))
    except IllegalEventError as e:
        raise _refused(objects, key, f"cannot follow those before it ({e})") from e
    return History(history.strategy, (*history.records, fields), digest, state)


def _is_evidence(value: Mapping[str, Any]) -> bool:
    parts = [each for each in value.values() if isinstance(each, dict)]
    return len(parts) == len(value) and all(isinstance(digest, str) for each in parts for digest in each.values())


def _is_gate(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("gate", "verdict", "why"))


def _is_figure(value: Any) -> bool:
    return isinstance(value, dict) and {*value} == {"value", "why"}


def _is_rollout(value: Mapping[str, Any], kind: str) -> bool:
    if not value:
        return kind not in OF_A_ROLLOUT
    return isinstance(value.get("configuration"), str) and isinstance(value.get("share"), int | float)


def _read(objects: ObjectStore, key: str) -> tuple[Mapping[str, Any], str]:
    """Fields of a record and its SHA-256."""
    try:
        line = objects.get(key, max_bytes=MOST_RECORD_BYTES, follows_links=False)
        fields = read_line(line)
    except ObjectMissingError as e:
        raise _refused(objects, key, "is missing", remedy="restore it from a copy of the store") from e
    except (ObjectRefusedError, RecordError) as e:
        raise _refused(objects, key, f"is {getattr(e, 'was', '') or e}") from e
    return fields, line[len(b'{"sha256":"') :][:64].decode("ascii")


def _refused(objects: ObjectStore, key: str, was: str, *, remedy: str = "") -> PromotionHistoryError:
    remedy = remedy or "restore it from a copy of the store"
    return PromotionHistoryError(
        f"`{objects.address(key)}` must be a record of the history of promotions as it was written, it {was}; {remedy}."
    )


def _serving(state: Lifecycle) -> tuple[Any, ...]:
    return state.is_withdrawn, [each.number for each in state.served], state.rollout


def _told(state: Lifecycle) -> str:
    champion = state.champion
    if champion is None:
        return "withdrawn" if state.is_withdrawn else "none"
    return f"{champion.version} of week {champion.week}"


def _key(strategy: str, number: int) -> str:
    return f"{FOLDER}/{strategy}/{number:08d}.json"


def _is_number(key: str) -> bool:
    stem = key.rpartition("/")[2].removesuffix(".json")
    return len(stem) == 8 and stem.isdigit()
