"""Overview of several runs: each score of all of them with the best, and how far their predictions agree.

Lives here: the tables. Not here: the tests (`comparison`), their words (`overview_words`), the picture (`plots.overview`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl

from hf_pipelines.research.comparison import Comparison, Contestant
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.session_values import common_rows

AGREEMENT: dict[str, type[pl.DataType]] = {
    "one": pl.String,
    "other": pl.String,
    "n_rows": pl.Int64,
    "correlation": pl.Float64,
    "rank_correlation": pl.Float64,
    "same_sign": pl.Float64,
}


def score_overview(found: Comparison) -> pl.DataFrame:
    """Each score of all runs on what they have in common.

    Returns
    -------
    DataFrame
        A row for each `score`: `values`, one a run in the order of `found.names`, null where the run has none; `best`, names of those
        with the best one; `p`, where two have the score that a difference as large is chance (by Holm over all tests of
        the comparison), null where there is no test; `members`, of more than two those that may be the best with 95 % confidence,
        null where there is no test.
    """
    rows = []
    for score in found.scores["score"].unique(maintain_order=True):
        of_score = found.scores.filter(score=score)
        values = dict(zip(of_score["other"], of_score["other_value"], strict=True))
        values[found.names[0]] = of_score["first_value"][0]
        known = {name: value for name, value in values.items() if value is not None}
        target = (max if is_better_higher(score) else min)(known.values()) if known else None
        best = [name for name in found.names if known.get(name) == target and name in known]
        together = found.together.filter(score=score)
        rows.append(
            {
                "score": score,
                "values": [values.get(name) for name in found.names],
                "best": best,
                "p": of_score["p_holm"][0] if of_score.height == 1 else None,
                "members": together["members"][0].to_list() if together.height else None,
            }
        )
    schema = {
        "score": pl.String(),
        "values": pl.List(pl.Float64()),
        "best": pl.List(pl.String()),
        "p": pl.Float64(),
        "members": pl.List(pl.String()),
    }
    return pl.DataFrame(rows, schema=schema)


def prediction_agreement(contestants: Sequence[Contestant], neutral: Sequence[float | None]) -> pl.DataFrame:
    """How far the predictions of each pair agree, on the rows that both predict.

    Parameters
    ----------
    neutral : sequence of float or None
        Of each run the prediction that is neither up nor down; None of a target without a direction.

    Returns
    -------
    DataFrame
        A row for each pair: `one`, `other`, `n_rows`; `correlation` (Pearson) and `rank_correlation` (Spearman) of both, over all rows, null
        where one predicts the same everywhere; `same_sign`, share of the rows on which both lie on the same side of what is neutral, null without a direction. Of rows that
        several paths predict the mean is taken.
    """
    rows = []
    for (a, one), (b, other) in combinations(enumerate(contestants), 2):
        left, right = common_rows([one.predictions, other.predictions])
        keys = [name for name in ("symbol", "ts", "horizon") if name in left.columns and name in right.columns]
        both = _mean(left, keys).join(_mean(right, keys), on=keys, suffix="_other")
        x, y = both["prediction"].to_numpy(), both["prediction_other"].to_numpy()
        middle = neutral[a], neutral[b]
        same = None
        if len(x) and middle[0] is not None and middle[1] is not None:
            same = float((np.sign(x - middle[0]) == np.sign(y - middle[1])).mean())
        rows.append(
            {
                "one": one.name,
                "other": other.name,
                "n_rows": len(x),
                **_correlations(x, y),
                "same_sign": same,
            }
        )
    return pl.DataFrame(rows, schema=AGREEMENT)


def indexed_equity(contestants: Sequence[Contestant]) -> list[pl.DataFrame | None]:
    """Equity of each run's account from the first session that all accounts have, 1 there; of several paths the middle one.

    Returns
    -------
    list of DataFrame or None
        `session`, `equity`; None where there is no account, or it was worth nothing by then.
    """
    curves = [None if each.equity is None else _middle(each.equity) for each in contestants]
    begins = [each["session"].min() for each in curves if each is not None and each.height]
    found: list[pl.DataFrame | None] = []
    for each in curves:
        kept = None if each is None else each.filter(pl.col("session") >= max(begins))  # type: ignore[type-var]
        if kept is None or kept.is_empty() or not kept["equity"][0] > 0.0:
            found.append(None)
        else:
            found.append(kept.with_columns(equity=pl.col("equity") / kept["equity"][0]))
    return found


def _mean(predictions: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    return predictions.group_by(keys).agg(pl.col("prediction").cast(pl.Float64).mean())


def _middle(equity: pl.DataFrame) -> pl.DataFrame:
    """The account of one path: the one that ends in the middle."""
    curve = equity
    if "path" in equity.columns:
        ends = equity.sort("session").group_by("path").agg(pl.col("equity").last()).sort("equity", "path")
        curve = equity.filter(path=ends["path"][(ends.height - 1) // 2])
    # Below a day a session has several bars.
    return curve.sort("session").group_by("session", maintain_order=True).agg(pl.col("equity").last())


def _correlations(x: np.ndarray, y: np.ndarray) -> dict[str, float | None]:
    if len(x) < 2 or not (np.ptp(x) > 0.0 and np.ptp(y) > 0.0):
        return {"correlation": None, "rank_correlation": None}
    from scipy.stats import pearsonr, spearmanr

    return {"correlation": float(pearsonr(x, y).statistic), "rank_correlation": float(spearmanr(x, y).statistic)}
