"""Strategies with kinds of costs: a spread that a feature holds, and engines that cannot book them."""

import io
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.accounts import with_cost_columns
from hf_pipelines.components.strategy_stages.reconciliation import CHECKED_BY, without_uncovered
from hf_pipelines_tests.pipeline import Project, ridge_strategy

COSTS = {
    "fee_bps": 0.0,
    "slippage_bps": 0.0,
    "costs": [{"type": "spread", "params": {"half_bps": 5.0}}, "sales_tax", "impact"],
}
OF_A_FEATURE = {"costs": [{"type": "spread", "params": {"column": "quick_roc_5"}}]}
WEEK = "2012-04-01"


@pytest.fixture
def project(small_project: Project, tmp_path: Path) -> Project:
    return small_project.copy(tmp_path / "project")


def test_a_backtest_charges_the_kinds_of_its_yaml(project: Project) -> None:
    project.rewrite(strategies=[ridge_strategy(backtest=COSTS)])
    ran = project.make([f"ranking/{stage}" for stage in ("training_matrix", "cv_results", "backtest")], WEEK)
    stored = project.store.read("ranking/backtest", WEEK)
    trades = pl.read_parquet(io.BytesIO(project.store.read_attachment(stored.footer, "trades.parquet")))
    notional, sells = trades["notional"].abs(), trades["shares"] < 0
    assert trades.height > 10
    assert trades["spread"].to_list() == pytest.approx((notional * 5e-4).to_list())
    assert trades["sales_tax"].to_list() == pytest.approx((notional * sells * 1e-3).to_list())
    assert trades["impact"].min() > 0.0
    for kind in ("spread", "sales_tax", "impact"):
        assert stored.frame[kind].sum() == pytest.approx(trades[kind].sum())
    shown = ran.materialised["ranking/backtest"][WEEK]
    assert shown["costs_total"] == pytest.approx(
        stored.frame.select("spread", "sales_tax", "impact").to_numpy().sum() / stored.frame["equity"][0]
    )
    told = ran.checks["ranking/backtest", "engines_agree"].description or ""
    assert "compared without spread, impact, sales_tax, which backtrader cannot book" in told


def test_a_spread_of_a_feature_reaches_the_account(project: Project) -> None:
    # A return is no spread: what is refused is the value that the feature has on the row.
    project.rewrite(strategies=[ridge_strategy(backtest=OF_A_FEATURE)])
    failed = project.run([f"ranking/{stage}" for stage in ("training_matrix", "cv_results", "backtest")], WEEK)
    assert (
        "`quick_roc_5` must hold spreads as fractions of the price, not negative, NaN where unknown, was -"
        in failed.message
    )


def test_bars_get_the_features_that_costs_read_row_by_row(project: Project) -> None:
    project.rewrite(strategies=[ridge_strategy(backtest=OF_A_FEATURE)])
    plan = Pipeline(project.definitions, project.instance, project.store).strategy("ranking")
    weeks = project.weeks[:3]
    bars, features = (
        pl.concat([project.store.read(asset, week).frame for week in weeks])
        for asset in ("small/bars", "small/features/quick")
    )
    joined = with_cost_columns(plan, bars, [features.gather_every(2)])
    assert joined.drop("quick_roc_5").equals(bars)
    kept = joined.filter(pl.col("quick_roc_5").is_not_null()).join(features, on=["symbol", "session", "ts"])
    assert 0 < kept.height < bars.height
    assert (kept["quick_roc_5"] == kept["quick_roc_5_right"]).all()


def test_engines_are_compared_without_what_they_cannot_book_and_say_so(project: Project) -> None:
    project.rewrite(strategies=[ridge_strategy(backtest=COSTS)])
    plan = Pipeline(project.definitions, project.instance, project.store).strategy("ranking")
    compared, told = without_uncovered(plan, CHECKED_BY)
    assert told == [
        "compared without spread, impact, sales_tax, which backtrader cannot book: only the reference says so"
    ]
    assert compared.backtest.costs.kinds == () and plan.backtest.costs.kinds
    assert compared.backtest.execution == plan.backtest.execution
