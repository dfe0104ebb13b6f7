"""Judging: a chosen trial beside all that count.

Lives here: what the ledger knows of the trials, as the deflation takes it. Does not live here: the statistics
(`research.overfitting`).
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.overfitting import Deflation, SharpeEstimate, deflate
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger.records import RETURNS
from hf_pipelines.resources.trial_ledger.returns import read_returns, side_by_side
from hf_pipelines.resources.trial_ledger.segments import Unreadable


def sharpes_of(counted: pl.DataFrame) -> NDArray[np.float64]:
    """Sharpe ratio per period of each trial, NaN where it has none."""
    return counted["estimate"].struct.field("sharpe").fill_null(float("nan")).to_numpy()


def best_of(counted: pl.DataFrame) -> pl.DataFrame:
    """The trial with the highest Sharpe ratio, one row; none where none has one."""
    ordered = counted.sort(pl.col("estimate").struct.field("sharpe"), nulls_last=False, maintain_order=True)
    return _estimated(ordered).tail(1)


def estimate_of(trials: pl.DataFrame) -> SharpeEstimate | None:
    """Sharpe ratio per session of the last of some trials that has one; None where none has."""
    known = _estimated(trials).select(pl.col("estimate").struct.unnest())
    if known.is_empty():
        return None
    sharpe, n, skew, kurtosis = known.select("sharpe", "n", "skew", "kurtosis").row(-1)
    return SharpeEstimate(sharpe, int(n), skew, kurtosis)


def _estimated(trials: pl.DataFrame) -> pl.DataFrame:
    """Trials with an estimate: the ledger may hold what others have written, and moments that no distribution has are none."""
    field = pl.col("estimate").struct.field
    numbers = [field(each) for each in ("sharpe", "n", "skew", "kurtosis")]
    is_known = [each.is_not_null() & each.is_finite() for each in numbers]
    least = 1.0 + field("skew") ** 2
    return trials.filter(*is_known, field("n") >= 2, field("kurtosis") >= least * (1.0 - 1e-9))


def judge(objects: ObjectStore, counted: pl.DataFrame, chosen: SharpeEstimate) -> tuple[Deflation, list[Unreadable]]:
    """Deflate a Sharpe ratio by the trials that count, itself among them; also return series that are gone or were changed.

    A trial without its series counts as independent of all others.
    """
    named = counted["returns"].drop_nulls().unique(maintain_order=True)
    read = {digest: read_returns(objects, digest) for digest in named}
    series = [each for each in read.values() if each is not None]
    lacking = [
        Unreadable(objects.address(f"{RETURNS}/{digest}"), "gone, or not the return series that was stored")
        for digest, each in read.items()
        if each is None
    ]
    deflation = deflate(
        chosen, sharpes=sharpes_of(counted), returns=side_by_side(series), n_trials=max(counted.height, len(series), 1)
    )
    return deflation, lacking
