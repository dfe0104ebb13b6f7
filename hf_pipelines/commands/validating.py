"""Validating: what a sceptic asks of a stored backtest; the lines of `hfp validate`.

Lives here: what is read, and the words. Does not live here: the tests (`research.robustness`, `research.overfitting`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from hf_pipelines.commands.reconcile import stored_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.trials import Scope, summarise
from hf_pipelines.components.strategy_stages.accounts import middle_of
from hf_pipelines.components.strategy_stages.decided_weights import decide
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, trade
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.robustness import Tested, robustness_table, signs_of
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.judging import judge_choice
from hf_pipelines.resources.trial_ledger.trials import counted, select


def validation_of(pipeline: Pipeline, strategy: str, week: str | None) -> dict[str, Any]:
    """Tests of the backtest of a week, by default the latest that there is, for programs.

    Raises
    ------
    ValueError
        If the strategy is unknown or has no backtest of that week.
    """
    plan = pipeline.strategy(strategy)
    weeks = pipeline.store.partitions(plan.asset("backtest"))
    if not weeks:
        raise ValueError(
            f"`strategy` must have a backtest, {strategy} has none; hfp retrain {strategy} --week SUNDAY --with-inputs."
        )
    if week is not None and week not in weeks:
        raise ValueError(
            f"`week` must be one of which {strategy} has a backtest ({', '.join(weeks[-5:])}), was {week[:40]!r}; hfp retrain "
            f"{strategy} --week SUNDAY --with-inputs."
        )
    key = week or max(weeks)
    tested = _tested(pipeline, plan, key)
    table = robustness_table(tested)
    return {
        "strategy": strategy,
        "week": key,
        "signs": [asdict(each) for each in signs_of(tested, table)],
        "trials": _trials(pipeline, strategy),
        "table": table.to_dicts(),
    }


def _tested(pipeline: Pipeline, plan: StrategyPlan, week: str) -> Tested:
    decided = decide(plan, stored_of(pipeline, plan, week), week, horizon=plan.decided_horizon)
    result = middle_of({path: trade(plan, weights, decided.bars) for path, weights in decided.weights.items()})
    return Tested(
        panel=result.panel,
        costs=plan.backtest.costs,
        execution=plan.backtest.execution,
        sessions_per_year=usual_sessions(plan.market.partitions.calendar_name)[0],
        sectors=plan.market.universe.sectors,
    )


def _trials(pipeline: Pipeline, strategy: str) -> dict[str, Any]:
    """What the ledger says of the search: the deflated Sharpe ratio of its best trial, and what became of choosing."""
    every = TrialLedger(pipeline.store.objects, "").known()
    scope = Scope(strategy=strategy)
    known = every.filter(strategy=strategy).height
    if not known:
        return {"counted": 0, "deflation": None, "choice": None, "n_compared": 0}
    found = summarise(pipeline.store, scope)
    choice, n_compared = judge_choice(pipeline.store.objects, counted(select(every, **asdict(scope))))
    told = None
    if choice is not None:
        told = {
            "probability": choice.probability,
            "probability_of_loss": choice.probability_of_loss,
            "n_trials": choice.n_trials,
            "n_blocks": choice.n_blocks,
        }
    return {
        "counted": found["counted"],
        "deflation": found["deflation"],
        "choice": told,
        "n_compared": n_compared,
    }


def validation_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The signs first, then the search, then every test; and whether each line is sound."""
    yield f"{found['strategy']}, week {found['week']}: its out-of-fold account, kept again under other conditions", True
    for each in found["signs"]:
        yield f"{each['name']}: {each['told']}", False
    if not found["signs"]:
        claims = (found["table"][0]["low"] or 0.0) > 0.0
        yield (
            (
                "no sign that it lives on one thing"
                if claims
                else "its Sharpe ratio is not above zero with certainty: there is nothing that could live on anything"
            ),
            True,
        )
    yield from ((line, True) for line in _of_trials(found["trials"]))
    yield "", True
    head = ("test", "", "sessions", "Sharpe a year", "interval", "return", "drawdown")
    yield from ((line, True) for line in text_table([head, *(_cells(row) for row in found["table"])]))


def _of_trials(trials: Mapping[str, Any]) -> Iterator[str]:
    counted = "1 trial counts" if trials["counted"] == 1 else f"{trials['counted']:,} trials count"
    if trials["deflation"] is None:
        yield f"{counted}; none has a return series: nothing can be deflated"
        return
    probability = trials["deflation"]["deflated"]
    yield f"{counted}; that the best of them is above zero, given so many: {probability:.0%} (deflated Sharpe ratio)"
    choice = trials["choice"]
    if choice is None:
        yield (
            f"probability of backtest overfitting: needs two trials on the same sessions, at least 32 of them; the most that share theirs "
            f"are {trials['n_compared']}"
        )
    else:
        yield (
            f"probability of backtest overfitting: {choice['probability']:.0%}, of {choice['n_trials']} trials on the same sessions in "
            f"{choice['n_blocks']} blocks; that the chosen one loses: {choice['probability_of_loss']:.0%}"
        )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["test"],
        row["name"] if row["name"] != row["test"] else "",
        f"{row['n_sessions']:,}",
        "" if row["sharpe"] is None else f"{row['sharpe']:.2f}",
        "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
        f"{row['total_return']:+.1%}",
        f"{row['max_drawdown']:.1%}",
    )
