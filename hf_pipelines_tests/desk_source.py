"""A source of a researcher's own, outside of the package: one table of bars that a desk writes anew after each close.

Lives here: a source as the guide describes it; a market names this module in `modules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from hf_pipelines.research.content_hash import content_hash
from hf_pipelines.resources.market_data import SourceFile, by_week
from hf_pipelines.resources.market_data.source_entry import SourceEntry, SourceSpec


class DeskSpec(SourceSpec):
    """`table`: path of a Parquet file with the columns of the bars contract."""

    table: str


@dataclass(frozen=True)
class DeskSource:
    table: Path
    symbols: tuple[str, ...]

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        return {file.name: file.sha256 for file in self.read(sessions)}

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        bars = pl.read_parquet(self.table).filter(pl.col("symbol").is_in(self.symbols))
        files = []
        for week, days in by_week(sessions).items():
            of_week = bars.filter(pl.col("session").is_in(days))
            files.append(SourceFile(f"desk/{week}", content_hash(of_week), of_week, tuple(days)))
        return files


DESK = SourceEntry(
    spec=DeskSpec,
    build=lambda spec, market: DeskSource(Path(spec.table), market.symbols),
    delivery="polled",
)
SOURCES = {"desk": DESK}
