"""Issues of two configurations by hand: weights, reasons, and rows that are not the same."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from hf_pipelines.research.signals import ISSUE_COLUMNS, Reason
from hf_pipelines.research.signals.split_capital import split_capital


def issue(weights: dict[str, float], reason: str = Reason.NOT_SELECTED) -> pl.DataFrame:
    rows = [
        {
            "symbol": symbol,
            "session": date(2020, 1, 2),
            "ts": datetime(2020, 1, 2, 21, tzinfo=UTC),
            "weight": weight,
            "reason": "" if weight else str(reason),
            "reason_detail": None if weight else "why",
        }
        for symbol, weight in weights.items()
    ]
    found = pl.DataFrame(rows)
    return found.select(
        (pl.col(name) if name in found.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in ISSUE_COLUMNS.items()
    )


def test_weights_are_shares_of_both_and_a_reason_stands_where_nothing_is_held():
    champion = issue({"A": 0.5, "B": -0.5, "C": 0.0, "D": 0.25, "E": 0.0})
    challenger = issue({"A": 0.5, "B": 0.0, "C": 0.8, "D": -0.75, "E": 0.0}, Reason.LONG_ONLY)
    both = split_capital(
        champion, challenger.sample(fraction=1.0, shuffle=True, seed=1), share=0.25, challenger_version="c"
    )
    assert both["weight"].to_list() == [0.5, -0.375, 0.2, 0.0, 0.0] and both["symbol"].to_list() == [*"ABCDE"]
    # What both cancel has a reason too; where both hold nothing it is the champion's.
    assert both["reason"].to_list() == ["", "", "", Reason.NO_POSITION, Reason.NOT_SELECTED]
    assert both["reason_detail"].to_list() == [None, None, None, None, "why"]
    assert {*both["rollout_share"]} == {0.25} and {*both["challenger_version"]} == {"c"}
    assert dict(both.schema) == ISSUE_COLUMNS
    assert split_capital(champion, challenger, share=1.0, challenger_version="c")["weight"].equals(challenger["weight"])


@pytest.mark.parametrize("weights", [{"A": 1.0}, {"A": 1.0, "C": 1.0}, {"A": 1.0, "B": 0.0, "C": 0.0}])
def test_issues_of_other_rows_are_refused(weights):
    with pytest.raises(ValueError, match="`challenger` must have the rows of the champion"):
        split_capital(issue({"A": 1.0, "B": 0.0}), issue(weights), share=0.5, challenger_version="c")
