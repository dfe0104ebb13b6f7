"""Words of drift: a sentence speaks for no column that cannot be judged."""

import polars as pl
import pytest

from hf_pipelines.research.drift.day import CALLS, DRIFT, DriftDay
from hf_pipelines.research.drift.judgement import DRIFTED, NOT_JUDGED
from hf_pipelines.research.drift.standing import Standing
from hf_pipelines.research.drift.words import sentence_of


@pytest.mark.parametrize(
    ("verdicts", "called", "said"),
    [
        (["steady", "steady"], False, "No drift."),
        (["steady", NOT_JUDGED, NOT_JUDGED], False, "No drift in 1 of 3 columns, the others cannot be judged."),
        (["steady", NOT_JUDGED], None, "Drift cannot be judged; 1 of 2 columns cannot be judged."),
        ([DRIFTED, NOT_JUDGED], True, "Drift of a, for 1 session(s) so far; 1 of 2 columns cannot be judged."),
    ],
)
def test_sentence_says_of_how_many_columns_it_speaks(verdicts, called, said):
    columns = pl.DataFrame({"column": list("abc")[: len(verdicts)], "verdict": verdicts, "p": 0.01, "shift": 3.0})
    day = DriftDay(columns, pl.DataFrame(), dict.fromkeys(CALLS, False) | {DRIFT: called}, {}, 38, 0.01, 0.05)
    standing = {DRIFT: Standing(is_raised=False, n_called=1, n_quiet=0, raised_on=None, since=None)}
    assert sentence_of(day, standing) == said
