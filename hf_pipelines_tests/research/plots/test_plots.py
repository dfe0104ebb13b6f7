import io
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hf_pipelines.research.backtest import BacktestResult, run_backtest
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.plots import account, features, style
from hf_pipelines.research.plots.account import AccountLabel, equity_png
from hf_pipelines.research.plots.drift import accuracy_png, outputs_png, shifts_png
from hf_pipelines.research.plots.features import correlations_png, coverage_png
from hf_pipelines.research.plots.importances import importances_png
from hf_pipelines.research.plots.losses import losses_png
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
    image = pixels(equity_png(backtest()))

    curve = np.nonzero(coloured(image, style.OWN_COLOUR))[0]
    fall = np.nonzero(coloured(image, style.BAD_COLOUR))[0]
    assert len(curve) and len(fall)
    assert curve.max() < fall.min()


def test_equity_png_is_determined_by_the_result() -> None:
    assert equity_png(backtest()) == equity_png(backtest())
    assert equity_png(backtest()) != equity_png(backtest(seed=1))


@pytest.fixture
def drawn(monkeypatch):
    """Figures of accounts instead of their bytes."""
    found = []
    monkeypatch.setattr(account, "png_of", lambda figure: found.append(figure) or b"")
    return found


def words(figure) -> str:
    """All that is written around a figure, from above."""
    return "\n".join(each.get_text() for each in figure.texts)


def test_equity_png_says_what_it_is_of(drawn) -> None:
    label = AccountLabel(name="momentum, week 2013-02-24", currency="USD")
    equity_png(backtest(), label=label, note="No walk-forward")
    result, told = backtest(), words(drawn[0])
    assert told.startswith("momentum, week 2013-02-24, simulated\n")
    first, last = result.equity["session"][0], result.equity["session"][-1]
    assert f"{first} to {last}" in told and "No walk-forward" in told
    assert f"Costs {result.metrics['costs_total']:.2%} of the initial cash" in told
    assert drawn[0].axes[0].get_ylabel() == "Equity, USD"
    # The last point of the costs is all that was paid, over what there was at first.
    paid = drawn[0].axes[3].lines[0].get_ydata()[-1]
    assert paid == pytest.approx(result.metrics["costs_total"])


def test_equity_png_draws_the_benchmark_from_the_same_cash(drawn) -> None:
    result = backtest()
    ts = result.equity["ts"]
    equity_png(result, benchmark=("SPX", pl.DataFrame({"ts": ts[1:4], "value": [2.0, 3.0, 4.0]})))
    (line,) = [each for each in drawn[0].axes[0].lines if each.get_label() == "SPX, held (no costs)"]
    first = result.equity["equity"][0]
    assert list(line.get_ydata()) == pytest.approx([first, 1.5 * first, 2.0 * first])


def ticks_of(axis) -> list[str]:
    return [each.get_text() for each in axis.get_majorticklabels() if each.get_text()]


@pytest.mark.parametrize("n_sessions", [14, 30, 300])
def test_equity_png_has_ticks_that_neither_repeat_nor_overlap(drawn, n_sessions: int) -> None:
    weights, bars = random_market(seed=0, n_sessions=n_sessions)
    equity_png(run_backtest(weights, bars, Costs(fee_bps=1), periods_per_year=250))
    (figure,) = drawn
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis in (axes.yaxis, axes.xaxis):
            found = ticks_of(axis)
            assert len(found) == len(set(found)), found
    shown = [each.get_window_extent() for each in figure.axes[-1].get_xticklabels() if each.get_text()]
    assert all(one.x1 <= other.x0 for one, other in zip(shown, shown[1:], strict=False))


@pytest.mark.parametrize("step, has_hours", [(timedelta(days=1), False), (timedelta(hours=5), True)])
def test_ticks_of_a_few_days_have_hours_where_there_are_any(step: timedelta, has_hours: bool) -> None:
    axes = style.new_figure(height=2.0).subplots()
    axes.plot([datetime(2013, 2, 19) + at * step for at in range(4)], range(4))
    style.date_ticks(axes)
    axes.figure.draw_without_rendering()
    found = ticks_of(axes.xaxis)
    assert len(found) > 1 and len(found) == len(set(found))
    assert all(":" in each for each in found) is has_hours


def test_equity_png_of_account_that_never_traded_is_drawn() -> None:
    _, bars = random_market(seed=0)
    flat = run_backtest(decisions({0: {"S0": 0.0}}), bars, Costs(), periods_per_year=250)

    assert coloured(pixels(equity_png(flat)), style.OWN_COLOUR).any()


def test_equity_png_of_a_few_sessions_shows_no_annual_figure(drawn) -> None:
    for n_sessions in (14, 60):
        weights, bars = random_market(seed=0, n_sessions=n_sessions)
        equity_png(run_backtest(weights, bars, Costs(), periods_per_year=250))
    few, enough = map(words, drawn)
    assert "Return " in few and "(14 sessions: too few to annualise)" in few.replace("\n", " ")
    assert "Sharpe" not in few and "Annual" not in few and "volatility" not in few
    assert "Annual return " in enough and "Sharpe" in enough


# Linear RGB as a reader without red, green or blue receptors sees it: Machado, Oliveira & Fernandes (2009), severity 1.
SIGHTS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, sight: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of a colour as it is seen."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(sight @ linear, 0.0, 1.0)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_drawn_together_are_told_apart_by_every_reader(sight: str) -> None:
    seen = [
        lab(each, np.array(SIGHTS[sight])) for each in (*account.BASELINE_COLOURS, style.OWN_COLOUR, style.BAD_COLOUR)
    ]
    # Red and green of equal lightness are 5 apart for the first two; 10 are seen side by side.
    distances = [float(np.linalg.norm(one - other)) for at, one in enumerate(seen) for other in seen[at + 1 :]]
    assert min(distances) > 10.0
    assert (
        np.linalg.norm(lab("#c04040", np.array(SIGHTS["deutan"])) - lab("#7a7a20", np.array(SIGHTS["deutan"]))) < 20.0
    )


def test_letters_are_legible_where_a_figure_is_390_wide() -> None:
    assert style.SMALL_SIZE / 72 / style.WIDTH * 390 > 8.5


def test_importances_png_draws_longest_bar_on_top() -> None:
    image = pixels(importances_png(["small", "large", "middle"], [1.0, 3.0, 2.0]))

    widths = coloured(image, style.OWN_COLOUR).sum(axis=1)
    bars = [widths[rows].max() for rows in np.split(np.arange(len(widths)), np.flatnonzero(np.diff(widths)) + 1)]
    lengths = [width for width in bars if width > 0]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == pytest.approx(3 * lengths[-1], rel=0.02)


def test_importances_png_shows_the_largest_thirty_whatever_their_order() -> None:
    names, values = [f"f{i}" for i in range(40)], [float(i) for i in range(40)]

    assert importances_png(names, values) == importances_png(names[::-1], values[::-1])


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
        importances_png(names, values)


def coverage_of(shares: dict[str, float], *, sessions: int = 3) -> pl.DataFrame:
    """The same share on every session; the first symbol is no member on the first one."""
    days = [date(2013, 1, 7 + i) for i in range(sessions)]
    rows = [(symbol, day, share) for symbol, share in shares.items() for day in days]
    return pl.DataFrame(rows[1:], schema=["symbol", "session", "coverage"], orient="row")


def test_coverage_png_draws_the_worst_symbol_on_top_and_absence_in_grey() -> None:
    image = pixels(coverage_png(coverage_of({"FULL": 1.0, "EMPTY": 0.0})))

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
    worst = dict(list(shares.items())[: features.SHOWN_SYMBOLS])

    whole, small = pixels(coverage_png(coverage_of(shares))), pixels(coverage_png(coverage_of(worst)))

    # The same picture below its title, whatever else there is.
    assert whole.shape == small.shape
    head = whole.shape[0] // 5
    assert (whole[head:] == small[head:]).all() and (whole[:head] != small[:head]).any()


def test_correlations_png_draws_each_value_in_its_colour() -> None:
    names = [f"f{i}" for i in range(12)]
    values = np.where(np.eye(12, dtype=bool), 1.0, np.nan)
    values[3, 8] = values[8, 3] = -1.0
    frame = pl.DataFrame({"feature": names, **dict(zip(names, values, strict=True))})

    image = pixels(correlations_png(frame, n_features=300, period="2013"))

    plus, minus, none = ((image == rgb).all(axis=2).sum() for rgb in ([103, 0, 31], [5, 48, 97], [200, 200, 200]))
    assert plus / minus == pytest.approx(12 / 2, rel=0.05)
    assert none / minus == pytest.approx((144 - 14) / 2, rel=0.05)


def test_heat_maps_of_nothing_or_too_much_are_refused() -> None:
    with pytest.raises(ValueError, match="`coverage` must have rows, had none"):
        coverage_png(coverage_of({"A": 1.0}).clear())
    wide = pl.DataFrame({"feature": [f"f{i}" for i in range(61)]})
    with pytest.raises(ValueError, match="`correlations` must be of 1 to 60 features, was of 61"):
        correlations_png(wide, n_features=61, period="2013")


def test_losses_png_marks_the_best_epoch_of_each_fit_and_draws_ten_of_them():
    curve = ([0.9, 0.5, 0.4], [1.0, 0.7, 0.8])
    one = losses_png({"fold 0": curve})
    assert one == losses_png({"fold 0": curve}) and one.startswith(b"\x89PNG")
    assert one != losses_png({"fold 0": ([0.9, 0.5, 0.4], [1.0, 0.7, 0.6])})
    many = {f"fold {at}": curve for at in range(11)}
    assert losses_png(many) == losses_png({**many, "fold 10": ([1.0], [1.0])})


@pytest.fixture
def weeks_of_drift() -> pl.DataFrame:
    days = [date(2024, 1, 5), date(2024, 1, 12)]
    rows = [(day, name, verdict, shift) for day in days for name, verdict, shift in (
        ("steady", "steady", 0.0), ("moved", "drifted", 12.0), ("slow", "cannot be judged", None))]  # fmt: skip
    return pl.DataFrame(rows, schema=["session", "column", "verdict", "shift"], orient="row")


def test_shifts_png_hatches_what_cannot_be_judged_and_colours_what_has_drifted(weeks_of_drift) -> None:
    image = pixels(shifts_png(weeks_of_drift))
    assert coloured(image, style.BAD_COLOUR).sum() > 1_000
    # Hatches are the only lines of that grey.
    known = pixels(shifts_png(weeks_of_drift.filter(pl.col("column") != "slow")))
    assert coloured(image, style.MUTED_COLOUR).sum() > 3 * coloured(known, style.MUTED_COLOUR).sum()


def test_accuracy_png_draws_what_is_known_alone() -> None:
    days = [date(2024, 1, 5), date(2024, 1, 8), date(2024, 1, 9)]
    unknown = pl.DataFrame({"session": days, **dict.fromkeys(("value", "low", "high", "expected"), None)})
    assert coloured(pixels(accuracy_png(unknown.cast({"value": pl.Float64}))), style.OTHER_COLOUR).sum() == 0
    known = unknown.with_columns(value=0.6, low=0.5, high=0.7, expected=0.55)
    assert coloured(pixels(accuracy_png(known)), style.OTHER_COLOUR).sum() > 100


def test_outputs_png_of_nothing_is_a_picture() -> None:
    assert pixels(outputs_png([], [float("nan")])).shape[1] == 950
    assert coloured(pixels(outputs_png([0.0, 1.0], [0.0, 0.5])), style.OWN_COLOUR).sum() > 100
