"""Alerts on the command line: what a person sees who tries the channels, and how a dead one is shown."""

import json
import logging
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.resources import settings
from hf_pipelines.resources.alert_desk import DeskKeeper
from hf_pipelines.resources.delivery import Delivery
from hf_pipelines.resources.incidents import BOOK_KEY, Book
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines_tests.alert_receivers import web_service

CANARY = "canaryAb3Xy"


def test_alert_test_sends_to_each_channel_and_says_what_each_takes(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with web_service() as service:
        urls = f"desk=json://127.0.0.1:{service.port}/hook/{CANARY} dead=json://127.0.0.1:1/{CANARY}"
        monkeypatch.setenv("HF_ALERT_URLS", urls)
        monkeypatch.setenv("HF_ALERT_ROUTES", "dead: kind=drift strategy=no_such_*; desk: severity=critical")
        # At any hour.
        monkeypatch.setenv("HF_ALERT_QUIET", "00:00-23:59")
        assert main(["alert", "test"]) == 1
        said = capsys.readouterr()
        assert main(["alert", "test", "--channel", "desk"]) == 0
        alone = capsys.readouterr()
    for shown in (said.out + said.err, alone.out + alone.err):
        assert CANARY not in shown
    lines = said.out.splitlines()
    assert lines[0].startswith("desk: sent in ") and lines[1].startswith(
        "dead: NOT sent: channel dead did not take it: "
    )
    assert "desk: severity=critical" in lines and "dead: strategy=no_such_* kind=drift" in lines
    assert "NOTE: route `dead: strategy=no_such_* kind=drift`: no strategy or market is named no_such_*" in said.out
    assert "NOTE: no channel takes warning run, warning check" in said.out
    assert "Quiet hours 00:00-23:59 UTC: only what is critical is sent" in said.out
    assert "dead: NOT" not in alone.out and len(service.got) == 2
    body = service.bodies()[0]
    assert body["title"] == "test: alerts of hf_pipelines" and "nothing has failed" in body["message"]


@pytest.mark.parametrize(
    ("variables", "options", "said"),
    [
        ({}, [], "`HF_ALERT_URLS` must name a channel to be tried, was empty; set HF_ALERT_URLS, such as"),
        ({"HF_ALERT_URLS": "a=json://h/x"}, ["--channel", "b"], "`channel` must be one of a, was 'b'."),
        ({"HF_ALERT_URLS": f"a=json://h/x {CANARY}"}, [], "`HF_ALERT_URLS`, address 2, must be like slack://"),
    ],
)
def test_alert_test_without_a_channel_that_can_be_used_says_what_to_set(
    monkeypatch, capsys, tmp_path, variables, options, said
):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["alert", "test", *options]) == 1
    shown = capsys.readouterr()
    assert said in shown.err and CANARY not in shown.err + shown.out


def test_status_shows_a_channel_that_takes_nothing_and_is_not_well(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ALERT_URLS", f"desk=json://127.0.0.1:1/{CANARY} other=json://127.0.0.1:1/{CANARY}")
    monkeypatch.setenv("HF_ALERT_ROUTES", "other: kind=drift")
    settings.prepare_dagster_home()
    instance, log = dg.DagsterInstance.get(), logging.getLogger("alerts-test")
    book, before = Book(), datetime.now(UTC) - timedelta(hours=1)
    book.open_incident(
        "check",
        [("a/bars", "2013-01-06")],
        cause="c",
        remedy="r",
        url="u",
        now=before,
        check="complete",
        severity="WARN",
    )
    for minutes in (0, 2, 4):
        at = before + timedelta(minutes=minutes)
        Delivery(lambda _: None, book, Notifier(), log, at, DeskKeeper(instance, BOOK_KEY, log)).run()
    assert main(["status", "--strict"]) == 2
    shown = capsys.readouterr().out
    assert CANARY not in shown and "  other: 0 messages sent\n" in shown
    lines = shown[shown.index("Alert channels:") :].splitlines()
    assert lines[1] == "  desk: 0 messages sent, 2 tries refused, 1 alerts wait"
    assert lines[2].startswith("    DOES NOT TAKE ALERTS: channel desk did not take it: A Connection error")
    assert lines[3] == "    do: hfp alert test --channel desk"
    main(["status", "--json"])
    channels = json.loads(capsys.readouterr().out)["alert_channels"]
    assert [(each["name"], each["n_refused"], each["waiting"]) for each in channels] == [
        ("desk", 2, 1),
        ("other", 0, 0),
    ]
