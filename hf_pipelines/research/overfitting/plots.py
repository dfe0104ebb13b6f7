"""Figures of overfitting: scores by fold, gaps beside those of permuted labels, the two curves, the best of the trials, as PNG bytes.

Lives here: results in, bytes out. Not here: the results (`signs`), other figures (`research.plots`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hf_pipelines.research.overfitting.sharpe import expected_maximum_sharpe
from hf_pipelines.research.overfitting.signs import GapTest
from hf_pipelines.research.plots.style import (
    NO_VALUE_COLOUR,
    ORANGE,
    OWN_COLOUR,
    SMALL_SIZE,
    declutter,
    new_figure,
    png_of,
)
from hf_pipelines.research.plots.style import (
    title as titled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEST_COLOUR = OWN_COLOUR
TRAIN_COLOUR = ORANGE
CHANCE_COLOUR = NO_VALUE_COLOUR

# Folds whose first session can be read below their bars.
SHOWN_FOLDS = 6

# A parameter whose largest value is this many times its smallest is drawn in the logarithm.
LOGARITHMIC_SPAN = 20.0


def folds_png(fold_metrics: pl.DataFrame, *, score: str, note: str = "") -> bytes:
    """A score by fold with its mean, on the training rows too where `fold_metrics` have it.

    Parameters
    ----------
    fold_metrics : DataFrame
        `fold`, `test_start`, the score and, optionally, `train_<score>`; a fold without the score has no bar.
    score : str
    note : str
        Above the figure.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    from matplotlib.ticker import MaxNLocator

    n = fold_metrics.height
    at = np.arange(n)
    values = fold_metrics[score].to_numpy().astype(np.float64)
    figure = new_figure(height=3.4)
    axes = figure.subplots()
    axes.bar(at, values, width=0.6, color=TEST_COLOUR, label="Test rows")
    if (trained := f"train_{score}") in fold_metrics.columns:
        axes.plot(
            at,
            fold_metrics[trained].to_numpy(),
            "_",
            color=TRAIN_COLOUR,
            markersize=18,
            markeredgewidth=2.5,
            label="Training rows",
        )
    if np.isfinite(values).any():
        axes.axhline(
            np.nanmean(values), color=TEST_COLOUR, linewidth=1.0, linestyle="--", label="Mean of the test rows"
        )
    axes.axhline(0.0, color="0.3", linewidth=0.8)
    step = max(1, -(-n // SHOWN_FOLDS))
    shown = at[::step]
    axes.set_xticks(
        shown,
        [f"{fold_metrics['fold'][int(i)]}\n{fold_metrics['test_start'][int(i)]:%Y-%m-%d}" for i in shown],
    )
    axes.set_xlabel("Fold and the first session that it tests")
    axes.set_ylabel(_words(score))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    _finish(axes, note)
    return png_of(figure)


def gap_png(gap: GapTest, *, score: str) -> bytes:
    """The gap beside those of permuted labels, and their 95th percentile.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    figure = new_figure(height=3.3)
    axes = figure.subplots()
    n = len(gap.permuted_gaps)
    axes.hist(
        gap.permuted_gaps, bins=min(max(n // 3, 6), 40), color=CHANCE_COLOUR, label=f"{n} permutations of the labels"
    )
    axes.axvline(
        gap.gap_limit, color="0.3", linewidth=1.2, linestyle="--", label=f"95 % of them are at most {gap.gap_limit:.3g}"
    )
    colour = TRAIN_COLOUR if gap.is_flagged else TEST_COLOUR
    axes.axvline(gap.gap, color=colour, linewidth=2.4, label=f"The learner: {gap.gap:.3g}")
    axes.set_xlabel(f"How much better the {_words(score).lower()} is on training rows than on test rows")
    axes.set_ylabel("Permutations")
    verdict = (
        "Overfit: the gap is larger than chance makes it"
        if gap.is_flagged
        else "The gap is no larger than chance makes it"
    )
    if gap.is_memorising and not gap.is_flagged:
        verdict = (
            f"The learner knows {gap.memorised_share:.0%} of labels without meaning by heart: the gap cannot judge it"
        )
    _finish(axes, verdict)
    return png_of(figure)


def learning_curve_png(curve: pl.DataFrame, *, score: str) -> bytes:
    """Scores over the number of training sessions, as `learning_curve` gives them.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    figure = new_figure(height=3.4)
    axes = figure.subplots()
    _draw_curve(axes, curve["n_train_sessions"].to_numpy(), curve)
    axes.set_xlabel("Sessions trained on, mean of the folds")
    axes.set_ylabel(_words(score))
    _finish(axes, "Learning curve: mean of the folds, lowest and highest shaded")
    return png_of(figure)


def validation_curve_png(curve: pl.DataFrame, *, parameter: str, score: str) -> bytes:
    """Scores over the values of one parameter, as `validation_curve` gives them; the learner's own value is marked.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    figure = new_figure(height=3.4)
    axes = figure.subplots()
    names = curve["point"].to_list()
    numbers = curve["point"].cast(pl.Float64, strict=False)
    is_numeric = numbers.null_count() == 0
    x = numbers.to_numpy() if is_numeric else np.arange(len(names))
    _draw_curve(axes, x, curve)
    if is_numeric and x[0] > 0 and x[-1] / x[0] >= LOGARITHMIC_SPAN:
        axes.set_xscale("log")
    axes.set_xticks(x, names)
    axes.minorticks_off()
    own = x[curve["is_chosen"].to_numpy()][0]
    axes.axvline(own, color="0.3", linewidth=1.0, linestyle="--", label="The learner's own")
    axes.set_xlabel(parameter)
    axes.set_ylabel(_words(score))
    _finish(axes, "Validation curve: mean of the folds, lowest and highest shaded")
    return png_of(figure)


def best_of_trials_png(
    sharpes: Sequence[float], *, trials_variance: float, own: float | None = None, note: str = ""
) -> bytes:
    """The best Sharpe ratio of the first n trials over n, beside what the best of n without skill is expected to show.

    Parameters
    ----------
    sharpes : sequence of float
        Annualised or not, in the order of the trials; NaN for one without a ratio.
    trials_variance : float
        Variance of the ratios without skill, in the same unit squared.
    own : float, optional
        The ratio that is judged: of a week whose configuration was counted in an earlier one no trial has it.
    note : str
        Above the figure.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.

    Raises
    ------
    ValueError
        If there is no trial.
    """
    if not len(sharpes):
        raise ValueError("`sharpes` must hold a trial, was empty.")
    values = np.asarray(sharpes, dtype=np.float64)
    n = np.arange(1, len(values) + 1)
    best = np.fmax.accumulate(values)
    figure = new_figure(height=3.4)
    axes = figure.subplots()
    axes.plot(n, values, ".", color=CHANCE_COLOUR, markersize=4, label="Each trial")
    axes.step(n, best, where="post", color=TEST_COLOUR, linewidth=1.8, label="Best so far")
    noise = np.atleast_1d(expected_maximum_sharpe(trials_variance, n))
    axes.plot(n, noise, color=TRAIN_COLOUR, linewidth=1.4, linestyle="--", label="Expected of noise")
    if own is not None:
        axes.axhline(own, color=TEST_COLOUR, linewidth=1.0, linestyle=":", label=f"This result, {own:.2f}")
    if len(values) >= LOGARITHMIC_SPAN:
        axes.set_xscale("log")
    else:
        from matplotlib.ticker import MaxNLocator

        axes.set_xlim(0.5, len(values) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("Trials, in the order in which they were begun")
    axes.set_ylabel("Sharpe ratio a year")
    _finish(axes, note)
    return png_of(figure)


def _draw_curve(axes: Axes, x: np.ndarray, curve: pl.DataFrame) -> None:
    for name, colour, label in (("train", TRAIN_COLOUR, "Training rows"), ("test", TEST_COLOUR, "Test rows")):
        axes.fill_between(x, curve[f"{name}_low"], curve[f"{name}_high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, curve[f"{name}_score"], "o-", color=colour, linewidth=1.4, markersize=4, label=label)


def _finish(axes: Axes, title: str) -> None:
    declutter(axes, grid="y")
    # Below the axes, where nothing is drawn.
    axes.legend(fontsize=SMALL_SIZE, frameon=False, loc="upper left", bbox_to_anchor=(0.0, -0.22), ncols=2)
    figure = axes.get_figure(root=True)
    assert figure is not None
    titled(figure, "", title)


def _words(score: str) -> str:
    return score.replace("_", " ").capitalize()
