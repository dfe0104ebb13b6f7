"""Points of a sweep: values of dimensions, set in the costs of an account.

Lives here: what a name below `costs` sets. Not here: the grammar of spaces and what a name below `rule` sets (`research.tuning`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields

from hf_pipelines.research.costs import Costs
from hf_pipelines.research.tuning.space import Point, Value


def point_key(point: Point) -> str:
    """A point as text, the same for the same values."""
    return json.dumps(dict(point), sort_keys=True)


def costs_at(costs: Costs, values: Mapping[str, Value]) -> Costs:
    """Costs with some numbers set.

    Parameters
    ----------
    costs : Costs
    values : mapping of str to value
        A flat cost by its name, or `<kind>.<parameter>` of a kind that is among them.

    Raises
    ------
    TypeError, ValueError
        If a name sets nothing, or a value is not allowed.
    """
    flat = {each.name: getattr(costs, each.name) for each in fields(costs) if each.name != "kinds"}
    kinds = {name: dict(params) for name, params in costs.kinds}
    for name, value in values.items():
        kind, _, param = name.partition(".")
        if name in flat:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"`costs.{name}` must be a number, was {value!r:.40}.")
            flat[name] = float(value)
        elif kind in kinds and param in kinds[kind]:
            kinds[kind][param] = value
        else:
            known = [*flat, *(f"{each}.{inner}" for each, params in kinds.items() for inner in params)]
            raise ValueError(
                f"`costs.{name}` must be one of {', '.join(known)}: costs that the strategy has, was none."
            )
    return Costs(**flat, kinds=[{"type": name, "params": params} for name, params in kinds.items()])
