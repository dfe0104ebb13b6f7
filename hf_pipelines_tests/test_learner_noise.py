"""Noise over every learner, the short form of the table in `make noise`: chance, and a leak of preprocessing that is found."""

import itertools
import math

from hf_pipelines.research.learners import LEARNERS, PREPROCESSING
from hf_pipelines.research.splitters import SPLITTERS
from hf_pipelines_tests.learner_noise import (
    LEAK,
    LEAKING,
    LEAKING_FEATURES,
    PLAIN,
    DesignRun,
    Judged,
    adjusted,
    judge_runs,
    leak_runs,
    missing_pairs,
    pairwise_design,
    whole_design,
)
from hf_pipelines_tests.noise_table import FAMILY_ERROR, N_SEEDS
from hf_pipelines_tests.sample_learners import costly_learners, learner_levels

# The command fits them.
COSTLY = costly_learners()


def test_the_design_holds_every_pair_and_every_learner_on_every_panel():
    runs, factors = whole_design(), (learner_levels(), sorted(SPLITTERS), [PLAIN, *sorted(PREPROCESSING)])
    assert missing_pairs(runs, *factors) == set()
    assert {(run.seed, *run.learner) for run in runs} == {
        (seed, *each) for seed in range(N_SEEDS) for each in factors[0]
    }
    # No fewer would do for the panels, and no more are taken.
    assert len(runs) == N_SEEDS * len(factors[0])
    # Each splitter and each step on most panels: their means are over panels.
    for level in (*factors[1], *factors[2]):
        assert len({run.seed for run in runs if level in (run.splitter, run.step)}) > N_SEEDS / 2, level


def test_a_small_design_by_brute_force_and_a_pair_that_is_taken_out_is_missed():
    factors = ([("ridge", "regression"), ("last_value", "regression")], ["a", "b", "c"], [PLAIN, "winsorising", "pca"])
    runs = pairwise_design(*factors, n_seeds=1)
    # Three splitters by three steps.
    assert len(runs) == 9
    # A selection of columns takes away what the second learner reads by its name.
    assert ("last_value", "pca") not in {(run.learner[0], run.step) for run in runs}
    for learner, splitter in itertools.product(*factors[:2]):
        assert any(run.learner == learner and run.splitter == splitter for run in runs)
    assert missing_pairs(runs, *factors) == set()
    for taken in runs:
        assert (taken.splitter, taken.step) in missing_pairs([run for run in runs if run is not taken], *factors)


def test_every_learner_finds_chance_in_noise():
    """A run of each that costs little, each on a panel of its own; twenty by the command."""
    taken: dict[tuple[str, str], DesignRun] = {}
    for run in whole_design():
        if run.learner[0] not in COSTLY:
            taken.setdefault(run.learner, run)
    runs = list(taken.values())
    judged = judge_runs(runs)
    assert {run.learner[0] for run in runs} == {*LEARNERS} - COSTLY
    (of_all,) = (each for each in judged if (each.factor, each.score) == ("all", "accuracy"))
    assert len(of_all.excess) > 10 and math.isfinite(of_all.p)
    assert min(adjusted(judged)) > FAMILY_ERROR


def test_a_step_that_is_fitted_on_test_rows_is_found_and_one_inside_the_fold_is_not():
    seeds = 8
    leaked = judge_runs(leak_runs(LEAK, n_seeds=seeds)[:seeds], n_features=LEAKING_FEATURES, is_leaking=True)
    honest = judge_runs(leak_runs("k_best", n_seeds=seeds)[:seeds], n_features=LEAKING_FEATURES)
    assert LEAKING[0] == ("ridge", "regression") and LEAK not in PREPROCESSING
    assert min(adjusted(leaked)) < FAMILY_ERROR < min(adjusted(honest))
    assert max(each.mean for each in leaked) > 0.1


def test_what_says_nothing_is_not_tested():
    constant, few = Judged("learner", "mean", "x", (0.0,) * 5), Judged("learner", "rare", "x", (0.1, 0.2))
    found = Judged("learner", "found", "x", (0.1, 0.11, 0.1, 0.12, 0.11))
    assert math.isnan(constant.p) and math.isnan(few.p)
    # Alone it is one test.
    assert adjusted([constant, found, few]) == [1.0, found.p, 1.0]
