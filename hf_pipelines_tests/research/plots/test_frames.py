"""Tables that figures draw: numbers worked out by hand."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from hf_pipelines.research.plots import frames
from hf_pipelines.research.plots.bars import bars_png
from hf_pipelines.research.plots.predictions import coefficients_png, hits_png, quantiles_png
from hf_pipelines.research.plots.weights import weights_png

MONDAY = date(2013, 2, 25)


def predictions(*rows: tuple[str, int, int, float | None, float]) -> pl.DataFrame:
    """Rows of symbol, day after Monday, fold, prediction, target; trained until the week before."""
    close = datetime(2013, 2, 25, 21, tzinfo=UTC)
    return pl.DataFrame(
        [
            {
                "symbol": symbol,
                "session": MONDAY + timedelta(days=day),
                "ts": close + timedelta(days=day),
                "fold": fold,
                "trained_until": close - timedelta(days=7 - fold),
                "prediction": prediction,
                "target": target,
            }
            for symbol, day, fold, prediction, target in rows
        ]
    )


def test_drawn_predictions_are_those_of_the_latest_model_with_a_number() -> None:
    given = predictions(
        ("A", 0, 0, 0.1, 1.0), ("A", 0, 1, 0.2, 1.0), ("B", 0, 0, None, 1.0), ("C", 0, 0, 0.3, float("nan"))
    )
    assert frames.drawn_predictions(given).select("symbol", "prediction").rows() == [("A", 0.2)]
    horizons = (
        given.head(1).select(pl.all(), horizon=pl.lit(5)).vstack(given.head(1).select(pl.all(), horizon=pl.lit(9)))
    )
    assert frames.drawn_predictions(horizons)["horizon"].to_list() == [5]


def test_coefficients_by_session_add_up() -> None:
    up = [(name, 0, 0, float(i), float(i)) for i, name in enumerate("ABC")]
    down = [(name, 1, 0, float(i), -float(i)) for i, name in enumerate("ABC")]
    alike = [(name, 2, 0, 1.0, float(i)) for i, name in enumerate("ABC")]
    found = frames.coefficients_by_session(predictions(*up, *down, *alike))
    # A session whose predictions are all equal ranks nothing.
    assert found["coefficient"].to_list() == pytest.approx([1.0, -1.0])
    assert found["so_far"].to_list() == pytest.approx([1.0, 0.0]) and found["rolling"].null_count() == 2
    assert coefficients_png(found, heading="x").startswith(b"\x89PNG")


def test_outcomes_by_quantile_are_means_of_equal_groups() -> None:
    given = predictions(*((f"S{i}", 0, 0, float(i), float(i // 2)) for i in range(10)))
    found = frames.outcomes_by_quantile(given)
    assert found.select("quantile", "low", "high", "outcome", "n_rows").rows() == [
        (n + 1, 2.0 * n, 2.0 * n + 1.0, float(n), 2) for n in range(5)
    ]
    assert quantiles_png(found).startswith(b"\x89PNG")
    # Equal predictions are of one group, whatever their outcomes.
    same = frames.outcomes_by_quantile(predictions(*((f"S{i}", 0, 0, 1.0, float(i)) for i in range(10))))
    assert same["n_rows"].to_list() == [10] and same["outcome"].to_list() == [4.5]


@pytest.mark.parametrize(("symbols", "groups"), [(49, 5), (50, 10)])
def test_groups_are_tenths_where_each_has_five_symbols_of_a_session(symbols: int, groups: int) -> None:
    given = predictions(*((f"S{i}", day, 0, float(i), float(i)) for day in range(2) for i in range(symbols)))
    # A session of few is no reason for fewer groups.
    found = frames.outcomes_by_quantile(pl.concat([given, predictions(("S0", 2, 0, 0.0, 0.0))]))
    assert found["quantile"].to_list() == [*range(1, groups + 1)]
    assert found["outcome"].is_sorted() and found["n_rows"].max() <= 2 * symbols // groups + 2  # type: ignore[operator]


def test_hits_by_fold_leave_out_what_says_neither_up_nor_down() -> None:
    found = frames.hits_by_fold(
        predictions(("A", 0, 0, 0.1, 1.0), ("B", 0, 0, 0.1, -1.0), ("C", 0, 0, 0.0, 1.0), ("A", 1, 1, 0.0, 1.0))
    )
    assert found.rows() == [(0, MONDAY, 0.5, 2), (1, MONDAY + timedelta(days=1), None, 0)]
    assert hits_png(found).startswith(b"\x89PNG")
    # Of a target whose middle is 1, such as a ratio of volatilities.
    assert frames.hits_by_fold(predictions(("A", 0, 0, 0.9, 0.5)), neutral=1.0)["hit_rate"].to_list() == [1.0]


def test_weight_changes_count_what_entered_and_what_left() -> None:
    now = pl.DataFrame({"symbol": ["A", "B"], "weight": [0.5, -0.25]})
    before = pl.DataFrame({"symbol": ["C", "A"], "weight": [0.25, 0.25]})
    changes = frames.weight_changes(now, before)
    assert changes.rows() == [("A", 0.5, 0.25, 0.25), ("B", -0.25, 0.0, -0.25), ("C", 0.0, 0.25, -0.25)]
    # Bought 0.25, sold 0.5: a quarter of the equity went into cash.
    assert frames.turned_over(changes) == pytest.approx(0.5)
    first = frames.weight_changes(now, None)
    assert first["change"].null_count() == 2
    assert weights_png(changes, heading="x", before="2013-02-22") != weights_png(first, heading="x")


def test_bar_states_are_the_worst_that_is_so() -> None:
    expected = pl.DataFrame({"symbol": ["A", "B", "C", "D"], "session": [MONDAY] * 4})
    there = pl.DataFrame({"symbol": ["A", "D"], "session": [MONDAY] * 2})
    states = frames.bar_states(
        expected, there, quarantined=[f"B {MONDAY} negative volume"], suspect=[f"D {MONDAY} jump", f"C {MONDAY} jump"]
    )
    assert states["state"].to_list() == ["there", "quarantined", "missing", "suspect"]
    assert bars_png(states, heading="x") != bars_png(states.head(2), heading="x")
