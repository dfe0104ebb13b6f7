"""Entries in words: every one of every registry, with the parameters that the YAML takes."""

import pytest

from hf_pipelines.commands.entries import entries_lines
from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.research.backtest import CAPABILITIES


def test_every_entry_of_every_registry_is_listed_under_its_field():
    lines = list(entries_lines(None))
    for field, entries, *_ in REGISTRIES.values():
        for name in entries:
            assert any(line.split(" ")[:2] in ([f"{field}:", name], [f"{field}:", f"{name}:"]) for line in lines), name


def test_parameters_are_told_with_default_range_and_meaning():
    lines = list(entries_lines("learner.type: (ridge|xgboost|voting)"))
    assert lines[0] == (
        "learner.type: xgboost (xgboost): classification or regression, takes unknown features. "
        "Boosted trees of XGBoost, a fixed number of them; also xgboost_classifier"
    )
    assert "  max_depth = 6 (whole, 1 to 30): levels of a tree" in lines
    assert "  tree_method = hist (hist, approx, exact): how splits are looked for" in lines
    assert any(each.startswith("learner.type: ridge (sklearn): regression. Least squares") for each in lines)
    assert "  fit_intercept = true (true or false): whether the mean is fitted apart" in lines
    assert lines[-2].startswith(
        "  members = required (2 to 20 times: a learner: type, params, preprocessing): the learners"
    )


def test_what_must_be_given_and_what_an_engine_simulates_is_told():
    lines = list(entries_lines("target.type: meta_label|reference|training.weighting: time_decay"))
    assert "  horizon_bars = required (whole, 1 to 10080): bars of the symbol to look ahead" in lines
    assert lines[0].endswith("for a rule of your own, which takes no higher prediction for a higher return")
    assert lines[-1].endswith(f" Simulates {', '.join(sorted(CAPABILITIES))}.")
    assert "  half_life_sessions = 252 (1 to 100000): sessions after which a row counts half" in lines


def test_what_matches_nothing_is_told_with_what_is_near():
    with pytest.raises(ValueError, match=r"`pattern` must match an entry \(near it: ridge, .*\), was 'rigde'"):
        list(entries_lines("rigde"))
    with pytest.raises(ValueError, match=r"`pattern` must be a word or a regular expression, was '\('"):
        list(entries_lines("("))
