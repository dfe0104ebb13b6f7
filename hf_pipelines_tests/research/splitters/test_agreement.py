"""Splitters against skfolio's, where labels have one length: it purges by a number of rows."""

import numpy as np
import pytest
from skfolio.model_selection import CombinatorialPurgedCV
from skfolio.model_selection import WalkForward as TheirWalkForward

from hf_pipelines.research.splitters import CombinatorialPurged, WalkForward
from hf_pipelines_tests.research.splitters.panels import daily

N = 60


@pytest.mark.parametrize("label_days", [0, 1, 3])
@pytest.mark.parametrize("is_anchored", [False, True])
def test_walk_forward_agrees_with_skfolio(label_days, is_anchored):
    # So that both of them end with the data: theirs begins with it.
    train = N - label_days - 7 * 5
    ours = WalkForward(train=train, test=5, step=5, is_anchored=is_anchored, embargo_sessions=0, min_train_sessions=1)
    theirs = TheirWalkForward(test_size=5, train_size=train, purged_size=label_days, expand_train=is_anchored)
    found = [(part.tolist(), test.tolist()) for part, test in ours.split(daily(N, label_days=label_days))]
    expected = [(part.tolist(), test.tolist()) for part, test in theirs.split(np.zeros((N, 1)))]
    assert len(expected) == 7
    assert found == expected


@pytest.mark.parametrize(("n_folds", "n_test_folds"), [(5, 2), (6, 2), (6, 3)])
@pytest.mark.parametrize(("label_days", "embargo"), [(0, 0), (2, 0), (1, 3)])
def test_combinations_and_their_paths_agree_with_skfolio(n_folds, n_test_folds, label_days, embargo):
    ours = CombinatorialPurged(
        n_folds=n_folds, n_test_folds=n_test_folds, embargo_sessions=embargo, min_train_sessions=1
    )
    theirs = CombinatorialPurgedCV(
        n_folds=n_folds, n_test_folds=n_test_folds, purged_size=label_days, embargo_size=embargo
    )
    times = daily(N, label_days=label_days)
    expected = list(theirs.split(np.zeros((N, 1))))
    found = list(ours.split(times))
    assert [(train.tolist(), test.tolist()) for train, test in found] == [
        (train.tolist(), np.concatenate(tests).tolist()) for train, tests in expected
    ]
    assert ours.n_paths == theirs.n_test_paths
    # The same blocks make up a path, whatever its number.
    blocks = N // n_folds
    paths = [path.reshape(n_test_folds, blocks) for path in ours.paths(times)]
    assert all((path == path[:, :1]).all() for path in paths)
    assert np.array([path[:, 0] for path in paths]).tolist() == theirs.get_path_ids().tolist()
