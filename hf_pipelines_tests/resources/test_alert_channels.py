"""Alert channels: real servers receive what a person reads; no address of one is shown, however it fails."""

import logging
import socket
import time
import traceback
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from hf_pipelines.research.alerts.desk import NEW, Alert, Due, Item
from hf_pipelines.research.alerts.wording import Message, message_of
from hf_pipelines.resources import alert_channels as module
from hf_pipelines.resources.alert_channels import UnusableChannelError, limit_of, send
from hf_pipelines.resources.alert_settings import alert_settings
from hf_pipelines.resources.redaction import redacted
from hf_pipelines.resources.webhook import NotDeliveredError
from hf_pipelines_tests.alert_receivers import (
    DISCORD_URL,
    SLACK_URL,
    TELEGRAM_TOKEN,
    mail_server,
    point_services_at,
    web_service,
)

CANARY, TAIL = "canaryAb3Xy", "tailQw7Zk"
NOON = datetime(2026, 11, 30, 2, 7, tzinfo=UTC)
HOSTILE = Alert(
    "run", "us_tech/bars", "us_tech", "critical", "us_tech/bars <b>2013</b> & @everyone",
    "row <script>3</script> of [a file](http://evil.example) & <!channel>\nsecond line", "correct <the> file", "http://ui/runs/1", NOON, ("x",),
)  # fmt: skip
MESSAGE = message_of(Due((Item(NEW, HOSTILE),)), zone=ZoneInfo("UTC"))


def channel(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("HF_ALERT_URLS", url)
    return alert_settings().channels[0]


def refusal(monkeypatch: pytest.MonkeyPatch, url: str, caplog: pytest.LogCaptureFixture) -> str:
    found = channel(monkeypatch, url)
    with caplog.at_level(logging.DEBUG), pytest.raises((NotDeliveredError, UnusableChannelError)) as refused:
        send(found, MESSAGE)
    # What urllib3 logs in detail is cleaned by the guard of the process.
    logged = [each.getMessage() for each in caplog.records if not each.name.startswith("urllib3")]
    shown = "".join([*traceback.format_exception(refused.value), repr(found), str(found), *logged])
    assert [each for each in (CANARY, TAIL) if each in shown] == []
    return str(refused.value)


def test_slack_telegram_and_discord_show_any_name_as_it_is_and_call_nobody(monkeypatch):
    with web_service() as service:
        point_services_at(service, monkeypatch)
        for url in (SLACK_URL, f"tgram://{TELEGRAM_TOKEN}/987654321", DISCORD_URL):
            send(channel(monkeypatch, url), MESSAGE)
    (slack_path, slack), (telegram_path, telegram), (discord_path, discord) = service.got
    assert slack_path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    said = str(slack)
    assert "&lt;script&gt;3&lt;/script&gt;" in said and "<!channel>" not in said and "<script>" not in said
    assert telegram_path == f"/bot{TELEGRAM_TOKEN}/sendMessage" and telegram["parse_mode"] == "HTML"
    assert "row &lt;script&gt;3&lt;/script&gt;" in telegram["text"] and "<script>" not in telegram["text"]
    assert telegram["text"].startswith("<b>CRITICAL: failed run: us_tech/bars &lt;b&gt;2013")
    assert discord_path == "/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"
    assert "row <script>3</script>" in str(discord["content"])
    for body in (slack, telegram, discord):
        # Neither a call of all nor a link behind other words.
        assert "@everyone" not in str(body) and "](http" not in str(body)
        assert "Do: correct" in str(body) and "http://ui/runs/1" in str(body)


def test_mail_and_webhook_carry_title_and_text(monkeypatch):
    with web_service() as service, mail_server() as mailbox:
        send(channel(monkeypatch, f"json://127.0.0.1:{service.port}/hook/{CANARY}"), MESSAGE)
        send(
            channel(monkeypatch, f"mailto://127.0.0.1:{mailbox.port}/?from=hf@desk.example&to=ops@desk.example"),
            MESSAGE,
        )
    ((path, body),) = service.got
    assert (path, body["title"], body["message"], body["type"]) == (
        f"/hook/{CANARY}", MESSAGE.title, MESSAGE.body, "failure",
    )  # fmt: skip
    (mail,) = mailbox.got
    assert mail["To"] == "ops@desk.example" and mail["Subject"] == MESSAGE.title
    assert mail.get_content().splitlines() == MESSAGE.body.splitlines() and mail.get_content_type() == "text/plain"


@pytest.mark.parametrize(("kind", "most"), [("discord", 2000), ("telegram", 4096)])
def test_longest_message_is_one_and_no_longer_than_the_service_takes(monkeypatch, kind, most):
    url = DISCORD_URL if kind == "discord" else f"tgram://{TELEGRAM_TOKEN}/987654321"
    items = tuple(
        Item(NEW, Alert(**{**HOSTILE.__dict__, "what": "<&>" * 200, "cause": "&<>\U0001f600" * 70}))
        for _ in range(1000)
    )
    with web_service() as service:
        point_services_at(service, monkeypatch)
        found = channel(monkeypatch, url)
        send(found, message_of(Due(items), zone=ZoneInfo("UTC"), limit=limit_of(found)))
    (body,) = service.bodies()
    text = str(body.get("content", body.get("text")))
    assert len(text.encode("utf-16-le")) // 2 <= most and "more (" in text


def test_service_that_fails_redirects_or_is_away_is_named_by_its_channel_alone(monkeypatch, caplog):
    said = {500: "error=500", 404: "error=404", 302: "error=302"}
    with web_service() as service:
        url = f"pager=json://{CANARY}:{TAIL}@127.0.0.1:{service.port}/hook/{CANARY}?-x-token={TAIL}"
        for status, words in said.items():
            service.status = status
            told = refusal(monkeypatch, url, caplog)
            assert told.startswith("channel pager did not take it: ") and words in told
        assert [path for path, _ in service.got] == [f"/hook/{CANARY}?x-token={TAIL}"] * 3
    assert "onnection" in refusal(monkeypatch, f"json://127.0.0.1:1/{CANARY}", caplog)
    assert "did not take it" in refusal(monkeypatch, f"jsons://no-such-host.invalid/{TAIL}", caplog)


def test_mail_that_reaches_one_of_two_is_not_delivered(monkeypatch, caplog):
    with mail_server() as mailbox:
        mailbox.refuses = "gone"
        url = f"mailto://127.0.0.1:{mailbox.port}/?from=hf@desk.example&to=ops@desk.example,gone@desk.example"
        assert "did not take it" in refusal(monkeypatch, url, caplog)


def test_service_that_never_answers_holds_the_sender_no_longer_than_its_deadline(monkeypatch, caplog):
    monkeypatch.setattr(module, "SEND_DEADLINE_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        said = refusal(monkeypatch, f"json://127.0.0.1:{silent.getsockname()[1]}/{CANARY}", caplog)
    assert said.endswith("no answer within 1 s") and time.monotonic() - began < 3.0


@pytest.mark.parametrize(
    "url", [f"nosuchservice://{CANARY}/{TAIL}", f"slack://{CANARY}", f"tgram://{CANARY}/1", f"mailto://{CANARY}"]
)
def test_address_that_apprise_makes_nothing_of_is_named_by_variable_and_position(monkeypatch, caplog, url):
    said = refusal(monkeypatch, url, caplog)
    assert said.startswith("`HF_ALERT_URLS`, address 1 (") and "must be one that apprise takes" in said


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"HF_ALERT_URLS": f"json://h/x {CANARY}"}, "`HF_ALERT_URLS`, address 2, must be like slack://"),
        ({"HF_ALERT_URLS": f"DESK=json://{CANARY}"}, "`HF_ALERT_URLS`, address 1, must be like slack://"),
        ({"HF_ALERT_URLS": f"a=json://{CANARY} a=json://{TAIL}"}, "must name each channel once, was a twice"),
        ({"HF_ALERT_URLS": f"json://{CANARY} " * 21}, "must hold at most 20 addresses, held 21"),
        ({"HF_ALERT_ROUTES": "a: kind=run"}, "one of none, since HF_ALERT_URLS names no channel, was a"),
        ({"HF_ALERT_QUIET": "night"}, "`HF_ALERT_QUIET` must be from one time to another"),
        ({"HF_ALERT_TIMEZONE": "Berlin"}, "`HF_ALERT_TIMEZONE` must be a time zone"),
        ({"HF_ALERT_GATHER_SECONDS": "-1"}, "`HF_ALERT_GATHER_SECONDS` must be a whole number"),
        ({"HF_ALERT_REMIND_HOURS": "0"}, "`HF_ALERT_REMIND_HOURS` must be a whole number"),
    ],
)
def test_alert_setting_that_cannot_be_used_is_refused_without_its_address(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as refused:
        alert_settings()
    assert said in str(refused.value) and CANARY not in str(refused.value) and TAIL not in str(refused.value)


def test_without_the_extra_an_address_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setenv("HF_ALERT_URLS", f"json://127.0.0.1/{CANARY}")
    monkeypatch.setattr("hf_pipelines.resources.alert_settings.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r'install the extra: pip install "hf_pipelines\[alerts\]"'):
        alert_settings()


@pytest.mark.parametrize(
    ("url", "secrets", "plain"),
    [
        (SLACK_URL, ["T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"], []),
        (f"tgram://{TELEGRAM_TOKEN}/987654321/", [TELEGRAM_TOKEN, TELEGRAM_TOKEN.split(":")[1], "987654321"], []),
        (DISCORD_URL + "?format=markdown", ["4174216298", "JHMHI8qBe7bk2ZwO5U711o3dV_js"], ["markdown"]),
        ("mailto://ops:pa55word@mail.example:587?to=desk@mail.example", ["pa55word"], ["mail.example"]),
        (f"x=json://127.0.0.1:8080/hook/{CANARY}?k={TAIL}", [CANARY, TAIL], ["127.0.0.1", "hook", "8080"]),
    ],
)
def test_every_token_of_an_address_is_replaced_in_any_text_and_no_server_is(monkeypatch, url, secrets, plain):
    monkeypatch.setenv("HF_ALERT_URLS", f"other=json://127.0.0.1/x {url}")
    assert [each for each in secrets if each in redacted(f"asked {url} and {' and '.join(secrets)}")] == []
    for text in plain:
        assert redacted(f"at {text} it is") == f"at {text} it is"


def test_message_without_a_name_is_sent_as_information(monkeypatch):
    with web_service() as service:
        send(channel(monkeypatch, f"json://127.0.0.1:{service.port}/"), Message("digest", "text", is_critical=False))
    assert service.bodies()[0]["type"] == "info"
