"""Ranking: points in order after deflation, each beside its neighbours.

Lives here: deflated Sharpe ratios, neighbours, plateaus, the choice. Not here: how many trials there were (`resources.trial_ledger`).

References
----------
Bailey & López de Prado (2014), "The Deflated Sharpe Ratio", J. Portfolio Management 40(5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.overfitting import (
    deflated_sharpe_ratio,
    estimate_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe_ratio,
    variance_of_trials,
)
from hf_pipelines.research.sweep.entries import COMPLETED, SCORES, PointEntry
from hf_pipelines.research.sweep.points import point_key
from hf_pipelines.research.tuning.space import Categorical, Point, Space, Value

CHOICES = ("best", "plateau")

# Of a sampled point so many of the nearest ones are its neighbours.
NEAREST = 6

VERDICT = (
    "Best of {n} points: Sharpe ratio a year {sharpe:.2f}. The best of {independent} independent trials without skill ({trials} in the "
    "ledger) is expected to show {expected:.2f}; deflated Sharpe ratio {deflated:.3f} ({probabilistic:.3f} if it were the only trial). "
    "Its {neighbours} neighbours: {mean} in the mean, {worst} the worst."
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranked:
    """A sweep in order.

    Attributes
    ----------
    table : DataFrame
        A row a point, by rank: a column for each dimension (null where it is not asked for), `point` as JSON, `state`, `reason`, the
        numbers of `SCORES`, `probabilistic` and `deflated` Sharpe ratio, `neighbours_mean`, `neighbours_worst` of the annual
        Sharpe ratio and `neighbours`, how many have one; `rank`, `is_chosen`. Null where undefined.
    chosen : mapping or None
        Row of the chosen point, None where none has a Sharpe ratio.
    verdict : str
    """

    table: pl.DataFrame
    chosen: dict[str, Any] | None
    verdict: str


def rank_points(
    points: Sequence[Point],
    entries: Sequence[PointEntry],
    space: Space,
    *,
    is_grid: bool,
    choice: str = "best",
    n_trials: int | None = None,
    n_independent: int | None = None,
    trials_variance: float | None = None,
    sessions_per_year: float,
) -> Ranked:
    """Put points in order of their deflated Sharpe ratio.

    Parameters
    ----------
    points, entries : sequence
        As they were swept.
    space : Space
    is_grid : bool
        Whether the points are all of the space: then neighbours are one step away in every dimension at most; else the nearest
        ones, distances measured over the range of each dimension.
    choice : {"best", "plateau"}
        The first in order, or the one that is highest in the mean with its neighbours.
    n_trials, n_independent : int, optional
        Trials that count, and how many of them are independent; left out: the points.
    trials_variance : float, optional
        Of their Sharpe ratios per session; left out: of the points.
    sessions_per_year : float

    Returns
    -------
    Ranked
    """
    estimates = [estimate_sharpe(each.returns) if len(each.returns) >= 2 else None for each in entries]
    known = [at for at, each in enumerate(estimates) if each is not None and math.isfinite(each.sharpe)]
    n_trials = max(len(points), n_trials or 0)
    n_independent = n_trials if n_independent is None else n_independent
    probabilistic, deflated = np.full((2, len(points)), np.nan)
    expected = math.nan
    if known:
        sharpes = [estimates[at].sharpe for at in known]  # type: ignore[union-attr]  # known ones are none of None
        n_returns = max(estimates[at].n for at in known)  # type: ignore[union-attr]
        variance = variance_of_trials(sharpes, n=n_returns) if trials_variance is None else trials_variance
        expected = float(expected_maximum_sharpe(variance, n_independent))
        for at in known:
            own = estimates[at]
            assert own is not None
            moments = (own.sharpe, own.n, own.skew, own.kurtosis)
            probabilistic[at] = probabilistic_sharpe_ratio(*moments)
            deflated[at] = deflated_sharpe_ratio(*moments, trials_variance=variance, n_trials=n_independent)
    annual = np.array([each.scores.get("sharpe_ratio", math.nan) for each in entries])
    around = neighbours_of(points, space, is_grid=is_grid)
    mean, worst, n_around = _around(annual, around)
    table = pl.DataFrame(
        {
            **{each: _column(points, each) for each in space.names},
            "point": [point_key(each) for each in points],
            "state": [each.state for each in entries],
            "reason": [each.reason for each in entries],
            **{name: [each.scores.get(name, math.nan) for each in entries] for name in SCORES},
            "probabilistic": probabilistic,
            "deflated": deflated,
            "neighbours_mean": mean,
            "neighbours_worst": worst,
            "neighbours": n_around,
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    is_ranked = (pl.col("state") == COMPLETED) & pl.col("deflated").is_not_null()
    # Ties, such as ratios that all round to one, by the ratio itself, then in the order in which they were swept.
    table = (
        table.with_row_index("place")
        .sort(~is_ranked, -pl.col("deflated"), -pl.col("sharpe_ratio"), "place", nulls_last=True)
        .with_columns(rank=pl.when(is_ranked).then(pl.int_range(1, pl.len() + 1)))
    )
    with_neighbours = (pl.col("sharpe_ratio") + pl.col("neighbours_mean") * pl.col("neighbours")) / (
        1.0 + pl.col("neighbours")
    )
    ranked = table.filter(pl.col("rank").is_not_null())
    if choice == "plateau":
        ranked = ranked.sort(-with_neighbours, "rank", nulls_last=True)
    chosen = None if ranked.is_empty() else ranked.row(0, named=True)
    table = table.with_columns(is_chosen=pl.col("place") == (-1 if chosen is None else chosen["place"])).drop("place")
    if chosen is None:
        return Ranked(table=table, chosen=None, verdict=f"None of {len(points)} points has a Sharpe ratio.")
    return Ranked(
        table=table,
        chosen={name: value for name, value in chosen.items() if name != "place"},
        verdict=_verdict(table, chosen, choice, n_trials, n_independent, expected * math.sqrt(sessions_per_year)),
    )


def _verdict(
    table: pl.DataFrame, chosen: dict[str, Any], choice: str, n_trials: int, n_independent: int, expected: float
) -> str:
    told = VERDICT.format(
        n=table.height,
        sharpe=math.nan if chosen["sharpe_ratio"] is None else chosen["sharpe_ratio"],
        independent=n_independent,
        trials=n_trials,
        expected=expected,
        deflated=chosen["deflated"],
        probabilistic=chosen["probabilistic"],
        neighbours=chosen["neighbours"],
        mean=_shown(chosen["neighbours_mean"]),
        worst=_shown(chosen["neighbours_worst"]),
    )
    return told if choice == "best" else told.replace("Best", "Highest plateau", 1)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def neighbours_of(points: Sequence[Point], space: Space, *, is_grid: bool) -> NDArray[np.bool_]:
    """Which points are neighbours of which, of shape (n_points, n_points); none is its own."""
    n = len(points)
    places = np.stack([_places(points, each.name, each.distribution, is_grid=is_grid) for each in space.dimensions], 1)
    known = ~np.isnan(places)
    found = np.zeros((n, n), np.bool_)
    for at in range(n):
        # Points of another branch of the space have other dimensions: they are no neighbours.
        is_same = (known == known[at]).all(axis=1)
        apart = np.abs(np.where(known, places - places[at], 0.0))
        if is_grid:
            found[at] = is_same & (apart.max(axis=1) <= 1.0 + 1e-9)
        else:
            far = np.where(is_same, np.sqrt((apart**2).sum(axis=1)), np.inf)
            far[at] = np.inf
            nearest = np.argsort(far, kind="stable")[:NEAREST]
            found[at, nearest[np.isfinite(far[nearest])]] = True
        found[at, at] = False
    return found


def _places(points: Sequence[Point], name: str, distribution: Any, *, is_grid: bool) -> NDArray[np.float64]:
    """Where each point stands along a dimension: in steps of a grid, or within its range; NaN where it is not asked for.

    Values that are no numbers have no order: each other one is a step away, or at the other end of the range.
    """
    values: list[Value] = [each.get(name) for each in points]
    is_there = [name in each for each in points]
    is_number = all(
        isinstance(v, int | float) and not isinstance(v, bool)
        for v, there in zip(values, is_there, strict=True)
        if there
    )
    if isinstance(distribution, Categorical) and not is_number:
        # Apart by one step whatever they are: the place of each is told by equality alone.
        listed = list(distribution.choices)
        half = [float(listed.index(v) > 0) if there else math.nan for v, there in zip(values, is_there, strict=True)]
        return np.array(half)
    numbers = np.array([float(v) if there else math.nan for v, there in zip(values, is_there, strict=True)])  # type: ignore[arg-type]
    if is_grid:
        steps = np.unique(numbers[~np.isnan(numbers)])
        return np.where(np.isnan(numbers), np.nan, np.searchsorted(steps, numbers))
    if getattr(distribution, "log", False):
        numbers = np.log(numbers)
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    return np.asarray((numbers - low) / ((high - low) or 1.0))


def _around(values: NDArray[np.float64], around: NDArray[np.bool_]) -> tuple[list[float], list[float], list[int]]:
    mean, worst, counts = [], [], []
    for row in around:
        known = values[row][np.isfinite(values[row])]
        mean.append(float(known.mean()) if len(known) else math.nan)
        worst.append(float(known.min()) if len(known) else math.nan)
        counts.append(len(known))
    return mean, worst, counts


def _column(points: Sequence[Point], name: str) -> pl.Series:
    """Values of a dimension: numbers where all are, else texts."""
    values = [each.get(name) for each in points]
    given = [each for each in values if each is not None]
    if all(isinstance(each, bool) for each in given):
        return pl.Series(values, dtype=pl.Boolean)
    if all(isinstance(each, int) and not isinstance(each, bool) for each in given):
        return pl.Series(values, dtype=pl.Int64)
    if all(isinstance(each, int | float) and not isinstance(each, bool) for each in given):
        return pl.Series(values, dtype=pl.Float64)
    return pl.Series([None if each is None else str(each) for each in values], dtype=pl.String)
