"""Pictures of a promotion: the gate table, and who served when.

Lives here: a decision or a timeline in, PNG bytes out. Does not live here: how figures look in general (`research.plots.style`), where they
are shown (`components`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hf_pipelines.research.plots.style import (
    BAD_COLOUR,
    MUTED_COLOUR,
    NO_VALUE_COLOUR,
    ORANGE,
    OTHER_COLOUR,
    OWN_COLOUR,
    PURPLE,
    SKY,
    SMALL_SIZE,
    TEXT_COLOUR,
    date_ticks,
    declutter,
    named,
    new_figure,
    png_of,
    title,
)
from hf_pipelines.research.promotion.decision import FAILED, MISSING, NOT_ASKED, PASSED, Decision
from hf_pipelines.research.promotion.lifecycle import ARCHIVED, DEPRECATED, DEVELOPMENT, PRODUCTION, STAGING
from hf_pipelines.research.promotion.timeline import Timeline
from hf_pipelines.research.promotion.words import GATE_COLUMNS, gate_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of a line of the table, and of a bar, in inches.
LINE_HEIGHT, BAR_HEIGHT = 0.155, 0.24

# Where columns begin, in parts of the width: mark, gate, value, threshold, verdict.
COLUMNS = (0.0, 0.03, 0.27, 0.42, 0.83)
WHY_LETTERS = 82

MARKS = {PASSED: ("o", OWN_COLOUR), FAILED: ("X", BAD_COLOUR), MISSING: ("s", OTHER_COLOUR), NOT_ASKED: ("_", MUTED_COLOUR)}  # fmt: skip

STAGE_COLOURS = {
    DEVELOPMENT: NO_VALUE_COLOUR,
    STAGING: ORANGE,
    PRODUCTION: OWN_COLOUR,
    DEPRECATED: SKY,
    ARCHIVED: PURPLE,
}

SHORTEST_SPAN = timedelta(minutes=20)

# Configurations and releases of more are in the table.
MOST_BARS = 12


def gates_png(decision: Decision, *, told: str = "") -> bytes:
    """The gate table: of what stands in the way, why; of the others the numbers alone.

    Parameters
    ----------
    decision : Decision
    told : str
        What was recorded, in a line.
    """
    rows: list[tuple[tuple[str, ...], str, list[str]]] = []
    for each in decision.gates:
        why = [] if each.is_passed else textwrap.wrap(each.why, WHY_LETTERS)
        rows.append((gate_cells(each), each.verdict, why))
    n_lines = 1 + sum(1 + len(why) for _, _, why in rows)
    figure = new_figure(height=0.85 + LINE_HEIGHT * n_lines)
    axes = figure.subplots()
    axes.axis("off")
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(n_lines, 0.0)
    title(figure, f"Gates of {decision.strategy}, week {decision.week}", decision.headline, told)
    for place, name in zip(COLUMNS[1:], GATE_COLUMNS, strict=False):
        axes.text(place, 0.5, name, fontsize=SMALL_SIZE, color=MUTED_COLOUR, va="center")
    at = 1.5
    for cells, verdict, why in rows:
        mark, colour = MARKS[verdict]
        axes.plot(0.008, at, mark, color=colour, markersize=4.5, clip_on=False)
        for place, cell in zip(COLUMNS[1:], cells, strict=True):
            axes.text(place, at, named(cell, 38), fontsize=SMALL_SIZE, va="center", color=TEXT_COLOUR)
        for line in why:
            at += 1.0
            axes.text(COLUMNS[1], at, line, fontsize=SMALL_SIZE - 1.0, va="center", color=MUTED_COLOUR)
        at += 1.0
    return png_of(figure)


def timeline_png(timeline: Timeline, *, strategy: str, told: str, now: datetime) -> bytes:
    """Who served when, and below it the stage of each configuration, the newest ones.

    Parameters
    ----------
    timeline : Timeline
    strategy : str
    told : str
        What serves now, in a line.
    now : datetime
        Until when what serves is drawn.
    """
    from matplotlib.patches import Patch

    releases = list(dict.fromkeys(str(each.release.version) for each in timeline.served))[-MOST_BARS:]
    configurations = list(dict.fromkeys(each.configuration for each in timeline.stages))[-MOST_BARS:]
    heights = [max(len(each), 1) for each in (releases, configurations)]
    figure = new_figure(height=2.1 + BAR_HEIGHT * sum(heights))
    served, staged = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": heights})
    title(
        figure,
        f"Who served of {strategy}, and the stage of each configuration",
        told,
        "Times are those of the decisions, UTC.",
    )
    served_bars = [
        (str(each.release.version), each.since, each.until, BAD_COLOUR if each.release.is_override else OWN_COLOUR)
        for each in timeline.served
    ]
    _draw_bars(served, releases, served_bars, now)
    stage_bars = [(each.configuration, each.since, each.until, STAGE_COLOURS[each.stage]) for each in timeline.stages]
    _draw_bars(staged, configurations, stage_bars, now)
    # Of all refits of a configuration the version begins alike.
    versions = {each.release.configuration: each.release.version for each in timeline.served}
    lines = {of: f"v{each.major}.{each.minor}" for of, each in versions.items()}
    labels = [f"{each[:8]} {lines.get(each, '')}".rstrip() for each in configurations]
    staged.set_yticks(range(len(configurations)), labels, fontsize=SMALL_SIZE)
    for axes, what in ((served, "Release that served"), (staged, "Stage of each configuration, with its version")):
        axes.set_title(what, loc="left", fontsize=SMALL_SIZE, color=MUTED_COLOUR)
    served.tick_params(labelbottom=False)
    if timeline.stages:
        # Ticks are a minute apart at least: of a history of seconds some minutes before it are shown.
        first = min(_time(each.since, now) for each in timeline.stages)
        staged.plot([first - max(SHORTEST_SPAN - (now - first), timedelta(0))], [0.0], alpha=0.0)
    date_ticks(staged)
    shown = [*dict.fromkeys(each.stage for each in timeline.stages)]
    patches = [Patch(color=STAGE_COLOURS[each], label=each) for each in STAGE_COLOURS if each in shown]
    if any(each.release.is_override for each in timeline.served):
        patches.append(Patch(color=BAD_COLOUR, label="serves by override"))
    figure.legend(
        handles=patches, loc="outside lower center", ncols=3, fontsize=SMALL_SIZE, frameon=False, handlelength=1.2
    )
    return png_of(figure)


def _draw_bars(axes: Axes, names: Sequence[str], bars: Sequence[tuple[str, str, str, str]], now: datetime) -> None:
    from matplotlib.dates import date2num

    for name, since, until, colour in bars:
        if name not in names:
            continue
        begin, end = (date2num(each) for each in (_time(since, now), _time(until, now)))  # type: ignore[no-untyped-call]
        axes.barh(names.index(name), max(end - begin, 0.0), left=begin, height=0.62, color=colour)
        # A release that served for a minute in a year is seen too.
        axes.plot(begin, names.index(name), "|", color=colour, markersize=9)
    axes.xaxis_date()
    axes.set_yticks(range(len(names)), [*names], fontsize=SMALL_SIZE)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    if not names:
        axes.text(0.5, 0.5, "nothing was ever promoted", transform=axes.transAxes, ha="center", fontsize=SMALL_SIZE)
    declutter(axes, grid="x")


def _time(text: str, now: datetime) -> datetime:
    return datetime.fromisoformat(text) if text else now
