import math

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import build_trading_panel
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, sessions, symbol_bars


def two_symbols() -> pl.DataFrame:
    return pl.concat(
        [
            symbol_bars("A", open=[1, 2, 3, 4], close=[1.5, 2.5, 3.5, 4.5], split_ratio={2: 2.0}),
            symbol_bars("B", open=[9, None, 7, 6], close=[9.5, None, 7.5, 6.5], dividend={3: 0.25}),
        ]
    )


def test_build_trading_panel_aligns_frames_from_first_decision_on() -> None:
    panel = build_trading_panel(decisions({1: {"A": 0.5}, 2: {"B": -0.5}}), two_symbols())

    assert panel.symbols.to_list() == ["A", "B"]
    assert panel.session.to_list() == sessions(4)[1:]
    assert panel.is_decision.tolist() == [True, True, False]
    np.testing.assert_array_equal(panel.weights, [[0.5, 0.0], [0.0, -0.5], [0.0, 0.0]])
    np.testing.assert_array_equal(panel.open, [[2.0, math.nan], [3.0, 7.0], [4.0, 6.0]])
    np.testing.assert_array_equal(panel.close, [[2.5, math.nan], [3.5, 7.5], [4.5, 6.5]])
    np.testing.assert_array_equal(panel.split_ratio, [[1.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
    np.testing.assert_array_equal(panel.dividend, [[0.0, 0.0], [0.0, 0.0], [0.0, 0.25]])
    # Friday, Monday, Tuesday.
    assert panel.elapsed_days.tolist() == [0, 3, 1]


def test_build_trading_panel_ignores_reference_bars() -> None:
    stray = symbol_bars("INDEX", open=[1] * 5, close=[1] * 5).with_columns(role=pl.lit("reference"))

    panel = build_trading_panel(decisions({0: {"A": 1.0}}), pl.concat([two_symbols(), stray]))

    # The fifth session exists for the reference alone: no member trades then.
    assert panel.session.to_list() == sessions(4)


def test_build_trading_panel_does_not_depend_on_row_order() -> None:
    weights, bars = random_market(seed=2, missing=0.1)
    panel = build_trading_panel(weights, bars)
    shuffled = build_trading_panel(
        weights.sample(fraction=1, shuffle=True, seed=1), bars.sample(fraction=1, shuffle=True, seed=2)
    )

    for name in ("weights", "open", "close", "split_ratio", "dividend", "is_decision"):
        np.testing.assert_array_equal(getattr(panel, name), getattr(shuffled, name), err_msg=name)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("close", 0.0, r"`close` must be finite and above zero, was not in 1 rows: A 2024-01-05 .*\(0.0\)"),
        ("open", math.nan, "`open` must be finite and above zero"),
        ("split_ratio", -1.0, "`split_ratio` must be above zero, or NaN where it is unknown; 1.0 is no split"),
        ("dividend", None, "`dividend` must be not negative, or NaN where it is unknown; 0.0 is no dividend"),
    ],
)
def test_build_trading_panel_with_impossible_bar_raises(column: str, value: float | None, message: str) -> None:
    is_target = (pl.col("symbol") == "A") & (pl.col("session") == sessions(2)[1])
    bars = two_symbols().with_columns(pl.when(is_target).then(value).otherwise(pl.col(column)).alias(column))

    with pytest.raises(ValueError, match=message):
        build_trading_panel(decisions({0: {"A": 1.0}}), bars)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (decisions({0: {"A": math.nan}}), "`weight` must be finite; 0.0 is no position"),
        (
            decisions({1: {"A": 0.5, "B": 0.5}}),
            "`weights` must be zero where the symbol has no bar .* B 2024-01-05",
        ),
        (
            decisions({0: {"A": 0.5}, 9: {"A": 0.5}}),
            "`weights` must be decided at the close of a member bar, was not for 1 ts: 2024-01-17",
        ),
        (
            pl.concat([decisions({0: {"A": 0.5}})] * 2),
            r"`weights` must have each \(symbol, ts\) once, .* A 2024",
        ),
        (decisions({0: {"A": 0.5}}).clear(), "`weights` must have at least one row"),
        (decisions({0: {"A": 0.5}}).drop("ts"), r"`weights` must have the columns .* lacked \['ts'\]"),
    ],
    ids=["nan", "no_bar", "no_session", "twice", "empty", "column"],
)
def test_build_trading_panel_with_impossible_weights_raises(weights: pl.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_trading_panel(weights, two_symbols())


def test_build_trading_panel_with_repeated_bar_raises() -> None:
    bars = pl.concat([two_symbols(), two_symbols().head(1)])

    with pytest.raises(ValueError, match=r"`bars` must have each \(symbol, ts\) once, repeated: A 2024-01-04"):
        build_trading_panel(decisions({0: {"A": 1.0}}), bars)
