"""Running candidates: the order, failures, deadlines, what was killed, and any number of workers."""

from dataclasses import replace

import polars as pl
import pytest

from hf_pipelines.research.fan_out import Lost, Threads
from hf_pipelines.research.fold_by_fold import folds_of
from hf_pipelines.research.leaderboard import Candidate, Entry, MemoryRecord, TunedBy, rank_entries, run_candidates
from hf_pipelines.research.leaderboard.scoring import METRICS
from hf_pipelines.research.learners import LEARNERS, choose_learner
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.research.leaderboard.contests import (
    SPLITTER,
    cheap_candidates,
    evaluation_of,
    leaderboard_of,
    with_baselines,
)
from hf_pipelines_tests.sample_matrix import random_matrix

TARGET = build_target("forward_return", horizon_bars=2)
MATRIX = random_matrix(TARGET, symbols=5, sessions=130, seed=3)
NAMES = ["a", "b", "c", "d"]
CANDIDATES = [Candidate(name, choose_learner("ridge", {"alpha": 10.0**at})) for at, name in enumerate(NAMES)]


def ended(candidate: Candidate) -> Entry:
    return Entry(candidate.name, "completed", artifact_bytes=len(candidate.name))


def test_entries_come_in_the_order_of_the_candidates_and_each_is_begun_before_it_runs():
    record = MemoryRecord()

    def evaluate(candidate):
        assert record.begun[-1] == candidate.name and candidate.name not in record.ended
        return ended(candidate)

    found = run_candidates(CANDIDATES, evaluate, record=record)
    assert [each.name for each in found] == record.begun == [*record.ended] == NAMES


def test_run_that_broke_goes_on_and_repeats_nothing_that_has_ended():
    record, evaluated, faults = MemoryRecord(), [], [RuntimeError("the disk is gone")]

    def evaluate(candidate):
        if candidate.name == "c" and faults:
            raise faults.pop()
        evaluated.append(candidate.name)
        return ended(candidate)

    with pytest.raises(RuntimeError, match="the disk is gone"):
        run_candidates(CANDIDATES, evaluate, record=record)
    assert [each.name for each in run_candidates(CANDIDATES, evaluate, record=record)] == NAMES
    assert evaluated == NAMES


@pytest.mark.parametrize("left, states", [([5, 5, 0], ["completed"] * 2 + ["not run"] * 2), ([0], ["not run"] * 4)])
def test_what_has_not_begun_at_the_deadline_is_listed_and_never_begun(left, states):
    record, seconds = MemoryRecord(), iter(left)
    found = run_candidates(CANDIDATES, ended, record=record, seconds_left=lambda: next(seconds))
    assert [each.state for each in found] == states
    assert record.begun == NAMES[: states.count("completed")]


def test_what_was_under_way_at_the_deadline_and_what_lost_its_process_say_so():
    def map_in_time(evaluate, tasks, left):
        drawn = [next(tasks) for _ in range(3)]
        yield 1, Lost("its process was killed")
        yield 0, evaluate(drawn[0])

    found = run_candidates(CANDIDATES, ended, map_in_time=map_in_time, seconds_left=lambda: 1.0)
    assert [each.state for each in found] == ["completed", "failed", "ended", "not run"]
    assert found[1].reason == "its process was killed"


def test_leaderboard_is_the_same_for_any_number_of_workers():
    candidates = cheap_candidates(TARGET)[::2]
    evaluate = evaluation_of(MATRIX, TARGET)
    alone, together = (
        rank_entries(
            with_baselines(run_candidates(candidates, evaluate, map_in_time=Threads(n).in_time), MATRIX, TARGET),
            METRICS["rmse"],
            label_sessions=2,
        )
        for n in (1, 4)
    )
    clocked = ["fit_seconds", "predict_seconds"]
    assert alone.table.drop(clocked).equals(together.table.drop(clocked))
    assert (alone.verdict, alone.chosen, alone.notes) == (together.verdict, together.chosen, together.notes)
    seconds = alone.table.filter(state="completed").select(clocked)
    assert (seconds > 0).min_horizontal().all()


@pytest.mark.parametrize("error", [ValueError, RuntimeError, ZeroDivisionError])
def test_candidate_that_raises_is_in_the_table_with_its_fold_and_reason(monkeypatch, error):
    def fit(estimator, rows, validation):
        raise error("no such sum")

    monkeypatch.setitem(LEARNERS, "own", replace(LEARNERS["ridge"], name="own", fit=fit))
    broken = Candidate("broken", choose_learner("own"))
    found = leaderboard_of(MATRIX, TARGET, [broken, CANDIDATES[0]])
    row = found.table.filter(candidate="broken").row(0, named=True)
    assert row["state"] == "failed" and row["rank"] is None
    assert row["reason"].startswith("fold 0, learner own") and "no such sum" in row["reason"]
    assert found.chosen == "a"


def test_missing_values_are_filled_in_or_taken_and_a_learner_that_does_neither_fails_alone():
    hole = pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col("feature_1")).alias("feature_1")
    matrix = MATRIX.with_columns(hole.fill_null(float("nan")))
    candidates = [*cheap_candidates(TARGET, has_missing=True), CANDIDATES[0]]
    found = leaderboard_of(matrix, TARGET, candidates)
    states = dict(found.table.filter(pl.col("state") != "baseline").select("candidate", "state").iter_rows())
    assert {name for name, state in states.items() if state != "completed"} == {"a"}
    assert len(states) == len(candidates) >= 10


def test_rows_of_one_symbol_that_are_gone_are_gone_for_all():
    gone = MATRIX.filter(~((pl.col("symbol") == "S1") & (pl.col("session").dt.month() >= 4)))
    found = leaderboard_of(gone, TARGET, CANDIDATES[:2])
    n_test = sum(len(test) for _, test in SPLITTER.split(gone))
    entry = evaluation_of(gone, TARGET)(CANDIDATES[0])
    assert entry.predictions.height == n_test
    assert found.table.filter(pl.col("rank").is_not_null())["n_sessions"].n_unique() == 1


def test_tuned_candidate_is_chosen_by_each_folds_own_training_rows_alone():
    pytest.importorskip("optuna")
    inner = PurgedWalkForward(n_splits=1, test_sessions=10, embargo_sessions=1, min_train_sessions=10)
    tuned_by = TunedBy(splitter=inner, trials=3, sampler="random")
    candidate = Candidate("tuned", choose_learner("ridge"), is_tuned=True)
    entry = evaluation_of(MATRIX, TARGET, tuned_by)(candidate)
    assert entry.state == "completed", entry.reason
    # Other labels in the test rows of the first fold change nothing of what it predicts.
    (first, *_) = folds_of(SPLITTER, MATRIX)
    in_test = pl.Series(range(MATRIX.height)).is_in([*first.test])
    other = MATRIX.with_columns(
        (pl.when(in_test).then(-pl.col(name)).otherwise(pl.col(name))).alias(name) for name in ("y", "target")
    )
    again = evaluation_of(other, TARGET, tuned_by)(candidate)
    values = [each.predictions.filter(fold=0)["prediction"].to_list() for each in (entry, again)]
    assert values[0] == values[1]
    plain = evaluation_of(MATRIX, TARGET)(replace(candidate, is_tuned=False))
    assert not plain.predictions["prediction"].equals(entry.predictions["prediction"])
