"""The training matrix: which rows stay, at what weight, and what is refused."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.utils.class_weight import compute_sample_weight

from hf_pipelines.research.matrix import (
    MATRIX_COLUMNS,
    build_matrix,
    constant_features,
    feature_names,
    join_features,
    label_features,
    rows_without_label,
    unknown_counts,
)
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.weights import choose_weightings, sample_weights
from hf_pipelines_tests.sample_matrix import close_of, plain_bars

RETURN = build_target("forward_return", horizon_bars=1)
DIRECTION = build_target("direction", horizon_bars=1, params={"lower": 0.0, "upper": 0.0})
NAN = float("nan")

BARS = plain_bars({"A": [100.0, 110.0, 99.0, 99.0, 108.9], "B": [10.0, 11.0, 12.1, 12.1, 12.1]})


def group(**features: list[float]) -> pl.DataFrame:
    columns = [pl.Series(name, values, dtype=pl.Float32) for name, values in features.items()]
    return BARS.select("symbol", "session", "ts", *columns)


def numbered(name: str = "x") -> pl.DataFrame:
    return group(**{name: [float(row) for row in range(BARS.height)]})


def build(features, *, bars=BARS, target=RETURN, cutoff=None, minimum_rows=1, weighting="none", missing="drop"):
    return build_matrix(
        features,
        bars=bars,
        target=target,
        cutoff=cutoff,
        minimum_rows=minimum_rows,
        weightings=choose_weightings(weighting),
        missing=missing,
    )


def test_build_matrix_joins_groups_and_labels_sorted_by_time():
    matrix = build([numbered("x"), numbered("z").sort("ts", descending=True)])
    assert matrix.columns == [*MATRIX_COLUMNS, "x", "z"]
    assert matrix["symbol"].to_list() == ["A", "B"] * 4
    assert matrix["x"].to_list() == matrix["z"].to_list() == [0, 5, 1, 6, 2, 7, 3, 8]
    assert matrix["target"].to_list() == pytest.approx([0.1, 0.1, -0.1, 0.1, 0.0, 0.0, 0.1, 0.0])
    assert matrix["weight"].to_list() == [1.0] * 8
    assert matrix.schema["x"] == pl.Float32 and matrix.schema["y"] == pl.Float64


def test_build_matrix_cutoff_is_strict():
    assert build(numbered(), cutoff=close_of(4))["ts"].max() == close_of(2)
    just_after = close_of(4).replace(microsecond=1)
    assert build(numbered(), cutoff=just_after)["ts"].max() == close_of(3)


def test_build_matrix_with_cutoff_ignores_everything_from_the_cutoff_on():
    cutoff = close_of(4)
    known_bars = BARS.filter(pl.col("ts") < cutoff)
    known_features = numbered().filter(pl.col("ts") < cutoff)
    assert_frame_equal(build(numbered(), cutoff=cutoff), build(known_features, bars=known_bars, cutoff=cutoff))


def test_build_matrix_drops_rows_with_an_unknown_feature():
    matrix = build([numbered("x"), group(z=[NAN, NAN, 1, 2, 3, NAN, 4, 5, 6, 7])])
    assert matrix.select("symbol", "z").rows() == [("B", 4), ("A", 1), ("B", 5), ("A", 2), ("B", 6)]


def test_build_matrix_null_feature_counts_as_unknown():
    with_null = numbered().with_columns(x=pl.when(pl.col("x") == 1).then(None).otherwise("x"))
    assert_frame_equal(build(with_null), build(numbered()).filter(pl.col("x") != 1))


def test_build_matrix_drops_reference_symbols():
    bars = BARS.with_columns(role=pl.when(pl.col("symbol") == "B").then(pl.lit("reference")).otherwise("role"))
    assert build(numbered(), bars=bars)["symbol"].unique().to_list() == ["A"]


def test_build_matrix_class_balance_agrees_with_sklearn():
    matrix = build(numbered(), target=DIRECTION, weighting="class_balance")
    # Of eight rows four go up, three stay, one goes down.
    expected = {2.0: 8 / (3 * 4), 1.0: 8 / (3 * 3), 0.0: 8 / (3 * 1)}
    assert matrix["weight"].to_list() == pytest.approx([expected[y] for y in matrix["y"]])
    np.testing.assert_allclose(matrix["weight"], compute_sample_weight("balanced", matrix["y"]))


def test_sample_weights_absent_class_still_average_one():
    weight = sample_weights(
        pl.DataFrame({"y": [0.0, 0.0, 0.0, 2.0]}), weightings=choose_weightings("class_balance"), target=DIRECTION
    )
    assert weight.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])


def test_feature_names_are_the_columns_after_the_fixed_ones():
    assert feature_names(build([numbered("zeta"), numbered("alpha")])) == ["zeta", "alpha"]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param([], "at least one feature column", id="no groups"),
        pytest.param(BARS.select("symbol", "session", "ts"), "at least one feature column", id="no features"),
        pytest.param(numbered().drop("session"), r"`features` must have the columns.*without \['session'\]", id="key"),
        pytest.param([numbered(), numbered()], r"name each feature once.*\['x'\]", id="same feature twice"),
        pytest.param(numbered("target"), r"none like a matrix column.*\['target'\]", id="reserved name"),
        pytest.param(pl.concat([numbered(), numbered()[:1]]), r"one row per symbol and ts.*\['A'\]", id="duplicate"),
        pytest.param([numbered(), numbered("z")[:-2]], r"same rows in every group, was \[10, 8\]", id="short group"),
    ],
)
def test_join_features_malformed_groups_raise(features, message):
    with pytest.raises(ValueError, match=message):
        join_features([features] if isinstance(features, pl.DataFrame) else features)


def test_build_matrix_never_filled_features_are_named_most_unknown_first_and_at_most_five():
    nothing = group(**{f"f{number}": [NAN] * 10 for number in (6, 3, 5, 1, 4, 2)}, good=list(range(10)))
    shown = r"f1 \(8 of 8\), f2 \(8 of 8\), f3 \(8 of 8\), f4 \(8 of 8\), f5 \(8 of 8\) and 1 more; .*`missing: keep`"
    with pytest.raises(ValueError, match=shown):
        build(nothing)


INF = float("inf")
UNEVEN = [numbered("x"), group(z=[NAN, INF, 1, 2, 3, -INF, 4, 5, 6, 7]), group(w=[NAN, 1, NAN, *range(7)])]


def test_build_matrix_infinite_value_is_unknown():
    finite = [UNEVEN[0], UNEVEN[1].with_columns(z=pl.when(pl.col("z").is_finite()).then("z").otherwise(NAN))]
    assert_frame_equal(build(UNEVEN[:2]), build(finite))


def test_build_matrix_keep_leaves_out_only_rows_without_any_known_feature():
    matrix = build(UNEVEN[1:], missing="keep")
    # Of ten rows each symbol's last has no label; A's first knows neither feature.
    assert matrix.select("symbol", "z", "w").fill_nan(None).rows() == [
        ("B", None, 2), ("A", None, 1), ("B", 4, 3), ("A", 1, None), ("B", 5, 4), ("A", 2, 0), ("B", 6, 5),
    ]  # fmt: skip
    assert matrix["weight"].to_list() == [1.0] * 7


def test_unknown_counts_by_hand():
    labelled = label_features(UNEVEN, bars=BARS, target=RETURN, cutoff=None)
    # z is unknown in A's first two rows and B's first, w in A's first and third: A's first lacks both.
    assert unknown_counts(labelled).rows() == [("z", 3, 2), ("w", 2, 1)]
    assert labelled.height - build(UNEVEN).height == 4


def test_select_rows_unknown_choice_raises():
    with pytest.raises(ValueError, match="`missing` must be one of.*'impute'"):
        build(numbered(), missing="impute")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([3.0] * 10, id="constant"),
        pytest.param([NAN] * 10, id="never filled"),
        pytest.param([NAN, 1, 1, 1, 1, NAN, 1, 1, 1, 1], id="constant where known"),
        pytest.param([0, 0, 0, 0, 1, 0, 0, 0, 0, 1], id="varies only where there is no label"),
    ],
)
def test_constant_features_stay_in_the_matrix_and_are_named(values):
    matrix = build([numbered(), group(flat=values)], missing="keep")
    assert constant_features(matrix) == ["flat"] and feature_names(matrix) == ["x", "flat"]


def test_rows_without_label_by_hand():
    # B has no bar on the last two days: its labels of one bar end a day earlier than A's.
    bars = BARS.filter((pl.col("symbol") == "A") | (pl.col("ts") <= close_of(3)))
    features = numbered().join(bars, on=["symbol", "ts"], how="semi")
    absent = rows_without_label(features, bars=bars, target=RETURN, cutoff=close_of(5))
    assert absent.select("symbol", "ts").rows() == [("A", close_of(4)), ("A", close_of(5)), ("B", close_of(3))]
    matrix = build(features, bars=bars, cutoff=close_of(5))
    assert matrix.height + absent.height == features.height


def test_build_matrix_too_few_rows_raises_with_the_numbers():
    short = group(z=[NAN] * 4 + [1.0] + [NAN] * 3 + [2.0, 3.0])
    message = r"at least 3 labelled rows.*was 1 of 8 labelled; unknown are z \(7 of 8\)"
    with pytest.raises(ValueError, match=message):
        build(short, minimum_rows=3)


def test_build_matrix_nothing_before_cutoff_raises():
    with pytest.raises(ValueError, match=r"was 0 of 0 labelled; widen the window of weeks"):
        build(numbered(), cutoff=datetime(2000, 1, 1, tzinfo=UTC), minimum_rows=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"bars": BARS.drop("role", "close")}, r"`bars` must have.*\['close', 'role'\]", id="columns"),
        pytest.param({"bars": pl.concat([BARS, BARS[:1]])}, r"`bars` must hold one row per.*\['A'\]", id="duplicate"),
        pytest.param({"bars": BARS[:-3]}, "`bars` must cover every row of `features`, was short of 3", id="short"),
        pytest.param({"cutoff": datetime(2024, 1, 4)}, "`cutoff` must carry a time zone", id="naive cutoff"),
        pytest.param({"weighting": "heavy"}, "`weighting` must be one of.*'heavy'", id="weighting"),
        pytest.param({"weighting": "class_balance"}, "must be 'none' for target 'forward_return'", id="no classes"),
    ],
)
def test_build_matrix_bad_argument_raises(change, message):
    with pytest.raises(ValueError, match=message):
        build(numbered(), **change)


def test_rows_are_gathered_once_from_groups_of_any_order_and_type():
    # Alone, in the same order (no join is needed), and in another one, with a value that is infinite as a Float32 only.
    other = group(z=list(range(10))).with_columns(pl.col("z").cast(pl.Float64).replace(4.0, 1e39))
    same, mixed = build([numbered(), other], missing="keep"), build([numbered(), other[::-1]], missing="keep")
    assert_frame_equal(same, mixed)
    joined = join_features([numbered(), other])
    assert_frame_equal(
        same.select("symbol", "session", "ts", "x", "z"),
        joined.join(same, on=["symbol", "ts"], how="semi").sort("ts", "symbol"),
    )
    # The fifth value is of A's last row, which has no label.
    assert joined["z"].is_nan().sum() == 1 and same["z"].is_nan().sum() == 0
