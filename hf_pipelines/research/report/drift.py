"""Drift: what the last session of the week that was judged says of the model.

Lives here: the section. Not here: the judgement (`research.drift`).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.drift.judgement import DRIFTED, NOT_JUDGED
from hf_pipelines.research.report.blocks import MOST_ROWS, Block, Column, Text, table_of
from hf_pipelines.research.report.results import WeekResults

# Sentences of what cannot be judged that are shown.
MOST_LACKING = 8

UNDEFINED = "cannot be judged; see the sentence above, or hfp drift"

COLUMNS = {
    "column": Column("column"),
    "part": Column("part"),
    "verdict": Column("verdict"),
    "share": Column("share of the shift", "fraction"),
    "since": Column("since", "date"),
    "p": Column("p", "ratio"),
    "population_stability_index": Column("stability index", "ratio"),
    "kolmogorov_smirnov": Column("Kolmogorov-Smirnov", "ratio"),
    "wasserstein": Column("Wasserstein", "ratio"),
    "missing_window": Column("missing", "fraction"),
}
MEASURES = {
    "measure": Column("measure"),
    "value": Column("value", "number"),
    "low": Column("from", "number"),
    "high": Column("to", "number"),
    "expected": Column("expected", "number"),
    "band": Column("band of the field", "number"),
}


def drift(results: WeekResults) -> list[Block]:
    """What the week says of drift: the sentence, the measures, and the columns that drive it."""
    part = results.parts.get("drift")
    if part is None:
        return [Text(("No session of the week was judged: drift is made in the run that issues its signals.",))]
    facts = part.facts
    raised = any(each["is_raised"] for each in facts["standing"].values())
    blocks: list[Block] = [
        Text((f"By the close of {facts['session']}: {facts['sentence']}",), tone="bad" if raised else "plain")
    ]
    if lacking := facts["lacking"]:
        blocks.append(Text(("Cannot be judged:", *lacking[:MOST_LACKING]), tone="note"))
    measures = part.tables.get("measures")
    if measures is not None and not measures.is_empty():
        shown = measures.with_columns(pl.col("measure").str.replace_all("_", " "))
        blocks.append(table_of(shown, MEASURES, name="drift-measures", title="Measures", reason=UNDEFINED))
    if not part.frame.is_empty():
        n = {word: part.frame.filter(verdict=word).height for word in (DRIFTED, NOT_JUDGED)}
        ranked = part.frame.with_columns(first=pl.col("verdict") == DRIFTED).sort(
            "first", "share", descending=True, nulls_last=True, maintain_order=True
        )
        note = f"{n[DRIFTED]} of {part.frame.height} columns have drifted, {n[NOT_JUDGED]} cannot be judged."
        blocks.append(
            table_of(
                ranked.head(MOST_ROWS),
                COLUMNS,
                name="drift-columns",
                title="Columns, what drives the shift first",
                reason=UNDEFINED,
                note=note,
                shown_rows=12,
            )
        )
    return blocks
