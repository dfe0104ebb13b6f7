"""Rules by hand: levels, scores, shares of a portfolio, ranks within sectors and by quantiles."""

import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.signals import RULES, apply_rule, rule_needs, window_sessions
from hf_pipelines_tests.research.signals.test_registry import (
    SESSIONS,
    random_predictions,
    ranked,
    weights_of,
)
from hf_pipelines_tests.sample_matrix import plain_bars

NAN = float("nan")


def weights_over(predictions: dict[str, list[float]], rule: str, **params: object) -> dict[str, list[float]]:
    """Weights session by session, of one value a session and symbol."""
    keys = plain_bars({symbol: [1.0] * len(values) for symbol, values in predictions.items()}).select(
        "symbol", "session", "ts"
    )
    frame = keys.with_columns(prediction=pl.Series([each for values in predictions.values() for each in values]))
    weights = apply_rule(frame, rule=rule, params=params, sessions=SESSIONS)
    return {symbol: of["weight"].to_list() for (symbol,), of in weights.group_by("symbol", maintain_order=True)}


def test_threshold_with_hysteresis_leaves_later_than_it_enters():
    values = {"A": [0.9, 1.0, 0.6, 0.5, 0.4, 0.9, -1.0, -0.5, -0.4], "B": [0.0] * 9}
    given = {"buy": 1.0, "sell": -1.0, "max_gross": 2.0}
    assert weights_over(values, "threshold", **given)["A"] == [0, 1, 0, 0, 0, 0, -1, 0, 0]
    held = {**given, "hysteresis": 0.5, "sessions": 9}
    assert weights_over(values, "threshold", **held)["A"] == [0, 1, 1, 1, 0, 0, -1, -1, 0]
    assert weights_over(values, "threshold", **held, long_short=False)["A"] == [0, 1, 1, 1, 0, 0, 0, 0, 0]
    # An entry counts for two sessions.
    assert weights_over(values, "threshold", **{**held, "sessions": 2})["A"] == [0, 1, 1, 0, 0, 0, -1, -1, 0]
    unknown = {"A": [1.0, NAN, 0.6], "B": [0.0] * 3}
    assert weights_over(unknown, "threshold", **held)["A"] == [1, 0, 0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        pytest.param(
            {"buy": 0.1, "sell": 0.2}, "`sell` of 'threshold' must be below its `buy` 0.1, was 0.2", id="order"
        ),
        pytest.param(
            {"buy": 0.1, "sell": 0.1}, "`sell` of 'threshold' must be below its `buy` 0.1, was 0.1", id="equal"
        ),
        pytest.param(
            {"buy": 0.1, "sell": -0.1, "hysteresis": 0.2, "sessions": 9},
            "`hysteresis` of 'threshold' must be smaller than `buy` - `sell` .0.2., was 0.2",
            id="hysteresis to the other side",
        ),
        pytest.param(
            {"hysteresis": 0.001},
            "`sessions` of 'threshold' must be above 1 where `hysteresis` is above 0",
            id="no memory",
        ),
    ],
)
def test_threshold_refuses_levels_that_contradict(params, message):
    with pytest.raises(ValueError, match=message):
        rule_needs("threshold", params)


def test_long_short_by_hand_among_members_and_of_raw_predictions():
    predictions = ranked(A=1.0, B=2.0, C=3.0, D=10.0, E=None)
    values = np.array([1.0, 2.0, 3.0, 10.0])
    scores = (values - 4.0) / math.sqrt((9 + 4 + 1 + 36) / 4)
    found = weights_of(predictions, "long_short", clip=1.0)
    assert list(found.values()) == pytest.approx([*(np.clip(scores, -1.0, 1.0) / 5.0), 0.0])
    assert found["D"] == 0.2
    assert weights_of(predictions, "long_short", standardise="none", clip=4.0, max_gross=2.0) == {
        "A": pytest.approx(0.1), "B": pytest.approx(0.2), "C": pytest.approx(0.3), "D": 0.4, "E": 0.0,
    }  # fmt: skip
    assert set(weights_of(ranked(A=1.0, B=1.0), "long_short").values()) == {0.0}


def test_long_short_scores_against_a_members_own_last_sessions():
    values = [1.0, 3.0, NAN, 2.0, 2.0, 2.0, 2.0, 8.0]
    found = weights_over({"A": values}, "long_short", standardise="own", sessions=3, clip=10.0)["A"]
    # [1], [1 3], -, [3 2], [2 2], no spread, no spread, [2 2 8].
    expected = [0.0, 0.1, 0.0, -0.1, 0.0, 0.0, 0.0, 4.0 / math.sqrt(8.0) / 10]
    assert found == pytest.approx(expected)


def test_long_short_of_a_rolling_score_equals_polars():
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=50).tolist() for name in "AB"}
    found = weights_over(values, "long_short", standardise="own", sessions=7, clip=9.0)
    for name, each in values.items():
        frame = pl.DataFrame({"x": each}).select(
            (pl.col("x") - pl.col("x").rolling_mean(7, min_samples=2))
            / pl.col("x").rolling_std(7, min_samples=2, ddof=0)
        )
        assert found[name][1:] == pytest.approx((frame["x"] / 9.0 / 2)[1:].to_list())


def test_long_short_with_a_volatility_target_is_smaller_in_what_moves_more():
    bars = plain_bars({"A": [1.0, 1.1, 1.0, 1.1], "B": [1.0, 1.01, 1.0, 1.01], "C": [1.0, 1.0, 1.0, 1.0]})
    now = bars.filter(pl.col("session") == SESSIONS[3]).select("symbol", "session", "ts", prediction=9.0)
    params = {"standardise": "none", "clip": 1.0, "volatility_target": 0.05, "volatility_bars": 3}
    found = apply_rule(now, rule="long_short", params=params, bars=bars)["weight"].to_list()
    volatility = np.std([0.1, 1 / 1.1 - 1, 0.1], ddof=1)
    # B moves less than the target and keeps its whole share; of C nothing is known of its risk.
    assert found == pytest.approx([0.05 / volatility / 3, 1 / 3, 0.0])


def test_portfolio_by_hand():
    predictions = ranked(A=1.0, B=2.0, C=3.0, D=None)
    assert weights_of(predictions, "portfolio", scheme="equal", max_gross=0.6) == pytest.approx(
        {"A": 0.2, "B": 0.2, "C": 0.2, "D": 0.0}
    )
    assert weights_of(predictions, "portfolio", scheme="rank") == pytest.approx(
        {"A": 1 / 6, "B": 2 / 6, "C": 0.5, "D": 0}
    )
    spread = math.sqrt(2.0 / 3.0)
    shares = [math.exp(-2 / spread / 0.5), math.exp(-1 / spread / 0.5), 1.0]
    expected = [each / sum(shares) for each in shares]
    found = weights_of(predictions, "portfolio", temperature=0.5)
    assert [found[name] for name in "ABC"] == pytest.approx(expected) and found["D"] == 0.0
    # Of a lower temperature the best one gets more.
    assert weights_of(predictions, "portfolio", temperature=0.01)["C"] == pytest.approx(1.0)
    assert weights_of(predictions, "portfolio", scheme="equal", n_held=1) == {"A": 0, "B": 0, "C": 1.0, "D": 0}
    assert weights_of(predictions, "portfolio", scheme="equal", floor=1.5) == {"A": 0, "B": 0.5, "C": 0.5, "D": 0}
    assert set(weights_of(predictions, "portfolio", floor=9.0).values()) == {0.0}
    assert weights_of(ranked(A=1.0, B=1.0), "portfolio") == {"A": 0.5, "B": 0.5}


SECTORS = {"A": "tech", "B": "tech", "C": "tech", "D": "oil", "E": "oil", "F": "bank"}


def in_sectors(rule: str, **params: object) -> dict[str, float]:
    predictions = ranked(A=9.0, B=8.0, C=7.0, D=1.0, E=2.0, F=5.0)
    found = apply_rule(
        predictions, rule=rule, params={"within_sectors": True, **params}, sessions=SESSIONS, sectors=SECTORS
    )
    return dict(found.select("symbol", "weight").iter_rows())


@pytest.mark.parametrize("rule", ["rank_long_short", "rank_buffer"])
def test_ranks_within_sectors_take_both_ends_of_each(rule):
    # The only bank is no two ends.
    expected = {"A": 0.25, "B": 0.0, "C": -0.25, "D": -0.25, "E": 0.25, "F": 0.0}
    assert in_sectors(rule, n_long=1, n_short=1) == expected
    assert rule_needs(rule, {"within_sectors": True}).sectors
    with pytest.raises(ValueError, match="`sectors` must hold every member for rule"):
        apply_rule(ranked(A=1.0), rule=rule, params={"within_sectors": True}, sessions=SESSIONS)


def test_ranks_by_quantile_take_a_share_of_those_that_are_known():
    values = {f"S{number}": float(number) for number in range(10)}
    found = weights_of(ranked(**values, X=None), "rank_long_short", quantile=0.3)
    assert [found[f"S{number}"] for number in range(10)] == pytest.approx([-1 / 6] * 3 + [0] * 4 + [1 / 6] * 3)
    # 0.1 of ten is one, of five too.
    assert weights_of(ranked(**values), "rank_buffer", quantile=0.1, buffer=0)["S9"] == 0.5
    assert weights_of(ranked(A=1.0, B=2.0, C=3.0, D=4.0, E=5.0), "rank_long_short", quantile=0.1)["E"] == 0.5
    assert rule_needs("rank_long_short", {"quantile": 0.1}).members == {}


VARIANTS = [
    ("threshold", {"buy": 0.5, "sell": -0.5, "hysteresis": 0.8, "sessions": 6}),
    ("long_short", {"standardise": "own", "sessions": 5}),
    ("portfolio", {"scheme": "rank", "n_held": 3}),
    ("rank_buffer", {"quantile": 0.3, "within_sectors": True, "buffer": 1, "sessions": 4}),
    ("rank_long_short", {"quantile": 0.2, "within_sectors": True}),
]


@pytest.mark.parametrize(("rule", "params"), VARIANTS)
def test_every_way_of_a_rule_gives_a_session_alone_what_it_gives_it_in_a_range(rule, params):
    predictions = random_predictions(symbols=9)
    sectors = {f"S{number}": "odd" if number % 2 else "even" for number in range(9)}
    sectors = sectors if RULES[rule].params.get("within_sectors") else None
    whole = apply_rule(predictions, rule=rule, params=params, sessions=SESSIONS, sectors=sectors)
    assert whole["weight"].n_unique() > 2
    for session in SESSIONS[:40]:
        window = window_sessions(SESSIONS, session, n_sessions=rule_needs(rule, params).sessions)
        part = predictions.filter(pl.col("session").is_in(window))
        alone = apply_rule(part, rule=rule, params=params, sessions=window, sectors=sectors)
        is_own = pl.col("session") == session
        assert_frame_equal(alone.filter(is_own), whole.filter(is_own), check_exact=True)
