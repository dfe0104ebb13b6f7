"""Footer: what a stored partition carries about itself.

Lives here: its fields, its JSON text, and the kind of the asset. Does not live here: the bytes of the file (`partition_codec`),
where it lies (`partition_store`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

# 2: where sessions have hashes the content's is made of them.
FOOTER_VERSION = 2

# Kinds that code asks for. The others too are the noun of what an asset holds: `features`, `backtest`.
BARS = "bars"
FITTED_MODEL = "fitted_model"
SIGNALS = "signals"


@dataclass(frozen=True)
class Verdict:
    """What a guard found for one partition, bound to the very content it looked at.

    Attributes
    ----------
    passed : bool
    content_hash : str
        The content that was looked at; a verdict is void for any other.
    n_compared : int
        Values compared; 0 where there are none, or where a sample of the run's partitions spoke for this one.
    findings : tuple of str
        At most five, in words; empty if passed.
    """

    passed: bool
    content_hash: str
    n_compared: int
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stamp:
    """Which code made a content, in which run, and when."""

    code_version: str
    run_id: str
    created_at: str


@dataclass(frozen=True)
class Footer:
    """What the Parquet footer says of a partition.

    Attributes
    ----------
    kind : str
        What the asset holds: `bars`, `features`, `training_matrix`, `fitted_model`, `signals`.
    inputs : mapping of asset path to (partition to content hash)
        What it was built from. A key `<partition>#<session>` holds that session's hash alone.
    sources : mapping of file name to sha256
        What it was read from outside the store.
    session_hashes : mapping of ISO date to content hash
        One for each session in the frame.
    attachments : mapping of name to sha256
    facts : mapping of str to JSON value
        What else a reader may want: model family, MLflow run, metrics.
    """

    asset: str
    partition: str
    content_hash: str
    code_version: str
    run_id: str
    created_at: str
    rows: int
    available_at: tuple[str, str] | None
    inputs: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, str]
    session_hashes: Mapping[str, str]
    verdicts: Mapping[str, Verdict]
    attachments: Mapping[str, str]
    facts: Mapping[str, object]
    kind: str
    version: int = FOOTER_VERSION

    def origin(self) -> tuple[object, ...]:
        """What the content was made from and by, and how it was judged."""
        return (self.code_version, self.inputs, self.sources, self.verdicts, self.attachments)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Footer":
        fields = json.loads(text)
        verdicts = {
            name: Verdict(**{**verdict, "findings": tuple(verdict["findings"])})
            for name, verdict in fields.pop("verdicts").items()
        }
        bounds = fields.pop("available_at")
        fields.setdefault("kind", kind_by_name(fields["asset"]))
        return Footer(**fields, verdicts=verdicts, available_at=tuple(bounds) if bounds else None)


def kind_by_name(asset: str) -> str:
    """Kind of an asset where no footer says it: of footers that were written before they had one, and of damaged files.

    Examples
    --------
    >>> kind_by_name("us_tech/features/technical")
    'features'
    """
    return asset.partition("/")[2].partition("/")[0]
