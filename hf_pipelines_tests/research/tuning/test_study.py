"""Studies: the same for any workers and after any interruption; what is pruned, failed, repeated or never reached."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import optuna
import pytest

from hf_pipelines.research.tuning import (
    SAMPLERS,
    Budget,
    Design,
    Goal,
    MemoryJournal,
    Outcome,
    Trial,
    read_space,
    run_study,
)

LOSS = (Goal("loss", False),)

SPACE = read_space(
    {
        "x": {"type": "float", "low": -5.0, "high": 5.0},
        "rate": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
        "k": {"type": "int", "low": 1, "high": 9},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
        "depth": {"type": "int", "low": 1, "high": 8, "when": {"kind": "b"}},
    }
)
COUNTABLE = read_space(
    {
        "x": {"type": "float", "low": -2.0, "high": 2.0, "step": 0.5},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
    }
)


# The best point of the space has 0.
def planted(point):
    loss = (
        (point["x"] - 1.5) ** 2 + 0.3 * abs(math.log10(point.get("rate", 0.1)) + 1) + 0.1 * abs(point.get("k", 4) - 4)
    )
    return loss + (0.05 * abs(point.get("depth", 3) - 3) if point["kind"] == "b" else 1.0)


def evaluate(task):
    return Outcome("completed", (planted(task.point),))


def threads(n):
    def run(function, tasks):
        def late(at_task):
            # The first of a round ends last.
            time.sleep(0.002 * (len(tasks) - at_task[0]))
            return function(at_task[1])

        with ThreadPoolExecutor(n) as pool:
            yield from pool.map(late, enumerate(tasks))

    return run


def design(sampler="tpe", *, trials=24, **options):
    space = COUNTABLE if sampler == "grid" else SPACE
    return Design(
        **{"space": space, "goals": LOSS, "budget": Budget(trials=trials), "sampler": sampler, "seed": 7, **options}
    )


@pytest.fixture(scope="module")
def undisturbed():
    return {name: run_study(design(name, trials=17 if name == "gp" else 24), evaluate) for name in SAMPLERS}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n", [2, 8])
def test_study_is_the_same_for_any_number_of_workers(name, n, undisturbed):
    if name == "gp" and n == 2:
        pytest.skip("a model of a Gaussian process costs a second: 1 and 8 workers are compared")
    assert run_study(undisturbed[name].design, evaluate, map_trials=threads(n)).hash == undisturbed[name].hash


class KilledError(Exception):
    """Stands for a process that ends at this place."""


@pytest.mark.parametrize("name", [each for each in SAMPLERS if each != "gp"])
@pytest.mark.parametrize("after", [0, 3, 8, 17])
def test_study_that_stopped_at_any_trial_goes_on_to_the_same_bits(name, after, undisturbed):
    expected, journal, evaluated = undisturbed[name], MemoryJournal(), []
    if after >= len(expected.trials):
        pytest.skip("the grid has fewer points")

    def dying(task):
        if len(evaluated) == after:
            raise KilledError
        evaluated.append(task.slot)
        return evaluate(task)

    with pytest.raises(KilledError):
        run_study(expected.design, dying, journal=journal)
    evaluated_before = [*evaluated]
    evaluated.clear()

    def counting(task):
        evaluated.append(task.slot)
        return evaluate(task)

    resumed = run_study(expected.design, counting, journal=journal)

    assert resumed.hash == expected.hash
    assert {*evaluated}.isdisjoint(evaluated_before)
    assert sorted([*evaluated, *evaluated_before]) == [each.slot for each in expected.trials if each.repeats is None]


def test_other_seed_is_another_study(undisturbed):
    assert run_study(design("tpe", seed=8), evaluate).hash != undisturbed["tpe"].hash


@pytest.mark.parametrize(
    "name, trials, within",
    [
        ("grid", 18, 0.0),
        ("random", 200, 0.5),
        ("qmc", 128, 0.5),
        ("tpe", 100, 0.25),
        pytest.param("gp", 32, 0.25, marks=pytest.mark.long),
        ("cmaes", 150, 0.25),
        ("nsga2", 200, 0.25),
    ],
)
def test_planted_optimum_is_found_within_the_budget(name, trials, within):
    found = run_study(design(name, trials=trials), evaluate)
    best = found.best.outcome.values[0]
    # Of the grid it is a point; the whole range is from 0 to 45.
    assert best <= within + 1e-12
    assert best == min(each.outcome.values[0] for each in found.trials)


def test_learning_samplers_need_fewer_trials_than_chance():
    bests = {
        name: np.mean(
            [run_study(design(name, trials=60, seed=seed), evaluate).best.outcome.values[0] for seed in range(2)]
        )
        for name in ("random", "tpe", "cmaes")
    }
    assert max(bests["tpe"], bests["cmaes"]) < bests["random"]


# ---- pruning


def by_fold(task):
    """Five folds whose scores differ by a number of their own, as real ones do."""
    scores = []
    for fold in range(5):
        scores.append(planted(task.point) + math.sin(fold))
        if task.is_hopeless(scores):
            return Outcome("pruned", fold_scores=tuple(scores))
    return Outcome("completed", (float(np.mean(scores)),), tuple(scores))


@pytest.mark.parametrize("keeps, share", [(0.5, 0.75), (0.25, 0.7)])
def test_pruning_is_the_same_for_any_workers_and_counts_every_trial(keeps, share):
    asked = design("tpe", trials=48, keeps=keeps)
    one, eight = run_study(asked, by_fold), run_study(asked, by_fold, map_trials=threads(8))

    assert one.hash == eight.hash
    assert len(one.trials) == 48
    assert one.count("pruned") + one.count("completed") == 48
    assert one.count("pruned") > 10
    n_folds = sum(len(each.outcome.fold_scores) for each in one.trials)
    assert n_folds < share * 48 * 5
    # The folds of pruned trials are counted as run, and never all five.
    assert {len(each.outcome.fold_scores) for each in one.trials if each.outcome.state == "pruned"} <= {1, 2, 3, 4}


def test_pruned_trial_is_one_that_optunas_median_pruner_gives_up_after_the_first_fold():
    """Ours compares the mean of the folds so far, Optuna's the best value so far: after one fold these are the same."""
    found = run_study(design("random", trials=48, keeps=0.5), by_fold)
    n_checked = 0
    for each in found.trials[8:]:
        earlier = found.trials[: each.slot // 8 * 8]
        study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0))
        study.add_trials(
            [
                optuna.trial.create_trial(
                    value=one.outcome.values[0], intermediate_values=dict(enumerate(one.outcome.running_means()))
                )
                for one in [each for each in earlier if each.outcome.state == "completed"][-16:]
            ]
        )
        asked = study.ask()
        asked.report(each.outcome.fold_scores[0], 0)
        assert asked.should_prune() == (each.outcome.state == "pruned" and len(each.outcome.fold_scores) == 1)
        n_checked += 1
    assert n_checked == 40


def test_several_objectives_cannot_prune():
    with pytest.raises(
        ValueError, match="`prune` must be left out with several objectives, was given with loss, bytes"
    ):
        design(goals=(*LOSS, Goal("bytes", False)), keeps=0.5)


# ---- several objectives, constraints


def test_constraint_keeps_the_best_out_and_guides_the_sampler():
    def bounded(task):
        return Outcome("completed", (planted(task.point),), excesses=(("x", task.point["x"]),))

    found = run_study(design("tpe", trials=64), bounded)

    assert found.best.outcome.is_feasible
    assert found.best.point["x"] <= 0
    assert min(found.trials, key=lambda each: each.outcome.values[0]).point["x"] > 0
    late = [each.outcome.is_feasible for each in found.trials[32:]]
    assert np.mean(late) > 0.6


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_two_objectives_give_a_front_the_same_for_any_workers(name):
    def two(task):
        return Outcome("completed", (planted(task.point), abs(task.point["x"] + 2)))

    asked = design(name, trials=32, goals=(*LOSS, Goal("size", False)))
    found = run_study(asked, two)

    assert len(found.front) >= 3
    sizes = [each.outcome.values for each in sorted(found.front, key=lambda each: each.outcome.values)]
    assert [b for _, b in sizes] == sorted((b for _, b in sizes), reverse=True)
    assert run_study(asked, two, map_trials=threads(8)).hash == found.hash


def test_cma_es_refuses_two_objectives_and_names_who_does():
    with pytest.raises(ValueError, match="was 'cmaes', which follows 1; take one of gp, grid, nsga2, qmc, random, tpe"):
        design("cmaes", goals=(*LOSS, Goal("size", False)))


# ---- what goes wrong


def test_trial_that_raises_or_scores_nan_has_failed_and_is_counted():
    def failing(task):
        if task.slot % 4 == 1:
            raise ValueError("fold 0, learner ridge: alpha is too large")
        return Outcome("completed", (math.nan if task.slot % 4 == 2 else planted(task.point),))

    found = run_study(design("tpe", trials=32), failing)

    assert found.count("failed") == 16
    assert found.count("completed") == 16
    table = found.table()
    assert table["error"].to_list()[1:3] == [
        "fold 0, learner ridge: alpha is too large",
        "the score is not a finite number (nan)",
    ]
    assert found.best.slot % 4 in (0, 3)
    # JSON of a failed trial is JSON: no NaN.
    json.loads(json.dumps([each.to_json() for each in found.trials], allow_nan=False))
    assert run_study(design("tpe", trials=32), failing, map_trials=threads(8)).hash == found.hash


def test_fault_that_is_not_of_the_configuration_stops_the_study():
    def broken(task):
        raise OSError("the store does not answer")

    with pytest.raises(OSError, match="does not answer"):
        run_study(design(), broken)


def test_study_without_a_completed_trial_has_no_best():
    def failing(task):
        raise ValueError(f"slot {task.slot} is bad")

    found = run_study(design(trials=10), failing)
    assert found.table()["is_best"].to_list() == [False] * 10
    with pytest.raises(ValueError, match="completed none of 10; the first, slot 0, says: slot 0 is bad"):
        _ = found.best


@pytest.mark.parametrize("name", ["random", "tpe", "grid", "nsga2"])
def test_space_of_one_point_is_one_trial(name):
    space = read_space(
        {"kind": {"type": "categorical", "choices": ["b"]}, "x": {"type": "float", "low": 1.5, "high": 1.5}}
    )
    found = run_study(design(name, trials=100, space=space), evaluate)
    assert [each.point for each in found.trials] == [{"kind": "b", "x": 1.5}]
    assert found.ended_by == "whole space"


def test_zero_trials_are_refused():
    with pytest.raises(ValueError, match="`trials` must be above zero, was 0; leave out `tuning` to tune nothing"):
        Budget(trials=0)


def test_point_that_was_tried_is_not_evaluated_again():
    evaluated = []

    def counting(task):
        evaluated.append(json.dumps(task.point))
        return evaluate(task)

    found = run_study(design("random", trials=200, space=COUNTABLE), counting)

    assert len(evaluated) == len({*evaluated}) == 18
    assert found.ended_by == "whole space"
    repeats = [each for each in found.trials if each.repeats is not None]
    assert repeats
    for each in repeats:
        assert found.trials[each.repeats].point == each.point
        assert found.trials[each.repeats].outcome == each.outcome


def test_grid_tries_every_point_once():
    found = run_study(design("grid", trials=1_000), evaluate)
    assert [each.point for each in found.trials] == [*COUNTABLE.points()]
    assert found.ended_by == "whole space"


def test_grid_of_a_range_without_steps_is_refused():
    with pytest.raises(ValueError, match="`x` must have countable values, was float without a step; give it a `step`"):
        design("grid", space=SPACE)


def test_no_improvement_ends_the_study_after_whole_rounds():
    def flat(task):
        return Outcome("completed", (1.0 if task.slot else 0.0,))

    found = run_study(design("random", trials=500, budget=Budget(trials=500, no_improvement=20)), flat)
    # 20 trials after slot 0 are reached in the third round of eight.
    assert len(found.trials) == 24
    assert found.ended_by == "no improvement"


def test_seconds_end_the_study_after_a_whole_round():
    ticks = iter(range(0, 10_000, 10))
    found = run_study(
        design("random", budget=Budget(trials=500, seconds=25)), evaluate, clock=lambda: float(next(ticks))
    )
    assert (len(found.trials), found.ended_by) == (24, "seconds")


def test_warm_start_is_tried_first_and_told_to_the_sampler():
    best = {"x": 1.5, "rate": 0.1, "k": 4, "kind": "b", "depth": 3}
    found = run_study(design("tpe", trials=16, first=(best,)), evaluate)
    assert found.trials[0].point == best
    assert found.best.slot == 0
    # The random draws of a sampler are not used up by it.
    cold, warm = (run_study(design("random", trials=9, first=first), evaluate) for first in ((), (best,)))
    assert [each.point for each in warm.trials[1:]] == [each.point for each in cold.trials[:8]]


def test_journal_of_another_study_is_refused():
    journal = MemoryJournal()
    run_study(design("tpe"), evaluate, journal=journal)
    with pytest.raises(ValueError, match="`journal` must hold this study, was with another point in slot 0"):
        run_study(design("tpe", seed=8), evaluate, journal=journal)


def test_slots_are_begun_before_they_are_evaluated():
    journal = MemoryJournal()

    def evaluate_begun(task):
        assert task.slot in journal.begun
        assert task.slot not in journal.known()
        return evaluate(task)

    run_study(design("tpe"), evaluate_begun, journal=journal)
    assert journal.begun == [*range(24)]


def test_trial_read_from_its_own_json_is_equal_to_the_bit():
    trial = Trial(
        3,
        {"x": 0.1 + 0.2, "kind": None, "n": 4, "on": True},
        Outcome("completed", (1 / 3, -2.0), (0.1, 0.2), (("max_drawdown", -0.1),), (("auc", 0.5),)),
        "{}",
        1,
    )
    assert Trial.from_json(json.loads(json.dumps(trial.to_json()))) == trial
    pruned = replace(trial, outcome=Outcome("pruned", fold_scores=(0.5,)), repeats=None)
    assert Trial.from_json(json.loads(json.dumps(pruned.to_json()))) == pruned
