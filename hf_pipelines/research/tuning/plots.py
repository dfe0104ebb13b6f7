"""Pictures of a study: how it went, what each parameter does, which parameters matter, and the front.

Lives here: a study in, PNG bytes out. Does not live here: how figures look in general (`research.plots.style`), where they are shown
(`components`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_pipelines.research.plots.importances import importances_png
from hf_pipelines.research.plots.style import (
    BAD_COLOUR,
    OWN_COLOUR,
    SKY,
    SMALL_SIZE,
    VERMILION,
    declutter,
    new_figure,
    png_of,
)
from hf_pipelines.research.tuning.samplers import as_optuna
from hf_pipelines.research.tuning.space import Categorical, Dimension
from hf_pipelines.research.tuning.study import Study
from hf_pipelines.research.tuning.trials import COMPLETED, FAILED, PRUNED, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of these a page is legible.
SHOWN_SLICES, SLICES_A_ROW = 12, 2

SHOWN_LETTERS = 18

# With fewer trials a share of the variance is no estimate.
LEAST_FOR_IMPORTANCES = 10

TRIAL_COLOUR, FRONT_COLOUR = SKY, VERMILION


def study_pictures(study: Study, importances: Mapping[str, float]) -> dict[str, Callable[[], bytes]]:
    """What draws each picture that a study has enough trials for, as PNG bytes, by name; the same study gives the same bytes.

    Parameters
    ----------
    study : Study
    importances : mapping of str to float
        From `parameter_importances`.
    """
    if not _completed(study):
        return {}
    found: dict[str, Callable[[], bytes]] = {
        "history": partial(history_png, study),
        "slices": partial(slices_png, study),
    }
    if importances:
        found["parameter_importances"] = partial(importances_png, [*importances], [*importances.values()])
    if len(study.design.goals) > 1:
        found["front"] = partial(front_png, study)
    return found


def parameter_importances(study: Study) -> dict[str, float]:
    """Share of each parameter in the variance of the first objective, by a functional ANOVA of a random forest, largest first.

    Parameters that only some trials have are left out: those of a choice. Empty of fewer than ten completed trials, and where all have
    the same value.

    References
    ----------
    Hutter, Hoos & Leyton-Brown (2014), "An Efficient Approach for Assessing Hyperparameter Importance", ICML.
    """
    trials = _completed(study)
    values = [each.outcome.values[0] for each in trials]
    if len(trials) < LEAST_FOR_IMPORTANCES or max(values) == min(values):
        return {}
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    goals = study.design.goals
    shown = optuna.create_study(directions=["maximize" if each.is_better_higher else "minimize" for each in goals])
    shown.add_trials([as_optuna(each, study.design.space) for each in trials])
    found = get_param_importances(
        shown, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: float(trial.values[0])
    )
    return dict(sorted(((name, float(value)) for name, value in found.items()), key=lambda pair: (-pair[1], pair[0])))


def history_png(study: Study) -> bytes:
    """The first objective by slot, the best so far, and at the bottom the slots that were pruned or failed."""
    goal, trials = study.design.goals[0], _completed(study)
    slots = np.array([each.slot for each in trials])
    values = np.array([each.outcome.values[0] for each in trials])
    able = [each for each in trials if each.outcome.is_feasible]
    best = (np.maximum if goal.is_better_higher else np.minimum).accumulate([each.outcome.values[0] for each in able])
    figure = new_figure(height=3.4)
    axes = figure.subplots()
    axes.plot(slots, values, "o", color=TRIAL_COLOUR, markersize=4, label=f"trial ({len(trials)})")
    if able:
        steps = [*(each.slot for each in able), len(study.trials) - 1]
        axes.step(steps, [*best, best[-1]], where="post", color=OWN_COLOUR, label="best so far")
    for state, marker, colour in ((PRUNED, "|", "0.5"), (FAILED, "x", BAD_COLOUR)):
        ended = [each.slot for each in study.trials if each.outcome.state == state]
        if ended:
            level = np.zeros(len(ended)) + (0.02 if state == PRUNED else 0.06)
            axes.plot(
                ended, level, marker, color=colour, markersize=6, label=f"{state} ({len(ended)})",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    axes.set_xlabel("Slot")
    axes.set_ylabel(_label(goal.name, is_better_higher=goal.is_better_higher))
    axes.legend(frameon=False, fontsize=SMALL_SIZE, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    _finish(axes)
    return png_of(figure)


def slices_png(study: Study) -> bytes:
    """The first objective over each parameter, a panel each, later slots darker; the trial that is used is ringed."""
    goal, trials = study.design.goals[0], _completed(study)
    shown = [each for each in study.design.space.dimensions if any(each.name in trial.point for trial in trials)]
    shown = shown[:SHOWN_SLICES]
    n_rows = math.ceil(len(shown) / SLICES_A_ROW)
    figure = new_figure(height=0.4 + 1.9 * n_rows)
    panels = figure.subplots(n_rows, SLICES_A_ROW, sharey=True, squeeze=False)
    used = study.best if any(each.outcome.is_feasible for each in trials) else None
    for axes, dimension in zip(panels.flat, shown, strict=False):
        _draw_slice(axes, dimension, trials, used)
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(_label(goal.name, is_better_higher=goal.is_better_higher), fontsize=8)
    hidden = len(study.design.space.dimensions) - len(shown)
    if hidden > 0 and len(shown) == SHOWN_SLICES:
        figure.suptitle(
            f"First {len(shown)} of {len(shown) + hidden} parameters", x=0.02, ha="left", fontsize=SMALL_SIZE
        )
    return png_of(figure)


def front_png(study: Study) -> bytes:
    """The first two objectives of each completed trial, the front among them, and the trial that is used."""
    goals, trials, front = study.design.goals[:2], _completed(study), study.front
    figure = new_figure(height=3.9)
    axes = figure.subplots()
    points = np.array([each.outcome.values[:2] for each in trials])
    axes.plot(points[:, 0], points[:, 1], "o", color=TRIAL_COLOUR, markersize=4, label=f"trial ({len(trials)})")
    if front:
        on_front = np.array(sorted(each.outcome.values[:2] for each in front))
        axes.plot(
            on_front[:, 0],
            on_front[:, 1],
            "o-",
            color=FRONT_COLOUR,
            markersize=5,
            linewidth=0.8,
            label=f"front ({len(front)})",
        )
        x, y = study.best.outcome.values[:2]
        axes.plot(
            [x],
            [y],
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor="0.1",
            label=f"used (slot {study.best.slot})",
        )
    axes.set_xlabel(_label(goals[0].name, is_better_higher=goals[0].is_better_higher))
    axes.set_ylabel(_label(goals[1].name, is_better_higher=goals[1].is_better_higher))
    axes.legend(frameon=False, fontsize=SMALL_SIZE, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    _finish(axes)
    return png_of(figure)


def _draw_slice(axes: Axes, dimension: Dimension, trials: Sequence[Trial], used: Trial | None) -> None:
    having = [each for each in trials if dimension.name in each.point]
    values = [each.outcome.values[0] for each in having]
    distribution = dimension.distribution
    if isinstance(distribution, Categorical):
        places: list[Any] = [distribution.choices.index(each.point[dimension.name]) for each in having]
        labels = [str(each)[:SHOWN_LETTERS] for each in distribution.choices]
        axes.set_xticks(
            range(len(labels)),
            labels,
            rotation=20 if max(map(len, labels)) > 8 else 0,
            ha="right" if max(map(len, labels)) > 8 else "center",
        )
        axes.set_xlim(-0.5, len(distribution.choices) - 0.5)
    else:
        places = [each.point[dimension.name] for each in having]
        if distribution.log:
            from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

            axes.set_xscale("log")
            axes.xaxis.set_major_locator(
                LogLocator(subs=(1.0,) if distribution.high >= 100.0 * distribution.low else (1.0, 3.0))
            )
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    last = max(each.slot for each in trials) or 1
    axes.scatter(
        places,
        values,
        c=[0.25 + 0.75 * each.slot / last for each in having],
        cmap="Blues",
        vmin=0,
        vmax=1,
        s=14,
        linewidths=0,
    )
    if used is not None and used in having:
        at = having.index(used)
        axes.plot([places[at]], [values[at]], "o", markersize=9, markerfacecolor="none", markeredgecolor=FRONT_COLOUR)
    axes.set_xlabel(dimension.name, fontsize=8)
    _finish(axes)
    if not isinstance(distribution, Categorical) and not distribution.log:
        axes.locator_params(axis="x", nbins=4)


def _finish(axes: Axes) -> None:
    declutter(axes, grid="y")


def _label(name: str, *, is_better_higher: bool) -> str:
    return f"{name} ({'higher' if is_better_higher else 'lower'} is better)"


def _completed(study: Study) -> list[Trial]:
    return [each for each in study.trials if each.outcome.state == COMPLETED]
