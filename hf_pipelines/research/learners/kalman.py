"""Kalman: the price as a level or a trend that is not seen, with noise and an autoregression around it, by statsmodels.

Lives here: one entry. The price is the sum of the returns so far: a level that moves at random, with `local_linear_trend` by a
slope that itself moves at random, and around it noise and, with `ar_lags`, an autoregression. A price above its level is expected to come
back, one on a slope to go on. For the estimate bars of which nothing is known are left out: the return after a halt is that since the
bar before it, so the price goes on.

The filter works on the returns, the changes of that price: the level itself falls out, nothing hangs on where a price begins, and
a return that is not known is a missing observation. A slope begins at the mean return of the training bars, with the variance that it
gathers in as many bars: one that hardly moves stays there, of one that moves a window tells more.

References
----------
Harvey (1989), Forecasting, Structural Time Series Models and the Kalman Filter, ch. 2 and 4.
"""

from __future__ import annotations

import warnings

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
from hf_pipelines.research.params import Choice, Number

_MOST_LAGS = 3


def fit_kalman(values: Floats, params: Params) -> State | str:
    """Variances of the parts, and the autoregression."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    run = values[np.isfinite(values)]
    has_slope, lags = params["model"] == "local_linear_trend", params["ar_lags"]
    price = np.concatenate([[0.0], np.cumsum(run)])
    model = UnobservedComponents(price, level="lltrend" if has_slope else "llevel", autoregressive=lags or None)
    with warnings.catch_warnings():
        # What does not converge is told by the result.
        warnings.simplefilter("ignore")
        try:
            found = model.fit(disp=0, cov_type="none", low_memory=True, maxiter=500)
        except np.linalg.LinAlgError:
            return NOT_CONVERGED
    if not found.mle_retvals["converged"]:
        return NOT_CONVERGED
    given = dict(zip(model.param_names, map(float, found.params), strict=True))
    return {
        "noise": given["sigma2.irregular"],
        "level": given["sigma2.level"],
        "slope": [given["sigma2.trend"], given["sigma2.trend"] * len(run)] if has_slope else [],
        "drift": float(run.mean()) if has_slope else 0.0,
        "ar_shocks": given.get("sigma2.ar", 0.0),
        "ar": [given[f"ar.L{lag}"] for lag in range(1, lags + 1)],
    }


def kalman_model(state: State) -> StateSpace:
    """Of the return less its drift: the slope and the level's own step, and the changes of the noise and of the autoregression."""
    ar = state["ar"]
    n_lags = max(len(ar), 2)
    slope, step, noise, noise_before, swing = range(5)
    n = swing + n_lags
    observed, transition, shocks, start = np.zeros(n), np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    observed[[slope, step, noise, noise_before]] = 1.0, 1.0, 1.0, -1.0
    transition[noise_before, noise] = 1.0
    shocks[step, step] = start[step, step] = state["level"]
    shocks[noise, noise] = start[noise, noise] = start[noise_before, noise_before] = state["noise"]
    if state["slope"]:
        transition[slope, slope] = 1.0
        shocks[slope, slope] = state["slope"][0]
        start[slope, slope] = state["slope"][1]
    if ar:
        observed[swing], observed[swing + 1] = 1.0, -1.0
        companion = np.eye(n_lags, k=-1)
        companion[0, : len(ar)] = ar
        transition[swing:, swing:] = companion
        shocks[swing, swing] = state["ar_shocks"]
        start[swing:, swing:] = settled(companion, shocks[swing:, swing:])
    return StateSpace(observed, transition, shocks, start)


def forecast_kalman(state: State, windows: Floats, horizon: int, scale: float) -> Floats:
    """Change of the price that is expected."""
    drift = state["drift"]
    sums = forecast_sums(kalman_model(state), windows / scale - drift, horizon=horizon)
    return np.asarray(scale * (sums + horizon * drift))


def check_kalman(state: State) -> None:
    """Refuse what no fit gives: an explosive swing, or nothing that moves."""
    if state["ar"] and np.abs(np.roots([1.0, *(-each for each in state["ar"])])).max(initial=0.0) >= 1.0:
        raise ValueError("an explosive autoregression")
    if len(state["slope"]) == 1:
        raise ValueError("half of a slope")
    if max(state["noise"], state["level"], state["ar_shocks"], *state["slope"]) <= 1e-9:
        raise ValueError("no variance")


_VARIANCE = Numbers(0.0, 1e6)

KALMAN = series_learner(
    SeriesModel(
        name="kalman",
        fit=fit_kalman,
        forecast=forecast_kalman,
        fields={
            "noise": _VARIANCE,
            "level": _VARIANCE,
            "slope": Numbers(0.0, 1e6, most=2),
            "drift": Numbers(-1e3, 1e3),
            "ar_shocks": _VARIANCE,
            "ar": Numbers(-100.0, 100.0, most=_MOST_LAGS),
        },
        check=check_kalman,
        target="forward_return",
    ),
    {
        "model": Choice(
            default="local_linear_trend",
            names=("local_level", "local_linear_trend"),
            is_searched=True,
            meaning="what moves below the noise: a level, or a level with a slope",
        ),
        "ar_lags": Number(
            default=1, low=0, high=_MOST_LAGS, is_whole=True, meaning="lags of the autoregression around it; 0: none"
        ),
    },
    family="statsmodels",
)
