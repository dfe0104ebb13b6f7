"""A short form of the scorecard on random bars: each rule catches its faults, and the score falls without it."""

import polars as pl
import pytest

from hf_pipelines.research.quality import RULES
from hf_pipelines_tests.injected_faults import FAULTS, Planted, planted
from hf_pipelines_tests.quality_scorecard import judged, score
from hf_pipelines_tests.sample_bars import random_bars

# Least share of a fault refused as an error, and caught at all.
LEAST = {
    "prices x0.01, 1 session": (1.0, 1.0),
    "prices x1.3, 3 sessions": (0.0, 0.9),
    "prices x100 from here on": (1.0, 1.0),
    "another instrument x0.57, 3 % of the trade, 3 sessions": (0.9, 1.0),
    "another instrument x0.2, 1 % of the trade, from here on": (0.9, 1.0),
    "open x2": (0.9, 1.0),
    "high x3": (1.0, 1.0),
    "high x1.3": (0.0, 1.0),
    "low x0.75": (0.0, 1.0),
    "close x1.4": (0.0, 1.0),
    "close x1.3 with 4 times the trade": (0.0, 0.9),
    "split 4:1 missing": (0.9, 1.0),
    "bonus 1.2:1 missing": (0.5, 0.8),
    "split 2:1 false": (1.0, 1.0),
    "split 10:1 false in a crash": (1.0, 1.0),
    "dividend of 1 to 3 % ten times too large": (0.7, 0.9),
    "dividend of 0.5 to 1 % ten times too large": (0.2, 0.6),
    "volume x100, 1 session": (0.0, 1.0),
    "volume in lots of 100, 1 session": (0.0, 1.0),
    "same close for 5 sessions": (0.0, 0.7),
    "no bar for 3 sessions": (0.0, 1.0),
}


@pytest.fixture(scope="module")
def plan() -> Planted:
    sound = random_bars(symbols=12, sessions=260, has_events=False, has_reference=False).drop("role")
    return planted(sound, seeds=range(10), faults=[fault for fault in FAULTS if fault.name in LEAST])


@pytest.fixture(scope="module")
def verdicts(plan) -> pl.DataFrame:
    return judged(plan.bars, calendar=plan.calendar)


def below(scored: pl.DataFrame) -> set[str]:
    """Faults that are caught less often than they must be."""
    shares = scored.group_by("fault").agg(pl.col("error", "alarm").mean())
    return {
        fault for fault, *found in shares.iter_rows() if any(x < y for x, y in zip(found, LEAST[fault], strict=True))
    }


def test_scorecard_of_random_bars_keeps_its_shares_and_refuses_few_right_rows(plan, verdicts):
    scored = score(plan, verdicts)
    assert scored["fault"].n_unique() == len(LEAST)
    assert below(scored) == set()
    # Of some 90 right sessions for each fault.
    assert scored["right_refused"].sum() <= 0.001 * 90 * scored.height


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_scorecard_without_a_rule_falls(plan, verdicts, rule):
    assert below(score(plan, verdicts.filter(pl.col("rule") != rule)))
