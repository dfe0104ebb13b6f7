import math

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import TradingPanel, build_trading_panel, grid
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


def looked_up(frame: pl.DataFrame, column: str, panel: TradingPanel, *, empty: float) -> np.ndarray:
    """A column on the grid of a panel, row by row."""
    found = {(row["symbol"], row["ts"]): row[column] for row in frame.to_dicts()}
    return np.array([[found.get((symbol, ts), empty) for symbol in panel.symbols] for ts in panel.ts])


ORDERS = {
    "by symbol": lambda frame: frame.sort("symbol", "ts"),
    "by time": lambda frame: frame.sort("ts", "symbol"),
    "symbols backwards": lambda frame: frame.sort("symbol", "ts", descending=[True, False]),
    "time backwards": lambda frame: frame.sort("symbol", "ts", descending=[False, True]),
    "shuffled": lambda frame: frame.sample(fraction=1.0, shuffle=True, seed=3),
    "in pieces": lambda frame: pl.concat([frame[:50], frame[50:]], rechunk=False),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("missing", [0.0, 0.1], ids=["whole", "gaps"])
@pytest.mark.parametrize("strangers", [False, True], ids=["all", "strangers"])
def test_build_trading_panel_is_the_same_for_every_order_of_rows(order: str, missing: float, strangers: bool) -> None:
    weights, bars = random_market(seed=5, n_sessions=40, missing=missing)
    if strangers:
        # S0 and S2 have bars, and no weight.
        weights = weights.filter(pl.col("symbol").is_in(["S1", "S3"]))
    panel = build_trading_panel(ORDERS[order](weights), ORDERS[order](bars))
    since = bars.filter(pl.col("ts") >= weights["ts"].min())
    calendar = since.select("ts", "session").unique().sort("ts")
    assert panel.ts.to_list() == calendar["ts"].to_list() and panel.session.to_list() == calendar["session"].to_list()
    assert panel.symbols.to_list() == sorted(weights["symbol"].unique())
    assert panel.is_decision.tolist() == [ts in set(weights["ts"]) for ts in panel.ts]
    for name, empty in (("open", math.nan), ("close", math.nan), ("split_ratio", 1.0), ("dividend", 0.0)):
        np.testing.assert_array_equal(getattr(panel, name), looked_up(bars, name, panel, empty=empty))
    np.testing.assert_array_equal(panel.weights, looked_up(weights, "weight", panel, empty=0.0))


@pytest.mark.parametrize("seed", range(4))
def test_times_are_found_whatever_their_steps(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(grid, "CHUNK", 7)
    monkeypatch.setattr(grid, "SAMPLE", 5)
    # Days of 24 hours with one of 23, microseconds that have no common step, one time alone, far ones.
    day = 86_400_000_000
    kinds = (
        np.cumsum(np.where(np.arange(60) == 31, day - 3_600_000_000, day)) + 1_700_000_000_000_000,
        np.sort(rng.choice(10**15, 50, replace=False)),
        np.array([5]),
        np.array([-(10**15), 0, 1, 10**15]),
    )
    for times in kinds:
        ts = rng.choice(times, 200)
        ts[: len(times)] = times
        clock, row = grid.Clock.of(ts)
        assert clock.times.tolist() == times.tolist()
        assert row.tolist() == np.searchsorted(times, ts).tolist()
        asked = np.concatenate([ts, times + 1, times - 1, times[:1] - day, times[-1:] + day])
        expected = [int(np.searchsorted(times, each)) if each in set(times.tolist()) else -1 for each in asked.tolist()]
        assert clock.rows(asked).tolist() == expected


def test_build_trading_panel_refuses_a_row_without_a_key() -> None:
    weights = decisions({0: {"A": 1.0}}).with_columns(ts=pl.lit(None, dtype=pl.Datetime("us", "UTC")))
    with pytest.raises(ValueError, match="`weights` must have a key in every row, lacked ts in some"):
        build_trading_panel(weights, two_symbols())
