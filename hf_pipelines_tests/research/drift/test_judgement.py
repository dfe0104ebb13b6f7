"""Judgement of drift: no alarm of what is merely slow, and every planted change by name."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.drift import judge_drift, reference_bins, session_histograms
from hf_pipelines.research.drift.judgement import DRIFTED, NOT_JUDGED, STEADY
from hf_pipelines_tests.drift_series import FIRST, REFERENCE, WINDOW, drawn_columns, in_window, judged


def _columns(seed: int, kinds, **changes) -> pl.DataFrame:
    return drawn_columns(np.random.default_rng(seed), kinds, REFERENCE + WINDOW, **changes)


@pytest.mark.parametrize(("kind", "most"), [("iid", 0.10), ("AR 0.5", 0.10), ("AR 0.9", 0.15), ("GARCH", 0.15)])
def test_stationary_columns_ring_on_at_most_the_stated_share_of_days(kind, most):
    # Forty days are few: `make drift` has them by the hundred.
    alarms = sum(bool(judged(_columns(seed, [kind] * 10)).drifted) for seed in range(40))
    assert alarms <= 40 * most + 3


def test_fixed_band_of_the_stability_index_rings_where_the_judgement_does_not():
    bands, alarms = 0, 0
    for seed in range(25):
        drift = judged(_columns(seed, ["AR 0.9"] * 10))
        bands += (drift.columns["population_stability_index"] > 0.2).sum() / 10
        alarms += bool(drift.drifted)
    assert bands / 25 > 0.7
    assert alarms <= 5


@pytest.mark.parametrize("kinds", [["AR 0.5"] * 20, ["AR 0.5", *["AR 0.9"] * 19]], ids=["alike", "among slower ones"])
def test_shift_of_one_and_a_half_deviations_is_named_and_nothing_else(kinds):
    found = [judged(in_window(_columns(seed, kinds), pl.col("x0") + 1.5)).drifted for seed in range(40)]
    assert sum("x0" in each for each in found) >= 38
    assert sum(len(set(each) - {"x0"}) for each in found) <= 6


@pytest.mark.parametrize(
    ("change", "n_symbols"),
    [
        (pl.lit(None, pl.Float64), 1),
        (pl.lit(0.37), 1),
        (pl.col("x0") * 2.5, 1),
        (pl.lit(None, pl.Float64), 20),
        (pl.col("x0") * 2.0, 20),
        (pl.lit(float("inf")), 5),
    ],
    ids=["dead", "frozen", "wider", "dead of twenty", "wider of twenty", "infinite"],
)
def test_dead_frozen_and_wider_columns_are_drift(change, n_symbols):
    drift = judged(in_window(_columns(5, ["iid", "AR 0.5", "AR 0.9"], n_symbols=n_symbols), change))
    assert drift.drifted[0] == "x0"
    assert drift.p < 0.01


def test_doubled_volatility_is_certain_though_a_window_holds_few_sessions():
    # Of twelve symbols that share a part: a change of level by that part is usual, one of spread is not.
    for seed in range(10):
        frame = drawn_columns(np.random.default_rng(seed), ["iid"] * 6, 378 + 29, n_symbols=12)
        is_new = pl.col("session") >= FIRST + timedelta(days=378)
        frame = frame.with_columns(x0=pl.when(is_new).then(2.0 * pl.col("x0")).otherwise(pl.col("x0")))
        bins = reference_bins(frame.filter(~is_new), [f"x{place}" for place in range(6)])
        reference, window = (session_histograms(frame.filter(each), bins) for each in (~is_new, is_new))
        drift = judge_drift(reference, window)
        assert drift.drifted[0] == "x0" and drift.p < 0.005


def test_column_that_left_the_market_is_missing_in_every_row_and_drift():
    frame = _columns(6, ["iid"] * 3)
    bins = reference_bins(frame.head(REFERENCE), ["x0", "x1", "x2"])
    newest = session_histograms(frame.tail(WINDOW).drop("x1"), bins)
    drift = judge_drift(session_histograms(frame.head(REFERENCE), bins), newest)
    row = drift.columns.row(1, named=True)
    assert drift.drifted == ["x1"]
    assert (row["missing_reference"], row["missing_window"]) == (0.0, 1.0)
    assert row["kolmogorov_smirnov"] is None


def test_what_cannot_be_judged_says_why_and_raises_nothing():
    rng = np.random.default_rng(7)
    n = REFERENCE + WINDOW
    frame = _columns(7, ["iid"]).with_columns(
        walk=np.cumsum(rng.standard_normal(n)),
        same=pl.lit(3.0),
        moved=pl.when(pl.int_range(n) < REFERENCE).then(3.0).otherwise(4.0),
        empty=pl.lit(None, pl.Float64),
    )
    drift = judged(frame)
    why = dict(drift.columns.select("column", "why").iter_rows())
    assert dict(drift.columns.select("column", "verdict").iter_rows()) == {
        "x0": STEADY,
        **dict.fromkeys(("walk", "same", "moved", "empty"), NOT_JUDGED),
    }
    assert why["walk"].startswith("too persistent: its 756 sessions count as ")
    assert why["same"] == "the same in every session of the reference"
    assert why["moved"] == "the same in every session of the reference, and other values now"
    assert why["empty"] == "no value in the reference"
    assert drift.columns.filter(verdict=NOT_JUDGED)["p"].null_count() == 4


def test_columns_that_can_all_not_be_judged_have_no_p_and_no_alarm():
    drift = judged(_columns(7, ["iid"]).with_columns(x0=pl.lit(1.0)))
    assert np.isnan(drift.p)
    assert drift.drifted == []


def test_judgement_does_not_depend_on_the_order_of_rows_and_columns_or_on_their_units():
    frame = in_window(_columns(8, ["iid", "AR 0.5", "AR 0.9"], n_symbols=4), pl.col("x0") + 0.5)
    one = judged(frame)
    other = judged(
        frame.sample(fraction=1.0, shuffle=True, seed=3)
        .select("session", "x2", "x0", "x1")
        .with_columns(pl.col("x1") * 1024.0)
    )
    assert one.p == pytest.approx(other.p, rel=1e-9)
    both = one.columns.join(other.columns, on="column", suffix="_other")
    for name in ("p", "shift", "wasserstein", "persistence"):
        assert both[name].to_list() == pytest.approx(both[f"{name}_other"].to_list(), rel=1e-6)


def test_smaller_error_never_calls_more():
    frame = in_window(_columns(9, ["AR 0.5"] * 10), pl.col("x0") + 0.7)
    called = [set(judged(frame, error=error).drifted) for error in (0.2, 0.05, 0.01, 0.001)]
    assert all(smaller <= larger for larger, smaller in zip(called, called[1:], strict=False))
    assert {each["verdict"] for each in judged(frame).columns.to_dicts()} <= {DRIFTED, STEADY}


def test_too_few_sessions_wrong_error_and_other_bins_are_refused_with_what_cures():
    frame = _columns(1, ["iid"])
    bins = reference_bins(frame, ["x0"])
    whole = session_histograms(frame, bins)
    with pytest.raises(
        ValueError, match="4 times the sessions of the window, had 100 of 63; choose a window of at most 25"
    ):
        judge_drift(whole.last(100), whole.last(63))
    judge_drift(whole.last(100), whole.last(25))
    with pytest.raises(ValueError, match="had 819 of 0"):
        judge_drift(whole, whole.between(FIRST - timedelta(days=9), FIRST - timedelta(days=1)))
    with pytest.raises(ValueError, match="`error` must be above 0"):
        judge_drift(whole, whole.last(63), error=0.0)
    with pytest.raises(ValueError, match="count it again"):
        judge_drift(whole, session_histograms(frame, reference_bins(frame, ["x0"])).last(63))
