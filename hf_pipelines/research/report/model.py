"""Model: what it uses, whether folds agree on that, which model was live when, and what came of its signals.

Lives here: sections of the fitted models and issued signals. Not here: importances (`explanations`).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.account_summary import ACCOUNT_METRICS
from hf_pipelines.research.explanations.evenness import evenness, evenness_in_words
from hf_pipelines.research.explanations.importance import CONTRIBUTION
from hf_pipelines.research.report.account import UNITS
from hf_pipelines.research.report.blocks import (
    Axis,
    Block,
    Cell,
    Chart,
    Column,
    Missing,
    Series,
    Table,
    Text,
    Unit,
    table_of,
)
from hf_pipelines.research.report.frames import by_session, drawn, line_of
from hf_pipelines.research.report.results import WeekResults

# Features that a figure has room for.
MOST_FEATURES = 20

WORDS = {
    "gain": "share of the gain",
    "permutation": "what a permutation of the feature costs",
    "cluster": "what a permutation of features that are alike costs",
    CONTRIBUTION: "mean size of its contribution to a prediction (SHAP)",
}

# Of a track record: what says most.
SHOWN = (
    "total_return",
    "max_drawdown",
    "sharpe_ratio",
    "hit_rate",
    "costs_total",
    "turnover_per_year",
    "benchmark_return",
    "n_sessions",
)


def importances(results: WeekResults) -> list[Block]:
    """What the folds' models use, and how far folds agree."""
    rows = results.table("cv_results", "importances")
    blocks: list[Block] = []
    if rows is None or rows.is_empty():
        blocks.append(Text(("The learner tells no importances of its folds.",)))
    else:
        for kind in rows["kind"].unique(maintain_order=True):
            blocks += _of_kind(rows.filter(kind=kind), str(kind))
        if CONTRIBUTION not in rows["kind"]:
            blocks.append(
                Missing(
                    "SHAP summary: contributions to predictions are measured where the strategy's `diagnostics.importance` asks for them.",
                    f"hfp retrain {results.strategy} --week {results.week} --with-inputs",
                )
            )
    return blocks


def _of_kind(rows: pl.DataFrame, kind: str) -> list[Block]:
    found = evenness(rows)
    table = found.table.head(MOST_FEATURES)
    mean, low, high = (drawn(table[name]) for name in ("mean", "lowest", "highest"))
    chart = Chart(
        name=f"importance-{kind}",
        title=f"Features by {WORDS.get(kind, kind)}, mean and range of folds",
        about="A bar a feature, the largest first; the line from its lowest to its highest fold.",
        x=Axis("feature", "category"),
        y=Axis(WORDS.get(kind, kind), "ratio"),
        series=(Series(name="mean of folds", x=tuple(table["name"]), y=mean, mark="bar", low=low, high=high),),
        height=300,
    )
    columns = {
        "name": Column("feature"),
        "mean": Column("mean", "number"),
        "lowest": Column("lowest fold", "number"),
        "highest": Column("highest fold", "number"),
    }
    return [
        Text((evenness_in_words(found, what="folds", ways=None),)),
        chart,
        table_of(
            found.table,
            columns,
            name=f"importance-{kind}-table",
            title="",
            reason="not told of any fold",
            key=f"cv_results/importances/{kind}",
            shown_rows=8,
        ),
    ]


def served(results: WeekResults) -> list[Block]:
    """Which model's signals were issued when."""
    found = results.served
    if found.is_empty():
        return [
            Missing(
                "No signal of the last weeks is stored.",
                f"hfp materialise {results.strategy}/signals --from {results.week}",
            )
        ]
    columns = {
        "first": Column("from", "date"),
        "last": Column("to", "date"),
        "model_week": Column("model of week"),
        "model": Column("content"),
        "n_sessions": Column("sessions", "count"),
    }
    return [table_of(found, columns, name="served-table", title="Models behind the issued signals", reason="not known")]


def record(results: WeekResults) -> list[Block]:
    """Issued signals as they performed: live and simulated apart, never in one number."""
    part = results.parts["track_record"]
    series, rows = [], []
    for (kind,), account in part.frame.partition_by("record", as_dict=True, maintain_order=True).items():
        curve = by_session(account)
        name = "issued live" if kind == "live" else f"{kind}: simulated"
        grown = curve["equity"] / float(curve["equity"][0])
        series.append(line_of(name, curve["session"], grown, role="own" if kind == "live" else "other"))
        numbers = part.facts["records"][str(kind)]
        rows += [
            (
                Cell(name),
                Cell(metric.removeprefix("n_").replace("_", " ")),
                Cell(
                    numbers.get(metric),
                    _unit(metric),
                    "under 60 sessions no figure of a year; or not defined of this account",
                    f"track_record/{kind}/{metric}",
                ),
            )
            for metric in SHOWN
        ]
    chart = Chart(
        name="record",
        title="Growth of 1 by the signals as issued",
        about="Lines: accounts that followed signals issued live, and those that were filled in later.",
        x=Axis("session", "date"),
        y=Axis("growth of 1", "ratio"),
        series=tuple(series),
        height=240,
        level=1.0,
    )
    columns = (Column("issues"), Column("number"), Column("value", "number"))
    has_live = "live" in part.facts["records"]
    told = (
        "Live and simulated issues are never pooled."
        if has_live
        else "Nothing was issued live: all of it was filled in later, knowing no more than the model of its week."
    )
    return [
        Text((told,), "plain" if has_live else "bad"),
        chart,
        Table(name="record-table", title="", columns=columns, rows=tuple(rows)),
    ]


def _unit(metric: str) -> Unit:
    return "ratio" if metric == "turnover_per_year" else UNITS[ACCOUNT_METRICS[metric].unit]
