"""Neighbourhood: a configuration beside those one step away from it, one parameter at a time.

A configuration that is right stands on a plateau: its neighbours do nearly as well. One that was chosen for its luck stands on a peak.

Lives here: which neighbours there are, and what they say. Not here: fitting and trading them (`cross_validation`, `backtest`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_pipelines.research.params import Number, Param
from hf_pipelines.research.robustness.signs import LEAST_LEFT, Sign

# Of the interval that a tuner draws from.
STEP = 0.2

# Parameters of one entry: those that a tuner draws first.
MOST_PARAMETERS = 5


@dataclass(frozen=True)
class Neighbourhood:
    """What neighbours say, Sharpe ratios a year; NaN where none has one.

    Attributes
    ----------
    own, mean, worst : float
        Of the configuration, and of its neighbours.
    n : int
        Neighbours with a Sharpe ratio.
    """

    own: float
    mean: float
    worst: float
    n: int


def neighbours(spec: Mapping[str, Param], values: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Values one step below and one step above, of each parameter that is worth tuning.

    Parameters
    ----------
    spec : mapping of str to Param
        Of an entry.
    values : mapping
        Its parameters as they are; one that is left out has its default.

    Returns
    -------
    list of (str, float)
        Parameter and value, at most two a parameter, within what the entry takes; whole numbers are whole. None of a parameter that is no
        number now.

    Examples
    --------
    >>> spec = {"depth": Number(default=3, low=1, high=99, search=(2, 12), is_whole=True)}
    >>> neighbours(spec, {}), neighbours(spec, {"depth": 1})
    ([('depth', 1), ('depth', 5)], [('depth', 3)])
    >>> neighbours({"rate": Number(default=0.1, low=0.0, high=1.0, search=(0.01, 0.32), is_log=True)}, {})
    [('rate', 0.05), ('rate', 0.2)]
    """
    found: list[tuple[str, float]] = []
    numbers = [(name, each) for name, each in spec.items() if isinstance(each, Number) and each.search is not None]
    for name, param in numbers[:MOST_PARAMETERS]:
        value = values.get(name, param.default)
        if value is None or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        beside = [_beside(param, float(value), way) for way in (-1, 1)]
        found += [(name, each) for each in beside if each is not None and each != value]
    return found


def is_near(spec: Mapping[str, Param], own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether values differ, if at all, by one step at most of each number, and in nothing else.

    A step is that of `neighbours`, and 1 of a whole number that no tuner draws.

    Parameters
    ----------
    spec : mapping of str to Param
        Of an entry.
    own, other : mapping
        Every parameter of it.

    Examples
    --------
    >>> spec = {"depth": Number(default=3, low=1, high=99, search=(2, 12), is_whole=True)}
    >>> is_near(spec, {"depth": 3}, {"depth": 5}), is_near(spec, {"depth": 3}, {"depth": 6})
    (True, False)
    """
    if {*own} != {*other}:
        return False
    return all(own[name] == other[name] or _is_a_step(spec.get(name), own[name], other[name]) for name in own)


def judge_neighbours(
    own: float, others: Sequence[float], *, low: float, what: str = "one step beside its parameters"
) -> tuple[Neighbourhood, list[Sign]]:
    """Mean and worst of the neighbours, and the sign of a peak: of an account above zero with its bounds less than half is left beside it.

    Parameters
    ----------
    own : float
        Sharpe ratio a year of the configuration.
    others : sequence of float
        Those of its neighbours; NaN of one without.
    low : float
        Lower bound of its own.
    what : str
        Where the neighbours are, for the sign.
    """
    known = [each for each in others if not math.isnan(each)]
    if not known:
        return Neighbourhood(own, math.nan, math.nan, 0), []
    mean = math.fsum(known) / len(known)
    found = Neighbourhood(own, mean, min(known), len(known))
    if not low > 0.0 or mean >= LEAST_LEFT * own:
        return found, []
    told = f"{what} the Sharpe ratio is {mean:.2f} in the mean of {len(known)}, its own is {own:.2f}"
    return found, [Sign("stands on a peak", told)]


def _is_a_step(param: Param | None, own: Any, other: Any) -> bool:
    numbers = [each for each in (own, other) if isinstance(each, int | float) and not isinstance(each, bool)]
    if not isinstance(param, Number) or len(numbers) < 2:
        return False
    low, high = sorted(map(float, numbers))
    if param.search is None:
        # Such as how many members are held: what is usual hangs on the market, and one more is a step.
        return param.is_whole and high - low <= 1.0
    beside = _beside(param, low, 1)
    # What was rounded to six digits is no further away.
    return beside is not None and high <= beside + 1e-6 * abs(beside)


def _beside(param: Number, value: float, way: int) -> float | None:
    assert param.search is not None
    low, high = param.search
    if param.is_log and value > 0.0:
        moved = value * (high / low) ** (way * STEP)
    else:
        step = STEP * (high - low)
        moved = value + way * (max(round(step), param.search_step or 1) if param.is_whole else step)
    moved = min(max(moved, param.low), param.high)
    if not param.is_whole:
        return float(f"{moved:.6g}")
    whole = int(round(moved))
    return whole if whole != value else min(max(whole + way, round(param.low)), round(param.high))
