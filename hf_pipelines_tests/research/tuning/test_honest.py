"""The best of two hundred trials on noise: what chose it says skill, what it has never seen says chance."""

import math

import numpy as np
import pytest

from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.fold_by_fold import folds_of
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.tuning import Budget, Design, read_space, run_study
from hf_pipelines.research.tuning.evaluation import Evaluation, on_rows, with_features
from hf_pipelines.research.tuning.objectives import Wanted
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines_tests.noise_table import panel_matrix

TARGET = build_target("forward_return", horizon_bars=1)
SYMBOLS, N_TRIALS, TEST_SESSIONS = 8, 200, 40
FEATURES = {f"group_{at}": (f"feature_{at}",) for at in range(10)}
# Which of nine features are used beside the first: 512 points.
SPACE = read_space(
    {f"features.{group}": {"type": "categorical", "choices": [True, False]} for group in [*FEATURES][1:]}
)
SCORE = Wanted("information_coefficient")


def scores_of_the_best(seed):
    """Inner and outer score of the best of 200 trials on noise, in standard deviations of chance."""
    matrix = panel_matrix(TARGET, seed=seed, symbols=SYMBOLS, sessions=130, persistence=0.0, n_features=len(FEATURES))
    arguments = {"target": TARGET, "weightings": (), "seed": 0, "missing": "drop", "validation_share": 0.2}
    outer = PurgedWalkForward(n_splits=1, test_sessions=TEST_SESSIONS, embargo_sessions=1, min_train_sessions=40)
    evaluation = Evaluation(
        matrix=matrix,
        base=Configuration(choose_learner("ridge"), FEATURES, {}),
        splitter=outer,
        wanted=(SCORE,),
        n_trials=N_TRIALS,
        **arguments,
    )
    (fold,) = folds_of(outer, matrix)
    inner = on_rows(evaluation, fold.train, outer)
    design = Design(
        space=SPACE, goals=(SCORE.goal,), budget=Budget(trials=N_TRIALS), sampler="random", batch=50, seed=seed
    )
    study = run_study(design, inner)
    assert len(study.trials) == N_TRIALS and study.count("completed") == N_TRIALS
    best = evaluation.base.at(study.best.point)
    found = cross_validate(with_features(matrix, best), learner=best.learner, splitter=fold, **arguments)
    # A rank correlation over n symbols has a variance of 1 / (n - 1), its mean over sessions that by their number.
    chance = 1.0 / math.sqrt((SYMBOLS - 1) * TEST_SESSIONS)
    return study.best.outcome.values[0] / chance, found.metrics["information_coefficient"] / chance


def test_best_of_two_hundred_trials_on_noise_has_an_inner_score_of_skill_and_an_outer_one_of_chance():
    inner, outer = scores_of_the_best(seed=1)
    assert inner > 2.0
    assert abs(outer) < 2.0


@pytest.mark.long
def test_best_of_two_hundred_trials_on_twenty_panels_of_noise():
    inner, outer = np.array([scores_of_the_best(seed) for seed in range(20)]).T
    # Means of twenty have a twentieth of the variance.
    deviation = 1.0 / math.sqrt(20)
    assert inner.mean() > 5 * deviation
    assert abs(outer.mean()) < 3 * deviation
    assert (inner > outer).mean() >= 0.7
