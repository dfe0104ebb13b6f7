"""What retention decides by: how much is kept, what there is, what one thing was judged.

Lives here: `Policy`, `Holdings`, `Judged`, and what goes for want of room. Does not live here: what may never go (`roots`), each kind's own
rule (its module).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.lineage import ContentId, current_footers, find_references
from hf_pipelines.resources.partition_store import PartitionStore

if TYPE_CHECKING:
    from hf_pipelines.resources.mlflow_tracking import MLflowTracking

# What is younger stays however little room there is: a run under way may have read it.
LEAST_AGE = timedelta(days=1)


@dataclass(frozen=True)
class Policy:
    """How much is kept.

    Parameters
    ----------
    days : int
        What is younger stays, as long as there is room.
    versions : int
        The newest versions of each partition stay, however old, as long as there is room.
    most_bytes : int or None
        Of one kind of thing; above it what stays for its age or its rank alone goes too, the oldest first, but nothing younger than a
        day. None: any number.
    """

    days: int
    versions: int
    most_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.days < 1 or self.versions < 0:
            raise ValueError(
                f"`days` must be at least 1 and `versions` at least 0, was {self.days} and {self.versions}."
            )

    @classmethod
    def from_environment(cls) -> "Policy":
        """HF_KEEP_DAYS, HF_KEEP_VERSIONS and HF_KEEP_GB."""
        return cls(settings.keep_days(), settings.keep_versions(), settings.keep_bytes())


@dataclass(frozen=True)
class Judged:
    """Something that may go, or must stay.

    Attributes
    ----------
    kind : str
        A key of `COLLECTORS`.
    name : str
        Its key in the store, the id of a run, the name of a study.
    written : datetime
        UTC.
    goes : bool
    why : str
        It goes, or stays.
    size : int
        Bytes; 0 where they are not known.
    is_spare : bool
        Whether it stays for its age or its rank alone.
    is_model : bool
        Whether the tracker points to it.
    """

    kind: str
    name: str
    written: datetime
    goes: bool
    why: str
    size: int = 0
    is_spare: bool = False
    is_model: bool = False


@dataclass
class Holdings:
    """What there is.

    Attributes
    ----------
    store : PartitionStore
    instance : DagsterInstance
    tracking : MLflowTracking or None
        None: tracked runs are not looked at.
    policy : Policy
    now : datetime
        UTC.
    needed : mapping
        What may never go, by kind and name, and why: all `ROOTS`.
    judged : mapping
        What was judged so far, by kind.
    unseen : mapping
        Kinds that could not be looked at, and why.
    """

    store: PartitionStore
    instance: dg.DagsterInstance
    tracking: "MLflowTracking | None"
    policy: Policy
    now: datetime
    needed: dict[tuple[str, str], str] = field(default_factory=dict)
    judged: dict[str, list[Judged]] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)

    @property
    def oldest(self) -> datetime:
        """What was written before it is old."""
        return self.now - timedelta(days=self.policy.days)

    @property
    def aged(self) -> str:
        """Of what is old, in words."""
        return f"older than {self.policy.days} days"

    @property
    def young(self) -> str:
        """Of what is not, in words."""
        return f"younger than {self.policy.days} days"

    @cached_property
    def footers(self) -> list[Footer]:
        """Of everything that is current: what is stored, not what Dagster remembers."""
        return current_footers(self.store)

    @cached_property
    def references(self) -> dict[ContentId, list[Footer]]:
        """Every content that something current was made from, through any number of steps, with its readers."""
        return find_references(self.store, self.footers)


def within_bytes(judged: Sequence[Judged], policy: Policy, now: datetime) -> list[Judged]:
    """Judged things in the same order, of which so many more go that the rest has at most `policy.most_bytes`."""
    if policy.most_bytes is None:
        return list(judged)
    over = sum(each.size for each in judged if not each.goes) - policy.most_bytes
    flipped: dict[str, Judged] = {}
    for each in sorted(judged, key=lambda each: (each.written, each.name)):
        if over <= 0:
            break
        if each.is_spare and not each.goes and each.written < now - LEAST_AGE:
            why = f"above {policy.most_bytes / 1e9:g} GB of its kind, and nothing that is current was made from it"
            flipped[each.name] = replace(each, goes=True, why=why)
            over -= each.size
    return [flipped.get(each.name, each) for each in judged]
