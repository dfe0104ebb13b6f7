"""The contract of a feature, as a check that anyone can run on their own.

Here: `contract_breaches`, which plays what a leak, a growing window or a unit would be betrayed by, and says in words
which rule is broken and where. Not here: the registered features (a test runs this over every one of them), replay of
stored partitions (`research/replay.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.panel import SELECTED_INPUTS, build_panel
from hf_pipelines.research.features.registry import feature_frame
from hf_pipelines.research.references import REFERENCES
from hf_pipelines.research.replay import ROWS_A_YEAR, boundary_sessions, cut

# Relative: what a float32 keeps of a number that was computed in another unit.
SCALE_TOLERANCE = 1e-5
N_CUTS = 6
# Sessions up to a cut whose values are compared.
CUT_REACH = 20

# Weeks that are computed over gaps, and the share of bars and rows that are missing then.
N_GAP_WEEKS = 3
GAP_SHARE = 0.02

# Bars of a symbol from the planted corporate action on.
N_AFTER_EVENT = 20

_PRICES = ("open", "high", "low", "close", "dividend")
_COLUMNS = ("open", "high", "low", "close", "volume")


def contract_breaches(feature: Feature, bars: pl.DataFrame, *, seed: int = 0, **given: Any) -> list[str]:
    """Which rules of the contract a feature breaks on some bars.

    Parameters
    ----------
    feature : Feature
        Registered or not.
    bars : DataFrame
        Contract `BARS_SCHEMA`, sorted by (symbol, ts); at least `lookback_bars` + 40 sessions, corporate actions
        and symbols that begin late welcome.
    seed : int
        Of the sessions at which the future is cut off and of the disturbances.
    **given
        Further arguments of `build_panel` (`sessions`, `benchmark`, `references`...).

    Returns
    -------
    list of str
        One sentence a broken rule, with the first value that betrays it; empty for a sound feature.

    Raises
    ------
    ValueError
        If the bars are too short to judge by.

    Notes
    -----
    The rules: the same twice; no look-ahead (values stay when everything after their bar is cut off, which is computed before
    anything else so that a function that keeps what it has seen is found: call this first in a process); a window
    of `lookback_bars` and `reference_days` (values stay when older bars and rows are cut off); over gaps of every
    input too (with bars and rows of every symbol and table missing at random, a value is the same computed with its
    session alone, with its week and with all); dimensionless; independent of corporate actions (values stay
    when a split and a dividend are put into the window and the prices before them raised by as much); only declared
    inputs; finite or NaN; some value. Reference tables are cut with the future. Nothing else is judged of a feature that differs
    from run to run or looks ahead. A rule that holds on these bars may break on others.
    """
    sessions = bars["session"].unique().sort().to_list()
    needed = sessions_needed(feature, sessions)
    if len(sessions) < needed:
        raise ValueError(
            f"`bars` must hold at least {needed} sessions to judge {feature.name}, was {len(sessions)}; give more history."
        )
    rng = np.random.default_rng(seed)

    def values(of: pl.DataFrame, **changed: Any) -> pl.DataFrame:
        return feature_frame(build_panel(of, **{"sessions": None, **given, **changed}), [feature])

    # Before anything is computed with all bars, in the order of time: a function that keeps what it has seen knows no later bar.
    cuts = _cuts(bars, feature, sessions, rng, given.get("sessions"))
    known = {}
    for moment in cuts:
        past = bars.filter(pl.col("ts") <= moment)
        # The rows just before the cut: what looks any further ahead looks ahead there too.
        recent = past["session"].unique().sort()[-CUT_REACH:].to_list()
        known[moment] = recent[0], values(past, wanted=recent, **_cut_references(given, moment))
    whole = values(bars)
    name = feature.name
    # Every later rule would be broken with these, and its remedy would mislead.
    for found in (
        _differing(whole, values(bars), name, "give the same twice"),
        _look_ahead(whole, known, feature),
    ):
        if breaches := [*found]:
            return breaches
    breaches = [
        *_old_rows(bars, whole, feature, values, given),
        *_long_window(bars, whole, feature, sessions, values),
        *_gaps(bars, feature, sessions, values, given, rng),
        *_units(bars, whole, name, values),
        *_events(bars, whole, feature, values),
        *_undeclared(bars, whole, feature, values, rng),
    ]
    column = whole[name]
    if column.is_infinite().any():
        at = whole.filter(column.is_infinite()).row(0, named=True)
        breaches.append(f"`{name}` must be finite or NaN, was {at[name]} for {at['symbol']} on {at['session']}.")
    if column.is_nan().all():
        breaches.append(f"`{name}` must have a value on some row of {len(sessions)} sessions, was NaN on all.")
    return breaches


def sessions_needed(feature: Feature, sessions: list[date]) -> int:
    """How many sessions a feature can be judged by, if `sessions` are those that there are."""
    return _window_sessions(feature, sessions) + 40


Values = Callable[..., pl.DataFrame]


def _cuts(
    bars: pl.DataFrame,
    feature: Feature,
    sessions: list[date],
    rng: np.random.Generator,
    calendar: Iterable[date] | None,
) -> list[datetime]:
    """Times after which the future is cut off, ascending.

    The last session of every week, before a holiday, of every month and quarter; first bars with a value; the bars before and
    after a halt; and random ones, so many that `ROWS_A_YEAR` rows are compared.
    """
    first = min(feature.required_bars, len(sessions) - 2)
    members = bars.filter(pl.col("role") == "member").select("symbol", "session", "ts")
    n_random = max(N_CUTS, math.ceil(ROWS_A_YEAR / max(members["symbol"].n_unique(), 1)))
    others = rng.permutation(np.arange(first, len(sessions) - 1))[:n_random]
    days = {sessions[at] for at in others.tolist()}
    days |= {*boundary_sessions(sessions[first:], sorted({*sessions, *(calendar or ())}))}
    times = dict(bars.group_by("session").agg(pl.col("ts").unique().sort()).rows())
    is_intraday = bars.select("session", "ts").unique().height > len(sessions)
    # Of bars below a day, every other cut is made inside its session: a leak within the day shows nowhere else.
    cuts = {
        times[day][int(rng.integers(len(times[day])))] if is_intraday and number % 2 else times[day][-1]
        for number, day in enumerate(sorted(days))
    }
    return sorted({*cuts, *_first_bars_and_halts(members, feature, rng)} - {bars["ts"].max()})


def _first_bars_and_halts(members: pl.DataFrame, feature: Feature, rng: np.random.Generator) -> list[datetime]:
    """First bars with a value, and bars before and after a halt: at most `N_CUTS` of each."""
    at, bar = pl.col("at"), pl.int_range(pl.len()).over("symbol")
    rows = members.with_columns(at=pl.col("ts").rank("dense").cast(pl.Int64)).sort("symbol", "ts")
    rows = rows.with_columns(bar=bar, gap=at.shift(-1).over("symbol") - at, before=at - at.shift().over("symbol"))
    found: list[datetime] = []
    for kind in (pl.col("bar") == feature.required_bars - 1, pl.col("gap") > 1, pl.col("before") > 1):
        times = rows.filter(kind)["ts"].unique().sort().to_list()
        found += [times[each] for each in rng.permutation(len(times))[:N_CUTS]]
    return found


def _look_ahead(
    whole: pl.DataFrame, known: Mapping[datetime, tuple[date, pl.DataFrame]], feature: Feature
) -> Iterator[str]:
    for at, (since, values) in known.items():
        expected = whole.filter(pl.col("ts") <= at, pl.col("session") >= since)
        found = list(_differing(expected, values, feature.name, "not look ahead of its bar"))
        if found:
            yield (
                f"{found[0]} (everything after {at:%Y-%m-%d %H:%M} UTC was cut off); compute a row from rows at or before it "
                "alone, and keep nothing from one call to the next"
            )
            return


def _cut_references(given: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    references = given.get("references")
    return {} if not references else {"references": {name: cut(table, at) for name, table in references.items()}}


def _old_rows(
    bars: pl.DataFrame, whole: pl.DataFrame, feature: Feature, values: Values, given: Mapping[str, Any]
) -> Iterator[str]:
    """Values of the last session, from tables without the rows that a run of its week would not load."""
    references = given.get("references")
    if not references or not feature.reference_days:
        return
    last = bars["ts"].max()
    assert isinstance(last, datetime)
    since = last - timedelta(days=feature.reference_days + 1)
    recent = {name: table.filter(pl.col("available_at") > since) for name, table in references.items()}
    at_last = pl.col("session") == pl.col("session").max()
    rule = f"read only the last {feature.reference_days} days of its tables (`reference_days`)"
    for breach in _differing(
        whole.filter(at_last), values(bars, references=recent).filter(at_last), feature.name, rule
    ):
        yield f"{breach} (rows available before {since:%Y-%m-%d} were cut off)"


def _long_window(
    bars: pl.DataFrame, whole: pl.DataFrame, feature: Feature, sessions: list[date], values: Values
) -> Iterator[str]:
    first = sessions[len(sessions) - _window_sessions(feature, sessions) - 39]
    short = values(bars.filter(pl.col("session") >= first))
    # Rows whose window lies within what is left.
    rows = pl.int_range(pl.len()).over("symbol") >= feature.lookback_bars - 1
    judged = short.filter(rows & (pl.col("session") > first + timedelta(days=feature.lookback_days)))
    fields = "`lookback_bars`" + (", `lookback_days`" if feature.lookback_days else "")
    window = f"{feature.lookback_bars} bars" + (f" and {feature.lookback_days} days" if feature.lookback_days else "")
    rule = f"read only its last {window} ({fields})"
    expected = whole.join(judged.select("symbol", "ts"), on=["symbol", "ts"], how="semi")
    for breach in _differing(expected, judged, feature.name, rule):
        yield f"{breach} (bars before {first} were cut off)"


def _gaps(
    bars: pl.DataFrame,
    feature: Feature,
    sessions: list[date],
    values: Values,
    given: Mapping[str, Any],
    rng: np.random.Generator,
) -> Iterator[str]:
    """Values over bars and tables with holes: with the session alone, with its week, and with all."""
    weeks = [sessions[-back - 5 : -back] for back in sorted(rng.choice(30, size=N_GAP_WEEKS, replace=False) + 1)]
    holed = bars.filter(pl.Series(rng.random(bars.height)) > GAP_SHARE)
    references = bars.filter(pl.col("role") == "reference")["symbol"].unique().sort().to_list()
    for week in weeks:
        # A series that all values read lacks a session inside the week: values of one week may hold the gap or not.
        lost = {symbol: week[int(rng.integers(1, 4))] for symbol in references}
        holed = holed.filter(
            ~pl.any_horizontal(
                False, *((pl.col("symbol") == symbol) & (pl.col("session") == day) for symbol, day in lost.items())
            )
        )
    tables = {
        name: table.filter(pl.Series(rng.random(table.height)) > GAP_SHARE)
        for name, table in (given.get("references") or {}).items()
    }
    changed = {"references": tables} if tables else {}
    whole = values(holed, **changed)
    rule = "give the same over gaps of its inputs, computed with one session, with a week or with all"
    for week in weeks:
        of_week = pl.col("session").is_in(week)
        known = holed.filter(pl.col("session") <= week[-1])
        together = values(known, wanted=week, **changed)
        if found := list(_differing(whole.filter(of_week), together, feature.name, rule)):
            yield f"{found[0]} (with bars missing at random, of benchmark and volatility index too)"
            return
        for day in week[1:5:3]:
            at_day = pl.col("session") == day
            alone = values(holed.filter(pl.col("session") <= day), wanted=[day], **changed)
            if found := list(_differing(together.filter(at_day), alone, feature.name, rule)):
                yield f"{found[0]} (with bars missing at random, of benchmark and volatility index too)"
                return


def _window_sessions(feature: Feature, sessions: list[date]) -> int:
    """Sessions that the window of a feature holds at most, if a bar is at least a session."""
    days = timedelta(days=feature.lookback_days)
    return max(feature.lookback_bars, sum(day >= sessions[-1] - days for day in sessions))


def _units(bars: pl.DataFrame, whole: pl.DataFrame, name: str, values: Values) -> Iterator[str]:
    symbol = whole["symbol"][0] if whole.height else None
    for what, columns in (("prices", _PRICES), ("volumes", ("volume",))):
        factor = pl.when(pl.col("symbol") == symbol).then(0.37).otherwise(1.0)
        scaled = values(bars.with_columns(pl.col(columns) * factor))
        for row, ours, theirs in _far(whole, scaled, name):
            yield (
                f"`{name}` must be dimensionless, was {ours:.6g} and {theirs:.6g} for {row['symbol']} on "
                f"{row['session']} with the {what} of {symbol} multiplied by 0.37; divide by a price or a usual volume."
            )


def _events(bars: pl.DataFrame, whole: pl.DataFrame, feature: Feature, values: Values) -> Iterator[str]:
    if not whole.height or not is_judged_over_events(feature):
        return
    symbol = whole["symbol"][0]
    days = bars.filter(pl.col("symbol") == symbol)["session"]
    day = days[max(days.len() - N_AFTER_EVENT, 0)]
    name = feature.name
    for row, ours, theirs in _far(whole, values(with_corporate_action(bars, symbol, day)), name):
        yield (
            f"`{name}` must not feel a corporate action, was {ours:.6g} and {theirs:.6g} for {row['symbol']} on {row['session']} "
            f"with a split and a dividend on {day} and all before it worth as much as without; a panel's prices and volumes "
            "are as traded: use the kernels of windows, or multiply what lies before an event with `panel.price_factor`."
        )


def is_judged_over_events(feature: Feature) -> bool:
    """Whether a split must change nothing: figures of filings are a share, and would have to be restated with it."""
    return not set(REFERENCES) & set(feature.inputs)


def with_corporate_action(bars: pl.DataFrame, symbol: str, day: date) -> pl.DataFrame:
    """The same returns, otherwise written: two shares for one and a dividend as large as the close on a session of a symbol.

    Prices before it count a quarter, volumes before it twice. Powers of two change no digit of a number that is adjusted.
    """
    is_own = pl.col("symbol") == symbol
    is_before = is_own & (pl.col("session") < day)
    is_event = is_own & (pl.col("session") == day) & pl.col("session").is_first_distinct().over("symbol")
    raised = bars.with_columns(pl.col(_PRICES) * pl.when(is_before).then(4.0).otherwise(1.0))
    return raised.with_columns(
        volume=pl.col("volume") * pl.when(is_before).then(0.5).otherwise(1.0),
        split_ratio=pl.col("split_ratio") * pl.when(is_event).then(2.0).otherwise(1.0),
        dividend=pl.when(is_event).then(pl.col("close") + 2.0 * pl.col("dividend")).otherwise("dividend"),
    )


def _far(expected: pl.DataFrame, found: pl.DataFrame, name: str) -> Iterator[tuple[dict[str, Any], float, float]]:
    """The first row whose value differs by more than another unit of its inputs accounts for, and both values."""
    ours, theirs = (frame[name].to_numpy().astype(np.float64) for frame in (expected, found))
    near = np.isclose(ours, theirs, rtol=SCALE_TOLERANCE, atol=1e-7, equal_nan=True)
    if not near.all():
        at = int(np.flatnonzero(~near)[0])
        yield expected.row(at, named=True), ours[at], theirs[at]


def _undeclared(
    bars: pl.DataFrame, whole: pl.DataFrame, feature: Feature, values: Values, rng: np.random.Generator
) -> Iterator[str]:
    for column in sorted(set(_COLUMNS) - set(feature.inputs) - {"close"}):
        noise = pl.Series(rng.uniform(0.5, 2.0, bars.height))
        disturbed = values(bars.with_columns(pl.col(column) * noise))
        for breach in _differing(
            whole, disturbed, feature.name, f"read only its `inputs` ({', '.join(feature.inputs)})"
        ):
            yield f"{breach} (other numbers in `{column}`); add `{column}` to `inputs`"
    rule = f"read only its `inputs` ({', '.join(feature.inputs)})"
    for item in sorted(SELECTED_INPUTS - set(feature.inputs)):
        for breach in _differing(whole, values(bars, inputs=SELECTED_INPUTS - {item}), feature.name, rule):
            yield f"{breach} (without `{item}`); add `{item}` to `inputs`"
    members = bars.filter(pl.col("role") == "member")["symbol"].unique().sort()
    if members.len() > 1 and not {"universe", "sector"} & set(feature.inputs):
        others = values(bars.filter(pl.col("symbol") != members[-1]))
        for breach in _differing(whole.filter(pl.col("symbol") != members[-1]), others, feature.name, rule):
            yield f"{breach} (without the bars of {members[-1]}); add `universe` to `inputs`"


def _differing(expected: pl.DataFrame, found: pl.DataFrame, name: str, rule: str) -> Iterator[str]:
    """The first row whose value differs in a bit."""
    ours, theirs = expected[name].to_numpy(), found[name].to_numpy()
    if ours.size != theirs.size:
        yield f"`{name}` must {rule}, gave {theirs.size} rows for {ours.size}."
        return
    differs = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
    if differs.any():
        at = int(np.flatnonzero(differs)[0])
        row = expected.row(at, named=True)
        yield (
            f"`{name}` must {rule}, was {ours[at]:.6g} and then {theirs[at]:.6g} for {row['symbol']} on {row['session']}; "
            f"{int(differs.sum())} of {differs.size} values differ"
        )
