"""Tree boxes: Shapley values of sums of binary trees, leaf by leaf, by a rule of quadrature.

Lives here: the tables of trees, and their values. Not here: how a library writes its trees (the module of each library).

A leaf is a box: of each feature on its way an interval, and the share of the training rows that pass its splits. In the game of TreeSHAP
("path dependent": an unknown feature sends a row both ways, by the shares) the leaf gives `value * prod_j z_j`, where `z_j` is whether the row
lies in the interval, or the share where the feature is unknown. The Shapley value of feature i of such a product is

    value * (z_i - share_i) * integral over t in [0, 1] of prod_{j != i} (t * z_j + (1 - t) * share_j) dt

A polynomial of degree d - 1 of d features, so that Gauss-Legendre's rule of ceil(d / 2) nodes is exact. TreeSHAP takes d**2 steps a leaf and row,
this d * d / 2 that are vectorised over rows: a sixth of the seconds (`benchmarks/bench_explanations.py`).

References
----------
Lundberg et al. (2020), "From local explanations to global understanding with explainable AI for trees", Nature Machine Intelligence 2.
Yu, Xu, Bifet & Read (2022), "Linear TreeSHAP", NeurIPS: values by interpolation of such polynomials.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# A share of no rows, which nothing may be divided by.
_LEAST_SHARE = 1e-30
# Rows that a leaf is asked of at once: their flags stay in the nearest cache.
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Trees:
    """Binary trees as flat tables, nodes of all trees one after the other.

    Attributes
    ----------
    root : array of int of shape (n_trees + 1,)
        First node of each tree, which is its root; the last is the number of nodes.
    output : array of int of shape (n_trees,)
        The output that a tree adds to.
    left, right : array of int of shape (n_nodes,)
        Children, as nodes of all trees; -1 of a leaf.
    feature : array of int of shape (n_nodes,)
    threshold : array of float32 of shape (n_nodes,)
        A value below it goes left.
    unknown_left : array of bool of shape (n_nodes,)
        Whether NaN goes left.
    cover : array of float64 of shape (n_nodes,)
        Weight of the training rows that came here.
    value : array of float64 of shape (n_nodes,)
        What a leaf adds.
    """

    root: npt.NDArray[np.int64]
    output: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float32]
    unknown_left: npt.NDArray[np.bool_]
    cover: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]


def join_trees(parts: Sequence[Trees]) -> Trees:
    """One after the other, their nodes counted through."""
    sizes = [len(each.left) for each in parts]
    begin = np.cumsum([0, *sizes])

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(each, name) for each in parts])

    def children(name: str) -> npt.NDArray[np.int64]:
        inside = joined(name)
        return np.where(inside < 0, -1, inside + np.repeat(begin[:-1], sizes))

    return Trees(
        root=np.concatenate([*(each.root[:-1] + start for each, start in zip(parts, begin, strict=False)), begin[-1:]]),
        output=joined("output"),
        left=children("left"),
        right=children("right"),
        feature=joined("feature"),
        threshold=joined("threshold"),
        unknown_left=joined("unknown_left"),
        cover=joined("cover"),
        value=joined("value"),
    )


def tree_shapley_values(
    trees: Trees, X: npt.NDArray[np.float32], *, n_outputs: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Expected outputs of the trees, and the Shapley values of each row's features, path dependent as those of shap's TreeExplainer.

    Parameters
    ----------
    trees : Trees
    X : array of float32 of shape (n_rows, n_features)
        NaN is unknown.
    n_outputs : int

    Returns
    -------
    expected : array of shape (n_outputs,)
    values : array of shape (n_rows, n_outputs, n_features)
        `expected + values.sum(axis=2)` are the outputs.

    Examples
    --------
    One split at 0, through which three rows in four go left to 1, the others to 5: a row on the right is 3 above the mean of 2.

    >>> import numpy as np
    >>> split = Trees(
    ...     root=np.array([0, 3]),
    ...     output=np.array([0]),
    ...     left=np.array([1, -1, -1]),
    ...     right=np.array([2, -1, -1]),
    ...     feature=np.array([0, 0, 0]),
    ...     threshold=np.zeros(3, dtype=np.float32),
    ...     unknown_left=np.array([True, False, False]),
    ...     cover=np.array([4.0, 3.0, 1.0]),
    ...     value=np.array([0.0, 1.0, 5.0]),
    ... )
    >>> expected, values = tree_shapley_values(split, np.array([[2.0, 0.0]], dtype=np.float32), n_outputs=1)
    >>> expected.tolist(), values.round(9).tolist()
    ([2.0], [[[3.0, 0.0]]])
    """
    boxes = _compiled(_boxes_of_leaves)(
        trees.root, trees.output, trees.left, trees.right, trees.feature, trees.threshold, trees.unknown_left, trees.cover, trees.value
    )  # fmt: skip
    first, *_, share, amount, output = boxes
    expected = np.zeros(n_outputs)
    # Each box's product of shares: the part of the training rows that it holds.
    held = np.array([np.prod(share[a:b]) for a, b in zip(first[:-1], first[1:], strict=True)])
    np.add.at(expected, output, amount * held)
    columns = np.ascontiguousarray(np.asarray(X, dtype=np.float32).T)
    values = np.zeros((n_outputs, columns.shape[0], columns.shape[1]))
    most = int(np.diff(first).max(initial=0))
    nodes, weights = _rules((most + 1) // 2)
    _compiled(_add_boxes)(columns, *boxes, nodes, weights, values)
    return expected, np.ascontiguousarray(values.transpose(2, 0, 1))


def _rules(most: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Gauss-Legendre's nodes and weights on [0, 1], those of n nodes in row n."""
    nodes, weights = np.zeros((most + 1, most)), np.zeros((most + 1, most))
    for n in range(1, most + 1):
        at, weight = np.polynomial.legendre.leggauss(n)
        nodes[n, :n], weights[n, :n] = (at + 1.0) / 2.0, weight / 2.0
    return nodes, weights


@functools.cache
def _compiled(function: Any) -> Any:
    from numba import njit

    # A division that may raise would keep the loops from being vectorised; no share is zero.
    return njit(cache=True, error_model="numpy")(function)


def _boxes_of_leaves(root, output, left, right, feature, threshold, unknown_left, cover, value):  # type: ignore[no-untyped-def]  # compiled
    """Where each leaf's features begin; of each its column, its interval, whether NaN lies in it, and its share; value and output of each leaf."""
    n_nodes = len(left)
    parent = np.full(n_nodes, -1)
    depth = np.zeros(n_nodes, dtype=np.int64)
    n_leaves, n_steps = 0, 0
    for tree in range(len(output)):
        waiting = [root[tree]]
        while len(waiting) > 0:
            node = waiting.pop()
            if left[node] < 0:
                n_leaves += 1
                n_steps += depth[node]
                continue
            for child in (left[node], right[node]):
                parent[child] = node
                depth[child] = depth[node] + 1
                waiting.append(child)
    first = np.zeros(n_leaves + 1, dtype=np.int64)
    column = np.zeros(n_steps, dtype=np.int64)
    low = np.full(n_steps, -np.inf, dtype=np.float32)
    high = np.full(n_steps, np.inf, dtype=np.float32)
    has_unknown = np.ones(n_steps, dtype=np.bool_)
    share = np.ones(n_steps)
    amount = np.zeros(n_leaves)
    of_output = np.zeros(n_leaves, dtype=np.int64)
    leaf, end = 0, 0
    for tree in range(len(output)):
        for node in range(root[tree], root[tree + 1]):
            # A node that no split leads to is a remnant of pruning.
            if left[node] >= 0 or (parent[node] < 0 and node != root[tree]):
                continue
            begin, child = end, node
            while parent[child] >= 0:
                above = parent[child]
                at = begin
                while at < end and column[at] != feature[above]:
                    at += 1
                if at == end:
                    column[at] = feature[above]
                    end += 1
                is_left = left[above] == child
                if is_left:
                    high[at] = min(high[at], threshold[above])
                else:
                    low[at] = max(low[at], threshold[above])
                has_unknown[at] = has_unknown[at] and unknown_left[above] == is_left
                share[at] *= cover[child] / cover[above]
                child = above
            amount[leaf], of_output[leaf] = value[node], output[tree]
            leaf += 1
            first[leaf] = end
    return (
        first,
        column[:end],
        low[:end],
        high[:end],
        has_unknown[:end],
        np.maximum(share[:end], _LEAST_SHARE),
        amount,
        of_output,
    )


def _add_boxes(columns, first, column, low, high, has_unknown, share, amount, output, nodes, weights, values):  # type: ignore[no-untyped-def]  # compiled
    """Add what every box gives to `values`, of shape (n_outputs, n_features, n_rows); rows lie side by side, so innermost loops are vectorised."""
    n_rows = columns.shape[1]
    most = nodes.shape[1] * 2
    inside = np.empty((most, _BLOCK))
    product = np.empty(_BLOCK)
    for begin in range(0, n_rows, _BLOCK):
        n = min(_BLOCK, n_rows - begin)
        for leaf in range(len(amount)):
            start, d = first[leaf], first[leaf + 1] - first[leaf]
            for k in range(d):
                x, lowest, highest = columns[column[start + k]], low[start + k], high[start + k]
                of_unknown = 1.0 if has_unknown[start + k] else 0.0
                is_inside = inside[k]
                for row in range(n):
                    here = x[begin + row]
                    known = 1.0 if (here >= lowest) & (here < highest) else 0.0
                    is_inside[row] = known if here == here else of_unknown
            n_nodes = (d + 1) // 2
            for node in range(n_nodes):
                t = nodes[n_nodes, node]
                weight = weights[n_nodes, node] * amount[leaf]
                for row in range(n):
                    product[row] = weight
                for k in range(d):
                    outside = (1.0 - t) * share[start + k]
                    is_inside = inside[k]
                    for row in range(n):
                        product[row] *= outside + t * is_inside[row]
                for k in range(d):
                    # (z - share) / (t * z + (1 - t) * share) of z = 0 and of z = 1.
                    of_outside = -1.0 / (1.0 - t)
                    step = (1.0 - share[start + k]) / (t + (1.0 - t) * share[start + k]) - of_outside
                    is_inside = inside[k]
                    added = values[output[leaf], column[start + k]]
                    for row in range(n):
                        added[begin + row] += product[row] * (of_outside + step * is_inside[row])
