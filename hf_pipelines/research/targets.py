"""Targets: what a learner is asked to foretell, and the interval in which the answer becomes known.

Lives here: forward returns, their encoding as classes, label intervals. Not here: joining labels with
features and cutting them at a date (`matrix`), purging folds by label interval (`splitters`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS

# A return this close to a threshold is at it: rounding of 1,000 steps is a tenth of it, a tick of a price of a million a
# hundred times it.
ROUNDING_RETURN = 1e-12


@dataclass(frozen=True)
class TargetKind:
    """One way to turn a forward return into what a learner fits.

    Attributes
    ----------
    name : str
        Key in `TARGETS`.
    classes : tuple of str
        Class names in ascending order of expected return, code 0 first; empty for a regression target.
    defaults : mapping of str to float
        Every parameter the kind knows, with its default, as a fraction.
    encode : callable
        `(forward returns, parameters) -> y`, both arrays float64 of shape (n_rows,).
    formula : str
        The definition, for people.
    """

    name: str
    classes: tuple[str, ...]
    defaults: Mapping[str, float]
    encode: Callable[[np.ndarray, Mapping[str, float]], np.ndarray]
    formula: str


@dataclass(frozen=True)
class Target:
    """A target kind with its horizon and every parameter filled in; made by `build_target`."""

    name: str
    horizon_bars: int
    classes: tuple[str, ...]
    params: Mapping[str, float]

    @property
    def is_classification(self) -> bool:
        """Whether `y` is a class code rather than a return."""
        return bool(self.classes)


def build_target(name: str, *, horizon_bars: int, params: Mapping[str, float] | None = None) -> Target:
    """Look up a target kind and fill in its parameters.

    Parameters
    ----------
    name : str
        A key of `TARGETS`.
    horizon_bars : int
        Bars of the symbol to look ahead, at least 1.
    params : mapping of str to float, optional
        Parameters that differ from the kind's defaults. For "direction": `lower` and `upper`, fractions.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown, the horizon is below 1, or `lower` lies above `upper`.
    """
    if name not in TARGETS:
        raise ValueError(f"`name` must be one of {sorted(TARGETS)}, was {name!r}.")
    kind, given = TARGETS[name], dict(params or {})
    unknown = sorted(set(given) - set(kind.defaults))
    if unknown:
        raise ValueError(f"`params` must be among {sorted(kind.defaults)} for target {name!r}, was {unknown[:5]}.")
    _check_horizon(horizon_bars)
    filled = {**kind.defaults, **given}
    # Written so that a NaN threshold fails too.
    if "lower" in filled and not filled["lower"] <= filled["upper"]:
        raise ValueError(f"`lower` must not exceed `upper`, was {filled['lower']} against {filled['upper']}.")
    return Target(name=name, horizon_bars=horizon_bars, classes=kind.classes, params=filled)


def forward_return(bars: pl.DataFrame, horizon_bars: int) -> pl.DataFrame:
    """Total return from each bar's close to the close `horizon_bars` bars of the same symbol later.

    The product of `split_ratio * (close + dividend) / previous close` over the bars t+1 .. t+h, less one:
    splits leave no jump and dividends count as reinvested on the ex-date. A value depends on those bars and
    the close of t alone, to the last bit, wherever the frame begins.

    Parameters
    ----------
    bars : DataFrame
        Bars in any order: `symbol`, `session`, `ts`, `close`, `split_ratio`, `dividend`.
    horizon_bars : int
        Bars to look ahead, at least 1. Counted over each symbol's own bars: a halt lengthens the interval in
        time.

    Returns
    -------
    DataFrame
        Sorted by (symbol, ts): `symbol`, `session`, `ts`, `label_start` (ts of bar t+1), `label_end` (ts of
        bar t+h), `target` (fraction). The last `horizon_bars` bars of each symbol have no row: not known yet.
        So the final bars of a delisted symbol are never trained on. Bars whose interval spans an unknown event
        (NaN) have no row either.

    Raises
    ------
    ValueError
        If `horizon_bars` is below 1, a close is missing or not positive, or an event impossible.
    """
    _check_horizon(horizon_bars)
    _require_possible(bars)
    bars = bars.sort("symbol", "ts")
    n_ahead = max(bars.height - horizon_bars, 0)
    close, split_ratio, dividend = (bars[name].to_numpy() for name in ("close", "split_ratio", "dividend"))
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = split_ratio[1:] * (close[1:] + dividend[1:]) / close[:-1]
    # One multiplication a step, in bar order: a running product would make bits depend on the first bar
    # loaded.
    product = np.ones(n_ahead)
    for step in range(horizon_bars):
        product *= growth[step : step + n_ahead]
    labels = bars.head(n_ahead).select(
        *KEY_COLUMNS,
        label_start=bars["ts"].slice(1, n_ahead),
        label_end=bars["ts"].slice(horizon_bars, n_ahead),
        target=pl.Series(product - 1.0, dtype=pl.Float64),
    )
    ends_in_same_symbol = labels["symbol"] == bars["symbol"].slice(horizon_bars, n_ahead)
    return labels.filter(ends_in_same_symbol & ~labels["target"].is_nan())


def build_labels(bars: pl.DataFrame, target: Target) -> pl.DataFrame:
    """Forward returns of `bars` with `y`, what the learner fits.

    Returns
    -------
    DataFrame
        The columns of `forward_return`, and `y` Float64: the class code (0 is `target.classes[0]`) or the
        return.

    Raises
    ------
    ValueError
        As `forward_return`.
    """
    labels = forward_return(bars, target.horizon_bars)
    y = TARGETS[target.name].encode(labels["target"].to_numpy(), target.params)
    return labels.with_columns(y=pl.Series(y, dtype=pl.Float64))


def _check_horizon(horizon_bars: int) -> None:
    if horizon_bars < 1:
        raise ValueError(f"`horizon_bars` must be at least 1, was {horizon_bars}.")


def _require_possible(bars: pl.DataFrame) -> None:
    close, split, dividend = pl.col("close"), pl.col("split_ratio"), pl.col("dividend")
    # NaN is an unknown event; a null is none of the contract.
    is_unknown = (split.is_nan() | dividend.is_nan()).fill_null(False)
    is_event = (split.is_finite() & (split > 0.0) & dividend.is_finite() & (dividend >= 0.0)).fill_null(False)
    is_price = (close.is_finite() & (close > 0.0)).fill_null(False)
    for is_right, rule in (
        (is_price, "`close` must be positive and present in every bar"),
        (is_event | is_unknown, "`split_ratio` must be above zero and `dividend` not negative, or NaN where unknown"),
    ):
        if broken := bars.filter(~is_right)["symbol"].unique().sort().to_list():
            raise ValueError(f"{rule}, was not for {broken[:5]}.")


def _encode_return(forward: np.ndarray, params: Mapping[str, float]) -> np.ndarray:
    return forward


def _encode_direction(forward: np.ndarray, params: Mapping[str, float]) -> np.ndarray:
    # A move of exactly 1 % is 0.010000000000000009 in floats: it is not above a threshold of 1 %.
    is_up = forward > params["upper"] + ROUNDING_RETURN
    return 1.0 + is_up - (forward < params["lower"] - ROUNDING_RETURN)


TARGETS: dict[str, TargetKind] = {
    "forward_return": TargetKind(
        name="forward_return",
        classes=(),
        defaults={},
        encode=_encode_return,
        formula="y = total return over the next horizon_bars bars",
    ),
    "direction": TargetKind(
        name="direction",
        classes=("down", "flat", "up"),
        defaults={"lower": -0.01, "upper": 0.01},
        encode=_encode_direction,
        formula="y = 2 (up) if return > upper, 0 (down) if return < lower, else 1 (flat)",
    ),
}
