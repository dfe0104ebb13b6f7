"""Reconciliation of a backtest: the same weights and bars by other engines.

Lives here: which engines can be asked, the check `engines_agree` on a sample of symbols, and all of a week for `hfp reconcile`. Does
not live here: the comparison (`research.backtest.reconcile`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import polars as pl

from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.decided_weights import Decided, decide
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.research.backtest import ENGINES, INSTALL_ENGINES, asked_of_engine, missing_modules
from hf_pipelines.research.backtest.reconcile import REFERENCE, Reconciliation, reconcile, sample_of
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

# Of the check: what backtrader keeps in less than a second. vectorbt takes that long to import alone: `hfp reconcile` asks it too.
CHECKED_BY = (REFERENCE, "backtrader")
SAMPLED_SYMBOLS, SAMPLED_BARS = 3, 250

ALL_OF_THEM = tuple(name for name, engine in ENGINES.items() if engine.keeps_contract)


def askable(plan: StrategyPlan, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Engines that can be compared, the strategy's own first if it keeps the contract, and why others cannot."""
    own = plan.backtest.engine
    # An own engine that keeps another contract is not compared: it is meant to differ.
    wanted = dict.fromkeys([*([own] if ENGINES[own].keeps_contract else []), *names])
    asked = asked_of_engine(
        plan.backtest.costs,
        plan.backtest.execution,
        shorts=plan.rule.needs.shorts,
        max_gross=plan.rule.needs.max_gross,
    )
    without = {}
    for name in wanted:
        if missing := missing_modules(name):
            without[name] = f"{', '.join(missing)} is not installed; {INSTALL_ENGINES}"
        elif lacking := sorted(set(asked) - ENGINES[name].capabilities):
            without[name] = f"it does not simulate {', '.join(lacking)}"
    return [name for name in wanted if name not in without], without


def without_uncovered(plan: StrategyPlan, names: Sequence[str]) -> tuple[StrategyPlan, list[str]]:
    """The strategy without the kinds of costs that not all of some engines book, and what is to be said of that.

    Fills, events, cash and flat costs of an account are compared all the same; of the kinds left out nothing is.
    """
    covered = frozenset.intersection(*(ENGINES[name].capabilities for name in names))
    costs = plan.backtest.costs
    if not (left := [name for name, _ in costs.kinds if name not in covered]):
        return plan, []
    unable = [name for name in names if not {*left} <= ENGINES[name].capabilities]
    kept = tuple((name, params) for name, params in costs.kinds if name in covered)
    cheaper = replace(plan, backtest=replace(plan.backtest, costs=replace(costs, kinds=kept)))
    return cheaper, [
        f"compared without {', '.join(left)}, which {' and '.join(unable)} cannot book: only the reference says so"
    ]


def compare_engines(
    plan: StrategyPlan, weights: pl.DataFrame, bars: pl.DataFrame, names: Sequence[str]
) -> Reconciliation:
    """Run engines on the same weights and bars."""
    backtest = plan.backtest
    return reconcile(
        {
            name: partial(
                ENGINES[name].run,
                weights,
                bars,
                backtest.costs,
                backtest.execution,
                periods_per_year=plan.market.bars_per_year,
            )
            for name in names
        }
    )


def agreement(plan: StrategyPlan, decided: Callable[[], Decided], key: str) -> Finding:
    """Whether another engine keeps the same account of a week; a pass that compared nothing says why."""
    compared_plan, uncovered = without_uncovered(plan, CHECKED_BY)
    names, without = askable(compared_plan, CHECKED_BY)
    told = tuple(uncovered) + tuple(f"could not compare with {name}: {why}" for name, why in without.items())
    if len(names) < 2:
        return Finding(True, 0, told)
    of_week = decided()
    weights = next(iter(of_week.weights.values()))
    seed = [int(key.replace("-", ""))]
    weights, bars = sample_of(weights, of_week.bars, n_symbols=SAMPLED_SYMBOLS, n_bars=SAMPLED_BARS, seed=seed)
    if weights.is_empty():
        return Finding(True, 0, ("nothing to compare: no symbol is held",))
    try:
        found = compare_engines(compared_plan, weights, bars, names)
    except ValueError as e:
        # All of them refuse the sample, such as an account that some symbols alone would ruin.
        return Finding(True, 0, (f"could not compare: {e}",))
    compared = sum(each.n_bars * (each.n_symbols + 2) for each in found.agreements)
    return Finding(found.agrees, compared, (*found.findings(), *told))


def engines_check(plan: StrategyPlan) -> StageCheck:
    """Whether another engine keeps the same account, on some symbols drawn by the week and the last bars."""

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        return agreement(plan, lambda: decide(plan, inputs, key, horizon=plan.decided_horizon), key)

    return StageCheck(
        "engines_agree",
        f"Another engine ({', '.join(CHECKED_BY[1:])}) keeps the same equity, cash and shares, on {SAMPLED_SYMBOLS} symbols drawn by "
        f"the week and the last {SAMPLED_BARS} bars; all of it: hfp reconcile.",
        evaluate,
    )


def reconciled(
    plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str, names: Sequence[str]
) -> Iterator[tuple[int | None, Reconciliation]]:
    """Each path of a week, whole, by some engines."""
    decided = decide(plan, inputs, key, horizon=plan.decided_horizon)
    plan, _ = without_uncovered(plan, names)
    for path, weights in decided.weights.items():
        yield path, compare_engines(plan, weights, decided.bars, names)
