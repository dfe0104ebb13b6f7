"""Verdict: may it be promoted, and what is to be known before anything else.

Lives here: the sentence on top and the table of gates. Not here: what gates ask (`promotion`).
"""

from __future__ import annotations

from hf_pipelines.research.metrics import ANNUAL_SESSIONS
from hf_pipelines.research.promotion import Judged
from hf_pipelines.research.promotion.gate import Threshold
from hf_pipelines.research.report.blocks import Block, Cell, Column, Table, Text
from hf_pipelines.research.report.results import WeekResults

UNGATED = "Its YAML has no `gates`: the model of the week serves whatever these say. They are the defaults."

SIMULATED = "All of it is simulated on past prices: an account of out-of-fold predictions, not money that was earned."


def honest_sentence(results: WeekResults) -> str:
    """What a reader is to take away who reads nothing else.

    Returns
    -------
    str
        Whether the gates let it pass, what the account earned after costs, beside the benchmark and beside chance.
    """
    metrics, decision = results.metrics, results.decision
    n_sessions = int(results.account["session"].n_unique())
    earned = metrics["total_return"]
    told = f"{'Earned' if earned > 0.0 else 'Lost'} {abs(earned):.1%} after costs in {n_sessions:,} simulated sessions"
    baselines = results.table("backtest", "baselines")
    if baselines is not None:
        # The strategy itself, the benchmark where it has one, equal weights, random strategies.
        name, held = baselines.select("account", "total_return").row(1)
        told += f"; {name}, made {held:+.1%}" if "," in name else f"; {name} made {held:+.1%}"
    beaten = results.parts["backtest"].facts.get("beats_random")
    if beaten is not None:
        told += f". Of random strategies that trade as much {1.0 - float(beaten):.0%} did at least as well"
    probability = next((each.value for each in decision.gates if each.gate == "deflated_sharpe"), None)
    if isinstance(probability, float):
        told += f"; that its Sharpe ratio is above 0, given every trial, has a probability of {probability:.0%}"
    verdict = (
        "Passes every gate."
        if decision.is_passed
        else f"Not to be trusted with money: {len(decision.failed)} of {len(decision.gates)} gates fail."
    )
    few = "" if n_sessions >= ANNUAL_SESSIONS else f" Fewer than {ANNUAL_SESSIONS} sessions: no figure of a year."
    return f"{verdict} {told}.{few}"


def verdict(results: WeekResults) -> list[Block]:
    """The gates, those that stand in the way first."""
    decision = results.decision
    ordered = sorted(decision.gates, key=lambda each: each.is_passed)
    notes = [SIMULATED, *([] if decision.is_gated else [UNGATED])]
    return [Text(tuple(notes), "note"), _gates(ordered)]


def _gates(gates: list[Judged]) -> Table:
    rows = []
    for each in gates:
        asked = "nothing" if each.threshold is None or each.threshold is False else _in_words(each.threshold)
        command = f" Make it: `{each.command}`" if each.command else ""
        rows.append(
            (
                Cell(each.gate),
                Cell(each.verdict),
                _value(each),
                Cell(f"{asked} (weaker than {_in_words(each.default)})" if each.is_weaker else asked),
                Cell(f"{each.why}{command}"),
            )
        )
    columns = (Column("gate"), Column("verdict"), Column("value", "number"), Column("asked"), Column("why"))
    return Table(name="gates", title="Gates", columns=columns, rows=tuple(rows))


def _value(judged: Judged) -> Cell:
    key = f"gates/{judged.gate}"
    if judged.value is None:
        return Cell(None, "number", judged.why, key)
    if isinstance(judged.value, str):
        return Cell(judged.value, "text")
    return Cell(judged.value, "number", key=key)


def _in_words(value: Threshold) -> str:
    return Cell(value, "number").text
