"""Gates of a strategy's YAML: a field for each gate, its threshold.

Lives here: the fields, made of the table of gates, and how far a weekly refit of the champion may fall. Does not live here: what a gate finds
(`research.promotion`).
"""

from typing import Any

import dagster as dg
from pydantic import Field, create_model

from hf_pipelines.research.promotion import GATES, Gate, Threshold
from hf_pipelines.resources.ranges import ranged

# A week of rows more and one less move R2 and accuracy of years of rows by some thousandths: this is an accident.
REFIT_MARGIN = 0.02


def _field(gate: Gate) -> tuple[Any, Any]:
    if gate.bound is None:
        return (bool, Field(default=bool(gate.default), description=f"{gate.meaning}; false asks nothing."))
    told = f"{gate.meaning}; at {gate.bound} this, null asks nothing."
    return (float | None, Field(default=float(gate.default), description=told))


_DEFINED: dict[str, Any] = {name: _field(gate) for name, gate in GATES.items()}

# One line in the table of gates is one field here.
_FIELDS: Any = create_model(
    "_FIELDS",
    __base__=dg.Model,
    __module__=__name__,
    __validators__={
        f"_{name}": ranged(name, low=gate.low, high=gate.high) for name, gate in GATES.items() if gate.bound is not None
    },
    **_DEFINED,
)


class GatesSpec(_FIELDS, dg.Resolvable):  # type: ignore[misc]
    """What a configuration must show before it may be promoted; a gate that is left out asks for its default."""

    refit_margin: float = Field(
        default=REFIT_MARGIN,
        description="How far the outer score of the champion's weekly refit (accuracy of classes, else R2) may lie below that of the refit "
        "before it; further below it does not serve.",
    )

    _margin = ranged("refit_margin", low=0.0, high=1.0)

    def thresholds(self) -> dict[str, Threshold]:
        """Every gate with what is asked, None where nothing is."""
        return {name: getattr(self, name) for name in GATES}
