"""Leftovers: what a test, or a fixture of many, changes in its process is as it was when it ends, in any order of tests."""

import os

import pytest

from hf_pipelines.research.features import FEATURES
from hf_pipelines_tests.conftest import OF_A_PROJECT, quick_features, registered, restoring_project


@pytest.mark.parametrize("name", OF_A_PROJECT)
@pytest.mark.parametrize("before", [None, "/one"])
def test_project_that_a_command_names_for_its_children_is_named_no_longer(
    monkeypatch: pytest.MonkeyPatch, name: str, before: str | None
) -> None:
    if before is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, before)
    with restoring_project():
        os.environ[name] = "/another"
    assert os.environ.get(name) == before


def test_features_of_a_module_outlast_a_fixture_of_the_session_that_is_made_inside_of_it() -> None:
    features = quick_features()
    names = {feature.name for feature in features}
    assert not names & {*FEATURES}
    with registered(features):
        kept = {name: FEATURES[name] for name in names}
        with registered(quick_features()):
            pass
        assert {name: FEATURES.get(name) for name in names} == kept
    assert not names & {*FEATURES}
