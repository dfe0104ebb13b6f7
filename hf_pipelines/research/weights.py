"""Sample weights: how much each training row counts in a fit.

Lives here: the registry of weightings, and the one call that multiplies those of a strategy. Not here: fitting
(`cross_validation`), scores of predictions (`metrics`).

A weighting is estimated from the rows that are given: a fold passes its training rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.params import Number, Param, complete_params
from hf_pipelines.research.targets import HORIZON, LABEL_COLUMNS, Target

Floats = npt.NDArray[np.float64]

# A mean this close to 1 is 1: dividing by it would change bits and nothing else.
ROUNDING_MEAN = 1e-9

NONE = "none"


# What a weighting may look at.
WEIGHED_COLUMNS = (*LABEL_COLUMNS, HORIZON)


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """One way to weigh training rows.

    Attributes
    ----------
    name : str
        Key in `WEIGHTINGS`.
    weigh : callable
        `(rows, every parameter) -> array of shape (n_rows,)`, finite and not negative. Rows are those of a training matrix:
        `WEIGHED_COLUMNS`, `horizon` only where a row has several labels.
    params : mapping of str to Param
    needs_classes : bool
        Whether it is for classes alone.
    formula : str
        The definition, for people.
    """

    name: str
    weigh: Callable[[pl.DataFrame, Mapping[str, Any]], Floats]
    params: Mapping[str, Param]
    needs_classes: bool = False
    formula: str


@dataclass(frozen=True)
class ChosenWeighting:
    """A key of `WEIGHTINGS` with every parameter filled in; made by `choose_weightings`."""

    name: str
    params: Mapping[str, Any]


Weightings: TypeAlias = tuple[ChosenWeighting, ...]


def choose_weightings(given: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]) -> Weightings:
    """Weightings that a strategy names, each with every parameter.

    Parameters
    ----------
    given : str, mapping or sequence of them
        `none`; a name; `{type: name, params: {...}}`; or a list of these, which are multiplied.

    Returns
    -------
    tuple of ChosenWeighting
        For `sample_weights`; () of `none`.

    Raises
    ------
    ValueError, TypeError
        If a weighting is unknown, named twice, or no name; as `complete_params`.
    """
    if not isinstance(given, str | Mapping | Sequence):
        raise TypeError(f"`weighting` must be a name, a mapping with a `type`, or a list of them, was {given!r:.60}.")
    parts = [given] if isinstance(given, str | Mapping) else list(given)
    chosen = tuple(_choose(each) for each in parts if each != NONE)
    names = [each.name for each in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f"`weighting` must name each weighting once, was {names}.")
    return chosen


def _choose(given: str | Mapping[str, Any]) -> ChosenWeighting:
    if isinstance(given, str):
        given = {"type": given}
    if not isinstance(given, Mapping):
        raise TypeError(f"`weighting` must be a name or a mapping with a `type`, was {given!r:.60}.")
    unknown = sorted(str(each) for each in set(given) - {"type", "params"})
    name = given.get("type")
    if unknown or not isinstance(name, str):
        raise ValueError(
            "`weighting` must be a name or a mapping of `type` and `params`, was "
            + (f"with {unknown[:5]}." if unknown else f"without a `type`: {dict(given)!r:.60}.")
        )
    if name not in WEIGHTINGS:
        raise ValueError(f"`weighting` must be one of {[NONE, *WEIGHTINGS]}, was {name!r}.")
    return ChosenWeighting(name, complete_params(name, given.get("params"), WEIGHTINGS[name].params))


def require_weighable(weightings: Weightings, target: Target) -> None:
    """Refuse a weighting of classes where there are none.

    Raises
    ------
    ValueError
        If a weighting needs classes and the target has none.
    """
    of_classes = [each.name for each in weightings if WEIGHTINGS[each.name].needs_classes]
    if of_classes and not target.is_classification:
        raise ValueError(
            f"`weighting` must be 'none' for target {target.name!r}, was {of_classes[0]!r}; it has no classes."
        )


def sample_weights(rows: pl.DataFrame, *, weightings: Weightings, target: Target) -> Floats:
    """Weight of each training row: the product of the weightings, of mean 1.

    Parameters
    ----------
    rows : DataFrame
        Training rows of one fit.
    weightings : tuple of ChosenWeighting
        From `choose_weightings`; none gives 1 to all.
    target : Target
        What `y` encodes.

    Returns
    -------
    float64 array of shape (n_rows,)

    Raises
    ------
    ValueError
        As `require_weighable`; if no row has a weight above zero, or one is not a number.
    """
    require_weighable(weightings, target)
    weight = np.ones(rows.height)
    for each in weightings:
        weight = weight * WEIGHTINGS[each.name].weigh(rows, each.params)
    if not rows.height:
        return weight
    if not (np.isfinite(weight) & (weight >= 0.0)).all() or not weight.sum() > 0.0:
        raise ValueError(
            f"`weighting` must give a row of training a weight above zero and none below, was not so with "
            f"{[each.name for each in weightings]}; leave one out."
        )
    mean = weight.mean()
    return weight if abs(mean - 1.0) < ROUNDING_MEAN else weight / mean


def weigh_classes(rows: pl.DataFrame, params: Mapping[str, Any]) -> Floats:
    """n_rows / (number of classes present * rows of the row's class): every class counts the same."""
    y = rows["y"].to_numpy()
    _, code, n_of_class = np.unique(y, return_inverse=True, return_counts=True)
    return np.asarray(len(y) / (len(n_of_class) * n_of_class[code]), dtype=np.float64)


def weigh_uniqueness(rows: pl.DataFrame, params: Mapping[str, Any]) -> Floats:
    """Mean of 1 / concurrent labels over the bars of a label.

    Labels of one symbol are concurrent at a bar if both depend on its return: from `label_start` to `label_end`, both
    included. The bars are the times that occur in the rows given. Labels of several horizons are told apart.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 4.3 and 4.4.
    """
    keys = ["symbol", *([HORIZON] if HORIZON in rows.columns else [])]
    times = pl.concat([rows.select(*keys, at=name) for name in ("ts", "label_start", "label_end")])
    grid = times.unique().sort(*keys, "at").with_row_index("bar")
    start, end = (
        rows.select(*keys, at=name).join(grid, on=[*keys, "at"], how="left", maintain_order="left")["bar"].to_numpy()
        for name in ("label_start", "label_end")
    )
    change = np.zeros(grid.height + 1)
    np.add.at(change, start, 1.0)
    np.add.at(change, end + 1, -1.0)
    concurrent = np.cumsum(change)[:-1]
    share = np.divide(1.0, concurrent, out=np.zeros(grid.height), where=concurrent > 0)
    total = np.concatenate([[0.0], np.cumsum(share)])
    return np.asarray((total[end + 1] - total[start]) / (end - start + 1.0), dtype=np.float64)


def weigh_recency(rows: pl.DataFrame, params: Mapping[str, Any]) -> Floats:
    """One half to the power of a row's age in half-lives: sessions of these rows after its own."""
    session = rows["session"].to_numpy()
    sessions = np.unique(session)
    age = len(sessions) - 1 - np.searchsorted(sessions, session)
    return np.asarray(0.5 ** (age / params["half_life_sessions"]), dtype=np.float64)


def weigh_magnitude(rows: pl.DataFrame, params: Mapping[str, Any]) -> Floats:
    """Size of the label's `target`: large moves count more."""
    return np.asarray(np.abs(rows["target"].to_numpy()), dtype=np.float64)


WEIGHTINGS: dict[str, Weighting] = {
    "class_balance": Weighting(
        name="class_balance",
        weigh=weigh_classes,
        params={},
        needs_classes=True,
        formula="rows / (classes * rows of the class)",
    ),
    "uniqueness": Weighting(
        name="uniqueness",
        weigh=weigh_uniqueness,
        params={},
        formula="mean over the label's bars of 1 / labels of the symbol that depend on the bar's return",
    ),
    "time_decay": Weighting(
        name="time_decay",
        weigh=weigh_recency,
        params={
            "half_life_sessions": Number(
                default=252, low=1, high=100_000, meaning="sessions after which a row counts half"
            )
        },
        formula="0.5 ** (sessions after the row's / half_life_sessions)",
    ),
    "return_magnitude": Weighting(
        name="return_magnitude",
        weigh=weigh_magnitude,
        params={},
        formula="absolute value of the label's return",
    ),
}
