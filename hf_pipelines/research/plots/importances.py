"""Figure of importances: a model's, beside those of another.

Lives here: names and values in, PNG bytes out. Not here: importances by fold and over many weeks (`explanations.plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hf_pipelines.research.plots.style import (
    OTHER_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    declutter,
    named,
    new_figure,
    png_of,
    title,
)

SHOWN_IMPORTANCES = 30


def importances_png(
    names: Sequence[str],
    values: Sequence[float],
    *,
    heading: str = "",
    kind: str = "",
    earlier: tuple[str, Mapping[str, float]] | None = None,
) -> bytes:
    """Bars of importances, the largest on top; at most thirty of them.

    Parameters
    ----------
    names : sequence of str
    values : sequence of float
        Importance of each name, finite, in the same order. Equal values are ordered by name.
    heading : str
        Whose they are.
    kind : str
        What an importance is: below the heading.
    earlier : (str, mapping), optional
        Whose, and importances of the same names: a mark beside each bar.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.

    Raises
    ------
    ValueError
        If there are none, the lengths differ, or a value is not finite.
    """
    if len(names) != len(values) or not len(names):
        raise ValueError(f"`values` must match a non-empty `names` ({len(names)}), had {len(values)}.")
    if not np.isfinite(np.asarray(values, dtype=np.float64)).all():
        bad = sorted(name for name, value in zip(names, values, strict=True) if not np.isfinite(value))
        raise ValueError(f"`values` must be finite, was not for {bad[:5]}.")
    ranked = sorted(zip(names, values, strict=True), key=lambda pair: (-pair[1], pair[0]))[:SHOWN_IMPORTANCES]
    figure = new_figure(height=1.3 + 0.19 * len(ranked))
    axes = figure.subplots()
    at = np.arange(len(ranked))
    axes.barh(at, [value for _, value in ranked], color=OWN_COLOUR, height=0.7, label="this model")
    if earlier is not None:
        whose, before = earlier
        known = [(place, before[name]) for place, (name, _) in enumerate(ranked) if name in before]
        axes.plot(
            [value for _, value in known],
            [place for place, _ in known],
            "|",
            color=OTHER_COLOUR,
            markersize=9,
            markeredgewidth=2.2,
            label=whose,
        )
        axes.legend(fontsize=SMALL_SIZE, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    axes.set_yticks(at, [named(name) for name, _ in ranked])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("Importance")
    axes.locator_params(axis="x", nbins=5)
    declutter(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    hidden = len(names) - len(ranked)
    title(figure, heading, kind, f"Largest {len(ranked)} of {len(names)}" if hidden else "")
    return png_of(figure)
