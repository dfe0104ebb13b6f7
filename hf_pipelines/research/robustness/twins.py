"""Twins: the rows of a week's last fold with labels of other sessions, and with a signal that was planted.

Lives here: which rows a twin has, how its labels move, what is planted. Not here: what is fitted on a twin, and what it says (`controls`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.batched_matrix import BatchedMatrix, features_of, labels_of
from hf_pipelines.research.fold_by_fold import GivenFold, folds_of
from hf_pipelines.research.label_permutation import USUAL_LABELS, permute_labels
from hf_pipelines.research.overfitting.fits import nearest_sessions
from hf_pipelines.research.splitters.past_blocks import SessionTimes
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import HORIZON

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Rows of the twins' fits, all twins together, beside the rows of the folds' own fits; but so few cost nothing.
SHARE_OF_ROWS = 0.2
USUAL_TRAIN_ROWS, MOST_TRAIN_ROWS, MOST_TEST_ROWS = 500, 10_000, 5_000
# Orders of labels that are drawn together, in cells of 8 bytes.
CELLS_AT_A_TIME = 250_000
# Sessions that are kept where symbols can be left out instead, down to so many: of one there are no cross-sections.
USUAL_SESSIONS, LEAST_SYMBOLS = 100, 5


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows that the twins have, and their fold."""

    matrix: pl.DataFrame
    fold: GivenFold
    times: SessionTimes
    test: TestedRows


class TestedRows:
    """Test rows, whose labels move by whole sessions, each symbol's among its own."""

    def __init__(self, matrix: pl.DataFrame, times: SessionTimes, rows: Rows) -> None:
        keys = matrix[rows].select(
            pl.struct("symbol", *([HORIZON] if HORIZON in matrix.columns else [])).rank("dense").alias("column")
        )
        self.column = keys["column"].to_numpy().astype(np.int64) - 1
        sessions, self.session = np.unique(times.code[rows], return_inverse=True)
        self.n_sessions = len(sessions)
        order = np.lexsort((times.rows.start[rows], self.session, self.column))
        self.rows, self.column, self.session = rows[order], self.column[order], self.session[order]
        # Sessions that a label spans, the bar's own too.
        ends = np.searchsorted(times.first_ts, times.rows.end[self.rows], side="right") - 1
        self.label_sessions = int(np.quantile(ends - times.code[self.rows], USUAL_LABELS)) + 1

    def drawn(self, rng: np.random.Generator, *, length: int) -> Rows:
        """For each of `rows` the place among them that its label comes from: blocks of sessions rotated and put into a random order."""
        return np.asarray(next(self.draws(rng, length=length, n=1))[0])

    def draws(self, rng: np.random.Generator, *, length: int, n: int) -> Iterator[Rows]:
        """As many orders as `n` calls of `drawn` give, some at a time, a row each."""
        sessions = np.arange(self.n_sessions)
        n_blocks = max(self.n_sessions // length, 1)
        block = sessions * n_blocks // self.n_sessions
        # Small whole numbers are sorted by their digits, in a tenth of the time.
        largest = (int(self.column.max()) + 1) * self.n_sessions
        starts = (self.column * self.n_sessions).astype(np.min_scalar_type(largest))
        at_a_time = max(CELLS_AT_A_TIME // len(self.rows), 1)
        for first in range(0, n, at_a_time):
            turns, moved = zip(
                *(
                    (int(rng.integers(self.n_sessions)), rng.permutation(n_blocks))
                    for _ in range(min(at_a_time, n - first))
                ),
                strict=True,
            )
            order = np.argsort(np.array(moved)[:, block].astype(np.min_scalar_type(n_blocks)), axis=1, kind="stable")
            turned = (order - np.array(turns)[:, None]) % self.n_sessions
            place = np.empty(turned.shape, starts.dtype)
            np.put_along_axis(place, turned, sessions.astype(starts.dtype)[None], axis=1)
            yield np.argsort(starts + place[:, self.session], axis=1, kind="stable")

    def panel(self, values: Floats) -> Floats:
        """Values as an array of sessions by what each session has a value of, 0 where it has none."""
        at = np.lexsort((self.column, self.session))
        same = (np.diff(self.session[at]) == 0) & (np.diff(self.column[at]) == 0)
        # The how-manieth bar of its session.
        begins = np.maximum.accumulate(np.where(np.append(False, same), 0, np.arange(len(at))))
        bar = np.arange(len(at)) - begins
        n_bars = int(bar.max()) + 1
        found = np.zeros((self.n_sessions, (int(self.column.max()) + 1) * n_bars))
        found[self.session[at], self.column[at] * n_bars + bar] = values[at]
        return found


def sample_rows(matrix: pl.DataFrame | BatchedMatrix, *, splitter: Splitter, seed: int, n_twins: int) -> Sample:
    """The last fold, its symbols and its training sessions fewer where they are many."""
    labels = labels_of(matrix)
    folds = folds_of(splitter, labels)
    if not folds:
        raise ValueError(
            f"`split` of {type(splitter).__name__} must give a fold, was without; raise `training.weeks`, or load more history."
        )
    fold = folds[-1]
    allowed = int(SHARE_OF_ROWS * sum(len(each.train) for each in folds) / n_twins)
    most = min(max(allowed, USUAL_TRAIN_ROWS), MOST_TRAIN_ROWS)
    times = SessionTimes.of(labels)
    n_sessions = len(np.unique(times.code[fold.train]))
    of_usual = len(fold.train) * min(USUAL_SESSIONS / n_sessions, 1.0)
    share = min(1.0, most / of_usual, MOST_TEST_ROWS / len(fold.test))
    symbols = np.intersect1d(labels["symbol"].to_numpy()[fold.train], labels["symbol"].to_numpy()[fold.test])
    if not len(symbols):
        # Whoever is tested is not trained on: all of them, then.
        symbols, share = labels["symbol"].unique().sort().to_numpy(), 1.0
    drawn = np.random.default_rng([seed, 0]).permutation(len(symbols))[
        : max(round(share * len(symbols)), LEAST_SYMBOLS)
    ]
    is_kept = labels["symbol"].is_in(symbols[np.sort(drawn)].tolist()).to_numpy()
    kept = np.flatnonzero(is_kept)
    place = np.cumsum(is_kept) - 1
    frame = pl.concat(matrix.frames(kept)) if isinstance(matrix, BatchedMatrix) else matrix[kept]
    of_kept = SessionTimes.of(frame)
    train, test = (place[rows[is_kept[rows]]] for rows in (fold.train, fold.test))
    train = nearest_sessions(of_kept, train, test, share=min(1.0, most / len(train)))
    return Sample(frame, GivenFold(0, train, test), of_kept, TestedRows(frame, of_kept, test))


def relabelled(sample: Sample, rng: np.random.Generator, *, length: int) -> pl.DataFrame:
    """The rows with labels of other sessions: those of training rows among themselves, and those of test rows."""
    y, target = permute_labels(sample.matrix, sample.fold.train, times=sample.times, rng=rng)
    to, taken = sample.test.rows, sample.test.rows[sample.test.drawn(rng, length=length)]
    y[to], target[to] = y[taken], target[taken]
    return sample.matrix.with_columns(y=pl.Series(y), target=pl.Series(target))


def plant(matrix: pl.DataFrame, fold: GivenFold, *, strength: float, categories: frozenset[str]) -> pl.DataFrame:
    """A matrix whose features each know a part of the label of their row."""
    from scipy.special import ndtri

    rows = np.union1d(fold.train, fold.test)
    known = matrix["y"][rows].rank("average").to_numpy()
    score = np.zeros(matrix.height)
    score[rows] = ndtri((known - 0.5) / len(known))
    # Rows of several horizons have the same features.
    together = matrix.select("symbol", "ts").with_columns(score=pl.Series(score))
    score = together.select(pl.col("score").mean().over("symbol", "ts"))["score"].to_numpy().copy()
    score[rows] /= score[rows].std()
    rest = math.sqrt(1.0 - strength**2)
    names = [name for name in features_of(matrix) if name not in categories and matrix.schema[name].is_numeric()]
    value = pl.col(names).cast(pl.Float64)
    known_value = pl.when(value.is_finite()).then(value)
    middle, spread = known_value.mean(), known_value.std().fill_null(0.0)
    mixed = middle + rest * (value - middle) + strength * spread * pl.lit(pl.Series("score", score))
    return matrix.with_columns(mixed.cast(pl.Float32))


def tested_labels(sample: Sample, matrix: pl.DataFrame) -> Floats:
    return matrix["y"].to_numpy()[sample.test.rows]


def centred_ranks(values: Floats) -> Floats:
    """Ranks less their mean; 0 of a row without a value."""
    known = np.isfinite(values)
    found = np.zeros(len(values))
    if known.any():
        ranks = pl.Series(values[known]).rank("average").to_numpy()
        found[known] = ranks - ranks.mean()
    return found
