"""Ranges: validators of the numbers in a component's YAML.

Lives here: refusing a number outside of its range, NaN among them, and which ranges the fields of a model have. Does not live
here: the fields (`market_data`, `components`).
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, field_validator


@dataclass(frozen=True)
class Range:
    """What a number may be.

    Attributes
    ----------
    low, high : float
        Ends of the range, both inside it.
    above : bool
        Whether `low` itself is outside.
    """

    low: float
    high: float
    above: bool = False

    def __call__(self, value: float | None) -> float | None:
        # Written so that NaN fails too.
        if value is None or ((self.low < value if self.above else self.low <= value) and value <= self.high):
            return value
        least = f"above {self.low:,} and at most" if self.above else f"from {self.low:,} to"
        raise ValueError(f"must be {least} {self.high:,}, was {value}.")


def ranged(*names: str, low: float, high: float, above: bool = False) -> Any:
    """Validator of numeric fields of a model: None, or a number from `low` to `high`.

    Parameters
    ----------
    names : str
        Fields of the model in whose class the validator stands.
    low, high : float
        Ends of the range, both inside it.
    above : bool
        Whether `low` itself is outside.
    """

    return field_validator(*names)(Range(low, high, above))


def ranges_of(model: type[BaseModel]) -> dict[str, Range]:
    """Range of each field of a model that `ranged` checks."""
    validators = model.__pydantic_decorators__.field_validators.values()
    return {name: each.func for each in validators if isinstance(each.func, Range) for name in each.info.fields}
