"""What `auto` compares, and the presets."""

import pytest

from hf_pipelines.research.leaderboard import AUTO, PRESETS, AutoCandidate, Candidate, auto_candidates
from hf_pipelines.research.leaderboard import candidates as module
from hf_pipelines.research.leaderboard.candidates import preset_params, require_distinct
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.targets import build_target

TARGETS = {
    "classification": build_target("direction", horizon_bars=5),
    "regression": build_target("forward_return", horizon_bars=5),
    "ranking": build_target("rank", horizon_bars=5),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("has_missing", [False, True], ids=["whole", "missing"])
@pytest.mark.parametrize("n_rows", [300, 5_000, 10_000_000])
def test_auto_gives_ten_candidates_or_more_that_fit_the_target_the_rows_and_missing_values(kind, has_missing, n_rows):
    target = TARGETS[kind]
    found = auto_candidates(target, n_rows=n_rows, has_missing=has_missing)
    assert len(found) >= 10
    require_distinct(found)
    for each in found:
        each.learner.require_target(target)
        assert ("classification" if target.is_classification else "regression") in each.learner.tasks
        assert each.learner.handles_missing or not has_missing
    # Of many rows none whose cost grows with their square, of few none that needs more of them in a fold.
    assert any("nearest_neighbours" in each.name for each in found) == (n_rows == 5_000)
    assert any("cross_sectional_rank" in each.name for each in found) == (kind == "ranking")


def test_a_line_adds_a_candidate_and_a_library_that_lacks_takes_its_own_away(monkeypatch):
    target = TARGETS["regression"]
    before = auto_candidates(target, n_rows=None, has_missing=False)
    monkeypatch.setattr(module, "AUTO", (*AUTO, AutoCandidate("lasso", "strong")))
    assert [each.name for each in auto_candidates(target, n_rows=None, has_missing=False)] == [
        *(each.name for each in before),
        "lasso strong",
    ]
    able = auto_candidates(
        target, n_rows=None, has_missing=False, can_run=lambda choice: choice.entry.family != "lightgbm"
    )
    assert {each.learner.name for each in before} - {each.learner.name for each in able} == {"lightgbm"}


def test_every_preset_is_a_configuration_of_its_learner_other_than_the_default():
    for learner, presets in PRESETS.items():
        default = choose_learner(learner)
        made = [choose_learner(learner, preset_params(learner, name)) for name in presets]
        assert all(each.params != default.params for each in made)
        assert len({str(each.params) for each in made}) == len(made)
    assert preset_params("ridge", "default") == {}


def test_what_makes_no_candidates_is_refused():
    with pytest.raises(ValueError, match=r"`preset` of 'xgboost' must be one of default, shallow, deep, was 'best'"):
        preset_params("xgboost", "best")
    with pytest.raises(ValueError, match="`candidates` must be listed for target 'forward_returns'"):
        auto_candidates(build_target("forward_returns", params={"horizons": [1, 5]}), n_rows=1_000, has_missing=False)
    with pytest.raises(ValueError, match="`candidates` must hold at least one, was empty"):
        require_distinct([])
    ridge = Candidate("a", choose_learner("ridge"))
    with pytest.raises(ValueError, match="`candidates` must differ, were twice: a"):
        require_distinct([ridge, ridge])
