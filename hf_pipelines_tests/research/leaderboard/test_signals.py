"""Noise and planted signals: what a leaderboard says of them. The whole list of `auto` over 20 seeds in `make long`."""

import pytest

from hf_pipelines.research.leaderboard import auto_candidates
from hf_pipelines.research.significance import adjust_holm
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.learner_signals import INTERACTION, LINEAR, Panel, signal_matrix
from hf_pipelines_tests.noise_table import FAMILY_ERROR, N_SEEDS, panel_matrix
from hf_pipelines_tests.research.leaderboard.contests import cheap_candidates, leaderboard_of

PANEL = Panel(symbols=20, sessions=150, test_sessions=80, skill={LINEAR: 0.3, INTERACTION: 0.6})
# Of so many rows no tree comes as near to a line as a line.
LARGE = Panel(symbols=60, sessions=200, test_sessions=80, skill=PANEL.skill)
LINES = {"ridge", "lasso", "elastic_net", "huber", "logistic"}
TREES = {"xgboost", "lightgbm", "hist_gradient_boosting", "random_forest", "extra_trees"}
KINDS = ("forward_return", "direction", "rank")


def noise_of(target, *, seed, symbols=8, sessions=120):
    return panel_matrix(target, seed=seed, symbols=symbols, sessions=sessions, persistence=0.9, n_features=5)


def first_names(found, n):
    return [each.split(",")[0].split(" ")[0] for each in found.table["candidate"].head(n)]


def test_on_noise_nothing_beats_the_baselines():
    target = build_target("forward_return", horizon_bars=3)
    found = leaderboard_of(noise_of(target, seed=1), target, cheap_candidates(target))
    assert not found.beats_baselines and found.verdict.startswith("Nothing is shown to beat the baselines")


def test_a_leak_is_found_where_noise_was():
    target = build_target("forward_return", horizon_bars=3)
    matrix = noise_of(target, seed=1)
    leaking = matrix.with_columns(
        feature_0=(matrix["target"] + 0.02 * matrix["feature_0"]).cast(matrix.schema["feature_0"])
    )
    found = leaderboard_of(leaking, target, cheap_candidates(target)[:3])
    assert found.beats_baselines and found.verdict.startswith("A candidate beats the baselines")


def test_planted_interaction_puts_trees_first_and_a_planted_line_linear_models():
    target = build_target("rank", horizon_bars=1)
    candidates = [each for each in cheap_candidates(target) if "nearest" not in each.name]
    trees = leaderboard_of(signal_matrix(target, PANEL, INTERACTION, seed=1), target, candidates)
    lines = leaderboard_of(signal_matrix(target, PANEL, LINEAR, seed=1), target, candidates)
    assert {*first_names(trees, 4)} <= TREES and trees.beats_baselines
    assert {*first_names(lines, 3)} <= LINES and lines.beats_baselines
    assert not any(name in LINES for name in first_names_of_the_best(trees))


def first_names_of_the_best(found):
    members = found.table.filter("may_be_best")["candidate"]
    return [each.split(",")[0].split(" ")[0] for each in members]


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_on_twenty_panels_of_noise_no_verdict_is_more_than_chance_makes(kind):
    target = build_target(kind, horizon_bars=3)
    found = [
        leaderboard_of(
            matrix := noise_of(target, seed=seed),
            target,
            auto_candidates(target, n_rows=matrix.height, has_missing=False),
            n_resamples=20_000,
        )
        for seed in range(N_SEEDS)
    ]
    p = [each.p for each in found]
    print(
        kind,
        "smallest p",
        min(p),
        "by Holm",
        min(adjust_holm(p)),
        "said to beat",
        sum(each.beats_baselines for each in found),
    )
    assert min(adjust_holm(p)) >= FAMILY_ERROR
    # Of 20 verdicts at 5 % more than four are as rare as 0.3 %.
    assert sum(each.beats_baselines for each in found) <= 4


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_planted_signals_are_found_by_their_kind_of_learner_over_the_whole_list(kind):
    target = build_target(kind, horizon_bars=1)
    candidates = auto_candidates(target, n_rows=12_000, has_missing=False)
    candidates = [each for each in candidates if "nearest" not in each.name]
    trees = leaderboard_of(signal_matrix(target, LARGE, INTERACTION, seed=1), target, candidates)
    lines = leaderboard_of(signal_matrix(target, LARGE, LINEAR, seed=1), target, candidates)
    assert first_names(trees, 1)[0] in TREES and trees.beats_baselines
    assert first_names(lines, 1)[0] in LINES and lines.beats_baselines
