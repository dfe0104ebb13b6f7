"""XGBoost gradient-boosted trees, saved as UBJSON.

References
----------
Chen & Guestrin (2016), "XGBoost: A Scalable Tree Boosting System", KDD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_pipelines.research.learners.learner import Estimator, Learner, ModelFormat, Setup, sizes_by_name
from hf_pipelines.research.params import Choice, Number


def build_xgboost(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make unfitted trees; with "hist" on the CPU the fit does not depend on the number of threads."""
    from xgboost import XGBClassifier, XGBRegressor

    kind = XGBClassifier if setup.task == "classification" else XGBRegressor
    return kind(**params, random_state=setup.seed, n_jobs=setup.n_threads, device="cpu")


def save_xgboost(estimator: Estimator) -> bytes:
    """Return the trees as UBJSON; the same data, parameters and seed give the same bytes."""
    return bytes(estimator.get_booster().save_raw("ubj"))


def load_xgboost(data: bytes, unfitted: Estimator) -> Estimator:
    """Return trees that predict.

    Damaged bytes can crash the process inside XGBoost: check their sha256 before.
    """
    unfitted.load_model(bytearray(data))
    return unfitted


def _gains(estimator: Estimator, names: Sequence[str]) -> dict[str, float]:
    """Average gain of the splits on each feature."""
    return sizes_by_name(estimator.feature_importances_, names)


XGBOOST = Learner(
    name="xgboost",
    family="xgboost",
    tasks=frozenset({"classification", "regression"}),
    build=build_xgboost,
    params={
        "n_estimators": Number(default=300, low=1, high=10_000, search=(50, 600), is_whole=True, meaning="trees"),
        # A tree of depth d has up to 2**d leaves.
        "max_depth": Number(default=6, low=1, high=30, search=(2, 8), is_whole=True, meaning="levels of a tree"),
        "learning_rate": Number(
            default=0.05, low=1e-6, high=1.0, search=(0.01, 0.3), is_log=True, meaning="share of each tree that counts"
        ),
        "subsample": Number(default=0.8, low=0.01, high=1.0, search=(0.5, 1.0), meaning="share of rows for each tree"),
        "colsample_bytree": Number(
            default=0.8, low=0.01, high=1.0, search=(0.4, 1.0), meaning="share of features for each tree"
        ),
        "min_child_weight": Number(
            default=5.0, low=0.0, high=1e9, search=(1.0, 50.0), is_log=True, meaning="smallest sum of weights in a leaf"
        ),
        "gamma": Number(default=0.0, low=0.0, high=1e9, meaning="smallest gain of a split"),
        "reg_alpha": Number(default=0.0, low=0.0, high=1e9, meaning="penalty on sizes of leaf values"),
        "reg_lambda": Number(default=1.0, low=0.0, high=1e9, meaning="penalty on squares of leaf values"),
        "max_bin": Number(default=256, low=2, high=65_536, is_whole=True, meaning="bins of a feature"),
        "tree_method": Choice(default="hist", names=("hist", "approx", "exact"), meaning="how splits are looked for"),
    },
    format=ModelFormat("ubj", save_xgboost, load_xgboost),
    handles_missing=True,
    importances=_gains,
)
