"""`hfp reconcile` and the check `engines_agree`, on a strategy that was trained: sound, with a fault, without the extra."""

from dataclasses import replace
from typing import Any

import pytest

from hf_pipelines.commands.reconcile import reconcile_lines
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.research import backtest
from hf_pipelines.research.backtest import ENGINES, BacktestResult
from hf_pipelines_tests.pipeline import Project

pytestmark = pytest.mark.pipeline
pytest.importorskip("backtrader")

WEEK = "2012-04-01"


def test_a_backtest_is_held_to_other_engines_and_a_fault_is_named(
    small_project: Project, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = small_project.copy(tmp_path / "project")
    project.make([f"ranking/{stage}" for stage in ("training_matrix", "cv_results")], WEEK)
    check = ("ranking/backtest", "engines_agree")

    run = project.run("ranking/backtest", WEEK)
    assert run.success and run.checks[check].passed
    assert run.checks[check].metadata["values_compared"].value > 100

    pipeline = Pipeline(project.definitions, project.instance, project.store)
    monkeypatch.setitem(ENGINES, "vectorbt", replace(ENGINES["vectorbt"], needs=("no_such_module",)))
    lines = list(reconcile_lines(pipeline, "ranking", WEEK))
    assert all(sound for _, sound in lines)
    assert lines[0][0].startswith(
        "could not compare with vectorbt: no_such_module is not installed; install the extra: pip"
    )
    assert "backtrader agrees with reference on" in lines[1][0] and "e-1" in lines[1][0]

    # An engine that charges a fee twice: the check says so of the sample, the command of all; it is published all the same.
    sound = ENGINES["backtrader"]

    def doubled(weights: Any, bars: Any, costs: Any, execution: Any, **options: Any) -> BacktestResult:
        return sound.run(weights, bars, replace(costs, fee_bps=2 * costs.fee_bps), execution, **options)

    monkeypatch.setitem(ENGINES, "backtrader", replace(sound, run=doubled))
    run = project.run("ranking/backtest", WEEK)
    told = run.checks[check]
    assert run.success and not told.passed
    assert "backtrader parts from reference on 2012-" in told.description and "fees of" in told.description
    parted = list(reconcile_lines(pipeline, "ranking", WEEK))
    assert not all(is_sound for _, is_sound in parted) and any("fees of" in line for line, _ in parted)

    # Without the extra it says that it could not compare.
    monkeypatch.setitem(ENGINES, "backtrader", replace(sound, needs=("no_such_module",)))
    told = project.run("ranking/backtest", WEEK).checks[check]
    assert told.passed and "could not compare with backtrader: no_such_module is not installed" in told.description
    assert backtest.INSTALL_ENGINES in told.description
    *_, (last, is_sound) = reconcile_lines(pipeline, "ranking", WEEK)
    assert (last, is_sound) == (f"ranking {WEEK}: nothing was compared", False)
