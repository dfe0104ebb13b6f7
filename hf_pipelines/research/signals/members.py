"""Members of a decision: a row for each of them, and why it has no position.

Lives here: rows of members about which nothing is known, and the words of a weight of 0. Not here: the weights (`signals`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS

NO_BAR = "no bar"
NO_POSITION = "no position by the rule"
NO_HISTORY = "too little history for the learner"
# Unknown features named in a reason.
NAMES_SHOWN = 3


def add_absent_members(predictions: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """Add a row for each member without one, so that weights are shares of members.

    Parameters
    ----------
    predictions : DataFrame
        `symbol`, `session`, `ts` and numbers; rows at the same `ts` are decided together.
    members : DataFrame
        `symbol` and `session`: who belongs to the universe on each session.

    Returns
    -------
    DataFrame
        Sorted by (ts, symbol): the rows given, and at each `ts` the members of its session that have none, every
        number NaN: nothing is known of them.
    """
    times = predictions.select("session", "ts").unique()
    expected = members.select("symbol", "session").join(times, on="session", how="inner").select(KEY_COLUMNS)
    absent = expected.join(predictions, on=KEY_COLUMNS, how="anti")
    numbers = [
        pl.lit(float("nan")).cast(dtype).alias(name) for name, dtype in predictions.schema.items() if dtype.is_float()
    ]
    return pl.concat([predictions, absent.with_columns(numbers)], how="diagonal").sort("ts", "symbol")


def reasons(weights: pl.DataFrame, features: pl.DataFrame, *, names: Sequence[str]) -> pl.Series:
    """Why each row of an issue has weight 0, in words.

    Parameters
    ----------
    weights : DataFrame
        `symbol`, `session`, `ts`, `weight` and `prediction`, NaN where there is none.
    features : DataFrame
        `symbol`, `session`, `ts` and the features `names` of the members that have a bar, NaN where unknown.
    names : sequence of str
        Features that the model reads.

    Returns
    -------
    Series of str of shape (n_rows,)
        "" for a position; `NO_BAR` for a member without a bar; "unknown: a, b and 2 more" where features kept it
        from a prediction; `NO_HISTORY` where its features are known and the learner still cannot predict it; `NO_POSITION` where
        the rule takes none.
    """
    unknown = {
        row[:3]: [name for name, value in zip(names, row[3:], strict=True) if value is None or not math.isfinite(value)]
        for row in features.select(*KEY_COLUMNS, *names).iter_rows()
    }
    found = []
    for symbol, session, ts, weight, prediction in weights.select(*KEY_COLUMNS, "weight", "prediction").iter_rows():
        lacking = unknown.get((symbol, session, ts))
        if weight != 0.0:
            found.append("")
        elif lacking is None:
            found.append(NO_BAR)
        elif math.isfinite(prediction):
            found.append(NO_POSITION)
        elif not lacking:
            found.append(NO_HISTORY)
        else:
            more = f" and {len(lacking) - NAMES_SHOWN} more" if len(lacking) > NAMES_SHOWN else ""
            found.append(f"unknown: {', '.join(lacking[:NAMES_SHOWN])}{more}")
    return pl.Series("reason", found, dtype=pl.String)
