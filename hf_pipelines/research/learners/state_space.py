"""State space: forecasts of linear Gaussian models from a window of values, some of them unknown, as weights of the values.

Lives here: the Kalman filter over a window that begins from a distribution of its own, and what its forecast makes of each
value. Not here: which models there are (`arima`, `kalman`), estimating them.

The filter never looks ahead: the forecast at a row is a sum over the values of its window alone, `weights @ values`. The
weights depend on the parameters and on which values are known, on no value; so a row alone and a row among others come out
the same to the last bit. There is no smoother here: a smoothed state knows the values after it.

References
----------
Durbin & Koopman (2012), Time Series Analysis by State Space Methods, ch. 4 (filter, missing observations, forecasts).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StateSpace:
    """`x[t] = observed @ s[t]`, `s[t + 1] = transition @ s[t] + noise`, without a mean.

    Attributes
    ----------
    observed : array of shape (n_states,)
    transition, noise, start : array of shape (n_states, n_states)
        The noise's covariance, and that of the state at the first value of a window.
    """

    observed: Floats
    transition: Floats
    noise: Floats
    start: Floats


def forecast_weights(model: StateSpace, known: Bools, *, horizon: int) -> Floats:
    """Weights by which a window's values make the forecast of the sum of the `horizon` values after it.

    Parameters
    ----------
    model : StateSpace
    known : bool array of shape (n_windows, n_bars)
        Which values of a window are known, the last one that of the row.
    horizon : int

    Returns
    -------
    array of shape (n_windows, n_bars)
        0 where a value is not known.
    """
    n_windows, n_bars = known.shape
    T, Z = model.transition, model.observed
    variance = np.tile(model.start, (n_windows, 1, 1))
    gains = np.zeros((n_bars, n_windows, len(Z)))
    for bar in range(n_bars):
        seen = _mixed(variance, Z)
        spread = _mixed(seen, Z)
        ahead = np.matmul(T, seen[:, :, None])[:, :, 0]
        is_seen = known[:, bar] & (spread > 0.0)
        gain = np.where(is_seen[:, None], ahead / np.where(is_seen, spread, 1.0)[:, None], 0.0)
        gains[bar] = gain
        variance = T @ variance @ T.T - gain[:, :, None] * ahead[:, None, :] + model.noise
    wanted, power = Z.copy(), Z
    for _ in range(horizon - 1):
        power = power @ T
        wanted = wanted + power
    weights = np.zeros((n_windows, n_bars))
    carried = np.tile(wanted, (n_windows, 1, 1))
    for bar in range(n_bars - 1, -1, -1):
        share = _mixed(carried[:, 0] * gains[bar], np.ones(len(Z)))
        weights[:, bar] = share
        carried = np.matmul(carried, T) - share[:, None, None] * Z
    return weights


def _mixed(values: Floats, shares: Floats) -> Floats:
    """Weighted sum over the last axis, added up in its order: bits do not depend on how many windows stand side by side."""
    total = np.zeros(values.shape[:-1])
    for at in np.flatnonzero(shares):
        total += values[..., at] * shares[at]
    return total


def forecast_sums(model: StateSpace, windows: Floats, *, horizon: int) -> Floats:
    """Forecast of the sum of the `horizon` values after each window.

    Parameters
    ----------
    model : StateSpace
    windows : array of shape (n_windows, n_bars)
        NaN where a value is not known.
    horizon : int

    Returns
    -------
    array of shape (n_windows,)
    """
    is_known = np.isfinite(windows)
    # Nearly all windows lack nothing, or the same.
    number: dict[bytes, int] = {}
    packed = np.packbits(is_known, axis=1)
    pattern = np.array([number.setdefault(each.tobytes(), len(number)) for each in packed], dtype=np.int64)
    _, first = np.unique(pattern, return_index=True)
    weights = forecast_weights(model, is_known[first], horizon=horizon)[pattern]
    values = np.where(is_known, windows, 0.0)
    total = np.zeros(len(windows))
    for bar in range(windows.shape[1]):
        total += weights[:, bar] * values[:, bar]
    return total


def settled(transition: Floats, noise: Floats) -> Floats:
    """Covariance that the state of a stationary model has at any time.

    Parameters
    ----------
    transition, noise : array of shape (n_states, n_states)
        Every eigenvalue of the transition lies within the unit circle.
    """
    total, power = noise.copy(), transition
    # Twice as many steps back each time: a root of 1 - 1e-9 is forgotten after 40.
    for _ in range(60):
        added = power @ total @ power.T
        total = total + added
        if np.abs(added).max() <= 1e-18 * np.abs(total).max():
            break
        power = power @ power
    return total
