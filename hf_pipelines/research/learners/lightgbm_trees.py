"""LightGBM gradient-boosted trees, grown leaf by leaf, saved as LightGBM's text.

References
----------
Ke et al. (2017), "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_pipelines.research.learners.attribution import Attribution, Space, attribute_boxes, with_bias_last
from hf_pipelines.research.learners.boosting import booster
from hf_pipelines.research.learners.growth import Data, Grown, Growth, Library
from hf_pipelines.research.learners.tree_boxes import Trees, join_trees
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

# What LightGBM's text says of a split's unknown values.
_ZERO_IS_UNKNOWN, _NAN_IS_UNKNOWN = 1, 2


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
    """Shapley values of the trees; of classes in log-odds. LightGBM's own, in several times the seconds, where trees split by categories."""
    head, *written = model.model_to_string().split("\nTree=")
    objective = _fields(head)["objective"].split()[0]
    space: Space = "prediction" if objective in ("regression", "quantile") else "log_odds"
    n_outputs = model.num_model_per_iteration()
    if (trees := _trees(written, n_outputs)) is not None:
        scores = model.predict(X, raw_score=True, num_threads=n_threads)
        if (own := attribute_boxes(trees, X, base=np.zeros(n_outputs), scores=scores, space=space)) is not None:
            return own
    # Of classes side by side.
    flat = np.asarray(model.predict(X, pred_contrib=True, num_threads=n_threads))
    return with_bias_last(flat.reshape(len(X), -1, X.shape[1] + 1), space=space)


def _trees(written: Sequence[str], n_outputs: int) -> Trees | None:
    """The trees of a model as LightGBM writes it; None where one splits by categories, holds lines in its leaves, or takes 0 for unknown."""
    read = [_tree(_fields(each), at % n_outputs) for at, each in enumerate(written)]
    known = [each for each in read if each is not None]
    return join_trees(known) if len(known) == len(read) else None


def _tree(fields: Mapping[str, str], output: int) -> Trees | None:
    value = _numbers(fields["leaf_value"])
    n_splits = len(value) - 1
    kind = _numbers(fields["decision_type"] if n_splits else "").astype(np.int64)
    # Bits: by categories; unknown goes left; then whether nothing, zero or NaN is unknown.
    unknown = kind >> 2 & 3
    if fields["num_cat"] != "0" or fields["is_linear"] != "0" or (unknown == _ZERO_IS_UNKNOWN).any():
        return None

    def each_node(of_splits: str, of_leaves: np.ndarray) -> np.ndarray:
        return np.concatenate([_numbers(fields[of_splits] if n_splits else ""), of_leaves])

    no_leaf = np.zeros(n_splits + 1)
    # A child below 0 is a leaf, -1 the first; leaves come after the splits here.
    children = np.stack([each_node(side, no_leaf) for side in ("left_child", "right_child")]).astype(np.int64)
    children = np.where(children < 0, n_splits - 1 - children, children)
    children[:, n_splits:] = -1
    threshold = each_node("threshold", no_leaf)
    is_left = np.zeros(len(threshold), dtype=np.bool_)
    # Where nothing is unknown, NaN is read as 0.
    is_left[:n_splits] = np.where(unknown == _NAN_IS_UNKNOWN, kind & 2 > 0, threshold[:n_splits] >= 0)
    return Trees(
        root=np.array([0, len(threshold)]),
        output=np.array([output]),
        left=children[0],
        right=children[1],
        feature=each_node("split_feature", no_leaf).astype(np.int64),
        threshold=_least_above(threshold),
        unknown_left=is_left,
        cover=each_node("internal_count", _numbers(fields["leaf_count"]) if n_splits else np.ones(1)),
        value=np.concatenate([np.zeros(n_splits), value]),
    )


def _least_above(threshold: np.ndarray) -> np.ndarray:
    """Of each threshold the least float32 above it: a float32 is at most the one where it is below the other."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, near, np.nextafter(near, np.float32(np.inf))).astype(np.float32)


def _fields(written: str) -> dict[str, str]:
    """Lines `name=value` of LightGBM's text."""
    return dict(line.split("=", 1) for line in written.splitlines() if "=" in line)


def _numbers(written: str) -> np.ndarray:
    return np.array(written.split(), dtype=np.float64)


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
