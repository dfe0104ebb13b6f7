"""Widths: how far a share moves, at least, for each side of a target to come true.

Lives here: the two widths of each target that has them. Not here: labels (`targets`), what is staked on them (`signals.sizing`).
"""

from __future__ import annotations

from hf_pipelines.research.targets.target import Target

# Parameters of the upper and of the lower width, by target: both in the same unit.
_WIDTHS = {
    "direction": ("upper", "lower"),
    "volatility_direction": ("upper", "lower"),
    "first_touch": ("width", "width"),
    "triple_barrier": ("profit", "stop"),
}

# Parameters of the levels of a return, by target: of one over its whole horizon.
_LEVELS = {"direction": ("upper", "lower"), "up_or_down": ("threshold", "threshold")}


def target_widths(target: Target) -> tuple[float, float]:
    """How far up and how far down the two sides of a target lie, both positive and in the same unit.

    Parameters
    ----------
    target : Target
        One of classes up and down.

    Returns
    -------
    up, down : float
        Of `triple_barrier` exact: a position is over where it meets a barrier. Of the others the least move of each side.

    Raises
    ------
    ValueError
        If the target has no two widths, or one of them does not lie on its own side of 0.

    Examples
    --------
    >>> from hf_pipelines.research.targets import build_target
    >>> target_widths(build_target("triple_barrier", horizon_bars=5, params={"profit": 3.0, "stop": 1.5}))
    (3.0, 1.5)
    """
    if target.name not in _WIDTHS:
        raise ValueError(f"`target` must be one of {', '.join(sorted(_WIDTHS))} to have widths, was {target.name!r}.")
    upper, lower = _WIDTHS[target.name]
    up, down = float(target.params[upper]), float(target.params[lower])
    down = -down if lower == "lower" else down
    if not (up > 0.0 and down > 0.0):
        raise ValueError(
            f"`target` must have its {upper} above 0 and its {lower} on the other side to have widths, was "
            f"{target.params[upper]:g} and {target.params[lower]:g}."
        )
    return up, down


def fixed_levels(target: Target) -> tuple[int, float, float]:
    """Of a target of the return over a fixed number of bars: these bars, and the returns above and below which it is up and down.

    Raises
    ------
    ValueError
        If the target is another.

    Examples
    --------
    >>> from hf_pipelines.research.targets import build_target
    >>> fixed_levels(build_target("direction", horizon_bars=5, params={"upper": 0.01, "lower": -0.02}))
    (5, 0.01, -0.02)
    """
    if target.name not in _LEVELS:
        raise ValueError(
            f"`target` must be one of {', '.join(sorted(_LEVELS))} to have fixed levels of a return, was {target.name!r}."
        )
    upper, lower = _LEVELS[target.name]
    return target.horizon_bars, float(target.params[upper]), float(target.params[lower])
