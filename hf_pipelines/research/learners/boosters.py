"""XGBoost gradient-boosted trees, saved as UBJSON.

References
----------
Chen & Guestrin (2016), "XGBoost: A Scalable Tree Boosting System", KDD.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hf_pipelines.research.learners.attribution import Attribution, Space, attribute_boxes, with_bias_last
from hf_pipelines.research.learners.boosting import booster
from hf_pipelines.research.learners.growth import Batches, Data, Grown, Growth, Library
from hf_pipelines.research.learners.learner import (
    BatchedRows,
    Estimator,
    Learner,
    ModelFormat,
    Rows,
    Setup,
    sizes_by_name,
)
from hf_pipelines.research.learners.tree_boxes import Trees, join_trees
from hf_pipelines.research.learners.tree_params import (
    ALPHA,
    LEARNING_RATE,
    SHARE_OF_FEATURES,
    SHARE_OF_ROWS,
    SMALLEST_GAIN,
    TREES_AT_MOST,
)
from hf_pipelines.research.params import Choice, Number


def build_xgboost(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make unfitted trees; with "hist" on the CPU the fit does not depend on the number of threads."""
    from xgboost import XGBClassifier, XGBRegressor

    kind = XGBClassifier if setup.task == "classification" else XGBRegressor
    return kind(**params, random_state=setup.seed, n_jobs=setup.n_threads, device="cpu")


def fit_xgboost_batches(estimator: Estimator, rows: BatchedRows, validation: BatchedRows | None) -> None:
    """Grow the very trees that `fit` grows, of bins that are made batch after batch; validation rows are not read."""
    import xgboost

    given = estimator.get_xgb_params()
    own = {name: value for name, value in given.items() if value is not None and name not in ("n_estimators", "n_jobs")}
    if hasattr(estimator, "predict_proba"):
        n_classes = len(np.unique(rows.y))
        own |= {"objective": "binary:logistic"}
        own |= {"objective": "multi:softprob", "num_class": n_classes} if n_classes > 2 else {}
    train = xgboost.QuantileDMatrix(
        _source(rows.batches, rows.y, rows.weight, {}), max_bin=estimator.max_bin, nthread=estimator.n_jobs
    )
    model = xgboost.train(
        {**own, "nthread": estimator.n_jobs, "verbosity": 0}, train, num_boost_round=estimator.n_estimators
    )
    load_xgboost(bytes(model.save_raw("ubj")), estimator)


def _source(batches: Batches, y: np.ndarray, weight: np.ndarray, shown: Mapping[str, Any]) -> Any:
    """Rows as XGBoost asks for them, batch after batch and pass after pass: it keeps a byte of each value, its bin.

    The edges of bins are those of the whole array, to the bit, however many batches there are.
    """
    import xgboost

    class Source(xgboost.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(release_data=True)
            self.reset()

        def next(self, input_data: Any) -> bool:
            X = next(self.left, None)
            if X is None:
                return False
            rows = slice(self.begin, self.begin + len(X))
            input_data(data=X, label=y[rows], weight=weight[rows], **shown)
            self.begin += len(X)
            return True

        def reset(self) -> None:
            self.begin = 0
            self.left: Iterator[np.ndarray] = batches()

    return Source()


def check_xgboost_batches(params: Mapping[str, Any]) -> None:
    """Only bins are made batch after batch."""
    if params["tree_method"] != "hist":
        raise ValueError(
            f"`tree_method` must be hist to read rows in batches, was {params['tree_method']!r}; take hist, or read the matrix "
            "whole."
        )


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


def attribute_xgboost(estimator: Estimator, rows: Rows) -> Attribution:
    """Shapley values of the trees; of classes in log-odds."""
    return attribute_grown_xgboost(estimator.get_booster(), rows.X, (), 1)


XGBOOST = Learner(
    name="xgboost",
    family="xgboost",
    tasks=frozenset({"classification", "regression"}),
    build=build_xgboost,
    params={
        "n_estimators": Number(default=300, low=1, high=10_000, search=(50, 600), is_whole=True, meaning="trees"),
        # A tree of depth d has up to 2**d leaves.
        "max_depth": Number(default=6, low=1, high=30, search=(2, 8), is_whole=True, meaning="levels of a tree"),
        "learning_rate": LEARNING_RATE,
        "subsample": SHARE_OF_ROWS,
        "colsample_bytree": SHARE_OF_FEATURES,
        "min_child_weight": Number(
            default=5.0, low=0.0, high=1e9, search=(1.0, 50.0), is_log=True, meaning="smallest sum of weights in a leaf"
        ),
        "gamma": SMALLEST_GAIN,
        "reg_alpha": ALPHA,
        "reg_lambda": Number(default=1.0, low=0.0, high=1e9, meaning="penalty on squares of leaf values"),
        "max_bin": Number(default=256, low=2, high=65_536, is_whole=True, meaning="bins of a feature"),
        "tree_method": Choice(default="hist", names=("hist", "approx", "exact"), meaning="how splits are looked for"),
    },
    format=ModelFormat("ubj", save_xgboost, load_xgboost),
    fit_batches=fit_xgboost_batches,
    check_batches=check_xgboost_batches,
    handles_missing=True,
    importances=_gains,
    contributions=attribute_xgboost,
)


def bin_xgboost(growth: Growth) -> tuple[Any, Any]:
    """Training and validation rows as XGBoost keeps them."""
    import xgboost

    own = growth.params
    kinds = ["c" if at in growth.categories else "q" for at in range(growth.n_features)]
    shown: dict[str, Any] = {"enable_categorical": bool(growth.categories), "nthread": growth.n_threads}

    def matrix(data: Data, reference: Any = None) -> Any:
        if not isinstance(data.features, np.ndarray):
            source = _source(data.features, data.y, data.weight, {"feature_types": kinds})
            return xgboost.QuantileDMatrix(source, max_bin=own["max_bin"], ref=reference, **shown)
        rows: dict[str, Any] = {"data": data.X, "label": data.y, "weight": data.weight, "feature_types": kinds, **shown}
        # Bins instead of rows: a third of the memory.
        if own["tree_method"] == "hist":
            return xgboost.QuantileDMatrix(**rows, max_bin=own["max_bin"], ref=reference)
        return xgboost.DMatrix(**rows)

    train = matrix(growth.train)
    return train, matrix(growth.validation, train)


def _binned_by(growth: Growth) -> Any:
    return [growth.params["tree_method"], growth.params["max_bin"]]


def grow_xgboost(growth: Growth, bins: tuple[Any, Any]) -> Grown:
    """Grow trees until the validation rows get no better."""
    import xgboost

    own = {name: value for name, value in growth.params.items() if name != "n_estimators"}
    train, validation = bins
    aim = _aim(growth)
    losses: dict[str, dict[str, list[float]]] = {}

    class Noted(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            growth.note(epoch + 1, float(evals_log["validation"][aim["eval_metric"]][-1]))
            return False

    params = {**own, **aim, "seed": growth.seed, "nthread": growth.n_threads, "device": growth.device, "verbosity": 0}
    try:
        model = xgboost.train(
            params,
            train,
            num_boost_round=growth.params["n_estimators"],
            evals=[(validation, "validation")],
            callbacks=[Noted(), xgboost.callback.EarlyStopping(rounds=growth.patience, save_best=True)],
            evals_result=losses,
            verbose_eval=False,
        )
    except xgboost.core.XGBoostError as e:
        raise ValueError(
            f"`learner` must be able to fit these rows, was xgboost, which refuses: {_first_line(e)}."
        ) from e
    rounds = model.num_boosted_rounds()
    # Predictions need no device, and the model does not tell where and by how many threads it was grown.
    model.set_param({"device": "cpu", "nthread": 1})
    return Grown(model=model, rounds=rounds, loss=float(losses["validation"][aim["eval_metric"]][rounds - 1]))


def _aim(growth: Growth) -> dict[str, Any]:
    if growth.n_classes > 2:
        return {"objective": "multi:softprob", "num_class": growth.n_classes, "eval_metric": "mlogloss"}
    if growth.n_classes:
        return {"objective": "binary:logistic", "eval_metric": "logloss"}
    if growth.quantile is not None:
        return {"objective": "reg:quantileerror", "quantile_alpha": growth.quantile, "eval_metric": "quantile"}
    return {"objective": "reg:squarederror", "eval_metric": "rmse"}


def _first_line(error: Exception) -> str:
    """What XGBoost says, without its stack."""
    lines = [each.strip() for each in str(error).splitlines() if each.strip()]
    return lines[0] if lines else ""


def predict_xgboost(model: Any, X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> np.ndarray:
    """Means, probabilities of the second of two classes, or probabilities of each of more."""
    model.set_param({"nthread": n_threads})
    return np.asarray(model.predict(_shown(X, categories, n_threads), validate_features=False))


def attribute_grown_xgboost(model: Any, X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> Attribution:
    """Shapley values of the trees; of classes in log-odds. XGBoost's own, in seven times the seconds, where trees split by categories."""
    learner = json.loads(model.save_raw("json"))["learner"]
    space: Space = "prediction" if learner["objective"]["name"].startswith("reg:") else "log_odds"
    shown = _shown(X, categories, n_threads)
    if (trees := _trees(learner)) is not None:
        scores = model.predict(shown, output_margin=True, validate_features=False)
        if (own := attribute_boxes(trees, X, base=_base_scores(learner), scores=scores, space=space)) is not None:
            return own
    return with_bias_last(model.predict(shown, pred_contribs=True, validate_features=False), space=space)


def _trees(learner: Mapping[str, Any]) -> Trees | None:
    """The trees of a model as XGBoost writes it; None where a split is of categories, or a leaf has more than one value."""
    model = learner["gradient_booster"]["model"]
    read = [_tree(each, int(output)) for each, output in zip(model["trees"], model["tree_info"], strict=True)]
    known = [each for each in read if each is not None]
    return join_trees(known) if len(known) == len(read) else None


def _tree(written: Mapping[str, Any], output: int) -> Trees | None:
    if any(written["split_type"]) or written["tree_param"]["size_leaf_vector"] != "1":
        return None
    # Of a leaf it is the value.
    conditions = np.asarray(written["split_conditions"], dtype=np.float32)
    return Trees(
        root=np.array([0, len(conditions)]),
        output=np.array([output]),
        left=np.asarray(written["left_children"], dtype=np.int64),
        right=np.asarray(written["right_children"], dtype=np.int64),
        feature=np.asarray(written["split_indices"], dtype=np.int64),
        threshold=conditions,
        unknown_left=np.asarray(written["default_left"], dtype=np.bool_),
        cover=np.asarray(written["sum_hessian"], dtype=np.float64),
        value=conditions.astype(np.float64),
    )


def _base_scores(learner: Mapping[str, Any]) -> np.ndarray:
    """What the sums of the trees begin with, a number for each output."""
    base = np.array(learner["learner_model_param"]["base_score"].strip("[]").split(","), dtype=np.float64)
    # Of two classes it is written as a probability.
    return np.log(base / (1.0 - base)) if learner["objective"]["name"] == "binary:logistic" else base


def _shown(X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> Any:
    """Rows to ask for."""
    import xgboost

    kinds = ["c" if at in categories else "q" for at in range(X.shape[1])]
    return xgboost.DMatrix(X, feature_types=kinds, enable_categorical=bool(categories), nthread=n_threads)


def save_grown_xgboost(model: Any) -> bytes:
    """Return the trees as UBJSON; equal trees give equal bytes."""
    return bytes(model.save_raw("ubj"))


def load_grown_xgboost(data: bytes) -> Any:
    """Return trees that predict; damaged bytes can end the process."""
    import xgboost

    try:
        return xgboost.Booster(model_file=bytearray(data))
    except xgboost.core.XGBoostError as e:
        raise ValueError(f"`data` must be a model of XGBoost in UBJSON, was {data[:40]!r}.") from e


def _total_gains(model: Any, categories: tuple[int, ...]) -> np.ndarray:
    found = model.get_score(importance_type="total_gain")
    return np.array([float(found.get(f"f{at}", 0.0)) for at in range(model.num_features())])


def _is_built_for_cuda() -> bool:
    import xgboost

    return bool(xgboost.build_info().get("USE_CUDA"))


# An entry of its own: models of `xgboost` stay what they are, grown on all rows.
XGBOOST_EARLY_STOPPING = booster(
    name="xgboost_early_stopping",
    family="xgboost",
    library=Library(
        extension="ubj",
        grow=grow_xgboost,
        predict=predict_xgboost,
        gains=_total_gains,
        contributions=attribute_grown_xgboost,
        save=save_grown_xgboost,
        load=load_grown_xgboost,
        bin=bin_xgboost,
        binned_by=_binned_by,
        is_built_for_cuda=_is_built_for_cuda,
        check_batches=check_xgboost_batches,
    ),
    params={
        **XGBOOST.params,
        "n_estimators": TREES_AT_MOST,
    },
)
