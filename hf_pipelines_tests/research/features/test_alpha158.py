"""Alpha158 against Qlib itself, against the formulas written out window by window, and its purity."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from hf_pipelines.research.features import Panel, build_panel
from hf_pipelines.research.features.alpha158 import FEATURES, alpha158
from hf_pipelines.research.features.alpha158_kernels import LEAD_ROWS, TILE_ROWS, WINDOWS, plan_tiles
from hf_pipelines_tests.qlib_reference import as_qlib_reads, expressions, qlib_features
from hf_pipelines_tests.real_data import real_table
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays

# Seconds of imports in each process that needs it.
pytestmark = pytest.mark.xdist_group("qlib")

NAMES = [feature.name for feature in FEATURES]
PRICES = ("open", "high", "low", "close")
# Qlib divides by 1e-12 where there is nothing: larger than any ratio that means something.
QLIB_INFINITY = 1e9


def _panel(bars: pl.DataFrame, **arguments: object) -> Panel:
    return build_panel(bars, None, **arguments)


def _table(panel: Panel, names: list[str] = NAMES) -> pd.DataFrame:
    return pd.DataFrame(dict(zip(names, alpha158(panel, names), strict=True)), dtype="float64")


def _differences(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[dict[str, int], dict[str, float]]:
    """Rows where only one is NaN, and the largest error relative to 1e-3 of the value and 1e-6."""
    is_wrong, worst = {}, {}
    for name in ours.columns:
        a, b = ours[name].to_numpy(), theirs[name].to_numpy(dtype="float64")
        assert not np.isinf(a).any(), name
        b = np.where(np.abs(b) < QLIB_INFINITY, b, np.nan)
        n = int((np.isnan(a) != np.isnan(b)).sum())
        if n:
            is_wrong[name] = n
        both = ~np.isnan(a) & ~np.isnan(b)
        error = np.abs(a[both] - b[both]) / (1e-3 * np.abs(b[both]) + 1e-6)
        worst[name] = float(error.max(initial=0.0))
    return is_wrong, worst


def _bits(columns: list[np.ndarray]) -> list[bytes]:
    return [np.where(np.isnan(column), np.float32(np.nan), column).tobytes() for column in columns]


def _smooth(bars: pl.DataFrame, seed: int = 1) -> pl.DataFrame:
    """Prices off the grid of cents: an adjusted price then never meets another by accident."""
    by = 1 + 1e-4 * np.random.default_rng(seed).random(bars.height)
    return bars.with_columns(pl.col(*PRICES) * pl.Series(by))


def _struck(bars: pl.DataFrame, columns: tuple[str, ...], value: float, *, share: float, seed: int) -> pl.DataFrame:
    """Put `value` into runs of 1 to 40 rows, about `share` of all, and into the first rows of the last symbol."""
    rng = np.random.default_rng(seed)
    is_struck = np.zeros(bars.height, dtype=bool)
    while is_struck.mean() < share:
        first = int(rng.integers(bars.height))
        is_struck[first : first + int(rng.choice([1, 1, 1, 2, 5, 40]))] = True
    last = (bars["symbol"] == bars["symbol"][-1]).to_numpy()
    is_struck[np.flatnonzero(last)[:7]] = True
    struck = pl.Series(is_struck)
    return bars.with_columns(pl.when(struck).then(value).otherwise(pl.col(name)).alias(name) for name in columns)


def _spikes(bars: pl.DataFrame) -> pl.DataFrame:
    is_spike = pl.int_range(pl.len()) % 97 == 50
    return bars.with_columns(pl.col("high", "close") * pl.when(is_spike).then(50.0).otherwise(1.0))


def _ties(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns((pl.col(*PRICES) / 5).round().clip(1), (pl.col("volume") / 1e5).round() * 1e5 + 1e5)


def _one_bar_and_late(bars: pl.DataFrame) -> pl.DataFrame:
    one = bars.filter(pl.col("symbol") == "S000")[-1:].with_columns(symbol=pl.lit("ONE"))
    two = bars.filter(pl.col("symbol") == "S000")[-2:].with_columns(symbol=pl.lit("TWO"))
    return pl.concat([bars, one, two]).sort("symbol", "ts")


PANELS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "late listings": lambda bars: bars,
    "one bar": _one_bar_and_late,
    "halts": lambda bars: _struck(bars, (*PRICES, "volume"), math.nan, share=0.2, seed=3),
    "prices without volume": lambda bars: _struck(bars, ("volume",), math.nan, share=0.1, seed=4),
    "missing highs and lows": lambda bars: _struck(
        _struck(bars, ("high",), math.nan, share=0.03, seed=5), ("low",), math.nan, share=0.03, seed=6
    ),
    "ties": _ties,
    "constant prices": lambda bars: bars.with_columns(pl.col(*PRICES) * 0 + 88.99),
    "constant volume": lambda bars: bars.with_columns(volume=pl.lit(5e5)),
    "spikes": _spikes,
}


@pytest.fixture(scope="module")
def quiet() -> pl.DataFrame:
    """Bars without corporate actions."""
    return random_bars(symbols=3, sessions=260, seed=11, has_events=False, has_reference=False, late_bars=60)


def _qlib() -> None:
    pytest.importorskip("qlib", reason="Qlib (pyqlib) is not installed: its own values are not compared")


def test_alpha158_has_qlibs_names_in_qlibs_order():
    _qlib()
    assert list(expressions()) == NAMES


@pytest.mark.parametrize("panel", PANELS)
def test_alpha158_equals_qlib_with_identical_nan_masks(quiet, panel):
    _qlib()
    bars = PANELS[panel](quiet)
    ours, theirs = _table(_panel(bars)), qlib_features(as_qlib_reads(bars))
    is_wrong, worst = _differences(ours, theirs)
    assert is_wrong == {}
    assert max(worst.values()) < 1.0, sorted(worst.items(), key=lambda item: -item[1])[:5]


def test_alpha158_without_volume_equals_qlib_but_for_its_division_by_nothing(quiet):
    _qlib()
    bars = _struck(quiet, ("volume",), 0.0, share=0.3, seed=7)
    # Qlib's Corr leaves out what is infinite: without the `+1` that makes log(0) of it 0, it is our definition.
    formulas = {name: formula.replace("Log($volume+1)", "Log($volume)") for name, formula in expressions().items()}
    ours, theirs = _table(_panel(bars)), qlib_features(as_qlib_reads(bars), formulas)
    is_wrong, worst = _differences(ours, theirs)
    assert is_wrong == {}
    assert max(worst.values()) < 1.0
    traded = bars["volume"].to_numpy() > 0
    assert ours["VMA5"][traded].notna().all() and (ours["VMA5"][~traded].dropna() == 0.0).all()


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_alpha158_of_tiny_and_huge_prices_equals_qlib_at_a_price_of_a_hundred(quiet, scale):
    _qlib()
    bars = _smooth(quiet)
    scaled = bars.with_columns(pl.col(*PRICES) * (scale / 100), pl.col("volume") * 1e3)
    ours, theirs = _table(_panel(scaled)), qlib_features(as_qlib_reads(bars))
    is_wrong, worst = _differences(ours, theirs)
    assert is_wrong == {}
    assert max(worst.values()) < 1.0


@pytest.mark.parametrize("has_halts", [False, True])
def test_alpha158_with_corporate_actions_equals_qlib_on_prices_adjusted_up_front(has_halts):
    _qlib()
    bars = _smooth(random_bars(symbols=3, sessions=300, seed=12, has_reference=False))
    assert (bars["dividend"] > 0).sum() > 5 and (bars["split_ratio"] != 1).sum() > 1
    if has_halts:
        bars = _struck(bars, (*PRICES, "volume"), math.nan, share=0.1, seed=8)
    is_wrong, worst = _differences(_table(_panel(bars)), qlib_features(as_qlib_reads(bars)))
    assert is_wrong == {}
    assert max(worst.values()) < 1.0, sorted(worst.items(), key=lambda item: -item[1])[:5]


@pytest.mark.parametrize("has_events", [False, True])
def test_alpha158_of_real_bars_equals_qlib(has_events):
    _qlib()
    bars = _real_bars(n_symbols=8)
    if not has_events:
        bars = bars.with_columns(split_ratio=1.0, dividend=0.0)
    ours, theirs = _table(_panel(bars)), qlib_features(as_qlib_reads(bars))
    is_wrong, worst = _differences(ours, theirs)
    assert is_wrong == {}
    # Prices in cents meet across an event by accident, and then it depends on the last bit of the adjustment.
    is_exact = {name for name in NAMES if name.startswith(("RANK", "IM"))} if has_events else set()
    assert max(error for name, error in worst.items() if name not in is_exact) < 1.0
    for name in is_exact:
        assert (np.abs(ours[name].to_numpy() - theirs[name].to_numpy()) > 1e-6).mean() < 0.005, name


def _window_values(window: dict[str, np.ndarray], d: int) -> dict[str, float]:
    """The formulas, straight from the bars of one window of d + 1 (prices adjusted), oldest first, none missing."""
    h, low, c, v = (window[name][-d:] for name in ("high", "low", "close", "volume"))
    pairs_c, pairs_v = window["close"][-d - 1 :], window["volume"][-d - 1 :]
    change, flow = np.diff(pairs_c), np.diff(pairs_v)
    ratio, growth = pairs_c[1:] / pairs_c[:-1], np.log(pairs_v[1:] / pairs_v[:-1] + 1)
    moved = np.abs(ratio - 1) * pairs_v[1:]
    line = stats.linregress(np.arange(d), c)
    last = c[-1]
    gain, fall, both = change[change > 0].sum(), -change[change < 0].sum(), np.abs(change).sum()
    more, less, flows = flow[flow > 0].sum(), -flow[flow < 0].sum(), np.abs(flow).sum()
    highest, lowest = float(np.argmax(h) + 1), float(np.argmin(low) + 1)
    return {
        "ROC": pairs_c[0] / last, "MA": c.mean() / last, "STD": c.std(ddof=1) / last, "BETA": line.slope / last,
        "RSQR": line.rvalue**2, "RESI": (last - line.intercept - line.slope * (d - 1)) / last,
        "MAX": h.max() / last, "MIN": low.min() / last,
        "QTLU": np.quantile(c, 0.8) / last, "QTLD": np.quantile(c, 0.2) / last,
        "RANK": stats.rankdata(c)[-1] / d, "RSV": (last - low.min()) / (h.max() - low.min()),
        "IMAX": highest / d, "IMIN": lowest / d, "IMXD": (highest - lowest) / d,
        "CORR": stats.pearsonr(c, np.log(v)).statistic, "CORD": stats.pearsonr(ratio, growth).statistic,
        "CNTP": (change > 0).mean(), "CNTN": (change < 0).mean(), "CNTD": (change > 0).mean() - (change < 0).mean(),
        "SUMP": gain / both, "SUMN": fall / both, "SUMD": (gain - fall) / both,
        "VMA": v.mean() / v[-1], "VSTD": v.std(ddof=1) / v[-1], "WVMA": moved.std(ddof=1) / moved.mean(),
        "VSUMP": more / flows, "VSUMN": less / flows, "VSUMD": (more - less) / flows,
    }  # fmt: skip


def test_alpha158_of_full_windows_equals_the_formulas_written_out_bar_by_bar():
    bars = random_bars(symbols=1, sessions=400, seed=13, has_reference=False)
    panel = _panel(bars)
    ours = _table(panel)
    worst = 0.0
    for last in range(60, 400, 7):
        seen = slice(last - 60, last + 1)
        # Newest first: each bar is multiplied by the events after it.
        price = np.append(np.cumprod(panel.price_factor[seen][::-1])[-2::-1], 1.0)
        shares = np.append(np.cumprod(panel.split_ratio[seen][::-1])[-2::-1], 1.0)
        window = {name: getattr(panel, name)[seen] * price for name in PRICES} | {"volume": panel.volume[seen] * shares}
        for d in WINDOWS:
            for family, value in _window_values(window, d).items():
                worst = max(worst, abs(ours.loc[last, f"{family}{d}"] - value) / max(abs(value), 1e-3))
    assert worst < 1e-6


def test_alpha158_of_five_bars_by_hand():
    columns = {"open": [10.0, 10, 12, 11, 12], "high": [11.0, 12, 13, 12, 16], "low": [9.0, 9, 11, 10, 11]}
    bars = bars_of("A", [10.0, 12.0, 12.0, 10.0, 15.0], **columns, volume=[100.0, 300.0, 200.0, 0.0, 400.0])
    row = _table(_panel(bars)).iloc[-1].round(6).to_dict()
    by_hand = {
        "KMID": 3 / 12, "KLEN": 5 / 12, "KMID2": 3 / 5, "KUP": 1 / 12, "KUP2": 1 / 5, "KLOW": 1 / 12, "KLOW2": 1 / 5,
        "KSFT": 3 / 12, "KSFT2": 3 / 5, "OPEN0": 12 / 15, "HIGH0": 16 / 15, "LOW0": 11 / 15, "VWAP0": 14 / 15,
        "MA5": 59 / 5 / 15, "BETA5": 0.8 / 15, "MAX5": 16 / 15, "MIN5": 9 / 15, "RANK5": 1.0, "RSV5": 6 / 7,
        "QTLU5": 12.6 / 15, "QTLD5": 10 / 15, "IMAX5": 1.0, "IMIN5": 0.2, "IMXD5": 0.8,
        "CNTP5": 0.4, "CNTN5": 0.2, "CNTD5": 0.2, "SUMP5": 7 / 9, "SUMN5": 2 / 9, "SUMD5": 5 / 9,
        "VMA5": 200 / 400, "VSUMP5": 600 / 900, "VSUMN5": 300 / 900, "VSUMD5": 300 / 900,
    }  # fmt: skip
    assert {name: row[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-6)
    assert math.isnan(row["ROC5"]) and row["IMAX10"] == 0.5 and row["MA60"] == row["MA5"]


def test_alpha158_of_the_first_bars_is_nan_where_the_table_says(quiet):
    ours = _table(_panel(quiet))
    for first in _panel(quiet).starts[:-1]:
        for feature in FEATURES:
            values = ours[feature.name].to_numpy()[first : first + 70]
            assert np.isnan(values[: feature.required_bars - 1]).all(), feature.name
            assert not np.isnan(values[feature.required_bars - 1 :]).any(), feature.name


def test_alpha158_lookback_is_the_oldest_bar_that_changes_a_value():
    bars = _smooth(random_bars(symbols=1, sessions=150, seed=14, has_events=False, has_reference=False))
    plain = _table(_panel(bars)).iloc[-1]
    for feature in FEATURES:
        for back, is_read in ((feature.lookback_bars - 1, True), (feature.lookback_bars, False)):
            is_struck = pl.int_range(pl.len()) == 149 - back
            # Higher than all and then lower than all, so that extremes, ranks and signs see it too.
            changed = [
                bars.with_columns(pl.col(*PRICES, "volume") * pl.when(is_struck).then(by).otherwise(1.0))
                for by in (9.0, 0.1)
            ]
            values = [_table(_panel(frame), [feature.name]).iloc[-1, 0] for frame in changed]
            if feature.lookback_bars > 1:
                assert any(value != plain[feature.name] for value in values) is is_read, (feature.name, back)


def test_alpha158_has_the_same_bits_with_any_number_of_threads_and_for_one_week():
    bars = _struck(random_bars(symbols=5, sessions=700, seed=15), ("volume",), math.nan, share=0.05, seed=9)
    panel = _panel(bars)
    one = alpha158(panel, NAMES, n_threads=1)
    assert _bits(one) == _bits(alpha158(panel, NAMES, n_threads=3))
    days = weekdays(700)
    for first in (3, 55, 511, 512, 640):
        week = _panel(bars, wanted=days[first : first + 5])
        assert week.is_wanted.sum() == 25
        assert _bits(alpha158(week, NAMES)) == _bits([column[week.is_wanted] for column in one])


def test_alpha158_of_one_name_has_the_bits_of_all_together(quiet):
    panel = _panel(_struck(quiet, PRICES, math.nan, share=0.05, seed=10))
    together = alpha158(panel, NAMES)
    for feature, column in zip(FEATURES, together, strict=True):
        assert _bits([feature.compute(panel).astype(np.float32)]) == _bits([column]), feature.name


def test_alpha158_of_a_week_reads_no_more_than_its_windows(quiet):
    panel = _panel(quiet, wanted=weekdays(260)[200:205])
    rows = np.flatnonzero(panel.is_wanted)
    tiles = np.empty((rows.size, 4), dtype=np.int64)
    tiles = tiles[: plan_tiles(rows, panel.first_readable, tiles)]
    assert (tiles[:, 2] - tiles[:, 0]).tolist() == [LEAD_ROWS + 5] * 3


def test_plan_tiles_where_weeks_may_read_different_rows_cuts_between_them():
    first_readable = np.array([0] * 70 + [20] * 5 + [72] * 5)
    tiles = np.empty((80, 4), dtype=np.int64)
    n_tiles = plan_tiles(np.arange(80), first_readable, tiles)
    # Rows 70 to 74 may not read rows 10 to 19, rows 75 to 79 none before 72.
    assert tiles[:n_tiles].tolist() == [[0, 0, 70, 0], [20, 70, 75, 70], [72, 75, 80, 75]]
    assert TILE_ROWS > 80
    # A row before the first it may read lies alone in its tile.
    assert plan_tiles(np.arange(2), np.array([5, 5]), tiles) == 2
    assert tiles[:2].tolist() == [[0, 0, 1, 0], [1, 1, 2, 1]]


def _real_bars(*, n_symbols: int) -> pl.DataFrame:
    """The first symbols of the development data; a `ca_ratio` on the eve of an event is a split or a dividend."""
    prices = real_table("pystock/prices").sort("symbol", "date")
    kept = prices["symbol"].unique().sort()[:n_symbols].to_list()
    before = pl.col("ca_ratio").shift(1, fill_value=1.0).over("symbol")
    is_split = before < 0.8
    return prices.filter(pl.col("symbol").is_in(kept)).select(
        "symbol", pl.col("date").cast(pl.Date).alias("session"),
        (pl.col("date") + pl.duration(hours=20)).dt.replace_time_zone("UTC").alias("ts"),
        *PRICES, "volume",
        split_ratio=pl.when(is_split).then(1 / before).otherwise(1.0),
        dividend=pl.when(is_split).then(0.0).otherwise(pl.col("close") * (1 / before - 1)),
        role=pl.lit("member"),
    )  # fmt: skip
