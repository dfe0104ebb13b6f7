"""`<strategy>/leaderboard`: the table, the ledger, workers, deadlines, restarts, other targets, and what is refused when it loads."""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.leaderboard import commands_of_candidates, leaderboard_lines, leaderboard_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.tries import candidate
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.leaderboard_plan import compared
from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.leaderboard import CandidateEvaluation
from hf_pipelines.research.learners import choose_learner, predict_frame
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.resources.fan_out import opening
from hf_pipelines.resources.trial_ledger import TrialLedger, n_trials
from hf_pipelines_tests.components.tuning_script import MODULE, write_order
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.pipeline import Project, ridge_strategy
from hf_pipelines_tests.resources.trial_ledger.trying import new_process
from hf_pipelines_tests.tracing import traced, unseen

WEEK = "2012-04-01"
MATRIX, CV, BOARD = "ranking/training_matrix", "ranking/cv_results", "ranking/leaderboard"
MODEL, BACKTEST = "ranking/fitted_model", "ranking/backtest"

LISTED = [
    {"learner": "ridge", "params": {"alpha": 50.0}, "preprocessing": [[], ["winsorising"]]},
    {"learner": "hist_gradient_boosting", "preset": "small", "params": {"n_estimators": 5}},
]
SMALL = {"candidates": LISTED}
NAMES = ["as the strategy is", "ridge", "ridge, winsorising", "hist_gradient_boosting small"]


def board_strategy(leaderboard, **attributes):
    return ridge_strategy(leaderboard=leaderboard, **attributes)


@pytest.fixture(scope="module")
def matrices(small_project: Project, tmp_path_factory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("matrices") / "project")
    project.rewrite(strategies=[board_strategy(SMALL)])
    project.make(MATRIX, WEEK)
    return project


@pytest.fixture
def project(matrices: Project, tmp_path: Path, monkeypatch) -> Iterator[Project]:
    monkeypatch.setenv("HF_ACTOR", "ada")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_FAN_OUT_WORKERS", "1")
    new_process()
    yield matrices.copy(tmp_path / "project")
    new_process()


def known(project: Project) -> pl.DataFrame:
    return TrialLedger(project.store.objects, "reader").known()


def table_of(project: Project) -> pl.DataFrame:
    return project.store.read(BOARD, WEEK).frame


def candidates_in(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("state") != "baseline")


def test_week_has_every_candidate_and_baseline_with_the_scores_of_its_folds_and_a_trial_each(project):
    run = project.make([BOARD, CV], WEEK)
    stored = project.store.read(BOARD, WEEK)
    table, facts = stored.frame, stored.footer.facts
    assert set(candidates_in(table)["candidate"]) == {*NAMES}
    assert set(table.filter(state="baseline")["candidate"]) == {"mean", "last_value", "momentum_sign", "random"}
    assert table["rank"].to_list() == [*range(1, 9)] and table["value"].is_sorted()
    # The strategy as it is has the score of its own cv_results, on the same rows.
    metrics = project.store.footer(CV, WEEK).facts["metrics"]
    own = table.filter(candidate=NAMES[0]).row(0, named=True)
    assert own["value"] == pytest.approx(metrics["rmse"], rel=1e-12)
    plan = project.pipeline.strategy("ranking")
    by_hand = cross_validate(
        project.store.read(MATRIX, WEEK).frame,
        learner=choose_learner("ridge", {"alpha": 50.0}),
        splitter=plan.splitter.build(),
        target=plan.target,
        weightings=(),
        seed=0,
    )
    assert table.filter(candidate="ridge")["value"].item() == pytest.approx(by_hand.metrics["rmse"], rel=1e-12)
    # What it costs, and what the page shows.
    costs = candidates_in(table).select("fit_seconds", "predict_seconds", "artifact_bytes")
    assert (costs > 0).min_horizontal().all()
    shown = run.materialised[BOARD][WEEK]
    assert shown["verdict"] == facts["verdict"] and shown["verdict"].startswith("Too few sessions")
    assert shown["chosen"] == facts["chosen"] == candidates_in(table)["candidate"][0]
    assert shown["selected"].startswith("Selected, not out of sample") and facts["selected"] is True
    assert "as the strategy is" in shown["leaderboard"]
    # Four configurations; that of the strategy is the trial of its cv_results.
    trials = known(project)
    assert n_trials(trials) == 4 and trials["outcome"].to_list() == ["completed"] * 4
    (of_cv,) = trials.filter(trial=project.store.footer(CV, WEEK).facts["trial"]).to_dicts()
    assert of_cv["n_begun"] == 2
    assert project.out_of_date(BOARD) == {}
    # Nothing is left of what it kept while it ran, and nothing reads it.
    assert project.store.objects.keys("_fits") == []


def test_a_try_of_each_candidate_is_that_candidate(project):
    """Of `auto`, of presets, of preprocessing and back to none of it: the command that is printed makes the learner that was compared."""
    project.rewrite(
        strategies=[
            board_strategy(
                {"candidates": ["auto", *LISTED]}, learner={"type": "ridge", "preprocessing": ["winsorising"]}
            )
        ]
    )
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    plan = pipeline.strategy("ranking")
    wanted = compared(plan.leaderboard, plan.target, (), plan.training.missing)
    commands = commands_of_candidates(plan)
    assert len(wanted) >= 12 and {*commands} >= {each.name for each in wanted if each.name.startswith("xgboost")}
    for each in wanted:
        if each.name in commands:
            _, _, strategy, *words = shlex.split(commands[each.name])
            tried = candidate(pipeline, strategy, words[1::2])
            assert tried.plan.learner.choice.settings() == each.learner.settings(), each.name
        else:
            assert each.learner.settings() == plan.learner.choice.settings()


def test_command_prints_the_stored_table_its_verdict_and_what_is_late(project):
    def pipeline():
        return Pipeline(project.definitions, project.instance, project.store)

    with pytest.raises(
        ValueError, match="`strategy` must have a stored leaderboard, ranking has none; hfp retrain ranking"
    ):
        leaderboard_of(pipeline(), "ranking", None)
    far = {"learner": "nearest_neighbours", "params": {"n_neighbors": 10_000}}
    project.rewrite(strategies=[board_strategy({"candidates": [LISTED[0], far], "choice": "simplest"})])
    project.make(BOARD, WEEK)
    found = leaderboard_of(pipeline(), "ranking", None)
    assert (found["week"], found["metric"], found["choice"]) == (WEEK, "rmse", "simplest")
    assert [row["candidate"] for row in found["table"]] == table_of(project)["candidate"].to_list()
    assert json.loads(json.dumps(found, default=str))["table"][0]["rank"] == 1
    lines = list(leaderboard_lines(found))
    assert lines[0] == f"ranking, week {WEEK}, ranked by rmse" and lines[1] == found["verdict"]
    assert [sum(f"  {mark} " in line for line in lines[2:]) for mark in ("baseline", "chosen")] == [4, 1]
    assert any(line.startswith("nearest_neighbours (failed): fold 0") for line in lines)
    chosen, closer = lines[-2:]
    assert chosen.startswith("Chosen by the rule simplest within one standard error: ")
    assert closer.startswith("To look closer at ridge")
    assert ": hfp try ranking --set learner.type=ridge --set 'learner.params={alpha: 50.0}'" in closer
    assert any(
        "behind: by how much the best candidate is better, in the mean mse of the sessions" in line for line in lines
    )
    project.rewrite(strategies=[board_strategy({"candidates": LISTED[:1]})])
    assert [*leaderboard_lines(leaderboard_of(pipeline(), "ranking", WEEK))][-1].startswith("Out of date: ")
    with pytest.raises(ValueError, match="`week` must be one of which ranking has a leaderboard"):
        leaderboard_of(pipeline(), "ranking", "2012-05-06")


def test_leaderboard_is_the_same_for_any_number_of_workers_and_other_candidates_put_it_out_of_date(
    project, monkeypatch
):
    project.make(BOARD, WEEK)
    content, before = project.store.footer(BOARD, WEEK).content_hash, known(project)
    monkeypatch.setenv("HF_FAN_OUT_WORKERS", "8")
    monkeypatch.setattr(opening, "cores_given", lambda: 8)
    project.make(BOARD, WEEK)
    assert project.store.footer(BOARD, WEEK).content_hash == content
    # The week made again is no other trial.
    assert n_trials(known(project)) == n_trials(before) == 4
    project.rewrite(strategies=[board_strategy({"candidates": LISTED[:1]})])
    assert {*project.out_of_date(BOARD)} == {f"{BOARD} {WEEK}"}


def test_run_that_broke_goes_on_and_counts_each_trial_once(project, monkeypatch):
    """By a fault that is not of a candidate."""
    evaluate, evaluated, _ = CandidateEvaluation.__call__, [], project.definitions

    def breaking(self, candidate):
        if len(evaluated) == 2:
            raise RuntimeError("the disk is gone")
        evaluated.append(candidate.name)
        return evaluate(self, candidate)

    with monkeypatch.context() as patch:
        patch.setattr(CandidateEvaluation, "__call__", breaking)
        run = project.run(BOARD, WEEK)
    assert not run.success and "the disk is gone" in run.message and evaluated == NAMES[:2]
    assert known(project).height == 3
    _make_the_rest(project, monkeypatch, begin=2)


@pytest.mark.long
@pytest.mark.parametrize("afters", [(0,), (1, 1)], ids=["at the first", "twice"])
def test_run_killed_in_a_leaderboard_goes_on_and_counts_each_trial_once(project, monkeypatch, afters):
    write_order(project, BOARD, WEEK)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    for after in afters:
        child = popen([sys.executable, "-m", MODULE, str(project.folder), str(after)], env=env)
        assert child.wait(timeout=300) == -signal.SIGKILL
    _make_the_rest(project, monkeypatch, begin=sum(afters))


def _make_the_rest(project, monkeypatch, *, begin):
    """Make a leaderboard whose first candidates have ended: they are not evaluated again."""
    evaluate, evaluated, _ = CandidateEvaluation.__call__, [], project.definitions
    monkeypatch.setattr(
        CandidateEvaluation,
        "__call__",
        lambda self, candidate: evaluated.append(candidate.name) or evaluate(self, candidate),
    )
    new_process()
    project.make(BOARD, WEEK)
    assert evaluated == NAMES[begin:]
    assert project.store.objects.keys("_fits") == []
    assert n_trials(known(project)) == known(project).height == 4
    assert known(project)["outcome"].to_list() == ["completed"] * 4
    assert candidates_in(table_of(project)).height == 4


def test_candidate_that_cannot_be_fitted_stays_in_the_table_and_all_of_them_end_the_run(project):
    deep = {"learner": "nearest_neighbours", "params": {"n_neighbors": 10_000}}
    project.rewrite(strategies=[board_strategy({"candidates": [deep]})])
    run = project.make(BOARD, WEEK)
    row = table_of(project).filter(candidate="nearest_neighbours").row(0, named=True)
    assert row["state"] == "failed" and row["rank"] is None and row["reason"].startswith("fold 0, learner nearest")
    assert run.materialised[BOARD][WEEK]["first_failure"].startswith("nearest_neighbours: fold 0")
    assert dict(known(project).select("outcome", "n_begun").iter_rows()) == {"completed": 1, "failed": 1}
    strategy = board_strategy({"candidates": [{**deep, "name": "again"}]}, learner={"type": deep["learner"], "params": deep["params"]})  # fmt: skip
    project.rewrite(strategies=[strategy])
    run = project.run(BOARD, WEEK)
    assert not run.success and "1 of 1 failed" in run.message and "fold 0, learner nearest_neighbours" in run.message


def test_deadline_that_leaves_no_time_for_one_candidate_ends_the_run_in_time(project):
    project.rewrite(strategies=[board_strategy({**SMALL, "deadline_s": 1})])
    run = project.run(BOARD, WEEK)
    assert not run.success
    assert "`deadline_s` must leave time for one candidate at least, was too short for all 4" in run.message
    # What had begun is a trial that was given up; no other one is.
    assert known(project)["outcome"].to_list() == ["pruned"]


@pytest.mark.long
def test_deadline_lists_what_did_not_begin_and_none_of_it_is_a_trial(project):
    # More than can begin, let alone end, by then. A process begins in it, too.
    slow = {"learner": "random_forest", "params": {"n_estimators": 2_000, "min_samples_leaf": 1}}
    named = [
        {**slow, "params": {**slow["params"], "max_features": (20 + at) / 100}, "name": f"forest {at}"}
        for at in range(40)
    ]
    project.rewrite(strategies=[board_strategy({"candidates": named, "deadline_s": 40})])
    run = project.make(BOARD, WEEK)
    states = dict(candidates_in(table_of(project)).select("candidate", "state").iter_rows())
    assert states["as the strategy is"] == "completed" and states["forest 39"] == "not run"
    assert run.materialised[BOARD][WEEK]["leaderboard_s"] <= 40 * 1.1
    assert [*states.values()].count("ended") == 1
    begun = [name for name, state in states.items() if state != "not run"]
    trials = known(project)
    assert trials.height == len(begun) and trials.filter(outcome="pruned").height == 1


def test_candidates_of_another_target_and_tuned_ones_are_judged_on_the_same_rows(project):
    board = {
        "metric": "information_coefficient",
        "candidates": [
            {"learner": "ridge", "target": {"type": "rank", "horizon_bars": 4}},
            {"learner": "logistic", "target": {"type": "up_or_down", "horizon_bars": 1}},
            {"learner": "ridge", "tuned": True},
        ],
        "tuning": {"trials": 2, "cross_validation": {"n_splits": 1, "test_sessions": 3, "min_train_sessions": 3}},
    }
    project.rewrite(strategies=[board_strategy(board)])
    with traced() as called:
        project.make(BOARD, WEEK)
    table = candidates_in(table_of(project))
    assert set(table["state"]) == {"completed"}, table["reason"].to_list()
    assert table["n_sessions"].n_unique() == 1 and table.height == 4
    assert n_trials(known(project)) == 4
    # Everything that it has computed by is in its code version; where it runs is no content.
    (stage,) = (each for each in build_stages(project.pipeline.strategy("ranking")) if each.asset == BOARD)
    assert [each for each in unseen(called, {BOARD: stage}).get(BOARD, []) if not each.startswith("fan_out.")] == []
    assert {*project.store.footer(BOARD, WEEK).inputs} == {MATRIX, "small/bars"}


def test_leaderboard_that_feeds_the_model_is_a_choice_within_each_fit(project):
    # Nothing of it is drawn: a member has a seed of its own.
    trees = {"n_estimators": 5, "subsample": 1.0, "colsample_bytree": 1.0}
    candidates = [{"learner": "lasso"}, {"learner": "xgboost", "params": trees}]
    board = {"candidates": candidates, "feeds": "fitted_model"}
    project.rewrite(strategies=[board_strategy({**board, "choice": "simplest"})])
    run = project.make([CV, MODEL, BACKTEST], WEEK)
    members = ["ridge", "lasso", "xgboost"]
    facts = project.store.footer(CV, WEEK).facts
    chosen = {place: each["chosen_learner"] for place, each in facts["reports"].items()}
    assert {*chosen} == {"fold 0", "fold 1"} and {*chosen.values()} <= {*members}
    # Outer scores: no test row has chosen anything, so nothing is marked as selected.
    assert "selected" not in facts and "label" not in run.materialised[BACKTEST][WEEK]
    model = project.store.footer(MODEL, WEEK).facts
    assert model["learner"]["type"] == "discrete_super_learner" and model["params"]["rule"] == "simplest"
    assert [each["type"] for each in model["params"]["members"]] == members
    assert model["report"]["chosen_learner"] in members and len(model["report"]["losses"]) == 3
    # The fold by hand, from its training rows alone.
    plan, matrix = project.pipeline.strategy("ranking"), project.store.read(MATRIX, WEEK).frame
    train, test = next(iter(plan.splitter.build().split(matrix)))
    alone = {"ridge": {}, "lasso": {}, "xgboost": trees}
    by_hand = fit_final(
        matrix[train], learner=choose_learner(chosen["fold 0"], alone[chosen["fold 0"]]), target=plan.target, seed=0
    )
    found = predict_frame(by_hand, matrix[test], features=feature_names(matrix), classes=(), missing="drop")
    stored = project.store.read(CV, WEEK).frame.filter(fold=0)
    assert stored["prediction"].to_list() == found["prediction"].to_list()
    # The leaderboard is beside it, and chooses nothing of it.
    assert BOARD not in {*project.store.footer(MODEL, WEEK).inputs, *project.store.footer(CV, WEEK).inputs}
    assert project.out_of_date(CV, MODEL, BACKTEST) == {}


def test_rows_that_are_quarantined_are_in_no_candidate_and_in_no_baseline(project, monkeypatch):
    folder = project.take_source()
    week = project.weeks[project.weeks.index(WEEK) - 2]
    days = [str(day) for day in project.partitions.sessions_of_week(week)]
    (symbol,) = pl.read_parquet(folder / f"{days[0]}.parquet").filter(pl.col("symbol") != "SPY")["symbol"].head(1)
    for day in days:
        bars = pl.read_parquet(folder / f"{day}.parquet")
        spoilt = pl.when(pl.col("symbol") == symbol).then(-1.0).otherwise(pl.col("volume"))
        bars.with_columns(volume=spoilt.cast(bars.schema["volume"])).write_parquet(folder / f"{day}.parquet")
    # Gaps need rows with unknown features, which candidates that take none get filled in.
    attributes = {"training": {"weeks": 10, "minimum_rows": 40, "missing": "keep"}, "learner": {"type": "lightgbm"}}
    attributes["learner"]["params"] = {"n_estimators": 5, "min_child_samples": 5}
    steps = {"learner": "ridge", "preprocessing": ["imputation"]}
    project.rewrite(project.market, [board_strategy({"candidates": [steps]}, **attributes)])
    project.make(["small/bars", "small/features/quick"], week, WEEK)
    assert project.store.footer("small/bars", week).facts["quarantined"][0].startswith(symbol)
    seen = {}
    evaluate = CandidateEvaluation.__call__
    monkeypatch.setattr(
        CandidateEvaluation,
        "__call__",
        lambda self, candidate: seen.setdefault(candidate.name, evaluate(self, candidate)),
    )
    project.make([MATRIX, BOARD], WEEK)
    matrix = project.store.read(MATRIX, WEEK).frame
    spoilt = pl.col("session").cast(pl.String).is_in(days) & (pl.col("symbol") == symbol)
    assert matrix.filter(spoilt).is_empty() and not matrix.filter(pl.col("symbol") == symbol).is_empty()
    table = table_of(project)
    assert set(candidates_in(table)["state"]) == {"completed"}, table["reason"].to_list()
    rows = [entry.predictions.select("symbol", "ts") for entry in seen.values()]
    assert len(rows) == 2 and rows[0].equals(rows[1])
    assert rows[0].join(matrix, on=["symbol", "ts"], how="anti").is_empty()
    assert table["n_sessions"].n_unique() == 1


def test_strategy_without_the_block_has_none_and_costs_nothing(project):
    assert f"{BOARD}" in project.code_versions
    job = project.definitions.resolve_job_def("ranking_retrain")
    assert "ranking/leaderboard" in {"/".join(key.path) for key in job.asset_layer.executable_asset_keys}
    versions = dict(project.code_versions)
    project.rewrite(strategies=[ridge_strategy()])
    assert BOARD not in project.code_versions
    # What else there is is as it was.
    assert {name: each for name, each in versions.items() if name != BOARD} == project.code_versions


REFUSED = {
    "no candidates": ({"candidates": []}, r"`leaderboard\.candidates` must hold at least one, was empty"),
    "no list": ({"candidates": "all"}, r"`leaderboard\.candidates` must be auto or a list of candidates, was 'all'"),
    "deadline of zero": ({"deadline_s": 0}, r"`?leaderboard\.deadline_s`? must be from 1 to 10,000,000, was 0"),
    "unknown metric": ({"metric": "luck"}, r"`leaderboard\.metric` must be one of rmse, mse, mae, information_coeff"),
    "unknown rule": ({"choice": "luckiest"}, r"leaderboard\.choice"),
    "unknown field": ({"winner": 1}, r"leaderboard\.?.*winner"),
    "unknown learner": (
        {"candidates": [{"learner": "oracle"}]},
        r"`leaderboard\.candidates\.0\.learner\.?type` must be among",
    ),
    "unknown preset": (
        {"candidates": ["auto", {"learner": "ridge", "preset": "best"}]},
        r"`leaderboard\.candidates\.1\.preset` of 'ridge' must be one of default, strong, was 'best'",
    ),
    "unknown parameter": (
        {"candidates": [{"learner": "ridge", "params": {"alhpa": 1}}]},
        r"`leaderboard\.candidates\.0\.params` of 'ridge' must be among",
    ),
    "unknown field of a candidate": (
        {"candidates": [{"learner": "ridge", "weight": 1}]},
        r"`leaderboard\.candidates\.0\.weight` must be left out: candidates have the fields learner",
    ),
    "no learner": ({"candidates": [{"preset": "small"}]}, r"`leaderboard\.candidates\.0\.learner` must be given"),
    "another task": (
        {"candidates": [{"learner": "logistic"}]},
        r"`leaderboard\.candidates\.0\.learner` must fit the target 'forward_return', was 'logistic'",
    ),
    "one twice": (
        {"candidates": [{"learner": "lasso"}, {"learner": ["lasso", "ridge"]}]},
        r"`leaderboard\.candidates` must differ, were twice: lasso",
    ),
    "errors of other targets": (
        {"candidates": [{"learner": "ridge", "target": {"type": "rank", "horizon_bars": 2}}]},
        r"`leaderboard\.metric` must be information_coefficient where candidates learn other targets",
    ),
    "target without a direction": (
        {
            "metric": "information_coefficient",
            "candidates": [{"learner": "ridge", "target": {"type": "realised_volatility", "horizon_bars": 2}}],
        },
        r"`leaderboard\.candidates` must learn targets of one direction",
    ),
    "feeding by order": (
        {"feeds": "fitted_model", "metric": "information_coefficient"},
        r"`leaderboard\.feeds` must be left out for metric information_coefficient",
    ),
    "feeding what is tuned": (
        {"feeds": "fitted_model", "candidates": [{"learner": "ridge", "tuned": True}]},
        r"`leaderboard\.feeds` must be left out where candidates are tuned or learn another target",
    ),
    "feeding one": (
        {"feeds": "fitted_model", "candidates": [{"learner": "ridge", "params": {"alpha": 1.0}}]},
        r"`leaderboard\.feeds` must have candidates to choose among, was with 1",
    ),
    "name of several": (
        {"candidates": [{"learner": ["ridge", "lasso"], "name": "both"}]},
        r"`leaderboard\.candidates\.0\.name` must be left out of 2 candidates, was 'both'",
    ),
}


@pytest.mark.parametrize("board, message", REFUSED.values(), ids=REFUSED)
def test_leaderboard_that_compares_nothing_is_refused_when_it_loads_with_its_line(project, board, message):
    project.rewrite(strategies=[board_strategy(board)])
    with pytest.raises(Exception, match="strategies/ranking") as found:
        _ = project.definitions
    fault = str(found.value.__cause__)
    assert re.search(message, fault), fault
    assert re.search(r"defs\.yaml:\d+", fault), fault
