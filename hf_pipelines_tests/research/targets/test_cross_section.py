"""Ranks and excess returns by hand: members that halt or leave, sectors, a benchmark."""

import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata

from hf_pipelines.research.targets import build_labels, build_target
from hf_pipelines_tests.sample_matrix import close_of, plain_bars

CLOSES = {
    "A": [100.0, 110.0, 120.0, 120.0],
    "B": [50.0, 50.0, 55.0, 60.0],
    "C": [10.0, 10.0, 9.0, 12.0],
    "D": [20.0, 21.0, 20.0, 20.0],
}


def y_of(labels: pl.DataFrame, day: int) -> dict[str, float]:
    return dict(labels.filter(pl.col("ts") == close_of(day)).select("symbol", "y").iter_rows())


def test_rank_by_hand_shares_the_place_of_equal_returns():
    labels = build_labels(plain_bars(CLOSES), build_target("rank", horizon_bars=2))
    # Returns over two bars of the first: 20 %, 10 %, -10 %, 0 %. Of the second: 9.1 %, 20 %, 20 %, -4.8 %.
    assert y_of(labels, 1) == {"A": 0.875, "B": 0.625, "C": 0.125, "D": 0.375}
    assert y_of(labels, 2) == pytest.approx({"A": 0.375, "B": 0.75, "C": 0.75, "D": 0.125})
    assert labels["ts"].unique().sort().to_list() == [close_of(1), close_of(2)]
    assert labels.filter(pl.col("ts") == close_of(1))["target"].to_list() == pytest.approx([0.2, 0.1, -0.1, 0.0])
    assert labels["label_end"].unique().sort().to_list() == [close_of(3), close_of(4)]


def test_rank_beside_a_member_that_halts_or_leaves_counts_its_last_price():
    bars = plain_bars(CLOSES)
    # C has no bar on the third: on the first it has lost nothing so far. Of D the bars end with the second: it gained 5 %.
    bars = bars.filter(~((pl.col("symbol") == "C") & (pl.col("ts") == close_of(3))))
    bars = bars.filter(~((pl.col("symbol") == "D") & (pl.col("ts") > close_of(2))))
    labels = build_labels(bars, build_target("rank", horizon_bars=2))
    assert y_of(labels, 1) == {"A": 0.875, "B": 0.625}
    # On the second C looks at the fourth, and D, which is worth what it was, stands below it and has no label.
    assert y_of(labels, 2) == {"A": 0.375, "B": 0.75, "C": 0.75}
    assert set(labels.filter(pl.col("symbol") == "C")["label_start"]) == {close_of(4)}


def test_rank_needs_two_members_and_leaves_out_an_unknown_return():
    alone = build_labels(plain_bars({"A": CLOSES["A"]}), build_target("rank", horizon_bars=2))
    assert alone.is_empty()
    bars = plain_bars(CLOSES).with_columns(
        dividend=pl.when((pl.col("symbol") == "A") & (pl.col("ts") == close_of(2))).then(float("nan")).otherwise(0.0)
    )
    labels = build_labels(bars, build_target("rank", horizon_bars=2))
    assert y_of(labels, 1) == pytest.approx({"B": 5 / 6, "C": 1 / 6, "D": 3 / 6})
    assert y_of(labels, 2)["A"] == 0.375


def test_rank_of_many_agrees_with_scipy():
    rng = np.random.default_rng(5)
    closes = {f"S{i:02d}": np.round(50 * np.exp(np.cumsum(rng.normal(0, 0.03, 12))), 1).tolist() for i in range(30)}
    labels = build_labels(plain_bars(closes), build_target("rank", horizon_bars=3))
    for day in range(1, 10):
        moves = [closes[name][day + 2] / closes[name][day - 1] - 1.0 for name in sorted(closes)]
        expected = (rankdata(moves) - 0.5) / 30
        assert [y_of(labels, day)[name] for name in sorted(closes)] == pytest.approx(expected.tolist())


def test_excess_over_the_universe_and_the_sector_by_hand():
    bars = plain_bars(CLOSES)
    over_all = build_labels(bars, build_target("excess_return", horizon_bars=2))
    # 20, 10, -10 and 0 % on average 5 %.
    assert y_of(over_all, 1) == pytest.approx({"A": 0.15, "B": 0.05, "C": -0.15, "D": -0.05})
    sectors = {"A": "tech", "B": "tech", "C": "food"}
    over_sector = build_labels(
        bars, build_target("excess_return", horizon_bars=2, params={"over": "sector"}), sectors=sectors
    )
    # C is alone in its sector and D has none: neither has a label.
    assert y_of(over_sector, 1) == pytest.approx({"A": 0.05, "B": -0.05})


def test_excess_over_the_benchmark_by_hand_labels_members_alone():
    bars = plain_bars({**CLOSES, "SPX": [1000.0, 1010.0, 1020.0, 1010.0], "VIX": [20.0, 10.0, 40.0, 20.0]})
    bars = bars.with_columns(
        role=pl.when(pl.col("symbol").is_in(["SPX", "VIX"])).then(pl.lit("reference")).otherwise("role")
    )
    target = build_target("excess_return", horizon_bars=2, params={"over": "benchmark", "benchmark": "SPX"})
    labels = build_labels(bars, target)
    assert y_of(labels, 1) == pytest.approx({"A": 0.18, "B": 0.08, "C": -0.12, "D": -0.02})
    # Without a bar of the benchmark on the day there is nothing to be measured by.
    gone = bars.filter(~((pl.col("symbol") == "SPX") & (pl.col("ts") == close_of(1))))
    assert sorted(build_labels(gone, target)["ts"].unique()) == [close_of(2)]


def test_excess_over_a_benchmark_that_is_a_member_labels_the_others_alone():
    bars = plain_bars({**CLOSES, "SPX": [1000.0, 1010.0, 1020.0, 1010.0]})
    target = build_target("excess_return", horizon_bars=2, params={"over": "benchmark", "benchmark": "SPX"})
    assert y_of(build_labels(bars, target), 1) == pytest.approx({"A": 0.18, "B": 0.08, "C": -0.12, "D": -0.02})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        pytest.param({"over": "benchmark"}, "`benchmark` must be given with `over: benchmark`", id="no benchmark"),
        pytest.param(
            {"benchmark": "SPX"}, "`benchmark` must be given with `over: benchmark` and with no other", id="unused"
        ),
        pytest.param(
            {"over": "peers"}, "`over` of 'excess_return' must be one of universe, sector, benchmark", id="other"
        ),
    ],
)
def test_excess_over_what_there_is_not_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        build_target("excess_return", horizon_bars=2, params=params)


def test_excess_over_a_benchmark_without_bars_is_refused():
    target = build_target("excess_return", horizon_bars=2, params={"over": "benchmark", "benchmark": "SPX"})
    with pytest.raises(ValueError, match="`benchmark` must have bars, was 'SPX', which has none"):
        build_labels(plain_bars(CLOSES), target)


# --- others of one symbol


def test_open_return_by_hand_is_what_a_fill_at_the_next_open_earns():
    bars = plain_bars({"A": [100.0, 100.0, 55.0, 56.0, 60.0]}).with_columns(
        open=pl.Series([99.0, 102.0, 54.0, 54.0, 57.0]),
        # 2:1 on the third; 1 a share on the second, which the buyer at its open has missed, and on the fourth.
        split_ratio=pl.Series([1.0, 1.0, 2.0, 1.0, 1.0]),
        dividend=pl.Series([0.0, 1.0, 0.0, 1.0, 0.0]),
    )
    labels = build_labels(bars, build_target("open_return", horizon_bars=2))
    # From the open of the second, 102, over the third, 2 * 54, to the fourth, 55 with its dividend for each 54.
    assert labels["target"].to_list() == pytest.approx([2 * 54 / 102 * 55 / 54 - 1, 55 / 54 * 57 / 54 - 1])
    assert labels.select("ts", "label_start", "label_end").rows() == [
        (close_of(1), close_of(2), close_of(4)),
        (close_of(2), close_of(3), close_of(5)),
    ]


def test_up_or_down_of_no_move_is_down_and_thresholds_are_exceeded_beyond_rounding():
    bars = plain_bars({"A": [100.0, 100.0, 101.0, 100.0]})
    assert build_labels(bars, build_target("up_or_down", horizon_bars=1))["y"].to_list() == [0.0, 1.0, 0.0]
    at = build_target("up_or_down", horizon_bars=1, params={"threshold": 0.01})
    assert build_labels(bars, at)["y"].to_list() == [0.0, 0.0, 0.0]


def test_volatility_direction_by_hand_scales_thresholds_by_the_root_of_the_horizon():
    # Returns of +1 % and -1 % before it: a deviation of 0.01 * sqrt(2), over two bars 0.02.
    bars = plain_bars({"A": [100.0, 101.0, 99.99, 101.0, 99.99 * 1.0101]})
    params = {"lower": -0.5, "upper": 0.5, "volatility_bars": 2}
    target = build_target("volatility_direction", horizon_bars=2, params=params)
    row = build_labels(bars, target).row(0, named=True)
    assert (row["ts"], row["y"], row["target"]) == (close_of(3), 2.0, pytest.approx(0.0101))
    wider = build_target("volatility_direction", horizon_bars=2, params={**params, "upper": 0.506})
    assert build_labels(bars, wider)["y"].to_list() == [1.0]
    with pytest.raises(ValueError, match="`lower` must not exceed `upper`, was 0.6 against 0.5"):
        build_target("volatility_direction", horizon_bars=2, params={"lower": 0.6})


def test_realised_volatility_by_hand_counts_a_dividend_and_no_mean():
    bars = plain_bars({"A": [100.0, 102.0, 100.98, 100.98]}).with_columns(dividend=pl.Series([0.0, 0.0, 1.02, 0.0]))
    labels = build_labels(bars, build_target("realised_volatility", horizon_bars=2))
    # Returns 2 %, 0 % with the dividend, 0 %.
    assert labels["y"].to_list() == pytest.approx([0.02 / math.sqrt(2.0), 0.0])


def test_forward_returns_give_one_label_a_horizon_each_with_its_own_end():
    bars = plain_bars({"A": [100.0, 110.0, 121.0, 121.0]})
    labels = build_labels(bars, build_target("forward_returns", params={"horizons": [3, 1]}))
    assert labels.select("ts", "horizon", "label_end").rows() == [
        (close_of(1), 1, close_of(2)),
        (close_of(1), 3, close_of(4)),
        (close_of(2), 1, close_of(3)),
        (close_of(3), 1, close_of(4)),
    ]
    assert labels["y"].to_list() == pytest.approx([0.1, 0.21, 0.1, 0.0])
    for horizons, message in (([2, 2], "`horizons` must differ, was"), ([], "must have from 1 to 20 values")):
        with pytest.raises(ValueError, match=message):
            build_target("forward_returns", params={"horizons": horizons})


def test_excess_needs_what_it_is_over():
    given = ({"over": "universe"}, {"over": "benchmark", "benchmark": "B"}, {"over": "sector"})
    needs = {each["over"]: build_target("excess_return", horizon_bars=2, params=each).needs for each in given}
    assert {name: (each.references, each.symbols, each.sectors) for name, each in needs.items()} == {
        "universe": (False, (), False),
        "benchmark": (True, ("B",), False),
        "sector": (False, (), True),
    }


def test_excess_labels_members_alone_wherever_a_reference_stands_among_many():
    names = [f"S{number:03d}" for number in range(60)]
    roles = {name: "reference" if number % 3 == 1 else "member" for number, name in enumerate(names)}
    bars = plain_bars({name: [10.0, 10.0 + number % 7, 12.0] for number, name in enumerate(names)})
    bars = bars.with_columns(role=pl.col("symbol").replace_strict(roles))
    target = build_target("excess_return", horizon_bars=1, params={"over": "benchmark", "benchmark": names[1]})
    labelled = set(build_labels(bars, target)["symbol"])
    assert labelled == {name for name in names if roles[name] == "member"}
