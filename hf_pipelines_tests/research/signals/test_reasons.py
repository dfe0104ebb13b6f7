"""Reasons of a weight of 0: by hand for each word, and as a property over every rule and over random books."""

import math

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.signals import (
    ISSUE_COLUMNS,
    LIMITS,
    REASONS,
    Limit,
    Reason,
    Rule,
    RuleNeeds,
    apply_rule,
    reasons,
    upgrade_issue,
    zero_reasons,
)
from hf_pipelines.research.signals.table import RULES
from hf_pipelines_tests.research.signals.test_limits import chain, limit, random_book
from hf_pipelines_tests.research.signals.test_registry import (
    GIVEN,
    NAN,
    SESSIONS,
    beside,
    each_rule,
    probabilities,
    random_predictions,
    ranked,
)
from hf_pipelines_tests.sample_matrix import plain_bars

R = Reason


def told(
    predictions: pl.DataFrame, name: str, /, history: pl.DataFrame | None = None, **params: object
) -> dict[str, str]:
    """Words of the last session by symbol; `history`: bars."""
    given = {"rule": name, "params": params, "sessions": SESSIONS, "bars": history}
    weights = apply_rule(predictions, **given)
    return dict(zero_reasons(predictions, weights, **given).select("symbol", "reason").iter_rows())


def test_words_of_the_rules_by_hand():
    levels = ranked(A=0.02, B=0.0, C=-0.02, D=NAN)
    both = {"buy": 0.01, "sell": -0.01}
    assert told(levels, "threshold", **both) == {"A": "", "B": R.BELOW_THRESHOLD, "C": "", "D": R.NO_PREDICTION}
    assert told(levels, "threshold", **both, long_short=False)["C"] == R.LONG_ONLY

    likely = probabilities(A=(0.6, 0.1), B=(0.2, 0.7), C=(0.4, 0.3), D=(0.5, 0.5), E=(NAN, NAN))
    assert told(likely, "probability_threshold", threshold=0.5, long_short=False) == {
        "A": "", "B": R.LONG_ONLY, "C": R.BELOW_THRESHOLD, "D": R.NO_POSITION, "E": R.NO_PREDICTION,
    }  # fmt: skip

    sides = probabilities(A=(0.6, 0.1), B=(0.6, 0.1), C=(0.6, 0.1), D=(0.6, 0.1), E=(0.6, 0.1)).with_columns(
        probability_right=pl.Series([0.6, 0.4, 0.6, 0.6, 0.6]), trend=pl.Series([1.0, 1.0, None, 0.0, -1.0])
    )
    assert told(sides, "meta_label", primary="trend", long_short=False) == {
        "A": "", "B": R.BELOW_THRESHOLD, "C": R.MISSING_FEATURE, "D": R.NO_POSITION, "E": R.LONG_ONLY,
    }  # fmt: skip

    order = ranked(A=3, B=2, C=1, D=NAN)
    assert told(order, "rank_long_short", n_long=1, n_short=1) == {
        "A": "", "B": R.NOT_SELECTED, "C": "", "D": R.NO_PREDICTION,
    }  # fmt: skip
    assert told(order, "rank_long_short", n_long=2, n_short=2)["A"] == R.NOT_SELECTED
    assert told(order, "portfolio", n_held=1, floor=1.5) == {
        "A": "", "B": R.NOT_SELECTED, "C": R.BELOW_THRESHOLD, "D": R.NO_PREDICTION,
    }  # fmt: skip
    # A share that is no number any more: exp(-1 / 0.408 / 0.001).
    assert told(ranked(A=3, B=2), "portfolio", temperature=0.01)["B"] == ""
    assert (
        told(ranked(**{f"S{at:03d}": 0.0 for at in range(200)}, Z=1.0), "portfolio", temperature=0.01)["S000"]
        == R.NO_POSITION
    )

    tree = {"branches": [{"when": {"prediction": {"above": 2.5}}, "weight": 1.0}]}
    assert told(order, "rule_tree", **tree) == {"A": "", "B": R.NO_POSITION, "C": R.NO_POSITION, "D": R.NO_PREDICTION}
    assert told(ranked(A=0.5, B=0.0), "long_short", standardise="none") == {"A": "", "B": R.NO_POSITION}


def test_words_of_a_mix_are_those_of_parts_that_agree():
    up, down = ({"type": "threshold", "params": {"buy": buy, "sell": -9.0}} for buy in (1.5, 2.5))
    parts = {"parts": [up, {**down, "weight": 2.0}]}
    assert told(ranked(A=3, B=2, C=1), "mix", **parts) == {"A": "", "B": "", "C": R.BELOW_THRESHOLD}
    ranking = {"type": "rank_long_short", "params": {"n_long": 1, "n_short": 1}}
    # B is below one threshold and between the ends of the other; D is short by one and long by the other.
    other = {"type": "threshold", "params": {"buy": 0.9, "sell": -9.0, "max_gross": 1.5}}
    found = told(ranked(A=3, B=0.5, C=0.8, D=0.4), "mix", parts=[ranking, up])
    assert found["B"] == found["C"] == R.NO_POSITION and found["A"] == ""
    opposite = [
        ranking,
        {
            "type": "rule_tree",
            "params": {"branches": [{"when": {"prediction": {"below": 0.45}}, "weight": 1.0}], "max_gross": 2.0},
        },
    ]
    assert apply_rule(ranked(A=3, B=2, C=1, D=0.4), rule="mix", params={"parts": opposite})["weight"][3] == 0.0
    assert told(ranked(A=3, B=2, C=1, D=0.4), "mix", parts=opposite)["D"] == R.NO_POSITION
    assert told(ranked(A=3, B=2), "mix", parts=[other, up])["A"] == ""


def test_too_little_history_by_hand():
    bars = plain_bars({"A": [1.0, 1.1, 1.0, 1.1], "B": [1.0, 1.0, 1.0, 1.0], "C": [1.0, 1.01, 1.0, 1.01]})
    halted = bars.filter((pl.col("symbol") != "C") | (pl.col("session") != SESSIONS[2]))
    now = bars.filter(pl.col("session") == SESSIONS[3]).select(
        "symbol", "session", "ts", prediction=pl.Series([0.9, -0.9, -0.3])
    )
    # B never moved, C has no bar on one of the days that its returns are measured on.
    expected = {"A": "", "B": R.TOO_LITTLE_HISTORY, "C": R.TOO_LITTLE_HISTORY}
    sizing = [limit("volatility_target", bars=3)]
    raw = {"type": "long_short", "params": {"standardise": "none"}}
    assert told(now, "chain", **chain(rule=raw, sizing=sizing), history=halted) == expected
    assert told(now, "chain", **chain(rule=raw, sizing=sizing), history=bars)["C"] == ""
    by_volatility = {"standardise": "none", "volatility_target": 0.01, "volatility_bars": 3}
    assert told(now, "long_short", **by_volatility, history=halted) == expected
    # One prediction of its own has no spread.
    assert told(now, "long_short", standardise="own", sessions=3)["A"] == R.TOO_LITTLE_HISTORY


def test_optimised_members_by_hand():
    rng = np.random.default_rng(0)
    closes = {name: (100 * np.exp(0.01 * rng.normal(size=13).cumsum())).tolist() for name in "ABCD"}
    bars = plain_bars({**closes, "D": [5.0] * 13})
    now = bars.filter(pl.col("session") == SESSIONS[12]).select(
        "symbol", "session", "ts", prediction=pl.Series([0.3, 0.2, 0.1, 0.4])
    )
    words = told(now, "optimised_portfolio", history=bars, bars=10, n_held=3)
    # D never moved, C is the fourth of three.
    assert words == {"A": "", "B": "", "C": R.NOT_SELECTED, "D": R.TOO_LITTLE_HISTORY}


RAW = {"type": "long_short", "params": {"standardise": "none", "clip": 1.0, "max_gross": 4.0}}


def test_words_of_sizing_and_limits_by_hand():
    book = ranked(A=0.6, B=-0.3, C=0.004, D=0.0)
    assert told(book, "chain", **chain("long_only", rule=RAW)) == {
        "A": "", "B": R.LONG_ONLY, "C": "", "D": R.NO_POSITION,
    }  # fmt: skip
    refused = chain(limit("borrow", symbols=["B"]), limit("band", least=0.01), rule=RAW)
    assert told(book, "chain", **refused) == {"A": "", "B": R.NOT_SHORTABLE, "C": R.SMALL_TRADE, "D": R.NO_POSITION}
    # The least number there is, halved by the gross cap, is 0: the one case in which a cap takes all.
    least = ranked(A=1.0, B=5e-324)
    large = {"type": "long_short", "params": {"standardise": "none", "clip": 1.0, "max_gross": 2.0}}
    assert told(least, "chain", **chain(rule=large)) == {"A": "", "B": ""}
    assert told(least, "chain", **chain(limit("gross_cap", most=0.25), rule=large)) == {"A": "", "B": R.CAPPED}
    odds = probabilities(A=(0.6, 0.3), B=(0.4, 0.5), C=(NAN, NAN)).with_columns(prediction=pl.Series([0.5, 0.5, 0.5]))
    staked = chain(rule=RAW, sizing=[limit("kelly", fraction=0.5)])
    assert told(odds, "chain", **staked) == {"A": "", "B": R.NO_EDGE, "C": R.NO_PREDICTION}


def test_a_limit_of_another_module_that_leaves_nothing(monkeypatch):
    def bounds(predictions, context, params):
        return pl.Series([0.0, -0.1, None]), pl.Series([0.0, 0.0, 0.001])

    monkeypatch.setitem(LIMITS, "own", Limit(name="own", bounds=bounds, formula="by row"))
    # A may have no position, B no long one, C one that is below the band.
    given = chain("own", limit("band", least=0.01), rule=RAW)
    assert told(ranked(A=-0.3, B=0.3, C=0.3), "chain", **given) == {"A": R.CAPPED, "B": R.CAPPED, "C": R.SMALL_TRADE}


def test_a_closed_position_tells_the_word_of_the_rule_and_a_kept_one_none():
    keys = plain_bars({"A": [1.0] * 3, "B": [1.0] * 3}).select("symbol", "session", "ts")
    values = keys.with_columns(prediction=pl.Series([0.5, 0.5, 0.0, 0.0, 0.5, 0.002]))
    kept = chain(
        limit("holding", sessions=3),
        limit("band", least=0.01),
        rule={**RAW, "params": {**RAW["params"], "max_gross": 2.0}},
    )
    # A is kept by `holding` though the rule gives 0; B is closed: of 0.5 to 0.002 is no small trade.
    free = chain(limit("band", least=0.01), rule=kept["rule"])
    assert told(values, "chain", **kept) == {"A": "", "B": ""}
    assert told(values, "chain", **free) == {"A": R.NO_POSITION, "B": ""}
    assert (
        told(values.with_columns(prediction=pl.when(pl.col("symbol") == "B").then(0.002)), "chain", **free)["B"]
        == R.SMALL_TRADE
    )


@each_rule
def test_every_zero_has_one_word_and_no_position_has_any(rule):
    predictions = random_predictions(sessions=25)
    seen = set()
    for last in range(10, 25, 5):
        part = predictions.filter(pl.col("session") <= SESSIONS[last])
        given = {"rule": rule, "params": GIVEN.get(rule), "sessions": SESSIONS, **beside(rule)}
        weights = apply_rule(part, **given)
        found = weights.join(zero_reasons(part, weights, **given), on=["symbol", "session", "ts"], validate="1:1")
        assert found.height == 7 and found["session"].unique().to_list() == [SESSIONS[last]]
        for weight, word in found.select("weight", "reason").iter_rows():
            assert (word == "") == (weight != 0.0) and word in {"", *Reason}
        seen |= {*found["reason"]}
    assert "" in seen and len(seen) > 1


def test_words_of_random_books_are_those_of_a_ledger_kept_by_hand():
    """What each row asked for, and what was held the session before, say which word it must have."""
    rng = np.random.default_rng(1)
    sectors = {f"S{at:02d}": f"sector {at % 3}" for at in range(12)}
    counts = dict.fromkeys(Reason, 0)
    for _ in range(40):
        frame, params, given = random_book(rng, 8)
        # Some targets are 0, and many smaller than the band.
        small = pl.Series(rng.choice([0.0, 0.01, 1.0], frame.height))
        frame = frame.with_columns(prediction=pl.col("prediction") * small)
        beside_it = {
            "rule": "chain",
            "params": params,
            "sessions": frame["session"].unique().sort().to_list(),
            "sectors": sectors,
        }
        weights = apply_rule(frame, **beside_it)
        last, before = weights["weight"][-12:].to_list(), weights["weight"][-24:-12].to_list()
        words = zero_reasons(frame, weights, **beside_it)["reason"].to_list()
        rows = frame.tail(12).select("prediction", "loan").rows()
        for word, weight, was, (value, loan) in zip(words, last, before, rows, strict=True):
            if weight != 0.0:
                assert word == ""
                continue
            counts[Reason(word)] += 1
            if math.isnan(value):
                assert word == R.NO_PREDICTION
            elif value == 0.0:
                assert word == R.NO_POSITION
            elif value < 0.0 and "long_only" in given:
                assert word == R.LONG_ONLY
            elif value < 0.0 and "borrow" in given and not loan > 0.0:
                assert word == R.NOT_SHORTABLE
            else:
                # Nothing else than the band takes a whole position, and only one that was not held, or had to be left.
                assert word == R.SMALL_TRADE and abs(value) < given["band"]["least"]
                assert was == 0.0 or (was < 0.0 and not loan > 0.0 and "borrow" in given)
    assert all(
        counts[word] > 5 for word in (R.NO_PREDICTION, R.NO_POSITION, R.LONG_ONLY, R.NOT_SHORTABLE, R.SMALL_TRADE)
    )
    assert counts[R.CAPPED] == 0


def test_reasons_by_hand():
    keys = plain_bars({symbol: [1.0] for symbol in "ABCDEF"}).select("symbol", "session", "ts")
    weights = keys.with_columns(
        weight=pl.Series([0.5, 0.0, 0.0, 0.0, 0.0, 0.0]),
        prediction=pl.Series([0.9, 0.1, NAN, NAN, NAN, 0.2]),
        reason=pl.Series(["", R.NOT_SELECTED, R.NO_PREDICTION, R.NO_PREDICTION, R.NO_PREDICTION, R.MISSING_FEATURE]),
    )
    known = {
        "p": [1.0, 1.0, NAN, 2.0, 1.0],
        "q": [1.0, 1.0, None, 2.0, 1.0],
        "r": [1.0, 1.0, math.inf, 2.0, 1.0],
        "s": [NAN, 1.0, NAN, 2.0, NAN],
        "trend": [1.0, 1.0, 1.0, NAN, NAN],
    }
    # D has no bar, E all features of the model and no prediction, F a prediction and no side of its primary rule.
    features = keys.filter(pl.col("symbol") != "D").with_columns(
        **{name: pl.Series(values, dtype=pl.Float32) for name, values in known.items()}
    )
    found = reasons(weights, features, of_model=["p", "q", "r", "s"], of_rule=["trend"])
    assert found.rows() == [
        ("", None),
        (R.NOT_SELECTED, None),
        (R.MISSING_FEATURE, "p, q, r and 1 more"),
        (R.NO_BAR, None),
        (R.NO_PREDICTION, None),
        (R.MISSING_FEATURE, "trend"),
    ]


def test_a_word_of_a_rule_that_is_no_reason_is_refused(monkeypatch):
    def weigh(predictions, context):
        return predictions["prediction"] * 0.0

    def why(predictions, context, weights):
        return pl.repeat("because", predictions.height, eager=True)

    own = {"weigh": weigh, "params": {}, "needs": lambda params: RuleNeeds(), "formula": "0"}
    monkeypatch.setitem(RULES, "own", Rule(name="own", why=why, **own))
    with pytest.raises(ValueError, match="`why` of rule 'own' must tell one of no bar, .*, was 'because'"):
        told(ranked(A=0.1), "own")
    monkeypatch.setitem(RULES, "own", Rule(name="own", **own))
    assert told(ranked(A=0.1), "own") == {"A": R.NO_POSITION}


def test_every_reason_has_a_meaning():
    assert [*REASONS] == [*Reason]


def test_issues_of_every_version_are_read_in_the_columns_of_the_newest():
    keys = plain_bars({symbol: [1.0] for symbol in "ABCD"}).select("symbol", "session", "ts")
    second = keys.with_columns(
        weight=pl.Series([0.5, 0.0, 0.0, 0.0]),
        prediction=pl.Series([0.1, NAN, NAN, 0.2]),
        reason=pl.Series(
            ["", "unknown: p, q and 2 more", "too little history for the learner", "no position by the rule"]
        ),
        lower=pl.Series([0.0, None, None, 0.1]),
    )
    read = upgrade_issue(second)
    assert dict(read.schema) == ISSUE_COLUMNS
    assert read.select("reason", "reason_detail").rows() == [
        ("", None), (R.MISSING_FEATURE, "p, q and 2 more"), (R.NO_PREDICTION, None), (R.NO_POSITION, None),
    ]  # fmt: skip
    assert read["lower"].to_list() == [0.0, None, None, 0.1] and read["prediction"].is_nan().sum() == 2
    for name in ("upper", "rule_version", "challenger_version", "rollout_share"):
        assert read[name].null_count() == 4
    first = upgrade_issue(second.drop("reason", "lower"))
    assert first["reason"].to_list() == ["", None, None, None]
    # One of the newest stays as it is, and a later version's column is left out.
    assert upgrade_issue(read.with_columns(later=pl.lit(1))).equals(read)
