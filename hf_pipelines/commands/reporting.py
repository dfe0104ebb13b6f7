"""Reporting: the page of a strategy and week; what `hfp report` makes and where it lies.

Lives here: which week is meant, and where the page goes. Does not live here: the page (`research.report`).
"""

import tempfile
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import backtested_week
from hf_pipelines.components.strategy_stages.report import PAGE


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
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ValueError(f"`--out` must be a file in a folder that is there, was {str(out)[:200]!r}.")
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


def open_page(found: Reported) -> None:
    """Show a page in the browser; of one that lies in no folder of this machine a copy."""
    path = Path(found.address)
    if not path.is_file():
        path = Path(tempfile.mkdtemp(prefix="hfp-report-")) / PAGE
        path.write_bytes(found.html)
    webbrowser.open(path.resolve().as_uri())
