"""The picture of a leaderboard: of every kind of table, and the same bytes for the same one."""

import pytest

from hf_pipelines.research.leaderboard import METRICS, Entry, rank_entries
from hf_pipelines.research.leaderboard.plots import _limits, leaderboard_png
from hf_pipelines_tests.research.leaderboard.test_ranking import NOISE, NONE, Y, baseline, completed


def board_of(n):
    entries = [completed(f"candidate {at}", 0.5 * Y + at / n * NOISE[at % 6]) for at in range(n)]
    failed = Entry("failed", "failed", reason="no")
    return rank_entries(
        [*entries, failed, baseline("mean", NONE), baseline("far", NONE + 50.0)], METRICS["mse"], label_sessions=1
    )


@pytest.mark.pictures
def test_picture_is_drawn_of_few_and_of_many_to_the_same_bytes():
    few, many = board_of(3), board_of(40)
    drawn = [leaderboard_png(each, heading="ranking, week 2012-04-01") for each in (few, few, many)]
    assert drawn[0] == drawn[1] != drawn[2] and all(each.startswith(b"\x89PNG") for each in drawn)


def test_axis_holds_the_candidates_and_the_best_baseline_and_not_one_far_behind():
    found = board_of(6).table.drop_nulls("rank")
    low, high = _limits(found)
    kept = found.filter(found["candidate"] != "far")
    assert low < kept["value"].min() and kept["value"].max() < high < 50.0**2
