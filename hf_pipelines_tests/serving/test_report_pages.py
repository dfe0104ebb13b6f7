"""Reports at an address of the web UI: what is stored is sent into a sandbox, what is not is named, and the guard stands before both."""

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from hf_pipelines.serving.report_pages import ReportPages, stored_page
from hf_pipelines.serving.webserver import LOCAL_HOSTS, Guard

PAGE = b"<!doctype html><script>1</script>"


async def _others(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("of the UI")(scope, receive, send)


@pytest.fixture
def ui() -> TestClient:
    pages = ReportPages(_others, lambda strategy, week: PAGE if (strategy, week) == ("ranking", "2012-04-01") else None)
    return TestClient(Guard(pages, hosts=LOCAL_HOSTS), base_url="http://127.0.0.1")


def test_stored_report_is_sent_into_a_sandbox(ui: TestClient) -> None:
    answer = ui.get("/reports/ranking/2012-04-01")
    assert (answer.status_code, answer.content) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policies = answer.headers.get_list("content-security-policy")
    assert "sandbox allow-scripts" in policies and "frame-ancestors 'self'" in policies
    assert "allow-same-origin" not in " ".join(policies)


def test_report_that_is_not_stored_is_named_with_its_command(ui: TestClient) -> None:
    answer = ui.get("/reports/ranking/2012-04-08")
    assert answer.status_code == 404
    assert answer.text == "No report of ranking and week 2012-04-08 is stored: hfp report ranking 2012-04-08"


@pytest.mark.parametrize(
    "path",
    ["/", "/reports/ranking", "/reports/../2012-04-01", "/reports/a%2Fb/2012-04-01", "/reports/ranking/2012-04-01/x"],
)
def test_other_addresses_are_those_of_the_ui(ui: TestClient, path: str) -> None:
    assert ui.get(path).text == "of the UI"


def test_another_site_gets_no_report(ui: TestClient) -> None:
    assert ui.get("/reports/ranking/2012-04-01", headers={"Host": "evil.example"}).status_code == 403
    assert ui.get("/reports/ranking/2012-04-01", headers={"Origin": "http://evil.example"}).status_code == 403


def test_store_without_a_report_has_no_page(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_STORAGE_URI", str(tmp_path))
    assert stored_page("ranking", "2012-04-01") is None
