"""Display: how frames, metrics and pictures are shown in the web UI or attached to a partition.

Lives here: metadata values. Does not live here: the plots themselves (`research.plots`).
"""

import base64
import io
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.research.backtest import BacktestResult
from hf_pipelines.research.backtest.account_baselines import AccountBaselines


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def numeric(metrics: Any) -> dict[str, float]:
    """Metrics as plain floats; undefined ones (NaN) are left out, never shown as a number."""
    return {name: float(value) for name, value in metrics.items() if value == value}


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})")


def markdown_table(frame: pl.DataFrame) -> str:
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * frame.width]
    for row in frame.iter_rows():
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def backtest_metadata(
    result: BacktestResult, note: str = "", baselines: AccountBaselines | None = None
) -> dict[str, Any]:
    """Picture, with a note in its title where there is one, and metrics of a simulated account; with baselines their table."""
    from hf_pipelines.research.plots import equity_png

    metadata = {"equity": picture(equity_png(result, note=note, baselines=baselines)), **numeric(result.metrics)}
    if baselines is None:
        return metadata
    return {
        **metadata,
        "baselines": dg.MetadataValue.md(markdown_table(baselines.table)),
        "beats_random": baselines.beats_random,
    }
