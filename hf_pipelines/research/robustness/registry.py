"""The tests of robustness. A new one is one function and one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict

import polars as pl

from hf_pipelines.research.robustness import slices, stresses
from hf_pipelines.research.robustness.kept import Row, Tested

TESTS: dict[str, Callable[[Tested], Iterator[Row]]] = {
    "as traded": stresses.as_traded,
    "year": slices.by_year,
    "volatility": slices.by_volatility,
    "trend": slices.by_trend,
    "correlation": slices.by_correlation,
    "sector": slices.by_sector,
    "symbol": slices.by_symbol,
    "delay": stresses.later,
    "close": stresses.at_the_close,
    "costs": stresses.dearer,
    "without": stresses.without_the_best,
    "paths": stresses.other_paths,
    "shock": stresses.shocks,
    "window": stresses.windows,
}


def robustness_table(tested: Tested) -> pl.DataFrame:
    """Every test of an account.

    Parameters
    ----------
    tested : Tested

    Returns
    -------
    DataFrame
        A row a test: see `Row`; null where a number is not defined.
    """
    rows = [asdict(row) for run in TESTS.values() for row in run(tested)]
    return pl.DataFrame(rows).with_columns(pl.col(pl.Float64).fill_nan(None))
