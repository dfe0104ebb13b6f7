"""`<strategy>/tuning` and what takes its best: currency, the ledger, nested studies, what is selected, restarts."""

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.tuning import watch_study
from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.tuning.evaluation import Evaluation
from hf_pipelines.resources.fan_out import opening
from hf_pipelines.resources.trial_ledger import TrialLedger, n_trials
from hf_pipelines_tests.components.tuning_script import MODULE, write_order
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.pipeline import Project, Run, ridge_strategy
from hf_pipelines_tests.resources.trial_ledger.trying import new_process

WEEK, NEXT = "2012-04-01", "2012-04-08"
MATRIX, TUNING, CV = "ranking/training_matrix", "ranking/tuning", "ranking/cv_results"
MODEL, BACKTEST = "ranking/fitted_model", "ranking/backtest"

ALPHA = {"type": "float", "low": 0.01, "high": 1000.0, "log": True}
SMALL = {"trials": 8, "batch": 4, "sampler": "tpe", "space": {"learner": {"alpha": ALPHA}}}
# The short matrix has room for two folds within a fold.
NESTED = {
    **SMALL,
    "trials": 3,
    "batch": 3,
    "nested": True,
    "cross_validation": {"n_splits": 2, "test_sessions": 3, "min_train_sessions": 3},
}


def tuned_strategy(tuning, **attributes):
    return ridge_strategy(tuning=tuning, **attributes)


@pytest.fixture(scope="module")
def matrices(small_project: Project, tmp_path_factory) -> Project:
    """The small project with the matrices of two weeks."""
    project = small_project.copy(tmp_path_factory.mktemp("matrices") / "project")
    project.rewrite(strategies=[tuned_strategy(SMALL)])
    project.make(MATRIX, WEEK, NEXT)
    return project


@pytest.fixture
def project(matrices: Project, tmp_path: Path, monkeypatch) -> Iterator[Project]:
    """Matrices of two weeks and nothing tuned."""
    _set_environment(monkeypatch, tmp_path)
    yield matrices.copy(tmp_path / "project")
    new_process()


@dataclass(frozen=True)
class Studied:
    """A week that was tuned by one worker, and everything after it; read by many tests."""

    project: Project
    run: Run

    @property
    def content(self) -> str:
        return self.project.store.footer(TUNING, WEEK).content_hash


@pytest.fixture(scope="module")
def studied(matrices: Project, tmp_path_factory) -> Iterator[Studied]:
    folder = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        _set_environment(patch, folder)
        patch.setenv("HF_FAN_OUT_WORKERS", "1")
        patch.setenv("HF_PICTURES", "all")
        project = matrices.copy(folder / "project")
        yield Studied(project, project.make([TUNING, CV, MODEL, BACKTEST], WEEK))
    new_process()


@pytest.fixture
def tuned(studied: Studied, tmp_path: Path, monkeypatch) -> Project:
    """A copy of it, to be changed."""
    _set_environment(monkeypatch, tmp_path)
    return studied.project.copy(tmp_path / "project")


def _set_environment(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("HF_ACTOR", "ada")
    patch.setenv("HF_DATA_DIR", str(folder / "data"))
    new_process()


def known(project: Project) -> pl.DataFrame:
    return TrialLedger(project.store.objects, "reader").known()


def trials_of(project: Project, week: str = WEEK) -> pl.DataFrame:
    return project.store.read(TUNING, week).frame


def test_tuned_week_is_made_of_the_best_trial_and_says_so_everywhere(studied, monkeypatch):
    project, run = studied.project, studied.run
    monkeypatch.setenv("HF_DATA_DIR", str(project.folder.parent / "data"))

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


def test_study_is_a_run_of_mlflow_below_its_week_with_a_run_for_each_of_its_best_trials(studied):
    project = studied.project
    client = project.definitions.resources["mlflow"].client()
    experiment = client.get_experiment_by_name("ranking").experiment_id
    stored = project.store.read(TUNING, WEEK)
    facts = stored.footer.facts
    runs = client.search_runs([experiment])
    (study,) = [each for each in runs if each.data.tags.get("hf.study") == facts["study"]]
    (week,) = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    assert study.data.tags["mlflow.parentRunId"] == week.info.run_id and study.info.status == "FINISHED"
    assert study.data.tags["hf.content_hash"] == stored.footer.content_hash
    assert study.data.metrics == {"best/rmse": facts["values"]["rmse"], "trials": 8, "trials_completed": 8}
    assert study.data.params["best/learner.alpha"] == str(facts["best"]["learner.alpha"])
    files = Path(study.info.artifact_uri.removeprefix("file://"))
    assert {each.name for each in (files / "pictures").iterdir()} == {"history.png", "slices.png"}
    assert pl.read_csv(files / "trials.csv")["value_rmse"].to_list() == stored.frame["value_rmse"].to_list()
    below = [each for each in runs if each.data.tags.get("mlflow.parentRunId") == study.info.run_id]
    assert {each.data.tags["hf.slot"]: each.data.metrics["rmse"] for each in below} == {
        str(slot): value for slot, value in stored.frame.select("slot", "value_rmse").iter_rows()
    }
    # The model of the week is beside it.
    model = project.store.footer(MODEL, WEEK).facts["mlflow_run_id"]
    assert client.get_run(model).data.tags["mlflow.parentRunId"] == week.info.run_id


def test_study_with_another_space_makes_everything_after_it_out_of_date(tuned):
    project = tuned
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
        "ranking/validation",
    }
    project.rewrite(strategies=[ridge_strategy()])
    assert TUNING not in project.code_versions


def test_range_of_weeks_has_a_study_each(project):
    project.rewrite(strategies=[tuned_strategy({**SMALL, "trials": 4})])
    run = project.make(TUNING, WEEK, NEXT)
    assert {*run.materialised[TUNING]} == {WEEK, NEXT}
    # The same four configurations of a cold study are refits where they were tried before.
    assert n_trials(known(project)) <= 8


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
    assert trials.group_by("fold", maintain_order=True).len().rows() == [(0, 3), (1, 3), (None, 3)]
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


def test_run_that_broke_in_a_study_goes_on_to_the_same_bits_and_counts_no_trial_twice(project, studied, monkeypatch):
    """By a fault that is not of a configuration; by SIGKILL in `make long`."""
    evaluate, evaluated, _ = Evaluation.__call__, [], project.definitions

    def breaking(self, task):
        if len(evaluated) == 5:
            raise RuntimeError("the disk is gone")
        evaluated.append(task.slot)
        return evaluate(self, task)

    monkeypatch.setenv("HF_FAN_OUT_WORKERS", "1")
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "__call__", breaking)
        run = project.run(TUNING, WEEK)
    assert not run.success and "the disk is gone" in run.message and evaluated == [*range(5)]
    _make_the_rest(project, studied, monkeypatch, begin=5)


@pytest.mark.long
@pytest.mark.parametrize("afters", [(0,), (2, 3)], ids=["at the first", "twice"])
def test_run_killed_in_a_study_goes_on_to_the_same_bits_and_counts_no_trial_twice(
    project, studied, monkeypatch, afters
):
    write_order(project, TUNING, WEEK)
    env = {**os.environ, "HF_FAN_OUT_WORKERS": "1", "PYTHONPATH": os.getcwd()}
    for after in afters:
        child = popen([sys.executable, "-m", MODULE, str(project.folder), str(after)], env=env)
        assert child.wait(timeout=300) == -signal.SIGKILL
    # The last evaluation of each process is lost.
    _make_the_rest(project, studied, monkeypatch, begin=sum(afters))


def _make_the_rest(project, studied, monkeypatch, *, begin):
    """Make a study that has ended its first slots: what had ended is not evaluated again."""
    assert project.store.partitions(TUNING) == []
    evaluate, evaluated, _ = Evaluation.__call__, [], project.definitions
    monkeypatch.setattr(Evaluation, "__call__", lambda self, task: evaluated.append(task.slot) or evaluate(self, task))
    new_process()
    project.make(TUNING, WEEK)

    assert project.store.footer(TUNING, WEEK).content_hash == studied.content
    assert sorted(evaluated) == [*range(begin, 8)]
    assert trials_of(project).height == n_trials(known(project)) == 8
    assert known(project)["outcome"].to_list() == ["completed"] * 8
    # The states of a study that was published are gone.
    assert project.store.objects.keys("_fits") == []


def test_study_is_the_same_for_any_number_of_workers_and_does_not_hang_on_mlflow(project, studied, monkeypatch):
    monkeypatch.setenv("HF_FAN_OUT_WORKERS", "8")
    monkeypatch.setattr(opening, "cores_given", lambda: 8)
    (project.folder / "mlflow.db").write_bytes(b"no database")
    run = project.make(TUNING, WEEK)
    assert project.store.footer(TUNING, WEEK).content_hash == studied.content
    said = project.instance.all_logs(run.result.run_id)
    assert any(each.user_message.startswith("fan-out: 8 threads with 1 thread each") for each in said)
    (line,) = [each.user_message for each in said if each.level == logging.WARNING and "MLFLOW" in each.user_message]
    assert line.startswith("`HF_MLFLOW_URI` must be a tracking server or database that answers")
    assert line.endswith("The study is stored all the same.")


def test_account_rule_and_features_are_tuned_together_with_constraints(project):
    tuning = {
        "trials": 3,
        "batch": 3,
        "sampler": "random",
        "objective": [{"name": "sharpe_ratio"}, "artifact_bytes"],
        "pick": {"rule": "near_best", "tolerance": 0.2},
        "constraints": {"max_drawdown": 0.9},
        "space": {"learner": {"alpha": ALPHA}, "rule": {"n_long": {"type": "int", "low": 1, "high": 2}}},
    }
    project.rewrite(strategies=[tuned_strategy(tuning)])
    run = project.run(TUNING, WEEK)
    # Fewer than 60 sessions say nothing about a year.
    assert not run.success and "completed none of 3" in run.message and "not a finite number" in run.message
    assert known(project)["outcome"].to_list() == ["failed"] * 3
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


def test_grid_ends_with_its_space(project):
    alpha = {"type": "categorical", "choices": [1.0, 10.0]}
    tuning = {**SMALL, "trials": 30, "sampler": "grid", "space": {"learner": {"alpha": alpha}}}
    project.rewrite(strategies=[tuned_strategy(tuning)])
    run = project.make(TUNING, WEEK)
    assert run.materialised[TUNING][WEEK]["ended_by"] == "whole space"
    assert trials_of(project).height == 2


def test_week_that_is_made_again_ends_with_the_same_study_and_counts_it_once(tuned, studied):
    before = known(tuned)
    tuned.make(TUNING, WEEK)
    assert tuned.store.footer(TUNING, WEEK).content_hash == studied.content
    again = known(tuned)
    assert n_trials(again) == n_trials(before) == 8
    # cv_results had evaluated the best once more.
    assert (again["n_begun"] - before["n_begun"]).to_list() == [1] * 8


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
