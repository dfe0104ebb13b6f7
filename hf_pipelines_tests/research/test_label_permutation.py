"""Permuted labels: of whole sessions, in blocks, each symbol its own."""

from itertools import pairwise

import numpy as np
import polars as pl

from hf_pipelines.research.label_permutation import permute_labels
from hf_pipelines.research.splitters.past_blocks import SessionTimes
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.research.splitters.panels import ragged_times
from hf_pipelines_tests.sample_matrix import random_matrix

RETURN = build_target("forward_return", horizon_bars=3)


def test_permute_labels_whole_panel_moves_sessions_in_blocks_for_all_symbols_alike():
    matrix = random_matrix(RETURN, symbols=3, sessions=200)
    times = SessionTimes.of(matrix)
    train = np.flatnonzero(times.code < 160)
    y, target = permute_labels(matrix, train, times=times, rng=np.random.default_rng(3))
    untouched = times.code >= 160
    assert (y[untouched] == matrix["y"].to_numpy()[untouched]).all()
    assert (y == target).all()
    moved = matrix.with_columns(moved=pl.Series(y)).filter(pl.Series(~untouched))
    was = moved.pivot("symbol", index="session", values="y").sort("session").drop("session").to_numpy()
    now = moved.pivot("symbol", index="session", values="moved").sort("session").drop("session").to_numpy()
    # The session that each one's labels are from: the same for all symbols.
    source = [int(np.flatnonzero((was == row).all(axis=1)).item()) for row in now]
    assert sorted(source) == list(range(160))
    # Labels of four sessions (bar and three ahead): blocks of 16, of which there are 10, one cut by the rotation.
    assert sum((after - before) % 160 != 1 for before, after in pairwise(source)) <= 10
    assert np.mean(np.array(source) == np.arange(160)) < 0.5


def test_permute_labels_ragged_panel_keeps_the_labels_of_each_symbol():
    times = ragged_times(sessions=60, symbols=5, longest=6, seed=4)
    rng = np.random.default_rng(0)
    names = rng.integers(0, 5, size=times.height)
    matrix = times.with_columns(
        symbol=pl.Series([f"S{at}" for at in names]),
        y=pl.Series(np.arange(times.height, dtype=float)),
        target=pl.lit(0.0),
    )
    train = np.sort(rng.permutation(times.height)[: times.height // 2])
    y, _ = permute_labels(matrix, train, times=SessionTimes.of(matrix), rng=rng)
    assert (names[y.astype(int)] == names).all()
    assert sorted(y) == list(range(times.height))
    other = np.setdiff1d(np.arange(times.height), train)
    assert (y[other] == other).all()
    assert (y[train] != train).mean() > 0.5
