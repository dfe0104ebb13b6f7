"""Wording: what a person reads, and that no name does harm or makes a message longer than a channel takes."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_pipelines.research.alerts.desk import ENDED, EVENTS, NEW, PASSED, Alert, Due, Item
from hf_pipelines.research.alerts.kinds import SEVERITIES
from hf_pipelines.research.alerts.wording import cost, message_of

UTC_ZONE = ZoneInfo("UTC")
NOON = datetime(2026, 11, 30, 2, 7, tzinfo=UTC)
FAILED = Alert(
    "run", "us_tech/bars", "us_tech", "critical", "us_tech/bars 2026-11-22",
    "us_tech/bars was not published for 1 partition(s).\n2026-11-22: row 3 has a price of 0", "correct the file", "http://ui/runs/1", NOON, ("x",),
)  # fmt: skip


def test_message_of_one_alert_says_what_why_what_to_do_where_and_since_when():
    message = message_of(Due((Item(NEW, FAILED),)), zone=ZoneInfo("Europe/Berlin"))
    assert message.title == "CRITICAL: failed run: us_tech/bars 2026-11-22"
    assert message.body.splitlines() == [
        "us_tech/bars was not published for 1 partition(s). 2026-11-22: row 3 has a price of 0",
        "Do: correct the file",
        "http://ui/runs/1",
        "Since 2026-11-30 03:07 Europe/Berlin.",
    ]
    assert message.is_critical


def test_message_of_several_counts_them_and_puts_what_is_new_first():
    ended = Alert(
        **{**FAILED.__dict__, "open_ids": (), "ended_at": NOON, "ending": "made by run 12ab", "n_incidents": 3}
    )
    message = message_of(Due((Item(NEW, FAILED), Item(ENDED, ended)), is_digest=True), zone=UTC_ZONE)
    assert message.title == "Digest of the quiet hours: 1 new, 1 resolved, 1 CRITICAL"
    lines = message.body.splitlines()
    assert lines[:2] == ["New:", "- CRITICAL failed run: us_tech/bars 2026-11-22"]
    assert lines[lines.index("Resolved:") :] == [
        "Resolved:",
        "- failed run: us_tech/bars 2026-11-22 (3 times)",
        "  made by run 12ab",
        "  From 2026-11-30 02:07 UTC to 2026-11-30 02:07 UTC.",
    ]


def test_message_of_a_thousand_is_bounded_and_says_how_many_are_left_out():
    items = tuple(Item(NEW, Alert(**{**FAILED.__dict__, "what": f"s{at}/bars"})) for at in range(1000))
    message = message_of(Due(items), zone=UTC_ZONE)
    assert message.title == "1000 new, 1000 CRITICAL"
    assert message.body.splitlines()[-1] == "and 975 more (975 failed run): hfp incident list"
    assert cost(message.title + message.body) <= 3500


HOSTILE = st.text(st.sampled_from("<>&@*[](`)_|\n\t\x1b\u202e\U0001f600ab/ "), max_size=700)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE, st.sampled_from(EVENTS)), min_size=1, max_size=12),
    limit=st.sampled_from([2000, 4096, 35000]),
    severity=st.sampled_from(SEVERITIES),
)
def test_any_text_fits_the_channel_calls_nobody_and_has_no_control_characters(texts, limit, severity):
    items = [
        Item(
            event,
            Alert("run", what, what, severity, what, cause, remedy, remedy, NOON, ("x",), ended_at=NOON if event in (ENDED, PASSED) else None, ending=cause),
        )
        for what, cause, remedy, event in texts
    ]  # fmt: skip
    message = message_of(Due(tuple(items)), zone=UTC_ZONE, limit=limit)
    assert cost(message.title) + cost(message.body) <= limit
    assert message.title.isprintable() or "\u200b" in message.title
    for line in (message.title, *message.body.split("\n")):
        assert line.replace("\u200b", "").isprintable()
        assert not any(f"@{each}" in line for each in "<>&@*[](`)_|ab/") and "](" not in line
    # Nothing is left out but by number.
    assert message.body
