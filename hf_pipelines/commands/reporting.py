"""Reporting: the page of a strategy and week; what `hfp report` makes and where it lies.

Lives here: which week is meant, and where the page goes. Does not live here: the page (`research.report`).
"""

import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hf_pipelines.commands.gates import gates_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import backtested_week
from hf_pipelines.components.strategy_stages.evidence import returns_of_week
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.fan_out import FanOut, Threads
from hf_pipelines.research.report.overview import Strategy, make_overview
from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.report_files import PAGE, page_files


@dataclass(frozen=True)
class Reported:
    """A page that was made.

    Attributes
    ----------
    sentence : str
        On top of it.
    address : str
        Path or URL of the stored page, or where it was written besides.
    html : bytes
    """

    sentence: str
    address: str
    html: bytes

    def lines(self) -> Iterator[str]:
        """What a terminal shows."""
        yield self.sentence
        yield f"{self.address} ({len(self.html):,} bytes)"


def report_of(pipeline: Pipeline, strategy: str, week: str | None, *, out: Path | None = None) -> Reported:
    """Make the page of a week, by default the latest with a backtest, of what is stored now.

    Parameters
    ----------
    pipeline : Pipeline
    strategy : str
    week : str or None
    out : Path, optional
        Where the page is written besides.

    Raises
    ------
    ValueError
        If the strategy is unknown, or has no backtest of that week; if `out` is a folder or lies in none.
    RunFailedError
        If it cannot be made.
    """
    key = backtested_week(pipeline, strategy, week)
    _require_file(out)
    asset = pipeline.strategy(strategy).asset("report")
    pipeline.materialise([asset], key, key)
    store = pipeline.store
    footer = store.footer(asset, key)
    assert footer is not None
    html = store.read_attachment(footer, PAGE)
    address = store.objects.address(store.attachment_key(footer, PAGE))
    if out is not None:
        out.write_bytes(html)
        address = str(out)
    return Reported(str(footer.facts["sentence"]), address, html)


def overview_of(
    pipeline: Pipeline,
    *,
    out: Path | None = None,
    workers: FanOut | None = None,
    opened: Callable[[], Pipeline] | None = None,
) -> Reported:
    """Make the page of all strategies, of the latest week of each with a backtest; nothing of it is stored.

    Parameters
    ----------
    pipeline : Pipeline
    out : Path, optional
        Where it is written; default below the folder of the project's data.
    workers : FanOut, optional
        Where strategies are judged, with what gives the pipeline there (`opened`); default this process, one after the other.

    Raises
    ------
    ValueError
        If no strategy has a backtest; if `out` is a folder or lies in none.
    """
    _require_file(out)
    weeks = {each.name: pipeline.store.partitions(each.asset("backtest")) for each in pipeline.strategies()}
    latest = [(name, max(found)) for name, found in weeks.items() if found]
    shown = [*(workers or Threads())(partial(_shown, opened or (lambda: pipeline)), latest)]
    if not shown:
        raise ValueError(
            "`--overview` must be of strategies with a backtest, none has one; hfp retrain STRATEGY --week SUNDAY --with-inputs."
        )
    without = [name for name, found in weeks.items() if not found]
    html = make_overview(shown, without, page_files(), until=Clock().now().date())
    path = out or settings.data_dir() / "reports" / "overview.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(html)
    passed = sum(each.decision.is_passed for each in shown)
    return Reported(f"{passed} of {len(shown)} strategies pass their gates.", str(path), html)


def _shown(opened: Callable[[], Pipeline], of_week: tuple[str, str]) -> Strategy:
    pipeline, (name, week) = opened(), of_week
    plan = pipeline.strategy(name)
    footer = pipeline.store.footer(plan.asset("backtest"), week)
    assert footer is not None
    metrics: Any = footer.facts["metrics"]
    return Strategy(
        name=name,
        week=week,
        decision=gates_of(pipeline, name, week),
        metrics=metrics,
        returns=returns_of_week(pipeline.store, plan.asset("backtest"), week),
        sessions_per_year=usual_sessions(plan.market.partitions.calendar_name)[0],
    )


def _require_file(out: Path | None) -> None:
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ValueError(f"`--out` must be a file in a folder that is there, was {str(out)[:200]!r}.")


def open_page(found: Reported) -> None:
    """Show a page in the browser; of one that lies in no folder of this machine a copy."""
    path = Path(found.address)
    if not path.is_file():
        path = Path(tempfile.mkdtemp(prefix="hfp-report-")) / PAGE
        path.write_bytes(found.html)
    webbrowser.open(path.resolve().as_uri())
