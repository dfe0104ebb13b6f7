"""An operator at the web UI: makes a week and several, sees them succeed, reads why others fail, and finds a feature."""

import re
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from hf_pipelines.partitions import shift_week
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Stored
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError
from hf_pipelines_tests.browser import CHROMIUM, WebServer, browser_page, materialize, web_server
from hf_pipelines_tests.checkout import RANKING, RETRAINED, TRAINING, Checkout, built_checkout, make_checkout
from hf_pipelines_tests.checkout import WEEK as LAST_WEEK
from hf_pipelines_tests.test_definitions import MARKET_ASSETS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.servers,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]

# From the click to the end of the run: dequeued by the daemon, started in a process of its own.
RUN_S = 120.0

# Before what is stored from the start. The Monday is Memorial Day.
WEEK, SESSIONS = "2012-05-27", [date(2012, 5, 29), date(2012, 5, 30), date(2012, 5, 31), date(2012, 6, 1)]
EARLIER_WEEK = "2005-02-20"

# A shorter window than that of the strategies the data were built for: the last three weeks that are stored can be trained.
STRATEGY = {**RANKING, "name": "weekly_ranking", "training": {**TRAINING, "weeks": 8}}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A market whose bars and features are there, and a strategy that was never trained."""
    folder = tmp_path_factory.mktemp("operator")
    shutil.copytree(built_checkout().checkout.data, folder / "data")
    return make_checkout(folder / "code", [STRATEGY], folder / "data")


@pytest.fixture(scope="module")
def server(checkout: Checkout) -> Iterator[WebServer]:
    with web_server(checkout.data, checkout.root) as server:
        yield server


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser_page() as page:
        yield page


def test_materialize_of_a_week_in_the_browser_publishes_its_bars(server: WebServer, page: Page) -> None:
    materialize(page, server, "us_tech/bars", WEEK)
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=RUN_S * 1000)

    frame = _stored(server.data_dir, "us_tech/bars", WEEK).frame
    assert frame.height == 24  # 4 sessions x (5 shares + the index)
    assert frame["session"].unique().sort().to_list() == SESSIONS
    assert sorted(frame["symbol"].unique()) == ["AAPL", "FB", "GOOG", "IBM", "MSFT", "SPX"]

    page.goto(f"{server.url}/assets/us_tech/bars?view=checks")
    for check in MARKET_ASSETS["bars"]:
        expect(page.get_by_text(check, exact=True).first).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(len(MARKET_ASSETS["bars"]))


def test_materialize_without_the_bars_it_needs_shows_the_command_in_the_browser(server: WebServer, page: Page) -> None:
    materialize(page, server, "us_tech/features/technical", EARLIER_WEEK)
    expect(page.get_by_text("Failure", exact=True).first).to_be_visible(timeout=RUN_S * 1000)

    # 120 bars at 4.5 a week are 27 weeks, and one more: the 28 weeks before and the week itself.
    said = re.compile(r"`us_tech/bars` must be published for .* and 24 more, was missing")
    expect(page.get_by_text(said).first).to_be_visible()
    command = f"hfp materialise us_tech/bars --from 2004-08-08 --to {EARLIER_WEEK}"
    expect(page.get_by_text(command).first).to_be_visible()
    with pytest.raises(ObjectMissingError):
        _stored(server.data_dir, "us_tech/features/technical", EARLIER_WEEK)


def test_backfill_of_several_weeks_launched_in_the_browser_finishes(server: WebServer, page: Page) -> None:
    weeks = [shift_week(WEEK, -back) for back in range(4, 0, -1)]
    _backfill(page, f"{server.url}/assets/us_tech/bars", weeks[0], weeks[-1])
    stored = [_stored(server.data_dir, "us_tech/bars", week) for week in weeks]
    # One run made all of them. Facebook begins on the last Friday but one.
    assert [each.frame["session"].n_unique() for each in stored] == [5, 5, 5, 5]
    assert [each.frame.height for each in stored] == [25, 25, 26, 30]
    assert len({each.footer.run_id for each in stored}) == 1


def test_backfill_of_a_retrain_job_over_weeks_in_the_browser_stores_what_the_command_stores(
    server: WebServer, page: Page, checkout: Checkout, tmp_path: Path
) -> None:
    weeks = [shift_week(LAST_WEEK, -back) for back in (2, 1)]
    _backfill(page, f"{server.url}/locations/hf_pipelines/jobs/weekly_ranking_retrain", weeks[0], weeks[-1])
    page.goto(f"{page.url}?tab=runs")
    expect(page.get_by_text("Success", exact=True)).to_have_count(2)

    stored = {
        (stage, week): _stored(server.data_dir, f"weekly_ranking/{stage}", week).footer
        for stage in RETRAINED
        for week in weeks
    }
    # A run a week.
    runs = {week: {stored[stage, week].run_id for stage in RETRAINED} for week in weeks}
    assert [len(each) for each in runs.values()] == [1, 1] and len(set.union(*runs.values())) == 2
    beside = Checkout(checkout.root, tmp_path / "data")
    shutil.copytree(built_checkout().checkout.data, beside.data)
    beside.succeed("retrain", "weekly_ranking", "--week", weeks[-1])
    for stage in RETRAINED:
        found = _stored(beside.data, f"weekly_ranking/{stage}", weeks[-1]).footer
        assert found.content_hash == stored[stage, weeks[-1]].content_hash, stage


def test_backfill_over_weeks_that_cannot_be_trained_tells_the_remedy_of_each_in_the_browser(
    server: WebServer, page: Page
) -> None:
    # The market begins on Wednesday 2000-03-01; of the second week nothing is stored.
    weeks = ["2000-04-16", "2000-04-23"]
    _backfill(page, f"{server.url}/locations/hf_pipelines/jobs/weekly_ranking_retrain", weeks[0], weeks[-1])
    page.goto(f"{page.url}?tab=runs")
    expect(page.get_by_text("Failure", exact=True)).to_have_count(2)
    links = [str(each.get_attribute("href")) for each in page.locator("a[href^='/runs/']").all()]
    # The newest run is listed first.
    runs = dict.fromkeys(each for each in links if re.fullmatch("/runs/[0-9a-f-]{36}", each))
    for run, said in zip(
        runs,
        (
            f"make it in one go: hfp retrain weekly_ranking --week {weeks[1]} --with-inputs",
            f'the first week with a whole window is {weeks[1]}, take it or a later one; `start: "{weeks[1]}"`',
        ),
        strict=True,
    ):
        page.goto(f"{server.url}{run}")
        expect(page.get_by_text(said).first).to_be_visible()


def test_tag_of_a_feature_finds_the_assets_that_have_it_in_the_browser(server: WebServer, page: Page) -> None:
    page.goto(f"{server.url}/assets")
    rows = page.locator("a[href^='/assets/']").filter(has_text="/")
    rows.nth(5).wait_for()
    page.locator(".CodeMirror").click()
    page.keyboard.type('tag:"feature/rsi_14"')
    page.keyboard.press("Enter")
    expect(rows).to_have_count(2)
    # No strategy, and no other group of the markets: `us_tech_feed` takes files.
    found = sorted(str(each.get_attribute("href")) for each in rows.all())
    assert found == [f"/assets/{market}/features/technical" for market in ("us_tech", "us_tech_feed")]


def _backfill(page: Page, target: str, first: str, last: str) -> None:
    """Press Materialize on the page of an asset or a job, choose weeks, launch, and wait on the backfill's page until its runs have ended."""
    page.goto(target)
    page.get_by_role("button", name="Materialize").first.click()
    chosen = page.get_by_placeholder("ex: ")
    chosen.fill(f"[{first}...{last}]")
    chosen.press("Tab")
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("View", exact=True).click()
    page.wait_for_url("**/runs/b/*")
    # The daemon looks at backfills from time to time, also to see that one has ended.
    expect(page.get_by_text("100% completed")).to_be_visible(timeout=3 * RUN_S * 1000)


def _stored(data_dir: Path, asset: str, partition: str) -> Stored:
    return PartitionStore(ObjectStore(str(data_dir / "storage"))).read(asset, partition)
