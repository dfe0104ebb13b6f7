"""Words of drift: a sentence speaks for no column that cannot be judged."""

import polars as pl
import pytest

from hf_pipelines.research.drift.day import CALLS, DRIFT, DriftDay
from hf_pipelines.research.drift.judgement import DRIFTED, NOT_JUDGED
from hf_pipelines.research.drift.standing import Standing
from hf_pipelines.research.drift.words import sentence_of


@pytest.mark.parametrize(
    ("verdicts", "called", "n_clear", "said"),
    [
        (["steady", "steady"], False, 0, "No drift."),
        (["steady", NOT_JUDGED, NOT_JUDGED], False, 0, "No drift in 1 of 3 columns, the others cannot be judged."),
        (["steady", NOT_JUDGED], None, 0, "Drift cannot be judged; 1 of 2 columns cannot be judged."),
        ([DRIFTED, NOT_JUDGED], True, 1, "Drift of a, for 1 session(s) so far; 1 of 2 columns cannot be judged."),
        ([DRIFTED, "steady"], True, 0, "Drift of a, for 1 session(s) so far, not clear enough for an alarm."),
    ],
)
def test_sentence_says_of_how_many_columns_it_speaks(verdicts, called, n_clear, said):
    columns = pl.DataFrame({"column": list("abc")[: len(verdicts)], "verdict": verdicts, "p": 0.01, "shift": 3.0})
    day = DriftDay(columns, pl.DataFrame(), dict.fromkeys(CALLS, False) | {DRIFT: called}, {}, {}, 38, 0.01, 0.05)
    standing = {DRIFT: Standing(n_called=1, n_clear=n_clear)}
    assert sentence_of(day, standing) == said
