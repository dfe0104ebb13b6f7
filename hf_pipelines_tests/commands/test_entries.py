"""Entries in words: every one of every registry, with the parameters that the YAML takes; features, markets and strategies."""

import json

import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.commands.entries import KINDS, PLURALS, entry_row, listed
from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.research.backtest import CAPABILITIES
from hf_pipelines.research.features import FEATURES


def lines_of(kind: str, pattern: str) -> list[str]:
    return list(listed(kind, pattern, tell=pytest.fail).lines)


def test_every_entry_of_every_registry_is_listed_under_its_field():
    assert {*PLURALS} == {*REGISTRIES} and {*PLURALS.values()} < {*KINDS}
    for table, kind in PLURALS.items():
        found = listed(kind, None, tell=pytest.fail)
        field, entries, *_ = REGISTRIES[table]
        assert [row["name"] for row in found.rows] == [*entries]
        for name in entries:
            assert any(
                line.split(" ")[:2] in ([f"{field}:", name], [f"{field}:", f"{name}:"]) for line in found.lines
            ), name


def test_parameters_are_told_with_default_range_search_space_and_meaning():
    lines = lines_of("learners", "^(ridge|xgboost|voting)$")
    assert lines[0] == (
        "learner.type: xgboost (xgboost): classification or regression, takes unknown features. "
        "Boosted trees of XGBoost, a fixed number of them; also xgboost_classifier"
    )
    assert "  max_depth = 6 (whole, 1 to 30; searched 2 to 8): levels of a tree" in lines
    assert "  tree_method = hist (hist, approx, exact): how splits are looked for" in lines
    assert any(each.startswith("learner.type: ridge (sklearn): regression. Least squares") for each in lines)
    assert "  fit_intercept = true (true or false): whether the mean is fitted apart" in lines
    assert lines[-3].startswith(
        "  members = required (2 to 20 times: a learner: type, params, preprocessing): the learners"
    )
    assert lines[-1].startswith("  source: Bates & Granger (1969)")


def test_what_must_be_given_and_what_an_engine_simulates_is_told():
    lines = lines_of("targets", "meta_label")
    assert "  horizon_bars = required (whole, 1 to 10080): bars of the symbol to look ahead" in lines
    assert lines[0].endswith("for a rule of your own, which takes no higher prediction for a higher return")
    assert lines_of("engines", "reference")[0].endswith(f" Simulates {', '.join(sorted(CAPABILITIES))}.")
    assert "  half_life_sessions = 252 (1 to 100000): sessions after which a row counts half" in lines_of(
        "weightings", "time_decay"
    )


@pytest.mark.parametrize(
    ("kind", "pattern", "said"),
    [
        ("learners", "rigde", r"`pattern` must match one of the learners \(near it: ridge.*\), was 'rigde'"),
        ("learners", "(", r"`pattern` must be a word or a regular expression, was '\('"),
        ("strategies", "momentun", r"`pattern` must match one of the strategies, was 'momentun'"),
        ("learner", None, r"`kind` must be one of markets, strategies, features, learners, .*was 'learner'"),
    ],
)
def test_what_matches_nothing_is_told_with_what_is_near(kind, pattern, said):
    with pytest.raises(ValueError, match=said):
        listed(kind, pattern, tell=pytest.fail)


def test_markets_and_strategies_are_told_by_what_they_are_made_of():
    assert lines_of("strategies", "^tech_ranking$")[1] == (
        "  market: us_tech, learner: ridge, target: forward_return over 10 bars, rule: rank_long_short"
    )
    (market,) = listed("markets", "^us_tech$", tell=pytest.fail).rows
    assert (
        market["calendar"] == "XNYS"
        and market["weeks"].startswith("2000-02-27 to ")
        and "technical" in market["features"]
    )


def test_programs_read_the_same_and_a_bare_list_tells_what_there_is(capsys):
    assert main(["list", "splitters", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps([entry_row("SPLITTERS", name) for name in REGISTRIES["SPLITTERS"].entries]))
    assert main(["list"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in told] == [*KINDS]
    assert told[3].split()[3] == str(len(REGISTRIES["LEARNERS"].entries))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("rsi_14", "technical/rsi_14", id="name"),
        pytest.param("^temporal/", "temporal/day_of_week", id="group"),
        pytest.param("WILDER", "technical/rsi_14", id="source"),
    ],
)
def test_features_lists_what_matches_in_registry_order(capsys, pattern, expected):
    assert main(["list", "features", pattern]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0].split("/")[1] for line in lines[:-1] if not line.startswith(" ")]
    assert expected.split("/")[1] in names
    assert names == [name for name in FEATURES if name in names]
    assert lines[-1] == f"{len(names)} of {len(FEATURES)} features"


def test_features_fits_a_narrow_terminal_and_lists_all_without_a_pattern(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["list", "features"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 40
    # A heading that is wrapped goes on below itself.
    assert sum(not line.startswith(" ") for line in lines) == len(FEATURES) + 1


@pytest.mark.parametrize(("pattern", "said"), [("rsi_15", "near it: rsi_14"), ("(", "must be a word or a regular")])
def test_features_without_a_match_name_those_near(capsys, pattern, said):
    assert main(["list", "features", pattern]) == 1
    assert said in capsys.readouterr().err
