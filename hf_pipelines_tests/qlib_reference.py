"""Qlib's own Alpha158 over bars in memory, for tests and the benchmark.

Lives here: a feature provider, Qlib's extension point for where data come from, and the run of Qlib's dataset
processor over it. Does not live here: any formula; names and expressions are Qlib's.
"""

import tempfile

import numpy as np
import pandas as pd
import polars as pl

from hf_pipelines.research.adjustment import price_factor
from hf_pipelines.research.bars import PRICE_COLUMNS


class _InMemory:
    """Qlib's `FeatureProvider` over one frame a symbol."""

    def __init__(self, frames: dict[str, pd.DataFrame]) -> None:
        self.frames = frames

    def feature(self, instrument: str, field: str, start: object, end: object, freq: str) -> pd.Series:
        """One column as float64; Qlib's files hold float32, in which its running sums lose the third digit."""
        return self.frames[instrument][field.removeprefix("$")]


def as_qlib_reads(bars: pl.DataFrame) -> dict[str, pd.DataFrame]:
    """Member bars, adjusted up front for all their events, with the `vwap` that ours supposes."""
    price = price_factor().fill_nan(1 / pl.col("split_ratio"))
    # Of all events after the bar.
    since = {"by": price, "shares": pl.col("split_ratio")}
    later = [
        factor.cum_prod(reverse=True).shift(-1, fill_value=1.0).over("symbol").alias(n) for n, factor in since.items()
    ]
    adjusted = bars.filter(pl.col("role") == "member").with_columns(later).select(
        "symbol", pl.col("ts").dt.replace_time_zone(None).alias("datetime"),
        *(pl.col(name) * pl.col("by") for name in PRICE_COLUMNS), pl.col("volume") * pl.col("shares"),
        vwap=(pl.col("high") + pl.col("low") + pl.col("close")) / 3 * pl.col("by"),
    )  # fmt: skip
    return {
        str(symbol): frame.drop("symbol").to_pandas().set_index("datetime")
        for (symbol,), frame in adjusted.group_by("symbol", maintain_order=True)
    }


def expressions() -> dict[str, str]:
    """Qlib's expression of each of its 158 names, in its order."""
    from qlib.contrib.data.loader import Alpha158DL

    formulas, names = Alpha158DL.get_feature_config()
    return dict(zip(names, formulas, strict=True))


def qlib_features(
    frames: dict[str, pd.DataFrame], formulas: dict[str, str] | None = None, *, processes: int = 1
) -> pd.DataFrame:
    """Float32 columns named as in `formulas`, default all of Alpha158, one row a symbol and time."""
    import qlib
    from qlib.config import C
    from qlib.data.cache import H
    from qlib.data.data import DatasetProvider, ExpressionD, FeatureD, LocalExpressionProvider

    if not C.registered:
        with tempfile.TemporaryDirectory() as nowhere:
            qlib.init(provider_uri=nowhere, logging_level=40, kernels=1)
    FeatureD.register(_InMemory(frames))
    ExpressionD.register(LocalExpressionProvider(time2idx=False))
    C["kernels"] = processes
    # Symbols of an earlier call may bear the same names.
    H.clear()
    formulas = formulas or expressions()
    with np.errstate(all="ignore"):
        computed = DatasetProvider.dataset_processor(list(frames), list(formulas.values()), None, None, "day")
    return computed.set_axis(list(formulas), axis=1)
