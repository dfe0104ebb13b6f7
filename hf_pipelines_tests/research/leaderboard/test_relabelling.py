"""Candidates of other targets: the same test rows, and no training row whose own label reaches into them."""

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.fold_by_fold import folds_of
from hf_pipelines.research.leaderboard.relabelling import folds_of_labels, judged_by, relabel
from hf_pipelines.research.matrix import build_matrix
from hf_pipelines.research.splitters import CombinatorialPurged, PurgedKFold, PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.sample_matrix import plain_bars

OWN, LONG = build_target("forward_return", horizon_bars=2), build_target("rank", horizon_bars=9)
SESSIONS, SYMBOLS = 90, 4
RNG = np.random.default_rng(4)
BARS = plain_bars(
    {f"S{at}": (100 * np.exp(np.cumsum(0.02 * RNG.normal(size=SESSIONS)))).tolist() for at in range(SYMBOLS)}
)
FEATURES = BARS.select("symbol", "session", "ts").with_columns(
    x=pl.Series(RNG.normal(size=BARS.height).astype(np.float32))
)
CUTOFF = BARS["ts"].max()


def matrix_of(target, bars=BARS):
    return build_matrix(FEATURES, bars=bars, target=target, cutoff=CUTOFF, minimum_rows=1)


def test_rows_have_the_labels_that_the_other_target_gives_them():
    own = matrix_of(OWN)
    found = relabel(own, LONG, bars=BARS, cutoff=CUTOFF)
    keys = ["symbol", "ts"]
    assert found.matrix.select(keys).equals(own.select(keys)) and found.matrix.columns == own.columns
    wanted = own.select(keys).join(matrix_of(LONG), on=keys, how="left", maintain_order="left")
    assert found.is_labelled.tolist() == wanted["y"].is_not_null().to_list()
    labelled = found.matrix.filter(pl.Series(found.is_labelled))
    assert labelled.select("y", "target", "label_end").equals(wanted.drop_nulls("y").select("y", "target", "label_end"))
    # The last rows have labels of two bars, none of nine.
    assert 0 < (~found.is_labelled).sum() == 7 * SYMBOLS


@pytest.mark.parametrize(
    "splitter",
    [
        PurgedWalkForward(n_splits=3, test_sessions=15, embargo_sessions=1, min_train_sessions=20),
        PurgedKFold(n_splits=3, embargo_sessions=1),
        CombinatorialPurged(n_folds=4, n_test_folds=2, embargo_sessions=1, min_train_sessions=20),
    ],
    ids=["walk-forward", "later too", "paths"],
)
def test_folds_test_the_same_rows_and_train_on_none_that_shares_an_instant_with_them(splitter):
    own = matrix_of(OWN)
    other = relabel(own, LONG, bars=BARS, cutoff=CUTOFF)
    before, found = folds_of(splitter, own), folds_of_labels(splitter, own, other)
    again = folds_of(found, other.matrix)
    assert len(again) == len(before)
    purged = 0
    for one, two in zip(before, again, strict=True):
        assert one.test.tolist() == two.test.tolist() and set(two.train) <= set(one.train)
        assert other.is_labelled[two.train].all()
        begins, ends = (own[name].to_numpy() for name in ("ts", "label_end"))
        long_ends = other.matrix["label_end"].to_numpy()
        for row in two.train:
            shares = (begins[row] <= ends[two.test]) & (begins[two.test] <= long_ends[row])
            assert not shares.any()
        purged += len(one.train) - len(two.train)
        assert getattr(one, "path", np.zeros(0)).tolist() == getattr(two, "path", np.zeros(0)).tolist()
    assert purged > 0


def test_cutting_off_the_future_of_a_fold_changes_nothing_of_what_it_trains_on():
    own = matrix_of(OWN)
    splitter = PurgedWalkForward(n_splits=2, test_sessions=15, embargo_sessions=1, min_train_sessions=20)
    folds = folds_of_labels(splitter, own, relabel(own, LONG, bars=BARS, cutoff=CUTOFF)).folds
    begins = own["ts"][int(folds[0].test[0])]
    # Closes from the first test session on are others.
    moved = BARS.with_columns(close=pl.when(pl.col("ts") >= begins).then(pl.col("close") * 3).otherwise("close"))
    other, again = (relabel(own, LONG, bars=bars, cutoff=CUTOFF).matrix[folds[0].train] for bars in (BARS, moved))
    assert other.equals(again)


def test_what_is_predicted_is_judged_by_the_own_labels_and_by_its_order_alone():
    own = matrix_of(OWN)
    given = own.select("symbol", "ts", y=pl.lit(0.0), target=pl.lit(0.0), prediction=pl.lit(1.0)).with_columns(
        probability_up=pl.lit(0.5)
    )
    found = judged_by(given, own)
    assert found.select("y", "target").equals(own.select("y", "target"))
    assert "probability_up" not in found.columns


def test_target_that_leaves_no_rows_to_train_on_is_refused():
    own = matrix_of(OWN)
    splitter = PurgedWalkForward(n_splits=1, test_sessions=40, embargo_sessions=1, min_train_sessions=20)
    far = relabel(own, build_target("forward_return", horizon_bars=80), bars=BARS, cutoff=CUTOFF)
    with pytest.raises(ValueError, match="`target` must leave fold 0 rows to train on, 'forward_return' leaves none"):
        folds_of_labels(splitter, own, far)
