"""Session values: what predictions and accounts are worth session by session, as a comparison takes them.

Lives here: series of one value a session whose means are scores. Not here: scores of any sessions drawn
(`metrics.session_scores`), tests of differences (`significance`, `comparison`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hf_pipelines.research.metrics import information_coefficient
from hf_pipelines.research.metrics.predictions import class_codes
from hf_pipelines.research.metrics.session_scores import LEAST_PROBABILITY
from hf_pipelines.research.predictions import ROW_PARTS, latest_predictions
from hf_pipelines.research.targets import HORIZON

COEFFICIENT, RETURN = "information_coefficient", "net_return"

# Labels of two strategies are alike up to this: the same bars give the same to the last bits.
SAME_LABEL = 1e-9

PROBABILITY = "probability_"


def row_keys(predictions: Sequence[pl.DataFrame]) -> list[str]:
    """What tells rows apart that several sets of predictions may share; a row of several paths is one."""
    has_horizons = all(HORIZON in each.columns for each in predictions)
    return ["symbol", "ts", *([HORIZON] if has_horizons else [])]


def common_rows(predictions: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """The rows of each set that all sets predict, those of models that were trained the latest."""
    known = [latest_predictions(each).filter(pl.col("prediction").is_finite()) for each in predictions]
    keys, kept = row_keys(predictions), known[0]
    for each in known[1:]:
        kept = kept.join(each.select(keys).unique(), on=keys, how="semi")
    shared = kept.select(keys).unique()
    return [each.join(shared, on=keys, how="semi", maintain_order="left") for each in known]


def have_same_labels(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Whether two sets of the same rows were made to predict the same: classes and labels."""
    if (HORIZON in one.columns) != (HORIZON in other.columns) or _classes(one) != _classes(other):
        return False
    keys = row_keys([one, other])
    labels = [each.select(*keys, "y", "target").unique(keys) for each in (one, other)]
    both = labels[0].join(labels[1], on=keys, suffix="_other")
    far = pl.any_horizontal(
        ((pl.col(name) - pl.col(f"{name}_other")).abs() > SAME_LABEL).fill_null(value=True) for name in ("y", "target")
    )
    return not both.select(far.any()).item()


def prediction_values(predictions: pl.DataFrame) -> pl.DataFrame:
    """Scores of each session, whose means over sessions are those of all rows.

    Parameters
    ----------
    predictions : DataFrame
        From `common_rows`. Of rows that several paths predict the losses are averaged.

    Returns
    -------
    DataFrame
        `session`; of classes `accuracy`, `brier` and `log_loss`, of values `mse` and `mae`: sums over the session's rows,
        divided by the mean number of rows; `information_coefficient`, NaN where undefined. Sorted by session.
    """
    # Sorted, so that sums have the same last bits in every run.
    rows = predictions.sort("ts", "symbol", *(name for name in ROW_PARTS if name in predictions.columns))
    keys = ["session", *row_keys([rows])]
    of_rows = rows.select(keys, **_row_scores(rows)).group_by(keys, maintain_order=True).mean()
    names = [name for name in of_rows.columns if name not in keys]
    sums = of_rows.group_by("session", maintain_order=True).agg(pl.col(names).sum(), n=pl.len()).sort("session")
    by_session = sums.select("session", *(pl.col(name) / pl.col("n").mean() for name in names))
    return by_session.join(_coefficients(rows), on="session", how="left", maintain_order="left")


def _classes(predictions: pl.DataFrame) -> list[str]:
    return [name for name in predictions.columns if name.startswith(PROBABILITY)]


def _row_scores(predictions: pl.DataFrame) -> dict[str, pl.Series]:
    """Of each row, as `classification_metrics` and `regression_metrics` have them."""
    y = predictions["y"].cast(pl.Float64).to_numpy()
    if not _classes(predictions):
        error = y - predictions["prediction"].cast(pl.Float64).to_numpy()
        return {"mse": pl.Series(error**2), "mae": pl.Series(np.abs(error))}
    probability = predictions.select(_classes(predictions)).cast(pl.Float64).to_numpy()
    codes = class_codes(y)
    occurred = np.eye(probability.shape[1])[codes]
    of_code = probability[np.arange(len(codes)), codes]
    squares = ((probability - occurred) ** 2).sum(axis=1)
    return {
        "accuracy": pl.Series((probability.argmax(axis=1) == codes).astype(np.float64)),
        "brier": pl.Series(squares / 2.0 if probability.shape[1] == 2 else squares),
        "log_loss": pl.Series(-np.log(np.maximum(of_code, LEAST_PROBABILITY))),
    }


def _coefficients(predictions: pl.DataFrame) -> pl.DataFrame:
    """Information coefficient of each session, the mean over paths and horizons."""
    by = [name for name in ROW_PARTS if name in predictions.columns]
    parts = predictions.partition_by(by) if by else [predictions]
    found = pl.concat([information_coefficient(each).select("session", COEFFICIENT) for each in parts])
    return found.group_by("session").agg(pl.col(COEFFICIENT).mean()).sort("session")


def account_values(equity: pl.DataFrame) -> pl.DataFrame:
    """Net return of each session after the first, from close to close; the mean over paths where there are several.

    Parameters
    ----------
    equity : DataFrame
        Of a stored backtest: `session`, `ts`, `equity`, `path` where there are several.

    Returns
    -------
    DataFrame
        `session`, `net_return`; sorted by session.
    """
    by = ["path"] if "path" in equity.columns else []
    closes = equity.sort(*by, "ts").group_by(*by, "session", maintain_order=True).agg(pl.col("equity").last())
    change = pl.col("equity") / (pl.col("equity").shift(1).over(by) if by else pl.col("equity").shift(1)) - 1.0
    returns = closes.select("session", change.alias(RETURN)).drop_nulls()
    return returns.group_by("session").agg(pl.col(RETURN).mean()).sort("session")
