"""Split capital: an issue that follows two configurations, each with its share of the capital.

Lives here: weights and reasons of both together. Does not live here: how large the share is (`research.promotion`).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.signals.reason import HAS_POSITION, Reason


def split_capital(
    champion: pl.DataFrame, challenger: pl.DataFrame, *, share: float, challenger_version: str
) -> pl.DataFrame:
    """The champion's issue with a share of the capital given to a challenger.

    Parameters
    ----------
    champion, challenger : DataFrame
        Issues of the same members and bars.
    share : float
        Of the challenger, 0 to 1.
    challenger_version : str
        Hash of its configuration.

    Returns
    -------
    DataFrame
        The champion's rows: `weight` is that of both, `challenger_version` and `rollout_share` name the challenger and its share;
        `reason` and `reason_detail` are those of the champion where both together hold nothing. All else is the champion's.

    Raises
    ------
    ValueError
        If the rows are not the same.
    """
    beside = challenger.select(*KEY_COLUMNS, _other="weight")
    both = champion.join(beside, on=KEY_COLUMNS, how="left", maintain_order="left")
    if challenger.height != champion.height or both["_other"].null_count():
        raise ValueError(
            f"`challenger` must have the rows of the champion, had {challenger.height} of which {both.height - both['_other'].null_count()} "
            f"are among its {champion.height}."
        )
    weight = (1.0 - share) * pl.col("weight") + share * pl.col("_other")
    reason = pl.when(pl.col("reason") == HAS_POSITION).then(pl.lit(str(Reason.NO_POSITION))).otherwise(pl.col("reason"))
    is_held = weight != 0.0
    return both.with_columns(
        weight=weight,
        reason=pl.when(is_held).then(pl.lit(HAS_POSITION)).otherwise(reason),
        reason_detail=pl.when(is_held).then(pl.lit(None, dtype=pl.String)).otherwise(pl.col("reason_detail")),
        challenger_version=pl.lit(challenger_version),
        rollout_share=pl.lit(share),
    ).drop("_other")
