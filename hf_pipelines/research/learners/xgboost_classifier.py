"""XGBoost gradient-boosted trees for class targets, saved as UBJSON.

References
----------
Chen & Guestrin (2016), "XGBoost: A Scalable Tree Boosting System", KDD.
"""

from __future__ import annotations

from collections.abc import Mapping

from hf_pipelines.research.learners.learner import Estimator, SearchRange
from hf_pipelines.research.params import Limits, ParamValue

DEFAULTS: dict[str, ParamValue] = {
    "n_estimators": 300,
    "max_depth": 6,
    "learning_rate": 0.05,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "min_child_weight": 5.0,
    "gamma": 0.0,
    "reg_alpha": 0.0,
    "reg_lambda": 1.0,
    "max_bin": 256,
    "tree_method": "hist",
}

LIMITS: dict[str, Limits] = {
    "n_estimators": (1, 10_000),
    # A tree of depth d has up to 2**d leaves.
    "max_depth": (1, 30),
    "learning_rate": (1e-6, 1.0),
    "subsample": (0.01, 1.0),
    "colsample_bytree": (0.01, 1.0),
    "min_child_weight": (0.0, 1e9),
    "gamma": (0.0, 1e9),
    "reg_alpha": (0.0, 1e9),
    "reg_lambda": (0.0, 1e9),
    "max_bin": (2, 65_536),
    "tree_method": ("hist", "approx", "exact"),
}

SEARCH_SPACE = {
    "n_estimators": SearchRange(50, 600, is_integer=True),
    "max_depth": SearchRange(2, 8, is_integer=True),
    "learning_rate": SearchRange(0.01, 0.3, is_log=True),
    "subsample": SearchRange(0.5, 1.0),
    "colsample_bytree": SearchRange(0.4, 1.0),
    "min_child_weight": SearchRange(1.0, 50.0, is_log=True),
}


def build(params: Mapping[str, ParamValue], seed: int, n_threads: int) -> Estimator:
    """Make an unfitted classifier; with "hist" on the CPU the fit does not depend on `n_threads`."""
    from xgboost import XGBClassifier

    return XGBClassifier(**params, random_state=seed, n_jobs=n_threads, device="cpu")


def save(estimator: Estimator) -> bytes:
    """Return the trees as UBJSON; the same data, parameters and seed give the same bytes."""
    return bytes(estimator.get_booster().save_raw("ubj"))


def load(data: bytes) -> Estimator:
    """Return a classifier that predicts; not for refitting, as hyper-parameters are not in the bytes.

    Damaged bytes can crash the process inside XGBoost: check their sha256 before.
    """
    from xgboost import XGBClassifier

    estimator = XGBClassifier(n_jobs=1, device="cpu")
    estimator.load_model(bytearray(data))
    return estimator
