"""Members of a decision: a row for each of them, and why it has no position.

Lives here: rows of members about which nothing is known, and which word a weight of 0 has. Not here: the words (`reason`), the weights
(`signals`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.signals.reason import HAS_POSITION, Reason

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


def reasons(
    weights: pl.DataFrame, features: pl.DataFrame, *, of_model: Sequence[str], of_rule: Sequence[str] = ()
) -> pl.DataFrame:
    """Why each row of an issue has weight 0.

    Parameters
    ----------
    weights : DataFrame
        `symbol`, `session`, `ts`, `weight`, `prediction` (NaN where there is none) and `reason`, what the rule tells (`zero_reasons`).
    features : DataFrame
        `symbol`, `session`, `ts` and the features of the members that have a bar, NaN where unknown.
    of_model, of_rule : sequence of str
        Features that the model reads, and those that the rule does.

    Returns
    -------
    DataFrame of shape (n_rows, 2)
        `reason`: "" for a position, else a word of `Reason`: what kept it from a prediction, or what the rule tells.
        `reason_detail`: of `Reason.MISSING_FEATURE` their names ("a, b, c and 2 more"), else null.
    """
    names = [*dict.fromkeys([*of_model, *of_rule])]
    unknown = {
        row[:3]: {name for name, value in zip(names, row[3:], strict=True) if value is None or not math.isfinite(value)}
        for row in features.select(*KEY_COLUMNS, *names).iter_rows()
    }
    columns = (*KEY_COLUMNS, "weight", "prediction", "reason")
    found: list[tuple[str, str | None]] = []
    for *key, weight, prediction, told in weights.select(columns).iter_rows():
        lacking = unknown.get(tuple(key))
        is_predicted = math.isfinite(prediction)
        if weight != 0.0:
            found.append((HAS_POSITION, None))
        elif lacking is None:
            found.append((Reason.NO_BAR, None))
        elif is_predicted and told != Reason.MISSING_FEATURE:
            found.append((told, None))
        elif named := [name for name in (of_rule if is_predicted else of_model) if name in lacking]:
            found.append((Reason.MISSING_FEATURE, _some(named)))
        else:
            found.append((Reason.NO_PREDICTION, None))
    return pl.DataFrame(
        [(str(word), detail) for word, detail in found],
        schema={"reason": pl.String, "reason_detail": pl.String},
        orient="row",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{', '.join(names[:NAMES_SHOWN])}{more}"
