"""Contract over every source of the registry, and the YAML by which one is chosen."""

from datetime import date
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.research.bar_grid import BarGrid
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.market_data.registry import SOURCES, ConfiguredSource, parse_source, parse_table_source
from hf_pipelines.resources.market_data.source_entry import SourceEntry, SourceMarket, SourceSpec
from hf_pipelines_tests.desk_source import DESK

# What each needs in YAML; a new entry needs a line here.
EXAMPLES: dict[str, dict[str, Any]] = {
    "sample": {},
    "files": {"uri": "/nowhere"},
    "http": {"base_url": "http://127.0.0.1:9"},
    "yfinance": {},
    "lean": {"uri": "/nowhere", "prices": "prices.parquet"},
    "desk": {"table": "/nowhere/bars.parquet"},
}
PARTITIONS = MarketPartitions("XNYS", "America/New_York", date(2013, 2, 19), date(2013, 3, 1))
MARKET = SourceMarket(("AAPL", "MSFT"), BarGrid("1d", "America/New_York"), PARTITIONS)


@pytest.fixture(autouse=True)
def desk(monkeypatch):
    monkeypatch.setitem(SOURCES, "desk", DESK)


def test_every_source_has_an_example():
    assert set(EXAMPLES) == set(SOURCES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_source_is_built_from_its_yaml_and_delivers_as_it_says(name):
    configured = ConfiguredSource(parse_source({"type": name, **EXAMPLES[name]}))
    assert configured.spec.type == name
    source = configured.build(MARKET)
    assert isinstance(source, FilesSource) == (configured.delivery == "files")
    if name != "desk":
        assert (source.listing([]), source.read([])) == ({}, [])


@pytest.mark.parametrize("name", EXAMPLES)
def test_source_refuses_a_field_that_it_has_not_and_lacks_none_without_a_word(name):
    with pytest.raises(ValidationError) as found:
        parse_source({"type": name, **EXAMPLES[name], "adress": 1})
    assert [(each["loc"], each["type"]) for each in found.value.errors()] == [(("adress",), "extra_forbidden")]
    if EXAMPLES[name]:
        with pytest.raises(ValidationError) as found:
            parse_source({"type": name})
        assert {each["type"] for each in found.value.errors()} == {"missing"}


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "desk" and SOURCES[name].build_table])
def test_source_of_tables_reads_them(name):
    configured = ConfiguredSource(parse_table_source({"type": name, **EXAMPLES[name]}))
    table = configured.build_table(MARKET, "news")
    assert table.read("news", [], PARTITIONS.hours[date(2013, 2, 19)][0]) == {}


def test_source_without_tables_is_none_for_a_reference_table():
    with pytest.raises(ValidationError) as found:
        parse_table_source({"type": "desk", **EXAMPLES["desk"]})
    (error,) = found.value.errors()
    assert (error["loc"], error["ctx"]) == (("type",), {"expected": "'files', 'http'"})


def test_source_that_says_files_and_has_no_folder_is_refused(monkeypatch):
    monkeypatch.setitem(SOURCES, "wrong", SourceEntry(SourceSpec, lambda spec, market: pl, delivery="files"))
    with pytest.raises(TypeError, match="`build` of source wrong must return a FilesSource to be delivered as files"):
        ConfiguredSource(SourceSpec(type="wrong")).build(MARKET)
