"""Figure of a rollout: the share of the capital, the evidence and the loss from the peak, session by session.

Lives here: where it stands in, PNG bytes out. Not here: the rule (`promotion.rollout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_pipelines.research.plots.style import (
    BAD_COLOUR,
    MUTED_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    date_ticks,
    declutter,
    footer,
    new_figure,
    percent_ticks,
    png_of,
    title,
)
from hf_pipelines.research.promotion.rollout import SHARES, STOPPED, Rollout, RolloutSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Below it evidence says nothing more of interest.
LEAST_EVIDENCE = 0.03


def rollout_png(
    name: str, first: date, sessions: Sequence[date], rollout: Rollout, settings: RolloutSettings, *, note: str = ""
) -> bytes:
    """A rollout as a picture.

    Parameters
    ----------
    name : str
        Strategy and challenger.
    first : date
        From which results count.
    sessions : sequence of date
        Those that have matured.
    rollout : Rollout
    settings : RolloutSettings
    note : str
        What else is to be known, below everything.
    """
    figure = new_figure(height=5.6)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(2.0, 2.4, 1.6))
    now = "stopped" if rollout.is_stopped else f"{rollout.share:.0%} of the capital" if rollout.share else "in shadow"
    title(figure, f"{name}: {now}", f"{rollout.n_sessions} sessions have matured since {first}")
    _draw_share(top, first, sessions, rollout)
    _draw_evidence(middle, sessions, rollout, settings)
    _draw_loss(bottom, sessions, rollout, settings)
    for axes in (top, middle, bottom):
        declutter(axes, grid="y")
    end = max(sessions[-1] if sessions else first, first + timedelta(days=7))
    # What is drawn of it says how the dates are told, too.
    bottom.plot(_days([first, end]), [0.0, 0.0], alpha=0.0)
    bottom.set_xlim(first, end + timedelta(days=1))
    date_ticks(bottom)
    if note:
        footer(figure, note)
    return png_of(figure)


def _days(days: Sequence[date]) -> NDArray[np.datetime64]:
    return np.array(days, dtype="datetime64[D]")


def _draw_share(axes: Axes, first: date, sessions: Sequence[date], rollout: Rollout) -> None:
    days, shares = [first], [0.0]
    for step in rollout.steps:
        # Of issues that are gone since there are fewer than there were.
        days.append(sessions[min(step.n_sessions, len(sessions)) - 1] if sessions else first)
        shares.append(step.share)
    end = sessions[-1] if sessions else first
    axes.step(_days([*days, end]), [*shares, shares[-1]], where="post", color=OWN_COLOUR, linewidth=1.6)
    for day, step in zip(days[1:], rollout.steps, strict=True):
        is_bad = step.kind == STOPPED
        marker, colour = ("X", BAD_COLOUR) if is_bad else ("o", OWN_COLOUR)
        axes.plot(_days([day]), [step.share], marker=marker, markersize=5, color=colour)
        axes.annotate(
            "stopped" if is_bad else f"{step.share:.0%}",
            (day, step.share),
            xytext=(3, 4),
            textcoords="offset points",
            fontsize=SMALL_SIZE,
        )
    axes.set_ylim(-0.05, 1.18)
    axes.set_yticks([0.0, *SHARES])
    axes.set_yticklabels([f"{each:.0%}" for each in (0.0, *SHARES)])
    axes.set_ylabel("share")


def _draw_evidence(axes: Axes, sessions: Sequence[date], rollout: Rollout, settings: RolloutSettings) -> None:
    ends = [sessions[settings.block_sessions * (at + 1) - 1] for at in range(len(rollout.evidence))]
    for values, colour, told in (
        (rollout.evidence, OWN_COLOUR, "earns more"),
        (rollout.evidence_worse, BAD_COLOUR, "earns less"),
    ):
        shown = np.maximum(values, LEAST_EVIDENCE)
        axes.plot(_days(ends), shown, color=colour, linewidth=1.3, label=told, drawstyle="steps-post")
    for step, share in enumerate(SHARES):
        asked = settings.evidence_for(step)
        axes.axhline(asked, color=MUTED_COLOUR, linewidth=0.7, linestyle=":")
        axes.annotate(f"{share:.0%}", (1.0, asked), xycoords=("axes fraction", "data"), xytext=(2, -2), textcoords="offset points", fontsize=SMALL_SIZE, color=MUTED_COLOUR)  # fmt: skip
    axes.axhline(1.0 / settings.worse_level, color=BAD_COLOUR, linewidth=0.7, linestyle="--")
    axes.set_yscale("log")
    highest = max([1.0 / settings.level, *np.minimum(rollout.evidence, 1e6)])
    axes.set_ylim(LEAST_EVIDENCE, 3.0 * highest)
    axes.set_ylabel("evidence that it")
    axes.legend(loc="upper left", fontsize=SMALL_SIZE, frameon=False, ncols=2)


def _draw_loss(axes: Axes, sessions: Sequence[date], rollout: Rollout, settings: RolloutSettings) -> None:
    axes.fill_between(_days(sessions), rollout.drawdown, color=BAD_COLOUR, alpha=0.35, linewidth=0.0)
    axes.axhline(settings.max_drawdown, color=BAD_COLOUR, linewidth=0.9, linestyle="--")
    deepest = float(rollout.drawdown.max()) if len(rollout.drawdown) else 0.0
    axes.set_ylim(1.15 * max(settings.max_drawdown, deepest), 0.0)
    axes.set_ylabel("loss from peak")
    percent_ticks(axes.yaxis, n=3)
