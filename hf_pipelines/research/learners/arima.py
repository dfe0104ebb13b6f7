"""ARIMA: returns as an autoregression with moving averages and a season, by statsmodels.

Lives here: one entry. The return of a bar is the change of the price, so an order (p, q) here is the ARIMA (p, 1, q) of the
log price; with a season it is the SARIMAX (p, 1, q) x (P, 0, Q, s) without exogenous series: what those will be over the
horizon is not known at the row.

The mean is that of the training values. The order is given, or the one of a small grid with the lowest information criterion;
an order whose estimate does not converge takes no part. Where nothing is found, that is the order (0, 0) and the mean.

References
----------
Box & Jenkins (1976), Time Series Analysis: Forecasting and Control.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from hf_pipelines.research.learners.state_space import StateSpace, forecast_sums, settled
from hf_pipelines.research.learners.symbol_series import (
    NOT_CONVERGED,
    Floats,
    Numbers,
    Params,
    SeriesModel,
    State,
    series_learner,
)
from hf_pipelines.research.params import Choice, Listing, Number

# A seasonal order of 1 beside a season of a month of days: a state of some 25.
_MOST_LAGS, _MOST_SEASON = 5, 30


def fit_arima(values: Floats, params: Params) -> State | str:
    """The order with the lowest criterion among those that converge."""
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    mean = float(np.nanmean(values))
    season = params["season_bars"]
    best: tuple[float, State] | None = None
    for p, q, seasonal_p, seasonal_q in _orders(params):
        model = SARIMAX(
            values - mean,
            order=(p, 0, q),
            seasonal_order=(seasonal_p, 0, seasonal_q, season if seasonal_p or seasonal_q else 0),
        )
        with warnings.catch_warnings():
            # What does not converge is told by the result.
            warnings.simplefilter("ignore")
            try:
                found = model.fit(disp=0, cov_type="none", low_memory=True, maxiter=200)
            except np.linalg.LinAlgError:
                continue
        criterion = float(getattr(found, params["criterion"]))
        if not found.mle_retvals["converged"] or not np.isfinite(criterion):
            continue
        state: State = {
            "ar": _floats(found.arparams),
            "ma": _floats(found.maparams),
            "seasonal_ar": _floats(found.seasonalarparams),
            "seasonal_ma": _floats(found.seasonalmaparams),
            "season": season,
            "variance": float(found.params[-1]),
            "mean": mean,
        }
        if best is None or criterion < best[0]:
            best = (criterion, state)
    return NOT_CONVERGED if best is None else best[1]


def _floats(values: Any) -> list[float]:
    return [float(each) for each in values]


def _orders(params: Params) -> list[tuple[int, int, int, int]]:
    """Orders to try: p, q and those of the season."""
    if params["order"] is not None:
        return [(*params["order"], *(params["seasonal_order"] or (0, 0)))]
    lags = range(params["most_lags"] + 1)
    seasons = list(product(range(2), range(2))) if params["season_bars"] else [(0, 0)]
    return [(p, q, *season) for p, q in product(lags, lags) for season in seasons]


def arima_model(state: State) -> StateSpace:
    """The form of Harvey: the first state is the value, the others what is left of earlier ones."""
    season = int(state["season"])
    ar = -_polynomial([-each for each in state["ar"]], [-each for each in state["seasonal_ar"]], season)[1:]
    ma = _polynomial(state["ma"], state["seasonal_ma"], season)
    n = max(len(ar), len(ma))
    transition = np.eye(n, k=1)
    transition[: len(ar), 0] = ar
    impact = np.zeros(n)
    impact[: len(ma)] = ma
    noise = state["variance"] * np.outer(impact, impact)
    return StateSpace(np.eye(n)[0], transition, noise, settled(transition, noise))


def _polynomial(lags: list[float], seasonal: list[float], season: int) -> Floats:
    """Coefficients of `(1 + lags) (1 + seasonal lags)`, that of lag 0 first."""
    of_season = np.zeros(season * len(seasonal) + 1)
    of_season[0] = 1.0
    for at, each in enumerate(seasonal, start=1):
        of_season[season * at] = each
    return np.asarray(np.convolve([1.0, *lags], of_season), dtype=np.float64)


def forecast_arima(state: State, windows: Floats, horizon: int, scale: float) -> Floats:
    """Sum of the returns that are expected."""
    sums = forecast_sums(arima_model(state), windows / scale - state["mean"], horizon=horizon)
    return np.asarray(scale * (sums + horizon * state["mean"]))


def check_arima(state: State) -> None:
    """Refuse what no fit gives: an explosive process."""
    season = int(state["season"])
    if (state["seasonal_ar"] or state["seasonal_ma"]) and season < 2:
        raise ValueError("a season of less than two bars")
    ar = _polynomial([-each for each in state["ar"]], [-each for each in state["seasonal_ar"]], season)
    if len(ar) > 1 and np.abs(np.roots(ar)).max(initial=0.0) >= 1.0:
        raise ValueError("an explosive autoregression")


def _check(params: Mapping[str, Any]) -> None:
    if params["seasonal_order"] and params["order"] is None:
        raise ValueError("`order` of 'arima' must be given with `seasonal_order`, was null; give both, or neither.")
    if any(params["seasonal_order"]) and params["season_bars"] < 2:
        raise ValueError(
            f"`season_bars` of 'arima' must be at least 2 with a `seasonal_order`, was {params['season_bars']}; give the bars of a "
            "season, or leave the seasonal order out."
        )
    for name in ("order", "seasonal_order"):
        if len(params[name] or (0, 0)) != 2:
            raise ValueError(f"`{name}` of 'arima' must be two numbers, was {list(params[name])}.")
    if params["season_bars"] == 1:
        raise ValueError("`season_bars` of 'arima' must be 0 (none) or at least 2, was 1.")


_LAG = Number(default=0, low=0, high=_MOST_LAGS, is_whole=True)
_SEASONAL_LAG = Number(default=0, low=0, high=1, is_whole=True)

ARIMA = series_learner(
    SeriesModel(
        name="arima",
        fit=fit_arima,
        forecast=forecast_arima,
        fields={
            "ar": Numbers(-100.0, 100.0, most=_MOST_LAGS),
            "ma": Numbers(-100.0, 100.0, most=_MOST_LAGS),
            "seasonal_ar": Numbers(-100.0, 100.0, most=1),
            "seasonal_ma": Numbers(-100.0, 100.0, most=1),
            "season": Numbers(0, _MOST_SEASON),
            "variance": Numbers(1e-12, 1e6),
            "mean": Numbers(-1e6, 1e6),
        },
        check=check_arima,
        target="forward_return",
    ),
    {
        "order": Listing(
            item=_LAG,
            default=None,
            least=2,
            most=2,
            meaning="lags of the return and of its shocks, p and q; null: chosen by the criterion",
        ),
        "most_lags": Number(
            default=1, low=0, high=3, is_whole=True, meaning="highest p and q that are tried where no order is given"
        ),
        "seasonal_order": Listing(
            item=_SEASONAL_LAG, most=2, meaning="the same of the season, P and Q, beside a given order"
        ),
        "season_bars": Number(
            default=0,
            low=0,
            high=_MOST_SEASON,
            is_whole=True,
            meaning="bars of a season, such as 5 for the days of a week; 0: none",
        ),
        "criterion": Choice(
            default="bic", names=("aic", "bic"), meaning="by which an order is chosen: bic finds less in noise"
        ),
    },
    family="statsmodels",
    check=_check,
)
