"""Alert desk: a book's incidents reach real receivers once, through restarts, a kill in between, two daemons and dead channels."""

import json
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from hf_pipelines.resources.alert_desk import DeskKeeper, load_desk
from hf_pipelines.resources.delivery import Delivery
from hf_pipelines.resources.incidents import BOOK_KEY, Book, load_book, save_book
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines.serving.lookout import tell_end
from hf_pipelines_tests.alert_receivers import Service, web_service

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LOG = logging.getLogger("alert-desk-test")
CANARY = "canaryAb3Xy"
WEEK = ("a/bars", "2013-01-06")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("HF_WEBHOOK_URL", raising=False)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with web_service() as made:
        monkeypatch.setenv("HF_ALERT_URLS", f"desk=json://127.0.0.1:{made.port}/hook/{CANARY}")
        yield made


def deliver(instance: dg.DagsterInstance, book: Book, at: datetime) -> None:
    """What a look of the watch ends with, by a process that has just begun."""
    save_book(instance, book)
    desk = DeskKeeper(instance, BOOK_KEY, LOG)
    Delivery(partial(save_book, instance), load_book(instance), Notifier(), LOG, at, desk).run()


def failed_book() -> Book:
    book = Book()
    book.open_incident("run", [WEEK], cause="row 3", remedy="mend it", url="http://ui/runs/1", now=NOW, seed="1")
    return book


def titles(service: Service) -> list[str]:
    return [body["title"] for body in service.bodies()]


def test_incident_is_told_once_over_restarts_and_its_end_once(instance, service, tmp_path):
    book = failed_book()
    for minutes in (0, 1, 2, 30, 600):
        deliver(instance, book, NOW + minutes * MINUTE)
        book = load_book(instance)
    assert titles(service) == ["CRITICAL: failed run: a/bars 2013-01-06"]
    assert service.bodies()[0]["message"].splitlines() == [
        "row 3", "Do: mend it", "http://ui/runs/1", "Since 2026-11-30 12:00 UTC.",
    ]  # fmt: skip
    # A second one of the same is counted.
    book.open_incident("run", [("a/bars", "2013-01-13")], cause="c", remedy="r", url="u", now=NOW + 700 * MINUTE)
    deliver(instance, book, NOW + 700 * MINUTE)
    deliver(instance, load_book(instance), NOW + 710 * MINUTE)
    deliver(instance, load_book(instance), NOW + 1500 * MINUTE)
    assert titles(service)[1:] == ["STILL OPEN: failed run: a/bars 2013-01-06 (2 times)"]
    book = load_book(instance)
    book.heal("run", [WEEK, ("a/bars", "2013-01-13")], cause="made by run 12ab", now=NOW)
    for minutes in (1600, 1606, 1607, 1700, 9000):
        deliver(instance, book, NOW + minutes * MINUTE)
        book = load_book(instance)
    assert titles(service)[2:] == ["RESOLVED: failed run: a/bars 2013-01-06 (2 times)"]
    assert load_desk(instance, BOOK_KEY).alerts == {}
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert CANARY.encode() not in stored and b"a/bars" in stored


def test_what_cannot_heal_and_what_is_noted_are_told_once(instance, service):
    book = Book()
    book.open_incident(
        "run", [("s/signals", "2012-01-08")], cause="no session", remedy="r", url="u", now=NOW, can_heal=False
    )
    book.note(
        "promotion", "s", partition="2013-01-06", cause="1.0.0 serves", remedy="", url="u", now=NOW, seed="1"
    )  # fmt: skip
    deliver(instance, book, NOW)
    for minutes in (2, 600, 3000):
        deliver(instance, load_book(instance), NOW + minutes * MINUTE)
    assert titles(service) == ["2 happened"]
    text = service.bodies()[0]["message"]
    assert "- failed run: s/signals 2012-01-08" in text and "- promoted: s 2013-01-06\n  1.0.0 serves" in text


def test_dead_channel_is_tried_ever_more_rarely_shown_and_told_all_when_it_is_back(instance, service, caplog):
    service.status = 500
    book = failed_book()
    tried = []
    for half_minute in range(60):
        n_before = len(service.got)
        deliver(instance, book, NOW + half_minute * MINUTE / 2)
        book = load_book(instance)
        tried += [half_minute / 2] * (len(service.got) - n_before)
    # After a minute, at the next look, and 1, 2, 4, 8 and 10 minutes after the last time.
    assert tried == [1.0, 1.5, 2.5, 4.5, 8.5, 16.5, 26.5]
    state = load_desk(instance, BOOK_KEY).channel("desk")
    assert (state.n_sent, state.n_refused, state.refusals) == (0, 7, 7)
    assert state.fault.startswith("channel desk did not take it: ") and CANARY not in state.fault
    assert any("1 alerts wait, and are sent again later" in each for each in caplog.messages)
    assert CANARY not in "".join(caplog.messages)
    service.status = 200
    deliver(instance, book, NOW + 40 * MINUTE)
    state = load_desk(instance, BOOK_KEY).channel("desk")
    assert (state.n_sent, state.fault, state.retry_at) == (1, "", None) and len(service.got) == 8


def send_and_die(home: str) -> None:
    with dg.DagsterInstance.local_temp(home) as instance:
        keeper = DeskKeeper(instance, BOOK_KEY, LOG)
        # Dies where it would record that it has sent.
        DeskKeeper._save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, assignment, return-value]
        Delivery(partial(save_book, instance), load_book(instance), Notifier(), LOG, NOW + 2 * MINUTE, keeper).run()


def test_process_that_is_killed_between_sending_and_recording_sends_again_and_loses_nothing(
    instance, service, tmp_path
):
    deliver(instance, failed_book(), NOW)
    process = multiprocessing.get_context("spawn").Process(target=send_and_die, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and len(service.got) == 1
    deliver(instance, load_book(instance), NOW + 3 * MINUTE)
    deliver(instance, load_book(instance), NOW + 4 * MINUTE)
    assert titles(service) == ["CRITICAL: failed run: a/bars 2013-01-06"] * 2


def test_two_daemons_at_once_send_one_message(instance, service):
    deliver(instance, failed_book(), NOW)
    books = [load_book(instance) for _ in range(4)]
    barrier = threading.Barrier(len(books))

    def look(book: Book) -> None:
        barrier.wait()
        desk = DeskKeeper(instance, BOOK_KEY, LOG)
        Delivery(partial(save_book, instance), book, Notifier(), LOG, NOW + 2 * MINUTE, desk).run()

    threads = [threading.Thread(target=look, args=(book,)) for book in books]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(service.got) == 1


def test_settings_that_cannot_be_used_fail_no_look_and_lose_nothing(instance, service, monkeypatch, caplog):
    good = os.environ["HF_ALERT_URLS"]
    monkeypatch.setenv("HF_ALERT_URLS", f"nonsense-{CANARY}")
    book = failed_book()
    for minutes in (0, 2):
        deliver(instance, book, NOW + minutes * MINUTE)
        book = load_book(instance)
    assert any(each.startswith("alerts are not sent: `HF_ALERT_URLS`, address 1,") for each in caplog.messages)
    monkeypatch.setenv("HF_ALERT_URLS", f"nosuchservice://{CANARY} {good}")
    deliver(instance, book, NOW + 4 * MINUTE)
    assert len(service.got) == 1 and CANARY not in "".join(caplog.messages)
    assert load_desk(instance, BOOK_KEY).channel("nosuchservice1").refusals == 1
    # A fault in between does not make old news new.
    monkeypatch.setenv("HF_ALERT_URLS", f"nonsense-{CANARY}")
    deliver(instance, book, NOW + 6 * MINUTE)
    monkeypatch.setenv("HF_ALERT_URLS", good)
    deliver(instance, book, NOW + 9 * MINUTE)
    assert len(service.got) == 1


def test_webhook_gets_each_message_as_before_beside_the_alerts(instance, service, monkeypatch):
    with web_service() as hook:
        monkeypatch.setenv("HF_WEBHOOK_URL", f"{hook.place}/hooks/x")
        deliver(instance, failed_book(), NOW)
        deliver(instance, load_book(instance), NOW + 2 * MINUTE)
    assert [(each["event"], each["kind"], each["asset"]) for each in hook.bodies()] == [("opened", "run", "a/bars")]
    assert len(service.got) == 1


def test_supervisor_that_gives_up_alerts_at_once(instance, service):
    tell_end("hfp stack", "code_server ended for the 6th time")
    assert titles(service) == ["CRITICAL: stopped: hfp stack"]
    assert "Do: mend that, then start `hfp stack` again" in service.bodies()[0]["message"]


def test_desk_that_was_kept_before_is_read_and_goes_on(instance, service):
    at = NOW.isoformat()
    told = {"at": at, "is_ended": False, "severity": "critical"}
    alert = {
        "cause": "row 3", "ended_at": None, "ending": "", "kind": "run", "moment": "", "n_incidents": 1, "noted_at": at, "open_ids": ["1"],
        "owner": "a", "remedy": "mend it", "severity": "critical", "subject": "a/bars", "url": "u", "what": "a/bars 2013-01-06",
    }  # fmt: skip
    channel = {
        "fault": "", "n_lost": 0, "n_refused": 0, "n_sent": 1, "refusals": 0, "retry_at": None, "sent_at": at, "told": {"run a/bars": told},
    }  # fmt: skip
    kept = {"alerts": {"run a/bars": alert}, "channels": {"desk": channel}, "n_unkept": 0}
    instance.daemon_cursor_storage.set_cursor_values({f"{BOOK_KEY}/alerts": json.dumps(kept)})
    assert json.loads(json.dumps(load_desk(instance, BOOK_KEY).to_dict())) == kept
    # Nothing is open any more.
    deliver(instance, Book(), NOW + MINUTE)
    deliver(instance, Book(), NOW + 9 * MINUTE)
    assert titles(service) == ["RESOLVED: failed run: a/bars 2013-01-06"]
    assert service.bodies()[0]["message"].startswith("it is no longer watched")
