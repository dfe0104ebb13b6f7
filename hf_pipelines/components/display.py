"""Display: how frames, metrics and pictures are shown in the web UI or attached to a partition.

Lives here: metadata values. Does not live here: the plots themselves (`research.plots`).
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.research.account_summary import A_YEAR, ACCOUNT_METRICS, FRACTION, HEADLINE, OF_INITIAL
from hf_pipelines.research.backtest import BacktestResult
from hf_pipelines.research.backtest.account_baselines import AccountBaselines
from hf_pipelines.research.plots.account import AccountLabel, equity_png
from hf_pipelines.resources import settings

# What a number is shown as that the data leaves undefined.
UNDEFINED = "undefined"


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def numeric(metrics: Any) -> dict[str, float]:
    """Metrics as plain floats; undefined ones (NaN) are left out, never shown as a number."""
    return {name: float(value) for name, value in metrics.items() if value == value}


def picture(draw: Callable[..., bytes], *arguments: Any, **named: Any) -> dg.MarkdownMetadataValue:
    """A PNG in the page, or words where pictures are not wanted (HF_PICTURES): to draw one takes a fifth of a second.

    Parameters
    ----------
    draw : callable
        Returns the PNG, of `arguments` and `named`.
    """
    if settings.pictures() == settings.NO_PICTURES:
        return dg.MetadataValue.md(NOT_DRAWN)
    return dg.MetadataValue.md(
        f"![picture](data:image/png;base64,{base64.b64encode(draw(*arguments, **named)).decode()})"
    )


NOT_DRAWN = "not drawn: HF_PICTURES is none"

# Columns of a table that a window of 1440 points shows whole; of more, rows and columns change places.
MOST_COLUMNS = 8
# Columns of values beside the names, once they have.
VALUES_A_BLOCK = 6

# Numbers that are fractions of something, by the ends of their names: shown as percentages.
FRACTIONS = (
    *("accuracy", "precision", "recall", "hit_rate", "f1"),
    *(
        "_return",
        "_volatility",
        "_drawdown",
        "_exposure",
        "costs_total",
        "fees_total",
        "slippage_total",
        "borrow_total",
    ),
    *("dividends_total", "min_cash", "weight", "beats_random", "trained_on_later", "coverage"),
)

# Numbers of an account, by their unit; a turnover is a multiple.
ACCOUNT_FRACTIONS = frozenset(
    each.name for each in ACCOUNT_METRICS.values() if each.unit in (FRACTION, A_YEAR, OF_INITIAL)
) - {"turnover_per_year"}

# Below it a percentage has a second digit: a loss of 0.02 % a trade is no 0.0 %.
SMALL = 0.01


def shown(name: str, value: object) -> str:
    """A value as a person reads it: fractions as percentages, instants as dates, what is not known as nothing.

    Examples
    --------
    >>> shown("value_at_risk_95", 0.011647), shown("expectancy", -0.000165), shown("turnover_per_year", 66.09)
    ('1.2%', '-0.02%', '66.09')
    >>> shown("total_return", -0.1131), shown("sharpe_ratio", -0.3391), shown("n_rows", 1200), shown("fold", None)
    ('-11.3%', '-0.3391', '1200', '')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        if name in ACCOUNT_FRACTIONS or name.endswith(FRACTIONS):
            return f"{value:.2%}" if 0 < abs(value) < SMALL else f"{value:.1%}"
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")


def in_words(metrics: Mapping[str, float], names: Sequence[str]) -> str:
    """Some of the metrics in a line, those that are there."""
    there = [name for name in names if name in metrics and metrics[name] == metrics[name]]
    return ", ".join(f"{name.replace('_', ' ')} {shown(name, metrics[name])}" for name in there)


# The UI shows shorter Markdown in the column of values, which has room for three columns, and cuts off what is wider.
SHOWN_IN_PLACE = 1_000


def in_a_window(text: str) -> dg.MarkdownMetadataValue:
    """Markdown that is shown behind a click, in a window of its own: for a table of more than three columns."""
    return dg.MetadataValue.md(text if len(text) >= SHOWN_IN_PLACE else f"{text}\n".ljust(SHOWN_IN_PLACE))


def markdown_table(frame: pl.DataFrame) -> str:
    """A frame as a table that is shown whole: a wide one lies on its side, in as many parts as it takes."""
    cells = [[shown(name, value) for value in _dated(frame[name])] for name in frame.columns]
    if frame.width <= MOST_COLUMNS:
        return _table(frame.columns, list(zip(*cells, strict=True)))
    by, *names = frame.columns
    parts = []
    for first in range(0, max(frame.height, 1), VALUES_A_BLOCK):
        part = slice(first, first + VALUES_A_BLOCK)
        parts.append(
            _table([by, *cells[0][part]], [[name, *cells[at][part]] for at, name in enumerate(names, start=1)])
        )
    return "\n\n".join(parts)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _dated(values: pl.Series) -> pl.Series:
    """Instants as dates, with the time where a date has several."""
    if not isinstance(values.dtype, pl.Datetime):
        return values
    is_daily = values.n_unique() == values.dt.date().n_unique()
    return values.dt.strftime("%Y-%m-%d" if is_daily else "%Y-%m-%d %H:%M")


# What says most of predictions, in the line above their numbers.
SCORES_HEADLINE = (
    *("accuracy", "balanced_accuracy", "log_loss", "baseline_log_loss", "rmse", "r2"),
    *("information_coefficient", "information_coefficient_t"),
)

# What says most of an account, in the line above its numbers.
ACCOUNT_HEADLINE = (
    *("total_return", "annual_return", "annual_volatility", "sharpe_ratio", "max_drawdown"),
    *("turnover_per_year", "costs_total", "mean_gross_exposure"),
)


def summary_page(summary: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """All numbers of an account: the headline as a table with intervals, below it a line for each other group."""
    lines = ["| metric | value | 95 % interval | unit |", "|---|---|---|---|"]
    others: dict[str, list[str]] = {}
    undefined: list[str] = []
    for row in summary.to_dicts():
        number = shown(row["metric"], row["value"])
        low, high = (shown(row["metric"], row[end]) for end in ("low", "high"))
        span = f"{low} to {high}" if low and high else ""
        if row["group"] == HEADLINE:
            lines.append(f"| {row['metric']} | {number or UNDEFINED} | {span} | {row['unit']} |")
        elif not number:
            undefined.append(row["metric"])
        else:
            others.setdefault(row["group"], []).append(f"{row['metric']} {number}{f' ({span})' if span else ''}")
    if undefined:
        others[UNDEFINED] = undefined
    lines += ["", "| others | |", "|---|---|", *(f"| {group} | {', '.join(each)} |" for group, each in others.items())]
    return in_a_window("\n".join(lines))


def backtest_metadata(
    result: BacktestResult,
    note: str = "",
    baselines: AccountBaselines | None = None,
    summary: pl.DataFrame | None = None,
    *,
    label: AccountLabel | None = None,
    benchmark: tuple[str, pl.DataFrame] | None = None,
) -> dict[str, Any]:
    """Headline, picture of an account, with a note in its title where there is one, its numbers, and what it is held to."""
    drawn = picture(equity_png, result, label=label, note=note, baselines=baselines, benchmark=benchmark)
    metadata = {"headline": in_words(result.metrics, ACCOUNT_HEADLINE), "equity": drawn}
    if summary is not None:
        metadata["summary"] = summary_page(summary)
    if baselines is not None:
        metadata |= {
            "baselines": in_a_window(markdown_table(baselines.table)),
            "beats_random": baselines.beats_random,
        }
    return {**metadata, **numeric(result.metrics)}
