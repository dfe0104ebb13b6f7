"""The commands on the store: versions, verify, diff, restore, features; and retention that follows what was made of what."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.research.content_hash import session_hashes
from hf_pipelines.research.differences import compare_frames
from hf_pipelines.research.promotion.lifecycle import PROMOTED
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.footer import Footer, Stamp
from hf_pipelines.resources.lineage import current_footers, find_references, list_kept, stored_partitions
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import record_decision
from hf_pipelines.resources.retention import Policy
from hf_pipelines.resources.storage_errors import StoredPartitionError
from hf_pipelines_tests.resources.promotions.deciding import draft
from hf_pipelines_tests.resources.retaining import pruned
from hf_pipelines_tests.sample_bars import random_bars

pytestmark = pytest.mark.pipeline

BARS, FEATURES_ASSET, MATRIX, MODEL, SIGNALS = (
    "us_tech/bars", "us_tech/features/technical", "tech/training_matrix", "tech/fitted_model", "tech/signals",
)  # fmt: skip
WEEK, NEXT_WEEK, DAY = "2020-01-05", "2020-01-12", "2020-01-10"
FRAME = random_bars(symbols=2, sessions=5)
STAMP = Stamp("code-1", "run-1", "2020-01-12T07:00:00+00:00")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartitionStore:
    """The store that the commands find."""
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HF_STORAGE_URI", str(tmp_path / "store"))
    return PartitionStore(ObjectStore(str(tmp_path / "store")))


def put(
    store: PartitionStore, asset: str, partition: str, number: float, inputs: dict[str, dict[str, str]] | None = None
) -> Footer:
    """Publish rows that differ from those of every other number."""
    frame = FRAME.with_columns(pl.col("volume") + number)
    content = Content(frame, inputs=inputs or {}, has_session_hashes=True)
    return store.publish(asset, partition, content, STAMP).footer


def chain(store: PartitionStore) -> dict[str, list[Footer]]:
    """Bars with four contents, features of the first and of the last, a matrix of the first features, and its model."""
    bars = [put(store, BARS, WEEK, number) for number in range(3)]
    # The first features were made from the first bars, and are an earlier version by now.
    features = [put(store, FEATURES_ASSET, WEEK, 10, {BARS: {WEEK: bars[0].content_hash}})]
    matrix = put(store, MATRIX, NEXT_WEEK, 20, {FEATURES_ASSET: {WEEK: features[0].content_hash}})
    model = put(store, MODEL, NEXT_WEEK, 30, {MATRIX: {NEXT_WEEK: matrix.content_hash}})
    bars.append(put(store, BARS, WEEK, 3))
    features.append(put(store, FEATURES_ASSET, WEEK, 11, {BARS: {WEEK: bars[3].content_hash}}))
    return {BARS: bars, FEATURES_ASSET: features, MATRIX: [matrix], MODEL: [model]}


def age_everything(store: PartitionStore) -> None:
    old = (NOW - timedelta(days=400)).timestamp()
    for key in store.objects.all_keys():
        os.utime(store.objects.address(key), (old, old))


def prune(store: PartitionStore) -> list[str]:
    return pruned(store, Policy(days=1, versions=0), NOW)


# --- retention


def test_prune_keeps_the_bars_behind_the_features_behind_a_matrix_and_nothing_else(store):
    made = chain(store)
    age_everything(store)
    unused = sorted(store.version_key(footer) for footer in made[BARS][1:3])
    assert prune(store) == unused
    assert store.versions(BARS, WEEK) == [made[BARS][0].content_hash]
    assert store.versions(FEATURES_ASSET, WEEK) == [made[FEATURES_ASSET][0].content_hash]


def test_prune_follows_an_issued_signal_to_the_session_of_the_features_and_the_model_it_was_decided_on(store):
    made = chain(store)
    session, of_session = next(iter(made[FEATURES_ASSET][0].session_hashes.items()))
    inputs = {
        FEATURES_ASSET: {f"{WEEK}#{session}": of_session},
        MODEL: {NEXT_WEEK: made[MODEL][0].content_hash},
    }
    put(store, SIGNALS, DAY, 40, inputs)
    # The model and its matrix are replaced: only the signal still needs the first ones.
    matrix = put(store, MATRIX, NEXT_WEEK, 21, {FEATURES_ASSET: {WEEK: made[FEATURES_ASSET][1].content_hash}})
    put(store, MODEL, NEXT_WEEK, 31, {MATRIX: {NEXT_WEEK: matrix.content_hash}})
    age_everything(store)
    prune(store)
    assert store.versions(MODEL, NEXT_WEEK) == [made[MODEL][0].content_hash]
    assert store.versions(MATRIX, NEXT_WEEK) == [made[MATRIX][0].content_hash]
    assert store.versions(FEATURES_ASSET, WEEK) == [made[FEATURES_ASSET][0].content_hash]
    assert store.versions(BARS, WEEK) == [made[BARS][0].content_hash]
    assert session_hashes(FRAME.with_columns(pl.col("volume") + 10))[session] == of_session


@pytest.mark.parametrize("seed", range(5))
def test_prune_of_random_histories_leaves_every_reference_readable(store, seed):
    rng = random.Random(seed)
    footers = [put(store, BARS, WEEK, 0)]
    for number in range(1, 25):
        upstream = {BARS: None, FEATURES_ASSET: BARS, MATRIX: FEATURES_ASSET, MODEL: MATRIX}
        asset = rng.choice(list(upstream))
        known = [each for each in footers if each.asset == upstream[asset]]
        chosen = [rng.choice(known)] if known else []
        inputs = {each.asset: {each.partition: each.content_hash} for each in chosen}
        footers.append(put(store, asset, WEEK, number, inputs))
    by_id = {(each.asset, each.partition, each.content_hash): each for each in footers}
    age_everything(store)
    prune(store)
    held = {
        (asset, WEEK, digest)
        for asset in stored_partitions(store)
        for digest in (store.footer(asset, WEEK).content_hash, *store.versions(asset, WEEK))
    }
    needed, waiting = set(), current_footers(store)
    while waiting:
        for asset, hashes in waiting.pop().inputs.items():
            for partition, digest in hashes.items():
                needed.add((asset, partition, digest))
                waiting.append(by_id[asset, partition, digest])
    current = {(asset, WEEK, store.footer(asset, WEEK).content_hash) for asset in stored_partitions(store)}
    assert held == needed | current


def test_unchanged_recomputation_stores_nothing_and_leaves_what_depends_on_it_current(store):
    bars = put(store, BARS, WEEK, 0)
    put(store, FEATURES_ASSET, WEEK, 1, {BARS: {WEEK: bars.content_hash}})
    before = store.objects.tags("us_tech")
    content = Content(FRAME.with_columns(pl.col("volume") + 0.0), has_session_hashes=True)
    again = store.publish(BARS, WEEK, content, replace(STAMP, run_id="run-2", created_at="2021-01-01"))
    assert again.outcome == "unchanged"
    assert store.objects.tags("us_tech") == before
    versions = {BARS: "code-1", FEATURES_ASSET: "code-1"}
    assert CurrencyChecker(store, versions).is_current(FEATURES_ASSET, WEEK).is_current
    put(store, BARS, WEEK, 5)
    assert not CurrencyChecker(store, versions).is_current(FEATURES_ASSET, WEEK).is_current


def test_references_name_readers_of_current_and_of_earlier_contents(store):
    made = chain(store)
    references = find_references(store, current_footers(store))
    readers = {key: [each.asset for each in found] for key, found in references.items()}
    assert readers == {
        (BARS, WEEK, made[BARS][0].content_hash): [FEATURES_ASSET],
        (BARS, WEEK, made[BARS][3].content_hash): [FEATURES_ASSET],
        (FEATURES_ASSET, WEEK, made[FEATURES_ASSET][0].content_hash): [MATRIX],
        (MATRIX, NEXT_WEEK, made[MATRIX][0].content_hash): [MODEL],
    }


# --- commands


def test_versions_show_contents_lineage_and_who_needs_them(store, capsys):
    made = chain(store)
    assert main(["versions", FEATURES_ASSET, WEEK]) == 0
    first, second = made[FEATURES_ASSET]
    assert capsys.readouterr().out.splitlines() == [
        f"{FEATURES_ASSET} {WEEK}: 1 earlier version kept",
        f"  current {second.content_hash}",
        "    made 2020-01-12T07:00:00+00:00 by run run-1, code code-1, 15 rows",
        f"    from {BARS}: {WEEK} {made[BARS][3].content_hash[:12]}",
        f"  version {first.content_hash}",
        "    made 2020-01-12T07:00:00+00:00 by run run-1, code code-1, 15 rows",
        f"    from {BARS}: {WEEK} {made[BARS][0].content_hash[:12]}",
        f"    read by {MATRIX}: {NEXT_WEEK}",
    ]


def test_versions_after_a_restore_do_not_list_the_current_content_as_an_earlier_one(store, capsys):
    made = chain(store)
    restored = made[BARS][1].content_hash
    assert main(["restore", BARS, WEEK, restored]) == 0
    assert restored in store.versions(BARS, WEEK)
    capsys.readouterr()
    assert main(["versions", BARS, WEEK]) == 0
    lines = capsys.readouterr().out.splitlines()
    # Four contents were made.
    assert lines[0] == f"{BARS} {WEEK}: 3 earlier versions kept"
    hashes = [line.split() for line in lines if line.startswith(("  current", "  version"))]
    assert hashes[0] == ["current", restored]
    assert sorted(digest for _, digest in hashes) == sorted(each.content_hash for each in made[BARS])


def test_versions_of_a_damaged_version_say_so(store):
    made = chain(store)
    Path(store.objects.address(store.version_key(made[BARS][1]))).write_bytes(b"PAR1")
    kept = list_kept(store, BARS, [WEEK])[WEEK]
    assert [each.footer is None for each in kept].count(True) == 1
    assert kept[0].is_current


def test_versions_of_a_damaged_current_content_say_how_it_is_mended(store, capsys):
    made = chain(store)
    for asset, partition in ((BARS, WEEK), (MODEL, NEXT_WEEK)):
        path = Path(store.objects.address(store.key(asset, partition)))
        path.write_bytes(path.read_bytes()[:100])
    damaged = "  current DAMAGED: 100 bytes that are no whole Parquet file"
    assert main(["versions", MODEL]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{MODEL} {NEXT_WEEK}: 0 earlier versions kept",
        damaged,
        f"  make it again: hfp materialise {MODEL} --from {NEXT_WEEK}",
    ]
    assert main(["versions", BARS, WEEK]) == 0
    head, told, *_, again, restore = capsys.readouterr().out.splitlines()
    assert (head, told) == (f"{BARS} {WEEK}: 3 earlier versions kept", damaged)
    assert again == f"  make it again: hfp materialise {BARS} --from {WEEK}"
    command = restore.removeprefix("  or make a version current again: hfp ")
    # One that is gone is told as one that is damaged, and so is a bit in the middle.
    Path(store.objects.address(store.key(BARS, WEEK))).unlink()
    assert main(["versions", BARS, WEEK]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [head, "  current DAMAGED: gone"]
    damage(Path(store.objects.address(store.key(FEATURES_ASSET, WEEK))))
    assert main(["versions", FEATURES_ASSET, WEEK]) == 0
    assert "  current DAMAGED: a file whose bytes were changed after it was written\n" in capsys.readouterr().out
    # The command, typed as it is printed.
    assert main(command.split()) == 0
    assert store.read(BARS, WEEK).footer.content_hash in {each.content_hash for each in made[BARS][:3]}


@pytest.mark.parametrize("command", ["versions", "verify", "diff", "restore"])
def test_command_on_an_unknown_asset_or_partition_names_those_near(store, capsys, command):
    chain(store)
    rest = {"versions": [], "verify": [], "diff": ["a", "b"], "restore": ["a"]}[command]
    partition = [] if command == "verify" else [WEEK]
    assert main([command, "us_teck/bars", *partition, *rest]) == 1
    assert f"near it: {BARS}" in capsys.readouterr().err
    if partition:
        assert main([command, BARS, "2020-01-06", *rest]) == 1
        assert f"near it: {WEEK}" in capsys.readouterr().err


def test_damaged_signals_are_not_said_to_be_made_again(store, capsys):
    put(store, SIGNALS, DAY, 1)
    path = Path(store.objects.address(store.key(SIGNALS, DAY)))
    path.write_bytes(path.read_bytes()[:100])
    remedy = "put back the bytes that were issued, from a backup: issued signals are not made again"
    assert main(["verify", SIGNALS]) == 1
    assert capsys.readouterr().out.splitlines()[0].endswith(f"; {remedy}")
    assert main(["versions", SIGNALS]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"  {remedy}"
    with pytest.raises(StoredPartitionError, match=f"; {remedy}$"):
        put(store, SIGNALS, DAY, 2)


def test_verify_of_a_sound_store_says_how_much_it_looked_at(store, capsys):
    chain(store)
    store.publish(MODEL, WEEK, Content(FRAME, {"model.ubj": b"trees"}), STAMP)
    n_bytes = sum(len(store.objects.get(key)) for key in store.objects.all_keys())
    assert main(["verify"]) == 0
    assert capsys.readouterr().out == f"10 objects, {n_bytes / 1e6:,.1f} MB: no mismatches\n"


def damage(path: Path) -> None:
    payload = path.read_bytes()
    path.write_bytes(payload[:200] + bytes([payload[200] ^ 1]) + payload[201:])


def test_verify_reads_every_decision_and_names_the_one_that_was_changed(store, capsys):
    for strategy, rule in (("one", "long"), ("one", "short"), ("two", "long")):
        record_decision(store.objects, strategy, draft(PROMOTED, rule))
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.endswith("promotions: 3 decisions on 2 strategies: no damaged\n")
    path = Path(store.objects.address("_promotions/one/00000002.json"))
    path.write_bytes(path.read_bytes().replace(b'"why"', b'"who"'))
    assert main(["verify"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "promotions: 1 decisions on 2 strategies: 1 damaged"
    assert told[-2].startswith("MISMATCH `") and "_promotions/one/00000002.json` must be a record" in told[-2]


def test_verify_names_every_mismatch_with_path_and_hashes(store, capsys):
    made = chain(store)
    model = store.publish(MODEL, WEEK, Content(FRAME, {"model.ubj": b"trees"}), STAMP).footer
    current, version = store.key(BARS, WEEK), store.version_key(made[BARS][1])
    artifact, copied = store.attachment_key(model, "model.ubj"), store.version_key(made[BARS][2])
    damage(Path(store.objects.address(current)))
    Path(store.objects.address(version)).write_bytes(b"truncated")
    Path(store.objects.address(artifact)).write_bytes(b"other")
    # A sound file under the name of another content.
    store.objects.put(copied, store.objects.get(store.version_key(made[BARS][0])))
    assert main(["verify"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("4 mismatches")
    found = {key: line for key in (current, version, artifact, copied) for line in lines if f"/{key}:" in line}
    assert len(found) == len(lines) - 1 == 4
    assert "seal of" in found[current]
    assert found[current].endswith(f"; make it again: hfp materialise {BARS} --from {WEEK}")
    assert found[version].endswith("expected what was published, found 9 bytes that are no whole Parquet file")
    assert f"expected {model.attachments['model.ubj']}" in found[artifact]
    assert found[copied].endswith(f"expected {made[BARS][2].content_hash}, found {made[BARS][0].content_hash}")
    assert main(["verify", MATRIX]) == 0
    assert main(["verify", BARS]) == 1


def test_verify_names_a_partition_that_is_gone_once_and_what_was_made_from_it(store, capsys):
    chain(store)
    assert main(["verify"]) == 0
    capsys.readouterr()
    gone = store.key(BARS, WEEK)
    store.objects.delete(gone)
    assert main(["verify"]) == 1
    told, summary = capsys.readouterr().out.splitlines()
    what = f"MISMATCH {BARS} {WEEK}: partition of {store.objects.address(gone)}: expected what {FEATURES_ASSET} {WEEK} "
    assert told.startswith(what)
    remedy = f"; make it again: hfp materialise {BARS} --from {WEEK}"
    assert told.endswith(f"was made from, found nothing{remedy}") and summary.endswith(": 1 mismatch")
    # Asked of what was made from it, of the asset that it was of, and of another.
    put(store, BARS, NEXT_WEEK, 50)
    for asset, status in ((FEATURES_ASSET, 1), (BARS, 1), (MODEL, 0)):
        assert main(["verify", asset]) == status
        lines = capsys.readouterr().out.splitlines()
        assert lines[:-1] == [told] * status


def test_verify_of_a_partition_without_its_attachment_names_it(store, capsys):
    model = store.publish(MODEL, WEEK, Content(FRAME, {"model.ubj": b"trees"}), STAMP).footer
    store.objects.delete(store.attachment_key(model, "model.ubj"))
    assert main(["verify", MODEL]) == 1
    assert "found nothing" in capsys.readouterr().out


def test_diff_shows_rows_added_removed_and_changed_with_old_and_new(store, capsys):
    old = FRAME.sort("symbol", "ts")
    row = old.row(3, named=True)
    same_row = (pl.col("symbol") == row["symbol"]) & (pl.col("session") == row["session"])
    new = old.with_columns(close=pl.when(same_row).then(123.5).otherwise("close"))[1:]
    new = pl.concat([new, old[:1].with_columns(symbol=pl.lit("ZZZ"))])
    first = store.publish(BARS, WEEK, Content(old, sources={"a.csv": "1"}), STAMP).footer
    second = store.publish(BARS, WEEK, Content(new, sources={"a.csv": "2"}), STAMP).footer
    assert main(["diff", BARS, WEEK, first.content_hash[:8]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{BARS} {WEEK}: {first.content_hash[:12]} -> {second.content_hash[:12]}"
    assert "  files added, changed or gone: a.csv" in lines
    assert "  rows added: 1, removed: 1, changed: 1" in lines
    assert "  values changed by column: close 1" in lines
    assert f"  ~ {row['symbol']} {row['session']} {row['ts']}: close {row['close']} -> 123.5" in lines
    assert [line[2:15] for line in lines if line[2] in "+-"] == ["+ symbol=ZZZ ", f"- symbol={old['symbol'][0]}"]
    assert main(["diff", BARS, WEEK, "current", "current"]) == 0
    assert capsys.readouterr().out.endswith("the same 15 rows\n")


def test_diff_of_an_unknown_hash_names_those_that_are_kept(store, capsys):
    made = chain(store)
    assert main(["diff", BARS, WEEK, "zzz"]) == 1
    said = capsys.readouterr().err
    assert f"{made[BARS][3].content_hash[:12]} (current)" in said
    assert made[BARS][0].content_hash[:12] in said


def test_compare_frames_counts_nan_null_types_and_rows_without_a_name():
    old = pl.DataFrame({"symbol": ["A", "B", None], "x": [float("nan"), None, 1.0], "gone": [1, 2, 3]})
    new = pl.DataFrame({"symbol": ["A", "B", None], "x": [float("nan"), float("nan"), 1.0], "come": [1, 2, 3]})
    found = compare_frames(old, new)
    assert found.changed.rows() == [("B", "x", None, "NaN")]
    assert (found.columns_added, found.columns_removed, found.counts) == (("come",), ("gone",), {"x": 1})
    unnamed = compare_frames(pl.DataFrame({"v": [1, 1, 2]}), pl.DataFrame({"v": [1, 3]}))
    assert (unnamed.keys, unnamed.changed.rows(), unnamed.removed.rows()) == (("row",), [(1, "v", "1", "3")], [(2, 2)])
    assert compare_frames(old, old).is_empty


def test_restore_by_command_brings_a_version_back_and_says_what_follows(store, capsys):
    made = chain(store)
    assert main(["restore", BARS, WEEK, made[BARS][1].content_hash[:10]]) == 0
    assert store.footer(BARS, WEEK).content_hash == made[BARS][1].content_hash
    assert "is now out of date" in capsys.readouterr().out
    assert main(["restore", BARS, WEEK, "zzz"]) == 1


def test_restore_of_what_was_made_from_files_says_what_keeps_it(store, capsys):
    frames = (pl.DataFrame({"symbol": ["A"], "x": [value]}) for value in (1.0, 2.0))
    first, _ = (store.publish(BARS, WEEK, Content(each, sources={"2013-01-07.csv": "1"}), STAMP) for each in frames)
    assert main(["restore", BARS, WEEK, first.footer.content_hash]) == 0
    said = capsys.readouterr().out
    assert (
        "the next file or answer for its weeks makes it anew: to keep it, let the source hold that again (2013-01-07.csv)."
        in said
    )


def test_restore_of_what_is_current_already_changes_nothing_and_says_so(store, capsys):
    made = chain(store)
    for digest in (made[BARS][3].content_hash, made[BARS][1].content_hash):
        # The last content, which is no version, and then an earlier one, which is still kept as a version.
        if digest != store.footer(BARS, WEEK).content_hash:
            assert main(["restore", BARS, WEEK, digest]) == 0
        before = store.objects.tags("us_tech"), store.objects.all_keys()
        capsys.readouterr()
        assert main(["restore", BARS, WEEK, digest[:10]]) == 0
        assert capsys.readouterr().out == f"{BARS} {WEEK} is that already ({digest[:12]}): nothing was changed.\n"
        assert (store.objects.tags("us_tech"), store.objects.all_keys()) == before


def test_restore_of_a_damaged_current_content_brings_its_version_back(store, capsys):
    made = chain(store)
    digest = made[BARS][1].content_hash
    assert main(["restore", BARS, WEEK, digest]) == 0
    damage(Path(store.objects.address(store.key(BARS, WEEK))))
    capsys.readouterr()
    assert main(["restore", BARS, WEEK, digest]) == 0
    assert f"{BARS} {WEEK} is again what was made on" in capsys.readouterr().out
    assert store.footer(BARS, WEEK).content_hash == digest


def test_output_of_commands_holds_nothing_that_a_terminal_obeys(store, capsys):
    store.publish(BARS, WEEK, Content(FRAME), replace(STAMP, run_id="\x1b[2Jrun"))
    assert main(["versions", BARS]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_current_ends_with_status_1_where_a_partition_is_out_of_date(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert main(["current", "us_tech/bars"]) == 0
    store = PartitionStore(ObjectStore(str(tmp_path / "storage")))
    content = Content(pl.DataFrame({"a": [1]}))
    for week in ("2012-01-01", "2012-01-22"):
        store.publish("us_tech/bars", week, content, Stamp("1", "r", "2026-01-01T00:00Z"))
    assert main(["current", "us_tech/bars"]) == 1
    said = capsys.readouterr().out
    assert "us_tech/bars 2012-01-01: made by code and settings 1, now " in said
    assert (
        "us_tech/bars: nothing is stored for 2012-01-08, 2012-01-15, between 2012-01-01 and 2012-01-22; where it should be: "
        "hfp materialise us_tech/bars --from 2012-01-08 --to 2012-01-15\n"
    ) in said
    for week in ("2012-01-01", "2012-01-22"):
        again = f"hfp materialise us_tech/bars --from {week} --to {week} --with-inputs"
        assert f"us_tech/bars: make {week} again: {again}\n" in said
    assert "us_tech/bars: 0 of 2 stored partitions are current" in said
    assert main(["status"]) == 0
    said = capsys.readouterr().out
    # No bars are late, and yet they are not those of today's market.
    assert "Made by other code or settings" in said and said.count("\n  us_tech/bars\n") == 1
    assert (
        "\nWeeks of which nothing is stored, between weeks of which something is; what reads them lacks it:\n"
        "  us_tech/bars 2012-01-08 to 2012-01-15: hfp materialise us_tech/bars --from 2012-01-08 --to 2012-01-15\n"
    ) in said
    assert main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["partition"] for each in found["holes"]] == ["2012-01-08", "2012-01-15"]
    assert found["made_by_other_code_or_settings"] == ["us_tech/bars"]


def test_materialise_says_what_a_day_is_that_is_no_partition_and_how_all_that_is_missing_is_made(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    signals = ["materialise", "tech_ranking/signals", "--from"]
    for command, said in (
        (
            ["retrain", "tech_ranking", "--week", "2012-07-03"],
            "a Tuesday; weeks are named by their Sundays, take 2012-07-01.",
        ),
        # Christmas Day, a Tuesday.
        ([*signals, "2012-12-25"], "was 2012-12-25, no session; take 2012-12-24, the one before."),
        ([*signals, "1999-01-04"], "was 1999-01-04."),
        (
            [*signals, "2012-12-24"],
            "hfp: all that it reads must be published, was not; make it in one go: "
            "hfp materialise tech_ranking/signals --from 2012-12-24 --with-inputs\n",
        ),
        # Of a range too, and the range is that which was typed.
        (
            ["materialise", "us_tech/features/technical", "--from", "2012-12-09", "--to", "2012-12-23"],
            "hfp: all that it reads must be published, was not; make it in one go: "
            "hfp materialise us_tech/features/technical --from 2012-12-09 --to 2012-12-23 --with-inputs\nfirst: ",
        ),
        # One command, and the first line of all: the others have an order that they do not say.
        (
            ["retrain", "tech_ranking", "--week", "2012-12-23"],
            "hfp: all that it reads must be published, was not; make it in one go: "
            "hfp retrain tech_ranking --week 2012-12-23 --with-inputs\n`us_tech/",
        ),
    ):
        assert main(command) == 1
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["rsi", "."])
def test_command_whose_reader_has_left_ends_as_other_tools_do_and_says_nothing(pattern):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "hf_pipelines.commands.cli", "list", "features", pattern]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
