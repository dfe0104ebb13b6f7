"""Screenshots of README and docs: the web UI over the demo's data (run `make demo` first).

    HF_DATA_DIR=data .venv/bin/python docs/screenshots.py [report]

With `report` that of the report's page alone, which needs no server.
Needs a Chromium on the PATH, like the browser tests.
"""

import io
import sys
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Page, expect

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from hf_pipelines.resources import settings  # noqa: E402
from hf_pipelines.resources.object_store import ObjectStore  # noqa: E402
from hf_pipelines.resources.partition_store import PartitionStore  # noqa: E402
from hf_pipelines.resources.report_files import PAGE  # noqa: E402
from hf_pipelines_tests.browser import browser_page, materialize, web_server  # noqa: E402

# The others stay folded: all of them do not fit.
GROUPS = ("tech_direction", "us_tech")
STRATEGY = "tech_direction"

# By the file: on which page, behind which key.
PICTURES = {
    "backtest": ("backtest", "equity"),
    "ic_by_session": ("cv_results", "ic_by_session"),
    "importances": ("fitted_model", "importances"),
    "weights": ("signals", "weights"),
}

# A week of which the demo makes nothing.
BEFORE_THE_DEMO = "2004-08-15"

# The trace of a step names folders of the machine; the page is shown for its last lines.
HIDE_TRACES = """() => document.querySelectorAll("*").forEach((each) => {
    const isTrace = each.textContent.includes("Stack Trace:") || each.textContent.includes('File "/');
    if (isTrace && ![...each.children].some((child) => child.textContent.includes('File "/'))) each.style.visibility = "hidden";
})"""

# A palette is enough for an interface and a third of the bytes.
COLOURS = 128
WIDTH = 1400
REPORT_SIZE = (1000, 1180)


def main() -> None:
    keep_report()
    if sys.argv[1:] == ["report"]:
        return
    with web_server(settings.data_dir()) as server:
        # Large enough for the whole graph at the smallest zoom.
        with browser_page(width=2000, height=2300) as page:
            expanded = quote(",".join(f"global@global:{group}" for group in GROUPS))
            page.goto(f"{server.url}/asset-groups/?expanded={expanded}")
            expect(page.get_by_text("track_record").first).to_be_visible(timeout=30_000)
            page.get_by_text("Hide navigation").click()
            page.get_by_role("img", name="zoom_out").click()
            page.get_by_text("features_report").last.wait_for()
            _keep(page, "asset_graph")
        with browser_page(width=1400, height=1000) as page:
            page.goto(f"{server.url}/assets/{STRATEGY}/signals")
            expect(page.get_by_text("preview", exact=True)).to_be_visible(timeout=30_000)
            _keep(page, "signals")
            for name, (stage, key) in PICTURES.items():
                page.goto(f"{server.url}/assets/{STRATEGY}/{stage}")
                row = page.locator("tr", has=page.get_by_text(key, exact=True))
                row.get_by_text("[Show Markdown]").click()
                expect(page.get_by_role("img", name="picture")).to_be_visible(timeout=30_000)
                _keep(page, name)
            materialize(page, server, "us_tech/features/technical", BEFORE_THE_DEMO)
            expect(page.get_by_text("Failure", exact=True).first).to_be_visible(timeout=120_000)
            expect(page.get_by_text("RUN_FAILURE")).to_be_visible(timeout=30_000)
            page.evaluate(HIDE_TRACES)
            if f"{DOCS.parent}" in page.locator("body").inner_text():
                raise RuntimeError("the picture of a failed run shows a folder of this machine: hide what names it.")
            _keep(page, "failed_run")


def keep_report() -> None:
    """The top of the newest report of the strategy, by day."""
    store = PartitionStore(ObjectStore(settings.storage_uri()))
    asset = f"{STRATEGY}/report"
    week = max(store.partitions(asset))
    footer = store.footer(asset, week)
    assert footer is not None
    with browser_page(width=REPORT_SIZE[0], height=REPORT_SIZE[1]) as page:
        page.set_content(store.read_attachment(footer, PAGE).decode(), wait_until="load")
        page.emulate_media(color_scheme="light")
        _keep(page, "report")


# A window that is still coming up lets the page below it shine through; what turns for ever is not waited for.
STANDS_STILL = """() => Promise.all(document.getAnimations()
    .filter((each) => each.effect.getComputedTiming().iterations !== Infinity)
    .map((each) => each.finished.catch(() => null)))"""


def _keep(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    page.evaluate(STANDS_STILL)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    path = DOCS / "pictures" / f"{name}.png"
    picture.quantize(COLOURS).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
