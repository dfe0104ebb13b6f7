"""An operator at the web UI: materialises a week, sees it succeed, and reads why another one fails."""

import re
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
from hf_pipelines_tests.test_definitions import MARKET_ASSETS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.servers,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]

# From the click to the end of the run: dequeued by the daemon, started in a process of its own.
RUN_S = 120.0

WEEK, SESSIONS = "2013-02-24", [date(2013, 2, 25 + i) for i in range(4)] + [date(2013, 3, 1)]
EARLIER_WEEK = "2005-02-20"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with web_server(tmp_path_factory.mktemp("operator")) as server:
        yield server


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser_page() as page:
        yield page


def test_materialize_of_a_week_in_the_browser_publishes_its_bars(server: WebServer, page: Page) -> None:
    materialize(page, server, "us_tech/bars", WEEK)
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=RUN_S * 1000)

    frame = _stored(server.data_dir, "us_tech/bars", WEEK).frame
    assert frame.height == 30  # 5 sessions x (5 shares + the index)
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
    page.goto(f"{server.url}/assets/us_tech/bars")
    page.get_by_role("button", name="Materialize").first.click()
    chosen = page.get_by_placeholder("ex: ")
    chosen.fill(f"[{weeks[0]}...{weeks[-1]}]")
    chosen.press("Tab")
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("View", exact=True).click()
    page.wait_for_url("**/runs/b/*")
    # The daemon looks at backfills from time to time, also to see that one has ended.
    expect(page.get_by_text("100% completed")).to_be_visible(timeout=3 * RUN_S * 1000)
    stored = [_stored(server.data_dir, "us_tech/bars", week) for week in weeks]
    # Washington's birthday is in the last; one run made all of them.
    assert [each.frame["session"].n_unique() for each in stored] == [5, 5, 5, 4]
    assert len({each.footer.run_id for each in stored}) == 1


def _stored(data_dir: Path, asset: str, partition: str) -> Stored:
    return PartitionStore(ObjectStore(str(data_dir / "storage"))).read(asset, partition)
