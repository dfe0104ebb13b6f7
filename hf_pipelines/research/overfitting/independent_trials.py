"""Independent trials: how many different bets a number of trials were, by their return series.

Lives here: the correlation of series that overlap in part, and the count of clusters. Not here: what the count does to a Sharpe
ratio (`sharpe`).

Trials whose returns move together are one bet that was placed several times. They are clustered by the distance
sqrt((1 - correlation) / 2), by average linkage; of all numbers of clusters the one with the best mean silhouette is taken. The idea
is that of the references, which cluster by k-means with random starts, anew within weak clusters: the linkage needs no seed and gives
the same count whenever it is asked. Where we differ in the count: a cluster whose members are hardly closer to each other than
to the rest (`LEAST_SILHOUETTE`) is none, and its members count one by one. So 1,000 series of noise are about 1,000 trials, and a
factor that all trials share makes none of them a copy: too large a count deflates too much, too small a one would hide trials.

References
----------
López de Prado & Lewis (2019), "Detection of False Investment Strategies Using Unsupervised Learning Methods", Quantitative
Finance 19(9).
Rousseeuw (1987), "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", J. Computational and
Applied Mathematics 20.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

# Of n independent series over 250 sessions and more, clusters at random reach 0.05; of a correlation of 0.5 within clusters that are
# independent of each other it is 0.29.
LEAST_SILHOUETTE = 0.12

# Of a correlation of 0.8 and more: what is closer than this to all others is a copy of them.
COPY_DISTANCE = 0.32

ROUNDING_DISTANCE = 1e-6

# Fewer common periods say nothing about a correlation: it is taken as 0, as of different bets.
LEAST_OVERLAP = 20

# The table of distances has the square of it; series beyond are not compared, and count one each.
MOST_SERIES = 2_000

# Numbers of clusters that are looked at first, from all series apart to two clusters; then all of them near the best.
_FIRST_LOOKS = 40


def count_independent_trials(returns: Floats) -> int:
    """Effective number of independent trials.

    Parameters
    ----------
    returns : array of shape (n_periods, n_trials)
        Return series of the trials on common periods, NaN where a trial has none.

    Returns
    -------
    int
        From 1 to n_trials; 0 of no trials. A series that is constant, or has too few periods in common with others, counts as one
        of its own, and so does each beyond `MOST_SERIES`.

    Raises
    ------
    ValueError
        If `returns` is no table, or holds an infinite value.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> factors, noise = rng.normal(size=(500, 3)), rng.normal(size=(500, 30))
    >>> count_independent_trials(np.repeat(factors, 10, axis=1) + 0.5 * noise)
    3
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or np.isinf(values).any():
        raise ValueError("`returns` must be finite or NaN, a row a period and a column a trial, was not.")
    n = int(values.shape[1])
    if n < 2:
        return n
    compared = values[:, :MOST_SERIES]
    distance = np.sqrt(np.clip(0.5 * (1.0 - correlations(compared)), 0.0, 1.0))
    # Below is the rounding of a correlation of one: copies would be told apart by it.
    distance[distance < ROUNDING_DISTANCE] = 0.0
    return _count(distance) + n - int(compared.shape[1])


def correlations(returns: Floats) -> Floats:
    """Correlation of each two columns over the periods that both have; 0 where it is undefined, or of too few of them."""
    known = np.isfinite(returns)
    # Less the means: of sums of squares far from 0 little would be left.
    with np.errstate(invalid="ignore"):
        means = np.where(known, returns, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    x, there = np.where(known, returns - means, 0.0), known.astype(np.float64)
    n = there.T @ there
    sums, squares = x.T @ there, (x**2).T @ there
    counted = np.maximum(n, 1.0)
    covariance = x.T @ x - sums * sums.T / counted
    variance = np.maximum(squares - sums**2 / counted, 0.0)
    scale = np.sqrt(variance * variance.T)
    is_defined = (n >= LEAST_OVERLAP) & (scale > np.finfo(np.float64).tiny)
    found = np.where(is_defined, covariance / np.where(is_defined, scale, 1.0), 0.0)
    return np.clip(found, -1.0, 1.0)


def _count(distance: Floats) -> int:
    """Clusters of the best partition, members of weak ones counted one by one."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    n = len(distance)
    tree = linkage(squareform(distance, checks=False), method="average")
    tried: dict[int, _Partition] = {}

    def best_of(numbers: Iterable[int]) -> int:
        for k in numbers:
            if k not in tried:
                labels = _cut(tree, n, k)
                tried[k] = _Partition(labels, _silhouettes(distance, labels, k))
        return max(sorted(tried), key=lambda k: tried[k].quality)

    first = sorted({int(each) for each in np.geomspace(2, n, _FIRST_LOOKS).round()})
    at = first.index(best_of(first))
    best = tried[best_of(range(first[max(at - 1, 0)], first[min(at + 1, len(first) - 1)] + 1))]
    apart = distance[np.triu_indices(n, k=1)]
    if best.quality < LEAST_SILHOUETTE and float(apart.mean()) <= COPY_DISTANCE:
        return 1
    sizes = np.bincount(best.labels)
    widths = np.bincount(best.labels, weights=best.silhouettes) / sizes
    return int(np.where(widths >= LEAST_SILHOUETTE, 1, sizes).sum())


@dataclass(frozen=True)
class _Partition:
    labels: Codes
    silhouettes: Floats

    @property
    def quality(self) -> float:
        return float(self.silhouettes.mean())


def _cut(tree: Floats, n: int, k: int) -> Codes:
    """Cluster of each series where the tree is cut into `k`, numbered from 0."""
    parent = np.arange(2 * n - 1)
    merges = tree[: n - k, :2].astype(np.int64)
    for number, (left, right) in enumerate(merges):
        parent[left] = parent[right] = n + number
    for node in range(2 * n - 2, -1, -1):
        parent[node] = parent[parent[node]]
    return np.unique(parent[:n], return_inverse=True)[1].astype(np.int64)


def _silhouettes(distance: Floats, labels: Codes, k: int) -> Floats:
    """How much nearer each series is to its own cluster than to the next one, 0 for one that is alone."""
    n = len(labels)
    member = np.zeros((n, k))
    member[np.arange(n), labels] = 1.0
    sizes = member.sum(axis=0)
    sums = distance @ member
    own = sums[np.arange(n), labels] / np.maximum(sizes[labels] - 1.0, 1.0)
    means = sums / sizes
    means[np.arange(n), labels] = np.inf
    nearest = means.min(axis=1)
    larger = np.maximum(own, nearest)
    widths = np.divide(nearest - own, larger, out=np.zeros(n), where=larger > 0.0)
    return np.where(sizes[labels] > 1.0, widths, 0.0)
