"""Reconcile: do all engines keep the account of a backtest alike; the lines of `hfp reconcile`.

Lives here: which stored inputs are read, and the words. Does not live here: the comparison (`components.strategy_stages.reconciliation`,
`research.backtest.reconcile`), parsing of arguments (`cli`).
"""

from collections.abc import Iterator
from time import perf_counter

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.decided_weights import stored_inputs
from hf_pipelines.components.strategy_stages.reconciliation import ALL_OF_THEM, askable, reconciled, without_uncovered


def reconcile_lines(pipeline: Pipeline, strategy: str, week: str) -> Iterator[tuple[str, bool]]:
    """Hold all engines to each other on everything that the backtest of a week trades: lines, and whether each is sound.

    Raises
    ------
    ValueError
        If the strategy or what it reads is not there, or all engines refuse the account.
    """
    plan = pipeline.strategy(strategy)
    # Refuses what is no week of it.
    pipeline.partition_keys(plan.asset("backtest"), week, week, named=("week", "week"))
    compared, uncovered = without_uncovered(plan, ALL_OF_THEM)
    yield from ((line, True) for line in uncovered)
    names, without = askable(compared, ALL_OF_THEM)
    for name, why in without.items():
        yield f"could not compare with {name}: {why}", True
    if len(names) < 2:
        yield f"{strategy} {week}: nothing was compared", False
        return
    began = perf_counter()
    for path, found in reconciled(plan, stored_inputs(plan, pipeline.store, week), week, names):
        of = f"{strategy} {week}" + (f" path {path}" if path is not None else "")
        for each in found.agreements:
            if each.divergence is not None:
                yield f"{of}: {each.divergence}", False
                continue
            apart = ", ".join(f"{name} {value:.1e}" for name, value in each.largest.items())
            yield (
                f"{of}: {each.engine} agrees with {each.against} on {each.n_bars} bars of {each.n_symbols} symbols; largest "
                f"differences as fractions of equity: {apart}",
                True,
            )
        for name, told in found.failed.items():
            yield f"{of}: {name} did not finish: {told}", False
    yield f"{strategy} {week}: {', '.join(names)} compared in {perf_counter() - began:.1f} s", True
