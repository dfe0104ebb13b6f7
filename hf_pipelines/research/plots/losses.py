"""Figure of losses: how fits went, epoch by epoch.

Lives here: curves in, PNG bytes out. Not here: the fits (`learners`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hf_pipelines.research.plots.style import CYCLE, SMALL_SIZE, declutter, new_figure, png_of, title

# As many as a reader follows; more than there are colours, so that a second line of a colour is dashed.
SHOWN_CURVES = 10


def losses_png(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> bytes:
    """Losses of fits by epoch: dotted of the training rows, solid of the validation rows with a mark at the best epoch.

    Parameters
    ----------
    curves : mapping of str to (training, validation)
        By the name of each fit; at most ten are drawn.

    Returns
    -------
    bytes
        A PNG; the same losses give the same bytes.
    """
    from matplotlib.ticker import MaxNLocator

    shown = list(curves.items())[:SHOWN_CURVES]
    figure = new_figure(height=3.2 + 0.16 * len(shown))
    axes = figure.subplots()
    for at, (name, (training, validation)) in enumerate(shown):
        epochs = np.arange(1, len(validation) + 1)
        best = int(np.argmin(validation))
        colour = CYCLE[at % len(CYCLE)]
        axes.plot(epochs, training, color=colour, linewidth=0.9, linestyle=":")
        axes.plot(
            epochs,
            validation,
            color=colour,
            linewidth=1.4,
            linestyle="-" if at < len(CYCLE) else "--",
            label=f"{name}: {validation[best]:.4g} in epoch {best + 1}",
        )
        axes.plot([best + 1], [validation[best]], color=colour, marker="o", markersize=5)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    rest = f" ({len(shown)} of {len(curves)} fits)" if len(shown) < len(curves) else ""
    axes.legend(fontsize=SMALL_SIZE, frameon=False, loc="upper left", bbox_to_anchor=(0.0, -0.16))
    declutter(axes, grid="y")
    title(figure, f"Losses of validation rows (dotted: of training rows){rest}")
    return png_of(figure)
