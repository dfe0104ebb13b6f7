"""Day of drift: a call of accuracy is clear only where the interval of a fifth of the error is below the band, too."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.drift.day import ACCURACY, DECAY, DRIFT, Seen, judge_session

FIRST = datetime(2024, 1, 1, 21, tzinfo=UTC)


def seen(n_right: int) -> Seen:
    """A hundred matured predictions of one symbol, so many of them right, evenly mixed."""
    ts = [FIRST + timedelta(days=place) for place in range(100)]
    is_right = np.random.default_rng(1).permutation(np.arange(100) < n_right)
    issued = pl.DataFrame(
        {
            "symbol": ["A"] * 100,
            "session": [each.date() for each in ts],
            "ts": ts,
            "prediction": 1.0,
            "confidence": None,
            "probability": None,
            "label_end": [each + timedelta(days=1) for each in ts],
            "realised": np.where(is_right, 0.01, -0.01),
        },
        schema_overrides={"confidence": pl.Float64, "probability": pl.Float64},
    )
    return Seen(
        sessions=issued["session"].to_list(),
        features=issued.select("symbol", "session"),
        names=[],
        trained_until=FIRST.date(),
        out_of_fold=None,
        issued=issued,
        sharpe=(math.nan, math.nan, math.nan),
        importance={},
        label_sessions=1,
        neutral=0.0,
        has_direction=True,
        age_days=3.0,
        kind="live",
    )


@pytest.mark.parametrize(
    ("n_right", "called", "clear"), [(55, False, False), (46, False, False), (39, True, False), (30, True, True)]
)
def test_accuracy_is_called_below_a_half_and_clear_further_below(n_right, called, clear):
    day = judge_session(seen(n_right), window_sessions=63, error=0.05, as_of=FIRST + timedelta(days=101))
    assert (day.called[ACCURACY], day.is_clear[ACCURACY]) == (called, clear)
    # Nothing of the others can be judged, which is no call and is clear in no case.
    assert (day.called[DRIFT], day.called[DECAY], day.is_clear[DRIFT]) == (None, None, False)
