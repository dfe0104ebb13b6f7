"""The best of many strategies on bars that know nothing, each through the real assets: the ledger counts them, the check says so."""

from datetime import date
from typing import Any

import numpy as np
import pytest

from hf_pipelines.commands.gates import gates_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import validation_of
from hf_pipelines_tests.conftest import quick_features
from hf_pipelines_tests.pipeline import (
    Project,
    files_market,
    prepare_mlflow,
    ridge_strategy,
    session_bars,
    sessions_from,
)

SUNDAY = date(2012, 1, 1)


def configurations(n: int, seed: int) -> list[dict[str, Any]]:
    """Different strategies that somebody might try one after the other, without costs: they would all lose by them."""
    rng = np.random.default_rng(seed)
    names = [each.name for each in quick_features()]
    found: list[dict[str, Any]] = []
    while len(found) < n:
        features = [f"quick/{name}" for name in names if rng.random() < 0.6] or ["quick"]
        tried = {
            "features": features,
            "target": {"type": "forward_return", "horizon_bars": int(rng.integers(1, 8))},
            "learner": {"type": "ridge", "params": {"alpha": float(10.0 ** rng.uniform(-1, 3))}},
            "signal": {"type": "ranking", "params": {"n_long": int(rng.integers(1, 4)), "n_short": int(rng.integers(1, 4))}},
        }  # fmt: skip
        if tried not in found:
            found.append(tried)
    return found


@pytest.mark.pipeline
@pytest.mark.parametrize(("n", "weeks"), [(3, 36), pytest.param(50, 72, marks=pytest.mark.long)])
def test_the_best_of_many_that_know_nothing_is_judged_by_all_that_were_tried(tmp_path, quick, n, weeks):
    sessions = sessions_from(SUNDAY, weeks)
    market = files_market(tmp_path / "source", session_bars(sessions, symbols=8, seed=3), features=["quick"])
    common = {
        "training": {"weeks": weeks - 12, "minimum_rows": 40},
        "cross_validation": {"n_splits": 3, "min_train_sessions": 20},
        "backtest": {"fee_bps": 0.0, "slippage_bps": 0.0},
    }
    template = prepare_mlflow(tmp_path / "mlflow.db")
    tried = [ridge_strategy(**common, **each) for each in configurations(n, seed=11)]
    project = Project(tmp_path / "project", market, tried[:1], mlflow_template=template)
    week = project.weeks[-1]
    project.make("small/bars", project.weeks[0], week)
    project.make("small/features/quick", project.weeks[0], week)
    judged = []
    for each in tried:
        project.rewrite(strategies=[each])
        run = project.retrain("ranking", week)
        numbers = run.checks["ranking/cv_results", "trials"].metadata
        judged.append({name: value.value for name, value in numbers.items() if isinstance(value.value, int | float)})
    assert [each["trials"] for each in judged] == list(range(1, n + 1))

    # Whoever goes back to the best of them has tried all the same: it is the same trial, judged by all.
    best = max(range(n), key=lambda at: judged[at]["sharpe_ratio"])
    project.rewrite(strategies=[tried[best]])
    again = project.retrain("ranking", week).checks["ranking/cv_results", "trials"].metadata
    assert again["trials"].value == n
    assert again["sharpe_ratio"].value == pytest.approx(judged[best]["sharpe_ratio"], rel=1e-12)
    found = validation_of(Pipeline(project.definitions, project.instance, project.store), "ranking", week)
    assert found["trials"]["counted"] == n
    # As if nothing else had been tried it looks better than it is.
    numbers = {
        name: again[name].value
        for name in ("probabilistic_sharpe_ratio", "deflated_sharpe_ratio", "deflated_by_all_trials")
    }
    alone, deflated, by_all = numbers.values()
    assert by_all <= deflated < alone - 0.1 and deflated < 0.95
    assert found["trials"]["deflation"]["deflated_by_all"] == by_all

    # Gates hold the very numbers of the check, the account and the ledger, and refuse what knows nothing.
    decision = gates_of(project.pipeline, "ranking", week)
    held = {each.gate: each.value for each in decision.gates}
    account: Any = project.store.footer("ranking/backtest", week)
    metrics = account.facts["metrics"]
    assert held["deflated_sharpe"] == pytest.approx(deflated, rel=1e-12)
    assert held["sharpe"] == metrics["sharpe_ratio"] and held["max_drawdown"] == metrics["max_drawdown"]
    choice = found["trials"]["choice"]
    assert held["overfitting"] == (None if choice is None else choice["probability"])
    assert held["sharpe_low"] < held["sharpe"]
    assert held["turnover"] == metrics["turnover_per_year"] and 0.0 <= held["beats_portfolios"] < 0.95
    refused = {each.gate for each in decision.failed}
    assert {
        "beats_baselines",
        "beats_portfolios",
        "deflated_sharpe",
        "sharpe_low",
    } <= refused and not decision.is_passed
