"""Trials: what counts, by the rule; what is inherited; what others have written is read with care."""

import hashlib
import json
import math
from datetime import date, timedelta

import numpy as np
import pytest

from hf_pipelines.resources.trial_ledger import Slot, TrialLedger, configuration_hash, n_trials, record_trial
from hf_pipelines.resources.trial_ledger import returns as series
from hf_pipelines.resources.trial_ledger.records import RECORDS, RETURNS, SEGMENTS
from hf_pipelines.resources.trial_ledger.segments import _segment_table, put_segment, read_table
from hf_pipelines.resources.trial_ledger.trials import (
    DIAGNOSTIC,
    LEARNING_CURVE,
    SELECTION,
    VALIDATION_CURVE,
    ancestors_of,
    counted,
    select,
)
from hf_pipelines_tests.resources.trial_ledger.trying import new_process, slot, try_one

OTHER_WEEK = {"week": "2012-05-13", "data": {"direction/training_matrix": {"2012-05-13": "b" * 64}}}


def test_retry_is_no_second_trial(ledger):
    first = ledger.begin(slot(), source="cross_validation")
    # It has died: begun again by another process.
    new_process()
    again = ledger.begin(slot(), source="cross_validation")
    assert (again.id, again.kind) == (first.id, SELECTION)
    again.end()
    known = ledger.known()
    assert n_trials(known) == known.height == 1
    assert known["n_begun"].item() == 2 and known["outcome"].item() == "completed"


def test_trial_that_died_failed_or_was_pruned_counts(ledger):
    ledger.begin(slot(0), source="cross_validation")
    with pytest.raises(ZeroDivisionError), ledger.begin(slot(1), source="cross_validation"):
        _ = 1 / 0
    ledger.begin(slot(2), source="cross_validation").prune()
    known = ledger.known()
    assert n_trials(known) == 3
    assert known["outcome"].to_list() == [None, "failed", "pruned"]


@pytest.mark.parametrize(
    ("changes", "kind", "n"),
    [
        (OTHER_WEEK, DIAGNOSTIC, 1),
        ({**OTHER_WEEK, "seed": 8}, SELECTION, 2),
        ({**OTHER_WEEK, "configuration": "f" * 32}, SELECTION, 2),
        ({**OTHER_WEEK, "strategy": "copy"}, SELECTION, 1),
    ],
    ids=["weekly refit", "another seed", "another configuration", "the same by another strategy"],
)
def test_rule_of_what_counts(ledger, changes, kind, n):
    try_one(ledger)
    assert ledger.begin(slot(**changes), source="cross_validation").kind == kind
    assert n_trials(ledger.known()) == n


def test_points_of_a_learning_curve_never_count(ledger):
    parent = try_one(ledger, 0)
    for number in (1, 2):
        point = ledger.begin(slot(number), source=LEARNING_CURVE, parent=parent)
        assert point.kind == DIAGNOSTIC
    try_one(ledger, 2)
    assert n_trials(ledger.known()) == 2


def test_validation_curve_counts_whole_once_a_point_is_chosen(ledger):
    parent = try_one(ledger, 0)
    for number in (0, 1, 2, 3):
        ledger.begin(slot(number, week="curve"), source=VALIDATION_CURVE, parent=parent)
    assert n_trials(ledger.known()) == 1
    try_one(ledger, 2)
    assert n_trials(ledger.known()) == 4
    assert counted(ledger.known())["configuration"].to_list() == [f"{each:032x}" for each in range(4)]


def test_copy_inherits_what_its_origin_tried_and_not_the_other_way_round(ledger):
    for number in range(3):
        try_one(ledger, number, strategy="first")
    for number in (2, 5):
        try_one(ledger, number, strategy="renamed")
    declared = ledger.begin(slot(9, strategy="child"), source="cross_validation", descends_from=["renamed"])
    declared.end()
    known = ledger.known()
    assert ancestors_of("first", known) == []
    assert ancestors_of("renamed", known) == ["first"]
    assert ancestors_of("child", known) == ["first", "renamed"]
    assert [n_trials(select(known, strategy=each)) for each in ("first", "renamed", "child")] == [3, 4, 5]
    assert n_trials(select(known, market="small")) == 5 and select(known, market="other").is_empty()
    assert select(known, since="9999").is_empty() and select(known, until="9999").height == known.height


def test_same_is_answered_only_for_the_same_data_seed_and_code(ledger):
    trial = ledger.begin(slot(), source="cross_validation", code_version="v1")
    assert ledger.answer(slot(), code_version="v1") is None
    trial.end(scores={"accuracy": 0.6, "auc": math.nan})
    assert ledger.answer(slot(), code_version="v1") == trial.id
    assert ledger.scores_of(trial.id) == {"accuracy": 0.6, "auc": None}
    assert ledger.answer(slot(strategy="copy"), code_version="v1") is not None
    for changes in ({"seed": 8}, {"configuration": "e" * 32}, {"data": OTHER_WEEK["data"]}):
        assert ledger.answer(slot(**changes), code_version="v1") is None
    assert ledger.answer(slot(), code_version="v2") is None


def test_record_trial_of_a_notebook_is_recorded_and_answered(objects, monkeypatch):
    monkeypatch.setenv("HF_ACTOR", "ada")
    new_process()
    told = {"strategy": "idea", "configuration": {"lookback": 20}, "data": {"x/bars": {"2012-01-01": "c" * 64}}}
    days = [date(2012, 1, 2) + timedelta(each) for each in range(40)]
    values = np.random.default_rng(0).normal(0.001, 0.01, 40)
    with record_trial(**told, objects=objects) as trial:
        trial.end(scores={"sharpe": 0.1}, returns=(days, values))
    known = TrialLedger(objects, "x").known()
    assert known.select("actor", "source", "kind", "outcome").row(0) == ("ada", "notebook", SELECTION, "completed")
    assert known["estimate"].item()["sharpe"] == pytest.approx(values.mean() / values.std(ddof=1))
    found, read = series.read_returns(objects, known["returns"].item())
    assert found[0] == (days[0] - date(1970, 1, 1)).days and read.tolist() == values.tolist()
    with record_trial(**told, objects=objects) as again:
        assert again.earlier == {"sharpe": 0.1}
    with record_trial(**told, objects=objects, is_repeated=True) as repeated:
        assert repeated.earlier is None
    assert n_trials(TrialLedger(objects, "x").known()) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"strategy": " "}, "`strategy` must name"), ({"kind": "maybe"}, "`kind` must be selection or diagnostic")],
)
def test_record_trial_refuses_what_it_cannot_count(objects, changes, said):
    with pytest.raises(ValueError, match=said):
        record_trial(**{"strategy": "idea", "configuration": {}, "objects": objects, **changes})


def test_secret_in_an_error_is_not_recorded(ledger, objects, monkeypatch):
    monkeypatch.setenv("HF_TEST_PASSWORD", "hunter2-secret")
    with pytest.raises(OSError), ledger.begin(slot(), source="cross_validation"):
        raise OSError("login with hunter2-secret failed")
    lines = b"".join(objects.get(key) for key in objects.keys(RECORDS))
    assert b"failed" in lines and b"hunter2" not in lines


HOSTILE = {
    "no JSON": b"\x00\xff garbage",
    "empty": b"",
    "deep": b'{"sha256":"' + b"0" * 64 + b'","a":' + b"[" * 100_000,
    "a list": b"[1,2,3]",
    "long": b'{"sha256":"' + b"0" * 64 + b'",' + b" " * 300_000,
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("folder", [f"{RECORDS}/{'a' * 16}/00000000", f"{SEGMENTS}/{'b' * 64}", f"{RECORDS}/elsewhere"])
def test_hostile_object_is_named_and_hides_no_trial(ledger, objects, payload, folder):
    try_one(ledger)
    objects.put(folder, payload)
    known, unreadable = ledger.read()
    assert n_trials(known) == 1
    assert any(folder in each.address for each in unreadable)
    assert any(folder in each.address for each in ledger.contents().unreadable)


def test_link_and_folder_in_the_place_of_a_record_are_named(ledger, objects, tmp_path):
    try_one(ledger)
    place = tmp_path / "store" / RECORDS / ("c" * 16)
    place.mkdir()
    (place / "00000000").symlink_to(tmp_path / "store" / objects.keys(RECORDS)[0])
    _, unreadable = ledger.read()
    assert [each.what for each in unreadable] == ["a symbolic link"]


def test_damaged_segment_still_counts_what_is_sound(ledger, objects):
    for number in range(4):
        try_one(ledger, number)
    contents = ledger.contents()
    key = put_segment(objects, contents.records)
    payload = objects.get(key)
    objects.put(key, payload.replace(b'"seed":7', b'"seed":6', 1))
    _segment_table.cache_clear()
    known, unreadable = ledger.read()
    # One record of it is not believed; the end of its trial is there.
    assert known.height == 4 and len(unreadable) == 2
    assert "named by" in unreadable[0].what and "another SHA-256" in unreadable[1].what


def test_fields_of_other_types_are_not_believed(objects, ledger):
    from hf_pipelines.resources.trial_ledger.records import ORIGIN, write_record

    fields = {"writer": "d" * 16, "prev": ORIGIN, "at": "2024", "event": "begun", "trial": "1" * 32}
    bad = [
        write_record(
            {**fields, "n": 0, "seed": "x", "kind": 5, "strategy": ["a"], "estimate": [1], "descends_from": "q"}
        ),
        write_record({**fields, "n": 1, "trial": "../../etc"}),
        write_record({**fields, "n": -1}),
        write_record({**fields, "n": 2, "event": "eaten"}),
    ]
    payload = b"".join(each.line + b"\n" for each in bad)
    objects.put(f"{SEGMENTS}/{hashlib.sha256(payload).hexdigest()}", payload)
    table, _ = read_table(objects)
    assert table.height == 1
    known = ledger.known()
    assert n_trials(known) == 1 and known["kind"].item() == SELECTION


def test_configuration_hash_does_not_depend_on_the_order_of_settings():
    assert configuration_hash({"a": 1, "b": [1, 2]}) == configuration_hash({"b": [1, 2], "a": 1})
    assert configuration_hash({"a": 1}) != configuration_hash({"a": 1.5})
    with pytest.raises(ValueError, match="JSON"):
        configuration_hash({"a": math.nan})


def test_slot_is_the_same_for_the_same_parts_alone():
    assert slot().id == slot(market="elsewhere").id
    assert (
        len({slot().id, slot(1).id, slot(seed=None).id, slot(week="w").id, slot(data={}).id, slot(strategy="s").id})
        == 6
    )
    assert json.dumps(slot().fields()) and isinstance(slot(), Slot)


def test_returns_are_stored_once_and_laid_side_by_side(objects):
    days = [date(2012, 1, 2), date(2012, 1, 3), date(2012, 1, 5)]
    one = series.put_returns(objects, days, [0.1, 0.2, 0.3])
    assert series.put_returns(objects, days, [0.1, 0.2, 0.3]) == one
    other = series.put_returns(objects, days[1:], [0.5, 0.6])
    table = series.side_by_side([series.read_returns(objects, each) for each in (one, other)])
    assert np.array_equal(table, [[0.1, np.nan], [0.2, 0.5], [0.3, 0.6]], equal_nan=True)
    with pytest.raises(ValueError, match="ascending"):
        series.put_returns(objects, days[::-1], [0.1, 0.2, 0.3])
    objects.put(f"{RETURNS}/{one}", b"changed")
    assert series.read_returns(objects, one) is None and series.read_returns(objects, "../x") is None
    assert list(series.missing_returns(objects, {one: "t", "f" * 64: "u"}).values()) == [
        f"the return series {one[:12]} of t is not what was stored",
        "the return series ffffffffffff of u is gone",
    ]
