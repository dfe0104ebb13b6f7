"""Day of drift: everything that one session says of a model: its columns, what it predicts, what that was worth.

Lives here: which sessions are held to which, the measures with the field's bands beside them, and what is called. Not here: each judgement
(`judgement`, `decay`, `matured`), how long a call must last (`standing`), where frames come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import polars as pl

from hf_pipelines.research.drift.decay import Decay, decayed
from hf_pipelines.research.drift.drivers import add_drivers
from hf_pipelines.research.drift.histograms import reference_bins, session_histograms
from hf_pipelines.research.drift.judgement import DRIFTED, LEAST_WINDOWS, judge_drift
from hf_pipelines.research.drift.judgement import SCHEMA as JUDGED
from hf_pipelines.research.drift.matured import LAST, Matured, matured_accuracy, right_or_wrong
from hf_pipelines.research.metrics import information_coefficient
from hf_pipelines.research.metrics.bootstrap import interval
from hf_pipelines.research.score_rows import draw_for_labels

# The field's bands: of the stability index, of an accuracy, of a model's age in days. They are drawn; the first two never call anything.
STABILITY_BANDS = (0.1, 0.2)
ACCURACY_BAND = 0.5
AGE_BAND = 14.0

# Windows of training beside the newest one: with fewer a shift must be twice as large to be found.
USUAL_WINDOWS = 12

# A call is clear at a fifth of its error: others keep an alarm, and raise one only together. Of accuracy, whose interval has 2.5 % above it,
# the same by the quantiles of a normal value.
CLEAR_SHARE = 0.2
CLEAR_WIDTH = 1.314

# Sessions below which a window says nothing.
LEAST_SESSIONS = 5

# What is looked at, in the order in which it is told.
FEATURE, OUTPUT = "feature", "output"
DRIFT, DECAY, ACCURACY, AGE = "drift", "decay", "accuracy", "age"
CALLS = (DRIFT, DECAY, ACCURACY, AGE)

COLUMNS = {
    "part": pl.String,
    **JUDGED,
    "importance": pl.Float64,
    "share": pl.Float64,
    "since": pl.Date,
}

MEASURES = {
    "measure": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "expected": pl.Float64,
    "band": pl.Float64,
    "n": pl.Int64,
    "why": pl.String,
}


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of a model at the close of a session; nothing in it is later.

    Attributes
    ----------
    sessions : sequence of date
        Of the market, up to the session, ascending: those of training and all later ones.
    features : DataFrame
        `symbol`, `session` and the features of the model, of all these sessions; a feature that is gone is no column.
    names : sequence of str
        Features of the model.
    trained_until : date
        Last session whose rows it was trained on.
    out_of_fold : DataFrame or None
        `symbol`, `session`, `prediction`, `confidence` and `realised` of its cross-validation; None if that is not stored.
    issued : DataFrame
        `symbol`, `session`, `ts`, `prediction`, `confidence`, `label_end` and `realised` of what was issued, the last two null while they
        are not known; `probability` of being right where it is calibrated, else null.
    returns : DataFrame or None
        Net return a session of the account of what was issued (`session`, `net_return`); None without one.
    sharpe : tuple of float
        Of that account a year, and its interval; NaN where undefined.
    importance : mapping of str to float
        Of features; empty if none is stored.
    label_sessions : int
        Sessions that a label spans.
    neutral : float or None
        Of `matured_accuracy`.
    has_direction : bool
        Whether a prediction can be right or wrong by its sign, one time in two by chance.
    age_days : float
        Of what the model was trained on.
    kind : str
        Of the issues: live or backfill, never both.
    """

    sessions: Sequence[date]
    features: pl.DataFrame
    names: Sequence[str]
    trained_until: date
    out_of_fold: pl.DataFrame | None
    issued: pl.DataFrame
    sharpe: tuple[float, float, float]
    importance: Mapping[str, float]
    label_sessions: int
    neutral: float | None
    has_direction: bool
    age_days: float
    kind: str


@dataclass(frozen=True, eq=False)
class DriftDay:
    """What a session says.

    Attributes
    ----------
    columns : DataFrame
        `COLUMNS`, a row a feature and output.
    measures : DataFrame
        `MEASURES`, a row a measure; null where undefined, `why` says it.
    called : mapping of str to bool or None
        Of each of `CALLS`; None: it cannot be judged.
    is_clear : mapping of str to bool
        Whether a call is clear enough to raise an alarm in few sessions, of the kinds that have a lower error than that of a call.
    since : mapping of str to date or None
        Since when what is called has lasted.
    window_sessions : int
        That were judged; 0: none could be.
    p, error : float
        Of all columns that were judged together.
    lacking : tuple of str
        What cannot be judged, and why, a sentence each.
    """

    columns: pl.DataFrame
    measures: pl.DataFrame
    called: Mapping[str, bool | None]
    is_clear: Mapping[str, bool]
    since: Mapping[str, date | None]
    window_sessions: int
    p: float
    error: float
    lacking: tuple[str, ...] = field(default=())


def judge_session(seen: Seen, *, window_sessions: int, error: float, as_of: datetime) -> DriftDay:
    """Judge a session.

    Parameters
    ----------
    seen : Seen
    window_sessions : int
        Newest sessions that are held to training; fewer where training has less than 13 times as many.
    error : float
        Family error of all columns, a day: half of it for the features, half for the outputs.
    as_of : datetime
        Close of the session: a label that ends later is not known.

    Returns
    -------
    DriftDay
    """
    lacking: list[str] = []
    trained = [day for day in seen.sessions if day <= seen.trained_until]
    length = min(window_sessions, len(trained) // (USUAL_WINDOWS + 1))
    if length < LEAST_SESSIONS:
        lacking.append(
            f"drift: {len(trained)} sessions of training hold no {USUAL_WINDOWS + 1} windows of {LEAST_SESSIONS} sessions"
        )
        length = 0
    window = [*seen.sessions[-length:]] if length else []
    parts = []
    if window:
        kept = seen.features.filter(pl.col("session").is_in([*trained, *window]))
        parts.append(_judged(FEATURE, kept, seen.names, trained, window, error / 2.0, seen.importance, lacking))
        parts += _outputs(seen, window, error / 2.0, lacking)
    columns = (pl.concat(parts) if parts else pl.DataFrame(schema=COLUMNS)).sort("part", "column")
    matured = _matured(seen, as_of, lacking)
    decay, scores = _decay(seen, lacking)
    measures = pl.DataFrame(
        [*_universe(seen, window, trained, columns), *_matured_rows(seen, matured), *scores, *_rest(seen, lacking)],
        schema=MEASURES,
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    drifted = columns.filter(verdict=DRIFTED)
    p = 2.0 * _least(columns["p"])
    is_whole = matured is not None and matured.n >= LAST and math.isfinite(matured.high)
    called = {
        DRIFT: None if not columns["p"].is_not_null().any() else drifted.height > 0,
        DECAY: None if decay is None else decay.is_decayed,
        ACCURACY: matured.high < ACCURACY_BAND if is_whole and matured is not None else None,
        AGE: seen.age_days > AGE_BAND,
    }
    is_clear = {DRIFT: p < CLEAR_SHARE * error}
    if is_whole and matured is not None:
        is_clear[ACCURACY] = matured.accuracy + CLEAR_WIDTH * (matured.high - matured.accuracy) < ACCURACY_BAND
    since = dict.fromkeys(CALLS) | {
        DRIFT: drifted.sort("p")["since"].first() if drifted.height else None,
        DECAY: None if decay is None else decay.since,
    }
    return DriftDay(columns, measures, called, is_clear, since, length, min(p, 1.0), error, tuple(lacking))


def _least(values: pl.Series) -> float:
    found = values.drop_nulls()
    return float(found.min()) if len(found) else math.nan  # type: ignore[arg-type]


def _judged(
    part: str,
    frame: pl.DataFrame,
    names: Sequence[str],
    trained: Sequence[date],
    window: Sequence[date],
    error: float,
    importance: Mapping[str, float],
    lacking: list[str],
    before: Sequence[date] | None = None,
) -> pl.DataFrame:
    """Columns of a window held to the sessions of training before it."""
    before = [day for day in trained if day < window[0]] if before is None else before
    if len(before) < LEAST_WINDOWS * len(window):
        lacking.append(
            f"{part}s: {len(before)} sessions of training before the window of {len(window)} are fewer than {LEAST_WINDOWS} windows"
        )
        return pl.DataFrame(schema=COLUMNS)
    there = frame.filter(pl.col("session").is_in([*before]))
    held = there.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in names if name not in frame.columns)
    bins = reference_bins(held, names)
    reference = session_histograms(held, bins, sessions=before)
    newest = session_histograms(frame.filter(pl.col("session").is_in([*window])), bins, sessions=window)
    found = judge_drift(reference, newest, error=error)
    told = add_drivers(found.columns, reference, newest, importance)
    lacking += [f"{row[0]}: {row[1]}" for row in told.filter(pl.col("why") != "").select("column", "why").rows()]
    return told.select(pl.lit(part).alias("part"), pl.exclude("part")).select(list(COLUMNS)).cast(COLUMNS)  # type: ignore[arg-type]


def _outputs(seen: Seen, window: Sequence[date], error: float, lacking: list[str]) -> list[pl.DataFrame]:
    """Predictions and confidence as they were issued, held to those out of fold."""
    if seen.out_of_fold is None:
        lacking.append("outputs: the out-of-fold predictions of the model are not stored")
        return []
    names = ["prediction", *(["confidence"] if seen.out_of_fold["confidence"].is_not_null().any() else [])]
    there = seen.out_of_fold.filter(pl.col("session") < window[0]).select("session", *names)
    here = seen.issued.filter(pl.col("session").is_in([*window])).select("session", *names)
    n_issued = here["session"].n_unique()
    if n_issued < len(window):
        lacking.append(f"outputs: {n_issued} of the {len(window)} sessions of the window have an issue")
        return []
    before = there["session"].unique().sort().to_list()
    frame = pl.concat([there, here], how="vertical_relaxed")
    return [_judged(OUTPUT, frame, names, before, window, error, {}, lacking, before)]


def _universe(
    seen: Seen, window: Sequence[date], trained: Sequence[date], columns: pl.DataFrame
) -> list[dict[str, object]]:
    """What is missing, who is there, and how many columns are beyond the field's bands."""
    if not window:
        return []
    features = columns.filter(part=FEATURE)
    is_newest = pl.col("session") >= window[0]
    here, there = (set(seen.features.filter(each)["symbol"].unique()) for each in (is_newest, ~is_newest))
    index = features["population_stability_index"]
    rows: list[dict[str, object]] = [
        {"measure": f"features_above_{band}", "value": float((index > band).sum()), "band": band, "n": features.height}
        for band in STABILITY_BANDS
    ]
    return [
        *rows,
        {
            "measure": "missing_share",
            "value": _mean(features["missing_window"]),
            "expected": _mean(features["missing_reference"]),
            "n": features.height,
        },
        {
            "measure": "universe_overlap",
            "value": len(here & there) / len(here | there) if here | there else math.nan,
            "n": len(here),
        },
    ]


def _mean(values: pl.Series) -> float:
    found = values.drop_nulls()
    return float(found.mean()) if len(found) else math.nan  # type: ignore[arg-type]


def _matured(seen: Seen, as_of: datetime, lacking: list[str]) -> Matured | None:
    if not seen.has_direction:
        lacking.append("accuracy: what is predicted has no direction that it could be wrong in")
        return None
    rows = seen.issued.rename({"confidence": "stated", "probability": "confidence"})
    found = matured_accuracy(rows, as_of=as_of, label_sessions=seen.label_sessions, neutral=seen.neutral)
    if not found.n:
        lacking.append("accuracy: no prediction has matured")
    elif found.n < LAST:
        lacking.append(f"accuracy: {found.n} of {LAST} predictions have matured")
    return found


def _matured_rows(seen: Seen, matured: Matured | None) -> list[dict[str, object]]:
    """Accuracy that was reached and expected, and what is expected of the labels that are still to come."""
    if matured is None:
        return []
    why = "" if matured.n else "no prediction has matured"
    coming = seen.issued.filter(pl.col("realised").is_null(), pl.col("prediction").is_finite())["probability"]
    uncalibrated = "" if matured.expected == matured.expected else "no calibrated confidence"
    return [
        {
            "measure": "accuracy",
            "value": matured.accuracy,
            "low": matured.low,
            "high": matured.high,
            "expected": matured.expected,
            "band": ACCURACY_BAND,
            "n": matured.n,
            "why": why,
        },
        {"measure": "brier", "value": matured.brier, "n": matured.n, "why": why or uncalibrated},
        {
            "measure": "accuracy_to_come",
            "value": _mean(coming),
            "n": len(coming.drop_nulls()),
            "why": ""
            if len(coming.drop_nulls())
            else "no calibrated confidence"
            if len(coming)
            else "no label is awaited",
        },
    ]


def _session_scores(rows: pl.DataFrame, seen: Seen) -> tuple[str, pl.DataFrame]:
    """Score of each session: its rank information coefficient, or the share that was right where it has too few symbols."""
    known = rows.filter(pl.col("prediction").is_finite(), pl.col("realised").is_finite())
    found = information_coefficient(known, target="realised").select("session", score="information_coefficient")
    if found["score"].is_finite().any() or not seen.has_direction:
        return "rank_ic", found
    kept, right = right_or_wrong(known, neutral=seen.neutral)
    hits = kept.select("session", score=pl.Series(right, dtype=pl.Float64))
    return "hit_rate", hits.group_by("session").mean().sort("session")


def _decay(seen: Seen, lacking: list[str]) -> tuple[Decay | None, list[dict[str, object]]]:
    """The score of live sessions, held to its interval out of fold."""
    if seen.out_of_fold is None:
        return None, [{"measure": "rank_ic", "why": "the out-of-fold predictions of the model are not stored"}]
    name, before = _session_scores(seen.out_of_fold, seen)
    _, now = _session_scores(seen.issued, seen)
    past, live = (each.filter(pl.col("score").is_finite()) for each in (before, now))
    block = max(seen.label_sessions, LEAST_SESSIONS)
    decay = decayed(past["score"], live["score"], live["session"].to_list(), block_sessions=block)
    low = high = math.nan
    values = past["score"].to_numpy()
    draws = draw_for_labels(len(values), label_sessions=seen.label_sessions, seed=[0]) if len(values) else None
    if draws is not None:
        low, high = interval(np.asarray((draws.counts @ values) / len(values)), draws)
    why = "" if len(live) else "no session has matured"
    row: dict[str, object] = {
        "measure": name,
        "value": _mean(live["score"]),
        "low": low,
        "high": high,
        "expected": _mean(past["score"]),
        "n": len(live),
        "why": why,
    }
    if decay is None:
        told = why or f"too few blocks of {block} sessions: {len(live)} live, {len(past)} out of fold"
        lacking.append(f"decay: {told}")
        return None, [row, {"measure": "decay", "why": told}]
    return decay, [row, {"measure": "decay", "value": decay.statistic, "band": decay.threshold, "n": decay.n_blocks}]


def _rest(seen: Seen, lacking: list[str]) -> list[dict[str, object]]:
    value, low, high = seen.sharpe
    n = seen.issued["session"].n_unique()
    why = "" if math.isfinite(value) else f"the account of {n} sessions is too short"
    if why:
        lacking.append(f"sharpe: {why}")
    return [
        {"measure": "sharpe", "value": value, "low": low, "high": high, "n": n, "why": why},
        {"measure": "age_days", "value": seen.age_days, "band": AGE_BAND},
    ]
