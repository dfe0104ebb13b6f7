"""Overrides by the environment: typed and checked as YAML is, part of the configuration, on the card, the same for shell and service."""

import json
import os
import time

import psutil
import pytest

from hf_pipelines.commands.cards import card_lines, card_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.tries import candidate
from hf_pipelines.components.component_tree import read_components
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.components.yaml_lines import FaultyYAMLError
from hf_pipelines.resources.setting_variables import differing_variables, require_same_variables
from hf_pipelines.resources.trial_ledger import configuration_hash
from hf_pipelines_tests.pipeline import Project, ridge_strategy, trees_strategy

RIDGE, TREES = ridge_strategy("ranking"), trees_strategy("ranking__trees")


@pytest.fixture
def project(small_project: Project, tmp_path) -> Project:
    project = small_project.copy(tmp_path / "project")
    project.rewrite(project.market, [RIDGE, TREES])
    return project


def components(project):
    return read_components(project.folder / project.package / "defs")


def strategy_of(project, name):
    found, faults = components(project)
    assert not faults
    return next(each for each in found.values() if each.name == name)


@pytest.mark.parametrize(
    ("variable", "text", "name", "get", "value"),
    [
        ("RANKING__TARGET__HORIZON_BARS", "3", "ranking", lambda each: each.target.horizon_bars, 3),
        ("RANKING__LEARNER__PARAMS__ALPHA", "2.5", "ranking", lambda each: each.learner.params, {"alpha": 2.5}),
        # Of two strategies the one whose whole name it is.
        (
            "RANKING__TREES__LEARNER__PARAMS__MAX_DEPTH",
            "4",
            "ranking__trees",
            lambda each: each.learner.params["max_depth"],
            4,
        ),
        (
            "RANKING__FEATURES",
            "[quick, -quick/quick_gap_5]",
            "ranking",
            lambda each: [*each.features],
            ["quick", "-quick/quick_gap_5"],
        ),
        ("RANKING__BACKTEST__CASH_LIMIT", "true", "ranking", lambda each: each.backtest.cash_limit, True),
        ("RANKING__FEATURES__0", "quick/quick_roc_2", "ranking", lambda each: [*each.features], ["quick/quick_roc_2"]),
        ("RANKING__DESCRIPTION", "'4'", "ranking", lambda each: each.description, "4"),
    ],
)
def test_a_variable_sets_one_field_of_one_strategy(project, monkeypatch, variable, text, name, get, value):
    before = {each: strategy_of(project, each) for each in ("ranking", "ranking__trees")}
    monkeypatch.setenv(f"HF_SET__{variable}", text)
    found = {each: strategy_of(project, each) for each in before}
    assert get(found[name]) == value != get(before[name])
    (other,) = {*before} - {name}
    assert found[other] == before[other] and not found[other].overrides
    assert len(found[name].overrides) == 1


def test_a_capital_that_the_registry_has_is_found(project, monkeypatch):
    classes = {"type": "direction", "horizon_bars": 2, "params": {"upper": 0.004, "lower": -0.004}}
    project.rewrite(strategies=[{**TREES, "name": "one", "target": classes, "learner": {"type": "logistic"}}])
    monkeypatch.setenv("HF_SET__ONE__LEARNER__PARAMS__C", "0.5")
    assert strategy_of(project, "one").learner.params == {"C": 0.5}


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        (
            "RANKING__TARGET__HORIZON",
            "3",
            r"`target.horizon` must be a field .*HF_SET__RANKING__TARGET__HORIZON=3 in the environment",
        ),
        ("RANKING__LERNER__SEED", "3", "`lerner` must be a field .* did you mean learner"),
        ("RANKING__LEARNER__PARAMS__ALFA", "3", "`params` of 'ridge' must be among .* did you mean alpha"),
        ("RANKING__LEARNER__PARAMS__ALPHA", "many", "`alpha` of 'ridge' must be a number, was 'many'"),
        ("RANKING__LEARNER__SEED", "2.5", "`learner.seed` must be a whole number"),
        ("RANKING__LEARNER__SEED", "!!int 2", "must be a plain value"),
        ("RANKING__LEARNER__SEED", "", "must be given a value on one line"),
        ("RANKING__NAME", "other", "must name a field of strategy ranking"),
        ("RANKING__", "4", "must name a field of strategy ranking"),
    ],
)
def test_a_field_that_is_none_is_refused_at_its_strategy_and_others_load(project, monkeypatch, variable, text, message):
    monkeypatch.setenv(f"HF_SET__{variable}", text)
    found, faults = components(project)
    assert [folder.name for folder in faults] == ["ranking"] and "ranking__trees" in {
        each.name for each in found.values()
    }
    (fault,) = faults.values()
    with pytest.raises(FaultyYAMLError, match=message):
        raise FaultyYAMLError(fault)


@pytest.mark.parametrize(
    "variable", ["RANKIN__TARGET__HORIZON_BARS", "RANKING", "", "SMALL__CALENDAR", "RANKING_TARGET"]
)
def test_a_variable_of_no_strategy_is_refused(project, monkeypatch, variable):
    monkeypatch.setenv(f"HF_SET__{variable}", "3")
    with pytest.raises(FaultyYAMLError, match="with a strategy of the project .*ranking, ranking__trees.*was of none"):
        components(project)


def test_an_override_is_part_of_the_configuration_on_the_card_and_in_the_status(project, monkeypatch):
    week = project.weeks[10]
    project.make(["small/bars", "small/features/quick"], project.weeks[0], week)

    def told():
        project.reload()
        pipeline = project.pipeline
        return configuration_hash(settings_of(pipeline.strategy("ranking"))), pipeline

    plain = told()[0]
    monkeypatch.setenv("HF_SET__RANKING__LEARNER__PARAMS__ALPHA", "2.5")
    overridden, pipeline = told()
    # As if the YAML had been written so.
    with monkeypatch.context() as patch:
        patch.delenv("HF_SET__RANKING__LEARNER__PARAMS__ALPHA")
        project.rewrite(strategies=[{**RIDGE, "learner": {"type": "ridge", "params": {"alpha": 2.5}}}, TREES])
        assert told()[0] == overridden != plain
        project.rewrite(strategies=[RIDGE, TREES])
    pipeline = told()[1]
    project.make([f"ranking/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], week)
    card = card_of(pipeline, "ranking")
    assert card["overrides"] == {"learner.params.alpha": 2.5} and card["learner"]["params"]["alpha"] == 2.5
    assert "  set by the environment: learner.params.alpha=2.5" in [*card_lines(card)]
    with pytest.raises(ValueError, match="must be of a field that the environment leaves alone"):
        candidate(pipeline, "ranking", ["learner.params.alpha=4"])


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A service that runs, this process, with overrides of its own."""
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    (tmp_path / "stack").mkdir()
    state = tmp_path / "stack" / "operator.json"

    def write(overrides, pid=None):
        pid = pid or os.getpid()
        state.write_text(json.dumps({"pid": pid, "id": "x", "command": "hfp ui", "overrides": overrides}))
        return state

    return write


def test_a_shell_with_other_overrides_than_the_service_is_refused(service, monkeypatch):
    require_same_variables()
    service({"HF_SET__RANKING__LEARNER__SEED": "3"})
    with pytest.raises(
        ValueError,
        match=r"overrides of the running hfp ui .*LEARNER__SEED is not set here, 3 there.*export HF_SET__RANKING__LEARNER__SEED=3; or stop",
    ):
        require_same_variables()
    monkeypatch.setenv("HF_SET__RANKING__LEARNER__SEED", "4")
    assert differing_variables() == ["HF_SET__RANKING__LEARNER__SEED is 4 here, 3 there"]
    monkeypatch.setenv("HF_SET__RANKING__LEARNER__SEED", "3")
    require_same_variables()


def test_a_service_that_has_ended_refuses_nobody(service):
    state = service({"HF_SET__A__B": "3"}, pid=max(psutil.pids()) + 1_000)
    require_same_variables()
    service({"HF_SET__A__B": "3"})
    # The number belongs to a process that began after the file was written.
    long_ago = time.time() - 10_000_000
    os.utime(state, (long_ago, long_ago))
    require_same_variables()
    state.write_text("{")
    require_same_variables()


def test_a_supervisor_notes_the_overrides_that_it_began_with(tmp_path, monkeypatch):
    from hf_pipelines.serving.lease import one_supervisor

    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HF_SET__RANKING__LEARNER__SEED", "3")
    with one_supervisor(tmp_path / "stack", "operator", "hfp ui"):
        monkeypatch.setenv("HF_SET__RANKING__LEARNER__SEED", "5")
        assert differing_variables() == ["HF_SET__RANKING__LEARNER__SEED is 5 here, 3 there"]
    assert differing_variables() == []


def test_status_shows_what_is_set_and_what_the_service_has_not(service, monkeypatch, project):
    service({})
    monkeypatch.setenv("HF_SET__RANKING__LEARNER__SEED", "3")
    project.reload()
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    plans = {each.name: each.overrides for each in pipeline.strategies()}
    assert plans == {"ranking": {"learner.seed": 3}, "ranking__trees": {}}
