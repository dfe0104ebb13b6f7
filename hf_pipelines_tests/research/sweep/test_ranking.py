"""Ranks, neighbours and plateaus of a sweep, by hand; the map is drawn from them."""

import math
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.costs import Costs
from hf_pipelines.research.overfitting import deflated_sharpe_ratio, estimate_sharpe
from hf_pipelines.research.sweep import COMPLETED, FAILED, PointEntry, costs_at, rank_points
from hf_pipelines.research.sweep.plots import sweep_png
from hf_pipelines.research.sweep.ranking import neighbours_of
from hf_pipelines.research.tuning import read_space

SPACE = read_space(
    {
        "rule.n": {"type": "categorical", "choices": [10, 1, 3]},
        "costs.fee_bps": {"type": "float", "low": 0.0, "high": 3.0, "step": 1.0},
    }
)
POINTS = list(SPACE.points())


def entry(sharpe: float, seed: int = 0) -> PointEntry:
    """Returns of 100 sessions with this ratio a session."""
    noise = np.random.default_rng(seed).normal(size=100)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    returns = tuple((0.01 * (noise + sharpe)).tolist())
    days = tuple(date(2024, 1, 1) + timedelta(days=i) for i in range(100))
    return PointEntry(COMPLETED, scores={"sharpe_ratio": sharpe * math.sqrt(250)}, sessions=days, returns=returns)


def ranked(values, **options):
    entries = [entry(each) if each is not None else PointEntry(FAILED, reason="ruined") for each in values]
    return rank_points(POINTS, entries, SPACE, is_grid=True, sessions_per_year=250.0, **options)


def test_neighbours_of_a_grid_are_one_step_away_in_the_order_of_the_values() -> None:
    around = neighbours_of(POINTS, SPACE, is_grid=True)
    assert POINTS[0] == {"rule.n": 10, "costs.fee_bps": 0.0}
    # 10 stands beside 3, not beside 1.
    at = {(each["rule.n"], each["costs.fee_bps"]): place for place, each in enumerate(POINTS)}
    assert {POINTS[i]["rule.n"] for i in np.flatnonzero(around[at[10, 0.0]])} == {10, 3}
    assert around.sum(axis=1)[at[10, 0.0]] == 3 and around.sum(axis=1)[at[3, 1.0]] == 8
    assert (around == around.T).all() and not around.diagonal().any()


def test_neighbours_of_other_branches_are_none_and_of_draws_the_nearest() -> None:
    space = read_space(
        {
            "rule.kind": {"type": "categorical", "choices": ["a", "b"]},
            "rule.x": {"type": "int", "low": 1, "high": 3, "when": {"rule.kind": "a"}},
        }
    )
    points = list(space.points())
    around = neighbours_of(points, space, is_grid=True)
    assert [int(each) for each in around.sum(axis=1)] == [1, 2, 1, 0]
    line = read_space({"rule.x": {"type": "float", "low": 1.0, "high": 1e6, "log": True}})
    draws = [{"rule.x": 10.0**at} for at in (0, 0.1, 0.2, 3, 5, 5.1, 5.2, 5.3, 5.4)]
    assert np.flatnonzero(neighbours_of(draws, line, is_grid=False)[0]).tolist() == [1, 2, 3, 4, 5, 6]


def test_points_are_in_the_order_of_their_deflated_ratio_with_mean_and_worst_around() -> None:
    values = [0.10, 0.20, 0.10, 0.05, 0.02, 0.01, None, 0.0, 0.1, 0.3, 0.1, 0.02]
    found = ranked(values)
    table, chosen = found.table, found.chosen
    assert chosen is not None and chosen["rule.n"] == 3 and chosen["costs.fee_bps"] == 1.0
    assert table["rank"].to_list() == [*range(1, 12), None] and table["reason"][-1] == "ruined"
    ordered = [each for each in table["sharpe_ratio"].to_list() if each is not None]
    assert ordered == sorted(ordered, reverse=True)
    own = estimate_sharpe(entry(0.3).returns)
    sharpes = [estimate_sharpe(entry(each).returns).sharpe for each in values if each is not None]
    expected = deflated_sharpe_ratio(
        own.sharpe, own.n, own.skew, own.kurtosis, trials_variance=max(np.var(sharpes, ddof=1), 1 / 99), n_trials=12
    )
    assert chosen["deflated"] == pytest.approx(expected)
    # Its neighbours: n of 1 and 10 and itself, fees of 0, 1 and 2; the ruined one counts for nothing.
    around = [0.10, 0.20, 0.10, 0.02, 0.01, 0.1, 0.1]
    assert chosen["neighbours"] == 7
    assert chosen["neighbours_mean"] == pytest.approx(np.mean(around) * math.sqrt(250))
    assert chosen["neighbours_worst"] == pytest.approx(0.01 * math.sqrt(250))
    assert "Sharpe ratio a year 4.74" in found.verdict


def test_more_trials_in_the_ledger_lower_every_deflated_ratio_and_change_no_order() -> None:
    values = [0.10, 0.20, 0.10, 0.05, 0.02, 0.01, 0.0, 0.0, 0.1, 0.3, 0.1, 0.02]
    few, many = ranked(values), ranked(values, n_trials=500, n_independent=500)
    assert (few.table["deflated"] > many.table["deflated"]).all()
    assert few.table["point"].to_list() == many.table["point"].to_list()
    assert "500 independent trials without skill (500 in the ledger)" in many.verdict


def test_plateau_is_chosen_where_a_spike_is_higher() -> None:
    # A spike among losses at n = 10; a ridge at n = 1.
    values = [-0.3, -0.3, -0.3, 0.5, 0.30, 0.32, 0.31, 0.3, 0.2, 0.2, 0.2, -0.2]
    best, plateau = ranked(values).chosen, ranked(values, choice="plateau").chosen
    assert best is not None and plateau is not None
    assert (best["rule.n"], plateau["rule.n"]) == (10, 1)
    assert plateau["rank"] > 1 and plateau["neighbours_worst"] > best["neighbours_worst"]


def test_points_that_never_traded_have_no_rank() -> None:
    flat = PointEntry(COMPLETED, scores={"sharpe_ratio": math.nan}, returns=(0.0,) * 50)
    found = rank_points(POINTS, [flat] * 12, SPACE, is_grid=True, sessions_per_year=250.0)
    assert found.chosen is None and found.table["rank"].null_count() == 12
    assert found.verdict == "None of 12 points has a Sharpe ratio."


@pytest.mark.parametrize("is_grid", [True, False])
def test_the_map_shows_other_points_otherwise(is_grid: bool) -> None:
    values = [0.10, 0.20, 0.10, 0.05, 0.02, 0.01, None, 0.0, 0.1, 0.3, 0.1, 0.02]
    drawn = [sweep_png(ranked(each), SPACE, heading="a week", is_grid=is_grid) for each in (values, values[::-1])]
    assert drawn[0] != drawn[1] and drawn[0] == sweep_png(ranked(values), SPACE, heading="a week", is_grid=is_grid)


def test_costs_are_set_by_their_names_and_others_refused() -> None:
    costs = Costs(fee_bps=1.0, kinds=["impact"])
    found = costs_at(costs, {"slippage_bps": 3, "impact.coefficient": 0.5})
    assert (found.fee_bps, found.slippage_bps) == (1.0, 3.0) and dict(found.kinds)["impact"]["coefficient"] == 0.5
    with pytest.raises(ValueError, match=r"`costs.spread.half_bps` must be one of fee_bps, .*impact.unknown_bps"):
        costs_at(costs, {"spread.half_bps": 1.0})
    with pytest.raises(TypeError, match="`costs.fee_bps` must be a number, was True"):
        costs_at(costs, {"fee_bps": True})
    with pytest.raises(ValueError, match="`costs.2?.*coefficient` of 'impact' must be from 0 to 100"):
        costs_at(costs, {"impact.coefficient": 1e6})


def test_table_keeps_numbers_as_numbers() -> None:
    schema = ranked([0.1] * 12).table.schema
    assert schema["rule.n"] == pl.Int64 and schema["costs.fee_bps"] == pl.Float64
