"""The record of full replays: which stored contents were replayed row by row, and which of them were rejected.

Lives here: one small JSON object an asset. Does not live here: the replay (`components.market_stages.features`), when it is asked
for (`components.automation.replaying`).
"""

import json
from dataclasses import dataclass, field

from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError

RECORDS = "_replayed"


@dataclass
class ReplayRecord:
    """What was replayed in full of an asset.

    Attributes
    ----------
    confirmed : dict of partition to content hash
    rejected : dict of partition to (content hash, what was found)
    """

    confirmed: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, tuple[str, str]] = field(default_factory=dict)

    def is_known(self, partition: str, content_hash: str) -> bool:
        """Whether this very content was replayed already."""
        return content_hash in (self.confirmed.get(partition), self.rejected.get(partition, ("", ""))[0])


def read_record(store: PartitionStore, asset: str) -> ReplayRecord:
    """The record of an asset, empty if nothing was ever replayed."""
    try:
        fields = json.loads(store.objects.get(f"{RECORDS}/{asset}.json"))
    except ObjectMissingError:
        return ReplayRecord()
    rejected = {partition: (digest, found) for partition, (digest, found) in fields["rejected"].items()}
    return ReplayRecord(fields["confirmed"], rejected)


def write_record(store: PartitionStore, asset: str, record: ReplayRecord) -> None:
    """Replace the record of an asset."""
    fields = {"confirmed": record.confirmed, "rejected": record.rejected}
    store.objects.put(f"{RECORDS}/{asset}.json", json.dumps(fields, indent=1, sort_keys=True).encode())
