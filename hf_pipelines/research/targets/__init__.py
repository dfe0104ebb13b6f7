"""Targets: what a learner predicts, and the interval in which the answer becomes known.

Lives here: the registry of targets, one module each, the one way to make one and to label bars with it. Not here: joining
labels with features and cutting them at a date (`matrix`), purging folds by label interval (`splitters`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.params import Listing, Number, complete_params
from hf_pipelines.research.targets.barriers import (
    PRIMARY,
    barrier,
    label_meta_label,
    label_triple_barrier,
    needs_barriers,
    needs_meta_label,
)
from hf_pipelines.research.targets.cross_section import (
    BENCHMARK,
    OVER,
    check_excess,
    label_excess,
    label_rank,
    needs_excess,
)
from hf_pipelines.research.targets.first_touch import label_first_touch
from hf_pipelines.research.targets.returns import (
    DIRECTION_CLASSES,
    HORIZON_BARS,
    RETURN_RANGE,
    check_direction,
    check_horizons,
    forward_return,
    label_direction,
    label_horizons,
    label_open_return,
    label_return,
    label_up_or_down,
    needs_horizon,
    needs_horizons,
    needs_open_return,
)
from hf_pipelines.research.targets.target import (
    HORIZON,
    LABEL_COLUMNS,
    ROUNDING_RETURN,
    Target,
    TargetKind,
    TargetNeeds,
    checked_labels,
)
from hf_pipelines.research.targets.volatility import (
    VOLATILITY_BARS,
    label_realised_volatility,
    label_volatility_direction,
    needs_volatility,
)

__all__ = [
    "HORIZON",
    "LABEL_COLUMNS",
    "ROUNDING_RETURN",
    "TARGETS",
    "Target",
    "TargetKind",
    "TargetNeeds",
    "build_labels",
    "build_target",
    "forward_return",
    "neutral_value",
    "unconfirmed_labels",
]


def build_target(name: str, *, horizon_bars: int | None = None, params: Mapping[str, Any] | None = None) -> Target:
    """Look up a target kind and fill in its parameters.

    Parameters
    ----------
    name : str
        A key of `TARGETS`.
    horizon_bars : int, optional
        The parameter of this name, which nearly every target has and which has no default.
    params : mapping, optional
        Parameters that differ from the kind's defaults. For "direction": `lower` and `upper`, fractions.

    Returns
    -------
    Target
        With every parameter.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown, a value outside of its range, `horizon_bars` missing or given twice, or values
        contradict each other.
    TypeError
        If a value is of another type.

    Examples
    --------
    >>> build_target("direction", horizon_bars=5, params={"lower": -0.01, "upper": 0.01}).classes
    ('down', 'flat', 'up')
    """
    if name not in TARGETS:
        raise ValueError(f"`name` must be one of {sorted(TARGETS)}, was {name!r}.")
    kind, given = TARGETS[name], dict(params or {})
    if horizon_bars is not None and "horizon_bars" in given:
        raise ValueError("`horizon_bars` must be given once, was beside `params` and in it.")
    given |= {} if horizon_bars is None else {"horizon_bars": horizon_bars}
    if "horizon_bars" in kind.params and given.get("horizon_bars") is None:
        raise ValueError(f"`horizon_bars` must be given for target {name!r}, was missing.")
    filled = complete_params(name, given, kind.params)
    kind.check(filled)
    return Target(name=name, params=filled, classes=tuple(kind.classes(filled)), needs=kind.needs(filled))


def build_labels(
    bars: pl.DataFrame,
    target: Target,
    *,
    sectors: Mapping[str, str] | None = None,
    features: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Label bars.

    Parameters
    ----------
    bars : DataFrame
        Bars of members in any order, and of reference symbols where the target needs them, with the columns that it needs.
    target : Target
    sectors : mapping of symbol to sector, optional
        Where the target needs them.
    features : DataFrame, optional
        `symbol`, `session`, `ts` and at least the features that the target needs.

    Returns
    -------
    DataFrame
        Sorted by (symbol, ts): `LABEL_COLUMNS`, and `horizon` where the target gives several labels a row. `y` Float64: the
        class code (0 is `target.classes[0]`) or the number fitted.

    Raises
    ------
    ValueError
        If something that the target needs is missing; as its `label` and `checked_labels`.
    """
    given = _what_is_needed(bars, target.needs, sectors=sectors, features=features)
    return checked_labels(TARGETS[target.name].label(given, target.params), target)


def unconfirmed_labels(
    labelled: pl.DataFrame,
    bars: pl.DataFrame,
    target: Target,
    *,
    at: datetime,
    sectors: Mapping[str, str] | None = None,
    features: pl.DataFrame | None = None,
) -> list[str]:
    """Labels that end at a time and come out otherwise where every later bar is cut off, in words.

    Parameters
    ----------
    labelled : DataFrame
        Rows with `LABEL_COLUMNS`, such as a training matrix.
    bars, target, sectors, features
        As `build_labels`.
    at : datetime
        A `label_end`.
    """
    optional = [HORIZON] if HORIZON in labelled.columns else []
    keys = [*KEY_COLUMNS, *optional]
    ending = labelled.filter(pl.col("label_end") == at).select(*LABEL_COLUMNS, *optional)
    known = bars.filter(pl.col("ts") <= at)
    again = build_labels(known, target, sectors=sectors, features=features)
    both = ending.join(again, on=keys, how="left", suffix="_known")
    values = [name for name in LABEL_COLUMNS if name not in KEY_COLUMNS]
    is_other = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_known")) for name in values)
    return [
        f"the label of {row['symbol']} {row['ts']} ends at {at} as y={row['y']}, but from the bars until then it is "
        + ("none" if row["y_known"] is None else f"y={row['y_known']} until {row['label_end_known']}")
        for row in both.filter(is_other).sort(keys).iter_rows(named=True)
    ]


def _what_is_needed(
    bars: pl.DataFrame, needs: TargetNeeds, *, sectors: Mapping[str, str] | None, features: pl.DataFrame | None
) -> pl.DataFrame:
    columns = [*KEY_COLUMNS, *needs.columns, *(["role"] if needs.references else [])]
    if missing := sorted(set(columns) - set(bars.columns)):
        raise ValueError(f"`bars` must have the columns that the target needs, was without {missing}.")
    given = bars.select(columns).sort("symbol", "ts")
    if needs.sectors:
        known = pl.DataFrame(
            {"symbol": [*(sectors or {})], "sector": [*(sectors or {}).values()]},
            schema_overrides={"symbol": pl.String},
        )
        given = given.join(known, on="symbol", how="left", maintain_order="left")
    if needs.features:
        if features is None or (lacking := sorted(set(needs.features) - set(features.columns))):
            raise ValueError(
                f"`features` must have those that the target needs ({', '.join(needs.features)}), was without "
                f"{'any' if features is None else lacking}."
            )
        columns_of = features.select(*KEY_COLUMNS, *needs.features)
        given = given.join(columns_of, on=KEY_COLUMNS, how="left", maintain_order="left").with_columns(
            pl.col(needs.features).fill_null(float("nan"))
        )
    return given


def _threshold(default: float) -> Number:
    low, high = RETURN_RANGE
    return Number(default=default, low=low, high=high, meaning="return, a fraction")


def neutral_value(target: Target) -> float | None:
    """Value of a target that is neither up nor down; None of one without a direction.

    Parameters
    ----------
    target : Target
        From `build_target`.

    Returns
    -------
    float or None
        In the unit of the target, such as 0.0 of a return.

    Examples
    --------
    >>> neutral_value(build_target("rank", horizon_bars=5))
    0.5
    """
    kind = TARGETS[target.name]
    return kind.neutral if kind.is_directional else None


TARGETS: dict[str, TargetKind] = {
    "forward_return": TargetKind(
        name="forward_return",
        label=label_return,
        params={"horizon_bars": HORIZON_BARS},
        needs=needs_horizon,
        formula="y = total return over the next horizon_bars bars",
    ),
    "direction": TargetKind(
        name="direction",
        label=label_direction,
        params={"horizon_bars": HORIZON_BARS, "lower": _threshold(-0.01), "upper": _threshold(0.01)},
        needs=needs_horizon,
        classes=lambda params: DIRECTION_CLASSES,
        check=check_direction,
        formula="y = 2 (up) if return > upper, 0 (down) if return < lower, else 1 (flat)",
    ),
    "first_touch": TargetKind(
        name="first_touch",
        label=label_first_touch,
        params={
            "horizon_bars": HORIZON_BARS,
            "width": Number(
                default=2.0, low=0.01, high=100, meaning="half of the band, in trailing volatilities of a bar"
            ),
            "volatility_bars": VOLATILITY_BARS,
        },
        needs=needs_volatility,
        classes=lambda params: DIRECTION_CLASSES,
        formula=(
            "y = 2 (up) or 0 (down) at the first of the next horizon_bars closes whose return lies outside of +- width standard "
            "deviations of the last volatility_bars returns, 1 (flat) at the last of them if none does"
        ),
    ),
    "open_return": TargetKind(
        name="open_return",
        label=label_open_return,
        params={"horizon_bars": HORIZON_BARS},
        needs=needs_open_return,
        formula="y = total return from the open of the next bar to the open horizon_bars later: what a fill can earn",
    ),
    "up_or_down": TargetKind(
        name="up_or_down",
        label=label_up_or_down,
        params={"horizon_bars": HORIZON_BARS, "threshold": _threshold(0.0)},
        needs=needs_horizon,
        classes=lambda params: ("down", "up"),
        formula="y = 1 (up) if the return over the next horizon_bars bars > threshold, else 0 (down)",
    ),
    "volatility_direction": TargetKind(
        name="volatility_direction",
        label=label_volatility_direction,
        params={
            "horizon_bars": HORIZON_BARS,
            "lower": Number(default=-0.5, low=-100, high=100, meaning="trailing volatilities of the horizon"),
            "upper": Number(default=0.5, low=-100, high=100, meaning="trailing volatilities of the horizon"),
            "volatility_bars": VOLATILITY_BARS,
        },
        needs=needs_volatility,
        classes=lambda params: DIRECTION_CLASSES,
        check=check_direction,
        formula=(
            "y = 2 (up), 1 (flat) or 0 (down) of the return over horizon_bars, thresholds in standard deviations of the last "
            "volatility_bars returns times the root of horizon_bars"
        ),
    ),
    "triple_barrier": TargetKind(
        name="triple_barrier",
        label=label_triple_barrier,
        params={
            "horizon_bars": HORIZON_BARS,
            "profit": barrier(2.0, of="profit above the close"),
            "stop": barrier(2.0, of="stop below the close"),
            "volatility_bars": VOLATILITY_BARS,
        },
        needs=needs_barriers,
        classes=lambda params: DIRECTION_CLASSES,
        formula=(
            "y = 2 (up) if the high meets the profit first, 0 (down) if the low meets the stop first or in the same bar, 1 (flat) "
            "after horizon_bars; an open beyond a barrier has met it"
        ),
    ),
    "meta_label": TargetKind(
        name="meta_label",
        label=label_meta_label,
        params={
            "horizon_bars": HORIZON_BARS,
            "primary": PRIMARY,
            "profit": barrier(2.0, of="profit of the position"),
            "stop": barrier(2.0, of="stop of the position"),
            "volatility_bars": VOLATILITY_BARS,
        },
        needs=needs_meta_label,
        classes=lambda params: ("wrong", "right"),
        is_directional=False,
        formula="y = 1 (right) if a position on the side of the feature `primary` gains until a barrier or the time, else 0",
    ),
    "realised_volatility": TargetKind(
        name="realised_volatility",
        label=label_realised_volatility,
        params={"horizon_bars": HORIZON_BARS},
        needs=needs_horizon,
        is_directional=False,
        formula="y = root of the mean square of the next horizon_bars bar returns",
    ),
    "rank": TargetKind(
        name="rank",
        label=label_rank,
        params={"horizon_bars": HORIZON_BARS},
        needs=needs_horizon,
        neutral=0.5,
        formula="y = (rank - 0.5) / members of the return over the next horizon_bars times of the market",
    ),
    "excess_return": TargetKind(
        name="excess_return",
        label=label_excess,
        params={"horizon_bars": HORIZON_BARS, "over": OVER, "benchmark": BENCHMARK},
        needs=needs_excess,
        check=check_excess,
        formula="y = return over the next horizon_bars times of the market, less that of the universe, sector or benchmark",
    ),
    "forward_returns": TargetKind(
        name="forward_returns",
        label=label_horizons,
        params={
            "horizons": Listing(
                item=Number(default=1, low=1, high=10_080, is_whole=True),
                is_required=True,
                least=1,
                most=20,
                meaning="bars to look ahead, one prediction each",
            )
        },
        needs=needs_horizons,
        check=check_horizons,
        formula="y = total return over each of `horizons`, told apart by the column horizon",
    ),
}
