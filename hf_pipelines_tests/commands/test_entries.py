"""Entries in words: every one of every registry, with the parameters that the YAML takes."""

import pytest

from hf_pipelines.commands.entries import FIELDS, entries_lines
from hf_pipelines.components.modules import REGISTRIES


def test_every_entry_of_every_registry_is_listed_under_its_field():
    assert set(FIELDS) == set(REGISTRIES)
    lines = list(entries_lines(None))
    for table, field in FIELDS.items():
        for name in REGISTRIES[table].entries:
            assert any(line.split(" ")[:2] in ([f"{field}:", name], [f"{field}:", f"{name}:"]) for line in lines), name


def test_parameters_are_told_with_default_range_and_meaning():
    lines = list(entries_lines("learner.type: (ridge|xgboost|voting)"))
    assert lines[0] == (
        "learner.type: xgboost (xgboost): classification or regression, takes unknown features; also xgboost_classifier"
    )
    assert "  max_depth = 6 (whole, 1 to 30): levels of a tree" in lines
    assert "  tree_method = hist (hist, approx, exact): how splits are looked for" in lines
    assert "learner.type: ridge (sklearn): regression" in lines
    assert "  fit_intercept = true (true or false): whether the mean is fitted apart" in lines
    assert lines[-2].startswith(
        "  members = required (2 to 20 times: a learner: type, params, preprocessing): the learners"
    )


def test_what_matches_nothing_is_told_with_what_is_near():
    with pytest.raises(ValueError, match=r"`pattern` must match an entry \(near it: ridge, .*\), was 'rigde'"):
        list(entries_lines("rigde"))
    with pytest.raises(ValueError, match=r"`pattern` must be a word or a regular expression, was '\('"):
        list(entries_lines("("))
