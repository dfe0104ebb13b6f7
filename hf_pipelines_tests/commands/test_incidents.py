"""Incidents that a person looks at and puts aside: told once, and silent from then on."""

import json
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.watch import watch_sensor
from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.incidents import STOPPED_KEY, Book, load_book, save_book
from hf_pipelines.resources.notifier import LOG_NAME, Notifier
from hf_pipelines.resources.parquet_io_manager import Storage

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
PAIRS = [("small/bars", "2012-01-08"), ("small/bars", "2012-01-15")]
TOLD = {
    "cause": "no file for 2012-01-09\nthe calendar has one",
    "remedy": "lay the file down",
    "url": "http://127.0.0.1:3000/runs/1",
    "now": NOW,
}


@pytest.fixture
def instance(tmp_path, monkeypatch) -> dg.DagsterInstance:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_ACTOR", "anna")
    settings.prepare_dagster_home()
    return dg.DagsterInstance.get()


def opened(instance: dg.DagsterInstance, kind: str = "run", key: str | None = None) -> str:
    """An incident of a book as the watch writes it; returns its id."""
    book = Book()
    incident = book.open_incident(kind, PAIRS, **TOLD)
    book.pending = []
    save_book(instance, book, *([key] if key else []))
    assert incident is not None
    return incident.id


def tick(instance: dg.DagsterInstance) -> None:
    """What the daemon does next: the sensor `watch`, of a project without a market."""
    context = dg.build_sensor_context(instance=instance)
    watch_sensor(Watched((), ()))(context, storage=Storage(), clock=Clock(), notifier=Notifier())


def told(tmp_path: Path) -> list[tuple[str, str]]:
    (log,) = tmp_path.rglob(LOG_NAME)
    return [(each["event"], each["cause"]) for each in map(json.loads, log.read_text().splitlines())]


def test_open_incidents_of_both_books_are_listed_for_people_and_programs(instance, capsys):
    assert main(["incident", "list"]) == 0 and capsys.readouterr().out == "No incident is open.\n"
    ids = {opened(instance), opened(instance, "stopped", STOPPED_KEY)}
    assert main(["incident", "list"]) == 0
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    # The id in whole, at the beginning, whatever the terminal's width and however many lines the cause has.
    assert {block[0].split()[0] for block in blocks} == ids
    assert all(
        block[1:]
        == ["  no file for 2012-01-09", "  the calendar has one", "  do: lay the file down", f"  {TOLD['url']}"]
        for block in blocks
    )
    assert main(["incident", "list", "--json"]) == 0
    assert {each["id"] for each in json.loads(capsys.readouterr().out)} == ids


def test_dismissed_incident_is_told_once_opens_no_second_and_heals_in_silence(instance, tmp_path, capsys):
    name = opened(instance)
    assert main(["incident", "dismiss", name[:5], "--why", "a holiday of the vendor"]) == 0
    assert f"{name} is dismissed: failed run, small/bars 2012-01-08..2012-01-15 (2)" in capsys.readouterr().out
    # Before the daemon has looked, and after a restart of everything: it is open for nobody.
    assert main(["incident", "list"]) == 0 and capsys.readouterr().out == "No incident is open.\n"
    for _ in range(2):
        tick(instance)
    assert told(tmp_path) == [("dismissed", "by anna: a holiday of the vendor")]
    book = load_book(instance)
    assert [each.dismissed for each in book.open] == ["by anna: a holiday of the vendor"]
    # The same run fails again; another partition does too, and is news.
    assert book.open_incident("run", PAIRS, **TOLD) is None
    other = book.open_incident("run", [*PAIRS, ("small/bars", "2012-01-22")], **TOLD)
    assert other is not None and other.waiting == (("small/bars", "2012-01-22"),)
    book.pending = []
    book.heal("run", PAIRS, cause="it was made", now=NOW)
    assert [each.id for each in book.open] == [other.id] and book.pending == []
    # What has healed may go wrong anew.
    assert book.open_incident("run", PAIRS, **TOLD) is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["ffff", "--why", "x"],
            "`id` must be that of one open incident, was that of none: ffff; see hfp incident list.",
        ),
        (["", "--why", "x"], "`id` must be that of one open incident, was that of none"),
        (["{id}", "--why", "  "], "`why` must say why it is put aside, was empty"),
    ],
)
def test_what_cannot_be_dismissed_is_said_and_stays_open(instance, capsys, arguments, said):
    name = opened(instance)
    assert main(["incident", "dismiss", *(each.replace("{id}", name) for each in arguments)]) == 1
    assert said in capsys.readouterr().err
    tick(instance)
    assert [each.dismissed for each in load_book(instance).open] == [""]


def test_book_of_an_earlier_version_is_read_without_a_dismissal(instance):
    name = opened(instance)
    fields = json.loads(load_book(instance).to_json())
    for each in fields["open"]:
        del each["dismissed"]
    (incident,) = Book.from_json(json.dumps(fields)).open
    assert (incident.id, incident.dismissed) == (name, "")
