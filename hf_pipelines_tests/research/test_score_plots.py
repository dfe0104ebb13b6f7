"""Figures of scores: what is drawn where, and the same bytes for the same scores."""

import polars as pl
import pytest
from PIL import Image

from hf_pipelines.research import score_plots
from hf_pipelines.research.plots.style import OWN_COLOUR
from hf_pipelines.research.reliability import SCHEMA as RELIABILITY
from hf_pipelines.research.score_rows import SCHEMA
from hf_pipelines_tests.research.plots.test_plots import coloured, pixels, words


def scores(*rows: tuple[str, str, int | None, float | None, float | None, float | None]) -> pl.DataFrame:
    """Rows of predictor, score, fold, value, low, high."""
    names = ["predictor", "score", "fold", "value", "low", "high"]
    return pl.DataFrame([dict(zip(names, row, strict=True)) for row in rows], schema=SCHEMA)


SOME = scores(
    ("model", "accuracy", 0, 0.5, None, None),
    ("model", "accuracy", None, 0.55, 0.5, 0.6),
    ("majority", "accuracy", None, 0.45, 0.4, 0.5),
    ("model", "log_loss", None, 1.0, 0.9, 1.1),
    ("majority", "log_loss", None, None, None, None),
    ("model", "auc", None, None, None, None),
)


@pytest.fixture
def drawn(monkeypatch):
    """Figures instead of their bytes."""
    found = []
    monkeypatch.setattr(score_plots, "png_of", lambda figure: found.append(figure) or b"")
    return found


def test_scores_png_has_a_panel_for_each_score_that_is_defined(drawn):
    score_plots.scores_png(SOME, note="It beats.")
    panels = [each for each in drawn[0].axes if each.get_visible()]
    assert [each.get_title(loc="left") for each in panels] == ["accuracy (more is better)", "log loss (less is better)"]
    assert words(drawn[0]).startswith("It beats.\nBar: 95% interval")
    assert [each.get_text() for each in panels[0].get_yticklabels()] == ["model", "majority"]
    # Fold, interval and value of the model, then of the majority, which has no fold.
    lines = [list(line.get_xdata()) for line in panels[0].lines]
    assert lines == [[0.5], [0.5, 0.6], [0.55], [], [0.4, 0.5], [0.45]]
    assert [each.get_text() for each in panels[1].texts] == ["undefined"]


def test_scores_png_draws_the_model_in_its_colour_and_the_same_bytes():
    png = score_plots.scores_png(SOME)
    assert coloured(pixels(png), OWN_COLOUR).any()
    assert png == score_plots.scores_png(SOME)


def test_scores_png_without_a_defined_score_raises():
    with pytest.raises(ValueError, match="`scores` must hold a score that is defined, was without"):
        score_plots.scores_png(SOME.filter(score="auc"))


def test_confusion_png_shows_shares_of_what_occurred(drawn):
    folds = pl.DataFrame({"down_as_down": [1, 2], "down_as_up": [0, 1], "up_as_down": [0, 0], "up_as_up": [0, 0]})
    score_plots.confusion_png(folds, classes=("down", "up"))
    assert [each.get_text() for each in drawn[0].axes[0].texts] == ["75%\n3", "25%\n1", "0%\n0", "0%\n0"]


def test_confusion_png_is_a_picture(tmp_path):
    folds = pl.DataFrame({f"{a}_as_{b}": [7] for a in "xy" for b in "xy"})
    (tmp_path / "it.png").write_bytes(score_plots.confusion_png(folds, classes=("x", "y")))
    with Image.open(tmp_path / "it.png") as image:
        assert image.width > 300


def test_horizons_of_scores_are_told_apart():
    both = pl.concat([SOME.select(pl.lit(each, dtype=pl.Int32).alias("horizon"), pl.all()) for each in (5, 1)])
    assert list(score_plots.horizons_of(both)) == [5, 1]
    assert score_plots.horizons_of(both)[1].equals(SOME) and list(score_plots.horizons_of(SOME)) == [None]


def test_reliability_png_shows_each_group_with_its_interval_and_number_of_rows(drawn):
    groups = pl.DataFrame(
        [(0, 0.5, 0.4, 0.3, 0.6, 1200), (1, 0.8, 0.7, None, None, 1300)], schema=RELIABILITY, orient="row"
    )
    score_plots.reliability_png(groups, note="They are apart.")
    axes = drawn[0].axes[0]
    # The line on which both are equal, interval and dot of the first group, dot of the second, which has no interval.
    assert [[*zip(*line.get_data(), strict=True)] for line in axes.lines] == [
        [(0.5, 0.5), (0.8, 0.8)],
        [(0.5, 0.3), (0.5, 0.6)],
        [(0.5, 0.4)],
        [(0.8, 0.7)],
    ]
    assert [each.get_text() for each in axes.texts] == ["1,200", "1,300"]
    assert words(drawn[0]).startswith("They are apart.\n") and "Dot: a group of rows" in words(drawn[0])


def test_reliability_png_of_one_group_is_the_same_bytes():
    groups = pl.DataFrame([(0, 0.5, 0.4, 0.3, 0.6, 1200)], schema=RELIABILITY, orient="row")
    png = score_plots.reliability_png(groups)
    assert coloured(pixels(png), OWN_COLOUR).any() and png == score_plots.reliability_png(groups)
