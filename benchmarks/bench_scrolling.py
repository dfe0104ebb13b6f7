"""Scrolling through a report: frames, and what the page itself does in each, in a real Chromium.

The page (a file; default: the one of `bench_report.py`, 500 symbols over ten years) is opened at the size of a laptop and of a telephone and
scrolled from its top to its end, so many points each frame. Prints frames a second, the longest one and the shares above 16.7 and 33 ms, which
depend on who else uses the machine and on its graphics card; and the CPU milliseconds of the page's main thread a task, by the trace of the
browser, which do not. Exits 1 if a task takes more than `LIMIT_MS` of CPU while the page is scrolled.

    PYTHONPATH=. python benchmarks/bench_scrolling.py [report.html]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.bench_report import lay_out, page_of, project_of
from hf_pipelines_tests.browser import CHROMIUM

# A frame of 30 a second: the hand does not notice one now and then.
LIMIT_MS = 33.0

FRAME_MS = 1000.0 / 60.0

# What opening a page draws at once is over then.
OPENED_MS = 3_000

# Points a frame: at 60 frames a second two screens of a laptop.
SPEED = 32

SIZES = {"laptop": (1440, 900), "telephone": (390, 844)}

SCROLL = """(speed) => new Promise((done) => {
    const times = [];
    const step = (now) => {
        times.push(now);
        const atEnd = window.scrollY + window.innerHeight >= document.documentElement.scrollHeight - 1;
        if (atEnd) return done(times);
        window.scrollBy(0, speed);
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
})"""

# Of a task's events those that say what it does.
TOLD = ("FunctionCall", "EvaluateScript", "UpdateLayoutTree", "Layout", "PrePaint", "Paint", "Layerize", "Commit", "ParseHTML", "MajorGC", "MinorGC")  # fmt: skip


def scrolled(page: Page, session: CDPSession, address: str) -> tuple[list[float], list[dict[str, Any]]]:
    """Times of the frames while a page is scrolled, and the events of the browser meanwhile."""
    page.goto(address)
    page.locator("html[data-ready]").wait_for(state="attached")
    page.wait_for_timeout(OPENED_MS)
    events: list[dict[str, Any]] = []
    ended: list[bool] = []
    session.on("Tracing.dataCollected", lambda told: events.extend(told["value"]))
    session.on("Tracing.tracingComplete", lambda _: ended.append(True))
    session.send("Tracing.start", {"categories": "devtools.timeline,toplevel,disabled-by-default-devtools.timeline"})
    times = page.evaluate(SCROLL, SPEED)
    session.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(50)
    return times, events


def tasks_of(events: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """CPU milliseconds of each task of the page's main thread, and what took most of it."""
    mains = {(each["pid"], each["tid"]) for each in events if _is_main(each)}
    # The page's is the one that does most.
    work = Counter({at: 0.0 for at in mains})
    for each in events:
        if (each["pid"], each["tid"]) in mains:
            work[(each["pid"], each["tid"])] += each.get("tdur", 0)
    (main, _), *_ = work.most_common(1)
    own = [each for each in events if (each["pid"], each["tid"]) == main and "tdur" in each]
    found = []
    for task in (each for each in own if each["name"] == "RunTask"):
        parts: Counter[str] = Counter()
        for each in own:
            if each["name"] in TOLD and task["ts"] <= each["ts"] < task["ts"] + task["dur"]:
                parts[each["name"]] += each["tdur"]
        most = parts.most_common(1)
        found.append((task["tdur"] / 1000.0, most[0][0] if most else "other"))
    return sorted(found, reverse=True)


def _is_main(event: dict[str, Any]) -> bool:
    return event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"


def report(size: str, times: list[float], events: list[dict[str, Any]]) -> float:
    """Print what was seen; returns the longest task."""
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    late, very_late = (sum(gap > most for gap in gaps) / len(gaps) for most in (1.5 * FRAME_MS, 2.5 * FRAME_MS))
    tasks = tasks_of(events)
    spent = sum(each for each, _ in tasks)
    print(
        f"{size}: {len(gaps)} frames, {1000.0 * len(gaps) / sum(gaps):.1f} a second, longest {max(gaps):.0f} ms, "
        f"{late:.1%} missed one turn of {FRAME_MS:.1f} ms, {very_late:.1%} two"
    )
    above = [(each, what) for each, what in tasks if each > FRAME_MS]
    longest = ", ".join(f"{each:.0f} ({what})" for each, what in tasks[:8])
    print(
        f"  main thread: {spent / len(gaps):.2f} CPU ms a frame, {len(above)} tasks above {FRAME_MS:.1f} ms; longest: {longest}"
    )
    return tasks[0][0]


def measure(browser: Browser, address: str) -> float:
    """Every size; returns the longest task of all."""
    longest = 0.0
    for size, (width, height) in SIZES.items():
        context = browser.new_context(viewport={"width": width, "height": height}, is_mobile=width < 600)
        page = context.new_page()
        times, events = scrolled(page, context.new_cdp_session(page), address)
        longest = max(longest, report(size, times, events))
        context.close()
    return longest


def main() -> int:
    """Make the page if none is given, scroll through it."""
    if CHROMIUM is None:
        print("no chromium, chromium-browser or google-chrome on the PATH")
        return 0
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        path = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else _large(Path(name))
        print(f"{path.name}: {path.stat().st_size:,} bytes")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        longest = measure(browser, path.as_uri())
        print(json.dumps({"longest_task_ms": round(longest, 1), "limit_ms": LIMIT_MS}))
        browser.close()
    return 0 if longest <= LIMIT_MS else 1


def _large(folder: Path) -> Path:
    project = project_of(folder, 500, 10)
    lay_out(project, project.pipeline.strategy("ranking"), 500, 10)
    path = folder / "report.html"
    path.write_bytes(page_of(project))
    return path


if __name__ == "__main__":
    sys.exit(main())
