"""Points as configurations: what each name of a space sets in a learner, its preprocessing, its features and the rule.

Lives here: names and what they change. Does not live here: which values they take (`space`), whether a learner takes them
(`learners.choice`).

| name | sets |
|---|---|
| `learner.<parameter>` | a parameter of the learner; `learner.members.0.params.<parameter>` one of a learner inside of it |
| `preprocessing.<step>.<parameter>` | a parameter of a step, by its name or its place |
| `preprocessing.<step>` | whether the step is there: true or false |
| `features.<group>` | whether the group is used: true or false |
| `rule.<parameter>` | a parameter of the rule, the sizes of positions among them; `rule.branches.0.weight` one inside of another |
| `rule.sizing.<step>.<parameter>`, `rule.limits.<limit>.<parameter>` | of a step of `sizing` or of `limits`, by its type |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_pipelines.research.learners import LearnerChoice, choose_learner
from hf_pipelines.research.tuning.space import Point, Value

SECTIONS = ("learner", "preprocessing", "features", "rule")


@dataclass(frozen=True)
class Configuration:
    """What a point may change.

    Attributes
    ----------
    learner : LearnerChoice
    features : mapping of group to tuple of str
    rule : mapping
        Parameters that differ from the rule's defaults.
    """

    learner: LearnerChoice
    features: Mapping[str, tuple[str, ...]]
    rule: Mapping[str, Any]

    def at(self, point: Point) -> Configuration:
        """The configuration at a point.

        Raises
        ------
        ValueError
            If a name sets nothing, or a value is none that its owner takes.
        """
        settings: dict[str, Any] = _copied(self.learner.settings())
        steps: list[Any] = [*settings.get("preprocessing", [])]
        names = [each["type"] for each in steps]
        left_out: set[int] = set()
        features, rule = dict(self.features), _copied(dict(self.rule))
        for name, value in point.items():
            section, _, path = name.partition(".")
            match section:
                case "learner":
                    _set(settings["params"], path.split("."), value, name)
                case "preprocessing":
                    step, _, inner = path.partition(".")
                    at = _step(step, names, name)
                    if inner:
                        _set(steps[at]["params"], [inner], value, name)
                    elif not _flag(value, name):
                        left_out.add(at)
                case "features":
                    if path not in self.features:
                        raise ValueError(f"`{name}` must be among the groups {', '.join(self.features)}, was {path}.")
                    if not _flag(value, name):
                        features.pop(path)
                case "rule":
                    _set_inside(rule, _path_of(rule, path.split(".")), value, name)
                case _:
                    raise ValueError(f"`{name}` must begin with {', '.join(SECTIONS)}, was not so.")
        if not features:
            raise ValueError("`features` must keep a group, was without; let one of them stand in every point.")
        kept = [each for at, each in enumerate(steps) if at not in left_out]
        try:
            learner = choose_learner(
                settings["type"], settings["params"], preprocessing=kept, calibration=settings.get("calibration")
            )
        except TypeError as e:
            raise ValueError(str(e)) from e
        return Configuration(learner, features, rule)


def rule_at(rule: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """Parameters of a rule with some set.

    Parameters
    ----------
    rule : mapping
        That differ from the defaults.
    values : mapping of str to value
        By their names in a space, without `rule.` before them.

    Raises
    ------
    ValueError
        If a name leads to nothing.
    """
    found: dict[str, Any] = _copied(dict(rule))
    for name, value in values.items():
        _set_inside(found, _path_of(found, name.split(".")), value, f"rule.{name}")
    return found


def _path_of(rule: Mapping[str, Any], path: list[str]) -> list[str]:
    """Where a name stands in the parameters of a rule with sizing and limits: steps by their types, the rule's own inside of it."""
    if not isinstance(rule.get("rule"), Mapping):
        return path
    section, *inner = path
    if section not in ("sizing", "limits"):
        return path if section in ("rule", "memory_weeks") else ["rule", "params", *path]
    step = next((at for at, each in enumerate(rule[section]) if each["type"] == inner[:1][0]), None) if inner else None
    return path if step is None else [section, str(step), "params", *inner[1:]]


def _set_inside(params: Any, path: list[str], value: Value, name: str) -> None:
    """Set a value that need not have been given; the rule says whether it takes it."""
    *outer, last = path
    for each in outer:
        if isinstance(params, list) and each.isdigit() and int(each) < len(params):
            params = params[int(each)]
        elif isinstance(params, dict) and each in params:
            params = params[each]
        else:
            raise ValueError(f"`{name}` must lead to a parameter that the strategy gives, has no {each}.")
    if not isinstance(params, dict):
        raise ValueError(f"`{name}` must set a parameter, was {last} of a list or a value.")
    params[last] = value


def _set(params: Any, path: list[str], value: Value, name: str) -> None:
    """Set a value at a path through mappings and lists."""
    *outer, last = path
    for each in outer:
        if isinstance(params, list) and each.isdigit() and int(each) < len(params):
            params = params[int(each)]
        elif isinstance(params, dict) and each in params:
            params = params[each]
        else:
            raise ValueError(f"`{name}` must lead to a parameter, has no {each}.")
    if not isinstance(params, dict) or last not in params:
        known = ", ".join(sorted(params)) if isinstance(params, dict) else "nothing by that name"
        raise ValueError(f"`{name}` must set a parameter ({known}), was {last}.")
    params[last] = value


def _step(step: str, names: list[str], name: str) -> int:
    if step.isdigit() and int(step) < len(names):
        return int(step)
    if names.count(step) == 1:
        return names.index(step)
    known = ", ".join(f"{at} ({each})" for at, each in enumerate(names)) or "none"
    raise ValueError(
        f"`{name}` must name one step of the preprocessing ({known}), was {step}; a step that stands twice is named by its place."
    )


def _flag(value: Value, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be true or false, was {value!r:.40}.")
    return value


def _copied(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {name: _copied(each) for name, each in settings.items()}
    return [_copied(each) for each in settings] if isinstance(settings, list | tuple) else settings
