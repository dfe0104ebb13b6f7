"""Contributions over windows: those of a line by hand, what adds up for networks and series, and what a learner does not read."""

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.explanations.importance import CONTRIBUTION, Importance, examine_fold
from hf_pipelines.research.explanations.windows import AskedWindow, ask_window, whole_windows, window_contributions
from hf_pipelines.research.learners import predict_frame
from hf_pipelines_tests.research.explanations.test_importance import FEATURES, N_SYMBOLS, fold_of, matrix_of

RANDOM = np.random.default_rng(1)
# Of each bar of a window and each feature; the third is not read.
SLOPES = np.array([[0.5, 0.0, 0.0], [1.0, -1.0, 0.0], [2.0, 0.5, 0.0]])
BACKGROUND = RANDOM.standard_normal((60, 3, 3)).astype(np.float32)
NETWORK = {"params": {"window": 3, "hidden": 8, "epochs": 15, "learning_rate": 0.01}}


def line(windows):
    return 1.0 + (windows.astype(np.float64) * SLOPES).sum(axis=(1, 2))


def test_contributions_of_a_line_over_windows_are_its_slopes_times_the_distance_from_the_background():
    own = RANDOM.standard_normal((3, 3)).astype(np.float32)
    found = window_contributions(AskedWindow(own, line, 3), BACKGROUND, n_permutations=60)
    expected = (SLOPES * (own - BACKGROUND.mean(axis=0, dtype=np.float64))).sum(axis=0)
    # Each of 60 windows is used once, so that nothing is left to chance.
    assert found.values[0] == pytest.approx(expected, abs=1e-9)
    assert found.values[0, 2] == 0.0
    few = window_contributions(AskedWindow(own, line, 3), BACKGROUND, n_permutations=5)
    assert few.base[0] + few.values[0].sum() == pytest.approx(float(line(own[None])[0]), abs=1e-12)


def predicted_of(fold, symbol: str, ts) -> float:
    """As `predict_frame` has it, with all rows up to it."""
    frame = fold.matrix.filter(pl.col("ts") <= ts)
    wanted = ((frame["symbol"] == symbol) & (frame["ts"] == ts)).to_numpy()
    found = predict_frame(fold.pipeline, frame, features=FEATURES, classes=(), wanted=wanted)
    return float(found["prediction"][0])


@pytest.mark.parametrize(
    ("learner", "parts"),
    [
        ("tcn", {**NETWORK, "preprocessing": ["cross_sectional_rank"]}),
        ("gru", NETWORK),
        (
            "kalman",
            {
                "params": {
                    "feature": "down",
                    "history_bars": 10,
                    "minimum_bars": 20,
                    "model": "local_level",
                    "ar_lags": 0,
                }
            },
        ),
    ],
)
def test_contributions_add_up_to_what_a_learner_of_windows_predicts(learner, parts):
    fold = fold_of(learner, **parts)
    ts = fold.matrix["ts"][-1]
    asked = {"features": FEATURES, "classes": (), "missing": "drop", "times": None}
    window = ask_window(fold.pipeline, fold.matrix.tail(40 * N_SYMBOLS), "S3", **asked)
    n_bars = fold.pipeline.choice.history_bars + 1
    own = fold.matrix.filter(pl.col("symbol") == "S3").tail(n_bars).select(FEATURES).to_numpy().astype(np.float32)
    assert (window.values == own).all()
    others = whole_windows(fold.matrix, FEATURES, n_bars=n_bars, most=30)
    found = window_contributions(window, others, n_permutations=6)
    prediction = predicted_of(fold, "S3", ts)
    assert found.base[0] + found.values[0].sum() == pytest.approx(prediction, rel=1e-5, abs=1e-7)
    assert window.ask_last(own[-1:])[0] == pytest.approx(prediction, rel=1e-5, abs=1e-7)
    if learner == "kalman":
        # It reads one feature: nothing of the others, to the last bit.
        assert [name for name, value in zip(FEATURES, found.values[0], strict=True) if value != 0.0] == ["down"]


def test_a_network_that_knows_the_signal_gives_noise_little():
    fold = fold_of("gru", params={**NETWORK["params"], "epochs": 60})
    found = examine_fold(fold, asked=Importance(score="mse", repeats=0, rows=200), clusters=[], seed=0)
    sizes = {row["name"]: row["value"] for row in found.filter(kind=CONTRIBUTION).to_dicts()}
    ways = {row["name"]: row["direction"] for row in found.filter(kind=CONTRIBUTION).to_dicts()}
    assert max(sizes, key=sizes.get) == "market" and sizes["noise"] < 0.15 * sizes["market"]
    assert ways["market"] > 0.8 and ways["down"] < -0.3


def test_learners_without_a_method_of_their_own_have_sampled_contributions_in_the_table():
    fold = fold_of("nearest_neighbours", params={"n_neighbors": 40}, preprocessing=["standard_scaling"])
    found = examine_fold(fold, asked=Importance(score="mse", repeats=0, rows=200), clusters=[], seed=0)
    sizes = {row["name"]: row["value"] for row in found.filter(kind=CONTRIBUTION).to_dicts()}
    assert [*sizes] == [*FEATURES]
    assert max(sizes, key=sizes.get) == "market" and sizes["noise"] < 0.25 * sizes["market"]
    again = examine_fold(fold, asked=Importance(score="mse", repeats=0, rows=200), clusters=[], seed=0)
    assert again.equals(found)


def test_windows_have_no_gap_and_are_of_one_symbol():
    matrix = matrix_of(symbols=2)
    times = matrix["ts"].unique().sort()
    halted = matrix.filter((pl.col("symbol") != "S0") | (pl.col("ts") != times[50]))
    found = whole_windows(halted, ["up"], n_bars=5, most=1_000)
    n_sessions = len(times)
    # Of one symbol every window but the first four; of the other also none over the halt.
    assert len(found) == 2 * (n_sessions - 4) - 5
    with pytest.raises(
        ValueError, match="`frame` must hold a symbol with rows at 200 bars one after the other, had none"
    ):
        whole_windows(matrix, ["up"], n_bars=200, most=10)
    asked = {"features": ("up",), "classes": (), "missing": "drop", "times": None}
    with pytest.raises(ValueError, match="`symbol` must have a row, had none of S9"):
        ask_window(fold_of().pipeline, matrix, "S9", **asked)
