"""Display: how frames, metrics and pictures are shown in the web UI or attached to a partition.

Lives here: metadata values. Does not live here: the plots themselves (`research.plots`).
"""

import base64
import io
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.research.account_summary import HEADLINE
from hf_pipelines.research.backtest import BacktestResult
from hf_pipelines.research.backtest.account_baselines import AccountBaselines

# What a number is shown as that the data leaves undefined.
UNDEFINED = "undefined"


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


def summary_page(summary: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """All numbers of an account: the headline as a table with intervals, below it a line for each other group."""
    lines = ["| metric | value | 95 % interval | unit |", "|---|---|---|---|"]
    others: dict[str, list[str]] = {}
    undefined: list[str] = []
    for row in summary.to_dicts():
        shown = "" if row["value"] is None else f"{row['value']:.4g}"
        span = "" if row["low"] is None or row["high"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
        if row["group"] == HEADLINE:
            lines.append(f"| {row['metric']} | {shown or UNDEFINED} | {span} | {row['unit']} |")
        elif not shown:
            undefined.append(row["metric"])
        else:
            others.setdefault(row["group"], []).append(f"{row['metric']} {shown}{f' ({span})' if span else ''}")
    if undefined:
        others[UNDEFINED] = undefined
    lines += ["", "| others | |", "|---|---|", *(f"| {group} | {', '.join(each)} |" for group, each in others.items())]
    return dg.MetadataValue.md("\n".join(lines))


def backtest_metadata(
    result: BacktestResult,
    note: str = "",
    baselines: AccountBaselines | None = None,
    summary: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Picture of a simulated account, with a note in its title where there is one, its numbers, and what it is held to."""
    from hf_pipelines.research.plots import equity_png

    metadata = {"equity": picture(equity_png(result, note=note, baselines=baselines)), **numeric(result.metrics)}
    if summary is not None:
        metadata["summary"] = summary_page(summary)
    if baselines is None:
        return metadata
    return {
        **metadata,
        "baselines": dg.MetadataValue.md(markdown_table(baselines.table)),
        "beats_random": baselines.beats_random,
    }
