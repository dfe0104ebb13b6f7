"""Words of drift: what a session says, in a sentence and in lines.

Lives here: sentences. Not here: numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from hf_pipelines.research.drift.day import ACCURACY, AGE, AGE_BAND, DECAY, DRIFT, DriftDay
from hf_pipelines.research.drift.judgement import DRIFTED, NOT_JUDGED
from hf_pipelines.research.drift.standing import Standing
from hf_pipelines.research.wording import some_of

# Columns that are named in a sentence.
NAMED = 3


def sentence_of(day: DriftDay, standing: Mapping[str, Standing]) -> str:
    """What a session says: alarms first, then what is called and does not last yet, then what cannot be judged."""
    raised = [kind for kind, each in standing.items() if each.is_raised]
    pending = [kind for kind, each in day.called.items() if each and kind not in raised]
    parts = [_told(kind, day, standing[kind]) for kind in raised]
    parts += [f"{_told(kind, day, standing[kind])}, {_pending(standing[kind])}" for kind in pending]
    if not parts and day.called[DRIFT] is None:
        parts = ["drift cannot be judged"]
    n, n_columns = day.columns.filter(verdict=NOT_JUDGED).height, day.columns.height
    left = f"; {n} of {n_columns} columns cannot be judged" if n else ""
    if not parts and n:
        # "No drift" alone would speak for columns that nobody has judged.
        parts, left = [f"no drift in {n_columns - n} of {n_columns} columns, the others cannot be judged"], ""
    elif not parts:
        parts = ["no drift"]
    text = "; ".join(parts) + left + "."
    return text[0].upper() + text[1:]


def _pending(standing: Standing) -> str:
    """How long what is no alarm yet has lasted."""
    told = f"for {standing.n_called} session(s) so far"
    return told if standing.n_clear else f"{told}, not clear enough for an alarm"


def _told(kind: str, day: DriftDay, standing: Standing) -> str:
    since = f" since {standing.since}" if standing.since is not None else ""
    if kind == DRIFT:
        drifted = day.columns.filter(verdict=DRIFTED).sort("p", "shift", descending=[False, True])
        names = drifted["column"].to_list()
        return f"drift of {some_of(names[:NAMED]) if names else 'a column'}{_more(len(names))}{since}"
    row = _measure(day.measures, {DECAY: "decay", ACCURACY: "accuracy", AGE: "age_days"}[kind])
    if kind == DECAY:
        return f"the score has decayed{since}: {row['value'] or 0.0:.1f} of a threshold of {row['band'] or 0.0:.1f}"
    if kind == ACCURACY:
        return f"{row['value'] or 0.0:.0%} of the last {row['n']} matured predictions were right, at most {row['high'] or 0.0:.0%}"
    return f"the model is {row['value']:.0f} days old, more than {AGE_BAND:.0f}"


def _more(n: int) -> str:
    return f" and {n - NAMED} more" if n > NAMED else ""


def _measure(measures: pl.DataFrame, name: str) -> Mapping[str, object]:
    found: Mapping[str, object] = measures.filter(measure=name).row(0, named=True)
    return found
