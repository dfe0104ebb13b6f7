"""Parameters: those that a strategy may set of a learner, target or rule, checked by name, type and range.

Lives here: the one check of given parameters. Does not live here: which there are (`learners`, `targets`, `signals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

ParamValue: TypeAlias = bool | int | float | str

# Lowest and highest value of a number, both allowed, or the names that a text may be.
Limits: TypeAlias = tuple[float, float] | tuple[str, ...]


def fill_params(
    owner: str,
    given: Mapping[str, ParamValue] | None,
    defaults: Mapping[str, ParamValue],
    limits: Mapping[str, Limits],
) -> dict[str, ParamValue]:
    """Every parameter of an entry of a registry: those given, and defaults for the rest.

    Parameters
    ----------
    owner : str
        Name of the entry, for messages.
    given : mapping, optional
        Parameters that differ from the defaults.
    defaults, limits : mapping
        Every parameter that there is, and the range or names of each.

    Raises
    ------
    ValueError
        If a parameter is unknown, or its value outside of its limits (NaN is).
    TypeError
        If a value is not of its default's type; a whole number may stand for a float.
    """
    filled = dict(given or {})
    if unknown := sorted(set(filled) - set(defaults)):
        raise ValueError(f"`params` of {owner!r} must be among {sorted(defaults)}, was {unknown[:5]}.")
    for name, value in filled.items():
        expected = type(defaults[name])
        if expected is float and type(value) is int:
            filled[name] = value = float(value)
        if type(value) is not expected:
            raise TypeError(f"`{name}` of {owner!r} must be {expected.__name__}, was {value!r}.")
        if name in limits:
            _check_limits(name, owner, value, limits[name])
    return {**defaults, **filled}


def _check_limits(name: str, owner: str, value: ParamValue, limits: Limits) -> None:
    if isinstance(value, str):
        if value not in limits:
            raise ValueError(f"`{name}` of {owner!r} must be one of {', '.join(map(str, limits))}, was {value[:40]!r}.")
        return
    low, high = float(limits[0]), float(limits[1])
    # Written so that NaN fails too.
    if not low <= value <= high:
        raise ValueError(f"`{name}` of {owner!r} must be from {low:g} to {high:g}, was {value}.")
