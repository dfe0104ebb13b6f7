"""Gate: what a gate is, and the sentences that gates share.

Lives here: `Gate` and `Found`. Not here: the gates themselves (`gates`), their table (`registry`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hf_pipelines.research.promotion.evidence import Evidence

# What a gate asks for: a number, or whether it asks at all. None: nothing is asked.
Threshold = float | bool | None

# Of numbers in a sentence.
MOST_DIGITS = 15


@dataclass(frozen=True)
class Found:
    """What a gate found.

    Attributes
    ----------
    value : float, bool, str or None
        What was held to the threshold; None where there is nothing to hold.
    is_passed : bool
    why : str
        A sentence.
    applied : float, optional
        The threshold that it was held to, where the evidence makes it another than the one asked for.
    """

    value: float | bool | str | None
    is_passed: bool
    why: str
    applied: float | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One gate.

    Attributes
    ----------
    name : str
        Key of `gates` in YAML.
    judge : callable
        `(evidence, threshold) -> Found`, of evidence that has all that it needs. Where a number of `reads` is worse nothing that
        failed passes.
    reads : tuple of str
        Names of numbers of `Evidence`.
    needs : callable, optional
        `(evidence) -> names` that have to be measured; default all of `reads`.
    default : float or bool
        True of a gate without a number.
    bound : {"least", "most", None}
        Of the value; None of a gate without a number.
    low, high : float
        Range of the threshold.
    meaning : str
        What is held to the threshold, for the reference.
    remedy : str
        Command that makes what is missing; `{strategy}`, `{week}` and `{market}` stand for themselves.
    cures : bool
        Whether that command may turn a failure into a pass, too.
    grows : bool
        Whether that command adds to what is there, so that it helps too where this was too little.
    """

    name: str
    judge: Callable[[Evidence, Any], Found]
    reads: tuple[str, ...]
    needs: Callable[[Evidence], tuple[str, ...]] | None = None
    default: float | bool
    bound: Literal["least", "most"] | None = None
    low: float = 0.0
    high: float = 1.0
    meaning: str
    remedy: str
    cures: bool = False
    grows: bool = False

    def lacking(self, evidence: Evidence) -> tuple[str, ...]:
        """What it needs and was not measured."""
        needed = self.reads if self.needs is None else self.needs(evidence)
        return tuple(name for name in needed if not evidence.has(name))

    def checked(self, asked: object) -> Threshold:
        """A threshold, checked.

        Raises
        ------
        ValueError
            If it is no number within the gate's range; of a gate without a number, if it is not true or false.
        """
        if asked is None:
            return None
        if self.bound is None:
            if not isinstance(asked, bool):
                raise ValueError(f"`gates.{self.name}` must be true or false, was {str(asked)[:40]}.")
            return asked
        if (
            isinstance(asked, bool)
            or not isinstance(asked, int | float)
            or not (math.isfinite(asked) and self.low <= asked <= self.high)
        ):
            raise ValueError(
                f"`gates.{self.name}` must be a number from {self.low:g} to {self.high:g}, or null to ask nothing, was {str(asked)[:40]}."
            )
        return float(asked)

    def is_weaker(self, threshold: Threshold) -> bool:
        """Whether a threshold asks for less than the default."""
        if threshold is None or threshold is False:
            return True
        if self.bound is None:
            return False
        return threshold < self.default if self.bound == "least" else threshold > self.default


def at_least(value: float, least: float, what: str, *, form: str = ".2f") -> Found:
    """Passed from the threshold on; `form` is that of both numbers in the sentence."""
    is_passed = value >= least
    shown, limit = _shown(value, least, form)
    return Found(value, is_passed, f"{what}, {shown}, is {'at least' if is_passed else 'less than'} {limit}.")


def at_most(value: float, most: float, what: str, *, form: str = ".2f") -> Found:
    """Passed up to the threshold; `form` is that of both numbers in the sentence."""
    is_passed = value <= most
    shown, limit = _shown(value, most, form)
    return Found(value, is_passed, f"{what}, {shown}, is {'at most' if is_passed else 'more than'} {limit}.")


def _shown(value: float, threshold: float, form: str) -> tuple[str, str]:
    """Both numbers, with as many digits as tell them apart."""
    before, digits, unit = form.partition(".")[0], int(form.partition(".")[2][:-1]), form[-1]
    while (
        digits < MOST_DIGITS
        and value != threshold
        and f"{value:{before}.{digits}{unit}}" == f"{threshold:{before}.{digits}{unit}}"
    ):
        digits += 1
    return f"{value:{before}.{digits}{unit}}", f"{threshold:{before}.{digits}{unit}}"
