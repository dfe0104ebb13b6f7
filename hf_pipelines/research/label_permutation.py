"""Permuted labels: training rows whose features tell nothing of their labels, and are else as they were.

Lives here: the permutation. Not here: what is fitted on it (`overfitting`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.splitters.past_blocks import SessionTimes
from hf_pipelines.research.targets import HORIZON

Rows = npt.NDArray[np.int64]

# Permuted labels keep their neighbours within a block. Blocks of four labels' length break an eighth of the overlaps at each
# end; of fewer than eight blocks there are too few orders.
BLOCK_LABELS = 4
LEAST_BLOCKS = 8
LEAST_BLOCK_SESSIONS = 5
# A halted symbol's label may last for months.
USUAL_LABELS = 0.95


def permute_labels(
    matrix: pl.DataFrame, train: Rows, *, times: SessionTimes, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`y` and `target` of a matrix with those of some rows permuted together, by blocks of whole sessions.

    Parameters
    ----------
    matrix : DataFrame
        A training matrix.
    train : int array
        Rows whose labels are permuted among each other.
    times : SessionTimes
        Of the matrix.
    rng : Generator

    Returns
    -------
    y, target : arrays of shape (n_rows,)
        Those of other rows as they were.

    Notes
    -----
    The sessions of these rows are rotated by a random number, cut into blocks, and the blocks put into a random order; each symbol's labels follow. So labels of a session and of
    its neighbours stay together, overlapping as they do, each symbol keeps its own labels, and what is lost is what the
    features of a row know of its label. Test rows keep theirs. Intervals of labels stay with their rows: so do weights
    by uniqueness and the cut of validation rows.
    """
    sessions, code = np.unique(times.code[train], return_inverse=True)
    ends = np.searchsorted(times.first_ts, times.rows.end[train], side="right") - 1
    label = int(np.quantile(ends - times.code[train], USUAL_LABELS)) + 1
    n = len(sessions)
    length = min(max(BLOCK_LABELS * label, LEAST_BLOCK_SESSIONS), max(n // LEAST_BLOCKS, label))
    # Where each session stands in the new order.
    place = np.argsort(_shuffled(n, length=length, rng=rng))
    _, symbol = np.unique(matrix["symbol"].to_numpy()[train], return_inverse=True)
    horizon = matrix[HORIZON].to_numpy()[train] if HORIZON in matrix.columns else np.zeros(len(train), dtype=np.int64)
    ts = times.rows.start[train]
    to = train[np.lexsort((ts, horizon, symbol))]
    taken = train[np.lexsort((ts, place[code], horizon, symbol))]
    y, target = matrix["y"].to_numpy().copy(), matrix["target"].to_numpy().copy()
    y[to], target[to] = y[taken], target[taken]
    return y, target


def _shuffled(n: int, *, length: int, rng: np.random.Generator) -> Rows:
    """Numbers up to n, rotated and cut into blocks of `length` or a little more, the blocks in a random order."""
    blocks = np.array_split(np.roll(np.arange(n), int(rng.integers(n))), max(n // length, 1))
    return np.concatenate([blocks[at] for at in rng.permutation(len(blocks))])
