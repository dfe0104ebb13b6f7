"""Ensembles: members are judged on rows that they were not fitted on, and weights follow what they have predicted lately."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import StackingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_pipelines.research.learners import Pipeline, Setup, TrainingRows, build_pipeline, choose_learner, keyed
from hf_pipelines.research.learners import stacking as stacking_module
from hf_pipelines.research.learners.members import losses, out_of_fold
from hf_pipelines.research.learners.weighting import shares_of
from hf_pipelines.research.splitters.purged_kfold import PurgedKFold
from hf_pipelines_tests.sample_matrix import plain_bars

SYMBOLS = 6
TREES = {
    "type": "xgboost",
    "params": {"n_estimators": 25, "max_depth": 3, "learning_rate": 0.3, "min_child_weight": 1.0},
}
NEIGHBOUR = {"type": "nearest_neighbours", "params": {"n_neighbors": 1}}


def rows_of(
    make_y: Callable[[np.ndarray, np.ndarray], np.ndarray], *, sessions: int, label_days: int = 0
) -> TrainingRows:
    """Rows of three normal features; `y` is made from the session's number and the features."""
    rng = np.random.default_rng(5)
    bars = plain_bars({f"S{number}": [1.0] * sessions for number in range(SYMBOLS)}).sort("ts", "symbol")
    X = rng.normal(size=(bars.height, 3)).astype(np.float32)
    number = np.repeat(np.arange(sessions), SYMBOLS)
    labelled = bars.with_columns(label_start="ts", label_end=pl.col("ts") + timedelta(days=label_days))
    y = make_y(number, X) + 0.1 * rng.normal(size=len(X))
    return TrainingRows(
        keyed(labelled, "label_start", "label_end"), X, ("a", "b", "volatility"), y=y, weight=np.ones(len(X))
    )


def fit(name: str, params: dict, rows: TrainingRows, **options) -> Pipeline:
    return build_pipeline(choose_learner(name, params, **options), Setup("regression", seed=1)).fit(rows)


def test_shares_by_hand():
    # Losses of 1 and 3 are 0.5 and 1.5 of their mean: e**-0.5 against e**-1.5.
    expected = np.array([1.0, np.exp(-1.0)]) / (1.0 + np.exp(-1.0))
    given = {"half_life": 1.0, "sharpness": 1.0}
    np.testing.assert_allclose(shares_of(np.array([[1.0, 3.0]]), np.ones(1), **given), expected)
    # The session before counts half, and the other way round: half of the difference is left.
    both = np.array([[3.0, 1.0], [1.0, 3.0]])
    halved = np.array([1.0, np.exp(-0.5)]) / (1.0 + np.exp(-0.5))
    np.testing.assert_allclose(shares_of(both, np.ones(2), **given), halved)
    # A session that is not there counts nothing; without sharpness nothing does.
    np.testing.assert_allclose(shares_of(both, np.array([0.0, 1.0]), **given), expected)
    np.testing.assert_allclose(shares_of(both, np.ones(2), half_life=1.0, sharpness=0.0), [0.5, 0.5])
    np.testing.assert_allclose(shares_of(np.zeros((3, 2)), np.ones(3), **given), [0.5, 0.5])


def test_losses_by_hand():
    answers = np.array([[[0.5], [2.0]], [[1.0], [-1.0]]])
    np.testing.assert_allclose(losses(answers, np.array([1.0, 1.0])), [[0.25, 1.0], [0.0, 4.0]])
    probabilities = np.array([[[0.2, 0.8], [0.5, 0.5]]])
    np.testing.assert_allclose(losses(probabilities, np.array([1.0])), -np.log([[0.8, 0.5]]))


def test_dynamic_weights_follow_a_change_of_the_best_member_within_40_matured_sessions():
    # Linear in one feature, then an interaction that only trees see.
    def changing(number, X):
        return np.where(number < 260, X[:, 0], np.sign(X[:, 0] * X[:, 1]))

    rows = rows_of(changing, sessions=300)
    params = {"members": ["ridge", TREES], "n_splits": 10}
    is_before = rows.keys["session"].is_in(rows.keys["session"].unique().sort()[:260].implode()).to_numpy()
    before, after = (fit("dynamic_weighting", params, each).report()["shares"] for each in (rows.take(is_before), rows))
    assert before[0] > 0.8
    assert after[1] > 0.8


def test_regime_experts_take_the_member_of_the_regime_and_beat_each_and_the_vote():
    rng = np.random.default_rng(8)
    is_rough = rng.random(260) < 0.2

    def by_regime(number, X):
        X[:, 2] = np.exp(np.where(is_rough[number], 1.0, -1.0) + 0.2 * X[:, 2])
        return np.where(is_rough[number], 4.0 * np.sign(X[:, 0] * X[:, 1]), X[:, 0] + X[:, 1])

    rows = rows_of(by_regime, sessions=260)
    session = rows.keys["session"].rank("dense").to_numpy()
    train, test = rows.take(session <= 200), rows.take(session > 200)
    members = {"members": ["ridge", TREES]}
    experts = fit("regime_experts", {**members, "feature": "volatility"}, train)
    quiet, rough = np.array(experts.report()["shares"])
    assert quiet[0] > 0.9 and rough[1] > 0.9
    # A row's own value tells the regime, the same for a row alone.
    regimes = experts.estimator.regimes(test)
    np.testing.assert_allclose(regimes[:, 1], is_rough[200:][(session[session > 200] - 201).astype(int)], atol=0.05)
    np.testing.assert_array_equal(experts.estimator.regimes(test.take(np.array([7]))), regimes[7:8])

    def error(pipeline: Pipeline) -> float:
        return float(((pipeline.predict(test).point - test.y) ** 2).mean())

    others = [fit("voting", members, train), *experts.estimator.members]
    assert error(experts) < min(map(error, others))


def test_stack_gives_nothing_to_a_member_that_knows_its_own_rows_by_heart(monkeypatch):
    # Nothing can be predicted, but the nearest neighbour of a row that was fitted is the row itself.
    rows = rows_of(lambda number, X: np.random.default_rng(2).normal(size=len(X)), sessions=120)
    params = {"members": ["ridge", NEIGHBOUR], "final": {"type": "ridge", "params": {"alpha": 1.0}}}

    def share_of_neighbour() -> float:
        found = fit("stacking", params, rows).estimator.final
        one = np.ones((1, 2), dtype=np.float32)
        answers = [found.estimator.predict(one * np.array(each, dtype=np.float32))[0] for each in ([0, 0], [0, 1])]
        return float(answers[1] - answers[0])

    assert abs(share_of_neighbour()) < 0.15

    def in_sample(members, given, folds, *, classes):
        return out_of_fold(members, given, [(np.arange(len(given)),) * 2], classes=classes)

    monkeypatch.setattr(stacking_module, "out_of_fold", in_sample)
    assert share_of_neighbour() > 0.9


@pytest.mark.parametrize("label_days", [0, 6])
def test_out_of_fold_answers_know_nothing_of_their_block_nor_of_labels_that_overlap_it(label_days):
    rows = rows_of(lambda number, X: X[:, 0], sessions=60, label_days=label_days)
    member = build_pipeline(choose_learner("nearest_neighbours", {"n_neighbors": 1}), Setup("regression"))
    folds = list(PurgedKFold(n_splits=4).split(rows.keys))
    tested, answers = out_of_fold([member, member], rows, folds, classes=())
    assert tested.tolist() == list(range(len(rows)))
    for _, test in folds:
        begins, ends = rows.keys["ts"][test].min(), rows.keys["label_end"][test].max()
        meets = ((rows.keys["ts"] <= ends) & (rows.keys["label_end"] >= begins)).to_numpy()
        shuffled = replace(rows, y=np.where(meets, 99.0 - rows.y, rows.y))
        _, again = out_of_fold([member, member], shuffled, folds, classes=())
        np.testing.assert_array_equal(again[test], answers[test])
    planted = replace(rows, y=rows.y + 1.0)
    assert (out_of_fold([member, member], planted, folds, classes=())[1] != answers).any()


def test_stacking_agrees_with_scikit_learn_on_the_same_folds():
    rows = rows_of(lambda number, X: X[:, 0] - 0.4 * X[:, 1] * X[:, 0], sessions=80)
    alphas = (1.0, 500.0)
    members = [{"type": "ridge", "params": {"alpha": alpha}} for alpha in alphas]
    found = fit(
        "stacking", {"members": members, "final": {"type": "ridge", "params": {"alpha": 2.0}}, "n_splits": 4}, rows
    )
    block = np.empty(len(rows), dtype=int)
    for number, (_, test) in enumerate(PurgedKFold(n_splits=4).split(rows.keys)):
        block[test] = number
    oracle = StackingRegressor(
        [(f"{alpha}", make_pipeline(StandardScaler(), Ridge(alpha=alpha))) for alpha in alphas],
        final_estimator=make_pipeline(StandardScaler(), Ridge(alpha=2.0)),
        cv=PredefinedSplit(block),
    ).fit(rows.X.astype(np.float64), rows.y)
    np.testing.assert_allclose(found.predict(rows).point, oracle.predict(rows.X.astype(np.float64)), atol=2e-4)


def test_member_that_wakes_up_after_the_inner_folds_does_not_carry_the_final_learner_away():
    # In the inner folds the first member predicts all but a constant; then, of the rows of today, something.
    rows = rows_of(lambda number, X: X[:, 0], sessions=60)
    members = [{"type": "ridge", "params": {"alpha": 1e6}}, "ridge"]
    silent = replace(rows, X=rows.X * np.array([1.0, 1.0, 0.0], dtype=np.float32))
    blend = fit(
        "blending", {"members": members, "final": {"type": "ridge", "params": {"alpha": 1.0}}}, silent
    ).estimator
    everything = np.ones(len(rows), dtype=bool)
    answers = blend.ask_members(rows, everything)
    assert np.ptp(answers[:, 0]) < 0.01 < np.ptp(answers[:, 1])
    plain = blend.combine(answers, rows, everything)
    answers[:, 0] += 5.0
    assert np.abs(blend.combine(answers, rows, everything) - plain).max() < 10.0


def test_blend_shows_the_final_learner_the_latest_share_alone():
    rows = rows_of(lambda number, X: X[:, 0], sessions=50)
    params = {"members": ["ridge", NEIGHBOUR], "final": "ridge", "share": 0.2}
    early = (rows.keys["session"].rank("dense") <= 40).to_numpy()
    changed = replace(rows, y=np.where(early, rows.y, -rows.y))
    # Members of the first 40 sessions find x; the last 10 sessions say that it is -x.
    finals = [fit("blending", params, each).estimator.final.estimator for each in (rows, changed)]
    slopes = [
        float(final.predict(np.ones((1, 2), np.float32))[0] - final.predict(np.zeros((1, 2), np.float32))[0])
        for final in finals
    ]
    assert slopes[0] > 0.5 and slopes[1] < -0.5


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        pytest.param("stacking", {"members": ["ridge", "ridge"]}, "`final` of 'stacking' must be given", id="no final"),
        pytest.param("stacking", {"members": ["ridge"], "final": "ridge"}, "`members` .* must", id="one member"),
        pytest.param("regime_experts", {"members": ["ridge", "ridge"], "feature": "roc_5"},
                     "`feature` of regime_experts must be a feature of the strategy, was roc_5", id="another feature"),
        pytest.param("dynamic_weighting", {"members": ["ridge", "ridge"], "half_life": 0.0}, "`half_life` .* must be from 1", id="no memory"),
        pytest.param("stacking", {"members": ["ridge", "ridge"], "final": "ridge", "n_splits": 50},
                     "`n_splits` must be at most the 30 sessions given, was 50", id="more folds than sessions"),
    ],
)  # fmt: skip
def test_bad_ensemble_is_refused_in_one_line(name, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(name, params, rows_of(lambda number, X: X[:, 0], sessions=30))


def test_an_inner_fold_without_a_class_is_named():
    rows = rows_of(lambda number, X: X[:, 0], sessions=30)
    rows = replace(rows, y=(rows.keys["session"].rank("dense") > 25).to_numpy().astype(float))
    choice = choose_learner("stacking", {"members": [NEIGHBOUR, TREES], "final": TREES, "n_splits": 3})
    with pytest.raises(
        ValueError,
        match=r"^inner fold 2: `n_splits` must leave every class .* was without \['code 1'\]; take fewer folds",
    ):
        build_pipeline(choice, Setup("classification")).fit(rows)
