"""Series for drift: stationary columns of a known persistence, and what is planted into them."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl
from scipy.signal import lfilter

from hf_pipelines.research.drift import Drift, judge_drift, reference_bins, session_histograms

FIRST = date(2015, 1, 1)
REFERENCE, WINDOW = 756, 63
# Of the variance of a value, where a session has many: what all symbols of a session share.
COMMON = 0.3

# Kinds of the tables: iid, autoregressions, and changing volatility.
KINDS = ("iid", "AR 0.5", "AR 0.9", "AR 0.98", "GARCH")


def drawn_series(rng: np.random.Generator, kind: str, shape: Sequence[int]) -> np.ndarray:
    """Stationary series along the first axis, of variance 1."""
    noise = rng.standard_normal(tuple(shape))
    if kind == "GARCH":
        noise = rng.standard_normal((shape[0] + 250, *shape[1:]))
        variance, found = np.ones(tuple(shape[1:])), np.empty_like(noise)
        for place in range(len(noise)):
            found[place] = np.sqrt(variance) * noise[place]
            variance = 0.05 + 0.10 * found[place] ** 2 + 0.85 * variance
        return found[250:]
    r = 0.0 if kind == "iid" else float(kind.removeprefix("AR "))
    noise[0] /= np.sqrt(1.0 - r * r)
    return np.asarray(lfilter([1.0], [1.0, -r], noise, axis=0) * np.sqrt(1.0 - r * r))


def drawn_columns(
    rng: np.random.Generator, kinds: Sequence[str], n_sessions: int, *, n_symbols: int = 1
) -> pl.DataFrame:
    """`session` and one column a kind, named x0, x1, ...; symbols of a session share a part."""
    sessions = [FIRST + timedelta(days=place) for place in range(n_sessions)]
    columns = {}
    for place, kind in enumerate(kinds):
        values = drawn_series(rng, kind, (n_sessions, 1))
        if n_symbols > 1:
            own = drawn_series(rng, kind, (n_sessions, n_symbols))
            values = np.sqrt(COMMON) * values + np.sqrt(1.0 - COMMON) * own
        columns[f"x{place}"] = values.ravel()
    return pl.DataFrame({"session": np.repeat(np.array(sessions), n_symbols).tolist(), **columns})


def in_window(frame: pl.DataFrame, value: pl.Expr) -> pl.DataFrame:
    """Another value of the first column in the window that comes after the reference."""
    is_newest = pl.col("session") >= FIRST + timedelta(days=REFERENCE)
    return frame.with_columns(x0=pl.when(is_newest).then(value).otherwise(pl.col("x0")))


def judged(frame: pl.DataFrame, *, error: float = 0.05) -> Drift:
    """Judgement of the last sessions by all those before them."""
    begin = frame["session"].unique().sort()[-WINDOW]
    training, newest = frame.filter(pl.col("session") < begin), frame.filter(pl.col("session") >= begin)
    bins = reference_bins(training, [name for name in frame.columns if name != "session"])
    return judge_drift(session_histograms(training, bins), session_histograms(newest, bins), error=error)
