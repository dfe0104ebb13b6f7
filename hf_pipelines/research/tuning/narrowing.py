"""Narrowing: this week's space around the best of the week before, wider again where that best lies at an edge.

Lives here: `narrow`. Does not live here: which weeks there are (`components`), the warm start (`study`).
"""

from __future__ import annotations

import math
from dataclasses import replace

from hf_pipelines.research.tuning.space import Categorical, Dimension, Float, Int, Point, Space

# Of the range of the week before: half where its best lies inside, twice where it lies at an edge.
NARROWER, WIDER = 0.5, 2.0

# Nearer to an end than this share of the range is at an edge: the best may lie beyond it.
EDGE = 0.1

# Of the whole range, never less: what is best drifts from week to week.
LEAST = 0.1


def narrow(whole: Space, before: Space, best: Point) -> Space:
    """The space to search after a week with another one.

    Parameters
    ----------
    whole : Space
        As the strategy names it: nothing lies outside of it.
    before : Space
        What was searched the week before; the whole one at first.
    best : Point
        What it found, a point of `before`.

    Returns
    -------
    Space
        The same dimensions. A range is half as wide as before, around the best, or twice as wide if the best lies within a tenth of
        an end that is no end of the whole range; categorical values and ranges with steps stay whole, and so does a dimension that
        the best does not have.

    Examples
    --------
    >>> from hf_pipelines.research.tuning import read_space
    >>> whole = read_space({"x": {"type": "float", "low": 0.0, "high": 8.0}})
    >>> narrow(whole, whole, {"x": 4.0}).to_json()["x"]
    {'type': 'float', 'low': 2.0, 'high': 6.0}
    """
    searched = {each.name: each for each in before.dimensions}
    return Space(
        tuple(
            _narrowed(each, searched[each.name], best) if each.name in best and each.name in searched else each
            for each in whole.dimensions
        )
    )


def _narrowed(whole: Dimension, before: Dimension, best: Point) -> Dimension:
    value, searched, limits = best[whole.name], before.distribution, whole.distribution
    if isinstance(limits, Categorical) or isinstance(searched, Categorical) or not isinstance(value, int | float):
        return whole
    # Steps start at the low end: another one would try other values.
    if isinstance(limits, Float) and limits.step is not None or isinstance(limits, Int) and limits.step != 1:
        return whole
    scale, back = (math.log, math.exp) if limits.log else (float, float)
    low, high = scale(searched.low), scale(searched.high)
    first, last, at = scale(limits.low), scale(limits.high), scale(value)
    width, most = high - low, last - first
    is_at_edge = (at - low < EDGE * width and low > first) or (high - at < EDGE * width and high < last)
    width = min(max(width * (WIDER if is_at_edge else NARROWER), LEAST * most), most)
    begin = min(max(at - width / 2, first), last - width)
    ends = back(begin), back(begin + width)
    if isinstance(limits, Int):
        found = replace(limits, low=max(math.floor(ends[0]), limits.low), high=min(math.ceil(ends[1]), limits.high))
        return replace(whole, distribution=found)
    return replace(whole, distribution=replace(limits, low=max(ends[0], limits.low), high=min(ends[1], limits.high)))
