"""Optimised portfolios: what skfolio gives when it is called directly, on trailing bars alone, and equal shares without a solution."""

import numpy as np
import polars as pl
import pytest
from skfolio.moments import BaseMu
from skfolio.optimization import HierarchicalRiskParity, MeanRisk, ObjectiveFunction, RiskBudgeting
from skfolio.prior import EmpiricalPrior

from hf_pipelines.research.signals import RuleContext, apply_rule, explain_rule, rule_needs
from hf_pipelines_tests.sample_matrix import plain_bars

NAMES = [f"S{at}" for at in range(8)]
N_BARS, SHOWN = 90, 60


class Foretold(BaseMu):
    """Expected returns that are given."""

    def __init__(self, values: tuple[float, ...] = ()) -> None:
        self.values = values

    def fit(self, X: object, y: object = None) -> "Foretold":
        self.mu_ = np.array(self.values)
        return self


def market(*, halted: str = "") -> tuple[pl.DataFrame, np.ndarray, pl.DataFrame]:
    """Bars, the returns of the last sixty until a decision, and predictions at it; five bars follow."""
    rng = np.random.default_rng(3)
    returns = 0.01 * rng.normal(size=(N_BARS, 8)) * np.linspace(0.5, 2.0, 8) + 0.005 * rng.normal(size=(N_BARS, 1))
    closes = 100.0 * np.cumprod(1.0 + returns, axis=0)
    bars = plain_bars({name: closes[:, at].tolist() for at, name in enumerate(NAMES)})
    sessions = bars["session"].unique().sort()
    at = sessions[N_BARS - 6]
    bars = bars.filter((pl.col("symbol") != halted) | (pl.col("session") != sessions[N_BARS - 20]))
    now = bars.filter(pl.col("session") == at).select("symbol", "session", "ts").sort("symbol")
    return (
        bars,
        returns[N_BARS - 5 - SHOWN : N_BARS - 5],
        now.with_columns(prediction=pl.Series(rng.normal(size=8) * 0.003)),
    )


@pytest.mark.parametrize("method", ["minimum_variance", "risk_budgeting", "hierarchical_risk_parity", "mean_risk"])
@pytest.mark.parametrize("max_weight", [1.0, 0.2])
def test_weights_are_those_of_skfolio_called_directly(method, max_weight):
    bars, returns, now = market()
    params = {"method": method, "bars": SHOWN, "max_weight": max_weight, "risk_aversion": 3.0, "max_gross": 0.5}
    found = apply_rule(now, rule="optimised_portfolio", params=params, bars=bars)["weight"].to_numpy()
    foretold = EmpiricalPrior(mu_estimator=Foretold(tuple(now["prediction"].to_list())))
    direct = {
        "minimum_variance": MeanRisk(max_weights=max_weight),
        "risk_budgeting": RiskBudgeting(max_weights=max_weight),
        "hierarchical_risk_parity": HierarchicalRiskParity(max_weights=max_weight),
        "mean_risk": MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_UTILITY, risk_aversion=3.0, max_weights=max_weight,
            prior_estimator=foretold,
        ),
    }[method]  # fmt: skip
    seen = RuleContext(params={}, _bars=bars).trailing_returns(now["ts"][0], symbols=NAMES, n_bars=SHOWN)
    np.testing.assert_allclose(seen, returns, atol=1e-15)
    # Of the same bits: a solver makes 1e-5 of a rounding.
    assert np.abs(found / 0.5 - direct.fit(seen).weights_).max() < 1e-6
    assert found.sum() == pytest.approx(0.5, abs=1e-6) and found.max() <= max_weight * 0.5
    # What comes after the decision is not seen.
    until = bars.filter(pl.col("session") <= now["session"][0])
    assert (apply_rule(now, rule="optimised_portfolio", params=params, bars=until)["weight"].to_numpy() == found).all()


def test_minimum_variance_of_two_members_by_hand():
    rng = np.random.default_rng(1)
    one, other = 0.01 * rng.normal(size=30), 0.02 * rng.normal(size=30)
    bars = plain_bars({"A": (np.cumprod([1.0, *(1 + one)])).tolist(), "B": (np.cumprod([1.0, *(1 + other)])).tolist()})
    now = bars.filter(pl.col("session") == bars["session"].max()).select("symbol", "session", "ts", prediction=1.0)
    found = apply_rule(now, rule="optimised_portfolio", params={"bars": 30}, bars=bars)["weight"].to_list()
    (a, both), (_, b) = np.cov(one, other)
    expected = (b - both) / (a + b - 2 * both)
    # The solver stops where the variance, of 1e-5, gains no more than 1e-8.
    assert found == pytest.approx([expected, 1.0 - expected], abs=1e-3)


def test_members_without_all_bars_are_left_out_and_no_solution_gives_equal_shares_that_are_counted():
    bars, _, now = market(halted="S2")
    params = {"bars": SHOWN, "max_weight": 0.5}
    found = dict(
        apply_rule(now, rule="optimised_portfolio", params=params, bars=bars).select("symbol", "weight").iter_rows()
    )
    assert found["S2"] == 0.0 and sum(found.values()) == pytest.approx(1.0, abs=1e-6)
    # Eight members of a tenth each do not fill the account: a tenth each.
    few = {"bars": SHOWN, "max_weight": 0.1}
    capped = apply_rule(now, rule="optimised_portfolio", params=few, bars=bars)["weight"].to_list()
    assert capped == [0.1, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1]
    told = explain_rule(now, rule="optimised_portfolio", params=few, bars=bars)
    assert told == "1 decisions with members to optimise, 1 of them without a solution: equal shares."
    held = apply_rule(now, rule="optimised_portfolio", params={**params, "n_held": 3}, bars=bars)
    best = set(now.sort("prediction", descending=True)["symbol"][:3].to_list()) - {"S2"}
    assert {*held.filter(pl.col("weight") > 1e-7)["symbol"]} <= best
    assert rule_needs("optimised_portfolio", params).packages == ("skfolio",)
