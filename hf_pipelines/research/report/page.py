"""Page: sections as one HTML file that needs nothing else.

Lives here: filling in the template, and the content security policy. Not here: the template, style sheet and scripts, which are files
(`resources.report_files`), what is shown (`registry`).

Everything that comes from outside (names of symbols, columns and strategies, texts of news, messages) goes through the template, which
escapes it, or into JSON that a browser never parses as HTML.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from hf_pipelines.research.report.blocks import Block, Chart, Heatmap, Missing, Table, Text
from hf_pipelines.research.report.interactive import figure
from hf_pipelines.research.report.pictures import svg

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, eq=False)
class PageFiles:
    """Files that the page is made of.

    Attributes
    ----------
    templates : mapping of str to str
        By name; `page.html` among them.
    style, script : str
        Its own style sheet and script.
    library : bytes
        Plotly's bundle, gzipped.
    library_sha256 : bytes
        Digest of the bundle itself: the policy lets it run, and nothing else.
    """

    templates: Mapping[str, str]
    style: str
    script: str
    library: bytes
    library_sha256: bytes


@dataclass(frozen=True)
class Shown:
    """A section with its blocks."""

    name: str
    title: str
    blocks: Sequence[Block]


def render(template: str, shown: Sequence[Shown], files: PageFiles, **values: Any) -> bytes:
    """A page as the bytes of one file; equal contents are equal bytes.

    Parameters
    ----------
    template : str
        Its name.
    shown : sequence of Shown
    files : PageFiles
    **values
        What else the template names.
    """
    charts = {each.name: each for section in shown for each in section.blocks if isinstance(each, Chart | Heatmap)}
    figures = json.dumps({name: figure(each) for name, each in charts.items()}, separators=(",", ":"), allow_nan=False)
    pictures = {name: _address(svg(each), "image/svg+xml") for name, each in charts.items()}
    text = (
        _environment(files)
        .get_template(template)
        .render(
            sections=shown,
            pictures=pictures,
            policy=content_policy(files),
            style=files.style,
            script=files.script,
            library=base64.b64encode(files.library).decode(),
            figures=base64.b64encode(gzip.compress(figures.encode(), 9, mtime=0)).decode(),
            **values,
        )
    )
    return text.encode()


def content_policy(files: PageFiles) -> str:
    """What the page may do: run its own script and the library, by their hashes, and nothing that leaves it.

    Charts set widths and colours on their elements, so styles are let through; they cannot fetch either.
    """
    own = base64.b64encode(sha256(files.script.encode()).digest()).decode()
    library = base64.b64encode(files.library_sha256).decode()
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'sha256-{own}' 'sha256-{library}'",
            "style-src 'unsafe-inline'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def coded(text: str) -> Markup:
    """A text whose parts between backticks are shown as code; all of it is escaped.

    Examples
    --------
    >>> str(coded("run `hfp verify` <b>"))
    'run <code>hfp verify</code> &lt;b&gt;'
    """
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(each) if at % 2 else escape(each) for at, each in enumerate(parts)
    )


@lru_cache(maxsize=4)
def _environment(files: PageFiles) -> Environment:
    from jinja2 import DictLoader, Environment, StrictUndefined

    kinds = {"table": Table, "chart": Chart | Heatmap, "text": Text, "missing": Missing}
    environment = Environment(
        loader=DictLoader(dict(files.templates)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = coded
    environment.tests |= {name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()}
    return environment


def _address(payload: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(payload).decode()}"
