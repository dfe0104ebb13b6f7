"""Versions of what decided an issue beside its model: the rule, and what sizes and limits its positions.

Lives here: their digests, of code and of every parameter. Not here: the code version of the stage, which holds both and more
(`signals`).
"""

from collections.abc import Mapping
from typing import Any

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.strategy_stages.plan import RulePlan
from hf_pipelines.research.signals import fill_rule_params, own_functions, rule_functions

# The rule that holds another one, with steps and limits.
CHAIN = "chain"


def decision_versions(rule: RulePlan) -> tuple[str, str | None]:
    """Versions of a rule, and of the sizing and the limits around it.

    Parameters
    ----------
    rule : RulePlan
        As it decides: what a study has set is in its parameters.

    Returns
    -------
    rule_version : str
        16 hexadecimal digits of the rule's code and of every parameter, those of inner rules among them; the same with and without
        sizing and limits.
    sizing_version : str or None
        The same of steps and limits; None of a strategy without them.
    """
    params = fill_rule_params(rule.name, rule.params)
    if rule.name != CHAIN:
        return _version(rule.name, params), None
    inner: Mapping[str, Any] = params["rule"]
    around = {name: value for name, value in params.items() if name != "rule"}
    sizing = code_version(*own_functions(CHAIN, params), fields={"sizing": around}, chosen_from=CHOSEN_FROM)
    return _version(inner["type"], inner["params"]), str(sizing)


def _version(name: str, params: Mapping[str, Any]) -> str:
    return str(
        code_version(*rule_functions(name, params), fields={"rule": [name, dict(params)]}, chosen_from=CHOSEN_FROM)
    )
