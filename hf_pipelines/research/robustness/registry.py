"""The tests of robustness. A new one is one function and one line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
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

# What a test needs to have a row at all.
NEEDS = {
    "year": "a session with a return",
    "volatility": f"more than {slices.VOLATILITY_SESSIONS + slices.LEAST_HISTORY} sessions",
    "trend": f"more than {slices.TREND_SESSIONS} sessions",
    "correlation": f"two symbols with a bar a session, over more than {slices.CORRELATION_SESSIONS + slices.LEAST_HISTORY} sessions",
    "sector": "members with a sector",
    "symbol": "a position",
    "delay": "more bars",
    "paths": "sessions enough for blocks",
    "shock": "an account that is not ruined",
    "window": "bars that hold one of the known declines whole",
}


def untested_in_words(tests: Collection[str]) -> str:
    """Which tests have no row, and what they would need; nothing where each has one.

    Parameters
    ----------
    tests : collection of str
        Keys of `TESTS` that have a row.

    Examples
    --------
    >>> untested_in_words({*TESTS} - {"sector", "paths"})
    'not tested: sector (needs members with a sector), paths (needs sessions enough for blocks)'
    """
    told = ", ".join(f"{name} (needs {NEEDS[name]})" for name in TESTS if name not in tests and name in NEEDS)
    return f"not tested: {told}" if told else ""


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
