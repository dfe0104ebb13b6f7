"""The contract of targets: what a target is, to everything that labels, cuts, splits or scores.

Lives here: the form of a registry entry, of a target with its parameters, and the check of what an entry returns. Not here:
any particular target (one module each) or the registry (`targets`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.params import Param

Params: TypeAlias = Mapping[str, Any]

# What a total return is made from.
RETURN_COLUMNS = ("close", "split_ratio", "dividend")

LABEL_COLUMNS = (*KEY_COLUMNS, "label_start", "label_end", "target", "y")

# A target that gives several labels a row says by this column which is which.
HORIZON = "horizon"

# A return this close to a threshold is at it: rounding of 1,000 steps is a tenth of it, a tick of a price of a million a
# hundred times it.
ROUNDING_RETURN = 1e-12


@dataclass(frozen=True, kw_only=True)
class TargetNeeds:
    """What a target is made from; it is given this and no more.

    Attributes
    ----------
    horizon_bars : int
        Bars of the symbol after the row that a label looks at, at most.
    history_bars : int
        Bars of the symbol before the row that it looks at: so many weeks more of bars are loaded.
    columns : tuple of str
        Columns of the bars, beside the keys.
    references : bool
        The bars of reference symbols (a benchmark) too, told apart by `role`.
    symbols : tuple of str
        Symbols that must have bars, such as a benchmark.
    sectors : bool
        A column `sector` of the members.
    features : tuple of str
        Features of the row, as columns, NaN where a bar has none.
    """

    horizon_bars: int
    history_bars: int = 0
    columns: tuple[str, ...] = RETURN_COLUMNS
    references: bool = False
    symbols: tuple[str, ...] = ()
    sectors: bool = False
    features: tuple[str, ...] = ()


def no_check(params: Params) -> None:
    """No values of the parameters contradict each other."""


@dataclass(frozen=True, kw_only=True)
class TargetKind:
    """One way to label bars.

    Attributes
    ----------
    name : str
        Key in `TARGETS`.
    label : callable
        `(bars, every parameter) -> labels`. `bars` hold `symbol`, `session`, `ts` and what `needs` names, sorted by (symbol,
        ts). The labels hold `symbol`, `session`, `ts` of the rows that have one; `label_start` and `label_end`, the closes of
        the first and the last bar that the label depends on; `target`, the number it stands for; `y`, what a learner fits;
        and `horizon` (Int32) where a row has several. A row without all the bars it needs has no label. A label depends on
        the `history_bars` before its bar and those up to `label_end` alone, to the last bit, wherever the bars begin and end.
    params : mapping of str to Param
        Every parameter.
    needs : callable
        `every parameter -> TargetNeeds`.
    classes : callable
        `every parameter -> class names` in ascending order of expected return, code 0 first; () for a regression.
    check : callable
        Raises ValueError for parameters that contradict each other.
    is_directional : bool
        Whether a higher prediction stands for a higher return of the symbol, as rules take it that hold the highest long.
    neutral : float
        `target` of a symbol that does neither well nor badly: what is above it is up. Read where it has a direction.
    formula : str
        The definition, for people.
    """

    name: str
    label: Callable[[pl.DataFrame, Params], pl.DataFrame]
    params: Mapping[str, Param]
    needs: Callable[[Params], TargetNeeds]
    classes: Callable[[Params], tuple[str, ...]] = lambda params: ()
    check: Callable[[Params], None] = no_check
    is_directional: bool = True
    neutral: float = 0.0
    formula: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target kind with every parameter filled in; made by `build_target`.

    Attributes
    ----------
    name : str
        A key of `TARGETS`.
    params : mapping
        Every parameter.
    classes : tuple of str
        Names in ascending order of expected return, code 0 first; () for a regression.
    needs : TargetNeeds
        What labels are made from, with the horizon in bars.
    """

    name: str
    params: Params
    classes: tuple[str, ...]
    needs: TargetNeeds

    @property
    def horizon_bars(self) -> int:
        """Bars of the symbol after the row that a label looks at, at most."""
        return self.needs.horizon_bars

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons of a target with several labels a row, told apart by the column `HORIZON`; else none."""
        return tuple(self.params.get("horizons", ()))

    @property
    def is_classification(self) -> bool:
        """Whether `y` is a class code rather than a number."""
        return bool(self.classes)


def label_rows(
    bars: pl.DataFrame, rows: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], *, target: npt.NDArray[np.float64]
) -> pl.DataFrame:
    """Labels of some rows of sorted bars, each with the bar that ends it; `y` is for the target to add.

    Parameters
    ----------
    bars : DataFrame
        Sorted by (symbol, ts).
    rows, ends : int array of shape (n_labels,)
        Numbers of bars, of one symbol each.
    target : array of shape (n_labels,)
    """
    ts = bars["ts"]
    return bars[rows].select(
        *KEY_COLUMNS,
        label_start=ts.gather(rows + 1),
        label_end=ts.gather(ends),
        target=pl.Series(target, dtype=pl.Float64),
    )


def checked_labels(labels: pl.DataFrame, target: Target) -> pl.DataFrame:
    """Labels of a target as its contract wants them, in its order of columns and rows.

    Raises
    ------
    ValueError
        If a column is missing or of another type, a row repeated, an interval runs backwards, or `y` is no class code or not
        finite.
    """
    told = f"`label` of target {target.name!r}"
    optional = [HORIZON] if HORIZON in labels.columns else []
    if missing := sorted(set(LABEL_COLUMNS) - set(labels.columns)):
        raise ValueError(f"{told} must return {list(LABEL_COLUMNS)}, was without {missing}.")
    labels = labels.select(*LABEL_COLUMNS, *optional).sort("symbol", "ts", *optional)
    types = {
        "target": pl.Float64,
        "y": pl.Float64,
        **{name: labels.schema["ts"] for name in ("label_start", "label_end")},
    }
    types |= dict.fromkeys(optional, pl.Int32)
    if wrong := sorted(name for name, dtype in types.items() if labels.schema[name] != dtype):
        raise ValueError(f"{told} must return {wrong[0]} as {types[wrong[0]]}, was {labels.schema[wrong[0]]}.")
    # Sorted: what is repeated stands side by side.
    is_repeated = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in ("symbol", "ts", *optional))
    is_code = pl.col("y").is_in([float(code) for code in range(len(target.classes))])
    rules = (
        (~is_repeated.fill_null(False), "hold each symbol and ts once a horizon"),
        (pl.col("ts") < pl.col("label_start"), "start after the row's own bar"),
        (pl.col("label_start") <= pl.col("label_end"), "not end before it starts"),
        (is_code, f"have a `y` from 0 to {len(target.classes) - 1}")
        if target.classes
        else (pl.col("y").is_finite(), "have a finite `y`"),
    )
    # Of all rules at once whether any is broken, and only then which rows.
    if labels.select(
        pl.all_horizontal(pl.any_horizontal(is_right).fill_null(False).all() for is_right, _ in rules)
    ).item():
        return labels
    for is_right, rule in rules:
        if broken := labels.filter(~is_right.fill_null(False)).select("symbol", "ts").head(5).rows():
            raise ValueError(f"{told} must {rule}, was not for {', '.join(f'{symbol} {ts}' for symbol, ts in broken)}.")
    return labels
