"""Comparison: what is compared on which sessions, agreement with the scores and tests it is made of, and what is found."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hf_pipelines.research.comparison import (
    LEAST_SESSIONS,
    Comparison,
    Contestant,
    compare,
    probability_of_higher_sharpe,
    sharpe_influence,
)
from hf_pipelines.research.comparison_words import comparison_lines
from hf_pipelines.research.metrics import (
    classification_metrics,
    mean_information_coefficient,
    regression_metrics,
    sharpe_ratio,
)
from hf_pipelines.research.session_values import account_values, common_rows, have_same_labels, prediction_values
from hf_pipelines.research.significance import adjust_holm, diebold_mariano

START = datetime(2024, 1, 1, 21, tzinfo=UTC)
SYMBOLS = tuple("ABCD")


def outcomes(seed: int, n_sessions: int = 120) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.02, n_sessions * len(SYMBOLS))


def predicted(target: np.ndarray, *, skill: float, seed: int, first: int = 0) -> pl.DataFrame:
    """Predictions of values that know a share of the outcome; sessions from the number `first` on."""
    n_sessions = len(target) // len(SYMBOLS)
    ts = [START + timedelta(days=first + day) for day in range(n_sessions)]
    noise = np.random.default_rng(seed).normal(0.0, 0.02, len(target))
    return pl.DataFrame(
        {
            "symbol": SYMBOLS * n_sessions,
            "ts": pl.Series([each for each in ts for _ in SYMBOLS], dtype=pl.Datetime("us", "UTC")),
            "fold": pl.Series([0] * len(target), dtype=pl.Int32),
            "y": target,
            "target": target,
            "prediction": skill * target + (1.0 - skill) * noise,
        }
    ).with_columns(session=pl.col("ts").dt.date(), trained_until=pl.col("ts").min() - timedelta(days=1))


def as_classes(frame: pl.DataFrame) -> pl.DataFrame:
    """The same as probabilities of down and up."""
    up = 1.0 / (1.0 + np.exp(-100.0 * frame["prediction"].to_numpy()))
    return frame.with_columns(
        y=(pl.col("target") > 0.0).cast(pl.Float64),
        probability_down=pl.Series(1.0 - up),
        probability_up=pl.Series(up),
        prediction=pl.Series(2.0 * up - 1.0),
    )


def account(returns: np.ndarray, *, first: int = 0) -> pl.DataFrame:
    """Equity of a session more than there are returns."""
    ts = [START + timedelta(days=first + day) for day in range(len(returns) + 1)]
    equity = 1e5 * np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
    frame = pl.DataFrame({"ts": pl.Series(ts, dtype=pl.Datetime("us", "UTC")), "equity": equity})
    return frame.with_columns(session=pl.col("ts").dt.date())


def contestant(
    name: str, predictions: pl.DataFrame, equity: pl.DataFrame | None = None, *, label_sessions: int = 1
) -> Contestant:
    return Contestant(name, predictions, equity, label_sessions, 252.0)


def row(found: Comparison, score: str, other: str | None = None) -> dict:
    return found.scores.filter(score=score, other=other or found.names[1]).row(0, named=True)


def test_how_sure_a_higher_sharpe_ratio_is_agrees_with_the_test_of_a_comparison_on_both_sides():
    rng = np.random.default_rng(4)
    one, two = rng.normal([0.002, 0.0], 0.01, (120, 2)).T
    predictions = predicted(outcomes(0), skill=0.1, seed=1)
    p = row(compare([contestant("a", predictions, account(one)), contestant("b", predictions, account(two))]), "sharpe_ratio")  # fmt: skip
    sure = probability_of_higher_sharpe(one, two, sessions_per_year=252.0)
    assert p["better_by"] > 0.0 and sure == pytest.approx(1.0 - p["p"] / 2.0, abs=1e-9)
    assert probability_of_higher_sharpe(two, one, sessions_per_year=252.0) == pytest.approx(1.0 - sure, abs=1e-12)
    assert probability_of_higher_sharpe(one, one, sessions_per_year=252.0) == 0.5
    short, flat = one[: LEAST_SESSIONS - 1], np.zeros(120)
    assert np.isnan(probability_of_higher_sharpe(short, two[: len(short)], sessions_per_year=252.0))
    assert np.isnan(probability_of_higher_sharpe(one, flat, sessions_per_year=252.0))


def test_values_of_sessions_have_the_mean_of_the_scores():
    target = outcomes(0)
    # Of every third session a symbol is missing: sessions weigh by their rows.
    rows = pl.Series(np.arange(len(target)) % 12 != 5)
    values = predicted(target, skill=0.3, seed=1).filter(rows)
    by_session = prediction_values(values)
    told = regression_metrics(values["y"], values["prediction"])
    assert by_session["mse"].mean() == pytest.approx(told["mse"])
    assert by_session["mae"].mean() == pytest.approx(told["mae"])
    assert by_session["information_coefficient"].mean() == pytest.approx(mean_information_coefficient(values))
    classes = as_classes(values)
    told = classification_metrics(classes["y"], classes.select("probability_down", "probability_up").to_numpy())
    means = prediction_values(classes)
    for score in ("accuracy", "brier", "log_loss"):
        assert means[score].mean() == pytest.approx(told[score])


def test_values_of_paths_are_their_means():
    target = outcomes(0)
    one, two = (predicted(target, skill=0.2, seed=seed) for seed in (1, 2))
    paths = pl.concat([each.with_columns(path=pl.lit(at)) for at, each in enumerate((one, two))])
    both, first, second = (prediction_values(each) for each in (paths, one, two))
    for score in ("mse", "information_coefficient"):
        np.testing.assert_allclose(both[score], (first[score] + second[score]) / 2.0)


def test_account_values_by_hand():
    equity = pl.DataFrame(
        {
            "session": [1, 1, 2, 2, 3] * 2,
            "ts": [1, 2, 3, 4, 5] * 2,
            "equity": [90.0, 100.0, 105.0, 110.0, 99.0, 90.0, 100.0, 105.0, 130.0, 130.0],
            "path": [0] * 5 + [1] * 5,
        }
    )
    # From the last bar of a session to that of the next: 10 % and -10 %, 30 % and 0, the mean of both.
    assert account_values(equity)["net_return"].to_list() == pytest.approx([0.2, -0.05])
    assert account_values(equity.filter(path=0).drop("path"))["net_return"].to_list() == pytest.approx([0.1, -0.1])


def test_common_rows_are_those_that_all_predict():
    target = outcomes(0, 10)
    one, two = predicted(target, skill=0.1, seed=1), predicted(target, skill=0.1, seed=2, first=4)
    unknown = one.with_columns(prediction=pl.when(pl.col("symbol") != "B").then("prediction"))
    first, second = common_rows([unknown, two])
    assert first.select("symbol", "ts").equals(second.select("symbol", "ts"))
    assert first.height == 6 * 3 and first["ts"].min() == START + timedelta(days=4)


def test_labels_are_the_same_or_not():
    one = predicted(outcomes(0), skill=0.1, seed=1)
    assert have_same_labels(one, one.sample(fraction=1.0, shuffle=True, seed=0))
    assert not have_same_labels(one, one.with_columns(target=pl.col("target") + 1e-6))
    assert not have_same_labels(one, as_classes(one))
    assert not have_same_labels(as_classes(one), as_classes(one).rename({"probability_up": "probability_rise"}))
    assert not have_same_labels(one, one.with_columns(horizon=pl.lit(5)))


def test_sharpe_ratio_is_the_mean_of_its_influence():
    returns = np.random.default_rng(0).normal(0.001, 0.01, 300)
    values = sharpe_influence(returns, sessions_per_year=252.0)
    assert values.mean() == pytest.approx(sharpe_ratio(returns, periods_per_year=252.0))
    # Of independent normal returns the variance of a ratio a session is (1 + ratio ** 2 / 2) / n.
    ratio = returns.mean() / returns.std()
    assert values.std() / np.sqrt(252.0) == pytest.approx(np.sqrt(1.0 + ratio**2 / 2.0), rel=0.05)


def test_p_of_sharpe_ratios_that_are_equal_is_uniform():
    p = []
    for seed in range(200):
        one, other = np.random.default_rng(seed).standard_t(5, size=(2, 250)) * 0.01 + 0.0005
        # The same ratio at twice the risk.
        difference = sharpe_influence(one, sessions_per_year=252.0) - sharpe_influence(
            2.0 * other, sessions_per_year=252.0
        )
        p.append(diebold_mariano(difference).p)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_differences_are_those_of_diebold_mariano_and_of_holm():
    target, rng = outcomes(0), np.random.default_rng(5)
    one, two = predicted(target, skill=0.3, seed=1), predicted(target, skill=0.1, seed=2)
    first, second = rng.normal(0.0, 0.01, (2, 119))
    found = compare(
        [
            contestant("one", one, account(first), label_sessions=3),
            contestant("two", two, account(second), label_sessions=10),
        ]
    )
    assert found.scores["score"].to_list() == [
        "mse",
        "mae",
        "information_coefficient",
        "net_return",
        "sharpe_ratio",
        "total_return",
        "max_drawdown",
    ]
    returns, errors = row(found, "net_return"), row(found, "mse")
    by_hand = diebold_mariano(first - second)
    assert (returns["p"], returns["better_by"]) == pytest.approx((by_hand.p, by_hand.mean))
    assert (returns["low"], returns["high"]) == pytest.approx(by_hand.interval())
    assert returns["first_value"] == pytest.approx(first.mean()) and returns["n_sessions"] == 119
    # Less is better: above 0 the first is better. The labels of the longer ones count.
    losses = [prediction_values(each)["mse"].to_numpy() for each in (one, two)]
    by_hand = diebold_mariano(losses[1] - losses[0], horizon=10)
    assert (errors["p"], errors["better_by"]) == pytest.approx((by_hand.p, by_hand.mean))
    np.testing.assert_allclose(
        found.scores["p_holm"].drop_nulls(), adjust_holm(found.scores["p"].drop_nulls().to_numpy())
    )
    assert found.scores.filter(pl.col("p").is_null())["score"].to_list() == ["total_return", "max_drawdown"]
    drawdown = row(found, "max_drawdown")
    assert drawdown["better_by"] == pytest.approx(drawdown["other_value"] - drawdown["first_value"])
    assert drawdown["low"] < drawdown["high"]


def test_the_other_way_round_is_the_same_with_the_other_sign():
    target = outcomes(0)
    both = [
        contestant(name, predicted(target, skill=0.1, seed=seed), account(outcomes(seed, 30)))
        for seed, name in enumerate(("one", "two"), start=1)
    ]
    there, back = compare(both), compare(both[::-1])
    np.testing.assert_allclose(there.scores["better_by"], -back.scores["better_by"], atol=1e-12)
    np.testing.assert_allclose(there.scores["p"].drop_nulls(), back.scores["p"].drop_nulls())


def test_a_planted_difference_is_found_and_said():
    target = outcomes(3)
    both = [
        contestant("better", as_classes(predicted(target, skill=0.5, seed=1))),
        contestant("worse", as_classes(predicted(target, skill=0.1, seed=2))),
    ]
    for given in (both, both[::-1]):
        lines = list(comparison_lines(compare(given)))
        assert lines[0].startswith("better is better than worse in accuracy by 0.")
        assert any(line.startswith("better is better than worse in log_loss by 0.") for line in lines)
        assert not any(line.startswith("worse is better") for line in lines)


def test_the_same_twice_differs_in_nothing():
    one, equity = predicted(outcomes(3), skill=0.5, seed=1), account(outcomes(1, 30))
    # Rows in another order, added up otherwise.
    shuffled = one.sample(fraction=1.0, shuffle=True, seed=0)
    found = compare([contestant("one", one, equity), contestant("two", shuffled, equity)])
    # What is the same in every session is no test.
    assert found.scores["p"].null_count() == 7 and set(found.scores["better_by"]) == {0.0}
    assert next(iter(comparison_lines(found))) == "one and two score the same in every session."


def test_another_rule_on_the_same_predictions_is_tested_by_its_account_alone():
    """Three scores of predictions that cannot differ would make each p of the account 5 / 2 times as large."""
    one = predicted(outcomes(3), skill=0.5, seed=1)
    found = compare(
        [contestant("one", one, account(outcomes(1, 30))), contestant("two", one, account(outcomes(2, 30)))]
    )
    tested = found.scores.filter(pl.col("p").is_not_null()).sort("p")
    assert sorted(tested["score"]) == ["net_return", "sharpe_ratio"]
    least, larger = tested["p"]
    assert tested["p_holm"].to_list() == pytest.approx([min(2 * least, 1.0), min(max(2 * least, larger), 1.0)])


def test_of_nothing_found_it_is_said_what_would_have_been():
    target = outcomes(0, 250)
    found = compare(
        [contestant(name, predicted(target, skill=0.1, seed=seed)) for seed, name in enumerate(("one", "two"), start=1)]
    )
    line = next(iter(comparison_lines(found)))
    assert line.startswith("No difference between one and two is more than chance makes: the smallest p is 0.")
    assert "in 250 sessions a difference in" in line and "is found four times in five from" in line
    # By Student's t: 2.04 + 0.85 errors of the mean, the interval reaches 2.04 of them.
    each = row(found, "mse")
    reach = (each["high"] - each["low"]) / 2.0
    degrees = diebold_mariano(np.random.default_rng(0).normal(size=250)).degrees
    ratio = 1.0 + stats.t.ppf(0.8, degrees) / stats.t.ppf(0.975, degrees)
    assert each["found_from"] == pytest.approx(ratio * reach)


def test_more_than_two_are_tested_together():
    target = outcomes(3, 250)
    given = [("first", 0.1, 11), ("best", 0.4, 12), ("poor", 0.05, 13)]
    found = compare([contestant(name, predicted(target, skill=skill, seed=seed)) for name, skill, seed in given])
    together = found.together.filter(score="information_coefficient").row(0, named=True)
    assert together["best"] == "best" and together["p"] < 0.01 and together["members"] == ["best"]
    lines = list(comparison_lines(found))
    assert any(
        line.startswith("information_coefficient: best beats first, also as the best of all others") for line in lines
    )
    assert "first against poor" in lines
    two = compare([contestant(name, predicted(target, skill=skill, seed=seed)) for name, skill, seed in given[:2]])
    assert two.together.is_empty()


def test_other_targets_are_compared_by_their_accounts_alone():
    one, equity = predicted(outcomes(0), skill=0.3, seed=1), account(outcomes(1, 30))
    found = compare([contestant("value", one, equity), contestant("class", as_classes(one), equity)])
    assert set(found.scores["score"]) == {"net_return", "sharpe_ratio", "total_return", "max_drawdown"}
    assert found.notes[0].startswith("Predictions of class are of another target than those of value")
    with pytest.raises(ValueError, match="must have something in common: .*of another target.*class has no backtest"):
        compare([contestant("value", one, equity), contestant("class", as_classes(one))])


def test_one_of_another_target_leaves_the_others_to_be_compared():
    target = outcomes(0)
    frames = {name: predicted(target, skill=0.1, seed=seed) for seed, name in enumerate("abc", start=1)}
    frames["b"] = as_classes(frames["b"])
    found = compare([contestant(name, frame) for name, frame in frames.items()])
    assert set(found.scores["other"]) == {"c"}
    assert "a and b: nothing of them can be compared." in comparison_lines(found)


def test_what_has_too_little_in_common_is_said():
    target = outcomes(0, 100)
    whole = predicted(outcomes(0, 141), skill=0.1, seed=1)
    one, late = whole.head(400), whole.tail(400)
    shifted = [
        contestant("one", one, account(outcomes(1, 25))),
        contestant("late", late, account(outcomes(2, 25), first=41)),
    ]
    with pytest.raises(
        ValueError, match="predictions have 59 sessions in common, fewer than 60: choose.*accounts have 59"
    ):
        compare([shifted[0], shifted[1]])
    apart = contestant("apart", predicted(target, skill=0.1, seed=2, first=400))
    with pytest.raises(
        ValueError, match="Predictions of apart are of no row .* that one predicts: compare strategies of one market"
    ):
        compare([shifted[0], apart])
    long = [contestant(name, one, label_sessions=60) for name in ("one", "two")]
    with pytest.raises(ValueError, match="have 100 sessions in common, fewer than 120, twice what a label of 60 spans"):
        compare(long)
    with pytest.raises(ValueError, match="`contestants` must be two at least, was 1"):
        compare(long[:1])
    assert LEAST_SESSIONS == 60


def test_a_flat_account_and_equal_predictions_have_no_ratio_and_no_coefficient():
    one = predicted(outcomes(0), skill=0.3, seed=1)
    same = one.with_columns(prediction=pl.lit(0.0))
    found = compare(
        [contestant("one", one, account(outcomes(1, 30))), contestant("flat", same, account(np.zeros(119)))]
    )
    assert "sharpe_ratio" not in found.scores["score"].to_list() and "net_return" in found.scores["score"].to_list()
    assert "No Sharpe ratio: the account of flat earns the same in every session." in found.notes
    assert "information_coefficient is not compared: it is defined in 0 sessions for all." in found.notes


def test_sessions_without_a_coefficient_are_left_out_for_both():
    target = outcomes(0)
    one, two = predicted(target, skill=0.3, seed=1), predicted(target, skill=0.1, seed=2)
    gap = pl.when(pl.col("ts") > START + timedelta(days=9)).then("prediction").otherwise(0.0)
    found = compare([contestant("one", one), contestant("two", two.with_columns(prediction=gap))])
    assert row(found, "information_coefficient")["n_sessions"] == 110 and row(found, "mse")["n_sessions"] == 120
    assert "information_coefficient: without 10 sessions in which it is undefined for one." in found.notes
