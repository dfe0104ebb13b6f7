"""`hfp ledger`: what it says of trials, and that `hfp verify` looks at them too."""

import json
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.trial_ledger import record_trial
from hf_pipelines.resources.trial_ledger.records import RECORDS, RETURNS
from hf_pipelines_tests.resources.trial_ledger.trying import new_process

DAYS = [date(2012, 1, 2) + timedelta(each) for each in range(300)]


@pytest.fixture
def objects(tmp_path, monkeypatch) -> ObjectStore:
    for name, value in (("HF_DATA_DIR", tmp_path / "data"), ("HF_ACTOR", "ada"), ("DAGSTER_HOME", tmp_path / "home")):
        monkeypatch.setenv(name, str(value))
    new_process()
    found = ObjectStore(str(tmp_path / "data" / "storage"))
    rng = np.random.default_rng(0)
    for number in range(6):
        with record_trial(strategy="idea", configuration={"lookback": number}, market="desk", objects=found) as trial:
            trial.end(returns=(DAYS, rng.normal(0.0002, 0.01, 300)))
    with record_trial(strategy="copy", configuration={"lookback": 5}, market="desk", objects=found):
        pass
    return found


def test_summary_counts_inherits_and_deflates(objects, capsys):
    assert main(["ledger", "summary", "copy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["counted"], found["recorded"]) == (6, 7)
    assert found["inherited_from"] == {"idea": 6} and found["by_actor"] == {"ada": 6}
    judged = found["deflation"]
    assert judged["n_independent"] == 6 and judged["deflated"] < judged["probabilistic"]
    assert main(["ledger", "summary"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("6 trials count, of 7 recorded (completed: 7)\n")
    assert "independent trials: 6" in said and found["heads"] in said
    # No calendar is known of a market that only a program knows.
    assert (
        found["sessions_per_year"] is None
        and f"Sharpe ratio per session: {found['best']['sharpe']:.4f} over 300" in said
    )


def test_summary_of_a_span_and_of_an_unknown_name(objects, capsys):
    assert main(["ledger", "summary", "--until", "2000-01-01"]) == 0
    assert capsys.readouterr().out.startswith("0 trials count, of 0 recorded (none)\nno trial has a return series")
    assert main(["ledger", "summary", "ide"]) == 1
    assert "`strategy` must be one that the ledger knows (copy, idea), was 'ide'" in capsys.readouterr().err
    assert main(["ledger", "summary", "--since", "monday"]) == 1
    assert "`since` must be a date" in capsys.readouterr().err


def test_verify_names_a_record_that_was_changed_and_one_that_is_gone(objects, capsys):
    assert main(["ledger", "verify"]) == 0
    assert "trial ledger: 14 records in 1 chains, 1 heads kept apart: no mismatch" in capsys.readouterr().out
    keys = objects.keys(RECORDS)
    objects.delete_each(keys[-1:])
    assert main(["verify"]) == 1
    assert "record 13 of writer" in (said := capsys.readouterr().out)
    assert "the end of the chain was cut off: this machine has noted record 13" in said
    objects.put(keys[2], objects.get(keys[2]).replace(b"ada", b"eve"))
    assert main(["ledger", "verify"]) == 1
    said = capsys.readouterr().out
    assert f"{keys[2]} is of another SHA-256 than it says" in said
    # It was changed, not dropped.
    assert "dropped" not in said
    assert main(["ledger", "summary"]) == 1
    assert "DAMAGED" in capsys.readouterr().out


def test_summary_says_what_the_ledger_lacks_without_verifying_it(objects, capsys):
    keys = objects.keys(RECORDS)
    chain = keys[0].rpartition("/")[0]

    def damage(*gone: str) -> list[str]:
        kept = {key: objects.get(key) for key in gone}
        objects.delete_each(gone)
        assert main(["ledger", "summary"]) == 1
        for key, payload in kept.items():
            objects.put(key, payload)
        return [each for each in capsys.readouterr().out.splitlines() if each.startswith("DAMAGED")]

    root = objects.uri
    # In the middle, at the end, and all of it: this machine knows how long the chain was.
    for gone in (keys[:1], keys[5:7], keys[-1:], keys):
        assert damage(*gone) == [f"DAMAGED {root}/{chain} is a chain without {len(gone)} of its 14 records"]
    series = objects.keys(RETURNS)[0]
    assert damage(series) == [f"DAMAGED {root}/{series} is gone, or not the return series that was stored"]
    assert main(["ledger", "summary"]) == 0


def test_import_takes_stored_results_in_once(objects, capsys):
    store = PartitionStore(objects)
    frame = pl.DataFrame({"prediction": [0.1]})
    for week, made_by in (("2012-01-01", "v1"), ("2012-01-08", "v1"), ("2012-01-15", "v2")):
        content = Content(frame, inputs={"old/training_matrix": {week: "a" * 64}}, facts={"metrics": {"auc": 0.5}})
        store.publish("old/cv_results", week, content, Stamp(made_by, "run", "2012-01-01T00:00:00"), kind="cv_results")
    for n in (3, 0):
        assert main(["ledger", "import"]) == 0
        assert capsys.readouterr().out == f"old/cv_results: {n} stored results were taken in\n"
    assert main(["ledger", "summary", "old", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Of what the same code made the weeks are refits.
    assert (found["recorded"], found["counted"], found["by_source"]) == (3, 2, {"imported": 2})


def test_verify_of_one_asset_leaves_the_ledger_alone(objects, capsys):
    assert main(["verify", "idea/cv_results"]) == 1
    assert "trial ledger" not in capsys.readouterr().out


def test_actor_that_is_no_name_is_refused(objects, monkeypatch, capsys):
    monkeypatch.setenv("HF_ACTOR", "a b\n")
    assert main(["ledger", "summary"]) == 1
    assert "`HF_ACTOR` must be a name" in capsys.readouterr().err
