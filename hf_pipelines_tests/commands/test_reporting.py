"""`hfp report` on a strategy that was trained, opened in a real browser: its numbers are those that are stored, and nothing leaves it."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Page

from hf_pipelines.commands.reporting import Reported, report_of
from hf_pipelines.commands.validating import full_validation_of
from hf_pipelines.research.report.blocks import DASH
from hf_pipelines.resources.report_files import PAGE
from hf_pipelines_tests.browser import CHROMIUM, browser_page
from hf_pipelines_tests.pipeline import Project

pytestmark = [pytest.mark.pipeline, pytest.mark.browser, pytest.mark.xdist_group("report")]
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")

WEEK = "2012-04-01"

# Every number that stands on the page, as a browser has it.
NUMBERS = (
    "[...document.querySelectorAll('[data-key]')].map(e => [e.dataset.key, e.dataset.value, e.textContent, e.title])"
)


@pytest.fixture(scope="module")
def project(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("report") / "project")
    project.retrain("ranking", WEEK)
    return project


@pytest.fixture(scope="module")
def reported(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return report_of(project.pipeline, "ranking", None, out=tmp_path_factory.mktemp("out") / "ranking.html")


@pytest.fixture(scope="module")
def opened(reported: Reported) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The page when its charts are drawn, what the browser complained of, and what it asked others for."""
    with browser_page(width=390) as page:
        told: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(Path(reported.address).as_uri())
        # By selectors: an expression that is waited for is evaluated in the page, which its policy forbids.
        page.locator("html[data-ready]").wait_for(state="attached")
        yield page, told, asked


def _stored(project: Project, key: str) -> float | None:
    """A number of the store by the name that the page gives it: stage, table, row, column."""
    stage, table, row, *column = key.split("/")
    footer = project.store.footer(f"ranking/{stage}", WEEK)
    assert footer is not None
    frame = pl.read_parquet(io.BytesIO(project.store.read_attachment(footer, f"{table}.parquet")))
    if table == "summary":
        return frame.filter(metric=row)[column[0]].item()
    return frame[int(row)][column[0]].item()


@in_browser
def test_numbers_in_the_browser_are_those_that_are_stored(project: Project, opened: Any) -> None:
    page, *_ = opened
    shown = page.evaluate(NUMBERS)
    beside = project.store.read("ranking/report", WEEK).frame
    assert [key for key, *_ in shown] == beside["key"].to_list()
    compared = 0
    for (key, raw, text, why), row in zip(shown, beside.iter_rows(named=True), strict=True):
        assert text == row["text"], key
        # Ten weeks have no figure of a year: undefined ones are a dash with its reason.
        assert (raw == "") == (text == DASH) == (row["value"] is None) == bool(why), key
        if key.startswith("backtest/"):
            value = _stored(project, key)
            assert (None if raw == "" else float(raw)) == value, key
            compared += value is not None
    assert compared > 20
    page_text = page.inner_text("body")
    assert "fewer than 60 sessions have no figure of a year" in page_text
    assert "Fewer than 60 sessions: no figure of a year." in page.inner_text(".lead")


@in_browser
def test_page_is_drawn_without_a_request_or_a_complaint_and_fits_a_telephone(reported: Reported, opened: Any) -> None:
    page, told, asked = opened
    # They are drawn as they come near.
    for holder in page.locator("figure").all():
        holder.scroll_into_view_if_needed()
        holder.locator(".main-svg").first.wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert told == [] and [each for each in asked if not each.startswith(("file:", "data:", "blob:"))] == []
    assert len(reported.html) < 2_000_000


@in_browser
def test_policy_of_the_page_stops_a_script_a_picture_and_a_request_that_are_planted(opened: Any) -> None:
    page, told, asked = opened
    before = [*told], [*asked]
    page.evaluate(
        """() => {
            const script = document.createElement("script"); script.textContent = "window.planted = 1"; document.body.append(script);
            const image = new Image(); image.src = "http://127.0.0.1:9/x.png"; document.body.append(image);
            return fetch("http://127.0.0.1:9/").catch(() => 0);
        }"""
    )
    assert page.evaluate("window.planted") is None
    # What was complained of before has come when this answers.
    page.evaluate("1")
    refused = [each for each in told if "Content Security Policy" in each]
    assert {
        name
        for name in ("script-src", "img-src", "connect-src")
        if any(name in each or "default-src" in each for each in refused)
    } >= {
        "script-src",
        "img-src",
    }
    # What was planted is not the page's.
    told[:], asked[:] = before


def test_command_of_a_section_that_lacks_its_input_makes_it(
    project: Project, reported: Reported, tmp_path: Path
) -> None:
    told = f"hfp validate ranking {WEEK} --full"
    assert told in reported.html.decode() and "chart-paths" not in reported.html.decode()
    copied = project.copy(tmp_path / "project")
    full_validation_of(copied.pipeline, "ranking", WEEK)
    again = report_of(copied.pipeline, "ranking", WEEK).html.decode()
    assert "chart-paths" in again and "take refits, which nobody made" not in again
    rows = copied.store.read("ranking/report", WEEK).frame.filter(section="paths")
    stored = copied.store.read("ranking/full_validation", WEEK).frame
    returns = rows.filter(pl.col("key").str.ends_with("/total_return"))
    assert returns["value"].to_list() == stored["total_return"].to_list()


def test_page_is_stored_beside_its_numbers_and_a_place_that_cannot_be_is_refused(
    project: Project, reported: Reported, tmp_path: Path
) -> None:
    copied = project.copy(tmp_path / "project")
    footer = copied.store.footer("ranking/report", WEEK)
    assert footer is not None
    assert copied.store.read_attachment(footer, PAGE) == reported.html
    with pytest.raises(ValueError, match="`--out` must be a file in a folder that is there"):
        report_of(copied.pipeline, "ranking", WEEK, out=tmp_path / "none" / "page.html")
    with pytest.raises(ValueError, match="`week` must be one of which ranking has a backtest"):
        report_of(copied.pipeline, "ranking", "2012-04-08")
