"""Linear models on standardised features: ridge, lasso, elastic net, Huber's loss, and logistic regression of classes.

The scaler is a step of the estimator, so whoever fits a fold fits the scaler on that fold's training rows
alone.

References
----------
Tibshirani (1996), "Regression Shrinkage and Selection via the Lasso", J. Royal Statistical Society B 58(1).
Zou & Hastie (2005), "Regularization and Variable Selection via the Elastic Net", J. Royal Statistical Society B 67(2).
Huber (1964), "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35(1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_pipelines.research.learners.attribution import Attribution
from hf_pipelines.research.learners.learner import Estimator, Learner, Rows, Setup, Task, TrainingRows, sizes_by_name
from hf_pipelines.research.learners.skops_bytes import skops_format
from hf_pipelines.research.params import Flag, Number, Param


def build_ridge(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted Pipeline(StandardScaler, Ridge); a direct solver, so seed and threads do nothing."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    ridge = Ridge(**params, solver="cholesky", random_state=setup.seed)
    return Pipeline([("standard_scaler", StandardScaler()), ("ridge", ridge)])


def _fit_ridge(estimator: Estimator, rows: TrainingRows, validation: TrainingRows | None) -> None:
    estimator.fit(rows.X, rows.y, ridge__sample_weight=rows.weight)


def _coefficients(estimator: Estimator, names: Sequence[str]) -> dict[str, float]:
    """Sizes of the coefficients on the standardised features."""
    return sizes_by_name(np.abs(estimator[-1].coef_), names)


def attribute_line(estimator: Estimator, rows: Rows) -> Attribution:
    """Coefficients times standardised features, which are 0 on average: the base is the intercept. Of classes in log-odds."""
    scaler, linear = estimator[0], estimator[-1]
    columns = np.asarray(scaler.transform(rows.X.astype(np.float64)), dtype=np.float64)
    slopes = np.atleast_2d(np.asarray(linear.coef_, dtype=np.float64))
    intercept = np.atleast_1d(np.asarray(linear.intercept_, dtype=np.float64))
    return Attribution(
        np.tile(intercept, (len(columns), 1)),
        columns[:, None, :] * slopes[None],
        "log_odds" if hasattr(linear, "classes_") else "prediction",
    )


RIDGE = Learner(
    name="ridge",
    family="sklearn",
    tasks=frozenset({"regression"}),
    build=build_ridge,
    params={
        # The penalty is against the sum of squares over rows: a few thousand rows need a large one to feel it.
        "alpha": Number(default=1.0, low=0.0, high=1e12, search=(1e-2, 1e5), is_log=True, meaning="penalty on squares"),
        "fit_intercept": Flag(default=True, meaning="whether the mean is fitted apart"),
    },
    format=skops_format(
        "sklearn.pipeline.Pipeline", "sklearn.preprocessing._data.StandardScaler", "sklearn.linear_model._ridge.Ridge"
    ),
    fit=_fit_ridge,
    importances=_coefficients,
    contributions=attribute_line,
)


def build_lasso(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted Pipeline(StandardScaler, Lasso); coordinates go round in order, so seed and threads do nothing."""
    from sklearn.linear_model import Lasso

    return _scaled(Lasso(**params, random_state=setup.seed))


def build_elastic_net(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted Pipeline(StandardScaler, ElasticNet)."""
    from sklearn.linear_model import ElasticNet

    return _scaled(ElasticNet(**params, random_state=setup.seed))


def build_huber(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted Pipeline(StandardScaler, HuberRegressor); nothing in it is random."""
    from sklearn.linear_model import HuberRegressor

    return _scaled(HuberRegressor(**params))


def build_logistic(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted Pipeline(StandardScaler, LogisticRegression); nothing in it is random."""
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(**params, solver="lbfgs", random_state=setup.seed))


def _scaled(linear: Estimator) -> Estimator:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    return Pipeline([("standard_scaler", StandardScaler()), ("linear", linear)])


def _fit_classes(estimator: Estimator, rows: TrainingRows, validation: TrainingRows | None) -> None:
    # The scaler has the weights too: a row of weight 2 is two rows. In float32 the solvers stop too early.
    weights = {f"{name}__sample_weight": rows.weight for name in ("standard_scaler", "linear")}
    estimator.fit(rows.X.astype(np.float64), rows.y, **weights)


def _fit_values(estimator: Estimator, rows: TrainingRows, validation: TrainingRows | None) -> None:
    """Fit to labels of deviation 1, so that a penalty means the same for every target, and bring the line back to theirs."""
    deviation = float(np.sqrt(np.average((rows.y - np.average(rows.y, weights=rows.weight)) ** 2, weights=rows.weight)))
    size = deviation if deviation > 0 else 1.0
    weights = {f"{name}__sample_weight": rows.weight for name in ("standard_scaler", "linear")}
    estimator.fit(rows.X.astype(np.float64), rows.y / size, **weights)
    linear = estimator[-1]
    linear.coef_, linear.intercept_ = linear.coef_ * size, linear.intercept_ * size


def _fit_huber(estimator: Estimator, rows: TrainingRows, validation: TrainingRows | None) -> None:
    _fit_values(estimator, rows, validation)
    # A flag for each training row, which no prediction reads.
    del estimator[-1].outliers_


def _mean_coefficients(estimator: Estimator, names: Sequence[str]) -> dict[str, float]:
    """Sizes of the coefficients on the standardised features, the mean over classes."""
    return sizes_by_name(np.abs(np.atleast_2d(estimator[-1].coef_)).mean(axis=0), names)


def _convergence(estimator: Estimator) -> dict[str, Any]:
    """Steps of the solver, whether they were enough, and features with a coefficient."""
    linear = estimator[-1]
    steps = int(np.max(linear.n_iter_))
    return {
        "iterations": steps,
        "converged": steps < linear.max_iter,
        "features_used": int((np.atleast_2d(linear.coef_) != 0).any(axis=0).sum()),
    }


_ALPHA = Number(
    default=0.01,
    low=0.0,
    high=1e6,
    search=(1e-4, 0.5),
    is_log=True,
    meaning="penalty, for features and labels of deviation 1: from 1 on none is used",
)
_STEPS = Number(default=2_000, low=1, high=1_000_000, is_whole=True, meaning="steps of the solver, at most")
_INTERCEPT = Flag(default=True, meaning="whether the mean is fitted apart")


def _linear(
    name: str, task: Task, build: Any, params: Mapping[str, Param], kind: str, fit: Any = _fit_values
) -> Learner:
    return Learner(
        name=name,
        family="sklearn",
        tasks=frozenset({task}),
        build=build,
        params=params,
        format=skops_format("sklearn.pipeline.Pipeline", "sklearn.preprocessing._data.StandardScaler", kind),
        fit=fit,
        importances=_mean_coefficients,
        contributions=attribute_line,
        report=_convergence,
    )


LASSO = _linear(
    "lasso",
    "regression",
    build_lasso,
    {"alpha": _ALPHA, "fit_intercept": _INTERCEPT, "max_iter": _STEPS},
    "sklearn.linear_model._coordinate_descent.Lasso",
)
ELASTIC_NET = _linear(
    "elastic_net",
    "regression",
    build_elastic_net,
    {
        "alpha": _ALPHA,
        "l1_ratio": Number(
            default=0.5, low=0.0, high=1.0, search=(0.05, 0.95), meaning="share of the penalty on sizes"
        ),
        "fit_intercept": _INTERCEPT,
        "max_iter": _STEPS,
    },
    "sklearn.linear_model._coordinate_descent.ElasticNet",
)
HUBER = _linear(
    "huber",
    "regression",
    build_huber,
    {
        "epsilon": Number(
            default=1.35,
            low=1.0,
            high=100.0,
            search=(1.05, 3.0),
            meaning="deviations from which an error counts by its size",
        ),
        "alpha": Number(
            default=1e-4,
            low=0.0,
            high=1e12,
            search=(1e-5, 1e4),
            is_log=True,
            meaning="penalty on squares, against the sum over rows, for labels of deviation 1",
        ),
        "fit_intercept": _INTERCEPT,
        "max_iter": _STEPS,
    },
    "sklearn.linear_model._huber.HuberRegressor",
    fit=_fit_huber,
)
LOGISTIC = _linear(
    "logistic",
    "classification",
    build_logistic,
    {
        # Against the sum over rows: a few thousand rows need a small one to feel the penalty.
        "C": Number(
            default=1.0, low=1e-12, high=1e12, search=(1e-5, 10.0), is_log=True, meaning="1 / penalty on squares"
        ),
        "fit_intercept": _INTERCEPT,
        "max_iter": _STEPS,
    },
    "sklearn.linear_model._logistic.LogisticRegression",
    fit=_fit_classes,
)
