"""Matured predictions: by hand, and never one whose label has not ended."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.drift import matured_accuracy
from hf_pipelines.research.metrics.predictions import regression_metrics

BEGIN = datetime(2020, 1, 1, 21, tzinfo=UTC)


def _rows(predictions, realised, *, confidence=None, horizon_days: int = 5, symbols: int = 1) -> pl.DataFrame:
    n = len(predictions)
    ts = [BEGIN + timedelta(days=place // symbols) for place in range(n)]
    return pl.DataFrame(
        {
            "symbol": [f"S{place % symbols}" for place in range(n)],
            "session": [each.date() for each in ts],
            "ts": ts,
            "label_end": [each + timedelta(days=horizon_days) for each in ts],
            "prediction": predictions,
            "realised": realised,
            "confidence": confidence or [0.75] * n,
        },
        schema_overrides={"prediction": pl.Float64, "realised": pl.Float64, "confidence": pl.Float64},
    )


def test_only_labels_that_had_ended_count_and_of_these_the_last():
    rows = _rows([1, 1, 1, 1, -1, 1], [1, -1, 1, 1, 1, -1])
    as_of = BEGIN + timedelta(days=8)
    # Labels of the first four have ended: right, wrong, right, right.
    found = matured_accuracy(rows, as_of=as_of, label_sessions=5)
    assert (found.n, found.n_sessions, found.accuracy, found.ended) == (4, 4, 0.75, as_of)
    assert found.expected == 0.75
    assert found.brier == pytest.approx((3 * 0.25**2 + 0.75**2) / 4)
    assert matured_accuracy(rows, as_of=as_of, label_sessions=5, last=2).accuracy == 1.0
    assert matured_accuracy(rows, as_of=as_of - timedelta(seconds=1), label_sessions=5).n == 3
    # In any order of rows.
    assert matured_accuracy(rows.reverse(), as_of=as_of, label_sessions=5, last=2) == matured_accuracy(
        rows, as_of=as_of, label_sessions=5, last=2
    )


def test_a_label_that_ends_early_is_known_early():
    rows = _rows([1, 1], [1, -1]).with_columns(
        label_end=pl.Series([BEGIN + timedelta(days=9), BEGIN + timedelta(days=3)])
    )
    assert matured_accuracy(rows, as_of=BEGIN + timedelta(days=4), label_sessions=5).accuracy == 0.0
    # Of both, the first one ended last.
    assert matured_accuracy(rows, as_of=BEGIN + timedelta(days=9), label_sessions=5, last=1).accuracy == 1.0


def test_flat_labels_unknown_predictions_and_unknown_labels_are_left_out():
    nan = float("nan")
    rows = _rows([1.0, nan, 1.0, None, -0.5, 0.0], [0.0, 1.0, nan, 1.0, -2.0, 1.0])
    found = matured_accuracy(rows, as_of=BEGIN + timedelta(days=99), label_sessions=1)
    # A prediction of nothing where something came is wrong, as in the directional accuracy.
    assert (found.n, found.accuracy) == (2, 0.5)
    kept = regression_metrics([0.0, -2.0, 1.0], [1.0, -0.5, 0.0])
    assert found.accuracy == kept["directional_accuracy"]


def test_ranks_have_another_neutral_value_and_classes_have_none():
    rows = _rows([0.6, 0.4, 0.9], [0.9, 0.6, 0.5])
    assert matured_accuracy(rows, as_of=BEGIN + timedelta(days=99), label_sessions=1, neutral=0.5).accuracy == 0.5
    classes = _rows([0, 1, 2, 2], [0, 1, 1, 2])
    assert matured_accuracy(classes, as_of=BEGIN + timedelta(days=99), label_sessions=1, neutral=None).accuracy == 0.75


def test_nothing_matured_and_no_confidence_are_undefined_never_a_zero():
    rows = _rows([1.0] * 30, [1.0] * 30, confidence=[0.6] * 29 + [None])
    none = matured_accuracy(rows, as_of=BEGIN, label_sessions=5)
    assert (none.n, none.ended) == (0, None)
    assert np.isnan([none.accuracy, none.low, none.expected, none.brier]).all()
    found = matured_accuracy(rows, as_of=BEGIN + timedelta(days=99), label_sessions=1)
    assert found.accuracy == 1.0
    assert np.isnan([found.expected, found.brier]).all()
    for name in ("last", "label_sessions"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1, was 0"):
            matured_accuracy(rows, **{"as_of": BEGIN, "label_sessions": 1, name: 0})


def test_interval_holds_the_true_share_where_sessions_are_alike():
    rng, held = np.random.default_rng(1), 0
    for _ in range(100):
        # Five symbols of a session are right together half of the time; true share 0.6.
        common = np.repeat(rng.random(100) < 0.6, 5)
        right = np.where(rng.random(500) < 0.5, common, rng.random(500) < 0.6)
        found = matured_accuracy(
            _rows(np.ones(500).tolist(), np.where(right, 1.0, -1.0).tolist(), symbols=5),
            as_of=BEGIN + timedelta(days=999),
            label_sessions=1,
            last=500,
        )
        assert (found.n, found.n_sessions) == (500, 100)
        held += found.low <= 0.6 <= found.high
    assert held >= 88
