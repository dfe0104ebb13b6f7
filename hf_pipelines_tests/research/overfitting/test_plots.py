"""Figures of overfitting: what their words and marks say, and that equal values are equal bytes."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.overfitting import expected_maximum_sharpe, plots
from hf_pipelines.research.overfitting.signs import GapTest
from hf_pipelines.research.plots.style import TEXT_LETTERS
from hf_pipelines_tests.research.plots.test_plots import words

CURVE = pl.DataFrame(
    {
        "point": ["1", "10", "1000"],
        "n_train_sessions": [40.0, 80.0, 120.0],
        "train_score": [0.3, 0.2, 0.1],
        "test_score": [0.0, 0.05, 0.04],
        **{f"{name}_{end}": [0.0, 0.1, 0.2] for name in ("train", "test") for end in ("low", "high")},
        "is_chosen": [False, True, False],
    }
)


def judged(gap: float, *, memorised: float = 0.1) -> GapTest:
    return GapTest(
        gap=gap, train_score=gap, test_score=0.0, permuted_gaps=np.linspace(0.0, 0.1, 39), gap_limit=0.095,
        is_flagged=gap > 0.095, memorised_share=memorised, is_memorising=memorised > 0.5,
    )  # fmt: skip


@pytest.fixture
def drawn(monkeypatch) -> list[Any]:
    figures: list[Any] = []
    draw = plots.png_of
    monkeypatch.setattr(plots, "png_of", lambda figure: figures.append(figure) or draw(figure))
    return figures


@pytest.mark.parametrize(
    ("gap", "title"),
    [
        (judged(0.2), "Overfit: the gap is larger than chance makes it"),
        (judged(0.05), "The gap is no larger than chance makes it"),
        (
            judged(0.05, memorised=0.9),
            "The learner knows 90% of labels without meaning by heart: the gap cannot judge it",
        ),
        (judged(0.2, memorised=0.9), "Overfit: the gap is larger than chance makes it"),
    ],
    ids=["overfit", "honest", "memorising", "both"],
)
def test_gap_png_says_what_the_test_says_and_marks_the_gap(drawn, gap, title):
    png = plots.gap_png(gap, score="information_coefficient")
    (axes,) = drawn[0].axes
    assert words(drawn[0]) == title
    marked = [line.get_xdata()[0] for line in axes.get_lines()]
    assert marked == [gap.gap_limit, gap.gap]
    assert sum(bar.get_height() for bar in axes.patches) == 39
    assert plots.gap_png(gap, score="information_coefficient") == png


def test_curves_draw_training_above_test_rows_and_mark_the_learners_own_value(drawn):
    plots.learning_curve_png(CURVE, score="accuracy")
    plots.validation_curve_png(CURVE, parameter="alpha", score="accuracy")
    plots.validation_curve_png(CURVE.with_columns(point=pl.Series(["a", "b", "c"])), parameter="kind", score="accuracy")
    learning, numbers, names = (figure.axes[0] for figure in drawn)
    assert [list(line.get_xdata()) for line in learning.get_lines()] == [[40.0, 80.0, 120.0]] * 2
    assert [list(line.get_ydata()) for line in learning.get_lines()] == [[0.3, 0.2, 0.1], [0.0, 0.05, 0.04]]
    # From 1 to 1000: in the logarithm; names side by side.
    assert (numbers.get_xscale(), names.get_xscale()) == ("log", "linear")
    assert [axes.get_lines()[-1].get_xdata()[0] for axes in (numbers, names)] == [10.0, 1]
    assert [label.get_text() for label in names.get_xticklabels()] == ["a", "b", "c"]


def test_folds_png_has_a_bar_a_fold_and_none_where_the_score_is_undefined(drawn):
    starts = [datetime(2024, month, 1, tzinfo=UTC) for month in range(1, 4)]
    metrics = pl.DataFrame({"fold": [0, 1, 2], "test_start": starts, "auc": [0.4, float("nan"), 0.6]})
    note = "auc from 0.4 to 0.6 over 2 folds (1 more without), mean 0.5, standard deviation 0.141; and much more of it."
    plots.folds_png(metrics.with_columns(train_auc=pl.lit(0.9)), score="auc", note=note)
    (axes,) = drawn[0].axes
    heights = [bar.get_height() for bar in axes.patches]
    assert (heights[0], heights[2]) == (0.4, 0.6) and np.isnan(heights[1])
    assert [line.get_ydata()[0] for line in axes.get_lines()][:2] == [0.9, 0.5]
    assert words(drawn[0]).replace("\n", " ") == note
    assert max(map(len, words(drawn[0]).split("\n"))) <= TEXT_LETTERS
    plots.folds_png(metrics.with_columns(auc=pl.lit(float("nan"))), score="auc")
    assert len(drawn) == 2


def test_best_of_trials_is_drawn_beside_noise(drawn):
    png = plots.best_of_trials_png([0.5, math.nan, 1.5, 1.0], trials_variance=0.5, note="4 trials")
    assert png == plots.best_of_trials_png([0.5, math.nan, 1.5, 1.0], trials_variance=0.5, note="4 trials")
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["Best so far"].get_ydata().tolist() == [0.5, 0.5, 1.5, 1.5]
    assert lines["Expected of noise"].get_ydata()[[0, 3]].tolist() == [0.0, expected_maximum_sharpe(0.5, 4)]
    # Trials are counted: no tick lies between two of them; what is judged may be none of them.
    plots.best_of_trials_png([0.5], trials_variance=0.5, own=-0.25)
    (axes,) = drawn[-1].axes
    assert [line.get_ydata()[0] for line in axes.get_lines() if line.get_label() == "This result, -0.25"] == [-0.25]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    with pytest.raises(ValueError, match="`sharpes` must hold a trial"):
        plots.best_of_trials_png([], trials_variance=1.0)
