"""Pictures of a promotion: equal inputs are equal bytes, and every state of a history can be drawn."""

from datetime import UTC, datetime

import pytest

from hf_pipelines.research.promotion import Evidence, judge_gates
from hf_pipelines.research.promotion.lifecycle import PROMOTED, REFUSED
from hf_pipelines.research.promotion.plots import gates_png, timeline_png
from hf_pipelines.research.promotion.timeline import timeline_of
from hf_pipelines_tests.research.promotion.test_payload import ALL, recorded

PNG = b"\x89PNG\r\n"
NOW = datetime(2026, 1, 20, tzinfo=UTC)


def test_gate_table_is_as_high_as_what_it_has_to_say():
    little = judge_gates(Evidence(strategy="tech", week="2020-01-12"), {})
    one, same = (gates_png(little, told="recorded as decision 1: refused") for _ in range(2))
    assert one.startswith(PNG) and one == same
    more = judge_gates(Evidence(strategy="tech", week="2020-01-12", rows=2_000, sharpe=1.0, sharpe_low=0.2), {})
    heights = [int.from_bytes(png[20:24], "big") for png in (gates_png(more), one)]
    # Gates that pass need no line of their reasons.
    assert heights[0] < heights[1]


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(ALL, id="all kinds"),
        pytest.param(recorded((REFUSED, "long")), id="nothing was ever promoted"),
        pytest.param(recorded((PROMOTED, "long")), id="one release"),
        pytest.param([{**each, "at": "2026-01-20T00:00:00+00:00"} for each in ALL], id="all at one instant"),
    ],
)
def test_timeline_of_any_history_can_be_drawn(records):
    drawn = [timeline_png(timeline_of(records), strategy="tech", told="", now=NOW) for _ in range(2)]
    assert drawn[0].startswith(PNG) and drawn[0] == drawn[1]
