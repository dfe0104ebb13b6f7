"""Planted signals, the short form of the table in `make noise`: found by those learners that can, and by no others."""

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.learner_signals import (
    EXPECTED,
    INTERACTION,
    LINEAR,
    SIZES,
    Panel,
    limit_of,
    signal_lines,
    signal_matrix,
)
from hf_pipelines_tests.sample_learners import costly_learners, learner_levels

TARGET = build_target("forward_return", horizon_bars=1)
SMALL = Panel(symbols=20, sessions=150, test_sessions=40, skill={LINEAR: 0.3, INTERACTION: 0.6})
# The command fits them.
COSTLY = costly_learners()


def test_every_entry_has_an_expectation():
    assert {*EXPECTED} == {*LEARNERS}, "say in `EXPECTED` which planted signals a new entry finds"
    assert all(found <= {LINEAR, INTERACTION} for found in EXPECTED.values())


@pytest.mark.parametrize("signal", [LINEAR, INTERACTION])
def test_a_planted_signal_is_where_it_is_said_to_be_and_nowhere_else(signal):
    matrix = signal_matrix(TARGET, SMALL, signal, seed=1)
    X, y = (
        matrix.select("^feature_.*$").to_numpy(),
        matrix.select(pl.col("target") - pl.col("target").mean().over("ts")).to_numpy().ravel(),
    )
    alone = [np.corrcoef(X[:, at], y)[0, 1] for at in range(3)]
    product = np.corrcoef(np.sign(X[:, 0] * X[:, 1]), y)[0, 1]
    noise = 4.0 / np.sqrt(len(y))
    assert abs(alone[1]) < noise and abs(alone[2]) < noise
    if signal == LINEAR:
        assert alone[0] > 0.2 and abs(product) < noise
    else:
        assert abs(alone[0]) < noise and product > 0.2


def test_learners_find_what_they_can_and_nothing_else():
    """One task of each entry that costs little; both tasks of all by the command."""
    task_of = dict(reversed(learner_levels()))
    levels = [(name, task) for name, task in learner_levels() if task_of[name] == task and name not in COSTLY]
    lines = list(signal_lines(levels, SMALL, sizes={**SIZES, "n_estimators": 15}))
    limit = limit_of(len(lines))
    wrong = [line for line in lines if not line.is_right(limit)]
    assert {line.name for line in lines} == {*LEARNERS} - COSTLY
    assert not wrong
