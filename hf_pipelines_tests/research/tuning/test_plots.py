"""Pictures of studies: what they are drawn from, not how they look; each was looked at."""

from collections.abc import Mapping

import pytest

from hf_pipelines.research.tuning import Budget, Design, Goal, Outcome, read_space, run_study
from hf_pipelines.research.tuning.plots import parameter_importances, study_pictures
from hf_pipelines.research.tuning.study import Study

SPACE = read_space(
    {
        "matters": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
        "idle": {"type": "int", "low": 1, "high": 9},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
        "depth": {"type": "int", "low": 1, "high": 8, "when": {"kind": "b"}},
    }
)

LOSS = (Goal("loss", False),)


def study_of(evaluate, *, goals=LOSS, trials=30, **design):
    return run_study(
        Design(space=SPACE, goals=goals, budget=Budget(trials=trials), sampler="random", batch=10, **design), evaluate
    )


def test_a_parameter_that_alone_decides_has_all_importance_and_ties_stay_in_order():
    found = parameter_importances(study_of(lambda task: Outcome("completed", (task.point["matters"],))))
    assert next(iter(found)) == "matters" and found["matters"] > 0.95
    assert sum(found.values()) == pytest.approx(1.0)
    # Only some trials have it.
    assert "depth" not in found


def drawn(study: Study, importances: Mapping[str, float]) -> dict[str, bytes]:
    return {name: draw() for name, draw in study_pictures(study, importances).items()}


@pytest.mark.parametrize(
    ("evaluate", "names"),
    [
        pytest.param(lambda task: Outcome("failed", error="x"), set(), id="none completed"),
        pytest.param(lambda task: Outcome("completed", (1.0,)), {"history", "slices"}, id="all the same"),
        pytest.param(lambda task: Outcome("completed", (task.point["idle"],), excesses=(("drawdown", 1.0),)),
                     {"history", "slices", "parameter_importances"}, id="none feasible"),
        pytest.param(lambda task: Outcome("completed", (task.point["idle"],)) if task.slot == 3 else Outcome("failed", error="x"),
                     {"history", "slices"}, id="one completed"),
    ],
)  # fmt: skip
def test_pictures_are_those_that_there_are_trials_for(evaluate, names):
    study = study_of(evaluate, trials=12)
    importances = parameter_importances(study)
    found = drawn(study, importances)
    assert found.keys() == names


def test_several_objectives_have_a_front():
    goals = (Goal("gain", True), Goal("seconds", False))
    study = study_of(lambda task: Outcome("completed", (task.point["matters"], task.point["idle"])), goals=goals)
    found = drawn(study, {})
    assert found["front"].startswith(b"\x89PNG")
    assert found == drawn(study, {})
