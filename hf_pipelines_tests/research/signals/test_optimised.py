"""Optimised portfolios: what skfolio gives when it is called directly, on trailing bars alone, and equal shares without a solution."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from skfolio.moments import BaseMu
from skfolio.optimization import HierarchicalRiskParity, MeanRisk, ObjectiveFunction, RiskBudgeting
from skfolio.prior import EmpiricalPrior

from hf_pipelines.research.signals import RuleContext, apply_rule, explain_rule, rule_needs, window_sessions
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


SECTORS = {name: ("one", "two", "three")[at % 3] for at, name in enumerate(NAMES)}
BOUNDS = [{"sector": "one", "least": 0.2, "most": 0.3}, {"sector": "two", "most": 0.25}]


@pytest.mark.parametrize("method", ["minimum_variance", "mean_risk"])
def test_bounds_of_sectors_and_a_budget_are_those_of_skfolio_called_directly(method):
    bars, _, now = market()
    given = {"method": method, "bars": SHOWN, "risk_aversion": 3.0, "budget": 0.8, "sectors": BOUNDS}
    found = apply_rule(now, rule="optimised_portfolio", params=given, bars=bars, sectors=SECTORS)["weight"].to_numpy()
    seen = RuleContext(params={}, _bars=bars).trailing_returns(now["ts"][0], symbols=NAMES, n_bars=SHOWN)
    # In skfolio's own words for groups, on a frame with names.
    constraints = {
        "budget": 0.8,
        "groups": {name: [f"sector_{sector}"] for name, sector in SECTORS.items()},
        "linear_constraints": ["sector_one >= 0.2", "sector_one <= 0.3", "sector_two <= 0.25"],
    }
    foretold = EmpiricalPrior(mu_estimator=Foretold(tuple(now["prediction"].to_list())))
    utility = {
        "objective_function": ObjectiveFunction.MAXIMIZE_UTILITY,
        "risk_aversion": 3.0,
        "prior_estimator": foretold,
    }
    direct = MeanRisk(**constraints, **(utility if method == "mean_risk" else {}))
    expected = direct.fit(pd.DataFrame(seen, columns=NAMES)).weights_
    assert np.abs(found - expected).max() < 1e-6 and found.sum() == pytest.approx(0.8, abs=1e-6)
    shares = {
        sector: sum(found[at] for at, name in enumerate(NAMES) if SECTORS[name] == sector) for sector in ("one", "two")
    }
    assert 0.2 - 1e-6 <= shares["one"] <= 0.3 + 1e-6 and shares["two"] <= 0.25 + 1e-6
    free = apply_rule(now, rule="optimised_portfolio", params={**given, "sectors": []}, bars=bars)["weight"].to_numpy()
    assert np.abs(free - found).max() > 0.01


def following(n_sessions: int) -> tuple[pl.DataFrame, pl.DataFrame, list]:
    """Bars, and predictions of the last sessions that differ from one to the next."""
    bars, _, now = market()
    sessions = bars["session"].unique().sort().to_list()[-n_sessions:]
    rng = np.random.default_rng(8)
    rows = bars.filter(pl.col("session").is_in(sessions)).select("symbol", "session", "ts").sort("ts", "symbol")
    return bars, rows.with_columns(prediction=pl.Series(rng.normal(size=rows.height) * 0.003)), sessions


def test_changes_since_the_decision_before_are_bounded_as_by_skfolio():
    bars, rows, sessions = following(3)
    given = {"method": "mean_risk", "bars": SHOWN, "risk_aversion": 3.0, "max_change": 0.1, "memory_weeks": 52}
    weights = apply_rule(rows, rule="optimised_portfolio", params=given, bars=bars, sessions=sessions)
    first, second, third = (of["weight"].to_numpy() for of in weights.partition_by("ts", maintain_order=True))
    assert np.abs(second - first).max() == pytest.approx(0.1, abs=1e-6) and np.abs(third - second).max() < 0.1 + 1e-6
    free = apply_rule(rows, rule="optimised_portfolio", params={**given, "max_change": None}, bars=bars)[
        "weight"
    ].to_numpy()
    assert np.abs(free[:8] - first).max() == 0.0 and np.abs(free[8:16] - free[:8]).max() > 0.2
    last = rows.tail(8)
    seen = RuleContext(params={}, _bars=bars).trailing_returns(last["ts"][0], symbols=NAMES, n_bars=SHOWN)
    foretold = EmpiricalPrior(mu_estimator=Foretold(tuple(last["prediction"].to_list())))
    direct = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY, risk_aversion=3.0, prior_estimator=foretold,
        previous_weights=second, max_turnover=0.1,
    )  # fmt: skip
    assert np.abs(third - direct.fit(seen).weights_).max() < 1e-6


def test_a_session_alone_is_that_of_the_range_where_changes_are_bounded():
    bars, rows, sessions = following(20)
    given = {"method": "minimum_variance", "bars": SHOWN, "max_change": 0.02, "memory_weeks": 1}
    needs = rule_needs("optimised_portfolio", given)
    assert needs.block_weeks == 1
    whole = apply_rule(rows, rule="optimised_portfolio", params=given, bars=bars, sessions=sessions)
    for day in sessions[11::4]:
        window = window_sessions(sessions, day, n_sessions=needs.sessions, block_weeks=needs.block_weeks)
        part = rows.filter(pl.col("session").is_in(window))
        alone = apply_rule(part, rule="optimised_portfolio", params=given, bars=bars, sessions=window)
        assert alone.filter(pl.col("session") == day).equals(whole.filter(pl.col("session") == day))


def test_constraints_without_a_solution_give_equal_shares_of_the_budget_and_are_counted():
    bars, _, now = market(halted="S0")
    # The only usable member of its sector may have a fifth, and the sector must have half.
    lonely = {name: "one" if name in ("S0", "S1") else "two" for name in NAMES}
    given = {"bars": SHOWN, "max_weight": 0.2, "budget": 0.7, "sectors": [{"sector": "one", "least": 0.5}]}
    beside = {"rule": "optimised_portfolio", "params": given, "bars": bars, "sectors": lonely}
    assert apply_rule(now, **beside)["weight"].to_list() == pytest.approx([0.0, *[0.1] * 7])
    assert explain_rule(now, **beside).startswith("1 decisions with members to optimise, 1 of them without a solution")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        pytest.param({"method": "risk_budgeting", "budget": 0.5}, "`budget` .* must be left out for the method risk_budgeting", id="method"),
        pytest.param({"sectors": [{"sector": "a", "most": 0.3}] * 2}, "must name each sector once, was with a twice", id="twice"),
        pytest.param({"sectors": [{"sector": "a", "least": 0.6}, {"sector": "b", "least": 0.6}]}, "`least` of 1, the `budget`, at most together, was 1.2", id="more than all"),
        pytest.param({"sectors": [{"sector": "a", "least": 0.6, "most": 0.3}]}, "`sectors.0` must not be above its `most`, was least 0.6 and most 0.3", id="wrong order"),
        pytest.param({"sectors": [{"sector": "a"}]}, "`sectors.0` must give `least` or `most`", id="no bound"),
        pytest.param({"sectors": ["a"]}, "`sectors.0` must be a mapping of `sector`, and `least` or `most`, was 'a'", id="no mapping"),
    ],
)  # fmt: skip
def test_constraints_that_contradict_are_refused(params, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rule_needs("optimised_portfolio", params)


def test_a_bound_of_a_sector_that_is_not_there_is_refused():
    bars, _, now = market()
    given = {"bars": SHOWN, "sectors": [{"sector": "four", "most": 0.5}]}
    with pytest.raises(ValueError, match="`sectors` .* must name sectors of the members, one, three, two, was four"):
        apply_rule(now, rule="optimised_portfolio", params=given, bars=bars, sectors=SECTORS)
