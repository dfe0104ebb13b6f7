"""`<strategy>/tuning` and what takes its best: currency, the ledger, nested studies, what is selected, restarts."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.tuning import watch_study
from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.tuning.evaluation import Evaluation
from hf_pipelines.resources.trial_ledger import TrialLedger, n_trials
from hf_pipelines_tests.components.tuning_script import MODULE
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.pipeline import Project, ridge_strategy
from hf_pipelines_tests.resources.trial_ledger.trying import new_process

WEEK, NEXT = "2012-04-01", "2012-04-08"
MATRIX, TUNING, CV = "ranking/training_matrix", "ranking/tuning", "ranking/cv_results"
MODEL, BACKTEST = "ranking/fitted_model", "ranking/backtest"

ALPHA = {"type": "float", "low": 0.01, "high": 1000.0, "log": True}
SMALL = {"trials": 8, "batch": 4, "sampler": "tpe", "space": {"learner": {"alpha": ALPHA}}}
# The short matrix has room for two folds within a fold.
NESTED = {**SMALL, "nested": True, "cross_validation": {"n_splits": 2, "test_sessions": 3, "min_train_sessions": 3}}


def tuned_strategy(tuning, **attributes):
    return ridge_strategy(tuning=tuning, **attributes)


@pytest.fixture(scope="module")
def matrices(small_project: Project, tmp_path_factory) -> Project:
    """The small project with the matrices of two weeks."""
    project = small_project.copy(tmp_path_factory.mktemp("matrices") / "project")
    project.make(MATRIX, WEEK, NEXT)
    return project


@pytest.fixture
def project(matrices: Project, tmp_path: Path, monkeypatch) -> Iterator[Project]:
    monkeypatch.setenv("HF_ACTOR", "ada")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    new_process()
    found = matrices.copy(tmp_path / "project")
    found.rewrite(strategies=[tuned_strategy(SMALL)])
    yield found
    new_process()


def known(project: Project) -> pl.DataFrame:
    return TrialLedger(project.store.objects, "reader").known()


def trials_of(project: Project, week: str = WEEK) -> pl.DataFrame:
    return project.store.read(TUNING, week).frame


def test_tuned_week_is_made_of_the_best_trial_and_says_so_everywhere(project):
    run = project.make([TUNING, CV, MODEL, BACKTEST], WEEK)

    stored = project.store.read(TUNING, WEEK)
    trials, facts = stored.frame, stored.footer.facts
    assert trials.height == 8 and trials["slot"].to_list() == [*range(8)]
    best = trials.filter(pl.col("is_best")).row(0, named=True)
    assert best["value_rmse"] == trials["value_rmse"].min() == facts["values"]["rmse"]
    point = json.loads(best["point"])
    assert facts["best"] == point == {"learner.alpha": point["learner.alpha"]}
    # The same number as a cross-validation by hand at this point.
    plan = project.pipeline.strategy("ranking").tuned(point)
    matrix = project.store.read(MATRIX, WEEK).frame
    by_hand = cross_validate(
        matrix,
        learner=plan.learner.choice,
        splitter=plan.splitter.build(),
        target=plan.target,
        weightings=plan.training.weightings,
        seed=plan.learner.seed,
    )
    assert by_hand.fold_metrics["rmse"].mean() == best["value_rmse"]
    results, model = (project.store.footer(asset, WEEK) for asset in (CV, MODEL))
    assert project.store.read(CV, WEEK).frame.equals(by_hand.predictions)
    for footer in (results, model):
        assert footer.inputs[TUNING] == {WEEK: stored.footer.content_hash}
        assert footer.facts["tuned"] == point
        assert footer.facts["study"] == facts["study"]
        assert footer.facts["selected"] is True
    assert model.facts["params"]["alpha"] == point["learner.alpha"]
    # Another process sees it, and the page draws it.
    lines: list[str] = []
    assert watch_study("ranking", WEEK, lines.append, once=True) == 0
    assert len(lines) == 1 and lines[0].startswith(f"ranking/{WEEK}/")
    assert f": 8 of 8 trials; best rmse {best['value_rmse']:.6g}; done" in lines[0]
    assert {"history", "slices"} <= run.materialised[TUNING][WEEK].keys()
    # What is shown and what is checked.
    told = run.materialised[CV][WEEK]["tuning"]
    assert told.startswith("Selected, not out of sample: these folds chose the best of 8 trials")
    assert "nested: true" in told
    assert not run.checks[CV, "outer_scores"].passed
    assert run.checks[CV, "out_of_fold"].passed
    assert run.materialised[BACKTEST][WEEK]["label"].startswith("Selected, not out of sample")
    assert project.store.footer(BACKTEST, WEEK).facts["selected"] is True
    assert project.out_of_date(TUNING, CV, MODEL, BACKTEST) == {}
    # Eight configurations, the best one's trial with the account; cv_results are no ninth.
    ledger = known(project)
    assert n_trials(ledger) == 8
    assert set(ledger["source"]) == {"tuning"} and ledger["outcome"].to_list() == ["completed"] * 8
    assert ledger.filter(pl.col("returns").is_not_null()).height == 1
    (evaluated,) = ledger.filter(pl.col("returns").is_not_null()).to_dicts()
    assert evaluated["trial"] == results.facts["trial"]


def test_study_with_another_space_makes_everything_after_it_out_of_date(project):
    project.make([TUNING, CV], WEEK)
    wider = {**SMALL, "space": {"learner": {"alpha": {**ALPHA, "high": 10_000.0}}}}
    project.rewrite(strategies=[tuned_strategy(wider)])
    late = project.out_of_date(TUNING, CV)
    assert {*late} == {f"{asset} {WEEK}" for asset in (TUNING, CV)}
    assert late[f"{CV} {WEEK}"].startswith(f"input {TUNING} {WEEK} is out of date: made by code and settings")
    project.make(TUNING, WEEK)
    assert {*project.out_of_date(TUNING, CV)} == {f"{CV} {WEEK}"}


def test_weekly_retrain_job_makes_the_study_and_a_strategy_without_the_block_has_none(project):
    job = project.definitions.resolve_job_def("ranking_retrain")
    assert {"/".join(key.path) for key in job.asset_layer.executable_asset_keys} == {
        MATRIX,
        TUNING,
        CV,
        MODEL,
        BACKTEST,
    }
    project.rewrite(strategies=[ridge_strategy()])
    assert TUNING not in project.code_versions


def test_range_of_weeks_has_a_study_each(project):
    run = project.make(TUNING, WEEK, NEXT)
    assert {*run.materialised[TUNING]} == {WEEK, NEXT}
    # The same eight configurations of a cold study are refits where they were tried before.
    assert n_trials(known(project)) <= 16


def test_adaptive_study_is_narrowed_around_the_week_before_and_hangs_on_it(project):
    project.rewrite(strategies=[tuned_strategy({**SMALL, "adaptive": True})])
    project.make(TUNING, WEEK)
    project.make(TUNING, NEXT)
    first, second = (project.store.footer(TUNING, week) for week in (WEEK, NEXT))
    assert first.facts["searched"] == first.facts["tuning"]["design"]["space"]
    narrowed = second.facts["searched"]["learner.alpha"]
    assert narrowed["high"] / narrowed["low"] < 1e5 * 0.999
    assert json.loads(trials_of(project, NEXT)["point"][0]) == first.facts["best"]
    assert second.inputs[TUNING] == {WEEK: first.content_hash}
    assert project.out_of_date(TUNING) == {}


def test_nested_study_gives_outer_scores_and_the_model_that_of_all_rows(project):
    project.rewrite(strategies=[tuned_strategy(NESTED)])
    run = project.make([TUNING, CV, MODEL, BACKTEST], WEEK)

    facts = project.store.footer(TUNING, WEEK).facts
    trials = trials_of(project)
    assert trials.group_by("fold", maintain_order=True).len().rows() == [(0, 8), (1, 8), (None, 8)]
    results = project.store.footer(CV, WEEK)
    assert results.facts["selected"] is False
    assert results.facts["tuned_by_fold"] == facts["best_by_fold"]
    assert run.checks[CV, "outer_scores"].passed and run.checks[CV, "out_of_fold"].passed
    assert run.materialised[CV][WEEK]["tuning"].startswith("Outer scores")
    assert "label" not in run.materialised[BACKTEST][WEEK]
    assert project.store.footer(MODEL, WEEK).facts["tuned"] == facts["best"]
    # Each fold by hand: a study on its training rows alone, then one fit.
    plan = project.pipeline.strategy("ranking")
    matrix = project.store.read(MATRIX, WEEK).frame
    predictions = project.store.read(CV, WEEK).frame
    for number, (train, _) in enumerate(plan.splitter.build().split(matrix)):
        at = plan.tuned(facts["best_by_fold"][str(number)])
        inner = matrix[train]
        found = [
            cross_validate(
                inner,
                learner=plan.tuned(json.loads(point)).learner.choice,
                splitter=plan.tuning.splitter.build(),
                target=plan.target,
                weightings=(),
                seed=0,
            )
            .fold_metrics["rmse"]
            .mean()
            for point in trials.filter(fold=number)["point"]
        ]
        assert found == trials.filter(fold=number)["value_rmse"].to_list()
        whole = cross_validate(
            matrix, learner=at.learner.choice, splitter=plan.splitter.build(), target=plan.target, weightings=(), seed=0
        )
        assert predictions.filter(fold=number).equals(whole.predictions.filter(fold=number))
    # What a fold's study learned does not hang on its test rows, or on anything after them.
    assert (
        max(matrix[train]["label_end"].max() for train, _ in plan.splitter.build().split(matrix)) <= matrix["ts"].max()
    )


@pytest.mark.parametrize("afters", [(0,), (2, 3)], ids=["at the first", "twice"])
def test_run_killed_in_a_study_goes_on_to_the_same_bits_and_counts_no_trial_twice(
    project, monkeypatch, tmp_path, afters
):
    whole = project.copy(tmp_path / "whole")
    whole.make(TUNING, WEEK)
    expected = whole.store.footer(TUNING, WEEK).content_hash
    given = {"market": project.market, "strategies": project.strategies, "asset": TUNING, "week": WEEK}
    (project.folder / "project.json").write_text(json.dumps(given, default=str))
    env = {**os.environ, "HF_FAN_OUT_WORKERS": "1", "PYTHONPATH": os.getcwd()}
    for after in afters:
        child = popen([sys.executable, "-m", MODULE, str(project.folder), str(after)], env=env)
        assert child.wait(timeout=300) == -signal.SIGKILL
    assert project.store.partitions(TUNING) == []
    evaluate, evaluated, _ = Evaluation.__call__, [], project.definitions
    monkeypatch.setattr(Evaluation, "__call__", lambda self, task: evaluated.append(task.slot) or evaluate(self, task))
    new_process()
    project.make(TUNING, WEEK)

    assert project.store.footer(TUNING, WEEK).content_hash == expected
    # What had ended was not evaluated again: the last evaluation of each process is lost.
    assert sorted(evaluated) == [*range(sum(afters), 8)]
    assert trials_of(project).height == n_trials(known(project)) == 8
    assert known(project)["outcome"].to_list() == ["completed"] * 8
    # The states of a study that was published are gone.
    assert project.store.objects.keys("_fits") == []


@pytest.mark.parametrize("n", ["1", "8"])
def test_study_is_the_same_for_any_number_of_workers(project, monkeypatch, n):
    monkeypatch.setenv("HF_FAN_OUT_WORKERS", n)
    project.make(TUNING, WEEK)
    content = project.store.footer(TUNING, WEEK).content_hash
    first = project.folder.parent.parent / "study_of_any_workers"
    if first.exists():
        assert first.read_text() == content
    first.write_text(content)


def test_account_rule_and_features_are_tuned_together_with_constraints(project):
    tuning = {
        "trials": 12,
        "batch": 4,
        "sampler": "random",
        "objective": [{"name": "sharpe_ratio"}, "artifact_bytes"],
        "pick": {"rule": "near_best", "tolerance": 0.2},
        "constraints": {"max_drawdown": 0.9},
        "space": {"learner": {"alpha": ALPHA}, "rule": {"n_long": {"type": "int", "low": 1, "high": 2}}},
    }
    project.rewrite(strategies=[tuned_strategy(tuning)])
    run = project.run(TUNING, WEEK)
    # Fewer than 60 sessions say nothing about a year.
    assert not run.success and "completed none of 12" in run.message and "not a finite number" in run.message
    assert known(project)["outcome"].to_list() == ["failed"] * 12
    tuning["objective"] = ["total_return", "artifact_bytes"]
    project.rewrite(strategies=[tuned_strategy(tuning)])
    project.make([TUNING, CV, BACKTEST], WEEK)

    facts = project.store.footer(TUNING, WEEK).facts
    best = trials_of(project).filter(pl.col("is_best")).row(0, named=True)
    assert best["is_on_front"] and best["is_feasible"]
    # The account of the chosen trial is that of the backtest, to the last bit.
    account = project.store.footer(BACKTEST, WEEK).facts["metrics"]
    assert account["total_return"] == facts["values"]["total_return"]
    assert json.loads(best["scores"])["max_drawdown_excess"] == pytest.approx(account["max_drawdown"] - 0.9)
    plan = project.pipeline.strategy("ranking").tuned(facts["best"])
    assert plan.rule.params["n_long"] == facts["best"]["rule.n_long"]


def test_failed_trials_are_shown_and_counted(project):
    alpha = {"type": "categorical", "choices": [1.0, 10.0]}
    tuning = {**SMALL, "trials": 30, "sampler": "grid", "space": {"learner": {"alpha": alpha}}}
    project.rewrite(strategies=[tuned_strategy(tuning)])
    run = project.make(TUNING, WEEK)
    assert run.materialised[TUNING][WEEK]["ended_by"] == "whole space"
    assert trials_of(project).height == 2


def test_two_runs_of_one_week_end_with_the_same_study_and_count_it_once(project):
    project.make(TUNING, WEEK)
    content, ledger = project.store.footer(TUNING, WEEK).content_hash, known(project)
    project.make(TUNING, WEEK)
    assert project.store.footer(TUNING, WEEK).content_hash == content
    again = known(project)
    assert n_trials(again) == n_trials(ledger) == 8
    assert again["n_begun"].to_list() == [2] * 8


REFUSED = {
    "unknown metric": ({"objective": "luck"}, r"`tuning\.objective` must be one of accuracy, .* was 'luck'"),
    "score of classes": ({"objective": "auc"}, r"`tuning\.objective` must be a score of target 'forward_return'"),
    "zero trials": ({"trials": 0}, r"`trials`? ?must be|trials"),
    "unknown sampler": ({"sampler": "magic"}, r"`tuning\.?sampler`|`sampler` must be one of cmaes, gp, grid"),
    "unknown parameter": (
        {"space": {"learner": {"alhpa": ALPHA}}},
        r"`tuning\.learner\.alhpa` must set a parameter .*, was alhpa",
    ),
    "outside of the range": (
        {"space": {"learner": {"alpha": {"type": "float", "low": -5, "high": 1}}}},
        r"`tuning\.alpha` of 'ridge' must be from",
    ),
    "unknown section": ({"space": {"target": {}}}, r"`tuning\.space` must have the sections learner"),
    "rule without account": (
        {"space": {"rule": {"n_long": {"type": "int", "low": 1, "high": 2}}}},
        r"`tuning\.space\.rule` must be left out where no objective",
    ),
    "more symbols than there are": (
        {"objective": "total_return", "space": {"rule": {"n_long": {"type": "int", "low": 1, "high": 90}}}},
        r"`tuning\.space\.rule` must take at most the \d+ members of `universe` of market small, was up to 91",
    ),
    "pruning an account": (
        {"objective": "sharpe_ratio", "prune": "median"},
        r"`tuning\.prune` must be left out with objective",
    ),
    "pruning a front": (
        {"objective": ["rmse", "artifact_bytes"], "prune": "median"},
        r"`tuning\.prune` must be left out with several",
    ),
    "no group left": (
        {"space": {"features": ["quick"]}},
        r"`tuning\.space\.features` must leave a group that always stands",
    ),
    "unknown preset": ({"preset": "best"}, r"`preset` must be one of nested_100, xgboost_100"),
    "deviations of bytes": (
        {"objective": {"name": "artifact_bytes", "less_deviations": 1}},
        r"`tuning\.less_deviations` must be left out for artifact_bytes",
    ),
    "unknown constraint": ({"constraints": {"luck": 1}}, r"`tuning\.constraints` must be among max_drawdown"),
    "grid of a range": ({"sampler": "grid"}, r"`tuning\.learner\.alpha` must have countable values"),
}


@pytest.mark.parametrize("change, message", REFUSED.values(), ids=REFUSED)
def test_tuning_that_makes_no_study_is_refused_when_it_loads_with_its_line(project, change, message):
    project.rewrite(strategies=[tuned_strategy({**SMALL, **change})])
    with pytest.raises(Exception, match="strategies/ranking") as found:
        _ = project.definitions
    fault = str(found.value.__cause__)
    assert re.search(message, fault), fault
    assert re.search(r"defs\.yaml:\d+", fault), fault
