"""Extras: libraries that are installed on request, by the learners that need them.

Lives here: which extra brings the library of a family, and refusing a learner without its library. Does not live here: the learners
(`research.learners`), which import their libraries where they are used.
"""

from importlib.util import find_spec
from typing import NamedTuple

from hf_pipelines.research.learners import LearnerChoice


class Extra(NamedTuple):
    """An extra of this package, and what it installs for a family of learners."""

    name: str
    packages: tuple[str, ...]


# Families that are not here need nothing but the core.
BY_FAMILY = {
    "xgboost": Extra("trees", ("xgboost",)),
    "lightgbm": Extra("trees", ("lightgbm",)),
    "catboost": Extra("trees", ("catboost",)),
    "torch": Extra("deep", ("torch", "skorch", "safetensors")),
    "statsmodels": Extra("statistical", ("statsmodels",)),
}


EXPLAIN = Extra("explain", ("shap",))


def lacks_shap(choice: LearnerChoice) -> bool:
    """Whether exact contributions of a learner need a library that is not installed."""
    return choice.needs_shap and any(find_spec(each) is None for each in EXPLAIN.packages)


def is_installed(choice: LearnerChoice) -> bool:
    """Whether the library of a learner, and those of learners inside of it, are there."""
    extra = BY_FAMILY.get(choice.entry.family)
    return not (extra and any(find_spec(each) is None for each in extra.packages)) and all(
        map(is_installed, choice.nested)
    )


def require_installed(choice: LearnerChoice) -> None:
    """Refuse a learner, or one inside of it, whose library is not installed.

    Raises
    ------
    ValueError
        Naming the extra that brings it.
    """
    if extra := BY_FAMILY.get(choice.entry.family):
        lacking = [each for each in extra.packages if find_spec(each) is None]
        if lacking:
            raise ValueError(
                f"`learner.type` must be a learner whose library is installed, was {choice.name!r}, which needs {', '.join(lacking)}; "
                f'install the extra: pip install "hf_pipelines[{extra.name}]".'
            )
    for each in choice.nested:
        require_installed(each)


def require_extra(extra: str, what: str, packages: tuple[str, ...]) -> None:
    """Refuse a part of a strategy whose libraries are not installed.

    Raises
    ------
    ValueError
        Naming the extra that brings them.
    """
    if lacking := [each for each in packages if find_spec(each) is None]:
        raise ValueError(
            f"{what} must be left out where its libraries are not installed, was given without {', '.join(lacking)}; "
            f'install the extra: pip install "hf_pipelines[{extra}]".'
        )
