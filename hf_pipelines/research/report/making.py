"""Making: the page of a strategy and week, and the numbers that stand on it.

Lives here: its head, and the table that is stored beside it. Not here: sections (`registry`), HTML (`page`).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from hf_pipelines.research.report.blocks import Table
from hf_pipelines.research.report.page import PageFiles, Shown, render
from hf_pipelines.research.report.registry import SECTIONS, build_section
from hf_pipelines.research.report.results import WeekResults
from hf_pipelines.research.report.verdict import honest_sentence

NUMBERS: dict[str, type[pl.DataType]] = {
    "section": pl.String,
    "table": pl.String,
    "key": pl.String,
    "value": pl.Float64,
    "text": pl.String,
    "reason": pl.String,
}


@dataclass(frozen=True)
class Page:
    """A page that was made.

    Attributes
    ----------
    html : bytes
    sentence : str
        On top of it.
    shown : tuple of Shown
        Its sections.
    """

    html: bytes
    sentence: str
    shown: tuple[Shown, ...]


def make_page(results: WeekResults, files: PageFiles) -> Page:
    """The page of a strategy and week.

    Parameters
    ----------
    results : WeekResults
    files : PageFiles

    Returns
    -------
    Page
        Equal results give equal bytes.
    """
    shown = tuple(Shown(each.name, each.title, tuple(build_section(each, results))) for each in SECTIONS.values())
    sentence = honest_sentence(results)
    sessions = results.account["session"]
    html = render(
        "page.html",
        shown,
        files,
        title=f"{results.strategy}, week {results.week}",
        lead=sentence,
        tone="good" if results.decision.is_passed else "bad",
        under=[
            *results.description.splitlines()[:1],
            f"Market {results.market}, out-of-fold account {sessions[0]} to {sessions[-1]}, in {results.currency or 'the currency of its prices'}.",
        ],
        foot=f"Made of what was stored until {results.until}; every number is that of the stored table.",
    )
    return Page(html, sentence, shown)


def numbers_of(page: Page) -> pl.DataFrame:
    """The numbers of a page, as they are stored beside it.

    Returns
    -------
    DataFrame
        A row a number, in the order of the page: `section`, `table`, `key` (where it is stored), `value`, null where it is undefined, `text`
        as a reader sees it, `reason` why it is undefined.
    """
    rows = [
        {
            "section": section.name,
            "table": block.name,
            "key": cell.key,
            "value": float(cell.value) if cell.is_defined and isinstance(cell.value, int | float) else None,
            "text": cell.text,
            "reason": "" if cell.is_defined else cell.reason,
        }
        for section in page.shown
        for block in section.blocks
        if isinstance(block, Table)
        for row in block.rows
        for cell in row
        if cell.key
    ]
    return pl.DataFrame(rows, schema=NUMBERS)
