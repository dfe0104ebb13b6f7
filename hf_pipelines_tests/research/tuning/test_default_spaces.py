"""Default spaces: fifty points of that of every learner are fitted and scored as trials of a study."""

from functools import partial

import pytest

from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.tuning import COMPLETED, SAMPLERS, Task, default_space
from hf_pipelines.research.tuning.evaluation import Evaluation
from hf_pipelines.research.tuning.objectives import Wanted
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines.research.tuning.samplers import draw_ahead
from hf_pipelines.research.tuning.trials import attempt
from hf_pipelines_tests.research.tuning.test_space import TUNABLE
from hf_pipelines_tests.sample_learners import SMALL, sized_learner, target_of
from hf_pipelines_tests.sample_matrix import random_matrix


@pytest.mark.long
@pytest.mark.parametrize("name", TUNABLE)
def test_fifty_points_of_the_default_space_of_a_learner_are_fitted_and_scored(name):
    entry = LEARNERS[name]
    # Beside what is searched a learner stands as by default, but for what costs time.
    sizes = {each: value for each, value in SMALL.items() if each not in ("max_depth", "num_leaves")}
    task = min(entry.tasks)
    target = target_of(name, task, horizon_bars=1)
    evaluation = Evaluation(
        matrix=random_matrix(target, symbols=8, sessions=120, n_features=6),
        base=Configuration(
            sized_learner(name, target, sizes=sizes), {"all": tuple(f"feature_{at}" for at in range(6))}, {}
        ),
        splitter=PurgedWalkForward(n_splits=1, test_sessions=30, embargo_sessions=1, min_train_sessions=40),
        target=target,
        weightings=(),
        seed=1,
        missing="drop",
        validation_share=0.2,
        wanted=(Wanted("log_loss" if target.is_classification else "rmse"),),
        n_trials=50,
    )
    points = draw_ahead(SAMPLERS["random"], default_space(entry.params, prefix="learner."), seed=2, batch=8, trials=50)
    outcomes = list(map(partial(attempt, evaluation, 1), (Task(slot, point) for slot, point in enumerate(points))))
    failed = [(each.error, point) for each, point in zip(outcomes, points, strict=True) if each.state != COMPLETED]
    assert len(outcomes) == 50 and not failed, failed[:3]
