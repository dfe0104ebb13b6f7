"""Cross-section features: hand-worked universes, agreement with scipy, members that come and go, and planted leaks."""

from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats

from hf_pipelines.research.features import FEATURES, Feature, build_panel, compute_features, feature_frame, group_names
from hf_pipelines.research.features.cross_section import reach
from hf_pipelines.research.replay import compare_replay
from hf_pipelines_tests.research.features.stocknet import stocknet_bars
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays

NAMES = list(group_names("cross_section"))
OF_RETURNS = ["rank_return_1", "zscore_return_1", "breadth_advancing", "dispersion_return_1"]
# The registered feature that each quantity is, and the pandas way to it where there is none.
REGISTERED = {name: name for name in ("volatility_20", "volume_ratio_20", "sma_gap_20")}


def _universe(**returns: float) -> pl.DataFrame:
    """Three bars of each symbol: flat, then its return."""
    closes = {symbol: [100.0, 100.0, 100.0 * (1 + change)] for symbol, change in returns.items()}
    return pl.concat([bars_of(symbol, close) for symbol, close in sorted(closes.items())])


def _last(bars: pl.DataFrame, names: list[str], **given) -> pl.DataFrame:
    features = compute_features(bars, names, **given)
    return features.filter(pl.col("ts") == pl.col("ts").max())


def test_cross_section_by_hand():
    # Mean 2.5 %, squared distances 2.25, 0.25, 0.25 and 6.25: a variance of 2.25, a deviation of 1.5 %.
    last = _last(_universe(A=0.01, B=0.02, C=0.02, D=0.05), OF_RETURNS)
    np.testing.assert_allclose(last["rank_return_1"], [0.0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(last["zscore_return_1"], [-1.0, -1 / 3, -1 / 3, 5 / 3], rtol=1e-6)
    np.testing.assert_allclose(last["breadth_advancing"], 1.0)
    np.testing.assert_allclose(last["dispersion_return_1"], 0.015, rtol=1e-6)


def test_breadth_by_hand_counts_unchanged_and_falling_members_alike():
    last = _last(_universe(A=0.01, B=0.0, C=-0.02, D=0.05), ["breadth_advancing"])
    assert last["breadth_advancing"].to_list() == [0.5] * 4


@pytest.mark.parametrize(("name", "bars"), [("breadth_sma_20", 20), ("breadth_sma_50", 50)])
def test_breadth_by_hand_counts_members_above_their_mean(name, bars):
    n = reach(bars)
    closes = {"A": [10.0] * (n - 1) + [11.0], "B": [10.0] * (n - 1) + [9.0], "C": [5.0] * n}
    last = _last(pl.concat([bars_of(symbol, close) for symbol, close in closes.items()]), [name])
    assert last[name].to_list() == [pytest.approx(1 / 3)] * 3


def test_cross_section_of_one_member_is_the_middle_and_has_no_spread():
    last = _last(_universe(A=0.01), OF_RETURNS).row(0)[3:]
    np.testing.assert_array_equal(last, [0.5, np.nan, 1.0, np.nan])


def test_cross_section_of_members_that_do_the_same_ties_them_all():
    last = _last(_universe(A=0.01, B=0.01, C=0.01), OF_RETURNS).row(1)[3:]
    np.testing.assert_allclose(last, [0.5, np.nan, 1.0, 0.0], atol=1e-12)


def test_rank_ties_returns_that_differ_by_rounding_only():
    prices = {"A": (100.0, 101.0), "B": (100.0 * 0.37, 101.0 * 0.37), "C": (100.0 / 3, 101.0 / 3), "D": (100.0, 99.0)}
    returns = [later / before for before, later in prices.values()]
    assert len(set(returns)) > 2
    bars = pl.concat([bars_of(symbol, [before, before, later]) for symbol, (before, later) in prices.items()])
    np.testing.assert_allclose(_last(bars, ["rank_return_1"])["rank_return_1"], [2 / 3, 2 / 3, 2 / 3, 0.0], rtol=1e-6)


def test_cross_section_by_hand_leaves_out_whoever_had_a_gap_beyond_its_reach():
    # A return of one bar must lie within the last three times of the universe.
    days = weekdays(6)
    bars = pl.concat(
        [
            bars_of("A", [10.0, 10.0, 10.0, 10.0, 10.0, 11.0], days=days),
            bars_of("B", [10.0] * 4 + [12.0], days=[*days[:4], days[5]]),
            bars_of("C", [10.0] * 3 + [13.0], days=[*days[:3], days[5]]),
        ]
    )
    last = _last(bars, ["rank_return_1", "zscore_return_1", "dispersion_return_1"])
    np.testing.assert_array_equal(last["rank_return_1"], [0.0, 1.0, np.nan])
    np.testing.assert_allclose(last["zscore_return_1"], [-1.0, 1.0, np.nan], rtol=1e-6)
    # The state of the universe is known to C as well.
    np.testing.assert_allclose(last["dispersion_return_1"], 0.05, rtol=1e-6)


def test_cross_section_compares_bars_of_the_same_time_within_a_session():
    day = weekdays(1)[0]
    closes = {"A": [100.0, 100.0, 101.0, 103.0], "B": [100.0, 100.0, 102.0, 102.0]}
    hours = pl.Series([0, 1, 2, 3]) * 3_600_000_000
    bars = pl.concat([bars_of(s, c, days=[day] * 4).with_columns(ts=pl.col("ts") + hours.cast(pl.Duration("us")))
                      for s, c in closes.items()])  # fmt: skip
    features = compute_features(bars, ["rank_return_1"])
    np.testing.assert_array_equal(features["rank_return_1"].to_numpy().reshape(2, 4)[:, 2:], [[0.0, 1.0], [1.0, 0.0]])


def _quantities(bars: pl.DataFrame) -> dict[str, pd.DataFrame]:
    """Each quantity of the universe, by session and symbol: total returns by pandas, the rest as registered."""
    member = bars.filter(pl.col("role") == "member").to_pandas()
    close, split, dividend = (
        member.pivot(index="session", columns="symbol", values=name) for name in ("close", "split_ratio", "dividend")
    )
    growth = split * (close + dividend) / close.shift()
    named = compute_features(bars, list(REGISTERED.values())).to_pandas()
    return {
        **{f"return_{n}": growth.rolling(n).apply(np.prod, raw=True) - 1 for n in (1, 5, 20, 60)},
        **{name: named.pivot(index="session", columns="symbol", values=of) for name, of in REGISTERED.items()},
    }


def _assert_agrees_with_scipy(bars: pl.DataFrame, sessions: list[date]) -> int:
    features, n_values = compute_features(bars, NAMES).to_pandas(), 0
    for quantity, table in _quantities(bars).items():
        for kind in ("rank", "zscore"):
            ours = features.pivot(index="session", columns="symbol", values=f"{kind}_{quantity}").loc[sessions]
            theirs = table.loc[sessions].to_numpy(dtype=float)
            if kind == "rank":
                # Flat over five bars is a product of returns that is 1 but for rounding.
                places = scipy.stats.rankdata(theirs.round(9), axis=1) - 1
                off = np.abs(ours.to_numpy() * (theirs.shape[1] - 1) - places)
                # What is registered comes as float32: a tie within 1e-9 may be one there or not.
                assert off.max() <= 0.5001 and (off > 1e-3).sum() <= (2 if quantity in REGISTERED else 0), quantity
            else:
                np.testing.assert_allclose(ours, scipy.stats.zscore(theirs, axis=1), rtol=1e-4, atol=1e-4)
            n_values += ours.size
    one, twenty = (_quantities(bars)[f"return_{n}"].loc[sessions] for n in (1, 20))
    state = features.groupby("session").first().loc[sessions]
    np.testing.assert_allclose(state["breadth_advancing"], (one > 1e-9).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(state["dispersion_return_1"], one.std(axis=1, ddof=0), rtol=1e-5)
    np.testing.assert_allclose(state["dispersion_return_20"], twenty.std(axis=1, ddof=0), rtol=1e-5)
    return n_values


def test_cross_section_agrees_with_scipy_on_random_bars_with_splits_and_dividends():
    bars = random_bars(symbols=12, sessions=140, seed=2, has_reference=False)
    assert _assert_agrees_with_scipy(bars, weekdays(140)[reach(61) :]) == 7 * 2 * 12 * (140 - 91)


def test_cross_section_agrees_with_scipy_on_real_stocks():
    bars = stocknet_bars(date(2013, 1, 1), date(2013, 12, 31))
    is_whole = bars.filter(pl.col("role") == "member").group_by("symbol").len().filter(pl.col("len") == 252)
    whole = bars.filter(pl.col("symbol").is_in(is_whole["symbol"].implode()))
    sessions = whole["session"].unique().sort().to_list()[reach(61) :]
    assert _assert_agrees_with_scipy(whole, sessions) == 7 * 2 * is_whole.height * len(sessions) > 190_000


@pytest.mark.parametrize("extra", [1, 13, 60])
def test_cross_section_with_many_gaps_does_not_depend_on_where_the_frame_begins(extra):
    bars = random_bars(symbols=9, sessions=220, seed=6, has_reference=False, late_bars=11)
    bars = bars.filter(pl.Series(np.random.default_rng(1).random(bars.height) > 0.15))
    days = weekdays(220)
    short, longer = (compute_features(bars.filter(pl.col("session") >= days[n]), NAMES) for n in (60, 60 - extra))
    same = longer.filter(pl.col("session") >= days[60])
    for name in NAMES:
        known = short[name].is_not_nan()
        assert known.sum() > 300, name
        assert short[name].filter(known).equals(same[name].filter(known)), name


def test_cross_section_is_the_same_whatever_else_is_wanted():
    bars = random_bars(symbols=6, sessions=150, seed=4, has_reference=False, late_bars=20)
    days = weekdays(150)
    whole = compute_features(bars, NAMES)
    for wanted in ([days[120]], days[118:123], [days[0], days[120]]):
        some = compute_features(bars, NAMES, wanted=wanted)
        assert some.equals(whole.filter(pl.col("session").is_in(wanted)))


# DEAD leaves on day 120, LATE joins on day 130; LATE has bars all along, DEAD's end when it leaves.
DAYS = weekdays(160)
MEMBERSHIP = pl.DataFrame(
    {
        "symbol": ["DEAD", "LATE", "S000", "S001", "S002"],
        "since": [DAYS[0], DAYS[130], DAYS[0], DAYS[0], DAYS[0]],
        "until": [DAYS[120], None, None, None, None],
    }
)


def _changing_universe() -> pl.DataFrame:
    bars = random_bars(symbols=5, sessions=160, seed=9, has_reference=False)
    renamed = bars.with_columns(pl.col("symbol").replace({"S003": "DEAD", "S004": "LATE"})).sort("symbol", "ts")
    return renamed.filter((pl.col("symbol") != "DEAD") | (pl.col("session") <= DAYS[120]))


def _changed_by_replay(features: list[Feature], day: date) -> list[str]:
    """Names of the features that change when all that came after `day` is cut off, members and spells included."""
    bars = _changing_universe()
    spells = MEMBERSHIP.filter(pl.col("since") <= day).with_columns(
        until=pl.when(pl.col("until") <= day).then("until").otherwise(None)
    )
    known = bars.filter((pl.col("session") <= day) & pl.col("symbol").is_in(spells["symbol"].implode()))
    whole, cut = (
        feature_frame(build_panel(frame, None, membership=membership), features)
        for frame, membership in ((bars, MEMBERSHIP), (known, spells))
    )
    at = whole.filter(pl.col("session") == day)["ts"][0]
    return sorted({found.feature for found in compare_replay(whole, cut, at=at)})


@pytest.mark.parametrize("at", [95, 119, 120, 121, 129, 130, 131, 159])
def test_cross_section_with_members_that_leave_and_join_is_confirmed_by_replay(at):
    assert _changed_by_replay([FEATURES[name] for name in NAMES], DAYS[at]) == []


def test_cross_section_by_hand_ranks_members_of_the_day_only():
    bars = pl.concat([bars_of(symbol, [10.0, 10.0, 10.0 + n, 10.0]) for n, symbol in enumerate("ABC")])
    days = weekdays(4)
    spells = pl.DataFrame(
        {"symbol": ["A", "B", "C"], "since": [days[0], days[0], days[3]], "until": [None, None, None]}
    )
    features = compute_features(bars, ["rank_return_1"], membership=spells)
    assert features.filter(pl.col("session") == days[2])["rank_return_1"].to_list() == [0.0, 1.0]
    # Back to 10: A unchanged, B fell by 1/11, C by 1/6; C is a member from its first day on, with its bars before.
    assert features.filter(pl.col("session") == days[3])["rank_return_1"].to_list() == [1.0, 0.5, 0.0]


def _rank_among(name: str, counts) -> Feature:
    def leaking(panel):
        frame = panel.keys.with_columns(close=panel.close, gap=panel.close).with_columns(
            gap=pl.col("close") / pl.col("close").shift(5).over("symbol") - 1
        )
        frame = frame.with_columns(gap=pl.when(pl.Series(counts(panel))).then("gap").otherwise(None))
        return frame.select((pl.col("gap").rank() / pl.col("gap").count()).over("ts").fill_null(np.nan))[
            "gap"
        ].to_numpy()

    return Feature(name, "planted", leaking, 6, ("close",), "rank of the 5-bar return")


def test_planted_ranks_over_future_members_and_over_survivors_are_caught_by_name():
    def is_survivor(panel):
        lives = panel.session[panel.starts[1:] - 1] == panel.session.max()
        return panel.is_member & lives.repeat(np.diff(panel.starts))

    planted = [
        _rank_among("rank_of_future_members", lambda panel: panel.is_member | True),
        _rank_among("rank_of_survivors", is_survivor),
        _rank_among("rank_of_members", lambda panel: panel.is_member),
    ]
    assert _changed_by_replay(planted, DAYS[100]) == ["rank_of_future_members", "rank_of_survivors"]
    assert _changed_by_replay(planted, DAYS[125]) == ["rank_of_future_members"]
    assert _changed_by_replay(planted, DAYS[159]) == []


def test_a_planted_full_sample_zscore_is_caught_by_name():
    def leaking(panel):
        return (panel.close - panel.close.mean()) / panel.close.std()

    planted = Feature("full_sample_zscore", "planted", leaking, 1, ("close",), "over all of the sample")
    assert _changed_by_replay([planted], DAYS[100]) == ["full_sample_zscore"]


def test_reach_by_hand_is_half_as_many_again():
    assert [reach(bars) for bars in (2, 20, 21, 61)] == [3, 30, 31, 91]
    assert FEATURES["rank_return_60"].lookback_bars == 91
