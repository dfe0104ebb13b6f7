"""Contract tables: what a stored table is in words, and that of drift.

Lives here: the shape of a contract. Does not live here: all others, and the pages made of them (`contracts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

TEXT, NUMBER, DAY, TIME, COUNT = pl.String(), pl.Float64(), pl.Date(), pl.Datetime("us", "UTC"), pl.Int32()


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a stored table.

    Attributes
    ----------
    type : polars data type
    meaning : str
        With its unit, and what NaN or null stands for.
    is_optional : bool
        Only some settings have it.
    """

    type: pl.DataType
    meaning: str
    is_optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A stored table.

    Attributes
    ----------
    path : str
        Of its files below the root of the store.
    about : str
        What a row is, and who may rely on it.
    sorted_by : tuple of str
        Columns that name a row, in the order of the rows.
    columns : mapping of str to Column
        In the order of the file.
    others : polars data type, optional
        Of every further column, a feature each; None: there are none.
    """

    path: str
    about: str
    sorted_by: tuple[str, ...]
    columns: Mapping[str, Column]
    others: pl.DataType | None = None


DRIFT = Table(
    path="<strategy>/drift/<session>.parquet",
    about="What a session says of each feature and output of the model that decided it, against the sessions that it was trained on. A file a "
    "session: an alarm lasts by sessions, and a week's file would be known after the week alone. Where nothing served it has no rows. The "
    "attachment `measures.parquet` has accuracy, scores, account and age; facts of the footer the sentence, where alarms stand, and what "
    "cannot be judged.",
    sorted_by=("part", "column"),
    columns={
        "part": Column(type=TEXT, meaning="feature, or output: prediction and confidence"),
        "column": Column(type=TEXT, meaning="name of it"),
        "verdict": Column(type=TEXT, meaning="drifted, steady or cannot be judged"),
        "why": Column(type=TEXT, meaning="why it cannot be judged; else empty"),
        "p": Column(
            type=NUMBER,
            meaning="probability of as large a shift, adjusted for all columns of its part; null where not judged",
        ),
        "shift": Column(
            type=NUMBER,
            meaning="largest of the three distances, its square where it grows with the shift itself, in multiples of what windows of training "
            "have on average; null where not judged",
        ),
        "population_stability_index": Column(
            type=NUMBER, meaning="distance; the field's bands are 0.1 and 0.2, and call nothing"
        ),
        "kolmogorov_smirnov": Column(type=NUMBER, meaning="distance, 0 to 1; null without a value"),
        "wasserstein": Column(type=NUMBER, meaning="distance in standard deviations of training; null without a value"),
        "missing_reference": Column(type=NUMBER, meaning="share of rows of training without a value"),
        "missing_window": Column(type=NUMBER, meaning="share of rows of the window without a value"),
        "persistence": Column(
            type=NUMBER,
            meaning="correlation of a session's mean rank with the next one's; null where it does not vary",
        ),
        "importance": Column(type=NUMBER, meaning="of the model; null where it tells none, and of outputs"),
        "share": Column(
            type=NUMBER,
            meaning="of the shift of all columns of its part, weighted by importance; null where there is none",
        ),
        "since": Column(type=DAY, meaning="session from which on a drifted column differs the most; null of others"),
    },
)
