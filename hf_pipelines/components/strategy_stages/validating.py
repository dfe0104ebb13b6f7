"""Validating: what a sceptic asks of an account, out of the stored predictions, bars and features.

Lives here: which accounts are tested, and what is found, as JSON. Does not live here: the tests (`research.robustness`,
`research.signal_quality`), what is stored of them (`validation`), what the ledger and other strategies say (`commands.validating`).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from hf_pipelines.components.strategy_stages.decided_weights import Decided
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.backtest import build_trading_panel
from hf_pipelines.research.backtest.result import columns_of
from hf_pipelines.research.plots.frames import drawn_predictions, outcomes_by_quantile
from hf_pipelines.research.robustness import Tested, robustness_table, signs_of
from hf_pipelines.research.signal_quality import capacity, decay_by_horizon, rank_turnover

# For the code version of what is made of it.
FUNCTIONS = (
    *(build_trading_panel, columns_of, Tested, robustness_table, signs_of),
    *(drawn_predictions, outcomes_by_quantile, decay_by_horizon, rank_turnover, capacity),
)


def tested_paths(plan: StrategyPlan, decided: Decided) -> dict[int | None, Tested]:
    """The account of each path, with the volumes that it traded among."""
    execution = plan.backtest.execution
    return {
        path: Tested(
            panel=build_trading_panel(
                weights, decided.bars, extra=sorted({*columns_of(execution, plan.backtest.costs), "volume"})
            ),
            costs=plan.backtest.costs,
            execution=execution,
            sessions_per_year=usual_sessions(plan.market.partitions.calendar_name)[0],
            sectors=plan.market.universe.sectors,
        )
        for path, weights in decided.weights.items()
    }


def doubted(plan: StrategyPlan, decided: Decided, by_path: Mapping[int | None, Tested]) -> dict[str, Any]:
    """What is found of the accounts of a week.

    Parameters
    ----------
    plan : StrategyPlan
    decided : Decided
    by_path : mapping of path to Tested
        See `tested_paths`.

    Returns
    -------
    dict
        `table`: DataFrame, a row a test, of the path of the middle return (see `robustness_table`); and as JSON, in which None is not
        defined, `signs` (name, told), `doubts` about the members (str), `paths` (rows, the lowest return first; none of one account),
        `signal`.
    """
    path = middle_path(by_path)
    tested = by_path[path]
    table = robustness_table(tested)
    return {
        "signs": [asdict(each) for each in signs_of(tested, table)],
        "doubts": list(plan.market.universe.doubts(tested.panel.session[-1])),
        "paths": _paths(by_path),
        "signal": _signal(plan, decided, path, tested),
        "table": table,
    }


def middle_path(by_path: Mapping[int | None, Tested]) -> int | None:
    """The path whose numbers are shown: that of the middle return, as `backtest` shows it."""
    ordered = sorted(by_path, key=lambda path: by_path[path].account.equity[-1])
    return ordered[(len(ordered) - 1) // 2]


def _paths(by_path: Mapping[int | None, Tested]) -> list[dict[str, Any]]:
    """A row for each path of cross-validation, the lowest return first; none where there is one account alone."""
    if len(by_path) == 1:
        return []
    rows = [asdict(each.row("path", f"path {path}", each.returns)) for path, each in by_path.items()]
    ordered = sorted(rows, key=lambda row: row["total_return"])
    return [{name: None if value != value else value for name, value in row.items()} for row in ordered]


def _signal(plan: StrategyPlan, decided: Decided, path: int | None, tested: Tested) -> dict[str, Any]:
    """What the predictions are worth by themselves, and how much money they bear."""
    of_path = decided.by_path[path]
    members = decided.bars.filter(pl.col("symbol").is_in(of_path["symbol"].unique().implode()))
    found = {
        "quantiles": outcomes_by_quantile(drawn_predictions(of_path)).to_dicts(),
        "decay": decay_by_horizon(of_path, members).to_dicts(),
        "rank_turnover": rank_turnover(of_path),
        "capacity": capacity(tested.account, tested.panel),
        "currency": plan.market.currency,
    }
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in found.items()}
