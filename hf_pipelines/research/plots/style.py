"""House style: size, letters, colours and ticks that every figure shares.

Lives here: what a figure looks like whatever it shows. Not here: what is drawn. Drawn with matplotlib's object API: pyplot keeps global
state and is not safe in the threads of a run.

A figure is read in a window of the web UI and on a telephone of 390 points: it is narrow, and its letters are large for it.

References
----------
Okabe & Ito (2008), "Color Universal Design", for the colours.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Readers who cannot tell red from green, or blue from yellow, tell these apart.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)

# What is shown, what it is compared with, and what is bad.
OWN_COLOUR, OTHER_COLOUR, BAD_COLOUR = BLUE, ORANGE, VERMILION
NO_VALUE_COLOUR, MUTED_COLOUR = "#c8c8c8", "#7a7a7a"

# Inches. At this width letters of 8 points are 8.7 high where the figure is 390 wide.
WIDTH = 5.0
DOTS_PER_INCH = 190

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 9.0, 8.5, 8.0

# Characters of a line of each size that fit above the axes.
TITLE_LETTERS, TEXT_LETTERS = 66, 86

TEXT_COLOUR = "0.15"

# From so many days on: how ticks are written, and how many there are at most.
DATE_STYLES = ((2_200.0, "%Y", 7), (60.0, "%Y-%m", 7), (4.0, "%m-%d", 7), (-1.0, "%m-%d %H:%M", 4))

# Inches above the first and below the last line, a line's height over its letters', and where lines begin, of the width.
MARGIN, LEAD, EDGE = 0.06, 1.28, 0.012


# Inches of a letter of the smallest size on average, of ticks below axes, of a label below these, and beside axes.
LETTER, TICKS, LABEL, PAD = 0.056, 0.24, 0.25, 0.1


def new_figure(*, height: float, width: float = WIDTH) -> Figure:
    """An empty figure in the house style; inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def two_below(figure: Figure, *, heights: tuple[float, float], letters: int) -> tuple[Axes, Axes]:
    """Axes below each other, placed by the length of their ticks' names: matplotlib's own placing draws every text twice to measure it.

    Parameters
    ----------
    figure : Figure
        Before its title and its footer, which take their room from the axes.
    heights : tuple of float
        Shares of the two.
    letters : int
        Of the longest name of a tick at the left.
    """
    figure.set_layout_engine(None)
    width, height = map(float, figure.get_size_inches())
    of_axes = (height - 2 * TICKS - LABEL) / 2
    first, second = figure.subplots(2, 1, height_ratios=heights, gridspec_kw={"hspace": (TICKS + LABEL) / of_axes})
    figure.subplots_adjust(
        left=(letters * LETTER + 2 * PAD) / width,
        right=1.0 - 1.5 * PAD / width,
        bottom=TICKS / height,
        top=1.0 - PAD / height,
    )
    return first, second


def title(figure: Figure, heading: str, *lines: str) -> None:
    """What is shown in bold, and below it what is to be known of it; each wraps at the figure's width, empty ones are left out."""
    bold = textwrap.wrap(heading, TITLE_LETTERS)
    small = _wrapped(lines)
    used = MARGIN
    for line, size, style in [*((each, TITLE_SIZE, "bold") for each in bold), *((each, SMALL_SIZE, "normal") for each in small)]:  # fmt: skip
        place = 1.0 - used / float(figure.get_size_inches()[1])
        figure.text(EDGE, place, line, fontsize=size, fontweight=style, va="top", color=TEXT_COLOUR)
        used += LEAD * size / 72
    _reserve(figure, top=used)


def footer(figure: Figure, *lines: str) -> None:
    """Lines below everything; empty ones are left out."""
    told = _wrapped(lines)
    place = MARGIN / float(figure.get_size_inches()[1])
    figure.text(EDGE, place, "\n".join(told), fontsize=SMALL_SIZE, va="bottom", color=TEXT_COLOUR)
    _reserve(figure, bottom=MARGIN + len(told) * LEAD * SMALL_SIZE / 72)


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [each for line in lines for part in line.split("\n") for each in textwrap.wrap(part, TEXT_LETTERS)]


def _reserve(figure: Figure, *, top: float = 0.0, bottom: float = 0.0) -> None:
    """Keep the axes out of so many inches."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine, whole = figure.get_layout_engine(), float(figure.get_size_inches()[1])
    if not isinstance(engine, ConstrainedLayoutEngine):
        placed = figure.subplotpars
        figure.subplots_adjust(top=placed.top - top / whole, bottom=placed.bottom + bottom / whole)
        return
    left, below, width, height = engine.get()["rect"]
    engine.set(rect=(left, below + bottom / whole, width, height - (top + bottom) / whole))


def declutter(axes: Axes, *, grid: str = "") -> None:
    """Take away the lines above and at the right of axes, which say nothing; a faint grid along `grid` ("x", "y" or "both")."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL_SIZE)
    axes.xaxis.label.set_fontsize(TEXT_SIZE)
    axes.yaxis.label.set_fontsize(TEXT_SIZE)
    if grid:
        axes.grid(axis=grid, color="0.9", linewidth=0.6)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def date_ticks(axes: Axes) -> None:
    """Few ticks on the axis of dates below what is drawn already: years, months or days, no two of which read the same."""
    from matplotlib.dates import AutoDateLocator, DateFormatter

    days = float(axes.dataLim.width)
    style, most = next((style, most) for least, style, most in DATE_STYLES if days >= least)
    locator = AutoDateLocator(minticks=min(3, most - 1), maxticks=most)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    if all(float(place).is_integer() for place in axes.xaxis.get_majorticklocs()):
        # Of midnights alone the hour says nothing.
        style = style.removesuffix(" %H:%M")
    axes.xaxis.set_major_formatter(DateFormatter(style))  # type: ignore[no-untyped-call]


def percent_ticks(axis: Axis, *, n: int = 4) -> None:
    """A few ticks of fractions as percentages, with as many digits as it takes for no two to read the same."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axis.set_major_locator(MaxNLocator(n))
    axis.set_major_formatter(PercentFormatter(xmax=1.0))


def money_ticks(axis: Axis, *, n: int = 5) -> None:
    """A few ticks of amounts, with a separator of thousands."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(n))
    axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))


def named(name: str, letters: int = 26) -> str:
    """A name that fits beside an axis: its end is cut.

    Examples
    --------
    >>> named("sentiment_of_news_over_twenty_sessions", 20)
    'sentiment_of_news_o…'
    """
    return name if len(name) <= letters else name[: letters - 1] + "…"


def png_of(figure: Figure) -> bytes:
    """A figure as a PNG; equal figures are equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    # `savefig` gives the same and draws everything twice, the first time for the layout alone, which drawing makes anyway. Without the
    # library's name and version in the file, equal figures are equal bytes.
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()
