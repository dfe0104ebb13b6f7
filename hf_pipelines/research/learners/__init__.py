"""Learners: the estimators a strategy may name, one module each.

Lives here: the registry and the one way to make an estimator from it. A learner IS a scikit-learn estimator;
an entry adds only what scikit-learn lacks: known hyper-parameters, a search space and a safe file format.
"""

from __future__ import annotations

from collections.abc import Mapping

from hf_pipelines.research.learners import linear, xgboost_classifier
from hf_pipelines.research.learners.learner import Estimator, Learner, SearchRange
from hf_pipelines.research.learners.prediction import feature_array, predict_frame
from hf_pipelines.research.params import ParamValue, fill_params

__all__ = [
    "LEARNERS",
    "Estimator",
    "Learner",
    "ParamValue",
    "SearchRange",
    "build_estimator",
    "feature_array",
    "predict_frame",
    "resolve_params",
]


def build_estimator(
    learner: str, *, params: Mapping[str, ParamValue] | None = None, seed: int, n_threads: int = 1
) -> Estimator:
    """Make an unfitted scikit-learn estimator.

    Parameters
    ----------
    learner : str
        A key of `LEARNERS`.
    params : mapping, optional
        Hyper-parameters that differ from the learner's defaults.
    seed : int
        Seed of everything random in the fit.
    n_threads : int
        Threads of one fit.

    Raises
    ------
    ValueError, TypeError
        As `resolve_params`.
    """
    resolved = resolve_params(learner, params)
    return LEARNERS[learner].build(resolved, seed, n_threads)


def resolve_params(learner: str, params: Mapping[str, ParamValue] | None = None) -> dict[str, ParamValue]:
    """Every hyper-parameter of a learner: those given, and defaults for the rest.

    Raises
    ------
    ValueError
        If the learner or a hyper-parameter is unknown, or a value outside of its limits.
    TypeError
        If a value is not of its default's type; a whole number may stand for a float.
    """
    if learner not in LEARNERS:
        raise ValueError(f"`learner` must be one of {sorted(LEARNERS)}, was {learner!r}.")
    return fill_params(learner, params, LEARNERS[learner].defaults, LEARNERS[learner].limits)


LEARNERS: dict[str, Learner] = {
    "xgboost_classifier": Learner(
        name="xgboost_classifier",
        family="xgboost",
        task="classification",
        build=xgboost_classifier.build,
        defaults=xgboost_classifier.DEFAULTS,
        limits=xgboost_classifier.LIMITS,
        search_space=xgboost_classifier.SEARCH_SPACE,
        weight_argument="sample_weight",
        extension="ubj",
        save=xgboost_classifier.save,
        load=xgboost_classifier.load,
        takes_nan=True,
    ),
    "ridge": Learner(
        name="ridge",
        family="sklearn",
        task="regression",
        build=linear.build,
        defaults=linear.DEFAULTS,
        limits=linear.LIMITS,
        search_space=linear.SEARCH_SPACE,
        weight_argument=linear.WEIGHT_ARGUMENT,
        extension="skops",
        save=linear.save,
        load=linear.load,
    ),
}
