"""Coverage: how many outcomes lay inside their intervals, beside how many should.

Lives here: shares inside, overall, by fold, year, symbol and volatility, and how sure they are. Not here: intervals themselves (`intervals`),
the picture (`plots`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.intervals.method import CLASS_SET, LOWER, SEPARATOR, UPPER, Floats
from hf_pipelines.research.metrics.bootstrap import interval
from hf_pipelines.research.predictions import latest_predictions
from hf_pipelines.research.score_rows import draw_for_labels
from hf_pipelines.research.targets import HORIZON

SEED = 0

# A month of sessions: shorter is chance, longer is late.
VOLATILITY_SESSIONS = 20

# Terciles of fewer sessions are chance.
MIN_VOLATILITY_SESSIONS = 60

REGIMES = ("calm", "usual", "volatile")

ALL = "all"

SCHEMA: dict[str, type[pl.DataType]] = {
    "by": pl.String,
    "group": pl.String,
    "n_rows": pl.Int64,
    "n_sessions": pl.Int64,
    "nominal": pl.Float64,
    "coverage": pl.Float64,
    "deviation": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "size": pl.Float64,
}


@dataclass(frozen=True, eq=False)
class Coverage:
    """How often outcomes lay inside.

    Attributes
    ----------
    groups : DataFrame
        `horizon` where there are several; `by` ("all", "fold", "year", "symbol", "volatility"), `group`, `n_rows`, `n_sessions`, `nominal`,
        `coverage` (share of the rows inside), `deviation` (its standard deviation over sessions drawn in blocks: rows of a
        session are inside together), `low` and `high` (interval of 95 %), `size` (mean width, or mean number of classes). Null where
        there are too few sessions.
    sessions : DataFrame
        `horizon` where there are several; `session`, `n_rows`, `n_inside`, ascending.
    n_without : int
        Rows with a prediction that have no interval.
    """

    groups: pl.DataFrame
    sessions: pl.DataFrame
    n_without: int


def measure_coverage(
    predictions: pl.DataFrame,
    matrix: pl.DataFrame,
    *,
    nominal: float,
    classes: Sequence[str],
    label_sessions: int,
) -> Coverage:
    """Compare the share of outcomes inside their intervals with what was promised.

    Parameters
    ----------
    predictions : DataFrame
        From `add_intervals`.
    matrix : DataFrame
        `session`, `ts`, `label_end`, `target` of the training matrix, `horizon` where there are several: its labels tell how volatile
        the market was.
    nominal : float
        Share promised.
    classes : sequence of str
    label_sessions : int
        Sessions that a label spans.
    """
    judged = _judge(latest_predictions(predictions), classes)
    regimes = volatility_regimes(matrix)
    known = judged.filter(pl.col("is_inside").is_not_null()).join(regimes, on="session", how="left")
    horizons = known[HORIZON].unique().sort().to_list() if HORIZON in known.columns else [None]
    groups, sessions = [], []
    for horizon in horizons:
        part = known if horizon is None else known.filter(pl.col(HORIZON) == horizon)
        lead = [] if horizon is None else [pl.lit(horizon, dtype=pl.Int32).alias(HORIZON)]
        groups.append(_tabulate(part, nominal=nominal, label_sessions=label_sessions).select(*lead, pl.all()))
        inside = pl.col("is_inside").sum().cast(pl.Int64).alias("n_inside")
        by_session = part.group_by("session").agg(pl.len().cast(pl.Int64).alias("n_rows"), inside).sort("session")
        sessions.append(by_session.select(*lead, pl.all()))
    return Coverage(pl.concat(groups), pl.concat(sessions), judged.height - known.height)


def volatility_regimes(matrix: pl.DataFrame) -> pl.DataFrame:
    """How volatile the market was at each session, by what was known before it.

    The size of the labels that ended in the last `VOLATILITY_SESSIONS` sessions before it (their root mean square), among what it was at
    all earlier sessions: the lowest third is calm, the highest volatile.

    Parameters
    ----------
    matrix : DataFrame
        `session`, `ts`, `label_end`, `target`; of several horizons the shortest counts.

    Returns
    -------
    DataFrame
        `session`, `volatility` (of `REGIMES`; null where fewer than `MIN_VOLATILITY_SESSIONS` sessions are to compare with).
    """
    if HORIZON in matrix.columns:
        matrix = matrix.filter(pl.col(HORIZON) == pl.col(HORIZON).min())
    begins = matrix.group_by("session").agg(pl.col("ts").min()).sort("session")
    ended = matrix.select("label_end", square=pl.col("target").cast(pl.Float64) ** 2).sort("label_end")
    squares = np.concatenate([[0.0], np.cumsum(ended["square"].to_numpy())])
    stop = ended["label_end"].search_sorted(begins["ts"].cast(ended.schema["label_end"]), side="left").to_numpy()
    first = np.concatenate([np.zeros(VOLATILITY_SESSIONS, dtype=stop.dtype), stop])[: len(stop)]
    number = stop - first
    size = np.sqrt(np.divide(squares[stop] - squares[first], number, out=np.full(len(stop), np.nan), where=number > 0))
    found: list[str | None] = []
    for at, value in enumerate(size):
        before = size[:at][np.isfinite(size[:at])]
        if len(before) < MIN_VOLATILITY_SESSIONS or not np.isfinite(value):
            found.append(None)
            continue
        low, high = np.quantile(before, [1.0 / 3.0, 2.0 / 3.0])
        found.append(REGIMES[int(value >= low) + int(value > high)])
    return pl.DataFrame({"session": begins["session"], "volatility": pl.Series(found, dtype=pl.String)})


def coverage_in_words(found: Coverage) -> str:
    """Whether intervals hold what they promise, a sentence a horizon."""
    told = []
    for row in found.groups.filter(by=ALL).to_dicts():
        name = f"Horizon {row[HORIZON]}: o" if HORIZON in row else "O"
        size = f"{name}f intervals that promise {row['nominal']:.1%} hold {row['coverage']:.1%} of {row['n_rows']:,} outcomes"
        if row["low"] is None:
            told.append(f"{size}; {row['n_sessions']} sessions are too few to say what of it is chance.")
            continue
        size += f" ({row['low']:.1%} to {row['high']:.1%})"
        if row["low"] <= row["nominal"] <= row["high"]:
            told.append(f"{size}: no fault is seen.")
        else:
            told.append(f"{size}: they are too {'narrow' if row['coverage'] < row['nominal'] else 'wide'}.")
    if not told:
        return f"No row has an interval: too few outcomes were known before the {found.n_without:,} predictions."
    without = f" {found.n_without:,} predictions have none: too few outcomes were known before them." * bool(
        found.n_without
    )
    return " ".join(told) + without


def _judge(predictions: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Predicted rows with `is_inside`, null without an interval, and `size`."""
    known = predictions.filter(pl.col("prediction").is_finite())
    if not classes:
        inside = (pl.col("y") >= pl.col(LOWER)) & (pl.col("y") <= pl.col(UPPER))
        # With one bound unknown the other alone could say no.
        has_both = pl.col(LOWER).is_not_null() & pl.col(UPPER).is_not_null()
        return known.with_columns(is_inside=pl.when(has_both).then(inside), size=pl.col(UPPER) - pl.col(LOWER))
    # Names of classes have no separator in them.
    names = pl.col(CLASS_SET).str.split(SEPARATOR)
    outcome = pl.col("y").cast(pl.Int64).replace_strict(dict(enumerate(classes)), return_dtype=pl.String)
    number = pl.when(pl.col(CLASS_SET) == "").then(0).otherwise(names.list.len()).cast(pl.Float64)
    size = pl.when(pl.col(CLASS_SET).is_null()).then(None).otherwise(number)
    return known.with_columns(is_inside=names.list.contains(outcome), size=size)


def _tabulate(known: pl.DataFrame, *, nominal: float, label_sessions: int) -> pl.DataFrame:
    """Rows of every kind of group."""
    sessions = known["session"].unique().sort()
    place = sessions.search_sorted(known["session"]).to_numpy()
    draws = draw_for_labels(len(sessions), label_sessions=label_sessions, seed=[SEED])
    inside, size = known["is_inside"].cast(pl.Float64).to_numpy(), known["size"].cast(pl.Float64).to_numpy()
    rows: list[dict[str, object]] = []
    for by, group, names in _groupings(known):
        cells, shape = place * len(names) + group, (len(sessions), len(names))
        n, hits, sizes = (
            np.bincount(cells, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)
            for weights in (None, inside, size)
        )
        drawn: list[Floats] = []
        if draws is not None:
            with one_blas_thread():
                counts = draws.counts.astype(np.float64)
                of_rows, of_hits = counts @ n, counts @ hits
            drawn = list(np.divide(of_hits, of_rows, out=np.full_like(of_hits, np.nan), where=of_rows > 0.0).T)
        for at, name in enumerate(names):
            total = float(n[:, at].sum())
            row: dict[str, object] = {
                "by": by,
                "group": name,
                "n_rows": int(total),
                "n_sessions": int((n[:, at] > 0).sum()),
                "nominal": nominal,
                "coverage": float(hits[:, at].sum()) / total,
                "size": float(sizes[:, at].sum()) / total,
            }
            if draws is not None:
                low, high = interval(drawn[at], draws)
                row |= {"deviation": float(np.nanstd(drawn[at])), "low": low, "high": high}
            rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))


def _groupings(known: pl.DataFrame) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Kinds of groups: of each row its group's place, and the names of the groups that have rows."""
    year = known["session"].dt.year().cast(pl.String)
    everything = pl.Series([ALL], dtype=pl.String).new_from_index(0, known.height)
    regime = known["volatility"].fill_null("unknown")
    kinds = {ALL: everything, "fold": known["fold"].cast(pl.String).str.zfill(3), "year": year, "volatility": regime, "symbol": known["symbol"]}  # fmt: skip
    for by, values in kinds.items():
        if values.is_empty():
            continue
        names = [name for name in (*REGIMES, "unknown") if name in set(values)] if by == "volatility" else values.unique().sort().to_list()  # fmt: skip
        group = values.replace_strict(names, list(range(len(names))), return_dtype=pl.Int64).to_numpy()
        yield by, group, [str(int(name)) for name in names] if by == "fold" else names
