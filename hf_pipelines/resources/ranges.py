"""Ranges: validators of the numbers in a component's YAML.

Lives here: refusing a number outside of its range, NaN among them. Does not live here: which range a field has (`market_data`,
`components`).
"""

from typing import Any

from pydantic import field_validator


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

    def check(value: float | None) -> float | None:
        # Written so that NaN fails too.
        if value is None or ((low < value if above else low <= value) and value <= high):
            return value
        least = f"above {low:,} and at most" if above else f"from {low:,} to"
        raise ValueError(f"must be {least} {high:,}, was {value}.")

    return field_validator(*names)(check)
