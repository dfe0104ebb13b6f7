import io
from datetime import date

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hf_pipelines.research import plots
from hf_pipelines.research.backtest import BacktestResult, run_backtest
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market


def backtest(*, seed: int = 0) -> BacktestResult:
    weights, bars = random_market(seed=seed)
    return run_backtest(weights, bars, Costs(fee_bps=1), periods_per_year=250)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def coloured(image: np.ndarray, colour: str) -> np.ndarray:
    """Pixels of about `colour`: a thin line is blended with what is beside it."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.asarray((np.abs(image.astype(int) - rgb) < 40).all(axis=2))


def test_equity_png_draws_curve_above_drawdown() -> None:
    image = pixels(plots.equity_png(backtest()))

    curve = np.nonzero(coloured(image, plots.EQUITY_COLOUR))[0]
    fall = np.nonzero(coloured(image, plots.DRAWDOWN_COLOUR))[0]
    assert len(curve) and len(fall)
    assert curve.max() < fall.min()


def test_equity_png_is_determined_by_the_result() -> None:
    assert plots.equity_png(backtest()) == plots.equity_png(backtest())
    assert plots.equity_png(backtest()) != plots.equity_png(backtest(seed=1))


def test_equity_png_with_a_note_says_it_above_the_numbers(monkeypatch) -> None:
    titles = []
    monkeypatch.setattr(plots, "png_of", lambda drawn: titles.append(drawn.axes[0].get_title(loc="left")) or b"")
    plots.equity_png(backtest(), note="No walk-forward")
    plots.equity_png(backtest())
    assert titles == [f"No walk-forward\n{titles[1]}", titles[1]]


def test_equity_png_of_account_that_never_traded_is_drawn() -> None:
    _, bars = random_market(seed=0)
    flat = run_backtest(decisions({0: {"S0": 0.0}}), bars, Costs(), periods_per_year=250)

    assert coloured(pixels(plots.equity_png(flat)), plots.EQUITY_COLOUR).any()


def test_equity_png_of_a_few_sessions_shows_no_annual_figure(monkeypatch) -> None:
    titles = []
    monkeypatch.setattr(plots, "png_of", lambda drawn: titles.append(drawn.axes[0].get_title(loc="left")) or b"")
    for n_sessions in (14, 60):
        weights, bars = random_market(seed=0, n_sessions=n_sessions)
        plots.equity_png(run_backtest(weights, bars, Costs(), periods_per_year=250))
    few, enough = titles
    assert few.startswith("Return ") and few.endswith("(14 sessions: too few to annualise)")
    assert "Sharpe" not in few and "Annual" not in few and "volatility" not in few
    assert enough.startswith("Annual return ") and "Sharpe" in enough


def test_importances_png_draws_longest_bar_on_top() -> None:
    image = pixels(plots.importances_png(["small", "large", "middle"], [1.0, 3.0, 2.0]))

    widths = coloured(image, plots.EQUITY_COLOUR).sum(axis=1)
    bars = [widths[rows].max() for rows in np.split(np.arange(len(widths)), np.flatnonzero(np.diff(widths)) + 1)]
    lengths = [width for width in bars if width > 0]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == pytest.approx(3 * lengths[-1], rel=0.02)


def test_importances_png_shows_the_largest_thirty_whatever_their_order() -> None:
    names, values = [f"f{i}" for i in range(40)], [float(i) for i in range(40)]

    assert plots.importances_png(names, values) == plots.importances_png(names[::-1], values[::-1])


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        ([], [], "`values` must match a non-empty `names`"),
        (["a"], [1.0, 2.0], "`values` must match"),
        (["a", "b"], [1.0, float("nan")], r"`values` must be finite, was not for \['b'\]"),
    ],
    ids=["empty", "lengths", "nan"],
)
def test_importances_png_with_bad_input_raises(names: list[str], values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.importances_png(names, values)


def coverage_of(shares: dict[str, float], *, sessions: int = 3) -> pl.DataFrame:
    """The same share on every session; the first symbol is no member on the first one."""
    days = [date(2013, 1, 7 + i) for i in range(sessions)]
    rows = [(symbol, day, share) for symbol, share in shares.items() for day in days]
    return pl.DataFrame(rows[1:], schema=["symbol", "session", "coverage"], orient="row")


def test_coverage_png_draws_the_worst_symbol_on_top_and_absence_in_grey() -> None:
    image = pixels(plots.coverage_png(coverage_of({"FULL": 1.0, "EMPTY": 0.0})))

    # Ends of the scale, 0 and 1, and no value; the colour bar has but a thin line of each.
    empty, full, none = (
        np.nonzero((image == rgb).all(axis=2)) for rgb in ([68, 1, 84], [253, 231, 36], [200, 200, 200])
    )
    assert np.median(empty[0]) < np.median(none[0]) - 20
    # One of the three cells of the lower row, the first.
    assert np.median(none[0]) == pytest.approx(np.median(full[0]), abs=3)
    assert np.median(none[1]) < np.median(full[1])
    assert len(none[0]) == pytest.approx(len(full[0]) / 2, rel=0.05)
    assert len(empty[0]) == pytest.approx(len(full[0]) * 3 / 2, rel=0.05)


def test_coverage_png_of_many_symbols_shows_the_worst_of_them() -> None:
    shares = {f"S{i:03}": i / 499 for i in range(500)}
    worst = dict(list(shares.items())[: plots.SHOWN_SYMBOLS])

    whole, small = pixels(plots.coverage_png(coverage_of(shares))), pixels(plots.coverage_png(coverage_of(worst)))

    # The same picture below its title, whatever else there is.
    assert whole.shape == small.shape
    assert (whole[60:] == small[60:]).all() and (whole[:60] != small[:60]).any()


def test_correlations_png_draws_each_value_in_its_colour() -> None:
    names = [f"f{i}" for i in range(12)]
    values = np.where(np.eye(12, dtype=bool), 1.0, np.nan)
    values[3, 8] = values[8, 3] = -1.0
    frame = pl.DataFrame({"feature": names, **dict(zip(names, values, strict=True))})

    image = pixels(plots.correlations_png(frame, n_features=300, period="2013"))

    plus, minus, none = ((image == rgb).all(axis=2).sum() for rgb in ([103, 0, 31], [5, 48, 97], [200, 200, 200]))
    assert plus / minus == pytest.approx(12 / 2, rel=0.05)
    assert none / minus == pytest.approx((144 - 14) / 2, rel=0.05)


def test_heat_maps_of_nothing_or_too_much_are_refused() -> None:
    with pytest.raises(ValueError, match="`coverage` must have rows, had none"):
        plots.coverage_png(coverage_of({"A": 1.0}).clear())
    wide = pl.DataFrame({"feature": [f"f{i}" for i in range(61)]})
    with pytest.raises(ValueError, match="`correlations` must be of 1 to 60 features, was of 61"):
        plots.correlations_png(wide, n_features=61, period="2013")


def test_losses_png_marks_the_best_epoch_of_each_fit_and_draws_ten_of_them():
    curve = ([0.9, 0.5, 0.4], [1.0, 0.7, 0.8])
    one = plots.losses_png({"fold 0": curve})
    assert one == plots.losses_png({"fold 0": curve}) and one.startswith(b"\x89PNG")
    assert one != plots.losses_png({"fold 0": ([0.9, 0.5, 0.4], [1.0, 0.7, 0.6])})
    many = {f"fold {at}": curve for at in range(11)}
    assert plots.losses_png(many) == plots.losses_png({**many, "fold 10": ([1.0], [1.0])})
