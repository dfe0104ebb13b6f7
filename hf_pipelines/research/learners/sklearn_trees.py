"""Trees of scikit-learn: histogram gradient boosting, random forest and extra trees, saved as skops.

References
----------
Breiman (2001), "Random Forests", Machine Learning 45. Geurts, Ernst & Wehenkel (2006), "Extremely randomized trees", Machine
Learning 63.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from hf_pipelines.research.learners.attribution import Attribution, adds_up, attribute_trees
from hf_pipelines.research.learners.boosting import booster
from hf_pipelines.research.learners.growth import Grown, Growth, Library
from hf_pipelines.research.learners.learner import Estimator, Learner, Rows, Setup, TrainingRows, sizes_by_name
from hf_pipelines.research.learners.skops_bytes import tree_format
from hf_pipelines.research.learners.tree_params import (
    LEARNING_RATE,
    LEAVES,
    LEVELS_OR_ANY,
    TREES_AT_MOST,
)
from hf_pipelines.research.params import Number, Param

_BOOSTING = "sklearn.ensemble._hist_gradient_boosting"
_BOOSTED = tree_format(
    f"{_BOOSTING}.gradient_boosting.HistGradientBoostingRegressor",
    f"{_BOOSTING}.gradient_boosting.HistGradientBoostingClassifier",
    f"{_BOOSTING}.binning._BinMapper",
    f"{_BOOSTING}.predictor.TreePredictor",
    *(
        f"sklearn._loss.loss.{each}"
        for each in ("HalfSquaredError", "PinballLoss", "HalfBinomialLoss", "HalfMultinomialLoss")
    ),
    *(
        f"sklearn._loss._loss.{each}"
        for each in ("CyHalfSquaredError", "CyPinballLoss", "CyHalfBinomialLoss", "CyHalfMultinomialLoss")
    ),
    *(f"sklearn._loss.link.{each}" for each in ("IdentityLink", "LogitLink", "MultinomialLogit", "Interval")),
    "sklearn.preprocessing._label.LabelEncoder",
    "numpy.uint64",
    loaders=("LossNode",),
)


def grow_histograms(growth: Growth, bins: None) -> Grown:
    """Grow trees until the validation rows get no better; bins are the library's own, of each fit."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if growth.n_classes else HistGradientBoostingRegressor
    aim: dict[str, Any] = {} if growth.quantile is None else {"loss": "quantile", "quantile": growth.quantile}
    n_categories = len(growth.categories)
    own = {name: value for name, value in growth.params.items() if name != "n_estimators"}
    model = kind(
        **own,
        **aim,
        max_iter=growth.params["n_estimators"],
        early_stopping=True,
        n_iter_no_change=growth.patience,
        scoring="loss",
        categorical_features=list(range(n_categories)) or None,
        random_state=growth.seed,
    )
    train, validation = growth.train, growth.validation
    with _threads(growth.n_threads):
        model.fit(
            _categories_first(_some_known(train.X), growth.categories),
            train.y,
            sample_weight=train.weight,
            X_val=_categories_first(validation.X, growth.categories),
            y_val=validation.y,
            sample_weight_val=validation.weight,
        )
    # The first score is that before any tree.
    rounds = max(int(np.argmax(model.validation_score_)), 1)
    loss = -float(model.validation_score_[rounds])
    # It keeps the rounds after its best one.
    model._predictors = model._predictors[:rounds]
    model.train_score_, model.validation_score_ = (
        model.train_score_[: rounds + 1],
        model.validation_score_[: rounds + 1],
    )
    # Categories come first and as codes already, and nothing is drawn any more; stored, both would call functions.
    model._preprocessor = None
    model._feature_subsample_rng = None
    # How many threads grew it is not what it is.
    model._bin_mapper.n_threads = 1
    return Grown(model=model, rounds=rounds, loss=loss)


def _some_known(X: np.ndarray) -> np.ndarray:
    """A column that is unknown in all rows as one that is 0 in all: of the one no bins can be made, and on neither is a split."""
    is_unknown = np.isnan(X).all(axis=0)
    return np.where(is_unknown, np.float32(0.0), X) if is_unknown.any() else X


def _categories_first(X: np.ndarray, categories: tuple[int, ...]) -> np.ndarray:
    """Columns in the order in which scikit-learn's own encoder would put them."""
    return X[:, _order(X.shape[1], categories)] if categories else X


def _order(n_columns: int, categories: tuple[int, ...]) -> list[int]:
    return [*categories, *(at for at in range(n_columns) if at not in categories)]


def _threads(n: int) -> AbstractContextManager[object]:
    # With a thread a core, each fit would wait for the others' threads on a busy machine, minutes long.
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=n, user_api="openmp")
    return limits


def predict_histograms(model: Any, X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> np.ndarray:
    """Means, or probabilities of each class."""
    ask = model.predict_proba if hasattr(model, "classes_") else model.predict
    with _threads(n_threads):
        return np.asarray(ask(_categories_first(X, categories)))


def attribute_histograms(model: Any, X: np.ndarray, categories: tuple[int, ...], n_threads: int) -> Attribution | None:
    """Shapley values of the trees by shap, of classes in log-odds; None with categories, which it does not read."""
    if categories:
        return None
    is_class = hasattr(model, "classes_")
    with _threads(n_threads):
        found = attribute_trees(model, X, space="log_odds" if is_class else "prediction")
        outputs = model.decision_function(X) if is_class else model.predict(X)
    return found if adds_up(found, outputs) else None


def load_histograms(data: bytes) -> Any:
    """Return trees that predict; edited numbers in them can end the process."""
    return _BOOSTED.load(data, None)


def _gains(model: Any, categories: tuple[int, ...]) -> np.ndarray:
    gains = np.zeros(model.n_features_in_)
    for each in (tree.nodes for trees in model._predictors for tree in trees):
        splits = each[each["is_leaf"] == 0]
        np.add.at(gains, splits["feature_idx"], splits["gain"])
    found = np.empty_like(gains)
    found[_order(len(gains), categories)] = gains
    return found


HIST_GRADIENT_BOOSTING = booster(
    name="hist_gradient_boosting",
    family="sklearn",
    library=Library(
        extension="skops",
        grow=grow_histograms,
        predict=predict_histograms,
        gains=_gains,
        contributions=attribute_histograms,
        contributions_need_shap=True,
        save=_BOOSTED.save,
        load=load_histograms,
    ),
    params={
        "n_estimators": TREES_AT_MOST,
        "learning_rate": LEARNING_RATE,
        "max_leaf_nodes": LEAVES,
        "max_depth": LEVELS_OR_ANY,
        "min_samples_leaf": Number(
            default=20,
            low=1,
            high=1_000_000,
            search=(5, 500),
            is_log=True,
            is_whole=True,
            meaning="fewest rows in a leaf",
        ),
        "max_features": Number(
            default=0.8, low=0.01, high=1.0, search=(0.4, 1.0), meaning="share of features for each split"
        ),
        "l2_regularization": Number(default=0.0, low=0.0, high=1e9, meaning="penalty on squares of leaf values"),
        "max_bins": Number(default=255, low=2, high=255, is_whole=True, meaning="bins of a feature"),
    },
)


def _grow_forest(estimator: Estimator, rows: TrainingRows, validation: TrainingRows | None) -> None:
    estimator.fit(rows.X, rows.y, sample_weight=rows.weight)
    # Sums of several threads round in the order in which they finish; and the model does not tell how many grew it.
    estimator.n_jobs = 1


def build_random_forest(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted forest; each tree has rows of its own, drawn with replacement."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if setup.task == "classification" else RandomForestRegressor
    return kind(**params, random_state=setup.seed, n_jobs=setup.n_threads)


def build_extra_trees(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted forest of trees on all rows, whose split points are drawn."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    kind = ExtraTreesClassifier if setup.task == "classification" else ExtraTreesRegressor
    return kind(**params, random_state=setup.seed, n_jobs=setup.n_threads)


def _importances(estimator: Estimator, names: Sequence[str]) -> dict[str, float]:
    """Decrease of the impurity by the splits on each feature."""
    return sizes_by_name(estimator.feature_importances_, names)


def attribute_forest(estimator: Estimator, rows: Rows) -> Attribution | None:
    """Shapley values of the trees by shap, of classes in probabilities; None where shap takes unknown features to the other side."""
    found = attribute_trees(estimator, rows.X, space="prediction")
    outputs = estimator.predict_proba(rows.X) if hasattr(estimator, "classes_") else estimator.predict(rows.X)
    return found if adds_up(found, outputs) else None


FOREST_PARAMS: dict[str, Param] = {
    "n_estimators": Number(default=200, low=1, high=5_000, search=(50, 500), is_whole=True, meaning="trees"),
    "max_depth": LEVELS_OR_ANY,
    "min_samples_leaf": Number(
        default=50, low=1, high=1_000_000, search=(5, 500), is_log=True, is_whole=True, meaning="fewest rows in a leaf"
    ),
    "max_features": Number(
        default=0.3, low=0.01, high=1.0, search=(0.1, 1.0), meaning="share of features for each split"
    ),
}


def _forest(name: str, *, build: Any, trees: str, kind: str, **params: Param) -> Learner:
    return Learner(
        name=name,
        family="sklearn",
        tasks=frozenset({"classification", "regression"}),
        build=build,
        params={**FOREST_PARAMS, **params},
        format=tree_format(
            *(f"sklearn.ensemble._forest.{kind}{task}" for task in ("Classifier", "Regressor")),
            *(f"sklearn.tree._classes.{trees}{task}" for task in ("Classifier", "Regressor")),
            "sklearn.tree._tree.Tree",
            loaders=("TreeNode",),
        ),
        fit=_grow_forest,
        handles_missing=True,
        importances=_importances,
        contributions=attribute_forest,
        contributions_need_shap=True,
    )


RANDOM_FOREST = _forest(
    "random_forest",
    build=build_random_forest,
    kind="RandomForest",
    trees="DecisionTree",
    max_samples=Number(
        default=None,
        low=0.01,
        high=1.0,
        is_optional=True,
        meaning="share of rows for each tree; null: as many, with repetition",
    ),
)
EXTRA_TREES = _forest("extra_trees", build=build_extra_trees, kind="ExtraTrees", trees="ExtraTree")
