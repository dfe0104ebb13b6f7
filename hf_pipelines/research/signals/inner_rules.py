"""Inner rules: the rules that another rule is made of, as they stand in its parameters.

Lives here: the check of such a parameter, and what several rules need together. Not here: what is made of their weights (`mix`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from hf_pipelines.research.signals.rule import Params, Rule, RuleContext, RuleNeeds
from hf_pipelines.research.signals.table import RULES, fill_rule_params, rule_name

# A rule of rules of rules is none that anybody reads.
MAX_DEPTH = 3


def checked_rule(value: Any, where: str) -> dict[str, Any]:
    """A rule as it stands in the parameters of another one: `type` and `params`, or its name alone.

    Parameters
    ----------
    value : mapping or str
    where : str
        For messages.

    Returns
    -------
    dict
        `type`, a key of `RULES`, and `params`, every parameter.

    Raises
    ------
    TypeError, ValueError
        If it is none, or holds rules of rules deeper than is allowed.
    """
    given = {"type": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
        raise TypeError(f"`{where}` must be a mapping with the `type` of a rule, was {value!r:.60}.")
    if strays := sorted(str(each) for each in {*given} - {"type", "params"}):
        raise ValueError(f"`{where}` must have type and params, was with {', '.join(strays[:5])}.")
    name = rule_name(given["type"])
    if name not in RULES:
        raise ValueError(f"`{where}.type` must be one of {', '.join(sorted(RULES))}, was {given['type']!r:.40}.")
    params = given.get("params")
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(f"`{where}.params` must be a mapping, was {params!r:.60}.")
    if _depth_of(params) > MAX_DEPTH:
        raise ValueError(
            f"`{where}` must hold rules of rules at most {MAX_DEPTH} deep, was deeper; does it hold itself by an alias?"
        )
    try:
        return {"type": name, "params": fill_rule_params(name, params)}
    except (TypeError, ValueError) as e:
        # Its own message names the parameter alone.
        raise type(e)(str(e).replace("`", f"`{where}.params.", 1)) from e


def _depth_of(params: Any, at: int = 0) -> int:
    """How deep rules stand in parameters; no deeper than is of interest."""
    if at > MAX_DEPTH:
        return at
    if isinstance(params, Mapping):
        inner = at + ("type" in params)
        return max(
            [inner, *(_depth_of(each, inner) for name, each in params.items() if name in ("params", "parts", "rule"))]
        )
    if isinstance(params, list | tuple):
        return max([at, *(_depth_of(each, at) for each in params)])
    return at


def entry_of(chosen: Params) -> Rule:
    """The entry of a rule that was checked."""
    return RULES[chosen["type"]]


def needs_of(chosen: Params) -> RuleNeeds:
    """What a rule that was checked is made from."""
    return entry_of(chosen).needs(chosen["params"])


def weigh_inner(chosen: Params, predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Weights of a rule that was checked, 0 for no position."""
    inner = replace(context, params=chosen["params"])
    return entry_of(chosen).weigh(predictions, inner).cast(pl.Float64).fill_null(0.0)


def joined_needs(chosen: Sequence[Params], *, max_gross: float) -> RuleNeeds:
    """What several rules need together.

    Raises
    ------
    ValueError
        If they need another parameter or another kind of the target each.
    """
    needs = [needs_of(each) for each in chosen]
    target_params: dict[str, Any] = {}
    for each in needs:
        for name, value in each.target_params.items():
            if target_params.setdefault(name, value) != value:
                raise ValueError(
                    f"`{name}` must be the same in all rules of one, was {target_params[name]!r} and {value!r}."
                )
    kinds = [{*each.targets} for each in needs if each.targets]
    targets = set.intersection(*kinds) if kinds else set()
    if kinds and not targets:
        raise ValueError(
            f"`type` must name rules of one kind of target, was {', '.join(sorted(each['type'] for each in chosen))}, which read others."
        )
    return RuleNeeds(
        columns=tuple(dict.fromkeys(name for each in needs for name in each.columns)),
        sessions=max((each.sessions for each in needs), default=1),
        # The universe must have the members of each, not of all together.
        members=max((each.members for each in needs), key=lambda each: sum(each.values()), default={}),
        sectors=any(each.sectors for each in needs),
        history_bars=max((each.history_bars for each in needs), default=0),
        features=tuple(dict.fromkeys(name for each in needs for name in each.features)),
        shorts=any(each.shorts for each in needs),
        max_gross=max_gross,
        target_params=target_params,
        direction=any(each.direction for each in needs),
        targets=tuple(sorted(targets)),
        packages=tuple(dict.fromkeys(name for each in needs for name in each.packages)),
        calibrated=any(each.calibrated for each in needs),
        block_weeks=max((each.block_weeks for each in needs), default=0),
        rules=tuple((each["type"], each["params"]) for each in chosen),
    )
