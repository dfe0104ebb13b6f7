"""Controls: strengths worked out by hand, p that is exact, planted faults of learners and splitters that are each found."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression

from hf_pipelines.research.batched_matrix import BatchedMatrix
from hf_pipelines.research.learners import LEARNERS, Learner, LearnerChoice, choose_learner
from hf_pipelines.research.learners.array_bytes import arrays_format
from hf_pipelines.research.matrix import build_matrix, feature_names
from hf_pipelines.research.robustness import controls, twins
from hf_pipelines.research.robustness.controls import (
    CANNOT_BE_JUDGED,
    NOT_TRUSTED,
    TRUSTED,
    controls_in_words,
    effective_rows,
    planted_strength,
)
from hf_pipelines.research.splitters import PurgedWalkForward, Splitter
from hf_pipelines.research.targets import Target, build_target
from hf_pipelines_tests.controls_table import controls_of, noise_weeks, permuted_p
from hf_pipelines_tests.noise_table import panel_matrix
from hf_pipelines_tests.sample_matrix import plain_bars

RETURN = build_target("forward_return", horizon_bars=5)
WALK = PurgedWalkForward(n_splits=3, test_sessions=60, embargo_sessions=1, min_train_sessions=60)


def noise(target: Target = RETURN, *, symbols: int = 5, sessions: int = 400, seed: int = 1) -> pl.DataFrame:
    return panel_matrix(target, seed=seed, symbols=symbols, sessions=sessions, persistence=0.95, n_features=6)


def test_strength_and_effective_rows_by_hand():
    # Quantiles of the normal law at 99.9 and 99 %: 3.0902 + 2.3263 = 5.4166; over the root of 400 rows 0.2708, half of it is kept.
    assert planted_strength(400.0) == pytest.approx(2 * 5.41658 / 20, rel=1e-5)
    # 0.7 needs (5.4166 / 0.7)^2 = 59.9 rows; just above it the strength is as large as any may be.
    assert planted_strength(59.0) is None
    assert planted_strength(60.5) == 0.95
    assert planted_strength(0.0) is None
    # Columns that are the same are one: of 50 sessions 49 are free.
    rng = np.random.default_rng(0)
    one = rng.normal(size=50)
    one -= one.mean()
    assert effective_rows(np.repeat(one[:, None], 7, axis=1)) == pytest.approx(49.0)
    # Hoeffding's variance of 7 independent columns is that of 350 rows; the means of the columns stay where they are.
    alone = rng.normal(size=(2_000, 7))
    assert effective_rows(alone - alone.mean(axis=0)) == pytest.approx(14_000, rel=0.03)
    assert effective_rows(np.zeros((50, 3))) == 0.0


def test_p_of_permuted_twins_is_that_of_chance_where_labels_and_features_persist():
    # Labels of five sessions overlap, and features keep 95 % from one session to the next: by the usual error a third of these
    # correlations would be significant at 5 %.
    p = permuted_p(noise_weeks(16)).ravel()
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert (p <= 0.0005).sum() == 0


def test_orders_drawn_together_are_those_drawn_one_by_one(monkeypatch):
    sample = twins.sample_rows(noise(symbols=3, sessions=300), splitter=WALK, seed=0, n_twins=3)
    test, (one, many) = sample.test, (np.random.default_rng(7), np.random.default_rng(7))
    monkeypatch.setattr(twins, "CELLS_AT_A_TIME", 4 * len(test.rows))
    drawn = [test.drawn(one, length=5) for _ in range(9)]
    np.testing.assert_array_equal(np.concatenate([*test.draws(many, length=5, n=9)]), drawn)
    # Each row's label is one of its own symbol, and each label is taken once.
    assert all((test.column[each] == test.column).all() and len({*each}) == len(each) for each in drawn)


class _Given(BaseEstimator, RegressorMixin):
    """A line, and what becomes of its predictions."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def fit(self, X: Any, y: Any) -> "_Given":
        self.line_ = LinearRegression().fit(X, y)
        return self

    def predict(self, X: Any) -> Any:
        found = self.line_.predict(X)
        return {
            "none": found,
            "constant": np.full(len(X), 0.01),
            "upside down": -found,
            "of another row": np.roll(found, len(found) // 2),
        }[self.fault]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[LearnerChoice]:
    entry = Learner(
        name="faulty",
        family="sklearn",
        tasks=frozenset({"regression"}),
        build=lambda params, setup: _Given(request.param),
        params={},
        format=arrays_format("line_"),
        takes_weights=False,
    )
    monkeypatch.setitem(LEARNERS, "faulty", entry)
    yield choose_learner("faulty")


@pytest.mark.parametrize("faulty", ["constant", "upside down", "of another row"], indirect=True)
def test_a_broken_learner_does_not_find_what_is_planted(faulty):
    found = controls_of(noise(), faulty, RETURN, WALK)
    assert found.verdict == NOT_TRUSTED
    assert [each.is_found for each in found.twins] == [False, False, False]
    assert "planted in every feature" in found.reasons[0]


@pytest.mark.parametrize("faulty", ["none"], indirect=True)
def test_the_same_learner_without_its_fault_is_trusted(faulty):
    found = controls_of(noise(), faulty, RETURN, WALK)
    assert found.verdict == TRUSTED and not found.reasons
    assert controls_in_words(found).startswith("controls: the week is trusted [permuted ")


@dataclass(frozen=True)
class _TrainsOnItsTest:
    """The fault: test rows are trained on."""

    inner: Splitter

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for train, test in self.inner.split(X):
            yield np.union1d(train, test), test


@pytest.mark.parametrize(("learner", "target"), [("nearest_neighbours", "forward_return"), ("lightgbm", "direction")])
def test_a_learner_that_sees_labels_of_its_test_rows_is_found_in_permuted_labels(learner, target):
    target = build_target(target, horizon_bars=5)
    params = {"n_neighbors": 3} if learner == "nearest_neighbours" else {"n_estimators": 50, "min_child_samples": 5}
    found = controls_of(noise(target), choose_learner(learner, params), target, _TrainsOnItsTest(WALK))
    assert found.verdict == NOT_TRUSTED
    assert [each.is_found for each in found.twins[:2]] == [True, True]
    assert "sees labels of the rows that it is tested on" in found.reasons[0]
    assert controls_of(noise(target), choose_learner(learner, params), target, WALK).verdict == TRUSTED


def ohlc_matrix(target: Target, *, symbols: int, sessions: int = 400, sparse: float = 1.0) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.015, (symbols, sessions)), axis=1))
    bars = plain_bars({f"S{at}": each.tolist() for at, each in enumerate(close)})
    spread = pl.Series(np.abs(rng.normal(0.0, 0.01, bars.height)))
    bars = bars.with_columns(
        open=pl.col("close"),
        high=pl.col("close") * (1.0 + spread),
        low=pl.col("close") * (1.0 - spread),
        volume=pl.lit(1e6),
    )
    columns = {f"feature_{at}": pl.Series(rng.normal(size=bars.height).astype(np.float32)) for at in range(4)}
    features = bars.select("symbol", "session", "ts").with_columns(**columns)
    # A stock that is listed half-way, and rows without any news.
    features = features.filter(pl.Series(rng.random(bars.height) < sparse))
    if symbols > 1:
        features = features.filter((pl.col("symbol") != "S1") | (pl.col("session") > features["session"].mean()))
    return build_matrix(features, bars=bars, target=target, cutoff=None, minimum_rows=1)


KINDS = {
    "forward_return": ("ridge", {}, {}),
    "rank": ("lightgbm", {"n_estimators": 40}, {}),
    "direction": ("logistic", {}, {}),
    "up_or_down": ("xgboost", {"n_estimators": 40}, {}),
    "triple_barrier": ("random_forest", {"n_estimators": 20}, {}),
    "meta_label": ("lightgbm", {"n_estimators": 40, "min_child_samples": 10}, {"primary": "feature_0"}),
    "realised_volatility": ("ridge", {}, {}),
}


@pytest.mark.parametrize(("kind", "symbols"), [(kind, n) for kind in KINDS for n in (1, 6) if (kind, n) != ("rank", 1)])
def test_every_kind_of_target_is_trusted_with_one_symbol_and_with_several(kind, symbols):
    learner, params, of_target = KINDS[kind]
    target = build_target(kind, horizon_bars=5, params=of_target)
    matrix = ohlc_matrix(target, symbols=symbols, sparse=0.8)
    walk = PurgedWalkForward(n_splits=2, test_sessions=80, embargo_sessions=1, min_train_sessions=60)
    found = controls_of(matrix, choose_learner(learner, params), target, walk)
    assert found.verdict == TRUSTED, found


def test_networks_and_several_horizons_at_once_are_trusted():
    target = build_target("forward_returns", params={"horizons": [1, 5]})
    learner = choose_learner("gru", {"window": 3, "hidden": 8, "epochs": 40, "learning_rate": 0.01, "horizons": [1, 5]})
    found = controls_of(noise(target, symbols=4), learner, target, WALK)
    assert found.verdict == TRUSTED, found
    # A label of five sessions ends four later than one of a single session.
    assert found.n_test == 4 * (60 + 56)


@pytest.mark.parametrize(
    ("learner", "sessions", "symbols", "told"),
    [
        ("ridge", 7, 5, "its last fold tests 7 sessions, at least 8 are needed"),
        ("ridge", 200, 1, "its last fold is trained on 189 rows, at least 200 are needed"),
        ("ridge", 30, 1, "30 test rows are worth 29 independent ones, too few"),
        ("mean", 60, 5, "mean learns nothing from labels"),
    ],
)
def test_what_cannot_be_judged_is_no_pass(learner, sessions, symbols, told):
    walk = PurgedWalkForward(n_splits=1, test_sessions=sessions, embargo_sessions=1, min_train_sessions=60)
    found = controls_of(noise(symbols=symbols), choose_learner(learner), RETURN, walk)
    assert found.verdict == CANNOT_BE_JUDGED
    assert told in found.reasons[0]
    assert controls_in_words(found).startswith(f"controls: cannot be judged: {found.reasons[0]}")


def test_twins_that_lack_a_class_cannot_be_judged():
    target = build_target("direction", horizon_bars=5, params={"lower": -0.5, "upper": 0.01})
    assert "lacks" in controls_of(noise(target), choose_learner("logistic"), target, WALK).reasons[0]


def test_a_constant_label_cannot_be_judged():
    matrix = noise().with_columns(y=pl.lit(0.25), target=pl.lit(0.25))
    found = controls_of(matrix, choose_learner("ridge"), RETURN, WALK)
    assert found.verdict == CANNOT_BE_JUDGED and "more than one value" in found.reasons[0]


def test_controls_are_the_same_again_and_say_numbers_that_json_holds():
    first, again = (controls_of(noise(), choose_learner("ridge"), RETURN, WALK) for _ in range(2))
    assert first == again
    told = first.to_json()
    assert told["verdict"] == TRUSTED and len(told["twins"]) == 3
    assert all(math.isfinite(each["p"]) for each in told["twins"])


def test_a_large_panel_is_cut_to_fewer_symbols_and_sessions():
    matrix = noise(symbols=60, sessions=700)
    walk = PurgedWalkForward(n_splits=3, test_sessions=200, embargo_sessions=1, min_train_sessions=60)
    found = controls_of(matrix, choose_learner("ridge"), RETURN, walk)
    assert found.verdict == TRUSTED
    assert found.n_train <= twins.MOST_TRAIN_ROWS and found.n_test <= twins.MOST_TEST_ROWS
    # A fifth of the rows of all folds, for three twins.
    trained = sum(len(train) for train, _ in walk.split(matrix))
    assert 0.18 * trained < 3 * found.n_train <= 0.2 * trained + 3 * 25
    # All of its days, of 25 of 60 symbols.
    assert found.n_test_sessions == 200 and found.n_test == 25 * 200


def test_fewer_trees_of_learners_inside_of_others_too():
    choice = choose_learner("voting", {"members": ["lightgbm", {"type": "gru", "params": {"epochs": 80}}]})
    small = controls._smaller(choice)
    assert [each.params.get("n_estimators", each.params.get("epochs")) for each in small.nested] == [100, 10]


def test_a_matrix_that_is_read_in_batches_has_the_same_controls():
    matrix = noise(sessions=300)
    names = feature_names(matrix)

    def read(first: int, stop: int) -> Iterator[pl.DataFrame]:
        for begin in range(first, stop, 97):
            yield matrix[begin : min(begin + 97, stop)].select(names)

    batched = BatchedMatrix(matrix.drop(names), tuple(names), read)
    ridge = choose_learner("ridge")
    assert controls_of(batched, ridge, RETURN, WALK) == controls_of(matrix, ridge, RETURN, WALK)
