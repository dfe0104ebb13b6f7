"""Space: which values a study may try, by name, with type, range and what they hang on.

Lives here: the kinds of distributions, reading them from YAML or JSON, the default space of a specification. Does not live here: what a
name sets (`points`), which values are tried (`samplers`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from hf_pipelines.research.params import Choice, Flag, Number, Param, searched_params

if TYPE_CHECKING:
    import optuna

# Of one dimension: JSON values.
Value: TypeAlias = float | int | str | bool | None

# Values by the names of the dimensions that are active.
Point: TypeAlias = Mapping[str, Value]

TYPES = ("float", "int", "categorical")

# More points than this are not listed one by one.
MOST_LISTED = 100_000


@dataclass(frozen=True, kw_only=True)
class Float:
    """Numbers from `low` to `high`, both included; drawn in the logarithm with `log`, or in steps of `step`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        _require_range(self.low, self.high, is_log=self.log, step=self.step)

    def draw(self, trial: optuna.Trial, name: str) -> float:
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)

    def holds(self, value: Value) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def values(self) -> list[Value] | None:
        """Every value, None where they are not countable."""
        if self.low == self.high:
            return [self.low]
        if self.step is None:
            return None
        n = math.floor((self.high - self.low) / self.step + 1e-9)
        return [self.low + at * self.step for at in range(n + 1)]


@dataclass(frozen=True, kw_only=True)
class Int:
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        _require_range(self.low, self.high, is_log=self.log, step=None if self.log and self.step == 1 else self.step)

    def draw(self, trial: optuna.Trial, name: str) -> int:
        return trial.suggest_int(name, self.low, self.high, log=self.log, step=self.step)

    def holds(self, value: Value) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def values(self) -> list[Value] | None:
        return [*range(self.low, self.high + 1, self.step)]


@dataclass(frozen=True, kw_only=True)
class Categorical:
    """One of a few values."""

    choices: tuple[Value, ...]

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        if not self.choices:
            raise ValueError("`choices` must have at least one value, was empty; name the values to try.")
        if strays := [each for each in self.choices if not isinstance(each, str | int | float | bool | None)]:
            raise TypeError(f"`choices` must be texts, numbers, true, false or null, was with {strays[:5]!r:.80}.")
        if any(isinstance(each, float) and not math.isfinite(each) for each in self.choices):
            raise ValueError(f"`choices` must be finite, was {list(self.choices)}.")
        if len({(type(each), each) for each in self.choices}) < len(self.choices):
            raise ValueError(f"`choices` must name each value once, was {list(self.choices)}.")

    def draw(self, trial: optuna.Trial, name: str) -> Value:
        return trial.suggest_categorical(name, self.choices)

    def holds(self, value: Value) -> bool:
        return any(type(value) is type(each) and value == each for each in self.choices)

    def values(self) -> list[Value] | None:
        return [*self.choices]


Distribution: TypeAlias = Float | Int | Categorical


@dataclass(frozen=True)
class Dimension:
    """One name with its values, and when it is asked for at all.

    Attributes
    ----------
    name : str
        What it sets, such as `learner.max_depth`.
    distribution : Float, Int or Categorical
    when : tuple of (str, tuple)
        Other dimensions before it, and the values of each for which it is asked; all of them must hold.
    """

    name: str
    distribution: Distribution
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    @property
    def ends(self) -> tuple[Value, ...]:
        """The lowest and the highest value, or every choice."""
        distribution = self.distribution
        return distribution.choices if isinstance(distribution, Categorical) else (distribution.low, distribution.high)

    def is_active(self, point: Point) -> bool:
        return all(name in point and any(_same(point[name], each) for each in values) for name, values in self.when)


@dataclass(frozen=True)
class Space:
    """Dimensions in the order in which they are drawn."""

    dimensions: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        """Check names and conditions."""
        before: dict[str, Distribution] = {}
        for each in self.dimensions:
            if each.name in before:
                raise ValueError(f"`space` must name a dimension once, was with {each.name} twice.")
            for name, values in each.when:
                if name not in before:
                    raise ValueError(
                        f"`{each.name}.when` must name dimensions that stand before it ({', '.join(before) or 'there are none'}), "
                        f"was {name}."
                    )
                if strays := [value for value in values if not before[name].holds(value)]:
                    raise ValueError(f"`{each.name}.when.{name}` must be values of {name}, was with {strays[:5]}.")
            before[each.name] = each.distribution

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.dimensions)

    @cached_property
    def n_points(self) -> int | None:
        """How many points there are; None if they are not countable, or more than are listed one by one."""
        most = 1
        for each in self.dimensions:
            values = each.distribution.values()
            most *= MOST_LISTED + 1 if values is None else len(values)
            if most > MOST_LISTED:
                return None
        return sum(1 for _ in self.points())

    def points(self) -> Iterator[dict[str, Value]]:
        """Every point, dimension by dimension in their order, the last one changing first.

        Raises
        ------
        ValueError
            If a dimension is not countable.
        """
        listed: list[list[Value]] = []
        for each in self.dimensions:
            values = each.distribution.values()
            if values is None:
                raise ValueError(
                    f"`{each.name}` must have countable values, was float without a step; give it a `step`, or list `choices`."
                )
            listed.append(values)
        seen: set[tuple[tuple[str, Value], ...]] = set()
        for drawn in itertools.product(*listed):
            point: dict[str, Value] = {}
            for each, value in zip(self.dimensions, drawn, strict=True):
                if each.is_active(point):
                    point[each.name] = value
            # Points that differ in a dimension that is not asked for are one.
            key = tuple(point.items())
            if key not in seen:
                seen.add(key)
                yield point

    def corners(self) -> Iterator[dict[str, Value]]:
        """Points with each end of each dimension, the other dimensions at the first of theirs."""
        first = {each.name: each.ends[0] for each in self.dimensions}
        for each in self.dimensions:
            for value in each.ends:
                # What an end hangs on is set so that it is asked for.
                wanted = first | {name: values[0] for name, values in self._conditions(each.name)} | {each.name: value}
                point: dict[str, Value] = {}
                for other in self.dimensions:
                    if other.is_active(point):
                        point[other.name] = wanted[other.name]
                yield point

    def _conditions(self, name: str) -> Iterator[tuple[str, tuple[Value, ...]]]:
        of = {each.name: each for each in self.dimensions}
        for other, values in of[name].when:
            yield other, values
            yield from self._conditions(other)

    def draw(self, trial: optuna.Trial) -> dict[str, Value]:
        """A point that a sampler proposes."""
        point: dict[str, Value] = {}
        for each in self.dimensions:
            if each.is_active(point):
                point[each.name] = each.distribution.draw(trial, each.name)
        return point

    def require(self, point: Point) -> None:
        """Refuse a point that is not of this space.

        Raises
        ------
        ValueError
        """
        active = {each.name: each for each in self.dimensions if each.is_active(point)}
        if strays := sorted({*point} ^ {*active}):
            raise ValueError(f"`point` must give exactly the dimensions that are asked for, was not so: {strays[:5]}.")
        if strays := sorted(name for name, each in active.items() if not each.distribution.holds(point[name])):
            raise ValueError(f"`point` must lie within the space, was not so: {strays[:5]}.")

    def to_json(self) -> dict[str, Any]:
        """As `read_space` takes it back."""
        return {each.name: _dimension_to_json(each) for each in self.dimensions}


def read_space(given: Mapping[str, Any], *, where: str = "space") -> Space:
    """A space as it is written in YAML.

    Parameters
    ----------
    given : mapping of name to mapping
        `type` (float, int, categorical), then `low`, `high`, `log`, `step` or `choices`, and `when`: values of dimensions before it.
    where : str
        For messages.

    Raises
    ------
    ValueError
        If something lacks, is unknown, or leaves nothing to draw.
    TypeError
        If a value is of another type.

    Examples
    --------
    >>> space = read_space({"kind": {"type": "categorical", "choices": ["a", "b"]},
    ...                     "depth": {"type": "int", "low": 2, "high": 4, "when": {"kind": "a"}}})
    >>> list(space.points())
    [{'kind': 'a', 'depth': 2}, {'kind': 'a', 'depth': 3}, {'kind': 'a', 'depth': 4}, {'kind': 'b'}]
    """
    return Space(tuple(_read_dimension(str(name), each, f"{where}.{name}") for name, each in given.items()))


def default_space(spec: Mapping[str, Param], *, prefix: str = "") -> Space:
    """Every parameter of a specification that a tuner draws by default, within its own range."""
    return Space(
        tuple(Dimension(prefix + name, _distribution_of(param)) for name, param in searched_params(spec).items())
    )


def _distribution_of(param: Param) -> Distribution:
    match param:
        case Number() if param.search is not None:
            low, high = param.search
            if param.is_whole:
                return Int(low=int(low), high=int(high), log=param.is_log, step=param.search_step or 1)
            return Float(low=low, high=high, log=param.is_log)
        case Choice():
            return Categorical(choices=(*param.names, *([None] if param.is_optional else [])))
        case Flag():
            return Categorical(choices=(False, True))
    raise ValueError(f"`param` must be one that a tuner draws, was {param!r:.80}.")


_FIELDS = {
    "float": ("low", "high", "log", "step"),
    "int": ("low", "high", "log", "step"),
    "categorical": ("choices",),
}


def _read_dimension(name: str, given: Any, where: str) -> Dimension:
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`{where}` must be a mapping with its `type`, was {given!r:.40}; write {{type: float, low: 0, high: 1}}."
        )
    kind = given.get("type")
    if kind not in TYPES:
        raise ValueError(f"`{where}.type` must be one of {', '.join(TYPES)}, was {kind!r:.40}.")
    known = _FIELDS[kind]
    if strays := sorted(str(each) for each in {*given} - {"type", "when", *known}):
        raise ValueError(f"`{where}` of type {kind} must have {', '.join(known)} or when, was with {strays[:5]}.")
    fields = {each: given[each] for each in known if each in given}
    if lacking := [each for each in ("low", "high", "choices") if each in known and each not in fields]:
        raise ValueError(f"`{where}` must give {' and '.join(lacking)}, was without.")
    try:
        return Dimension(name, _distribution(kind, fields), _read_when(given.get("when")))
    except (TypeError, ValueError) as e:
        # The message names the field alone.
        raise type(e)(str(e).replace("`", f"`{where}.", 1)) from e


def _distribution(kind: str, fields: Mapping[str, Any]) -> Distribution:
    if kind == "categorical":
        choices = fields["choices"]
        if isinstance(choices, str) or not isinstance(choices, Sequence):
            raise TypeError(f"`choices` must be a list, was {choices!r:.40}.")
        return Categorical(choices=tuple(choices))
    for name in ("low", "high", "step"):
        value = fields.get(name)
        if name == "step" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
            raise TypeError(f"`{name}` must be a {'whole ' * (kind == 'int')}number, was {value!r:.40}.")
    if not isinstance(fields.get("log", False), bool):
        raise TypeError(f"`log` must be true or false, was {fields['log']!r:.40}.")
    given = {name: value for name, value in fields.items() if value is not None}
    if kind == "int":
        return Int(**given)
    step = given.get("step")
    return Float(
        low=float(given["low"]),
        high=float(given["high"]),
        log=given.get("log", False),
        step=None if step is None else float(step),
    )


def _read_when(given: Any) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise TypeError(f"`when` must be a mapping of another dimension to its values, was {given!r:.40}.")
    return tuple(
        (str(name), tuple(each) if isinstance(each, list | tuple) else (each,)) for name, each in given.items()
    )


def _require_range(low: float, high: float, *, is_log: bool, step: float | None) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"`low` must be a number that does not exceed `high`, was {low} against {high}.")
    if is_log and low <= 0:
        raise ValueError(f"`low` must be above zero where `log` is true, was {low}.")
    if step is None:
        return
    if is_log:
        raise ValueError(f"`step` must be left out where `log` is true, was {step}.")
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"`step` must be above zero, was {step}.")
    # Optuna would lower the end to the last step, without a word of the range that was asked for.
    steps = (high - low) / step
    if abs(steps - round(steps)) > 1e-9 * max(steps, 1.0):
        raise ValueError(
            f"`step` must divide the range from {low} to {high}, was {step}; move `high` to the last step."
        )


def _same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other


def _dimension_to_json(dimension: Dimension) -> dict[str, Any]:
    found: dict[str, Any]
    match dimension.distribution:
        case Categorical(choices=choices):
            found = {"type": "categorical", "choices": [*choices]}
        case Int(low=low, high=high, log=log, step=step):
            found = {"type": "int", "low": low, "high": high, **({"log": True} if log else {"step": step})}
        case Float(low=low, high=high, log=log, step=step):
            found = {"type": "float", "low": low, "high": high, **({"log": True} if log else {})}
            found |= {} if step is None else {"step": step}
    return found | ({"when": {name: [*values] for name, values in dimension.when}} if dimension.when else {})
