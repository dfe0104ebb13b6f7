"""The discrete super learner: who is chosen, that no test row chooses, and that it predicts what its member does."""

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.fold_by_fold import folds_of
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.learners.super_learner import choose_member
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.learner_signals import INTERACTION, LINEAR, Panel, signal_matrix
from hf_pipelines_tests.noise_table import panel_matrix

TARGET = build_target("forward_return", horizon_bars=1)
PANEL = Panel(symbols=20, sessions=120, test_sessions=30, skill={LINEAR: 0.4, INTERACTION: 0.8})
# Nothing of them is drawn: a member has a seed of its own.
WHOLE = {"subsample": 1.0, "colsample_bytree": 1.0}
TREES = {"type": "xgboost", "params": {"n_estimators": 40, "max_depth": 3, "learning_rate": 0.1, **WHOLE}}
MEMBERS = ["ridge", TREES]
SPLITTER = PurgedWalkForward(n_splits=1, test_sessions=30, embargo_sessions=1, min_train_sessions=20)


def validated(matrix, learner):
    return cross_validate(matrix, learner=learner, splitter=SPLITTER, target=TARGET, weightings=(), seed=0)


def superior(rule="best", members=MEMBERS):
    return choose_learner("discrete_super_learner", {"members": members, "rule": rule, "n_splits": 3})


def test_best_has_the_least_loss_and_simplest_is_the_first_within_a_standard_error_of_it():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(200, 1)) ** 2
    # Behind by a fifth of the error of the difference, and by far more than it.
    noise = 0.1 * rng.normal(size=200)
    near = shared[:, 0] + noise - noise.mean() + 0.001
    losses = np.column_stack([shared[:, 0] + 1.0 + noise, near, shared[:, 0]])
    assert choose_member(losses, rule="best") == 2
    assert choose_member(losses, rule="simplest") == 1
    # What is simpler than the best and equally good is taken, what comes after it never.
    assert choose_member(losses[:, [2, 1]], rule="simplest") == 0


@pytest.mark.parametrize("signal, chosen", [(LINEAR, 0), (INTERACTION, 1)])
def test_it_chooses_the_member_that_finds_the_signal_and_predicts_as_it_does(signal, chosen):
    matrix = signal_matrix(TARGET, PANEL, signal, seed=2)
    found = validated(matrix, superior())
    report = found.reports["fold 0"]
    assert report["chosen"] == chosen and report["chosen_learner"] == ["ridge", TREES["type"]][chosen]
    alone = choose_learner(*(("ridge",) if chosen == 0 else (TREES["type"], TREES["params"])))
    assert found.predictions.equals(validated(matrix, alone).predictions)


def test_labels_of_test_rows_choose_nothing():
    """Other labels in the test rows, by which the other member would be better, change neither the choice nor a prediction."""
    matrix = signal_matrix(TARGET, PANEL, LINEAR, seed=2)
    (fold,) = folds_of(SPLITTER, matrix)
    in_test = pl.Series(range(matrix.height)).is_in([*fold.test])
    turned = matrix.with_columns(
        pl.when(in_test).then(-pl.col(name)).otherwise(pl.col(name)).alias(name) for name in ("y", "target")
    )
    one, other = (validated(each, superior()) for each in (matrix, turned))
    assert one.reports["fold 0"]["losses"] == other.reports["fold 0"]["losses"]
    assert one.predictions["prediction"].equals(other.predictions["prediction"])


def test_on_noise_the_choice_scores_as_chance_does():
    """The best of the members in the inner folds is worth nothing in the outer ones."""
    matrix = panel_matrix(TARGET, seed=3, symbols=8, sessions=120, persistence=0.0, n_features=6)
    members = [{**TREES, "params": {**TREES["params"], "n_estimators": 5, "max_depth": at}} for at in range(1, 5)]
    assert abs(validated(matrix, superior(members=members)).metrics["information_coefficient_t"]) < 3.0
