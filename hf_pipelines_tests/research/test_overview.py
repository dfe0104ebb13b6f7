"""Overviews of runs: numbers by hand, agreement with SciPy and numpy, the best of each row."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.comparison import Contestant, compare
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.overview import indexed_equity, prediction_agreement, score_overview
from hf_pipelines.research.overview_words import overview_lines, score_row
from hf_pipelines_tests.research.test_comparison import account, outcomes, predicted

DAYS = [date(2020, 1, 1) + timedelta(days=n) for n in range(4)]


def contestant(name, *, skill=0.3, seed=1, earns=2, n=100):
    returns = np.random.default_rng(earns).normal(0.0, 0.01, n - 1)
    return Contestant(name, predicted(outcomes(3, n), skill=skill, seed=seed), account(returns), 1, 252.0)


def of_values(name, values, *, equity=None):
    frame = pl.DataFrame(
        {
            "symbol": ["A"] * len(values),
            "session": DAYS[: len(values)],
            "ts": [datetime(2020, 1, 1 + n, 21, tzinfo=UTC) for n in range(len(values))],
            "fold": 0,
            "trained_until": datetime(2019, 1, 1, tzinfo=UTC),
            "prediction": values,
        }
    )
    return Contestant(name, frame, equity, 1, 252.0)


def test_agreement_by_hand():
    """Ranks 1 2 3 4 and 1 2 4 3: 1 - 6 * 2 / (4 * 15) = 0.8. Signs differ in the second of four rows.

    Means 0 and 0.25; sums of products 10 + -0.5 + 3 + 5 = 17.5, of squares 10 and 40.25: 17.5 / sqrt(402.5) = 0.8723.
    """
    found = prediction_agreement(
        [of_values("one", [-2.0, -1.0, 1.0, 2.0]), of_values("two", [-5.0, 0.5, 3.0, 2.5])], [0.0, 0.0]
    )
    assert found.rows() == [("one", "two", 4, pytest.approx(17.5 / 402.5**0.5), pytest.approx(0.8), 0.75)]
    # About another middle, and without any.
    above = prediction_agreement([of_values("one", [0.4, 0.6]), of_values("two", [0.1, 0.2])], [0.5, 0.5])
    assert above["same_sign"].to_list() == [0.5]
    none = prediction_agreement([of_values("one", [0.4, 0.4]), of_values("two", [0.1, 0.2])], [None, 0.5])
    assert none.rows() == [("one", "two", 2, None, None, None)]


def test_agreement_is_that_of_pairs_whatever_their_order():
    runs = [contestant(name, seed=seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    one = prediction_agreement(runs, [0.0] * 3)
    other = prediction_agreement(runs[::-1], [0.0] * 3)
    assert sorted(one["rank_correlation"]) == pytest.approx(sorted(other["rank_correlation"]))
    shuffled = runs[0].predictions.sample(fraction=1.0, shuffle=True, seed=1)
    twin = prediction_agreement([runs[0], Contestant("twin", shuffled, None, 1, 252.0)], [0.0, 0.0])
    assert twin.rows()[0][3:] == (pytest.approx(1.0), pytest.approx(1.0), 1.0)


def test_the_best_of_each_row_is_the_best_by_the_direction_of_the_score():
    runs = [
        contestant(name, skill=skill, seed=seed, earns=seed)
        for name, skill, seed in (("a", 0.1, 1), ("b", 0.6, 2), ("c", 0.1, 3))
    ]
    table = score_overview(compare(runs))
    assert {"mse", "sharpe_ratio", "max_drawdown"} <= {*table["score"]}
    for row in table.to_dicts():
        pick = max if is_better_higher(row["score"]) else min
        assert row["best"] == ["abc"[row["values"].index(pick(row["values"]))]]
        # A best one is never shown to be worse than another.
        assert row["members"] is None or {*row["best"]} <= {*row["members"]}


def test_a_score_that_two_of_three_have_is_judged_by_the_test_of_both():
    runs = [contestant(name, seed=seed, earns=seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    other = runs[2].predictions.with_columns(y=pl.col("y") + 1.0, target=pl.col("target") + 1.0)
    found = compare([*runs[:2], Contestant("c", other, runs[2].equity, 1, 252.0)])
    row = score_overview(found).row(by_predicate=pl.col("score") == "mse", named=True)
    assert row["values"][2] is None and row["members"] is None
    assert row["p"] == found.scores.filter(other="b", score="mse")["p_holm"].item()
    assert score_row(found.names, row)[-1].startswith("by p ")


def test_accounts_begin_at_one_where_all_of_them_begin():
    early = pl.DataFrame({"session": DAYS, "equity": [100.0, 110.0, 121.0, 60.5]})
    late = pl.DataFrame({"session": DAYS[1:], "equity": [10.0, 20.0, 5.0]})
    runs = [of_values(name, [1.0], equity=each) for name, each in (("early", early), ("late", late), ("none", None))]
    one, two, three = indexed_equity(runs)
    assert one["equity"].to_list() == pytest.approx([1.0, 1.1, 0.55]) and one["session"].to_list() == DAYS[1:]
    assert two["equity"].to_list() == [1.0, 2.0, 0.5] and three is None
    lost = of_values("lost", [1.0], equity=late.with_columns(equity=pl.lit(0.0)))
    assert indexed_equity([lost]) == [None]


def test_many_runs_have_letters_and_each_name_stands_once():
    runs = [contestant(f"run_number_{n}", seed=n, earns=n) for n in range(5)]
    found = compare(runs)
    told = [
        *overview_lines(
            found.names,
            settings={"alpha": list("12345")},
            scores=score_overview(found),
            agreement=prediction_agreement(runs, [0.0] * 5),
        )
    ]
    text = "\n".join(told)
    assert all(text.count(name) == 1 for name in found.names) and "A and B" in text
    assert sum("*" in line for line in told) == score_overview(found).height + 1


@pytest.mark.long
@pytest.mark.pictures
def test_ten_runs_are_one_picture_the_same_every_time():
    from hf_pipelines.research.plots.overview import overview_png

    runs = [contestant(f"run {n}", seed=n, earns=n) for n in range(10)]
    found = compare(runs)
    parts = dict(
        equity=indexed_equity(runs),
        scores=score_overview(found),
        agreement=prediction_agreement(runs, [0.0] * 10),
        settings={"alpha": [str(n) for n in range(10)]},
    )
    drawn = overview_png(found.names, **parts)
    assert drawn == overview_png(found.names, **parts) and drawn.startswith(b"\x89PNG")
    assert drawn != overview_png(found.names, **{**parts, "settings": {}})
