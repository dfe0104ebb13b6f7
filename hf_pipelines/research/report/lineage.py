"""Lineage: what the page was made of, how to make it again, and what a reviewer asks against bias, each line with its evidence.

Lives here: hashes, commands, the list. Not here: gates (`promotion`), guards (`components`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_pipelines.research.promotion import Judged
from hf_pipelines.research.report.blocks import Block, Cell, Column, Table, Text
from hf_pipelines.research.report.results import WeekResults

HASH_SHOWN = 12


@dataclass(frozen=True)
class Question:
    """What a reviewer asks: held by guards that ran before publishing (`stage/check`), or by gates."""

    asked: str
    guards: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()


QUESTIONS = (
    Question("Does a feature see the future?", gates=("replayed",)),
    Question("Do labels end before the week that they train for?", guards=("training_matrix/labels_end_before_week",)),
    Question("Was every prediction made by a model that had not seen its row?", guards=("cv_results/out_of_fold",)),
    Question("Was the model trained before the week that it serves?", guards=("fitted_model/trained_before_week",)),
    Question("Is every order filled after the bar that decided it?", guards=("backtest/fills_after_decisions",)),
    Question("Does another engine keep the same account?", gates=("engines_agree",)),
    Question("Were the members known at the time, or are they survivors?", gates=("members",)),
    Question("Is it better than what takes no skill?", gates=("beats_baselines", "beats_portfolios")),
    Question("Does it survive the count of all trials?", gates=("deflated_sharpe", "overfitting")),
    Question("Does the learner find something where nothing is?", gates=("controls",)),
    Question("Does it earn in most folds and on most paths?", gates=("stable_folds", "stable_paths")),
    Question("Was the hold-out looked at?", gates=("holdout_looks",)),
    Question("Is it made by today's code from today's data?", gates=("up_to_date",)),
)


def review(results: WeekResults) -> list[Block]:
    """The list against bias."""
    gates = {each.gate: each for each in results.decision.gates}
    rows = []
    for each in QUESTIONS:
        held, why = [], []
        for name in each.guards:
            stage, _, check = name.partition("/")
            part = results.parts.get(stage)
            passed = None if part is None else part.verdicts.get(check)
            held.append(passed)
            told = (
                "not made"
                if part is None
                else "no verdict stored"
                if passed is None
                else "passed"
                if passed
                else "failed"
            )
            why.append(f"guard {name}: {told}")
        for name in each.gates:
            if (gate := gates.get(name)) is not None:
                held.append(_answer(gate))
                why.append(f"gate {name}: {gate.why}")
        answer = "not sound" if False in held else "not known" if None in held or not held else "sound"
        rows.append((Cell(each.asked), Cell(answer), Cell(" ".join(why))))
    columns = (Column("question"), Column("answer"), Column("evidence"))
    return [Table(name="review-table", title="", columns=columns, rows=tuple(rows))]


def _answer(gate: Judged) -> bool | None:
    return None if gate.verdict == "missing" else gate.verdict == "passed" if gate.verdict != "not asked" else None


def lineage(results: WeekResults) -> list[Block]:
    """Content and code of everything that the page shows, and commands that make it again."""
    rows = tuple(
        (
            Cell(f"{results.strategy}/{stage}"),
            Cell(part.content_hash[:HASH_SHOWN]),
            Cell(part.code_version[:HASH_SHOWN]),
            Cell(part.made_at[:19].replace("T", " ")),
            Cell(", ".join(f"{asset} ({n})" for asset, n in sorted(part.inputs.items()))),
        )
        for stage, part in results.parts.items()
    )
    columns = (
        Column("asset"),
        Column("content"),
        Column("code and settings"),
        Column("made at, UTC"),
        Column("made from (partitions)"),
    )
    table = Table(name="lineage-table", title="Made from", columns=columns, rows=rows)
    commands = (
        f"hfp report {results.strategy} {results.week}",
        f"hfp reproduce {results.strategy}@{results.week}",
        f"hfp retrain {results.strategy} --week {results.week} --with-inputs",
        "hfp verify",
    )
    told = ("This page again; the model bit by bit; the week anew; every stored hash.",)
    made = Table(
        name="commands",
        title="Commands",
        columns=(Column("command"),),
        rows=tuple((Cell(f"`{each}`"),) for each in commands),
    )
    return [table, Text(told, "note"), made]
