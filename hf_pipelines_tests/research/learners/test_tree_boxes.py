"""Shapley values of trees: those of the definition, those of the libraries, where trees are deep, thresholds are met exactly, or values are unknown."""

from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_pipelines.research.learners import attribution, boosters, lightgbm_trees
from hf_pipelines.research.learners.tree_boxes import Trees, join_trees, tree_shapley_values


def random_tree(random: np.random.Generator, *, n_features: int, n_splits: int, output: int = 0) -> Trees:
    """Splits at random leaves; a feature may come again on the same way, and a side may hold hardly any row."""
    left, right, feature, threshold, unknown = [-1], [-1], [0], [0.0], [False]
    cover, value = [100.0], [float(random.normal())]
    for _ in range(n_splits):
        leaf = int(random.choice([at for at, child in enumerate(left) if child < 0]))
        left[leaf], right[leaf] = len(left), len(left) + 1
        feature[leaf], threshold[leaf] = int(random.integers(n_features)), float(random.integers(-2, 3))
        unknown[leaf] = bool(random.integers(2))
        share = float(random.uniform(0.01, 0.99))
        for part in (share, 1.0 - share):
            left.append(-1), right.append(-1), feature.append(0), threshold.append(0.0), unknown.append(False)
            cover.append(cover[leaf] * part), value.append(float(random.normal()))
    return Trees(
        root=np.array([0, len(left)]),
        output=np.array([output]),
        left=np.array(left),
        right=np.array(right),
        feature=np.array(feature),
        threshold=np.array(threshold, dtype=np.float32),
        unknown_left=np.array(unknown),
        cover=np.array(cover),
        value=np.array(value),
    )


def expected_where_known(trees: Trees, row: np.ndarray, known: frozenset[int], node: int = 0) -> float:
    """What a tree gives where the other features are unknown to the game: both sides, by the shares of the training rows."""
    if trees.left[node] < 0:
        return float(trees.value[node])
    left, right, feature = int(trees.left[node]), int(trees.right[node]), int(trees.feature[node])
    if feature in known:
        goes_left = trees.unknown_left[node] if np.isnan(row[feature]) else row[feature] < trees.threshold[node]
        return expected_where_known(trees, row, known, left if goes_left else right)
    return sum(
        expected_where_known(trees, row, known, child) * trees.cover[child] / trees.cover[node]
        for child in (left, right)
    )


def by_definition(trees: Trees, row: np.ndarray) -> list[float]:
    n = len(row)
    found = []
    for feature in range(n):
        others = [each for each in range(n) if each != feature]
        value = 0.0
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for chosen in combinations(others, size):
                known = frozenset(chosen)
                gain = expected_where_known(trees, row, known | {feature}) - expected_where_known(trees, row, known)
                value += weight * gain
        found.append(value)
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_splits=st.integers(0, 14))
def test_values_are_those_of_the_definition(seed, n_splits):
    random = np.random.default_rng(seed)
    trees = random_tree(random, n_features=5, n_splits=n_splits)
    # Whole numbers, as the thresholds: a value that is met exactly goes right.
    X = random.integers(-3, 4, size=(3, 5)).astype(np.float32)
    X[random.random(X.shape) < 0.2] = np.nan
    expected, values = tree_shapley_values(trees, X, n_outputs=1)
    assert expected[0] == pytest.approx(expected_where_known(trees, X[0], frozenset()))
    for row, own in zip(X, values[:, 0], strict=True):
        assert own == pytest.approx(by_definition(trees, row), abs=1e-9)


def test_trees_of_several_outputs_add_up_and_rows_do_not_depend_on_their_company():
    random = np.random.default_rng(3)
    parts = [random_tree(random, n_features=30, n_splits=60, output=at % 2) for at in range(6)]
    X = random.normal(size=(700, 30)).astype(np.float32)
    expected, values = tree_shapley_values(join_trees(parts), X, n_outputs=2)
    alone = [tree_shapley_values(part, X, n_outputs=2) for part in parts]
    assert expected == pytest.approx(sum(each[0] for each in alone))
    assert values == pytest.approx(sum(each[1] for each in alone), abs=1e-12)
    for some in (slice(0, 1), slice(255, 258), slice(699, 700)):
        assert np.array_equal(tree_shapley_values(join_trees(parts), X[some], n_outputs=2)[1], values[some])


def grown(library: str, *, depth: int, unknown: float, n_classes: int = 0, categories: bool = False) -> tuple[Any, Any]:
    """A model on rows whose columns hold few values, and rows that hold each threshold's neighbours and unknown values."""
    random = np.random.default_rng(depth)
    X = np.round(random.normal(size=(800, 4)), 1).astype(np.float32)
    X[:, 3] = random.integers(0, 5, size=len(X))
    y = X[:, 0] * X[:, 1] + X[:, 2] + (X[:, 3] == 2) + 0.1 * random.normal(size=len(X))
    y = np.digitize(y, np.quantile(y, np.arange(1, n_classes) / n_classes)) if n_classes else y
    X[:, :3][random.random((len(X), 3)) < unknown] = np.nan
    if library == "xgboost":
        import xgboost

        kinds = ["q", "q", "q", "c" if categories else "q"]
        objective = {0: "reg:squarederror", 2: "binary:logistic"}.get(n_classes, "multi:softprob")
        params = {"max_depth": depth, "objective": objective, "nthread": 1, "min_child_weight": 0}
        params |= {"num_class": n_classes} if n_classes > 2 else {}
        rows = xgboost.DMatrix(X, label=y, feature_types=kinds, enable_categorical=categories)
        model = xgboost.train(params, rows, num_boost_round=15)
    else:
        import lightgbm

        objective = {0: "regression", 2: "binary"}.get(n_classes, "multiclass")
        params = {
            "num_leaves": 2**depth,
            "objective": objective,
            "num_threads": 1,
            "verbose": -1,
            "min_data_in_leaf": 1,
        }
        params |= {"num_class": n_classes} if n_classes > 2 else {}
        data = lightgbm.Dataset(X, label=y, categorical_feature=[3] if categories else [])
        model = lightgbm.train(params, data, num_boost_round=15)
    asked = X[:120].copy()
    asked[:40] = np.nextafter(asked[:40], np.float32(np.inf))
    # Also where training rows had none.
    asked[40:80, :3][random.random((40, 3)) < 0.3] = np.nan
    return model, asked


def by_library(library: str, model: Any, X: np.ndarray, categories: tuple[int, ...]) -> np.ndarray:
    """The library's own TreeSHAP, of shape (n_rows, n_outputs, n_columns + 1)."""
    if library == "xgboost":
        found = model.predict(boosters._shown(X, categories, 1), pred_contribs=True)
    else:
        found = model.predict(X, pred_contrib=True)
    return np.asarray(found, dtype=np.float64).reshape(len(X), -1, X.shape[1] + 1)


ATTRIBUTES = {"xgboost": boosters.attribute_grown_xgboost, "lightgbm": lightgbm_trees.attribute_lightgbm}


@pytest.mark.parametrize("n_classes", [0, 2, 3])
@pytest.mark.parametrize("unknown", [0.0, 0.2], ids=["known", "unknown"])
@pytest.mark.parametrize("depth", [1, 6, 9])
@pytest.mark.parametrize("library", ATTRIBUTES)
def test_values_of_boosters_are_those_of_their_libraries(library, depth, unknown, n_classes, monkeypatch):
    model, X = grown(library, depth=depth, unknown=unknown, n_classes=n_classes)
    known = by_library(library, model, X, ())
    # It must not need the library's own.
    monkeypatch.setattr(boosters, "with_bias_last", None)
    monkeypatch.setattr(lightgbm_trees, "with_bias_last", None)
    found = ATTRIBUTES[library](model, X, (), 1)
    assert found.values == pytest.approx(known[:, :, :-1], abs=2e-5)
    assert found.base == pytest.approx(known[:, :, -1], abs=2e-5)


@pytest.mark.parametrize("library", ATTRIBUTES)
def test_trees_that_split_by_categories_are_read_by_their_library(library):
    model, X = grown(library, depth=4, unknown=0.1, categories=True)
    X[:, 3] = np.round(X[:, 3])
    found = ATTRIBUTES[library](model, X, (3,), 1)
    assert found.values == pytest.approx(by_library(library, model, X, (3,))[:, :, :-1], abs=1e-12)
    assert np.ptp(found.values[:, :, 3]) > 0


@pytest.mark.parametrize("library", ATTRIBUTES)
def test_tables_that_are_read_wrongly_give_way_to_the_library(library, monkeypatch):
    model, X = grown(library, depth=4, unknown=0.2)
    of_boxes = attribution.tree_shapley_values

    def wrong(trees: Trees, X: np.ndarray, *, n_outputs: int) -> Any:
        return of_boxes(trees, np.nan_to_num(X), n_outputs=n_outputs)

    monkeypatch.setattr(attribution, "tree_shapley_values", wrong)
    found = ATTRIBUTES[library](model, X, (), 1)
    assert found.values == pytest.approx(by_library(library, model, X, ())[:, :, :-1], abs=1e-12)


@pytest.mark.parametrize("library", ATTRIBUTES)
def test_a_model_without_a_split_adds_nothing(library):
    constant = np.zeros((50, 2), dtype=np.float32)
    y = np.full(50, 1.5)
    if library == "xgboost":
        import xgboost

        model = xgboost.train({"nthread": 1}, xgboost.DMatrix(constant, label=y), num_boost_round=2)
    else:
        import lightgbm

        data = lightgbm.Dataset(np.arange(100).reshape(50, 2), label=y)
        model = lightgbm.train({"verbose": -1, "num_threads": 1}, data, num_boost_round=2)
    found = ATTRIBUTES[library](model, constant, (), 1)
    assert found.base == pytest.approx(1.5) and not found.values.any()
