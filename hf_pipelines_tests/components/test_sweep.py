"""`<strategy>/sweep`: the table, the ledger, workers, deadlines, restarts, and what is refused when it loads."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.sweep import sweep_lines, sweep_of
from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages import build_stages, sweep_points
from hf_pipelines.components.strategy_stages.sweep_points import SweepEvaluation, plan_at
from hf_pipelines.resources.fan_out import opening
from hf_pipelines.resources.trial_ledger import TrialLedger, n_trials
from hf_pipelines_tests.components.tuning_script import MODULE, write_order
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.pipeline import Project, ridge_strategy
from hf_pipelines_tests.resources.trial_ledger.trying import new_process
from hf_pipelines_tests.tracing import traced, unseen

WEEK = "2012-04-01"
MATRIX, CV, BACKTEST, SWEEP = "ranking/training_matrix", "ranking/cv_results", "ranking/backtest", "ranking/sweep"

GRID = {"space": {"rule": {"n_long": [1, 2, 3], "max_gross": [0.5, 1.0]}, "costs": {"fee_bps": [1.0, 20.0]}}}


def swept(sweep, **attributes):
    return ridge_strategy(sweep=sweep, **attributes)


@pytest.fixture(scope="module")
def predicted(small_project: Project, tmp_path_factory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("predicted") / "project")
    project.rewrite(strategies=[swept(GRID)])
    project.make([MATRIX, CV], WEEK)
    return project


@pytest.fixture
def project(predicted: Project, tmp_path: Path, monkeypatch) -> Iterator[Project]:
    monkeypatch.setenv("HF_ACTOR", "ada")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_FAN_OUT_WORKERS", "1")
    new_process()
    yield predicted.copy(tmp_path / "project")
    new_process()


def known(project: Project) -> pl.DataFrame:
    return TrialLedger(project.store.objects, "reader").known()


def table_of(project: Project) -> pl.DataFrame:
    return project.store.read(SWEEP, WEEK).frame


def test_week_has_every_point_with_the_account_that_a_backtest_of_it_has_and_a_trial_each(project):
    run = project.make([SWEEP, BACKTEST], WEEK)
    table = table_of(project)
    assert table.height == 12 and set(table["state"]) == {"completed"}
    assert table["rank"].to_list() == [*range(1, 13)]
    # The point that the strategy is, is the trial of its own results; its account is the backtest's.
    trials = known(project)
    assert n_trials(trials) == trials.height == 12
    own = table.filter(pl.col("rule.n_long") == 1, pl.col("rule.max_gross") == 1.0, pl.col("costs.fee_bps") == 1.0)
    metrics = project.store.footer(BACKTEST, WEEK).facts["metrics"]
    for name in ("total_return", "max_drawdown", "costs_total"):
        assert own[name].item() == pytest.approx(metrics[name], rel=1e-9)
    # And so is that of another point, written into the YAML.
    project.rewrite(strategies=[ridge_strategy(signal={"type": "rank_long_short", "params": {"n_long": 3, "n_short": 1}}, backtest={"fee_bps": 20.0})])  # fmt: skip
    project.make(BACKTEST, WEEK)
    metrics = project.store.footer(BACKTEST, WEEK).facts["metrics"]
    dear = table.filter(pl.col("rule.n_long") == 3, pl.col("rule.max_gross") == 1.0, pl.col("costs.fee_bps") == 20.0)
    assert dear["total_return"].item() == pytest.approx(metrics["total_return"], rel=1e-9)
    assert n_trials(known(project)) == 12
    shown = run.materialised[SWEEP][WEEK]
    assert "12 in the ledger" in shown["verdict"] or "in the ledger" in shown["verdict"]
    assert shown["selected"].startswith("Selected, not out of sample: of 12 points")
    assert project.store.objects.keys("_fits") == []


def test_sweep_is_the_same_for_any_number_of_workers_and_counts_no_trial_twice(project, monkeypatch):
    with traced() as called:
        project.make(SWEEP, WEEK)
    # Everything that it has computed by is in its code version; where it runs is no content.
    (stage,) = (each for each in build_stages(project.pipeline.strategy("ranking")) if each.asset == SWEEP)
    left = [each for each in unseen(called, {SWEEP: stage}).get(SWEEP, []) if not each.startswith("fan_out.")]
    assert not left, " ".join(left)
    assert project.out_of_date(SWEEP) == {}
    content = project.store.footer(SWEEP, WEEK).content_hash
    monkeypatch.setenv("HF_FAN_OUT_WORKERS", "8")
    monkeypatch.setattr(opening, "cores_given", lambda: 8)
    monkeypatch.setattr(sweep_points, "POINTS_A_TASK", 1)
    project.make(SWEEP, WEEK)
    assert project.store.footer(SWEEP, WEEK).content_hash == content
    assert n_trials(known(project)) == 12


def _make_the_rest(project, monkeypatch, *, left):
    evaluate, evaluated, _ = SweepEvaluation.__call__, [], project.definitions
    monkeypatch.setattr(
        SweepEvaluation, "__call__", lambda self, points: evaluated.extend(points) or evaluate(self, points)
    )
    new_process()
    project.make(SWEEP, WEEK)
    assert len(evaluated) == left
    assert n_trials(known(project)) == known(project).height == 12
    assert known(project)["outcome"].to_list() == ["completed"] * 12
    assert table_of(project)["rank"].to_list() == [*range(1, 13)]
    assert project.store.objects.keys("_fits") == []


def test_run_that_broke_goes_on_and_counts_each_trial_once(project, monkeypatch):
    monkeypatch.setattr(sweep_points, "POINTS_A_TASK", 5)
    evaluate, n_done, _ = SweepEvaluation.__call__, [], project.definitions

    def breaking(self, points):
        if n_done:
            raise RuntimeError("the disk is gone")
        n_done.append(len(points))
        return evaluate(self, points)

    with monkeypatch.context() as patch:
        patch.setattr(SweepEvaluation, "__call__", breaking)
        run = project.run(SWEEP, WEEK)
    assert not run.success and "the disk is gone" in run.message
    assert known(project).height >= 5
    _make_the_rest(project, monkeypatch, left=7)


@pytest.mark.long
def test_run_killed_in_a_sweep_goes_on_and_counts_each_trial_once(project, monkeypatch):
    write_order(project, SWEEP, WEEK)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    child = popen([sys.executable, "-m", MODULE, str(project.folder), "0"], env=env)
    assert child.wait(timeout=300) == -signal.SIGKILL
    # Begun and killed: they are trials, and stay these.
    assert known(project).height == 12
    _make_the_rest(project, monkeypatch, left=12)


def test_point_that_is_none_stays_in_the_table_with_its_reason(project):
    # More members than the market has: nothing is held; a leverage that ruins would say so.
    project.rewrite(strategies=[swept({"space": {"costs": {"fee_bps": [1.0, 9_000.0]}}})])
    run = project.make(SWEEP, WEEK)
    table = table_of(project)
    bad = table.filter(pl.col("costs.fee_bps") == 9_000.0).row(0, named=True)
    assert (bad["state"], bad["rank"]) == ("failed", None)
    assert bad["reason"].startswith("`equity` must stay above zero")
    assert run.materialised[SWEEP][WEEK]["first_failure"].startswith('{"costs.fee_bps": 9000.0}: `equity`')
    assert known(project).filter(outcome="failed").height == 1


def test_command_prints_the_stored_points_their_verdict_and_what_is_late(project):
    with pytest.raises(ValueError, match="`strategy` must have a stored sweep, ranking has none; hfp retrain ranking"):
        sweep_of(project.pipeline, "ranking", None)
    project.rewrite(strategies=[swept({**GRID, "choice": "plateau"})])
    project.make(SWEEP, WEEK)
    found = sweep_of(project.pipeline, "ranking", None)
    assert (found["week"], found["choice"], found["n_points"]) == (WEEK, "plateau", 12)
    assert json.loads(json.dumps(found, default=str))["table"][0]["rank"] == 1
    lines = list(sweep_lines(found))
    assert lines[1] == found["verdict"] and sum(" chosen " in line for line in lines[2:]) == 1
    assert lines[-1].startswith("Chosen by the rule highest in the mean with its neighbours: ")
    project.rewrite(strategies=[swept({"space": {"rule": {"n_long": [1, 2]}}})])
    assert [*sweep_lines(sweep_of(project.pipeline, "ranking", WEEK))][-1].startswith("Out of date: ")
    with pytest.raises(ValueError, match="`week` must be one of which ranking has a sweep"):
        sweep_of(project.pipeline, "ranking", "2012-05-06")


def test_points_with_limits_and_kinds_of_costs_over_several_paths_are_backtests_of_them(project):
    signal = {
        "type": "rank_long_short",
        "params": {"n_long": 1, "n_short": 1},
        "limits": [{"type": "symbol_cap", "params": {"most": 0.3}}],
    }
    backtest = {"costs": [{"type": "spread", "params": {"half_bps": 1.0}}], "lot_size": 1}
    folds = {
        "cross_validation": {
            "type": "combinatorial_purged",
            "params": {"n_folds": 4, "n_test_folds": 2, "min_train_sessions": 10},
        }
    }
    space = {"rule": {"limits.symbol_cap.most": [0.1, 0.3]}, "costs": {"spread.half_bps": [1.0, 30.0]}}
    project.rewrite(strategies=[swept({"space": space}, signal=signal, backtest=backtest, **folds)])
    project.make([CV, SWEEP], WEEK)
    table = table_of(project)
    assert set(table["state"]) == {"completed"} and table.height == 4
    for most, half in ((0.3, 1.0), (0.1, 30.0)):
        signal["limits"][0]["params"]["most"] = most
        backtest["costs"][0]["params"]["half_bps"] = half
        project.rewrite(strategies=[ridge_strategy(signal=signal, backtest=backtest, **folds)])
        project.make(BACKTEST, WEEK)
        paths = project.store.footer(BACKTEST, WEEK).facts["paths"]
        returns = sorted(each["total_return"] for each in paths.values())
        row = table.filter(pl.col("rule.limits.symbol_cap.most") == most, pl.col("costs.spread.half_bps") == half)
        assert len(returns) == 3 and row["total_return"].item() == pytest.approx(returns[1], rel=1e-9)
    # And the strategy that stood there before.
    assert n_trials(known(project)) == 4 + 1


def test_deadline_leaves_points_out_and_none_of_them_is_a_trial(project, monkeypatch):
    evaluate, _ = SweepEvaluation.__call__, project.definitions
    project.rewrite(strategies=[swept({**GRID, "deadline_s": 1.0})])
    _ = project.definitions
    monkeypatch.setattr(sweep_points, "POINTS_A_TASK", 4)
    monkeypatch.setattr(SweepEvaluation, "__call__", lambda self, points: time.sleep(1.5) or evaluate(self, points))
    project.make(SWEEP, WEEK)
    states = table_of(project)["state"].value_counts()
    counts = dict(states.iter_rows())
    assert counts["not run"] >= 4 and table_of(project).height == 12
    # The point that the strategy is was recorded by its cross-validation.
    assert known(project).height <= 12 - counts["not run"] + 1
    assert table_of(project).filter(state="not run")["reason"].unique().to_list() == [
        "the deadline came before it began"
    ]


def test_a_point_is_the_strategy_as_if_it_had_been_written_so(project):
    plan = project.pipeline.strategy("ranking")
    at = plan_at(plan, {"rule.n_long": 2, "costs.fee_bps": 20.0})
    assert at.rule.params["n_long"] == 2 and at.backtest.costs.fee_bps == 20.0
    assert plan_at(plan, {"rule.n_long": 1}).rule.params == dict(plan.rule.params)
    assert plan_at(plan, {}).backtest.costs == plan.backtest.costs


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"space": {}}, "`sweep.space` must name what is tried, was empty"),
        ({"space": {"learner": {"alpha": [1.0, 2.0]}}}, "`sweep.space` must have the sections rule, costs, was with learner"),
        ({"space": {"rule": {"n_lung": [1, 2]}}}, "must be among"),
        ({"space": {"costs": {"tax": [1, 2]}}}, "`sweep.costs.tax` must be one of fee_bps, slippage_bps"),
        ({"space": {"costs": {"impact.coefficient": [1, 2]}}}, "costs that the strategy has, was none"),
        ({"space": {"rule": {"max_gross": {"type": "float", "low": 0.1, "high": 1.0}}}}, "must have countable values"),
        ({"space": {"rule": {"n_long": {"type": "int", "low": 1, "high": 90_000}}}}, "must have at most 10,000 points as a grid"),
        ({"space": {"rule": {"n_long": []}}}, "must have at least one value, was empty"),
        ({"space": {"rule": {"n_long": [1]}}}, "must have at least two points, had one"),
        ({"space": {"costs": {"fee_bps": [-1.0, 1.0]}}}, "`sweep.fee_bps` must be finite and not negative"),
        ({"space": {"rule": [1]}}, "`sweep.space.rule` must be a mapping"),
        ({"space": {"costs": {"fee_bps": [1, 2]}}, "deadline_s": 0}, "must be from 1 to 10,000,000, was 0"),
    ],
)  # fmt: skip
def test_blocks_that_ask_for_nothing_that_can_be_are_refused(quick, sweep, told):
    with pytest.raises(ValueError, match="sweep") as caught:
        Strategy(**swept(sweep))
    assert told in str(caught.value)
