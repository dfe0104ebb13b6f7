from datetime import date

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features_report import (
    MIN_COMMON_ROWS,
    closest_pairs,
    clustered,
    feature_correlations,
    feature_coverage,
)

NAN = float("nan")
MONDAY, TUESDAY = date(2013, 1, 7), date(2013, 1, 8)


def keyed(columns: dict[str, np.ndarray | list[float]]) -> pl.DataFrame:
    """One symbol, one row a day."""
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Float32))
    days = pl.date_range(date(2010, 1, 1), date(2030, 1, 1), eager=True).head(frame.height)
    keys = pl.DataFrame({"symbol": ["A"] * frame.height, "session": days, "ts": days.cast(pl.Datetime("us", "UTC"))})
    return keys.hstack(frame)


def random_features(*, rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """Five features: `twin` follows `one`, `late` lacks its first 150 values, `flat` never varies."""
    rng = np.random.default_rng(seed)
    values = {name: rng.standard_t(3, rows) for name in ("one", "two", "late")}
    values["late"][:150] = np.nan
    return keyed({**values, "twin": -(values["one"] ** 3), "flat": np.full(rows, 0.3)})


def test_coverage_is_the_share_of_features_with_a_value_by_symbol_and_session() -> None:
    features = pl.DataFrame(
        {
            "symbol": ["A", "A", "A", "B"],
            "session": [MONDAY, MONDAY, TUESDAY, MONDAY],
            "ts": [1, 2, 3, 1],
            "x": [1.0, 1.0, NAN, NAN],
            "y": [1.0, NAN, NAN, 2.0],
        }
    )
    expected = pl.DataFrame({"symbol": ["B", "A", "A", "B"], "session": [TUESDAY, MONDAY, TUESDAY, MONDAY]})

    found = feature_coverage(features, expected)

    # Two bars of A on Monday have 2 and 1 of 2 values; B has no bar on Tuesday.
    assert found.rows() == [("A", MONDAY, 0.75), ("A", TUESDAY, 0.0), ("B", MONDAY, 0.5), ("B", TUESDAY, 0.0)]


def test_correlations_agree_with_pandas_over_common_rows() -> None:
    features = random_features()

    found = feature_correlations(features)

    names = features.columns[3:]
    expected = features.select(names).to_pandas().rank().corr(min_periods=MIN_COMMON_ROWS)
    np.testing.assert_allclose(found.drop("feature").to_numpy(), expected.to_numpy(), atol=1e-12)
    # Cubed and turned about, the order is the same backwards.
    assert found.filter(feature="one")["twin"].item() == pytest.approx(-1.0)
    assert found["flat"].is_nan().all()


def test_correlations_of_few_common_rows_are_undefined() -> None:
    rising = np.arange(40.0)
    early, late = rising.copy(), rising.copy()
    early[MIN_COMMON_ROWS:] = np.nan
    late[:1] = np.nan

    found = feature_correlations(keyed({"all": rising, "early": early, "late": late}))

    # Of the first twenty rows `late` lacks one: nineteen are common.
    assert found.filter(feature="early").row(0)[1:3] == pytest.approx((1.0, 1.0))
    assert np.isnan(found.filter(feature="early")["late"].item())


def test_closest_pairs_are_ranked_whatever_the_sign() -> None:
    pairs = closest_pairs(feature_correlations(random_features()), 2)

    assert pairs.select("feature", "other").row(0) == ("one", "twin")
    assert pairs["correlation"][0] == pytest.approx(-1.0)
    assert abs(pairs["correlation"][1]) < 0.3


def test_clustered_puts_alike_features_side_by_side_and_keeps_those_with_the_closest_partner() -> None:
    correlations = feature_correlations(random_features())

    whole, two = clustered(correlations, 60), clustered(correlations, 2)

    assert sorted(two["feature"]) == ["one", "twin"]
    order = whole["feature"].to_list()
    assert sorted(order) == sorted(correlations["feature"]) and order[-1] == "flat"
    assert abs(order.index("one") - order.index("twin")) == 1
    assert whole.columns[1:] == order
    for name in order:
        before = correlations.filter(feature=name).select(order).row(0)
        assert whole.filter(feature=name).select(order).row(0) == pytest.approx(before, nan_ok=True)
