"""Signal rules by hand, and the contract every rule keeps."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.signals import (
    RULES,
    Rule,
    RuleNeeds,
    add_absent_members,
    apply_rule,
    misremembered,
    rule_needs,
    window_sessions,
)
from hf_pipelines_tests.sample_matrix import plain_bars

NAN = float("nan")

# Every session of `plain_bars`.
SESSIONS = plain_bars({"A": [1.0] * 60})["session"].to_list()

each_rule = pytest.mark.parametrize("rule", sorted(RULES))

# What has no default.
GIVEN: dict[str, dict[str, object]] = {
    "meta_label": {"primary": "trend"},
    "rule_tree": {
        "branches": [
            {"when": {"any": [{"prediction": {"above": 0.3}}, {"trend": {"at_least": 1.0}}]}, "weight": 0.5},
            {"when": {"prediction": {"below": 0.0}, "probability_up": {"at_most": 0.5}}, "weight": -1.0},
        ]
    },
    "mix": {"parts": ["probability_threshold", {"type": "ranking", "params": {"n_long": 1}, "weight": 3.0}]},
    "optimised_portfolio": {"bars": 10, "max_weight": 0.4},
    "chain": {
        "rule": "rank_buffer",
        "sizing": [{"type": "fixed_fraction", "params": {"fraction": 0.3}}],
        "limits": [
            "holding",
            {"type": "turnover_cap", "params": {"most": 1.1}},
            {"type": "net_cap", "params": {"most": 0.1}},
        ],
        "memory_weeks": 1,
    },
}


# For rules that look back on bars: of every member of `random_predictions`, from long before.
BARS_BEFORE = 12


def beside(rule: str) -> dict[str, object]:
    """What a rule is given beside predictions, sessions and parameters."""
    if not rule_needs(rule, GIVEN.get(rule)).history_bars:
        return {}
    rng = np.random.default_rng(7)
    n_bars = len(SESSIONS) + BARS_BEFORE
    closes = {f"S{at}": (100.0 * np.exp(0.01 * rng.normal(size=n_bars).cumsum())).tolist() for at in range(7)}
    return {"bars": plain_bars(closes, start=SESSIONS[0] - timedelta(days=BARS_BEFORE))}


def probabilities(**up_and_down: tuple[float, float]) -> pl.DataFrame:
    """One session; each symbol with its probability of up and of down."""
    keys = plain_bars({symbol: [1.0] for symbol in up_and_down}).select("symbol", "session", "ts")
    up, down = zip(*up_and_down.values(), strict=True)
    return keys.with_columns(probability_up=pl.Series(up), probability_down=pl.Series(down))


def ranked(**values: float | None) -> pl.DataFrame:
    keys = plain_bars({symbol: [1.0] for symbol in values}).select("symbol", "session", "ts")
    return keys.with_columns(prediction=pl.Series(list(values.values()), dtype=pl.Float64))


def weights_of(predictions: pl.DataFrame, rule: str, **params: object) -> dict[str, float]:
    weights = apply_rule(predictions, rule=rule, params=params, sessions=SESSIONS)
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
        probability_right=pl.Series(share[:, 1]),
        trend=pl.Series(np.round(rng.normal(size=keys.height), 1), dtype=pl.Float32),
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


@each_rule
def test_every_rule_gives_each_row_a_finite_weight_within_the_gross(rule):
    predictions = random_predictions()
    shuffled = predictions.sample(fraction=1.0, shuffle=True, seed=1)
    weights = apply_rule(
        shuffled, rule=rule, params={**GIVEN.get(rule, {}), "max_gross": 0.8}, sessions=SESSIONS, **beside(rule)
    )
    keys = ["symbol", "session", "ts"]
    assert_frame_equal(weights.select(keys), predictions.select(keys).sort("ts", "symbol"))
    assert weights.schema["weight"] == pl.Float64 and weights["weight"].is_finite().all()
    gross = weights.group_by("ts").agg(pl.col("weight").abs().sum())["weight"]
    assert gross.max() <= 0.8 + 1e-12 and gross.max() > 0
    assert not weights.filter(pl.col("weight") == 0.0).select((1.0 / pl.col("weight") < 0).any()).item()


@each_rule
def test_every_rule_gives_members_without_a_row_what_it_gives_those_without_a_prediction(rule):
    predictions = random_predictions(symbols=6)
    is_gone = pl.Series(np.random.default_rng(3).random(predictions.height) < 0.3)
    numbers = pl.col("prediction", "probability_up", "probability_down", "probability_right", "trend")
    unknown = predictions.with_columns(pl.when(is_gone).then(NAN).otherwise(numbers).name.keep())
    members = predictions.select("symbol", "session")
    completed = add_absent_members(predictions.filter(~is_gone), members)
    assert_frame_equal(completed.select(unknown.columns), unknown.sort("ts", "symbol"))
    given = {"rule": rule, "sessions": SESSIONS, "params": GIVEN.get(rule), **beside(rule)}
    assert_frame_equal(apply_rule(completed, **given), apply_rule(unknown, **given))


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


@each_rule
@pytest.mark.parametrize("bars_a_session", [1, 3])
def test_every_rule_gives_a_session_alone_what_it_gives_it_in_a_range(rule, bars_a_session):
    """From the sessions that it declares, no earlier and no later one, holes of the calendar among them."""
    predictions = random_predictions()
    hours = [predictions.with_columns(ts=pl.col("ts").dt.offset_by(f"-{hour}h")) for hour in range(bars_a_session)]
    predictions = pl.concat([each.sample(fraction=0.9, seed=hour) for hour, each in enumerate(hours)])
    predictions = predictions.filter(~pl.col("session").is_in(SESSIONS[12:14]) & (pl.col("session") != SESSIONS[20]))
    params = {**GIVEN.get(rule, {}), **({"sessions": 5} if "sessions" in RULES[rule].params else {})}
    needs, bars = rule_needs(rule, params), beside(rule)
    if needs.packages:
        # Each decision takes its time.
        predictions = predictions.filter(pl.col("session").is_in(SESSIONS[14:19]))
    whole = apply_rule(predictions, rule=rule, params=params, sessions=SESSIONS, **bars)
    assert whole["weight"].n_unique() > 2
    for session in predictions["session"].unique():
        window = window_sessions(SESSIONS, session, n_sessions=needs.sessions, block_weeks=needs.block_weeks)
        part = predictions.filter(pl.col("session").is_in(window))
        alone = apply_rule(part, rule=rule, params=params, sessions=window, **bars)
        is_own = pl.col("session") == session
        assert_frame_equal(alone.filter(is_own), whole.filter(is_own), check_exact=True)
        assert misremembered(whole, predictions, at=session, rule=rule, params=params, sessions=SESSIONS, **bars) == []


@each_rule
def test_every_rule_names_itself_and_refuses_what_it_cannot_use(rule):
    predictions = random_predictions()
    required = GIVEN.get(rule, {})
    entry, needs = RULES[rule], rule_needs(rule, required)
    assert entry.name == rule and entry.formula and all(each.meaning for each in entry.params.values())
    assert needs.max_gross == 1.0 and rule_needs(rule, {**required, "max_gross": 0.5}).max_gross == 0.5
    given = {"rule": rule, "sessions": SESSIONS, "params": required, **beside(rule)}
    with pytest.raises(ValueError, match=rf"`max_gross` of '{rule}' must be from 1e-06 to 100, was -1"):
        apply_rule(predictions, **{**given, "params": {**required, "max_gross": -1.0}})
    with pytest.raises(ValueError, match=rf"`params` of '{rule}' must be among \[.*'max_gross'.*\['zeal'\]"):
        apply_rule(predictions, **{**given, "params": {**required, "zeal": 1}})
    with pytest.raises(ValueError, match=f"was without .*{needs.columns[0]}"):
        apply_rule(predictions.drop(needs.columns[0]), **given)
    with pytest.raises(ValueError, match="was repeated in 1 rows; take `latest_predictions` first"):
        apply_rule(pl.concat([predictions, predictions[:1]]), **given)
    if needs.sessions > 1:
        with pytest.raises(ValueError, match=f"`sessions` must hold those of the predictions for rule '{rule}'"):
            apply_rule(predictions, rule=rule, params=required, sessions=SESSIONS[1:])


def test_inverse_volatility_gives_each_the_same_risk_and_nothing_to_one_without_a_forecast():
    predictions = ranked(A=0.01, B=0.02, C=None, D=0.04, E=-0.01)
    # 100 + 50 + 25 = 175.
    found = weights_of(predictions, "inverse_volatility", max_gross=0.5)
    assert found["A"] == pytest.approx(0.5 * 100 / 175) and found["D"] == pytest.approx(0.5 * 25 / 175)
    assert found["A"] * 0.01 == pytest.approx(found["B"] * 0.02) == pytest.approx(found["D"] * 0.04)
    assert found["C"] == found["E"] == 0.0 and sum(found.values()) == pytest.approx(0.5)


def test_meta_label_takes_the_side_of_the_primary_rule_where_it_is_likely_enough_right():
    keys = plain_bars({symbol: [1.0] for symbol in "ABCDE"}).select("symbol", "session", "ts")
    predictions = keys.with_columns(
        probability_right=pl.Series([0.6, 0.5, 0.49, 0.9, NAN]), trend=pl.Series([0.2, -3.0, 1.0, 0.0, 1.0])
    )
    given = {"primary": "trend", "max_gross": 2.0}
    # D's primary rule has no side, of E nothing is predicted; both are members.
    expected = {"A": 0.4, "B": -0.4, "C": 0.0, "D": 0.0, "E": 0.0}
    assert weights_of(predictions, "meta_label", **given) == expected
    assert weights_of(predictions, "meta_label", **given, long_short=False) == {**expected, "B": 0.0}
    with pytest.raises(ValueError, match="`primary` of 'meta_label' must be given"):
        weights_of(predictions, "meta_label")


@pytest.mark.parametrize(
    ("rule", "params", "message"),
    [
        pytest.param("hunch", {}, "`rule` must be one of.*'hunch'", id="rule"),
        pytest.param(
            "probability_threshold", {"threshold": 0.0}, "`threshold` .* must be from 1e-06 to 1, was 0", id="zero"
        ),
        pytest.param(
            "probability_threshold", {"threshold": NAN}, "`threshold` .* must be from 1e-06 to 1, was nan", id="nan"
        ),
        pytest.param(
            "rank_long_short", {"n_long": 0}, "`n_long` of .* must be from 1 to 100000, was 0", id="none long"
        ),
        pytest.param(
            "rank_long_short",
            {"n_short": 1.5},
            "`n_short` of 'rank_long_short' must be a whole number, was 1.5",
            id="fraction",
        ),
    ],
)
def test_apply_rule_bad_argument_raises(rule, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        apply_rule(random_predictions(), rule=rule, params=params, sessions=SESSIONS)


def own_rule(weigh, **needs):
    return Rule(name="own", weigh=weigh, params={}, needs=lambda params: RuleNeeds(**needs), formula="planted")


@pytest.mark.parametrize(
    ("weigh", "needs", "message"),
    [
        pytest.param(
            lambda rows, context: rows["prediction"][:3], {}, "must return a weight a row, was 3 for 280", id="short"
        ),
        pytest.param(lambda rows, context: rows["prediction"] * NAN, {}, "must return finite weights", id="nan"),
        pytest.param(
            lambda rows, context: rows["prediction"].sign(),
            {},
            "must keep the absolute weights of a ts at 1.0",
            id="gross",
        ),
        pytest.param(
            lambda rows, context: rows["prediction"].sign() / 10,
            {"shorts": False},
            "must give no negative weight",
            id="shorts",
        ),
        pytest.param(
            lambda rows, context: rows["prediction"].fill_null(1.0).clip(0.01, 0.02),
            {},
            "must give 0 to a member without",
            id="unknown",
        ),
    ],
)
def test_weights_that_break_the_contract_are_refused_by_name(monkeypatch, weigh, needs, message):
    monkeypatch.setitem(RULES, "own", own_rule(weigh, **needs))
    with pytest.raises(ValueError, match=f"`weigh` of rule 'own' {message}"):
        apply_rule(random_predictions(), rule="own")


def test_a_rule_that_looks_further_back_or_ahead_than_it_declares_is_told(monkeypatch):
    def weigh_by_the_whole(rows, context):
        return rows.select(
            pl.when(pl.col("prediction").is_not_null()).then(pl.col("session").rank("dense") * 1e-3)
        ).to_series()

    monkeypatch.setitem(RULES, "own", own_rule(weigh_by_the_whole, sessions=3))
    predictions = random_predictions()
    weights = apply_rule(predictions, rule="own", sessions=SESSIONS)
    told = misremembered(weights, predictions, at=SESSIONS[30], rule="own", sessions=SESSIONS)
    assert told and told[0].startswith("rule 'own' gives S") and f"({SESSIONS[28]} to {SESSIONS[30]})" in told[0]


def test_a_rule_is_given_the_sectors_bars_and_features_that_it_declares(monkeypatch):
    seen = []

    def weigh(rows, context):
        seen.append((rows.columns, dict(context.sectors)))
        at = rows["ts"].max()
        returns = context.trailing_returns(at, symbols=["S1", "S0", "Z"], n_bars=3)
        assert returns.shape == (3, 3) and np.isnan(returns[:, 2]).all()
        np.testing.assert_allclose(returns[:, 1], [-0.5, 1.0, 0.25])
        # The bar before S1 halted is not that of a return of one bar.
        np.testing.assert_allclose(returns[:, 0], [np.nan, np.nan, 0.1])
        return rows["prediction"] * 0.0

    needs = {"sectors": True, "history_bars": 4, "features": ("speed",)}
    monkeypatch.setitem(RULES, "own", own_rule(weigh, **needs))
    bars = plain_bars({"S0": [8.0, 4.0, 8.0, 10.0, 99.0], "S1": [1.0, 1.0, 1.0, 1.1, 99.0]})
    bars = bars.filter((pl.col("symbol") != "S1") | (pl.col("session") != SESSIONS[1]))
    now = bars.filter(pl.col("session") == SESSIONS[3]).select("symbol", "session", "ts", prediction=1.0, speed=2.0)
    given = {"sectors": {"S0": "one", "S1": "two", "S9": "one"}, "bars": bars}
    apply_rule(now, rule="own", **given)
    assert seen == [(["symbol", "session", "ts", "prediction", "speed"], given["sectors"])]
    for name, message in (
        ("sectors", "must hold every member .* was without S0, S1"),
        ("bars", "must be given for rule 'own'"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` {message}"):
            apply_rule(now, rule="own", **{**given, name: None})


def weights_over(predictions: dict[str, list[float]], **params: int) -> dict[str, list[float]]:
    """Weights of `rank_buffer` session by session, of one value a session and symbol."""
    keys = plain_bars({symbol: [1.0] * len(values) for symbol, values in predictions.items()}).select(
        "symbol", "session", "ts"
    )
    frame = keys.with_columns(prediction=pl.Series([each for values in predictions.values() for each in values]))
    weights = apply_rule(frame, rule="rank_buffer", params={"n_long": 1, "n_short": 1, **params}, sessions=SESSIONS)
    return {symbol: of["weight"].to_list() for (symbol,), of in weights.group_by("symbol", maintain_order=True)}


RANKS = {
    "A": [4.0, 3.0, 2.0, 3.0, 4.0],
    "B": [3.0, 4.0, 4.0, 4.0, 3.0],
    "C": [2.0, 2.0, 3.0, 2.0, 2.0],
    "D": [1.0, 1.0, 1.0, 1.0, 1.0],
}


def test_rank_buffer_by_hand_enters_at_the_end_and_leaves_behind_the_band():
    weights = weights_over(RANKS, buffer=1, sessions=9)
    # A enters first, shares the long side while it is second, leaves as third, and is back when it is first again.
    assert weights == {
        "A": [0.5, 0.25, 0.0, 0.0, 0.25],
        "B": [0.0, 0.25, 0.5, 0.5, 0.25],
        "C": [0.0, 0.0, 0.0, 0.0, 0.0],
        "D": [-0.5, -0.5, -0.5, -0.5, -0.5],
    }


def test_rank_buffer_forgets_an_entry_that_is_older_than_its_sessions():
    weights = weights_over(
        {**RANKS, "A": [4.0, 3.0, 3.0, 3.0, 3.0], "B": [3.0, 4.0, 4.0, 4.0, 4.0], "C": [2.0] * 5}, buffer=1, sessions=3
    )
    assert weights["A"] == [0.5, 0.25, 0.25, 0.0, 0.0]
    assert weights_over(RANKS, buffer=1, sessions=1)["A"] == [0.5, 0.0, 0.0, 0.0, 0.5]


def test_rank_buffer_without_a_prediction_or_too_few_of_them_leaves():
    unknown = weights_over({**RANKS, "A": [4.0, NAN, 3.0, 3.0, 3.0]}, buffer=2, sessions=9)
    # First again in the end, by its name, while B stays.
    assert unknown["A"] == [0.5, 0.0, 0.0, 0.0, 0.25]
    few = weights_over({"A": [2.0, 2.0, 1.5], "B": [1.0, NAN, 2.0]}, buffer=1, sessions=9)
    assert few["A"] == [0.5, 0.0, -0.5]


def test_rank_buffer_of_a_member_that_was_none_for_a_session_begins_anew():
    predictions = pl.concat(
        [
            plain_bars({symbol: [1.0] * 5}).select("symbol", "session", "ts").with_columns(prediction=pl.Series(values))
            for symbol, values in {**RANKS, "A": [4.0, 3.0, 3.0, 3.0, 3.0], "B": [3.0, 4.0, 4.0, 4.0, 4.0]}.items()
        ]
    ).filter((pl.col("symbol") != "A") | (pl.col("session") != SESSIONS[2]))
    weights = apply_rule(
        predictions,
        rule="rank_buffer",
        params={"n_long": 1, "n_short": 1, "buffer": 1, "sessions": 9},
        sessions=SESSIONS,
    )
    assert weights.filter(pl.col("symbol") == "A")["weight"].to_list() == [0.5, 0.25, 0.0, 0.0]


def test_rank_buffer_without_memory_is_the_ranking():
    predictions = random_predictions()
    given = {"n_long": 2, "n_short": 1, "max_gross": 0.9}
    plain = apply_rule(predictions, rule="rank_long_short", params=given)
    for more in ({"buffer": 0, "sessions": 30}, {"buffer": 3, "sessions": 1}):
        buffered = apply_rule(predictions, rule="rank_buffer", params={**given, **more}, sessions=SESSIONS)
        assert_frame_equal(buffered, plain)
