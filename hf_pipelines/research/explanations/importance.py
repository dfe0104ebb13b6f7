"""Importance: what each feature is worth to the predictions of test folds.

Lives here: gain, permutation importance of features and of clusters of them, mean contributions, each by fold. Not here: how even they
are over folds or weeks (`evenness`), contributions of a row (`own`, `contributions`).

References
----------
Breiman (2001), "Random Forests", Machine Learning 45: permutation importance. Fisher, Rudin & Dominici (2019), "All Models are Wrong,
but Many are Useful", J. Machine Learning Research 20(177).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.explanations.own import own_contributions
from hf_pipelines.research.explanations.sampled import sampled_contributions
from hf_pipelines.research.fold_fits import Fold, predict_fold
from hf_pipelines.research.learners import Pipeline
from hf_pipelines.research.learners.prediction import with_history
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.prediction_metrics import prediction_metrics
from hf_pipelines.research.targets import Target

GAIN, PERMUTATION, CLUSTER, CONTRIBUTION = "gain", "permutation", "cluster", "contribution"

# Rows that correlations of features are estimated on.
_CORRELATED_ROWS = 5_000

# A feature that is the same for all members in more sessions than this is one of the market.
_SHARE_OF_SESSIONS = 0.5

SCHEMA = {
    "fold": pl.Int32,
    "kind": pl.String,
    "name": pl.String,
    "features": pl.String,
    "value": pl.Float64,
    "error": pl.Float64,
    "direction": pl.Float64,
}


@dataclass(frozen=True)
class Importance:
    """What is asked for beside gains, which cost nothing.

    Attributes
    ----------
    score : str
        Whose loss by a permutation is measured.
    repeats : int
        Permutations of each feature and of each cluster; 0: none.
    correlation : float
        Size of Spearman's correlation from which features are permuted together too.
    rows : int
        Test rows of each fold whose contributions are averaged, at most, and 40 where they are sampled; 0: none.
    """

    score: str
    repeats: int = 5
    correlation: float = 0.7
    rows: int = 1_000


@dataclass(frozen=True)
class TestedFold:
    """A fitted fold with the rows that it is tested on."""

    # Not one of pytest's.
    __test__ = False

    pipeline: Pipeline
    matrix: pl.DataFrame
    features: tuple[str, ...]
    fold: Fold
    target: Target
    missing: str
    times: pl.Series | None

    def predicted(self, matrix: pl.DataFrame) -> pl.DataFrame:
        """Predictions of the test rows of another matrix of the same rows."""
        return predict_fold(
            self.pipeline, matrix, fold=self.fold, target=self.target, missing=self.missing, times=self.times
        )


def gains(pipeline: Pipeline, features: Sequence[str], *, fold: int) -> pl.DataFrame:
    """How much a fitted pipeline uses each feature; those of columns by what these were made of, see `column_origins`.

    Returns
    -------
    DataFrame
        `SCHEMA`; `value` adds up to 1. Empty of a learner that does not tell.
    """
    sizes, shares = pipeline.importances(features), pipeline.origins(len(features))
    if not sizes or shares is None:
        return pl.DataFrame(schema=SCHEMA)
    if len(sizes) == len(shares):
        values = dict(zip(features, (np.array(list(sizes.values())) @ shares).tolist(), strict=True))
    else:
        # Of an ensemble whose members have columns of their own: those that are features.
        values = {name: sizes.get(name, 0.0) for name in features}
    return _rows(fold, GAIN, [(name, [name], value, None, None) for name, value in values.items()])


def cluster_features(frame: pl.DataFrame, features: Sequence[str], *, correlation: float) -> list[tuple[str, ...]]:
    """Features that say nearly the same, by average linkage on 1 - |Spearman's correlation|; single ones are a cluster too.

    Parameters
    ----------
    frame : DataFrame
        Of which at most 5,000 rows are looked at, evenly spaced.
    features : sequence of str
    correlation : float
        Clusters end where the mean size of the correlation falls below.

    Returns
    -------
    list of tuple of str
        In the order of their first features.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(features) < 2:
        return [(each,) for each in features]
    at = np.unique(np.linspace(0, frame.height - 1, min(_CORRELATED_ROWS, frame.height)).astype(int))
    # Unknown values are in the middle: no feature is like another for what is unknown of both.
    ranks = frame[at].select(pl.col(each).fill_nan(None).rank() for each in features)
    ranks = ranks.with_columns(pl.all().fill_null(pl.all().mean()).fill_null(0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(np.abs(np.corrcoef(ranks.to_numpy(), rowvar=False)))
    distance = np.clip(1.0 - size, 0.0, 1.0)
    np.fill_diagonal(distance, 0.0)
    numbers = fcluster(linkage(squareform(distance, checks=False), "average"), 1.0 - correlation, "distance")
    found: dict[int, list[str]] = {}
    for name, number in zip(features, numbers.tolist(), strict=True):
        found.setdefault(number, []).append(name)
    return [tuple(each) for each in found.values()]


def examine_fold(
    tested: TestedFold, *, asked: Importance | None, clusters: Sequence[tuple[str, ...]], seed: int
) -> pl.DataFrame:
    """Importances of one fold: gains, and what is asked for.

    Permutations: rows of the test fold get the values of other rows of it. A feature that differs among the members of a session is
    permuted within each session, so that no row gets the values of another market; one that is the same for all members (and any
    feature of a market with one member) is permuted by whole sessions. A cluster is permuted as one, and by whole sessions if one of
    its features must be.

    Parameters
    ----------
    tested : TestedFold
    asked : Importance or None
    clusters : sequence of tuple of str
        From `cluster_features`.
    seed : int

    Returns
    -------
    DataFrame
        `SCHEMA`: `fold`; `kind`; `name` and `features` (of a cluster several, separated by commas); `value`: a share of the gain, the
        score that is lost by a permutation, or the mean size of the contributions; `error` of the permutations' mean; `direction`:
        correlation of a feature and its contributions, from -1 to 1.
    """
    number = tested.fold.number
    found = [gains(tested.pipeline, tested.features, fold=number)]
    if asked is not None and asked.repeats:
        single = [(each,) for each in tested.features]
        found.append(_losses(tested, asked, PERMUTATION, single, seed=seed))
        shared = [each for each in clusters if len(each) > 1]
        found.append(_losses(tested, asked, CLUSTER, shared, seed=seed))
    if asked is not None and asked.rows:
        found.append(mean_contributions(tested, most=asked.rows))
    return pl.concat(found)


def mean_contributions(tested: TestedFold, *, most: int) -> pl.DataFrame:
    """Mean sizes of contributions to predictions of test rows, and their directions: exact ones where the learner has them, else sampled.

    Parameters
    ----------
    tested : TestedFold
    most : int
        Test rows, at most; of a learner without an exact method `sampled.N_ROWS` of them.

    Returns
    -------
    DataFrame
        `SCHEMA`; empty where no row has a prediction.
    """
    asked: dict[str, Any] = {
        "features": tested.features,
        "classes": tested.target.classes,
        "missing": tested.missing,
    }
    rows = _whole_sessions(tested.matrix[tested.fold.test], most=most)
    own = own_contributions(tested.pipeline, rows, **asked)
    if own is not None:
        values = own.contributions.values
        X = rows.filter(pl.Series(own.is_known)).select(tested.features).to_numpy().astype(np.float64)
    else:
        frame, is_test = with_history(
            tested.matrix, tested.fold.test, bars=tested.pipeline.choice.history_bars, times=tested.times
        )
        frame = (
            frame.with_columns(is_test=pl.Series(is_test)).unique(["ts", "symbol"], keep="first").sort("ts", "symbol")
        )
        sampled, X = sampled_contributions(
            tested.pipeline,
            frame,
            (frame["is_test"] & frame["ts"].is_in(rows["ts"].unique().implode())).to_numpy(),
            tested.matrix[tested.fold.train],
            times=tested.times,
            **asked,
        )
        values = sampled.values
    if not len(values):
        return pl.DataFrame(schema=SCHEMA)
    sizes = np.abs(values).mean(axis=0).tolist()
    directions = [_correlation(X[:, at], values[:, at]) for at in range(len(tested.features))]
    return _rows(
        tested.fold.number,
        CONTRIBUTION,
        [(name, [name], size, None, way) for name, size, way in zip(tested.features, sizes, directions, strict=True)],
    )


def _losses(
    tested: TestedFold, asked: Importance, kind: str, groups: Sequence[tuple[str, ...]], *, seed: int
) -> pl.DataFrame:
    """What the score loses by permutations of each group of features."""
    test = tested.fold.test
    units = _Units.of(tested.matrix[test])
    X = tested.matrix[test].select(tested.features).to_numpy()
    at = {name: place for place, name in enumerate(tested.features)}
    sign = 1.0 if is_better_higher(asked.score) else -1.0
    whole = _score(tested, tested.matrix, asked.score)
    rows = []
    for number, names in enumerate(groups):
        columns = [at[name] for name in names]
        is_within = all(units.varies(X[:, column]) for column in columns)
        lost = []
        for repeat in range(asked.repeats):
            random = np.random.default_rng([seed, tested.fold.number, number, repeat])
            donors = units.donors(random, is_within=is_within)
            changed = {}
            for name, column in zip(names, columns, strict=True):
                values = tested.matrix[name].to_numpy().copy()
                values[test] = X[donors, column]
                changed[name] = pl.Series(name, values)
            lost.append(sign * (whole - _score(tested, tested.matrix.with_columns(**changed), asked.score)))
        error = float(np.std(lost, ddof=1) / np.sqrt(len(lost))) if len(lost) > 1 else None
        rows.append((_named(names), list(names), float(np.mean(lost)), error, None))
    return _rows(tested.fold.number, kind, rows)


def _named(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} like it"


def _score(tested: TestedFold, matrix: pl.DataFrame, score: str) -> float:
    predicted = tested.predicted(matrix)
    n_classes = len(tested.target.classes)
    # Of a baseline that is not looked at.
    shares = np.full((tested.fold.number + 1, max(n_classes, 1)), 1.0 / max(n_classes, 1))
    return prediction_metrics(predicted, target=tested.target, class_shares=shares)[score]


@dataclass(frozen=True, eq=False)
class _Units:
    """Rows by (ts, symbol): those of several horizons are one."""

    of_row: npt.NDArray[np.int64]
    first_row: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> _Units:
        codes = rows.select(
            time=pl.col("ts").rank("dense").cast(pl.Int64) - 1, symbol=pl.col("symbol").rank("dense").cast(pl.Int64) - 1
        ).to_numpy()
        # Sorted by time, then symbol.
        unique, first, of_row = np.unique(codes, axis=0, return_index=True, return_inverse=True)
        return cls(of_row.ravel(), first, unique[:, 0], unique[:, 1])

    def varies(self, values: npt.NDArray[np.float64]) -> bool:
        """Whether a feature differs among the members of most sessions."""
        known = np.nan_to_num(values[self.first_row].astype(np.float64), nan=np.inf)
        begins = np.flatnonzero(np.r_[True, np.diff(self.time) > 0])
        differs = np.maximum.reduceat(known, begins) > np.minimum.reduceat(known, begins)
        return float(differs.mean()) >= _SHARE_OF_SESSIONS

    def donors(self, random: np.random.Generator, *, is_within: bool) -> npt.NDArray[np.int64]:
        """For each row the row whose values it gets."""
        n = len(self.time)
        if is_within:
            donor = np.lexsort((random.random(n), self.time))
        else:
            n_times, n_symbols = int(self.time[-1]) + 1, int(self.symbol.max()) + 1
            other = random.permutation(n_times)[self.time]
            code, wanted = self.time * n_symbols + self.symbol, other * n_symbols + self.symbol
            donor = np.minimum(np.searchsorted(code, wanted), n - 1)
            # A member that was none in the other session gets the values of the first one there.
            begins = np.searchsorted(self.time, np.arange(n_times))
            donor = np.where(code[donor] == wanted, donor, begins[other])
        return np.asarray(self.first_row[donor][self.of_row])


def _whole_sessions(rows: pl.DataFrame, *, most: int) -> pl.DataFrame:
    """Rows of evenly spaced times, each once and whole: members are compared with each other."""
    unique = rows.unique(["ts", "symbol"], keep="first", maintain_order=True)
    times = unique["ts"].unique().sort()
    n = max(int(most * len(times) // max(unique.height, 1)), 1)
    chosen = times.gather(np.unique(np.linspace(0, len(times) - 1, min(n, len(times))).astype(int)))
    return unique.filter(pl.col("ts").is_in(chosen.implode())).sort("ts", "symbol")


def _correlation(values: npt.NDArray[np.float64], contributions: npt.NDArray[np.float64]) -> float | None:
    known = np.isfinite(values)
    x, y = values[known], contributions[known]
    if len(x) < 2 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _rows(
    fold: int, kind: str, rows: Sequence[tuple[str, list[str], float, float | None, float | None]]
) -> pl.DataFrame:
    return pl.DataFrame(
        [(fold, kind, name, ",".join(features), *others) for name, features, *others in rows],
        schema=SCHEMA,
        orient="row",
    )
