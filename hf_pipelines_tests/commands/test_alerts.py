"""Alerts on the command line: what a person sees who tries the channels, and how a dead one is shown."""

import pytest

from hf_pipelines.commands.cli import main
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
