"""Weights by hand, against mlfinpy's numbers, and what is refused."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.targets import build_labels, build_target
from hf_pipelines.research.weights import WEIGHTINGS, choose_weightings, require_weighable, sample_weights
from hf_pipelines_tests.sample_matrix import plain_bars

RETURN = build_target("forward_return", horizon_bars=2)
DIRECTION = build_target("direction", horizon_bars=2)


def weigh(rows, given, target=RETURN) -> list[float]:
    return sample_weights(rows, weightings=choose_weightings(given), target=target).tolist()


def rows_of(spans: list[tuple[str, int, int, int]], *, target: list[float] | None = None) -> pl.DataFrame:
    """Rows of (symbol, day of the bar, first and last day of the label)."""
    start = datetime(2024, 1, 1, 21)
    symbol, ts, first, last = zip(*spans, strict=True)
    at = {
        name: [start + timedelta(days=day) for day in days]
        for name, days in (("ts", ts), ("label_start", first), ("label_end", last))
    }
    y = target or [0.0] * len(spans)
    return pl.DataFrame({"symbol": symbol, "session": [each.date() for each in at["ts"]], **at, "target": y, "y": y})


def test_uniqueness_by_hand_counts_labels_of_the_symbol_that_share_a_return():
    # Labels of A over days 1-2, 2-3 and 5-5; B's lie on the same days and do not count beside them.
    rows = rows_of([("A", 0, 1, 2), ("A", 1, 2, 3), ("A", 4, 5, 5), ("B", 0, 1, 2), ("B", 1, 2, 3), ("B", 2, 3, 3)])
    # A: day 1 one label, day 2 two, day 3 one. B: day 1 one, days 2 and 3 two.
    expected = np.array([0.75, 0.75, 1.0, 0.75, 0.5, 0.5])
    assert weigh(rows, "uniqueness") == pytest.approx((expected / expected.mean()).tolist())
    # Labels that only touch, one bar each, share no return: all are unique.
    assert weigh(rows_of([("A", day, day + 1, day + 1) for day in range(5)]), "uniqueness") == [1.0] * 5


def test_uniqueness_tells_horizons_apart():
    labels = build_labels(
        plain_bars({"A": [100.0, 101.0, 102.0, 103.0]}), build_target("forward_returns", params={"horizons": [1, 2]})
    )
    weight = sample_weights(labels, weightings=choose_weightings("uniqueness"), target=RETURN)
    found = dict(zip(labels.select("session", "horizon").rows(), weight.tolist(), strict=True))
    # Over one bar every label is alone; over two, each shares one of its two bars with the other.
    day = [date(2024, 1, at) for at in (1, 2, 3)]
    raw = {(day[0], 1): 1.0, (day[1], 1): 1.0, (day[2], 1): 1.0, (day[0], 2): 0.75, (day[1], 2): 0.75}
    assert found == pytest.approx({key: value / (4.5 / 5) for key, value in raw.items()})


def test_uniqueness_agrees_with_mlfinpy():
    """Its numbers, on labels of its own: see the script beside the table."""
    table = pl.read_csv(Path(__file__).parent / "mlfinpy_uniqueness.csv", try_parse_dates=True)
    assert table.height == 120
    rows = table.select(
        symbol=pl.lit("A"),
        session=pl.col("label_start").dt.date(),
        ts="label_start",
        label_start="label_start",
        label_end="label_end",
        target=pl.lit(0.0),
        y=pl.lit(0.0),
    )
    weight = sample_weights(rows, weightings=choose_weightings("uniqueness"), target=RETURN)
    expected = table["uniqueness"].to_numpy()
    assert weight == pytest.approx(expected / expected.mean(), rel=1e-9)


def test_time_decay_by_hand_counts_sessions_not_days():
    rows = rows_of([("A", 0, 1, 1), ("A", 4, 5, 5), ("B", 4, 5, 5), ("A", 5, 6, 6)])
    raw = np.array([0.25, 0.5, 0.5, 1.0])
    given = {"type": "time_decay", "params": {"half_life_sessions": 1}}
    assert weigh(rows, given) == pytest.approx((raw / raw.mean()).tolist())


def test_return_magnitude_and_class_balance_by_hand_and_their_product():
    rows = rows_of([("A", day, day + 1, day + 1) for day in range(4)], target=[0.0, 0.0, 2.0, 1.0])
    assert weigh(rows, "return_magnitude") == pytest.approx([0.0, 0.0, 8 / 3, 4 / 3])
    # Three classes, two rows of the first.
    balanced = np.array([2 / 3, 2 / 3, 4 / 3, 4 / 3])
    assert weigh(rows, "class_balance", DIRECTION) == pytest.approx(balanced.tolist())
    product = balanced * np.array([0.0, 0.0, 2.0, 1.0])
    assert weigh(rows, ["class_balance", "return_magnitude"], DIRECTION) == pytest.approx(
        (product / product.mean()).tolist()
    )
    assert weigh(rows, "none") == weigh(rows, []) == [1.0] * 4


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
def test_every_weighting_is_of_mean_one_and_of_the_rows_given_alone(name):
    entry = WEIGHTINGS[name]
    assert entry.name == name and entry.formula and all(each.meaning for each in entry.params.values())
    rng = np.random.default_rng(0)
    bars = plain_bars({name: (50 * np.exp(np.cumsum(rng.normal(0, 0.02, 60)))).tolist() for name in "ABC"})
    labels = build_labels(bars, DIRECTION)
    whole = sample_weights(labels, weightings=choose_weightings(name), target=DIRECTION)
    assert whole.mean() == pytest.approx(1.0) and (whole >= 0).all()
    # A fold's rows in another order, beside none of the others: the same weights for the same rows.
    part = labels.sample(fraction=0.5, seed=1, shuffle=True)
    weight = dict(
        zip(
            part.select("symbol", "ts").rows(),
            sample_weights(part, weightings=choose_weightings(name), target=DIRECTION),
            strict=True,
        )
    )
    ordered = part.sort("symbol", "ts")
    again = sample_weights(ordered, weightings=choose_weightings(name), target=DIRECTION)
    found = [weight[key] for key in ordered.select("symbol", "ts").rows()]
    assert found == pytest.approx(again.tolist(), rel=1e-12)
    assert not np.array_equal(again, np.ones(len(again)))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        pytest.param("heavy", ValueError, r"must be one of \['none', 'class_balance', .*was 'heavy'", id="name"),
        pytest.param(["uniqueness", "uniqueness"], ValueError, "must name each weighting once", id="twice"),
        pytest.param(3, TypeError, "must be a name, a mapping with a `type`, or a list of them, was 3", id="no list"),
        pytest.param([3], TypeError, "must be a name or a mapping with a `type`, was 3", id="number"),
        pytest.param(
            {"half_life": 3}, ValueError, r"a mapping of `type` and `params`, was with \['half_life'\]", id="key"
        ),
        pytest.param({"params": {}}, ValueError, "without a `type`", id="no type"),
        pytest.param(
            {"type": "time_decay", "params": {"half_life_sessions": 0}},
            ValueError,
            "`half_life_sessions` of 'time_decay' must be from 1 to 100000, was 0",
            id="zero",
        ),
        pytest.param(
            {"type": "uniqueness", "params": {"zeal": 1}}, ValueError, r"must be among \[\], was \['zeal'\]", id="param"
        ),
    ],
)
def test_weightings_that_are_none_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        choose_weightings(given)


def test_weightings_that_leave_nothing_or_need_classes_are_refused():
    still = rows_of([("A", 0, 1, 1), ("A", 1, 2, 2)])
    with pytest.raises(ValueError, match=r"must give a row of training a weight above zero .* \['return_magnitude'\]"):
        weigh(still, "return_magnitude")
    with pytest.raises(ValueError, match="must be 'none' for target 'forward_return', was 'class_balance'"):
        require_weighable(choose_weightings("class_balance"), RETURN)
