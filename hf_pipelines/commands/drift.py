"""Drift: what a session says of the model that decided it; the lines of `hfp drift`.

Lives here: which session is meant, and its words. Does not live here: the judgement (`research.drift`), making it
(`components.strategy_stages.drift`).
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.signals import first_issue
from hf_pipelines.components.strategy_stages.drift import MEASURES_NAME
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.drift.day import MEASURES, STABILITY_BANDS
from hf_pipelines.research.drift.judgement import DRIFTED, NOT_JUDGED

# Columns that are shown, those that have drifted or drive the shift first.
MOST_COLUMNS = 12

FRACTIONS = ("accuracy", "accuracy_to_come", "missing_share", "universe_overlap", "hit_rate")


def drift_of(pipeline: Pipeline, strategy: str, day: str | None) -> dict[str, Any]:
    """What a session says, by default the newest that there is, for programs.

    Raises
    ------
    ValueError
        If the strategy is unknown, or nothing is stored of that day.
    """
    plan = pipeline.strategy(strategy)
    asset = plan.asset("drift")
    days = pipeline.store.partitions(asset)
    if not days:
        issued = pipeline.store.partitions(plan.asset("signals"))
        session, before = (issued[-1], "") if issued else first_issue(plan, pipeline.store)
        raise ValueError(
            f"`strategy` must have a session of {asset}, has none; the daemon makes it with each session's signals, and so does: "
            f"{before}{', then ' if before else ''}hfp materialise {asset} --from {session}."
        )
    if day is not None and day not in days:
        raise ValueError(
            f"`day` must be one that {asset} has ({', '.join(days[-5:])}), was {day[:40]!r}; hfp materialise {asset} --from DAY."
        )
    key = day or days[-1]
    stored = pipeline.store.read(asset, key)
    measures = pl.DataFrame(schema=MEASURES)
    if MEASURES_NAME in stored.footer.attachments:
        measures = pl.read_parquet(io.BytesIO(pipeline.store.read_attachment(stored.footer, MEASURES_NAME)))
    ranked = stored.frame.with_columns(is_drifted=pl.col("verdict") == DRIFTED).sort(
        "is_drifted", "share", descending=[True, True], nulls_last=True, maintain_order=True
    )
    rows = ranked.drop("is_drifted").with_columns(pl.col("since").cast(pl.String)).to_dicts()
    return {
        "strategy": strategy,
        "day": key,
        **dict(stored.footer.facts),
        "columns": rows,
        "measures": measures.to_dicts(),
    }


def drift_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The verdict, what drives it and since when, the measures beside the field's bands, and what cannot be judged."""
    yield f"{found['strategy']}, {found['day']}: {found['sentence']}"
    if "model_week" in found:
        window, error = found["window_sessions"], found["family_error"]
        p = "none" if found["p"] is None else f"{found['p']:.2g}"
        yield (
            f"model of week {found['model_week']}, {found['issue_kind']} issues; {window} sessions held to training, p {p} of a family error of {error:.0%}"
        )
    if found["columns"]:
        yield ""
        shown = [_column(each) for each in found["columns"][:MOST_COLUMNS]]
        yield from text_table([("column", "verdict", "share", "since", "p", "index", "missing"), *shown])
        yield f"index: the field's bands are {STABILITY_BANDS[0]} and {STABILITY_BANDS[1]}; they call nothing"
        if (more := len(found["columns"]) - MOST_COLUMNS) > 0:
            yield f"and {more} more, with --json"
    if found["measures"]:
        yield ""
        header = ("measure", "value", "interval", "expected", "band", "n")
        yield from text_table([header, *(_measure(each) for each in found["measures"])])
    if found["lacking"]:
        yield ""
        yield "cannot be judged:"
        yield from (f"  {each}" for each in found["lacking"])


def _column(row: Mapping[str, Any]) -> tuple[str, ...]:
    is_judged = row["verdict"] != NOT_JUDGED
    return (
        row["column"],
        row["verdict"],
        "" if row["share"] is None else f"{row['share']:.0%}",
        row["since"] or "",
        f"{row['p']:.2g}" if is_judged and row["p"] is not None else "",
        "" if row["population_stability_index"] is None else f"{row['population_stability_index']:.2f}",
        f"{row['missing_window']:.0%}",
    )


def _measure(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = (_number(row, name) for name in ("low", "high"))
    return (
        row["measure"].replace("_", " "),
        _number(row, "value") or row["why"] or "not known",
        f"{low} to {high}" if low and high else "",
        _number(row, "expected"),
        _number(row, "band"),
        "" if row["n"] is None else f"{row['n']}",
    )


def _number(row: Mapping[str, Any], name: str) -> str:
    """A number of a measure in its unit, "" where there is none."""
    if row[name] is None:
        return ""
    return f"{row[name]:.1%}" if row["measure"] in FRACTIONS else f"{row[name]:.3g}"
