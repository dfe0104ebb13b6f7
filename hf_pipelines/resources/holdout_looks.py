"""Looks: who has seen something of a hold-out, why, and how often it may still be seen.

Lives here: the records of looks, their count, and what a store knows of its hold-outs. Does not live here: where a hold-out begins and
which assets are kept out of it (`holdout`), what a look shows (`commands.holdout`).

A look is recorded before anything is shown: whoever is killed in between has looked. Records are never overwritten and never removed, and
count for the strategy, whatever its hold-out was then: who moves it gives up what was seen, and wins no look. Two looks at once take two
numbers. The clock is noted, and decides nothing.

Objects below the store's root::

    _holdout/markets/<market>.json                        hold-outs of its strategies, as they were when something was last made without them
    _holdout/strategies/<strategy>/looks/<number>.json    one look: who, why, when, of what
    _holdout/strategies/<strategy>/shown/<number>.json    the numbers that it showed

How many looks there were is kept in `HF_DATA_DIR/holdout_looks` too: a store that was restored from an older copy forgets none on
the machines that looked. Whoever may write to both, or copies a strategy under another name that does not descend from it, can look
unseen, as can any tool that reads the files themselves.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from hf_pipelines.partitions import parse_key
from hf_pipelines.resources import settings
from hf_pipelines.resources.holdout import Holdout
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import (
    ObjectExistsError,
    ObjectMissingError,
    ObjectRefusedError,
    StorageUnavailableError,
)
from hf_pipelines.resources.trial_ledger.writers import writers_folder

MARKETS, STRATEGIES, FOLDER = "_holdout/markets", "_holdout/strategies", "holdout_looks"
MOST_BYTES = 100_000
MOST_REASON = 500

ACCOUNT, FEATURES = "account", "features"


class LooksSpentError(ValueError):
    """A hold-out may not be looked at any more."""


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes
    ----------
    strategy : str
    number : int
        From 1 on.
    told : mapping
        `actor`, `reason`, `at`, `what`, `week` (of the hold-out then), `budget` (then), `of` (sessions from and to); empty of a
        record that cannot be read, which counts.
    shown : mapping or None
        The numbers; None of a look that ended before it showed any.
    """

    strategy: str
    number: int
    told: Mapping[str, Any]
    shown: Mapping[str, Any] | None = None


def state_holdout(objects: ObjectStore, holdout: Holdout) -> None:
    """Let readers of the store know of a hold-out."""
    # One object of a known name: who reads features lists nothing. Of two writers at once one is read again by its next stage.
    key = f"{MARKETS}/{holdout.market}.json"
    stated = _read(objects, key) or {}
    own = {"week": holdout.week, "looks": holdout.looks}
    if stated.get(holdout.strategy) != own:
        objects.put(key, _bytes({**stated, holdout.strategy: own}))


def stated_holdouts(objects: ObjectStore, market: str, *, until: date) -> list[Holdout]:
    """Hold-outs of strategies of a market that a span of sessions reaches into."""
    found = []
    for strategy, stated in sorted((_read(objects, f"{MARKETS}/{market}.json") or {}).items()):
        week = str(stated["week"])
        if parse_key(week) <= until:
            # Sessions are held out, not instants: when the week begins does not matter here.
            begins = datetime.fromisoformat(f"{week}T00:00:00+00:00")
            found.append(Holdout(strategy, week, begins, market, int(stated["looks"])))
    return found


def looks_of(objects: ObjectStore, strategies: Sequence[str]) -> list[Look]:
    """Looks of some strategies, each one's in order."""
    found = []
    for strategy in strategies:
        keys = objects.keys(f"{STRATEGIES}/{strategy}/looks")
        numbers = sorted(int(stem) for key in keys if (stem := key.rpartition("/")[2].removesuffix(".json")).isdigit())
        found += [
            Look(
                strategy,
                number,
                _read(objects, _key(strategy, "looks", number)) or {},
                _read(objects, _key(strategy, "shown", number)),
            )
            for number in numbers
        ]
    return found


def count_looks(objects: ObjectStore, strategies: Sequence[str]) -> int:
    """How often the hold-outs of some strategies were looked at, those that a restored store has forgotten too."""
    total = 0
    for strategy in strategies:
        stored = max((each.number for each in looks_of(objects, [strategy])), default=0)
        total += max(stored, _kept_count(objects, strategy))
    return total


def take_look(
    objects: ObjectStore,
    holdout: Holdout,
    *,
    actor: str,
    reason: str,
    what: str,
    of: tuple[date, date],
    at: datetime,
    descends_from: Sequence[str] = (),
) -> Look:
    """Record a look before anything is shown.

    Parameters
    ----------
    holdout : Holdout
        With how many looks it allows.
    reason : str
        Why; shown for ever.
    what : {"account", "features"}
        What will be shown.
    of : (date, date)
        First and last session of it.
    descends_from : sequence of str
        Strategies whose looks count too.

    Raises
    ------
    ValueError
        If no reason is given.
    LooksSpentError
        If as many looks were taken as are allowed.
    StorageUnavailableError
        If it could not be recorded: nothing may be shown then.
    """
    if not 0 < len(reason.strip()) <= MOST_REASON:
        raise ValueError(
            f"`reason` must say in 1 to {MOST_REASON} characters why {holdout.strategy}'s hold-out is looked at, was "
            f"{reason.strip()[:40]!r}; it is kept with the look."
        )
    ancestors = [each for each in descends_from if each != holdout.strategy]
    while True:
        # The number that is taken is the one that was counted.
        own = count_looks(objects, [holdout.strategy])
        taken = own + count_looks(objects, ancestors)
        if taken >= holdout.looks:
            raise LooksSpentError(
                f"`looks` of the hold-out of {holdout.strategy} must be more than the {taken} that were taken, was {holdout.looks}; what "
                "was seen is no hold-out any more: begin it later (`holdout: {from: DATE}`) once new weeks have come, and allow "
                f"more (`looks`); see hfp holdout {holdout.strategy}"
            )
        told = {
            "actor": actor,
            "reason": reason.strip(),
            "at": at.isoformat(timespec="seconds"),
            "what": what,
            "week": holdout.week,
            "budget": holdout.looks,
            "of": [each.isoformat() for each in of],
        }
        # Somebody else may take the number: then what is left is counted again.
        with suppress(ObjectExistsError):
            objects.put_durably(_key(holdout.strategy, "looks", own + 1), _bytes(told))
            _keep_count(objects, holdout.strategy, own + 1)
            return Look(holdout.strategy, own + 1, told)


def note_shown(objects: ObjectStore, look: Look, shown: Mapping[str, Any]) -> None:
    """Record the numbers that a look showed."""
    objects.put_durably(_key(look.strategy, "shown", look.number), _bytes(shown))


def _key(strategy: str, folder: str, number: int) -> str:
    return f"{STRATEGIES}/{strategy}/{folder}/{number:05d}.json"


def _bytes(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, allow_nan=False).encode()


def _read(objects: ObjectStore, key: str) -> dict[str, Any] | None:
    """A record; None of one that is not there, empty of one that cannot be read."""
    try:
        found = json.loads(objects.get(key, max_bytes=MOST_BYTES, follows_links=False))
    except ObjectMissingError:
        return None
    except (ObjectRefusedError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _kept_count(objects: ObjectStore, strategy: str) -> int:
    path = settings.data_dir() / FOLDER / writers_folder(objects).name / strategy
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return 0


def _keep_count(objects: ObjectStore, strategy: str, number: int) -> None:
    path = settings.data_dir() / FOLDER / writers_folder(objects).name / strategy
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(max(number, _kept_count(objects, strategy))))
    except OSError as e:
        raise StorageUnavailableError(
            f"`HF_DATA_DIR` must be a folder that can be written, to count looks at hold-outs in {path.parent}, was not "
            f"({e.strerror}); make room or set it to another folder."
        ) from e
