"""Parameters: what a strategy may set of an entry of a registry, with type, range and meaning in one place.

Lives here: the kinds of parameters, and the one check of given values. The same specification serves the YAML, the docs
(`describe_params`), editors (`param_schema`) and a tuner (`searched_params`). Does not live here: which parameters an entry has (`learners`,
`targets`, `signals`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number, or with `is_whole` a whole number.

    Attributes
    ----------
    default : int, float or None
    low, high : float
        Both allowed: what the library takes and a fit survives.
    search : tuple of float, optional
        Interval that a tuner draws from, both ends included. Left out: not worth tuning by default.
    is_log : bool
        The tuner draws uniformly in the logarithm.
    search_step : int, optional
        What drawn whole numbers are apart, from the lower end on; 1 if left out.
    is_whole : bool
    is_optional : bool
        None (`null` in YAML) is allowed.
    is_required : bool
        Must be given; then it has no default.
    meaning : str
        For people.
    """

    default: float | None
    low: float
    high: float
    search: tuple[float, float] | None = None
    is_log: bool = False
    search_step: int | None = None
    is_whole: bool = False
    is_optional: bool = False
    is_required: bool = False
    meaning: str = ""

    def __post_init__(self) -> None:
        """Check that range, interval and default agree."""
        if not self.low <= self.high:
            raise ValueError(f"`low` must not exceed `high`, was {self.low} against {self.high}.")
        if self.default is None and not (self.is_optional or self.is_required):
            raise ValueError("`default` must be a number unless `is_optional` or `is_required`, was None.")
        if self.default is not None and not self.low <= self.default <= self.high:
            raise ValueError(f"`default` must be from {self.low:g} to {self.high:g}, was {self.default}.")
        if self.search is not None:
            low, high = self.search
            if not self.low <= low < high <= self.high:
                raise ValueError(
                    f"`search` must be an interval inside {self.low:g} to {self.high:g}, was {self.search}."
                )
            if self.is_log and low <= 0:
                raise ValueError(f"`search` must begin above zero for a logarithmic range, was {low}.")
        if self.search_step is not None:
            low, high = self.search or (0.0, 0.0)
            if self.is_log or not self.is_whole or self.search_step < 1 or (high - low) % self.search_step:
                raise ValueError(f"`search_step` must divide an interval of whole numbers, was {self.search_step}.")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few names; None is allowed with `is_optional`, and a tuner draws one with `is_searched`.

    Attributes
    ----------
    default : str or None
        None only with `is_optional`.
    names : tuple of str
        What is allowed.
    is_searched : bool
        A tuner draws one by default.
    is_optional : bool
        None (`null` in YAML) is allowed.
    meaning : str
        For people.
    """

    default: str | None
    names: tuple[str, ...]
    is_searched: bool = False
    is_optional: bool = False
    meaning: str = ""

    def __post_init__(self) -> None:
        """Check that the default is one of the names."""
        if self.default not in self.names and not (self.default is None and self.is_optional):
            raise ValueError(f"`default` must be one of {', '.join(self.names)}, was {self.default!r}.")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """true or false; a tuner draws one with `is_searched`.

    Attributes
    ----------
    default : bool
    is_searched : bool
        A tuner draws one by default.
    meaning : str
        For people.
    """

    default: bool
    is_searched: bool = False
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A name that is known elsewhere, such as that of a feature; must be given where it has no default.

    Attributes
    ----------
    pattern : str
        Regular expression that the whole text must match.
    default : str, optional
    meaning : str
        For people.
    """

    pattern: str
    default: str | None = None
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class Nested:
    """An entry inside of an entry, such as a learner of a learner: a mapping that has `keys`; must be given.

    Attributes
    ----------
    meaning, words : str
    keys : tuple of str
    """

    meaning: str = ""
    words: str = "a learner: type, params, preprocessing"
    keys: tuple[str, ...] = ("type",)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list of values of one kind.

    Attributes
    ----------
    item : Number, Choice, Flag, Text or Nested
        Kind of each value; its default is not read.
    default : tuple, optional
        Left out: the list must be given. None: `null` is allowed.
    least, most : int
        How many values there may be.
    is_required : bool
        Must be given; then it has no default.
    meaning : str
        For people.
    """

    item: Number | Choice | Flag | Text | Nested
    default: tuple[Any, ...] | None = ()
    is_required: bool = False
    least: int = 0
    most: int = 100
    meaning: str = ""


Param: TypeAlias = Number | Choice | Flag | Text | Nested | Listing

# YAML 1.1 takes `1e-3` for text: to it a number has a point before the exponent, and a sign after the `e`.
SCIENTIFIC = re.compile(r"[-+]?[0-9]{1,30}(\.[0-9]{0,30})?[eE][-+]?[0-9]{1,3}")

# Checks the value of a `Nested`, given where it stands (such as `members.0`), and returns what stands for it.
NestedCheck: TypeAlias = Callable[[Any, str], Any]


def complete_params(
    owner: str,
    given: Mapping[str, Any] | None,
    spec: Mapping[str, Param],
    *,
    where: str = "",
    nested: NestedCheck | None = None,
) -> dict[str, Any]:
    """Every parameter of an entry of a registry: those given, and defaults for the rest, in the order of `spec`.

    Parameters
    ----------
    owner : str
        Name of the entry, for messages.
    given : mapping, optional
        Parameters that differ from the defaults.
    spec : mapping of str to Param
        Every parameter that there is.
    where : str
        Prefix of the names in messages, such as `members.0.params.` for an entry inside of another one.
    nested : callable, optional
        Checks the values of `Nested` parameters.

    Returns
    -------
    dict of str to value
        A whole number for a float has become one, and so has text like `1e-3`; a list is a tuple.

    Raises
    ------
    ValueError
        If a parameter is unknown or missing, or its value outside of its range (NaN is).
    TypeError
        If a value is of another type; a whole number may stand for any number, and so may text like `1e-3`, which is no number to YAML 1.1.

    Examples
    --------
    >>> complete_params("own", {"depth": 3}, {"depth": Number(default=2, low=1, high=9), "is_fast": Flag(default=True)})
    {'depth': 3.0, 'is_fast': True}
    """
    given = dict(given or {})
    if unknown := sorted(str(each) for each in set(given) - set(spec)):
        # Of an entry inside of another one the prefix is the path to its parameters.
        field = where.removesuffix(".") or "params"
        raise ValueError(f"`{field}` of {owner!r} must be among {sorted(spec)}, was {unknown[:5]}.")
    return {
        name: _checked(given[name], param, f"{where}{name}", owner, nested)
        if name in given
        else _default(param, f"{where}{name}", owner)
        for name, param in spec.items()
    }


def searched_params(spec: Mapping[str, Param]) -> dict[str, Param]:
    """The parameters that a tuner draws by default.

    Parameters
    ----------
    spec : mapping of str to Param
        Every parameter of an entry.

    Returns
    -------
    dict of str to Param
        Those with a `search` interval or `is_searched`.

    Examples
    --------
    >>> list(searched_params({"a": Number(default=2, low=1, high=9, search=(1, 5)), "b": Flag(default=True)}))
    ['a']
    """
    return {
        name: param
        for name, param in spec.items()
        if (isinstance(param, Number) and param.search is not None)
        or (isinstance(param, Choice | Flag) and param.is_searched)
    }


def search_space(param: Param) -> str:
    """What a tuner draws a parameter from by default, in words; "" for one that it leaves alone.

    Examples
    --------
    >>> search_space(Number(default=0.1, low=0.0, high=1.0, search=(0.01, 0.2), is_log=True))
    '0.01 to 0.2, logarithmic'
    """
    match param:
        case Number(search=(low, high)):
            step = f" by {param.search_step}" if param.search_step else ""
            return f"{low:g} to {high:g}{step}{', logarithmic' if param.is_log else ''}"
        case Choice(is_searched=True):
            return ", ".join(param.names)
        case Flag(is_searched=True):
            return "true, false"
    return ""


def describe_params(spec: Mapping[str, Param]) -> list[tuple[str, str, str, str]]:
    """Name, default, allowed values and meaning of each parameter, in words.

    Parameters
    ----------
    spec : mapping of str to Param
        Every parameter of an entry.

    Returns
    -------
    list of tuple of str
        In the order of `spec`.

    Examples
    --------
    >>> describe_params({"depth": Number(default=2, low=1, high=9, is_whole=True, meaning="levels")})
    [('depth', '2', 'whole, 1 to 9', 'levels')]
    """
    return [(name, _default_in_words(param), allowed_values(param), param.meaning) for name, param in spec.items()]


def allowed_values(param: Param) -> str:
    """Which values a parameter takes, in words: `0.01 to 1`, `hist, approx or exact`."""
    match param:
        case Number():
            told = f"{'whole, ' if param.is_whole else ''}{param.low:g} to {param.high:g}"
            return f"{told}, or null" if param.is_optional else told
        case Choice():
            return ", ".join([*param.names, *(["null"] if param.is_optional else [])])
        case Flag():
            return "true or false"
        case Text():
            return f"text like {param.pattern}"
        case Nested():
            return param.words
        case Listing():
            return f"{param.least} to {param.most} times: {allowed_values(param.item)}"


def param_schema(param: Param) -> dict[str, Any]:
    """JSON Schema of the values that a parameter takes, with its meaning and default.

    Parameters
    ----------
    param : Param
        Of an entry.

    Returns
    -------
    dict
        JSON Schema, draft 2020-12; a nested learner is any mapping with a `type`.

    Examples
    --------
    >>> param_schema(Number(default=3, low=1, high=9, is_whole=True, meaning="levels of a tree"))
    {'type': 'integer', 'minimum': 1, 'maximum': 9, 'default': 3, 'description': 'levels of a tree'}
    """
    match param:
        case Number():
            schema: dict[str, Any] = {
                "type": "integer" if param.is_whole else "number",
                "minimum": param.low,
                "maximum": param.high,
            }
        case Choice():
            schema = {"enum": list(param.names)}
        case Flag():
            schema = {"type": "boolean"}
        case Text():
            schema = {"type": "string", "pattern": f"^(?:{param.pattern})$"}
        case Nested():
            schema = {"type": "object", "required": [*param.keys]}
        case Listing():
            schema = {
                "type": "array",
                "items": param_schema(param.item),
                "minItems": param.least,
                "maxItems": param.most,
            }
            # Of an item neither is read.
            schema["items"].pop("default", None)
    if getattr(param, "is_optional", False) or (isinstance(param, Listing) and param.default is None):
        schema = {"anyOf": [schema, {"type": "null"}]}
    if not _must_be_given(param) and not isinstance(param, Nested):
        schema["default"] = list(param.default) if isinstance(param.default, tuple) else param.default
    return {**schema, "description": param.meaning} if param.meaning else schema


def _must_be_given(param: Param) -> bool:
    match param:
        case Nested():
            return True
        case Text():
            return param.default is None
        case Listing() | Number():
            return param.is_required
    return False


def _default_in_words(param: Param) -> str:
    if isinstance(param, Nested) or _must_be_given(param):
        return "required"
    value = list(param.default) if isinstance(param, Listing) and param.default is not None else param.default
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or "empty"


def _default(param: Param, name: str, owner: str) -> Any:
    if isinstance(param, Nested) or _must_be_given(param):
        raise ValueError(f"`{name}` of {owner!r} must be given ({allowed_values(param)}), was missing.")
    return param.default


def _checked(value: Any, param: Param, name: str, owner: str, nested: NestedCheck | None) -> Any:
    """The value as its kind has it: a whole number for a float becomes one, a list a tuple."""
    told = f"`{name}` of {owner!r}"
    if value is None and getattr(param, "is_optional", False):
        return None
    match param:
        case Number():
            return _number(value, param, told)
        case Choice():
            if not isinstance(value, str):
                raise TypeError(f"{told} must be one of {', '.join(param.names)}, was {_shown(value)}.")
            if value not in param.names:
                raise ValueError(f"{told} must be one of {', '.join(param.names)}, was {value[:40]!r}.")
            return value
        case Flag():
            if not isinstance(value, bool):
                raise TypeError(f"{told} must be true or false, was {_shown(value)}.")
            return value
        case Text():
            if not isinstance(value, str):
                raise TypeError(f"{told} must be a text, was {_shown(value)}.")
            if not re.fullmatch(param.pattern, value):
                raise ValueError(f"{told} must match {param.pattern}, was {value[:40]!r}.")
            return value
        case Nested():
            if nested is None:
                raise ValueError(f"{told} must be left out, was {_shown(value)}; this entry holds no others.")
            return nested(value, name)
        case Listing():
            if value is None and param.default is None:
                return None
            if isinstance(value, str) or not isinstance(value, list | tuple):
                raise TypeError(f"{told} must be a list, was {_shown(value)}.")
            if not param.least <= len(value) <= param.most:
                raise ValueError(f"{told} must have from {param.least} to {param.most} values, was with {len(value)}.")
            return tuple(_checked(each, param.item, f"{name}.{at}", owner, nested) for at, each in enumerate(value))


def _number(value: Any, param: Number, told: str) -> float:
    if isinstance(value, str) and not param.is_whole and SCIENTIFIC.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int if param.is_whole else int | float):
        kind = "a whole number" if param.is_whole else "a number"
        raise TypeError(f"{told} must be {kind}, was {_shown(value)}.")
    # Written so that NaN fails too.
    if not param.low <= value <= param.high:
        raise ValueError(f"{told} must be from {param.low:g} to {param.high:g}, was {str(value)[:40]}.")
    return value if param.is_whole else float(value)


def _shown(value: Any) -> str:
    return repr(value)[:60]
