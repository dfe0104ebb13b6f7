import io

import numpy as np
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


def test_equity_png_of_account_that_never_traded_is_drawn() -> None:
    _, bars = random_market(seed=0)
    flat = run_backtest(decisions({0: {"S0": 0.0}}), bars, Costs(), periods_per_year=250)

    assert coloured(pixels(plots.equity_png(flat)), plots.EQUITY_COLOUR).any()


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
