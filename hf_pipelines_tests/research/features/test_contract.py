"""The contract check: every named leak is caught by its rule, sound features never are."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features import FEATURES, Feature, Panel
from hf_pipelines.research.features.contract import contract_breaches
from hf_pipelines.research.features.point_in_time import known_table, latest_known
from hf_pipelines_tests.sample_bars import random_bars
from hf_pipelines_tests.sample_references import random_references, session_opens

Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return random_bars(symbols=3, sessions=160, seed=12, late_bars=7)


def _planted(change: Change, *, lookback_bars: int = 21, inputs: tuple[str, ...] = ("close",)) -> Feature:
    """A feature that changes the returns of each symbol; without events, returns are dimensionless."""

    def compute(panel: Panel) -> np.ndarray:
        values = np.full(panel.close.shape, np.nan)
        for first, end in zip(panel.starts[:-1], panel.starts[1:], strict=True):
            price = panel.close[first:end] * np.cumprod(1.0 / panel.price_factor[first:end])
            values[first + 1 : end] = change(price[1:] / price[:-1] - 1.0)
        return values

    return Feature("leak", "planted", compute, lookback_bars, inputs, "planted")  # type: ignore[arg-type]


def _shifted(returns: np.ndarray) -> np.ndarray:
    return np.append(returns[1:], np.nan)


def _centred(returns: np.ndarray) -> np.ndarray:
    return np.convolve(returns, np.full(5, 0.2), mode="same")


def _full_sample_z(returns: np.ndarray) -> np.ndarray:
    return (returns - returns.mean()) / returns.std()


def _backward_filled(returns: np.ndarray) -> np.ndarray:
    holed = np.where(np.arange(returns.size) % 3 == 0, np.nan, returns)
    return pl.Series(holed).fill_nan(None).fill_null(strategy="backward").to_numpy()


def _smoothed(returns: np.ndarray) -> np.ndarray:
    forward = pl.Series(returns).ewm_mean(span=5).to_numpy()
    return pl.Series(forward[::-1]).ewm_mean(span=5).to_numpy()[::-1]


def _same_bar_label(returns: np.ndarray) -> np.ndarray:
    return np.sign(_shifted(returns))


LEAKS: dict[str, Change] = {
    "shift(-1)": _shifted,
    "centred window": _centred,
    "full-sample z-score": _full_sample_z,
    "backward fill": _backward_filled,
    "two-sided filter": _smoothed,
    "same-bar label": _same_bar_label,
}


@pytest.mark.parametrize("leak", LEAKS)
def test_contract_names_look_ahead_of_a_planted_leak(leak, bars):
    breaches = contract_breaches(_planted(LEAKS[leak]), bars)
    assert any("must not look ahead of its bar" in each for each in breaches), breaches


def test_contract_says_of_a_random_feature_that_it_is_random_and_nothing_else(bars):
    # Seeded by the system: no cut of the future gives its values again either.
    random = np.random.default_rng()
    (breach,) = contract_breaches(_planted(lambda returns: random.normal(size=returns.size)), bars)
    assert breach.startswith("`leak` must give the same twice, was ")


def test_contract_names_a_window_longer_than_declared(bars):
    breaches = contract_breaches(_planted(lambda returns: pl.Series(returns).ewm_mean(span=20).to_numpy()), bars)
    assert len(breaches) == 1 and "must read only its last 21 bars (`lookback_bars`)" in breaches[0]


def test_contract_of_a_feature_that_looks_ahead_says_nothing_else_of_it(bars):
    # It reads other numbers at other bars: every rule about inputs and windows would be broken too.
    breaches = contract_breaches(_planted(LEAKS["shift(-1)"]), bars)
    assert len(breaches) == 1 and "must not look ahead of its bar" in breaches[0]


def test_contract_names_a_feature_that_reads_older_rows_of_its_tables_than_it_says(bars):
    days = bars["session"].unique().sort().to_list()
    filings = random_references(["S000", "S001", "S002"], start=days[0], end=days[-1], seed=4)["fundamentals"]
    given = {"sessions": None, "opens": session_opens(days), "references": {"fundamentals": filings}}

    def latest_quarter(panel: Panel) -> np.ndarray:
        table = known_table(panel, "fundamentals", columns=("event_time", "equity"))
        return np.sign(table.figure("equity")[latest_known(panel, table)])

    def feature(days: int) -> Feature:
        inputs = ("fundamentals", "session_open")
        return Feature("known", "planted", latest_quarter, 1, inputs, "sign(equity)", reference_days=days)  # type: ignore[arg-type]

    (breach,) = contract_breaches(feature(2), bars, **given)
    assert "`known` must read only the last 2 days of its tables (`reference_days`)" in breach
    assert contract_breaches(feature(150), bars, **given) == []


def test_contract_names_a_feature_with_a_unit_and_what_to_do(bars):
    price = Feature("leak", "planted", lambda panel: panel.close.copy(), 1, ("close",), "the price itself")
    breach, _ = contract_breaches(price, bars)
    first = bars["close"][0]
    assert breach.startswith(f"`leak` must be dimensionless, was {first:.6g} and {0.37 * first:.6g} for S000")
    assert "with the prices of S000 multiplied by 0.37; divide by a price" in breach


def test_contract_names_a_change_of_raw_prices_or_volumes_over_a_split():
    calm = random_bars(symbols=2, sessions=160, seed=12, has_events=False)

    def change(column: str) -> Feature:
        def compute(panel: Panel) -> np.ndarray:
            raw = getattr(panel, column)
            return np.concatenate([[np.nan] * 5, raw[5:] / raw[:-5] - 1.0])

        return Feature("leak", "planted", compute, 6, (column,), "raw change over 5 bars")  # type: ignore[arg-type]

    # 20 bars before the end prices before count a quarter, volumes twice: the first window over it says so.
    day = calm["session"].unique().sort()[-20]
    close, volume = (calm.filter(pl.col("symbol") == "S000")[column].to_numpy() for column in ("close", "volume"))
    at = close.size - 20
    for column, was, factor in (("close", close, 4.0), ("volume", volume, 0.5)):
        (breach,) = contract_breaches(change(column), calm)
        found = [was[at] / was[at - 5] - 1.0, was[at] / (factor * was[at - 5]) - 1.0]
        told = f"was {np.float32(found[0]):.6g} and {np.float32(found[1]):.6g} for S000 on {day} with a split"
        assert breach.startswith(f"`leak` must not feel a corporate action, {told}") and "panel.price_factor" in breach


def test_contract_names_an_input_that_is_not_declared(bars):
    spread = Feature("leak", "planted", lambda panel: panel.high / panel.low - 1.0, 1, ("close",), "range")
    breaches = contract_breaches(spread, bars)
    assert [("(other numbers in `high`)" in each, "(other numbers in `low`)" in each) for each in breaches] == [
        (True, False),
        (False, True),
    ]


def test_contract_names_what_is_given_beside_the_bars_and_not_declared(bars):
    # In the pipeline such a column is laid out only for features that declare it: this one would be NaN there, or 0.
    given = {
        "benchmark": "S002",
        "sectors": {"S000": "oil", "S001": "banks"},
        "opens": {day: datetime(day.year, day.month, day.day, 14, tzinfo=UTC) for day in bars["session"].unique()},
    }
    own = bars.with_columns(role=pl.when(pl.col("symbol") == "S002").then(pl.lit("reference")).otherwise("role"))
    columns = {
        "benchmark": lambda panel: np.log(panel.benchmark_factor) + panel.close * 0.0,
        "sector": lambda panel: panel.sector.astype(np.float64),
        "session_open": lambda panel: np.where(np.isnat(panel.session_open), 0.0, 1.0),
    }
    for item, compute in columns.items():
        leaky = Feature("leak", "planted", compute, 1, ("close",), item)
        (breach,) = contract_breaches(leaky, own, **given)
        assert breach.startswith("`leak` must read only its `inputs` (close), was ")
        assert breach.endswith(f"(without `{item}`); add `{item}` to `inputs`")
        declared = Feature("leak", "planted", compute, 1, ("close", item), item)  # type: ignore[arg-type]
        assert contract_breaches(declared, own, **given) == []


def test_contract_names_the_other_members_that_a_feature_reads_without_saying_so(bars):
    def over_all(panel: Panel) -> np.ndarray:
        day = pl.Series(panel.high / panel.low)
        return (pl.DataFrame({"ts": panel.keys["ts"], "x": day}).select(pl.col("x").mean().over("ts")))["x"].to_numpy()

    leaky = Feature("leak", "planted", over_all, 1, ("high", "low"), "mean range")
    (breach,) = contract_breaches(leaky, bars)
    assert breach.startswith("`leak` must read only its `inputs` (high, low), was ")
    assert breach.endswith("(without the bars of S002); add `universe` to `inputs`")
    declared = Feature("leak", "planted", over_all, 1, ("high", "low", "universe"), "mean range")
    assert contract_breaches(declared, bars) == []


def test_contract_names_a_leak_within_the_session_of_intraday_bars():
    # Five bars a session: the last close of the session is known at its last bar alone.
    row = pl.int_range(pl.len()).over("symbol")
    daily = random_bars(symbols=2, sessions=300, seed=3, has_events=False)
    first = pl.col("session").sort().unique()
    days = daily.select(first)["session"][:60].to_list()
    bars = daily.with_columns(
        session=row.map_elements(lambda each: days[each // 5], return_dtype=pl.Date),
        ts=row.map_elements(
            lambda each: datetime(2020, 1, 6, 15, tzinfo=UTC) + timedelta(days=each // 5, hours=each % 5),
            return_dtype=pl.Datetime("us", "UTC"),
        ),
    )

    def to_the_close(panel: Panel) -> np.ndarray:
        frame = pl.DataFrame({"symbol": panel.keys["symbol"], "session": panel.session, "close": panel.close})
        return frame.select(pl.col("close") / pl.col("close").last().over("symbol", "session") - 1.0)[
            "close"
        ].to_numpy()

    breaches = contract_breaches(Feature("leak", "planted", to_the_close, 1, ("close",), "to the close"), bars)
    assert any("must not look ahead of its bar" in each and " UTC was cut off" in each for each in breaches), breaches
    assert contract_breaches(FEATURES["roc_5"], bars) == []


def test_contract_names_infinity_and_a_feature_without_any_value(bars):
    def infinite(panel: Panel) -> np.ndarray:
        return np.full(panel.close.shape, np.inf)

    (breach,) = contract_breaches(Feature("leak", "planted", infinite, 1, ("close",), "inf"), bars)
    assert "must be finite or NaN, was inf for S000" in breach
    (breach,) = contract_breaches(_planted(lambda returns: returns * np.nan), bars)
    assert "must have a value on some row of 160 sessions, was NaN on all" in breach


def test_contract_refuses_bars_that_are_too_short_to_judge_by(bars):
    short = bars.filter(pl.col("session") < bars["session"].unique().sort()[60])
    with pytest.raises(ValueError, match="`bars` must hold at least 61 sessions to judge leak, was 60; give more"):
        contract_breaches(_planted(lambda returns: returns), short)


@pytest.mark.parametrize("name", ["roc_5", "rsi_14", "bollinger_width_20", "volume_ratio_20", "obv_slope_20"])
def test_contract_finds_nothing_in_sound_features(name, bars):
    assert contract_breaches(FEATURES[name], bars) == []


def test_contract_names_a_feature_whose_values_over_a_gap_depend_on_what_is_computed_with_them(bars):
    index = bars.filter(pl.col("symbol") == "S000").with_columns(symbol=pl.lit("^VOL"), role=pl.lit("reference"))
    own, given = pl.concat([bars, index]).sort("symbol", "ts"), {"volatility_index": "^VOL"}

    def filled(panel: Panel) -> np.ndarray:
        """Where the index has no bar, the mean of the rows that happen to be wanted."""
        level = panel.volatility_close / 100.0
        return np.where(np.isnan(level), np.nanmean(np.where(panel.is_wanted, level, np.nan)), level)

    (breach,) = contract_breaches(Feature("leak", "planted", filled, 1, ("volatility_index",), "level"), own, **given)
    assert breach.startswith("`leak` must give the same over gaps of its inputs, computed with one session, ")
    assert contract_breaches(FEATURES["volatility_index_change_5"], own, **given) == []


def test_contract_names_a_feature_that_remembers_what_it_has_seen(bars):
    seen: dict[tuple[str, object], float] = {}

    def remembered(panel: Panel) -> np.ndarray:
        symbols = panel.keys["symbol"].to_list()
        for row, symbol in enumerate(symbols):
            seen[symbol, panel.session[row]] = panel.close[row] / panel.open[row] - 1.0
        return np.array([seen.get((symbol, panel.next_session[row]), 0.0) for row, symbol in enumerate(symbols)])

    inputs = ("open", "close", "session", "next_session")
    days = bars["session"].unique().sort().to_list()
    given = {"sessions": [*days, days[-1] + timedelta(days=3)]}
    (breach,) = contract_breaches(Feature("leak", "planted", remembered, 2, inputs, "next move"), bars, **given)  # type: ignore[arg-type]
    assert "`leak` must not look ahead of its bar" in breach and "keep nothing from one call to the next" in breach


ENDS: dict[str, Callable[[Panel], np.ndarray]] = {
    "a week": lambda panel: (panel.next_session - panel.session).astype(int) > 2,
    "a month": lambda panel: panel.next_session.astype("datetime64[M]") != panel.session.astype("datetime64[M]"),
    "a quarter": lambda panel: (
        (panel.next_session.astype("datetime64[M]").astype(int) // 3)
        != (panel.session.astype("datetime64[M]").astype(int) // 3)
    ),
    "the time before a holiday": lambda panel: np.busday_count(panel.session, panel.next_session) > 1,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_contract_names_a_leak_at_the_end_of(end, seed, bars):
    holiday = bars["session"].unique().sort()[77]
    open_days = bars.filter(pl.col("session") != holiday)
    days = open_days["session"].unique().sort().to_list()

    def leak(panel: Panel) -> np.ndarray:
        following = np.roll(panel.volume, -1)
        following[panel.starts[1:] - 1] = panel.volume[panel.starts[1:] - 1]
        body = np.log1p(np.abs(panel.close / panel.open - 1.0))
        return np.where(ENDS[end](panel), (following > panel.volume).astype(float), body)

    inputs = ("open", "close", "volume", "session", "next_session")
    given = {"sessions": [*days, days[-1] + timedelta(days=3)]}
    breaches = contract_breaches(
        Feature("leak", "planted", leak, 1, inputs, "leak"),
        open_days,
        seed=seed,
        **given,  # type: ignore[arg-type]
    )
    assert "`leak` must not look ahead of its bar" in breaches[0]
