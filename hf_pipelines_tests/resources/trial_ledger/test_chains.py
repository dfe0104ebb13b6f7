"""Chains: whatever is done to a record is named, and by whom it was noted if it only shows there."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger import Head, TrialLedger, verify_chains
from hf_pipelines.resources.trial_ledger.records import RECORDS, SEGMENTS, read_record, write_record
from hf_pipelines.resources.trial_ledger.segments import put_segment
from hf_pipelines.resources.trial_ledger.writers import local_heads
from hf_pipelines_tests.resources.trial_ledger.trying import try_one

Lines = list[bytes]


def changed(lines: Lines) -> Lines:
    lines[4] = lines[4].replace(b'"seed":7', b'"seed":8')
    return lines


def changed_with_its_hash(lines: Lines) -> Lines:
    fields = {name: value for name, value in json.loads(lines[4]).items() if name != "sha256"}
    lines[4] = write_record({**fields, "seed": 8}).line
    return lines


def dropped(lines: Lines) -> Lines:
    return lines[:4] + lines[5:]


def inserted(lines: Lines) -> Lines:
    fields = {name: value for name, value in json.loads(lines[4]).items() if name != "sha256"}
    return [*lines, write_record({**fields, "seed": 9}).line]


def reordered(lines: Lines) -> Lines:
    return exchanged(lines, 4, 5)


def exchanged(lines: Lines, one: int, other: int) -> Lines:
    """Each has the number of the other, and a hash that fits."""
    first, second = (json.loads(lines[each]) for each in (one, other))
    for at, fields, taken in ((one, second, first), (other, first, second)):
        fields = {name: value for name, value in fields.items() if name != "sha256"}
        lines[at] = write_record({**fields, "n": taken["n"]}).line
    return lines


def truncated(lines: Lines) -> Lines:
    return lines[:-3]


def written_anew(lines: Lines) -> Lines:
    """All records from one on are other ones, and the chain is whole."""
    previous = json.loads(lines[3])["sha256"]
    for at in range(4, len(lines)):
        fields = {name: value for name, value in json.loads(lines[at]).items() if name != "sha256"}
        record = write_record({**fields, "prev": previous, "actor": "nobody"})
        lines[at], previous = record.line, record.hash
    return lines


DONE = {
    changed: (4, "of another SHA-256"),
    changed_with_its_hash: (5, "does not follow"),
    dropped: (4, "was dropped: there are later ones, up to 11"),
    inserted: (4, "was inserted: there are 2 different ones"),
    reordered: (4, "does not follow"),
    truncated: (9, "the end of the chain was cut off: the footer has noted record 11"),
    written_anew: (11, "is not the one that the footer has noted: the chain was written anew"),
}


def lines_of(objects: ObjectStore) -> Lines:
    return [objects.get(key).removesuffix(b"\n") for key in objects.keys(RECORDS)]


def lay(objects: ObjectStore, lines: Lines, *, is_sealed: bool) -> None:
    """Put records in the place of those that are there, single or in a segment whose name fits."""
    keys = objects.keys(RECORDS)
    objects.delete_each(keys)
    if is_sealed:
        payload = b"".join(each + b"\n" for each in lines)
        objects.put(f"{SEGMENTS}/{hashlib.sha256(payload).hexdigest()}", payload)
        return
    for line in lines:
        key = f"{keys[0][:-8]}{json.loads(line)['n']:08d}"
        objects.put(key, line + b"\n")


@pytest.mark.parametrize("is_sealed", [False, True], ids=["single", "sealed"])
@pytest.mark.parametrize("do", DONE, ids=lambda each: each.__name__)
def test_what_is_done_to_a_record_is_named(ledger: TrialLedger, do: Callable[[Lines], Lines], is_sealed: bool):
    if do is inserted and not is_sealed:
        pytest.skip("two single records cannot have one name")
    for number in range(6):
        try_one(ledger, number)
    lines = lines_of(ledger.objects)
    last = json.loads(lines[-1])
    heads = [Head(last["writer"], last["n"], last["sha256"], "the footer")]
    assert verify_chains(ledger.contents(), heads) == []
    lay(ledger.objects, do(lines), is_sealed=is_sealed)
    n, what = DONE[do]
    faults = verify_chains(ledger.contents(), heads)
    assert any(what in each.what for each in faults), faults
    assert min(each.n for each in faults if each.writer) == n


def test_chain_that_is_gone_whole_is_named_by_who_has_noted_it(ledger, objects):
    try_one(ledger)
    heads = [Head(each.writer, each.n, each.hash, "this machine") for each in local_heads(objects)]
    shutil.rmtree(Path(objects.uri) / "_trials")
    (fault,) = verify_chains(ledger.contents(), heads)
    assert "this machine has noted record 1" in str(fault)


def test_copies_of_a_record_are_one(ledger, objects):
    for number in range(3):
        try_one(ledger, number)
    # A process that is killed between sealing and removing leaves both.
    lines = lines_of(objects)
    put_segment(objects, [read_record(each) for each in lines])
    for line in lines[:2]:
        fields = json.loads(line)
        objects.put(f"{RECORDS}/{fields['writer']}/{fields['n']:08d}", line + b"\n")
    assert verify_chains(ledger.contents()) == []
    assert ledger.known().height == 3


def test_head_is_the_same_from_a_hash_in_groups():
    digest = "7cf7f7bbdadb40ce" * 4
    in_groups = " ".join([digest[:16]] * 4)
    assert Head.from_text(f"writer 4 {in_groups}", "a page") == Head.from_text(f"writer 4 {digest}", "a page")


def test_head_of_another_text_is_none():
    for text in ("", "a b", "a -1 c", f"a {'9' * 20} c", None, 5, "a ½ c"):
        assert Head.from_text(text, "x") is None
    assert Head.from_text("w 3 h", "x") == Head("w", 3, "h", "x")
