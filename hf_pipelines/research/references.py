"""References: the contracts of point-in-time tables (filings, insider trades, short interest, news) and their edge.

Lives here: the columns of each table, what a day without a time of day means, and the one validator. Does not live
here: reading files (resources), which row counts for which session (`features/point_in_time.py`).

A row says what it is about (`event_time`) and when it could first be known (`available_at`), both UTC. It counts for
the sessions that open after `available_at`. A row that corrects an earlier one stands beside it with a later
`available_at`: nothing is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from hf_pipelines.research.bars import SYMBOL_PATTERN
from hf_pipelines.research.wording import excerpt, excerpts, type_words

_TEXT, _NUMBER, _TIME = pl.String(), pl.Float64(), pl.Datetime("us", "UTC")

# What every row of every table carries.
REFERENCE_COLUMNS: dict[str, pl.DataType] = {"symbol": _TEXT, "event_time": _TIME, "available_at": _TIME}

FISCAL_PERIODS = ("Q1", "Q2", "Q3", "FY")

# Probabilities of an article, once a scorer has read its text.
SCORE_COLUMNS = ("positive", "negative", "neutral")
_SCORE_TOLERANCE = 1e-4

# Of filings, what covers the period alone and what the year to date; the border between 0.75 and 1.5 of a year.
_OF_PERIOD = ("revenue", "gross_profit", "operating_income", "depreciation", "net_income", "eps")
_OF_YEAR_TO_DATE = ("operating_cash_flow",)
_ADDS_UP = 1.06
MIN_FISCAL_YEARS = 8


@dataclass(frozen=True)
class ReferenceTable:
    """Contract of one table.

    Attributes
    ----------
    name : str
        What it is called in `panel.references` and in storage.
    about : str
        What a row is about, which its `event_time` dates.
    keys : tuple of str
        Columns that, with `symbol` and `available_at`, name one row; a later `available_at` is a new version.
    texts : tuple of str
        Text columns, never null.
    figures : tuple of str
        Float64 columns; NaN where the vendor has none. A column that is missing altogether is NaN.
    signed : tuple of str
        Figures that may be negative.
    periods : tuple of str
        What `period` may be, if the table has one.
    """

    name: str
    about: str
    keys: tuple[str, ...]
    texts: tuple[str, ...]
    figures: tuple[str, ...]
    signed: tuple[str, ...] = ()
    periods: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Columns and types, in order."""
        texts, figures = dict.fromkeys(self.texts, _TEXT), dict.fromkeys(self.figures, _NUMBER)
        return {**REFERENCE_COLUMNS, **texts, **figures}


@dataclass(frozen=True)
class CheckedReferences:
    """Rows that passed the edge, and what did not.

    Attributes
    ----------
    rows : DataFrame
        The table's schema, sorted by (symbol, available_at, event_time, ...), without exact repeats.
    quarantined : DataFrame
        The refused rows, with a column `reason`.
    n_unknown : int
        Rows of symbols outside the universe, left out.
    """

    rows: pl.DataFrame
    quarantined: pl.DataFrame
    n_unknown: int


def end_of_day(day: pl.Expr, time_zone: str) -> pl.Expr:
    """The last moment of a day in a time zone, as UTC: what a date without a time of day means.

    A row known on D counts from the next session, so its `available_at` is the end of D; and an event on D (the end
    of a fiscal period, a trade, a settlement) has the whole session D behind it, a split effective on D included.

    Parameters
    ----------
    day : Expr of Date
    time_zone : str
        Of the market, such as "America/New_York".

    Returns
    -------
    Expr of Datetime("us", "UTC")
        One microsecond before the next day begins there.
    """
    midnight = day.cast(pl.Datetime("us")) + pl.duration(days=1)
    # Some zones skip midnight when summer time begins: the day then starts at one o'clock.
    begins = midnight.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
    skipped = (midnight + pl.duration(hours=1)).dt.replace_time_zone(
        time_zone, ambiguous="earliest", non_existent="null"
    )
    return pl.coalesce(begins, skipped).dt.convert_time_zone("UTC") - pl.duration(microseconds=1)


def check_structure(raw: pl.DataFrame, table: str, *, source: str) -> pl.DataFrame:
    """Refuse a frame that cannot be the table at all; every fault of structure is reported at once.

    Parameters
    ----------
    raw : DataFrame
        As read from a source.
    table : str
        Name in `REFERENCES`.
    source : str
        Name of the file or service, for the message.

    Returns
    -------
    DataFrame
        The table's columns in its order and types; figures that were missing are NaN.

    Raises
    ------
    ValueError
        Unknown table; missing or unknown columns, wrong types, times without a time zone, null keys, symbols outside
        the allow-list.
    """
    contract = _contract(table)
    faults = _column_faults(raw, contract)
    if not faults:
        raw = raw.select(
            (pl.col(name).cast(dtype) if name in raw.columns else pl.lit(None, dtype=dtype).alias(name))
            for name, dtype in contract.schema.items()
        ).with_columns(pl.col(contract.figures).fill_null(float("nan")))
        faults = _key_faults(raw, contract)
    if faults:
        raise ValueError(f"`{table}` must follow its contract, {source} does not: {'; '.join(faults)}.")
    return raw


def validate_references(
    raw: pl.DataFrame,
    table: str,
    *,
    universe: Collection[str],
    source: str,
    now: datetime,
    max_faulty_share: float = 0.2,
) -> CheckedReferences:
    """Quarantine faulty rows and keep the rest.

    Parameters
    ----------
    raw : DataFrame
        Passed by `check_structure`.
    table : str
        Name in `REFERENCES`.
    universe : collection of str
        Symbols of the market; rows of others are counted and left out.
    source : str
        Name of the file or service, for the message.
    now : datetime
        Wall clock, time-zone aware.
    max_faulty_share : float
        Above this share of faulty rows the whole source is refused.

    Raises
    ------
    ValueError
        If the share of faulty rows is above `max_faulty_share`.

    Notes
    -----
    A row that comes twice with the same content counts once. Two rows of one key and one `available_at` with
    different content are both refused: which of them is right cannot be told (a parent's filing and its
    subsidiary's, as vendors mix them up).
    """
    contract = _contract(table)
    known = raw.filter(pl.col("symbol").is_in(list(universe))).unique(maintain_order=True)
    judged = known.with_columns(reason=_row_fault(contract, now))
    faulty = judged.filter(pl.col("reason").is_not_null()).sort(*REFERENCE_COLUMNS)
    if known.height and faulty.height / known.height > max_faulty_share:
        worst = faulty.row(0, named=True)
        raise ValueError(
            f"`{table}` must have at most {max_faulty_share:.0%} faulty rows, {source} has {faulty.height} of "
            f"{known.height} (first: {worst['symbol']} {worst['event_time']:%Y-%m-%d}: {worst['reason']}); "
            "mend the source."
        )
    sound = judged.filter(pl.col("reason").is_null()).drop("reason")
    return CheckedReferences(
        rows=sound.sort("symbol", "available_at", "event_time", *contract.texts, *contract.figures),
        quarantined=faulty,
        n_unknown=raw.filter(~pl.col("symbol").is_in(list(universe))).height,
    )


def doubtful_periods(filings: pl.DataFrame) -> tuple[list[str], int]:
    """Figures that seem to cover another period than their contract says, all over a table of filings.

    Parameters
    ----------
    filings : DataFrame
        `fundamentals`, passed by `validate_references`; two years of them or more.

    Returns
    -------
    list of str
        One sentence a figure.
    int
        Fiscal years that were looked at: those with one filing for each of Q1, Q2, Q3 and FY.

    Notes
    -----
    Three quarters of a company that neither grows nor shrinks are 0.75 of its year; where each is the year to date they add
    up to 0.25 + 0.50 + 0.75 = 1.5 of it. Over a market the median is sharp (0.745 for revenue, 1.38 for operating cash flow,
    over 680 fiscal years of US filings), so it tells the vendor's habit; it says nothing of a single filing. A
    figure is judged over the fiscal years in which it is positive throughout, at least `MIN_FISCAL_YEARS` of them.
    """
    contract = REFERENCES["fundamentals"]
    known = filings.sort("available_at").unique(["symbol", *contract.keys], keep="last")
    of_year, quarters = known.filter(pl.col("period") == "FY"), known.filter(pl.col("period") != "FY")
    between = (pl.col("event_time") - pl.col("event_time_part")).dt.total_days()
    judged = (*_OF_PERIOD, *_OF_YEAR_TO_DATE)
    parts, whole = [pl.col(f"{name}_part") for name in judged], [pl.col(name).first() for name in judged]
    years = (
        of_year.join(quarters, on="symbol", suffix="_part")
        .filter(between.is_between(60, 310))
        .group_by("symbol", "event_time")
        .agg(
            (pl.len() == 3) & (pl.col("period_part").n_unique() == 3),
            *(
                pl.when((part > 0.0).all() & (year > 0.0)).then(part.sum() / year).alias(name)
                for name, part, year in zip(judged, parts, whole, strict=True)
            ),
        )
    )
    years = years.filter("len")
    found = []
    for name in judged:
        ratios = years[name].drop_nulls().drop_nans()
        median = ratios.median()
        if ratios.len() < MIN_FISCAL_YEARS or not isinstance(median, float):
            continue
        adds_up = median > _ADDS_UP
        if adds_up != (name in _OF_YEAR_TO_DATE):
            rule, remedy = (
                ("cover the filing's own period", "subtract the filing before in Q2 and Q3")
                if adds_up
                else ("be the year to date", "add the filings before in Q2 and Q3")
            )
            found.append(
                f"`{name}` must {rule}, its Q1, Q2 and Q3 were {median:.2f} of the year (median of {ratios.len()} fiscal years; "
                f"three quarters are about 0.75, sums to date 1.5); {remedy}."
            )
    return found, years.height


def _contract(table: str) -> ReferenceTable:
    if table not in REFERENCES:
        raise ValueError(f"`table` must be one of {sorted(REFERENCES)}, was {table!r}.")
    return REFERENCES[table]


def _column_faults(raw: pl.DataFrame, contract: ReferenceTable) -> list[str]:
    faults = []
    if missing := sorted(set(contract.schema) - set(contract.figures) - set(raw.columns)):
        faults.append(f"missing columns {_shown(missing)}")
    if unknown := sorted(set(raw.columns) - set(contract.schema)):
        faults.append(f"unknown columns {excerpts(unknown)}")
    for name, dtype in contract.schema.items():
        if name not in raw.columns:
            continue
        was = raw.schema[name]
        if isinstance(dtype, pl.Datetime):
            if not isinstance(was, pl.Datetime) or was.time_zone is None:
                faults.append(f"`{name}` must be a timestamp with a time zone, was {type_words(was)}")
        elif not (was.is_numeric() or was == pl.Null if dtype.is_numeric() else was == dtype):
            hint = " (as a number 0700 is 700: write tickers as text)" if name == "symbol" and was.is_numeric() else ""
            faults.append(f"`{name}` must be of type {dtype}, was {type_words(was)}{hint}")
    return faults


def _key_faults(raw: pl.DataFrame, contract: ReferenceTable) -> list[str]:
    faults = []
    required = [*REFERENCE_COLUMNS, *contract.texts]
    null = raw.with_row_index("row", 1).filter(pl.any_horizontal(pl.col(required).is_null()))
    if null.height:
        faults.append(f"row {null['row'][0]} has a null among {', '.join(required)} ({null.height} rows)")
    if strange := raw.filter(~pl.col("symbol").str.contains(SYMBOL_PATTERN))["symbol"].unique().to_list():
        faults.append(
            f"symbols must match {SYMBOL_PATTERN}, were {_shown(sorted(repr(excerpt(each)) for each in strange))}"
        )
    return faults


def _row_fault(contract: ReferenceTable, now: datetime) -> pl.Expr:
    """First fault of a row in words, null for a sound row."""
    unsigned = [name for name in contract.figures if name not in contract.signed]
    fault = (
        pl.when(pl.struct("symbol", "available_at", *contract.keys).is_duplicated())
        .then(pl.lit("two rows of one key at one time"))
        .when(pl.col("available_at") > now).then(pl.lit("available in the future"))
        .when(pl.col("event_time") > pl.col("available_at")).then(pl.lit("known before it happened"))
        .when(pl.any_horizontal(pl.col(contract.figures).is_infinite())).then(pl.lit("infinite figure"))
    )  # fmt: skip
    if unsigned:
        fault = fault.when(pl.any_horizontal(pl.col(unsigned) < 0.0)).then(pl.lit("negative figure"))
    if contract.periods:
        fault = fault.when(~pl.col("period").is_in(contract.periods)).then(pl.lit("unknown fiscal period"))
    if set(SCORE_COLUMNS) <= set(contract.figures):
        is_off = (pl.sum_horizontal(SCORE_COLUMNS) - 1.0).abs() > _SCORE_TOLERANCE
        fault = fault.when(is_off & ~pl.sum_horizontal(SCORE_COLUMNS).is_nan()).then(
            pl.lit("scores do not add up to 1")
        )
    return fault


def _shown(names: Sequence[str]) -> str:
    """At most five offenders, in words."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


# Income figures cover the filing's own period: the quarter in a 10-Q, the year in a 10-K. Cash flow is the year to
# date in both, as the filings print it. `eps` (diluted) and `dividend` are per share, `shares` are outstanding shares:
# all three count shares as they were when the filing became available. Amounts are in the quote currency.
_FUNDAMENTALS = ReferenceTable(
    "fundamentals", "end of the fiscal period", ("event_time", "period"), ("period", "doc_type"),
    ("revenue", "gross_profit", "operating_income", "depreciation", "net_income", "eps", "dividend", "assets",
     "current_assets", "current_liabilities", "equity", "cash", "debt", "shares", "operating_cash_flow"),
    signed=("revenue", "gross_profit", "operating_income", "depreciation", "net_income", "eps", "equity",
            "operating_cash_flow"),
    periods=FISCAL_PERIODS,
)  # fmt: skip

REFERENCES: Mapping[str, ReferenceTable] = {
    table.name: table
    for table in (
        _FUNDAMENTALS,
        # Shares and value are positive for a purchase, negative for a sale; a later version of a `trade_id` replaces it.
        ReferenceTable("insider_trades", "day of the trade", ("trade_id",), ("trade_id",),
                       ("shares", "price", "value"), signed=("shares", "value")),
        ReferenceTable("short_interest", "settlement day", ("event_time",), (),
                       ("shares_short", "average_daily_volume", "shares_outstanding")),
        # Scores are NaN until a scorer has read the text (`sentiment.py`).
        ReferenceTable("news", "publication", ("article_id",), ("article_id", "text"), SCORE_COLUMNS),
    )
}  # fmt: skip
