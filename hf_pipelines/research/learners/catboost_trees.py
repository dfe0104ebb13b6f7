"""CatBoost gradient-boosted symmetric trees, saved as cbm.

References
----------
Prokhorenkova et al. (2018), "CatBoost: unbiased boosting with categorical features", NeurIPS.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hf_pipelines.research.learners.attribution import Attribution, with_bias_last
from hf_pipelines.research.learners.boosting import booster
from hf_pipelines.research.learners.growth import Data, Grown, Growth, Library
from hf_pipelines.research.learners.tree_params import (
    LEARNING_RATE,
    SHARE_OF_ROWS,
    TREES_AT_MOST,
)
from hf_pipelines.research.params import Number

# What predictions need of all that a model tells about itself.
_KEPT = frozenset({"params", "class_params"})

# Of more rows a fit makes its bins of a sample that it draws in its own way: bins made apart are others.
_SAMPLED_ABOVE = 200_000

# Code of an unknown category.
_UNKNOWN = -1


def bin_catboost(growth: Growth) -> tuple[Any, Any]:
    """Training and validation rows as CatBoost takes them, the first in bins where others will need the same ones."""

    import catboost

    def pool(data: Data) -> Any:
        return _pool(data.X, growth.categories, label=data.y, weight=data.weight)

    try:
        train = pool(growth.train)
        if growth.shares_bins and growth.device == "cpu" and len(growth.train.y) <= _SAMPLED_ABOVE:
            train.quantize(border_count=growth.params["border_count"], task_type="CPU")
        return train, pool(growth.validation)
    except catboost.CatBoostError as e:
        raise _refusal(e) from e


def _binned_by(growth: Growth) -> Any:
    return [growth.params["border_count"], growth.shares_bins]


def grow_catboost(growth: Growth, bins: tuple[Any, Any]) -> Grown:
    """Grow trees until the validation rows get no better."""
    import catboost

    aim = _aim(growth)
    train, validation = bins
    model = catboost.CatBoost(
        {
            **growth.params,
            "loss_function": aim,
            "eval_metric": aim,
            "random_seed": growth.seed,
            "thread_count": growth.n_threads,
            "task_type": "GPU" if growth.device == "cuda" else "CPU",
            "bootstrap_type": "Bernoulli",
            # Statistics of a category on a row are made of the rows before it.
            "has_time": True,
            # A constant label is predicted, as by the other boosters.
            "allow_const_label": True,
            "use_best_model": True,
            "od_type": "Iter",
            "od_wait": growth.patience,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }
    )

    class Noted:
        def after_iteration(self, info: Any) -> bool:
            growth.note(info.iteration, float(info.metrics["validation"][aim][-1]))
            return True

    # On a GPU it takes none.
    callbacks = {"callbacks": [Noted()]} if growth.device == "cpu" else {}
    try:
        model.fit(train, eval_set=validation, **callbacks)
    except catboost.CatBoostError as e:
        raise _refusal(e) from e
    return Grown(model=model, rounds=int(model.tree_count_), loss=float(model.get_best_score()["validation"][aim]))


def _refusal(error: Exception) -> ValueError:
    return ValueError(f"`learner` must be able to fit these rows, was catboost, which refuses: {error}.")


def _aim(growth: Growth) -> str:
    if growth.n_classes:
        return "MultiClass" if growth.n_classes > 2 else "Logloss"
    return "RMSE" if growth.quantile is None else f"Quantile:alpha={growth.quantile!r}"


def _pool(X: np.ndarray, categories: tuple[int, ...], **labels: Any) -> Any:
    import catboost

    if not categories:
        return catboost.Pool(X, **labels)
    import pandas as pd

    columns = {at: X[:, at] for at in range(X.shape[1])}
    for at in categories:
        columns[at] = np.where(np.isnan(X[:, at]), _UNKNOWN, X[:, at]).astype(np.int32)
    return catboost.Pool(pd.DataFrame(columns), cat_features=list(categories), **labels)


def predict_catboost(model: Any, X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> np.ndarray:
    """Means, or probabilities of each class."""
    is_class = len(model.classes_) > 0
    kind = "Probability" if is_class else "RawFormulaVal"
    return np.asarray(model.predict(_pool(X, categories), prediction_type=kind, thread_count=n_threads))


def attribute_catboost(model: Any, X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> Attribution:
    """Shapley values of the trees; of classes in log-odds."""
    found = model.get_feature_importance(_pool(X, categories), type="ShapValues", thread_count=n_threads)
    return with_bias_last(found, space="log_odds" if len(model.classes_) > 0 else "prediction")


def save_catboost(model: Any) -> bytes:
    """Return the trees as cbm; equal trees give equal bytes."""
    about = model.get_metadata()
    # The rest differs between equal fits (a random name, the time), or by its order once it was read again.
    for name in {*about.keys()} - _KEPT:
        del about[name]
    params = json.loads(about["params"])
    for group in ("system_options", "flat_params"):
        params[group].pop("thread_count", None)
    about["params"] = json.dumps(params, sort_keys=True)
    # The bytes of a cbm file; the library's public call writes them to a disk.
    return bytes(model._serialize_model())


def load_catboost(data: bytes) -> Any:
    """Return trees that predict; damaged bytes can end the process."""
    import catboost

    try:
        return catboost.CatBoost().load_model(blob=data)
    except catboost.CatBoostError as e:
        raise ValueError(f"`data` must be a model of CatBoost, was {data[:40]!r}.") from e


def _gains(model: Any, categories: tuple[int, ...]) -> np.ndarray:
    return np.asarray(model.get_feature_importance(type="PredictionValuesChange"))


def _is_built_for_cuda() -> bool:
    from catboost.utils import get_gpu_device_count

    return bool(get_gpu_device_count() > 0)


CATBOOST = booster(
    name="catboost",
    family="catboost",
    library=Library(
        extension="cbm",
        grow=grow_catboost,
        predict=predict_catboost,
        gains=_gains,
        contributions=attribute_catboost,
        save=save_catboost,
        load=load_catboost,
        bin=bin_catboost,
        binned_by=_binned_by,
        is_built_for_cuda=_is_built_for_cuda,
    ),
    params={
        "n_estimators": TREES_AT_MOST,
        "depth": Number(default=6, low=1, high=16, search=(2, 8), is_whole=True, meaning="levels of a tree"),
        "learning_rate": LEARNING_RATE,
        "subsample": SHARE_OF_ROWS,
        "rsm": Number(
            default=1.0,
            low=0.01,
            high=1.0,
            search=(0.4, 1.0),
            meaning="share of features for each split; on cuda 1 alone",
        ),
        "l2_leaf_reg": Number(
            default=3.0, low=0.0, high=1e9, search=(0.1, 30.0), is_log=True, meaning="penalty on squares of leaf values"
        ),
        "random_strength": Number(default=1.0, low=0.0, high=1e3, meaning="noise on the scores of splits"),
        "border_count": Number(default=254, low=1, high=65_535, is_whole=True, meaning="bins of a feature, less one"),
        "one_hot_max_size": Number(
            default=2, low=2, high=255, is_whole=True, meaning="categories up to which each is tried alone"
        ),
    },
)
