"""Source entry: what the registry of market data sources holds of each.

Lives here: the types of an entry, of the `source` in a market's YAML, and of what a source may know of its market. Does not
live here: the sources themselves, one module each, and the table of them (`registry`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hf_pipelines.research.bar_grid import BarGrid
from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data import MarketDataSource
from hf_pipelines.resources.object_store import ObjectStore

if TYPE_CHECKING:
    # With these come Dagster and the service, which a process that only reads one source does not need.
    from hf_pipelines.partitions import MarketPartitions
    from hf_pipelines.resources.market_data.references import ReferenceSource

Delivery = Literal["files", "polled"]


class SourceSpec(BaseModel):
    """The `source` of a market or of a reference table, as its YAML gives it; an entry adds fields of its own.

    Attributes
    ----------
    type : str
        A key of `SOURCES`.
    """

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="A key of SOURCES.")


class FolderSpec(SourceSpec):
    """A source that lies in a folder or below an S3 prefix.

    Attributes
    ----------
    type : str
        A key of `SOURCES`.
    uri : str
        A folder or s3://bucket/prefix.
    endpoint : str, optional
        Of an S3 service other than AWS.
    """

    uri: str = Field(
        description="A folder or s3://bucket/prefix; a relative one lies in the landing folder (`HF_LANDING_URI`)."
    )
    endpoint: str | None = Field(
        default=None, description="Endpoint of an S3 service other than AWS; left out: `HF_S3_ENDPOINT`."
    )

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, uri: str) -> str:
        if not uri or "\0" in uri or (re.match(r"\w+:", uri) and not re.match(r"s3://[^/]", uri)):
            raise ValueError(f"must be a folder or s3://bucket/prefix, was {uri[:80]!r}.")
        return uri

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.match(r"https?://[^/]", endpoint):
            raise ValueError("must be an address such as http://127.0.0.1:9000, was none.")
        return endpoint

    def objects(self) -> ObjectStore:
        """The folder; a relative one lies in the data folder or where the deployment says, wherever a command was started."""
        is_absolute = "://" in self.uri or self.uri.startswith("/")
        uri = self.uri if is_absolute else f"{settings.landing_uri()}/{self.uri}"
        return ObjectStore(uri, self.endpoint or settings.s3_endpoint())


@dataclass(frozen=True)
class SourceMarket:
    """What a source may know of the market that it serves.

    Attributes
    ----------
    symbols : tuple of str
        Members and references.
    grid : BarGrid
        Timeframe of the bars, and when they end.
    partitions : MarketPartitions
        Sessions of the market.
    """

    symbols: tuple[str, ...]
    grid: BarGrid
    partitions: "MarketPartitions"

    @property
    def hours(self) -> Mapping[date, tuple[datetime, datetime]]:
        """Opening and closing time (UTC) of every session."""
        return self.partitions.hours


@dataclass(frozen=True)
class SourceEntry:
    """A kind of source.

    Attributes
    ----------
    spec : type
        Its fields in YAML.
    build : callable
        The source of a market. Of delivery `files` it is a `FilesSource`: a sensor looks through its folder.
    delivery : "files", "polled" or None
        How new sessions arrive: as files in a folder that a sensor watches; by polling after each close, since the source
        announces nothing; or not at all (a fixed table, read when a week is materialised).
    build_table : callable, optional
        The source of a reference table; None: it has no reference tables.
    is_checked : bool
        Whether `build` refuses what a market's YAML can have wrong: then it is called when the YAML is loaded.
    """

    spec: type[SourceSpec]
    build: Callable[[Any, SourceMarket], MarketDataSource]
    delivery: Delivery | None = None
    build_table: "Callable[[Any, SourceMarket, str], ReferenceSource] | None" = None
    is_checked: bool = False
