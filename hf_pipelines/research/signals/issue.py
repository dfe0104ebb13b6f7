"""Issues: the columns of issued signals, and those of earlier versions read as of today.

Lives here: the schema, and what older files stand for in it. Not here: making an issue (`components.strategy_stages.signals`), what
each column means to a reader (`commands.contracts`).

| version | rows and columns |
|---|---|
| 1 | members with a prediction; no `reason` |
| 2 | every member; `reason` in words of its own; `lower` and `upper`, or `class_set`, where the strategy has intervals |
| 3 | every member and every column of `ISSUE_COLUMNS`; `reason` is one of `Reason` |
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.signals.reason import HAS_POSITION, Reason

SIGNALS_SCHEMA_VERSION = 3

_TIME = pl.Datetime("us", "UTC")

# New ones come at the end.
ISSUE_COLUMNS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "ts": _TIME,
    "weight": pl.Float64(),
    "prediction": pl.Float64(),
    "confidence": pl.Float64(),
    "reason": pl.String(),
    "model_version": pl.String(),
    "model_as_of": _TIME,
    "as_of": _TIME,
    "created_at": _TIME,
    "issue_kind": pl.String(),
    "lower": pl.Float64(),
    "upper": pl.Float64(),
    "class_set": pl.String(),
    "reason_detail": pl.String(),
    "calibrated_probability": pl.Float64(),
    "rule_version": pl.String(),
    "sizing_version": pl.String(),
    "challenger_version": pl.String(),
    "rollout_share": pl.Float64(),
}

# Words of version 2.
_UNKNOWN, _NO_HISTORY = "unknown: ", "too little history for the learner"


def upgrade_issue(issue: pl.DataFrame) -> pl.DataFrame:
    """An issue of any version in the columns of the newest.

    Parameters
    ----------
    issue : DataFrame of shape (n_rows, n_columns)
        As it is stored.

    Returns
    -------
    DataFrame of shape (n_rows, 21)
        The same rows in their order, with the columns of `ISSUE_COLUMNS`: null in those that its version has not. Reasons of version 2
        in words of `Reason`; of version 1 "" for a position, else null. Columns of a later version are left out.

    Examples
    --------
    >>> old = pl.DataFrame({"symbol": ["A", "B"], "weight": [0.5, 0.0], "reason": ["", "unknown: rsi_14"]})
    >>> upgrade_issue(old).select("symbol", "reason", "reason_detail", "rollout_share").rows()
    [('A', '', None, None), ('B', 'missing feature', 'rsi_14', None)]
    """
    reason = (
        pl.col("reason") if "reason" in issue.columns else pl.when(pl.col("weight") != 0.0).then(pl.lit(HAS_POSITION))
    )
    words = issue.with_columns(reason=reason)
    is_unknown = pl.col("reason").str.starts_with(_UNKNOWN)
    if "reason_detail" not in issue.columns:
        words = words.with_columns(reason_detail=pl.when(is_unknown).then(pl.col("reason").str.strip_prefix(_UNKNOWN)))
    words = words.with_columns(
        reason=pl.when(is_unknown)
        .then(pl.lit(Reason.MISSING_FEATURE))
        .when(pl.col("reason") == _NO_HISTORY)
        .then(pl.lit(Reason.NO_PREDICTION))
        .otherwise("reason")
    )
    return words.select(
        (pl.col(name) if name in words.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in ISSUE_COLUMNS.items()
    )
