"""The table of rules, and what is looked up in it.

Lives here: the dict that `registry` fills, so that a rule made of other rules finds them, and the check of parameters. Not here: the
entries (`registry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_pipelines.research.params import complete_params
from hf_pipelines.research.signals.rule import Rule, RuleNeeds

# Filled by `registry`.
RULES: dict[str, Rule] = {}

# Words of the field for rules that have another name here.
ALIASES: dict[str, str] = {"ranking": "rank_long_short", "ranking_with_buffer": "rank_buffer"}


def fill_rule_params(rule: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every parameter of a rule: those given, and defaults for the rest.

    Raises
    ------
    ValueError, TypeError
        If the rule is unknown; as `complete_params`, and for values that contradict each other.
    """
    if rule not in RULES:
        raise ValueError(f"`rule` must be one of {sorted(RULES)}, was {rule!r}.")
    filled = complete_params(rule, params, RULES[rule].params, nested=RULES[rule].nested)
    RULES[rule].check(filled)
    return filled


def rule_name(name: str) -> str:
    """Key in `RULES` of a name or an alias of one."""
    return ALIASES.get(name, name)


def rule_functions(rule: str, params: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
    """The functions of a rule, and of the rules that it applies."""
    inner = [each for name, own in rule_needs(rule, params).rules for each in rule_functions(name, own)]
    return (*own_functions(rule, params), *inner)


def own_functions(rule: str, params: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
    """The functions of a rule without those of the rules that it applies."""
    entry = RULES[rule]
    nested = () if entry.nested is None else (entry.nested,)
    return (entry.weigh, entry.needs, entry.check, *nested, *rule_needs(rule, params).sizers)


def reason_functions(rule: str, params: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
    """What tells why a rule gives 0, of it and of the rules that it applies."""
    own = RULES[rule].why
    inner = [each for name, given in rule_needs(rule, params).rules for each in reason_functions(name, given)]
    return (*([own] if own else []), *inner)


def rule_needs(rule: str, params: Mapping[str, Any] | None = None) -> RuleNeeds:
    """What a rule with these parameters is made from.

    Parameters
    ----------
    rule : str
        A key of `RULES`.
    params : mapping, optional
        Parameters that differ from the defaults.

    Returns
    -------
    RuleNeeds
        Columns of the predictions, bars of history, whether it goes short, and the most that absolute weights add up to.

    Raises
    ------
    ValueError, TypeError
        If a parameter is unknown or its value not allowed.

    Examples
    --------
    >>> rule_needs("rank_long_short", {"n_long": 2, "n_short": 2}).shorts
    True
    """
    return RULES[rule].needs(fill_rule_params(rule, params))
