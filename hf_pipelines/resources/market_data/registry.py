"""Registry of market data sources: the values of `source.type` in a market's YAML.

Lives here: the table, and reading the YAML of a source by it. Does not live here: the sources, one module each.

To add a source, write a module with its fields (`SourceSpec`), the source (`MarketDataSource`) and its `SourceEntry`, and add
one line below.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from hf_pipelines.resources.market_data import MarketDataSource
from hf_pipelines.resources.market_data.files import FILES, FilesSource
from hf_pipelines.resources.market_data.http import HTTP
from hf_pipelines.resources.market_data.lean import LEAN
from hf_pipelines.resources.market_data.references import ReferenceSource
from hf_pipelines.resources.market_data.sample import SAMPLE
from hf_pipelines.resources.market_data.source_entry import Delivery, SourceEntry, SourceMarket, SourceSpec
from hf_pipelines.resources.market_data.yfinance import YFINANCE

SOURCES: dict[str, SourceEntry] = {
    "sample": SAMPLE,
    "files": FILES,
    "http": HTTP,
    "yfinance": YFINANCE,
    "lean": LEAN,
}


@dataclass(frozen=True)
class ConfiguredSource:
    """A source as the YAML of a market gives it."""

    spec: SourceSpec

    @property
    def entry(self) -> SourceEntry:
        return SOURCES[self.spec.type]

    @property
    def delivery(self) -> Delivery | None:
        return self.entry.delivery

    def build(self, market: SourceMarket) -> MarketDataSource:
        found = self.entry.build(self.spec, market)
        if self.delivery == "files" and not isinstance(found, FilesSource):
            raise TypeError(
                f"`build` of source {self.spec.type} must return a FilesSource to be delivered as files, was {type(found).__name__}."
            )
        return found

    def build_table(self, market: SourceMarket, table: str) -> ReferenceSource:
        assert self.entry.build_table is not None  # `parse_table_source` has refused others.
        return self.entry.build_table(self.spec, market, table)


def parse_source(values: Any) -> SourceSpec:
    """The source that YAML gives: a mapping with the `type` of an entry and that entry's fields.

    Raises
    ------
    ValidationError
        With the place of each fault below the source.
    """
    return _parsed(values, SOURCES)


def parse_table_source(values: Any) -> SourceSpec:
    """As `parse_source`, of a reference table: by an entry that has some."""
    return _parsed(values, {name: entry for name, entry in SOURCES.items() if entry.build_table is not None})


def _parsed(values: Any, known: Mapping[str, SourceEntry]) -> SourceSpec:
    if isinstance(values, SourceSpec):
        return values
    if not isinstance(values, Mapping):
        raise _fault("model_type", (), values, {"class_name": "SourceSpec"})
    if "type" not in values:
        raise _fault("missing", ("type",), values)
    entry = known.get(values["type"]) if isinstance(values["type"], str) else None
    if entry is None:
        raise _fault("literal_error", ("type",), values["type"], {"expected": ", ".join(map(repr, known))})
    return entry.spec.model_validate(dict(values))


def _fault(kind: str, place: tuple[str, ...], value: Any, context: Mapping[str, str] | None = None) -> ValidationError:
    detail = InitErrorDetails(type=kind, loc=place, input=value, ctx=dict(context or {}))
    return ValidationError.from_exception_data("source", [detail])
