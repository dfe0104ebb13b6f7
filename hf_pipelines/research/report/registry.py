"""The table of sections, in the order of the page. A new one is one function and one line.

Lives here: what a section is, what it needs, and which command makes that. Not here: what the sections show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hf_pipelines.research.report import account, drift, lineage, model, predictions, returns, search, trades, verdict
from hf_pipelines.research.report.blocks import Block, Missing, bounded
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
    return [bounded(each) for each in section.build(results)]


SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Section(name="verdict", title="Verdict", build=verdict.verdict),
        Section(name="numbers", title="Numbers", build=account.numbers),
        Section(name="equity", title="Equity", build=account.equity),
        Section(name="drawdown", title="Drawdown", build=account.drawdown),
        Section(name="calendar", title="Months and years", build=returns.calendar),
        Section(name="windows", title="Rolling", build=returns.windows),
        Section(name="spread", title="Distribution", build=returns.spread),
        Section(name="scores", title="Scores", build=predictions.scores, needs=("cv_results",)),
        Section(name="information", title="Predictions", build=predictions.information, needs=("cv_results",)),
        Section(
            name="paths",
            title="Paths",
            build=search.paths,
            needs=("full_validation",),
            lacking="Paths of combinatorial cross-validation and neighbours of the parameters take refits, which nobody made for this week.",
            command=search.VALIDATE,
        ),
        Section(name="trials", title="Trials", build=search.trials),
        Section(
            name="controls",
            title="Controls",
            build=search.controls,
            needs=("validation",),
            command=MATERIALISE % "validation",
        ),
        Section(name="engines", title="Engines", build=search.engines),
        Section(name="importances", title="Importances", build=model.importances, needs=("cv_results",)),
        Section(name="belief", title="Calibration", build=predictions.belief, needs=("cv_results",)),
        Section(
            name="tests",
            title="Regimes and stress",
            build=search.tests,
            needs=("validation",),
            command=MATERIALISE % "validation",
        ),
        Section(name="trades", title="Trades", build=trades.trades),
        Section(name="served", title="Models", build=model.served),
        Section(
            name="record",
            title="Live and simulated",
            build=model.record,
            needs=("track_record",),
            lacking="The account of issued signals: not made for this week.",
            command=MATERIALISE % "track_record",
        ),
        Section(name="drift", title="Drift", build=drift.drift, needs=()),
        Section(name="review", title="Against bias", build=lineage.review),
        Section(name="lineage", title="Lineage", build=lineage.lineage),
    )
}
