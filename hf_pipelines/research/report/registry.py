"""The table of sections, in the order of the page. A new one is one function and one line.

Lives here: what a section is, what it needs, and which command makes that. Not here: what the sections show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hf_pipelines.research.report import account, verdict
from hf_pipelines.research.report.blocks import Block, Missing
from hf_pipelines.research.report.results import WeekResults

RETRAIN = "hfp retrain {strategy} --week {week} --with-inputs"
MATERIALISE = "hfp materialise {strategy}/%s --from {week}"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    name : str
        Its anchor.
    title : str
    build : callable
        `(results) -> blocks`, of results that have all that it needs.
    needs : tuple of str
        Stages.
    lacking : str
        What a reader is told that is not there.
    command : str
        Makes it; `{strategy}` and `{week}` stand for themselves.
    """

    name: str
    title: str
    build: Callable[[WeekResults], list[Block]]
    needs: tuple[str, ...] = ("backtest",)
    lacking: str = ""
    command: str = RETRAIN


def build_section(section: Section, results: WeekResults) -> list[Block]:
    """Blocks of a section, or what it lacks and the command that makes it."""
    if any(each not in results.parts for each in section.needs):
        command = section.command.format(strategy=results.strategy, week=results.week)
        return [Missing(section.lacking or f"{' and '.join(section.needs)} of the week: not made.", command)]
    return section.build(results)


SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Section(name="verdict", title="Verdict", build=verdict.verdict),
        Section(name="numbers", title="Numbers", build=account.numbers),
        Section(name="equity", title="Equity", build=account.equity),
        Section(name="drawdown", title="Drawdown", build=account.drawdown),
    )
}
