"""Walk-forward efficiency, worked out by hand; and what a walk that is too short or earns nothing does not claim."""

import math
from datetime import date, timedelta

import numpy as np
import pytest

from hf_pipelines.research.robustness.walk_forward import ANCHORED, ROLLING, WalkedWeek, walk_forward

DAYS = [date(2020, 1, 6) + timedelta(days=at) for at in range(400)]


def week_of(at: int, promised: list[float], earned: list[float]) -> WalkedWeek:
    return WalkedWeek(str(DAYS[at]), tuple(DAYS[at : at + len(promised)]), np.array(promised), np.array(earned))


def test_every_number_of_two_weeks_by_hand():
    # In sample 1 % a session, then 3 %; out of it 1 % over three sessions, and 2 % over one.
    weeks = [week_of(0, [0.0, 0.02], [0.01, 0.00, 0.02]), week_of(1, [0.02, 0.04], [0.02])]
    rolling = walk_forward(weeks, kind=ROLLING, sessions_per_year=100)
    # (3 x 0.01 + 1 x 0.03) / 4 = 0.015 in sample, (0.03 + 0.02) / 4 = 0.0125 out of it.
    assert rolling.return_in == pytest.approx(1.5) and rolling.return_out == pytest.approx(1.25)
    assert rolling.efficiency == pytest.approx(5 / 6)
    assert (rolling.n_weeks, rolling.n_sessions) == (2, 4) and math.isnan(rolling.low)
    # Sharpe ratios of a session in sample: 0.01 / 0.014142 and 0.03 / 0.014142; out of it 0.0125 / 0.0095743.
    assert rolling.sharpe_in == pytest.approx(10 * (0.75 * 0.707107 + 0.25 * 2.121320), rel=1e-5)
    assert rolling.sharpe_out == pytest.approx(10 * 1.305582, rel=1e-5)
    # Anchored: the second week promised by three sessions, 0, 2 and 4 %: 2 %.
    anchored = walk_forward(weeks, kind=ANCHORED, sessions_per_year=100)
    assert anchored.return_in == pytest.approx(100 * (3 * 0.01 + 0.02) / 4)
    assert anchored.efficiency == pytest.approx(1.0)


def test_bounds_hold_the_ratio_of_what_the_weeks_are_drawn_from():
    rng = np.random.default_rng(0)
    n_held = 0
    for _ in range(200):
        weeks = [
            week_of(at, (0.01 + 0.001 * rng.normal(size=50)).tolist(), (0.005 + 0.01 * rng.normal(size=5)).tolist())
            for at in range(60)
        ]
        found = walk_forward(weeks, kind=ROLLING, sessions_per_year=252)
        n_held += found.low <= 0.5 <= found.high
    # 95 % of 200 within three deviations of a binomial.
    assert 180 <= n_held <= 199


def test_a_walk_that_promised_nothing_has_no_efficiency():
    weeks = [week_of(at, [-0.01, 0.0], [0.01]) for at in range(20)]
    found = walk_forward(weeks, kind=ROLLING, sessions_per_year=252)
    assert all(math.isnan(each) for each in (found.efficiency, found.low, found.sharpe_efficiency))
    assert found.return_out == pytest.approx(2.52)


@pytest.mark.parametrize("weeks", [[], [week_of(0, [], [0.1])], [week_of(0, [0.1], [])]], ids=["no week", "in", "out"])
def test_a_walk_without_sessions_is_refused(weeks):
    with pytest.raises(ValueError, match="`weeks` must hold a week"):
        walk_forward(weeks, kind=ROLLING, sessions_per_year=252)
