"""Environment overrides: `HF_SET__TECH_DIRECTION__TARGET__HORIZON_BARS=3` for `target.horizon_bars` of `tech_direction`.

Lives here: which strategy and field a variable means. Does not live here: reading the environment (`resources.setting_variables`), the
value (`setting_values`), checking what comes out (`yaml_components`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.components.setting_values import SettingOverride, read_value, shown_word
from hf_pipelines.components.yaml_lines import FaultyYAMLError, FieldPath
from hf_pipelines.resources.setting_variables import PREFIX, setting_variables

BETWEEN = "__"

STRATEGY_TYPE = "hf_pipelines.components.Strategy"

# Names of the fields of the model at a place.
FieldsBelow = Callable[[FieldPath], Sequence[str]]


def environment_overrides(
    name: str, strategies: Collection[str], attributes: Any, fields_below: FieldsBelow
) -> tuple[SettingOverride, ...]:
    """What the environment sets of a strategy.

    Parameters
    ----------
    strategies : collection of str
        Names of all: of `a` and `a__b` the longer one is meant.
    attributes : object
        Of its YAML.
    fields_below : callable
        Names of the fields of the model at a place.

    Raises
    ------
    ValueError
        If a value is none, or no field is named.
    """
    found = []
    for variable, text in setting_variables().items():
        owner, parts = _owner(variable, strategies)
        if owner == name:
            place = _place(parts, attributes, fields_below)
            if not all(parts) or place[:1] == ("name",):
                raise ValueError(
                    f"`{variable}` must name a field of strategy {name}, such as {PREFIX}{name.upper()}__TARGET__HORIZON_BARS."
                )
            found.append(SettingOverride(place, read_value(text, variable), shown_word(f"{variable}={text}")))
    return tuple(found)


def require_owners(strategies: Collection[str]) -> None:
    """Refuse variables that are of no strategy.

    Raises
    ------
    FaultyYAMLError
        Naming the strategies that there are.
    """
    strays = [name for name in setting_variables() if not _owner(name, strategies)[0]]
    if strays:
        known = ", ".join(sorted(strategies)) or "none"
        raise FaultyYAMLError(
            "\n".join(
                f"`{shown_word(each)}` must be {PREFIX}STRATEGY__FIELD with a strategy of the project ({known}), was of none; unset it."
                for each in strays
            )
        )


def _owner(variable: str, strategies: Collection[str]) -> tuple[str, list[str]]:
    """The strategy that a variable is of, "" for none, and the parts of the field."""
    rest = variable.removeprefix(PREFIX)
    matching = [each for each in strategies if rest.upper().startswith(f"{each.upper()}{BETWEEN}")]
    owner = max(matching, key=len, default="")
    return owner, rest[len(owner) + len(BETWEEN) :].split(BETWEEN) if owner else []


def _place(parts: Sequence[str], attributes: Any, fields_below: FieldsBelow) -> FieldPath:
    """Keys and positions that parts in capitals mean; one that nothing has is taken in small letters."""
    place: list[str | int] = []
    value, above = attributes, None
    for part in parts:
        if isinstance(value, list) and part.isdigit():
            place.append(int(part))
            value = value[int(part)] if int(part) < len(value) else None
            continue
        known = [*(value if isinstance(value, Mapping) else ()), *fields_below(tuple(place)), *_params(place, above)]
        key = next((each for each in map(str, known) if each.upper() == part.upper()), part.lower())
        place.append(key)
        above = value
        value = value.get(key) if isinstance(value, Mapping) else None
    return tuple(place)


def _params(place: Sequence[str | int], above: Any) -> list[str]:
    """Parameters of the registry's entry that the mapping around `params` names."""
    if not (place and place[-1] == "params" and isinstance(above, Mapping)):
        return []
    entries = (each.entries.get(str(above.get("type"))) for each in REGISTRIES.values())
    return [str(name) for entry in entries for name in (getattr(entry, "params", None) or ())]
