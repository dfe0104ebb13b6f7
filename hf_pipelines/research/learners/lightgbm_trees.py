"""LightGBM gradient-boosted trees, grown leaf by leaf, saved as LightGBM's text.

References
----------
Ke et al. (2017), "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hf_pipelines.research.learners.attribution import Attribution, with_bias_last
from hf_pipelines.research.learners.boosting import booster
from hf_pipelines.research.learners.growth import Data, Grown, Growth, Library
from hf_pipelines.research.learners.tree_params import (
    ALPHA,
    LEARNING_RATE,
    LEAVES,
    SHARE_OF_FEATURES,
    SHARE_OF_ROWS,
    SMALLEST_GAIN,
    TREES_AT_MOST,
)
from hf_pipelines.research.params import Number

# What a model was grown with, but not what it is.
_NUMBER_OF_THREADS = re.compile(r"^\[num_threads: -?\d+\]$", flags=re.MULTILINE)


def bin_lightgbm(growth: Growth) -> tuple[Any, Any]:
    """Training and validation rows as LightGBM keeps them."""
    import lightgbm

    params = _params(growth)

    def dataset(data: Data, reference: Any = None) -> Any:
        return lightgbm.Dataset(
            data.X,
            label=data.y,
            weight=data.weight,
            reference=reference,
            params=params,
            categorical_feature=list(growth.categories),
        )

    train = dataset(growth.train)
    return train, dataset(growth.validation, train)


def _binned_by(growth: Growth) -> Any:
    # Features that no split of leaves large enough can be made of are left out, and edges come of a sample drawn by the seed.
    return [growth.params["max_bin"], growth.params["min_child_samples"], growth.seed]


def grow_lightgbm(growth: Growth, bins: tuple[Any, Any]) -> Grown:
    """Grow trees; the bits do not depend on the number of threads."""
    import lightgbm

    params = _params(growth)
    train, validation = bins
    losses: dict[str, dict[str, list[float]]] = {}

    def noted(env: Any) -> None:
        growth.note(env.iteration + 1, float(env.evaluation_result_list[0][2]))

    try:
        model = lightgbm.train(
            params,
            train,
            num_boost_round=growth.params["n_estimators"],
            valid_sets=[validation],
            valid_names=["validation"],
            callbacks=[
                lightgbm.early_stopping(growth.patience, verbose=False),
                lightgbm.record_evaluation(losses),
                noted,
            ],
        )
    except lightgbm.basic.LightGBMError as e:
        raise ValueError(f"`learner` must be able to fit these rows, was lightgbm, which refuses: {e}.") from e
    rounds = model.best_iteration
    loss = losses["validation"][params["metric"]][rounds - 1]
    # Rows are not needed any more.
    return Grown(model=model.free_dataset(), rounds=rounds, loss=float(loss))


def _params(growth: Growth) -> dict[str, Any]:
    own = {name: value for name, value in growth.params.items() if name != "n_estimators"}
    if growth.n_classes > 2:
        aim = {"objective": "multiclass", "num_class": growth.n_classes, "metric": "multi_logloss"}
    elif growth.n_classes:
        aim = {"objective": "binary", "metric": "binary_logloss"}
    elif growth.quantile is not None:
        aim = {"objective": "quantile", "alpha": growth.quantile, "metric": "quantile"}
    else:
        aim = {"objective": "regression", "metric": "l2"}
    return {
        **own,
        **aim,
        # Rows are drawn anew for every tree.
        "subsample_freq": 1,
        "seed": growth.seed,
        "num_threads": growth.n_threads,
        "device_type": growth.device,
        # Without these the sums, and so the trees, depend on the number of threads.
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def predict_lightgbm(model: Any, X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> np.ndarray:
    """Means, probabilities of the second of two classes, or probabilities of each of more."""
    return np.asarray(model.predict(X, num_threads=n_threads))


def attribute_lightgbm(model: Any, X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> Attribution:
    """Shapley values of the trees; of classes in log-odds."""
    # Of classes side by side.
    flat = np.asarray(model.predict(X, pred_contrib=True, num_threads=n_threads))
    found = flat.reshape(len(X), -1, X.shape[1] + 1)
    is_regression = model.dump_model(num_iteration=1)["objective"].split()[0] in ("regression", "quantile")
    return with_bias_last(found, space="prediction" if is_regression else "log_odds")


def save_lightgbm(model: Any) -> bytes:
    """Return the trees as text; equal trees give equal bytes."""
    text: str = model.model_to_string(num_iteration=model.best_iteration)
    return _NUMBER_OF_THREADS.sub("[num_threads: 1]", text).encode()


def load_lightgbm(data: bytes) -> Any:
    """Return trees that predict; edited text can end the process."""
    import lightgbm

    try:
        return lightgbm.Booster(model_str=data.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as e:
        raise ValueError(f"`data` must be a model of LightGBM in text, was {data[:40]!r}.") from e


def _gains(model: Any, categories: tuple[int, ...]) -> np.ndarray:
    return np.asarray(model.feature_importance("gain"))


def _is_built_for_cuda() -> bool:
    """Whether a tree can be grown there: the library has no other way to tell."""
    import lightgbm

    X = np.arange(64, dtype=np.float32)[:, None]
    try:
        lightgbm.train({"device_type": "cuda", "verbosity": -1}, lightgbm.Dataset(X, label=X[:, 0]), num_boost_round=1)
    except lightgbm.basic.LightGBMError:
        return False
    return True


def _check(params: Mapping[str, Any]) -> None:
    depth, leaves = params["max_depth"], params["num_leaves"]
    if 0 < depth < 20 and leaves > 2**depth:
        raise ValueError(
            f"`num_leaves` must be at most {2**depth}, the leaves of a tree of {depth} levels, was {leaves}; raise `max_depth` "
            "or lower it."
        )


LIGHTGBM = booster(
    name="lightgbm",
    family="lightgbm",
    library=Library(
        extension="txt",
        grow=grow_lightgbm,
        predict=predict_lightgbm,
        gains=_gains,
        contributions=attribute_lightgbm,
        save=save_lightgbm,
        load=load_lightgbm,
        bin=bin_lightgbm,
        binned_by=_binned_by,
        is_built_for_cuda=_is_built_for_cuda,
    ),
    params={
        "n_estimators": TREES_AT_MOST,
        "num_leaves": LEAVES,
        "max_depth": Number(default=-1, low=-1, high=100, is_whole=True, meaning="levels of a tree; -1: any"),
        "learning_rate": LEARNING_RATE,
        "subsample": SHARE_OF_ROWS,
        "colsample_bytree": SHARE_OF_FEATURES,
        "min_child_samples": Number(
            default=20,
            low=0,
            high=1_000_000,
            search=(5, 500),
            is_log=True,
            is_whole=True,
            meaning="fewest rows in a leaf",
        ),
        "min_child_weight": Number(
            default=1e-3, low=0.0, high=1e9, meaning="smallest sum of second derivatives in a leaf"
        ),
        "min_split_gain": SMALLEST_GAIN,
        "reg_alpha": ALPHA,
        "reg_lambda": Number(default=0.0, low=0.0, high=1e9, meaning="penalty on squares of leaf values"),
        "max_bin": Number(default=255, low=2, high=65_536, is_whole=True, meaning="bins of a feature"),
    },
    check=_check,
)
