"""Report files: the template, style sheet, script and chart library that a report is made of.

Lives here: reading them from the package. Does not live here: what is filled in (`research.report.page`).

The library is `plotly-cartesian.min.js` of the npm package `plotly.js-cartesian-dist-min`, as published, under the MIT licence beside it, gzipped.
"""

import gzip
from functools import cache
from hashlib import sha256
from importlib.resources import files

from hf_pipelines.research.report.page import PageFiles

# What a stored report is called beside its partition.
PAGE = "report.html"

FOLDER = "templates/report"
LIBRARY = "plotly-cartesian.min.js.gz"
LIBRARY_VERSION = "3.7.0"
LIBRARY_SHA256 = "7c593b9eda0e74a1d07335cf89cbf7a55ffc114909980c3729af835453bdb02a"


@cache
def page_files() -> PageFiles:
    """The files, read once.

    Raises
    ------
    ValueError
        If the library is not the one that was published.
    """
    folder = files("hf_pipelines") / FOLDER
    library = (folder / LIBRARY).read_bytes()
    digest = sha256(gzip.decompress(library))
    if digest.hexdigest() != LIBRARY_SHA256:
        raise ValueError(
            f"`{LIBRARY}` must be plotly.js {LIBRARY_VERSION} with sha256 {LIBRARY_SHA256}, was {digest.hexdigest()}; install hf_pipelines again."
        )
    templates = {
        each.name: each.read_text(encoding="utf-8") for each in folder.iterdir() if each.name.endswith(".html")
    }
    return PageFiles(
        templates=templates,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        library=library,
        library_sha256=digest.digest(),
    )
