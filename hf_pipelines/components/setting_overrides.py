"""Setting overrides: single values of a strategy's YAML, given elsewhere: `learner.params.max_depth=4`.

Lives here: the strategy that they make, checked as its YAML is. Does not live here: reading them (`setting_values`), what the file may
be (`yaml_files`), setting a value in a text (`yaml_edit`), those of the environment (`environment_overrides`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_pipelines.components.setting_values import SettingOverride, at_overrides
from hf_pipelines.components.strategy import Strategy
from hf_pipelines.components.yaml_components import component_of_values
from hf_pipelines.components.yaml_edit import set_value
from hf_pipelines.components.yaml_files import plain_values, read_text, values_of_text
from hf_pipelines.components.yaml_lines import FaultyYAMLError, FieldPath

STRATEGY_TYPE = "hf_pipelines.components.Strategy"


@dataclass(frozen=True)
class EditedStrategy:
    """A strategy's YAML, and with some values set.

    Attributes
    ----------
    path : Path
        Of its file.
    before, text : str
    strategy : Strategy
        As `text` has it.
    keeps_comments : bool
        Whether `text` is `before` but for those values.
    """

    path: Path
    before: str
    text: str
    strategy: Strategy
    keeps_comments: bool


def edit_strategy(path: Path, overrides: Sequence[SettingOverride], *, is_in_place: bool = True) -> EditedStrategy:
    """A strategy with some values set, checked as if its file had been written so.

    Parameters
    ----------
    is_in_place : bool
        Whether the file lies in the folder of its strategy; others may have any name.

    Raises
    ------
    FaultyYAMLError
        If the file is faulty, whatever is set.
    ValueError
        If a value is refused: for the rule that the YAML has, after the override that gives it.
    """
    before = read_text(path)
    of_environment = _strategy_of(before, path, is_in_place=is_in_place).overrides
    text, keeps_comments = before, True
    for each in overrides:
        _require_free(each, of_environment)
        try:
            text, keeps = set_value(text, ("attributes", *_as_written(text, each.place)), each.value)
        except ValueError as e:
            raise ValueError(f"{each.origin}: {e}") from e
        keeps_comments &= keeps
    try:
        strategy = _strategy_of(text, path, is_in_place=is_in_place)
    except FaultyYAMLError as e:
        raise ValueError(f"{at_overrides(str(e), overrides)}{_remedy_of_type(str(e), overrides)}") from e
    return EditedStrategy(path, before, text, strategy, keeps_comments)


def _as_written(text: str, place: FieldPath) -> FieldPath:
    """A place; of a parameter of `cross_validation`, which may stand beside `type` or below `params`, that at which the text has it."""
    if place[:1] != ("cross_validation",):
        return place
    splitter = plain_values(text)["attributes"].get("cross_validation")
    if not isinstance(splitter, Mapping):
        return place
    below = splitter.get("params")
    match place[1:]:
        case ("params", str(name)) if name in splitter:
            return ("cross_validation", name)
        case (str(name),) if isinstance(below, Mapping) and name in below:
            return ("cross_validation", "params", name)
    return place


def _remedy_of_type(fault: str, overrides: Sequence[SettingOverride]) -> str:
    """What another `type` needs whose parameters are still those of the one before."""
    places = [each.place for each in overrides]
    for *above, last in places:
        params = (*above, "params")
        if last == "type" and "`params` of" in fault and not any(each[: len(params)] == params for each in places):
            return f"; those of the former type go with --set {'.'.join(map(str, params))}={{}}"
    return ""


def _require_free(given: SettingOverride, of_environment: Sequence[SettingOverride]) -> None:
    """Refuse a value for what the environment sets too: which of both is meant nobody could tell from the YAML."""
    for other in of_environment:
        n = min(len(other.place), len(given.place))
        if other.place[:n] == given.place[:n]:
            raise ValueError(
                f"`{given.origin}` must be of a field that the environment leaves alone, {other.origin} sets it; unset that first."
            )


def _strategy_of(text: str, path: Path, *, is_in_place: bool) -> Strategy:
    values = values_of_text(text, path)
    if values.type != STRATEGY_TYPE:
        raise FaultyYAMLError(f"{path}:1: `type` must be {STRATEGY_TYPE} for a strategy, was {values.type[:80]!r}.")
    return component_of_values(Strategy, path, values, is_in_place=is_in_place)
