"""GARCH, GJR and EGARCH: how volatile the next bars are, by arch.

Lives here: three entries. A forecast is the root of the mean square that is expected of the next `horizon_bars` returns, for the
target of realised volatility: the mean squared, and the variances that the model expects. That root lies above the mean
of what is realised, the more the shorter the horizon (over one bar a normal return of volatility 1 has a mean size of 0.80): it is a
forecast of variance, in the units of the target, not fitted to it.

All have orders (1, 1), a constant mean and normal shocks, whose estimate is consistent for others too (Bollerslev & Wooldridge 1992).
For the estimate bars of which nothing is known are left out, so that those on both sides of a gap are neighbours; the filter goes
across a gap by the variance that it expects. The filter begins at the mean square of the training residuals: arch itself would
begin at that of the sample it is given, whose later part is the future.

References
----------
Bollerslev (1986), "Generalized Autoregressive Conditional Heteroskedasticity", J. Econometrics 31; Glosten, Jagannathan & Runkle
(1993), "On the Relation between the Expected Value and the Volatility of the Nominal Excess Return on Stocks", J. Finance 48(5);
Nelson (1991), "Conditional Heteroskedasticity in Asset Returns: A New Approach", Econometrica 59(2) (EGARCH, the moments of its
variance); Bollerslev & Wooldridge (1992), "Quasi-Maximum Likelihood Estimation", Econometric Reviews 11(2); Straumann & Mikosch (2006), "Quasi-Maximum-Likelihood Estimation in
Conditionally Heteroscedastic Time Series", Annals of Statistics 34(5) (which filters forget where they began).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from hf_pipelines.research.learners.learner import Learner
from hf_pipelines.research.learners.symbol_series import (
    NOT_CONVERGED,
    UNSTABLE,
    Floats,
    Numbers,
    Params,
    SeriesModel,
    State,
    series_learner,
)

# Mean size of a standard normal value.
_MEAN_SIZE = math.sqrt(2.0 / math.pi)

# Of the logarithm of a variance whose mean is about 1: a shock of twenty deviations adds some 5.
_LOG_BOUND = 30.0

_CONVERGED = 0

Variances: TypeAlias = Callable[[State, Floats, int], Floats]


def fit_garch(values: Floats, params: Params, *, kind: str, n_signed: int) -> State | str:
    """Estimates of arch on the values that are known, one after the other."""
    from arch import arch_model

    known = values[np.isfinite(values)]
    model = arch_model(known, mean="Constant", vol=kind, p=1, o=n_signed, q=1, rescale=False)
    # What does not converge is told by the flag.
    found = model.fit(disp="off", show_warning=False, options={"maxiter": 500})
    if found.convergence_flag != _CONVERGED:
        return NOT_CONVERGED
    given = {name: float(each) for name, each in found.params.items()}
    mean = given["mu"]
    state = {
        "mean": mean,
        "omega": given["omega"],
        "alpha": given["alpha[1]"],
        "gamma": given.get("gamma[1]", 0.0),
        "beta": given["beta[1]"],
        "variance": float(np.mean((known - mean) ** 2)),
    }
    is_stable = kind != "EGARCH" or _forgets(state, np.asarray(found.std_resid))
    return state if is_stable else UNSTABLE


def _forgets(state: State, shocks: Floats) -> bool:
    """Whether the filter of an EGARCH comes together from wherever it begins (Straumann & Mikosch 2006).

    Where it is fitted to noise, a larger shock may lower the variance: by the path that it was estimated on that does no harm, but a
    filter that begins elsewhere runs away from that path.
    """
    news = (state["alpha"] * np.abs(shocks) + state["gamma"] * shocks) / 2.0
    change = np.abs(state["beta"] - news)
    return float(np.mean(np.log(np.maximum(change, 1e-12)))) < 0.0


def garch_variances(state: State, windows: Floats, horizon: int) -> Floats:
    """Variances that are expected of the bars after each window: (n_windows, horizon)."""
    omega, alpha, gamma, beta = (state[name] for name in ("omega", "alpha", "gamma", "beta"))
    persistence = alpha + gamma / 2.0 + beta
    shock = windows - state["mean"]
    variance = np.full(len(windows), omega + persistence * state["variance"])
    for bar in range(windows.shape[1]):
        at = shock[:, bar]
        seen = omega + np.where(at < 0.0, alpha + gamma, alpha) * at**2 + beta * variance
        variance = np.where(np.isnan(at), omega + persistence * variance, seen)
    ahead = [variance]
    for _ in range(horizon - 1):
        ahead.append(omega + persistence * ahead[-1])
    return np.stack(ahead, axis=1)


def egarch_variances(state: State, windows: Floats, horizon: int) -> Floats:
    """Variances that are expected of the bars after each window: (n_windows, horizon)."""
    omega, alpha, gamma, beta = (state[name] for name in ("omega", "alpha", "gamma", "beta"))
    shock = windows - state["mean"]
    log = np.full(len(windows), omega + beta * math.log(state["variance"]))
    for bar in range(windows.shape[1]):
        size = shock[:, bar] * np.exp(-log / 2.0)
        news = alpha * (np.abs(size) - _MEAN_SIZE) + gamma * size
        log = np.clip(omega + np.where(np.isnan(size), 0.0, news) + beta * log, -_LOG_BOUND, _LOG_BOUND)
    # The mean of an exponential is not the exponential of the mean: each bar's news adds its own moment.
    ahead, power, constant, moments = [np.exp(log)], 1.0, 0.0, 1.0
    for _ in range(horizon - 1):
        constant += power * omega
        moments *= _mean_of_news(power * alpha, power * gamma)
        power *= beta
        ahead.append(np.exp(np.clip(power * log + constant, -_LOG_BOUND, _LOG_BOUND)) * moments)
    return np.stack(ahead, axis=1)


def _mean_of_news(alpha: float, gamma: float) -> float:
    """Mean of `exp(alpha (|z| - E|z|) + gamma z)` of a standard normal z."""
    up, down = alpha + gamma, alpha - gamma
    both = sum(math.exp(each**2 / 2.0) * 0.5 * math.erfc(-each / math.sqrt(2.0)) for each in (up, down))
    return math.exp(-alpha * _MEAN_SIZE) * both


_VARIANCES: dict[str, Variances] = {"GARCH": garch_variances, "EGARCH": egarch_variances}


def forecast_volatility(state: State, windows: Floats, horizon: int, scale: float, *, variances: Variances) -> Floats:
    """Root of the mean square that is expected; NaN where that is no number above zero."""
    expected = variances(state, windows / scale, horizon)
    total = np.full(len(windows), state["mean"] ** 2)
    for bar in range(horizon):
        total += expected[:, bar] / horizon
    is_possible = np.isfinite(total) & (total > 1e-12)
    return np.asarray(np.where(is_possible, scale * np.sqrt(np.where(is_possible, total, 1.0)), np.nan))


def check_garch(state: State) -> None:
    """Refuse what no fit gives: a variance that grows without end."""
    # arch stops at 1, less or more by its rounding.
    if state["alpha"] + state["gamma"] / 2.0 + state["beta"] > 1.0 + 1e-6 or state["alpha"] + state["gamma"] < -1e-6:
        raise ValueError("an explosive variance")


def check_egarch(state: State) -> None:
    """Refuse what no fit gives: a variance that grows without end."""
    if abs(state["beta"]) > 1.0 + 1e-6:
        raise ValueError("an explosive variance")


def _entry(name: str, *, kind: str, n_signed: int) -> Learner:
    is_log = kind == "EGARCH"
    bound = 100.0 if is_log else 1e3
    return series_learner(
        SeriesModel(
            name=name,
            fit=partial(fit_garch, kind=kind, n_signed=n_signed),
            forecast=partial(forecast_volatility, variances=_VARIANCES[kind]),
            fields={
                "mean": Numbers(-1e3, 1e3),
                "omega": Numbers(-bound if is_log else 0.0, bound),
                # A bound of 0 is met but for rounding.
                "alpha": Numbers(-10.0 if is_log else -1e-9, 10.0),
                "gamma": Numbers(-10.0, 10.0),
                "beta": Numbers(-2.0 if is_log else -1e-9, 2.0),
                "variance": Numbers(1e-6, 1e6),
            },
            check=check_egarch if is_log else check_garch,
            target="realised_volatility",
        ),
        {},
        family="arch",
    )


GARCH = _entry("garch", kind="GARCH", n_signed=0)
GJR_GARCH = _entry("gjr_garch", kind="GARCH", n_signed=1)
EGARCH = _entry("egarch", kind="EGARCH", n_signed=1)
