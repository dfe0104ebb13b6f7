"""Baselines: what each predicts by hand, and that none knows a label that had not ended before the row's bar."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.baselines import BASELINES, MOMENTUM_LABELS, baselines_of, predict_baselines
from hf_pipelines.research.targets import HORIZON, TARGETS, build_target
from hf_pipelines_tests.sample_matrix import close_of, random_matrix

RETURN = build_target("forward_return", horizon_bars=2)
DIRECTION = build_target("direction", horizon_bars=2)


def by_hand(y: dict[str, list[float]], *, bars: int = 2) -> pl.DataFrame:
    """Matrix of one bar a day whose labels end `bars` days later; a label of None is a day without a row."""
    rows = [
        (symbol, close_of(day), close_of(day + bars), value)
        for symbol, values in y.items()
        for day, value in enumerate(values, start=1)
        if value is not None
    ]
    frame = pl.DataFrame(rows, schema=["symbol", "ts", "label_end", "y"], orient="row").sort("ts", "symbol")
    return frame.with_columns(session=pl.col("ts").dt.date(), target=pl.col("y"))


def predict(matrix, target, *, train, test, **options):
    return predict_baselines(matrix, [(np.array(train), np.array(test))], target=target, seed=3, **options)


def test_last_value_is_the_last_label_that_had_ended_before_the_bar():
    # Labels of days 1, 2, 3... end on days 3, 4, 5...: day 4 knows that of day 1 (ended on 3), not that of day 2 (ends on 4).
    matrix = by_hand({"A": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    found = predict(matrix, RETURN, train=[0, 1], test=[2, 3, 4, 5])["last_value"].value
    # Day 3 knows of none: the mean of the training rows.
    np.testing.assert_allclose(found, [0.15, 0.1, 0.2, 0.3])


def test_last_value_of_a_symbol_with_gaps_is_its_own():
    matrix = by_hand({"A": [1.0, None, None, None, None, 2.0], "B": [5.0] * 6})
    rows = matrix.with_row_index("row")
    last = rows.filter(symbol="A")["row"].to_list()[-1]
    found = predict(matrix, RETURN, train=[1, 2], test=[last])
    assert found["last_value"].value.tolist() == [1.0]


def test_last_value_of_labels_that_end_together_is_the_one_that_began_last():
    matrix = by_hand({"A": [0.1, 0.2, 0.3, 0.4]}).with_columns(
        label_end=pl.when(pl.col("ts") < close_of(3)).then(pl.lit(close_of(3))).otherwise("label_end")
    )
    assert predict(matrix, RETURN, train=[0], test=[3])["last_value"].value.tolist() == [0.2]


def test_last_value_of_several_horizons_is_of_the_rows_own():
    one, five = (
        by_hand({"A": [value + day for day in range(9)]}, bars=bars).with_columns(
            pl.lit(bars, dtype=pl.Int32).alias(HORIZON)
        )
        for bars, value in ((1, 10.0), (5, 50.0))
    )
    matrix = pl.concat([one, five]).sort("ts", "symbol", HORIZON)
    found = predict(matrix, RETURN, train=[0], test=[16, 17])["last_value"].value
    # Day 9: the label over one bar of day 7 ended on 8, that over five bars of day 3 on 8.
    assert matrix[HORIZON][16:18].to_list() == [1, 5] and found.tolist() == [16.0, 52.0]


def test_majority_and_its_shares_are_of_the_training_rows():
    matrix = by_hand({"A": [0.0, 2.0, 2.0, 1.0, 0.0, 0.0]})
    found = predict(matrix, DIRECTION, train=[0, 1, 2, 3], test=[4, 5])["majority"]
    np.testing.assert_allclose(found.probability, [[0.25, 0.25, 0.5]] * 2)
    np.testing.assert_allclose(found.value, [0.25, 0.25])
    assert found.gives_probabilities


def test_mean_and_its_quantiles_are_of_the_training_rows():
    matrix = by_hand({"A": [0.0, 1.0, 2.0, 3.0, 4.0, 99.0]})
    found = predict(matrix, RETURN, train=[0, 1, 2, 3, 4], test=[5], quantiles=(0.25, 0.5))["mean"]
    assert found.value.tolist() == [2.0] and {k: v.tolist() for k, v in found.quantiles.items()} == {
        0.25: [1.0],
        0.5: [2.0],
    }


def test_momentum_sign_of_classes_is_the_highest_or_the_lowest():
    up = by_hand({"A": [1.0] * 6, "B": [1.0] * 6}).with_columns(
        target=pl.when(pl.col("symbol") == "A").then(0.01).otherwise(-0.01)
    )
    found = predict(up, DIRECTION, train=[0, 1], test=[8, 9])["momentum_sign"]
    np.testing.assert_array_equal(found.probability, [[0, 0, 1], [1, 0, 0]])
    assert not found.gives_probabilities


def test_momentum_sign_of_values_has_the_mean_size_of_the_training_rows():
    # Day 6 knows of days 1 to 3, whose mean is -0.1; the training rows are of mean size 0.3.
    matrix = by_hand({"A": [0.2, -0.4, -0.1, 0.9, 0.9, 0.9]})
    assert predict(matrix, RETURN, train=[0, 1], test=[5])["momentum_sign"].value.tolist() == pytest.approx([-0.3])


def test_momentum_sign_of_ranks_is_above_or_below_the_middle():
    matrix = by_hand({"A": [0.9] * 6, "B": [0.1] * 6})
    found = predict(matrix, build_target("rank", horizon_bars=2), train=[0, 1], test=[8, 9])["momentum_sign"].value
    np.testing.assert_allclose(found, [0.9, 0.1])
    assert TARGETS["rank"].neutral == 0.5


def test_momentum_forgets_older_labels():
    n = MOMENTUM_LABELS
    values = [-1.0] * 3 + [0.01] * (n + 3)
    matrix = by_hand({"A": values}).with_columns(pl.col("y", "target"))
    rows = predict(matrix, RETURN, train=[0], test=[n + 4, n + 5])["momentum_sign"].value
    # The last n labels that ended before the bars of days n + 5 and n + 6 begin on days 3 and 4: one loss of 1, and none.
    assert rows.tolist() == [-1.0, 1.0]


def test_random_is_drawn_from_the_training_rows_by_the_seed():
    matrix = random_matrix(DIRECTION)
    train, test = np.arange(0, 200), np.arange(200, 320)
    first, again = (predict(matrix, DIRECTION, train=train, test=test)["random"].probability for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = predict_baselines(matrix, [(train, test)], target=DIRECTION, seed=4)["random"].probability
    assert (first != other).any()
    only = np.flatnonzero(matrix["y"].to_numpy() == 2.0)[:20]
    assert (predict(matrix, DIRECTION, train=only, test=test)["random"].probability[:, 2] == 1.0).all()


@pytest.mark.parametrize("target", [RETURN, DIRECTION], ids=["values", "classes"])
def test_baselines_know_no_label_of_the_test_rows_and_none_that_had_not_ended(target):
    matrix = random_matrix(target, symbols=3, sessions=60)
    train, test = np.arange(0, 90), np.arange(120, 150)
    whole = predict_baselines(matrix, [(train, test)], target=target, seed=0)
    assert set(whole) == set(baselines_of(target))
    # What ended at the bar of the first test row or later, and is not trained on.
    first = matrix["ts"][120]
    is_open = pl.col("label_end") >= first
    changed = matrix.with_columns(
        y=pl.when(is_open).then(2.0 - pl.col("y")).otherwise("y"),
        target=pl.when(is_open).then(-5.0 * pl.col("target")).otherwise("target"),
    )
    again = predict_baselines(changed, [(train, test)], target=target, seed=0)
    at_first = (matrix["ts"][120:150] == first).to_numpy()
    for name, predicted in whole.items():
        np.testing.assert_array_equal(again[name].value[at_first], predicted.value[at_first], err_msg=name)
    assert (again["last_value"].value != whole["last_value"].value).any()


def test_baselines_of_a_target_without_a_direction_lack_momentum():
    assert "momentum_sign" not in baselines_of(build_target("realised_volatility", horizon_bars=2))
    assert "momentum_sign" in baselines_of(DIRECTION)
    assert all(each.definition for each in BASELINES.values())


@pytest.mark.parametrize(("before", "known"), [(0, 0.1), (1, 0.3)], ids=["at_the_bar", "a_second_before"])
def test_last_value_ends_before_the_bar_not_at_it(before, known):
    is_early = pl.col("ts") < close_of(4)
    matrix = by_hand({"A": [0.1, 0.2, 0.3, 0.4]}).with_columns(
        label_end=pl.when(is_early).then(pl.lit(close_of(4) - timedelta(seconds=before))).otherwise("label_end")
    )
    assert predict(matrix, RETURN, train=[0], test=[3])["last_value"].value.tolist() == [known]
