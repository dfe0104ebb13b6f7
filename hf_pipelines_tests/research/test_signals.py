"""Signal rules by hand, and the contract every rule keeps."""

import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.signals import RULES, add_absent_members, apply_rule, reasons
from hf_pipelines_tests.sample_matrix import plain_bars

NAN = float("nan")


def probabilities(**up_and_down: tuple[float, float]) -> pl.DataFrame:
    """One session; each symbol with its probability of up and of down."""
    keys = plain_bars({symbol: [1.0] for symbol in up_and_down}).select("symbol", "session", "ts")
    up, down = zip(*up_and_down.values(), strict=True)
    return keys.with_columns(probability_up=pl.Series(up), probability_down=pl.Series(down))


def ranked(**values: float | None) -> pl.DataFrame:
    keys = plain_bars({symbol: [1.0] for symbol in values}).select("symbol", "session", "ts")
    return keys.with_columns(prediction=pl.Series(list(values.values()), dtype=pl.Float64))


def weights_of(predictions: pl.DataFrame, rule: str, **params: object) -> dict[str, float]:
    weights = apply_rule(predictions, rule=rule, params=params)
    return dict(weights.select("symbol", "weight").iter_rows())


def random_predictions(*, symbols: int = 7, sessions: int = 40, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    keys = plain_bars({f"S{number}": [1.0] * sessions for number in range(symbols)}).select("symbol", "session", "ts")
    share = rng.dirichlet([1.0, 1.0, 1.0], size=keys.height)
    # Rounded, so that ties occur.
    prediction = np.where(rng.random(keys.height) < 0.2, NAN, np.round(rng.normal(size=keys.height), 1))
    return keys.with_columns(
        prediction=pl.Series(prediction),
        probability_down=pl.Series(share[:, 0]),
        probability_up=pl.Series(share[:, 2]),
    )


def test_probability_threshold_takes_an_equal_share_of_all_members():
    predictions = probabilities(A=(0.60, 0.10), B=(0.20, 0.70), C=(0.54, 0.30), D=(0.55, 0.45))
    assert weights_of(predictions, "probability_threshold") == {"A": 0.25, "B": -0.25, "C": 0.0, "D": 0.25}


def test_probability_threshold_long_only_leaves_shorts_flat():
    predictions = probabilities(A=(0.60, 0.10), B=(0.20, 0.70))
    assert weights_of(predictions, "probability_threshold", long_short=False) == {"A": 0.5, "B": 0.0}


def test_probability_threshold_low_threshold_follows_the_larger_side():
    predictions = probabilities(A=(0.35, 0.40), B=(0.40, 0.35), C=(0.40, 0.40))
    weights = weights_of(predictions, "probability_threshold", threshold=0.3, max_gross=3.0)
    assert weights == {"A": -1.0, "B": 1.0, "C": 0.0}


def test_probability_threshold_unknown_member_counts_but_gets_nothing():
    assert weights_of(probabilities(A=(0.9, 0.1), B=(NAN, NAN)), "probability_threshold") == {
        "A": 0.5,
        "B": 0.0,
    }


def test_rank_long_short_takes_both_ends_dollar_neutral():
    predictions = ranked(A=0.1, B=-0.3, C=0.5, D=0.0, E=0.4, F=-0.1)
    expected = {"A": 0.0, "B": -0.25, "C": 0.25, "D": 0.0, "E": 0.25, "F": -0.25}
    assert weights_of(predictions, "rank_long_short") == expected


def test_rank_long_short_uneven_numbers_share_half_the_gross_each():
    weights = weights_of(ranked(A=3, B=2, C=1, D=0), "rank_long_short", n_long=1, n_short=2, max_gross=2.0)
    assert weights == {"A": 1.0, "B": 0.0, "C": -0.5, "D": -0.5}


def test_rank_long_short_ties_go_by_symbol_whatever_the_row_order():
    predictions = ranked(D=1.0, B=1.0, A=1.0, C=1.0)
    expected = {"A": 0.5, "B": 0.0, "C": 0.0, "D": -0.5}
    assert weights_of(predictions, "rank_long_short", n_long=1, n_short=1) == expected
    assert weights_of(predictions.reverse(), "rank_long_short", n_long=1, n_short=1) == expected


def test_rank_long_short_too_few_known_members_takes_no_position():
    assert set(weights_of(ranked(A=1, B=2, C=3, D=NAN), "rank_long_short").values()) == {0.0}
    assert set(weights_of(ranked(A=1, B=2, C=3, D=None), "rank_long_short").values()) == {0.0}


def test_rank_long_short_unknown_member_is_neither_best_nor_worst():
    weights = weights_of(ranked(A=1, B=NAN, C=3, D=2), "rank_long_short", n_long=1, n_short=1)
    assert weights == {"A": -0.5, "B": 0.0, "C": 0.5, "D": 0.0}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_gives_each_row_a_finite_weight_within_the_gross(rule):
    predictions = random_predictions()
    weights = apply_rule(predictions.sample(fraction=1.0, shuffle=True, seed=1), rule=rule, params={"max_gross": 0.8})
    keys = ["symbol", "session", "ts"]
    assert_frame_equal(weights.select(keys), predictions.select(keys).sort("ts", "symbol"))
    assert weights.schema["weight"] == pl.Float64 and weights["weight"].is_finite().all()
    gross = weights.group_by("ts").agg(pl.col("weight").abs().sum())["weight"]
    assert gross.max() <= 0.8 + 1e-12 and gross.max() > 0
    assert not weights.filter(pl.col("weight") == 0.0).select((1.0 / pl.col("weight") < 0).any()).item()


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_gives_members_without_a_row_what_it_gives_those_without_a_prediction(rule):
    predictions = random_predictions(symbols=6)
    is_gone = pl.Series(np.random.default_rng(3).random(predictions.height) < 0.3)
    numbers = pl.col("prediction", "probability_up", "probability_down")
    unknown = predictions.with_columns(pl.when(is_gone).then(NAN).otherwise(numbers).name.keep())
    members = predictions.select("symbol", "session")
    completed = add_absent_members(predictions.filter(~is_gone), members)
    assert_frame_equal(completed.select(unknown.columns), unknown.sort("ts", "symbol"))
    assert_frame_equal(apply_rule(completed, rule=rule), apply_rule(unknown, rule=rule))


def test_add_absent_members_knows_who_belongs_on_each_session_and_each_bar_of_it():
    bars = plain_bars({"A": [1.0, 1.0], "B": [1.0, 1.0]})
    first, second = bars["session"].unique().sort()
    hourly = pl.concat([bars, bars.with_columns(ts=pl.col("ts").dt.offset_by("-1h"))])
    predictions = hourly.filter((pl.col("symbol") == "A") | (pl.col("session") == first)).with_columns(
        prediction=pl.lit(1.0)
    )
    spells = pl.DataFrame({"symbol": ["A", "B", "A", "B", "C"], "session": [first, first, second, second, second]})
    completed = add_absent_members(predictions.select("symbol", "session", "ts", "prediction"), spells)
    assert completed.group_by("ts", maintain_order=True).agg("symbol")["symbol"].to_list() == [
        ["A", "B"], ["A", "B"], ["A", "B", "C"], ["A", "B", "C"],
    ]  # fmt: skip
    assert completed["prediction"].is_nan().sum() == 4


def test_reasons_by_hand():
    keys = plain_bars({symbol: [1.0] for symbol in "ABCD"}).select("symbol", "session", "ts")
    weights = keys.with_columns(weight=pl.Series([0.5, 0.0, 0.0, 0.0]), prediction=pl.Series([0.9, 0.1, NAN, NAN]))
    known = {"p": [1.0, 1.0, NAN], "q": [1.0, 1.0, None], "r": [1.0, 1.0, math.inf], "s": [NAN, 1.0, NAN]}
    features = keys[:3].with_columns(**{name: pl.Series(values, dtype=pl.Float32) for name, values in known.items()})
    found = reasons(weights, features, names=list(known))
    assert found.to_list() == ["", "no position by the rule", "unknown: p, q, r and 1 more", "no bar"]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_looks_at_one_ts_alone(rule):
    predictions = random_predictions()
    whole = apply_rule(predictions, rule=rule)
    for (ts,), part in predictions.group_by("ts"):
        assert_frame_equal(apply_rule(part, rule=rule), whole.filter(pl.col("ts") == ts), check_exact=True)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_names_itself_and_refuses_what_it_cannot_use(rule):
    predictions = random_predictions()
    assert RULES[rule].name == rule and RULES[rule].formula
    with pytest.raises(ValueError, match=r"`max_gross` must be above zero and at most 100, was -1"):
        apply_rule(predictions, rule=rule, params={"max_gross": -1.0})
    with pytest.raises(ValueError, match=rf"`params` of '{rule}' must be among \[.*'max_gross'.*\['zeal'\]"):
        apply_rule(predictions, rule=rule, params={"zeal": 1})
    with pytest.raises(ValueError, match=f"was without .*{RULES[rule].needs[0]}"):
        apply_rule(predictions.drop(RULES[rule].needs[0]), rule=rule)
    with pytest.raises(ValueError, match="was repeated in 1 rows; take `latest_predictions` first"):
        apply_rule(pl.concat([predictions, predictions[:1]]), rule=rule)


@pytest.mark.parametrize(
    ("rule", "params", "message"),
    [
        pytest.param("hunch", {}, "`rule` must be one of.*'hunch'", id="rule"),
        pytest.param("probability_threshold", {"threshold": 0.0}, "`threshold` must be above 0", id="zero"),
        pytest.param("probability_threshold", {"threshold": NAN}, "`threshold` must be above 0", id="nan"),
        pytest.param("rank_long_short", {"n_long": 0}, "`n_long` must be from 1 to 100,000, was 0", id="none long"),
        pytest.param(
            "rank_long_short", {"n_short": 1.5}, "`n_short` of 'rank_long_short' must be int, was 1.5", id="fraction"
        ),
    ],
)
def test_apply_rule_bad_argument_raises(rule, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        apply_rule(random_predictions(), rule=rule, params=params)
