"""What follows from a history for who reads it: messages to a portfolio layer, who served when, which stage when."""

from typing import Any

from hf_pipelines.research.promotion.lifecycle import (
    OVERRIDDEN,
    PROMOTED,
    REFUSED,
    ROLLED_BACK,
    STAGED,
    WITHDRAWN,
)
from hf_pipelines.research.promotion.payload import FIGURES, NOT_KEPT, NOTHING_SERVES, payloads_of
from hf_pipelines.research.promotion.timeline import out_of_time, timeline_of

KNOWN = {name: {"value": float(place), "why": ""} for place, name in enumerate(FIGURES)}


def recorded(*kinds: tuple[str, str] | str) -> list[dict[str, Any]]:
    """Records of kinds, each but those of the champion with the rule of its configuration; one a day."""
    found = []
    for n, each in enumerate(kinds, 1):
        kind, rule = each if isinstance(each, tuple) else (each, "")
        found.append(
            {
                "id": f"{n:032d}",
                "n": n,
                "at": f"2026-01-{n:02d}T00:00:00+00:00",
                "kind": kind,
                "actor": "ann",
                "reason": f"why {n}",
                "week": "2020-01-12" if rule else "",
                "configuration": rule,
                "settings": {"rule": rule} if rule else {},
                "evidence": {"tech/backtest": {"2020-01-12": f"{n}" * 64}} if rule else {},
                "figures": KNOWN | {"capacity": {"value": None, "why": "no volumes"}} if rule == "long" else {},
            }
        )
    return found


def messages(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return payloads_of("tech", records, [f"hash {each['n']}" for each in records])


ALL = recorded(
    (REFUSED, "long"),
    (PROMOTED, "long"),
    (STAGED, "short"),
    (OVERRIDDEN, "short"),
    (REFUSED, "flat"),
    ROLLED_BACK,
    WITHDRAWN,
    (PROMOTED, "flat"),
)


def test_a_message_follows_from_each_decision_after_which_another_release_serves():
    told = messages(ALL)
    assert [(each["n"], each["decision_number"], each["decision"]) for each in told] == [
        (1, 2, PROMOTED),
        (2, 4, OVERRIDDEN),
        (3, 6, ROLLED_BACK),
        (4, 7, WITHDRAWN),
        (5, 8, PROMOTED),
    ]
    served = [("v1.0.0", None), ("v1.1.0", "v1.0.0"), ("v1.0.0", "v1.1.0"), (None, "v1.0.0"), ("v1.2.0", None)]
    assert [(each["version"], each["left"]) for each in told] == served
    assert [each["is_override"] for each in told] == [False, True, False, False, False]
    assert [each["id"] for each in told] == [f"{n:032d}" for n in (2, 4, 6, 7, 8)]
    assert [each["record"] for each in told] == [f"hash {n}" for n in (2, 4, 6, 7, 8)]
    # After a rollback: what the release was promoted by, under the reason of the rollback.
    assert told[2]["evidence"] == told[0]["evidence"] == {"tech/backtest": {"2020-01-12": "2" * 64}}
    assert (told[2]["reason"], told[2]["expected_return"], told[2]["sharpe_high"]) == ("why 6", 0.0, 4.0)


def test_a_figure_that_is_not_known_is_null_with_the_reason():
    first, second, _, withdrawn, _ = messages(ALL)
    assert first["capacity"] is None and first["unknown"] == {"capacity": "no volumes"}
    assert second["unknown"] == dict.fromkeys(FIGURES, NOT_KEPT)
    assert withdrawn["unknown"] == dict.fromkeys(FIGURES, NOTHING_SERVES) and withdrawn["evidence"] == {}
    assert {withdrawn[name] for name in (*FIGURES, "configuration", "week", "version")} == {None}


def test_a_longer_history_begins_with_the_messages_of_a_shorter_one():
    whole = messages(ALL)
    for end in range(len(ALL) + 1):
        some = messages(ALL[:end])
        assert some == whole[: len(some)]


def test_who_served_when_has_no_gap_but_that_of_a_withdrawal():
    served = timeline_of(ALL).served
    told = [(str(each.release.version), each.since[8:10], each.until[8:10], each.ended_by) for each in served]
    assert told == [
        ("v1.0.0", "02", "04", OVERRIDDEN),
        ("v1.1.0", "04", "06", ROLLED_BACK),
        ("v1.0.0", "06", "07", WITHDRAWN),
        ("v1.2.0", "08", "", ""),
    ]
    assert timeline_of([]).served == () == timeline_of(recorded((REFUSED, "long"))).served


def test_decisions_of_a_clock_that_was_behind_are_named_once_it_is_right_again():
    assert out_of_time([]) == out_of_time(ALL) == ""
    late = [
        {**ALL[1], "n": 1, "at": "2026-01-09T00:00:00+00:00"},
        *ALL[2:4],
        {**ALL[4], "at": "2026-01-10T00:00:00+00:00"},
    ]
    told = out_of_time(late)
    assert told.startswith(
        f"dated before a decision that came first: {late[1]['n']}, {late[2]['n']}; a clock was wrong"
    )


def test_each_configuration_stands_in_one_stage_from_its_first_decision_on():
    told = [
        (each.configuration, each.stage, each.since[8:10], each.until[8:10]) for each in timeline_of(ALL).stages
    ]  # fmt: skip
    assert told == [
        ("long", "development", "01", "02"),
        ("long", "production", "02", "04"),
        ("long", "deprecated", "04", "06"),
        ("long", "production", "06", "07"),
        ("long", "archived", "07", ""),
        ("short", "staging", "03", "04"),
        ("short", "production", "04", "06"),
        ("short", "deprecated", "06", ""),
        ("flat", "development", "05", "08"),
        ("flat", "production", "08", ""),
    ]
