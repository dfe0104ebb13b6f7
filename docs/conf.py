"""How Sphinx builds the site: `make docs`. Pages are MyST Markdown; what the code says comes from its docstrings."""

from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

project = "hf_pipelines"
author = "the authors of hf_pipelines"
project_copyright = "the authors of hf_pipelines, Apache-2.0"
version = release = version_of("hf_pipelines")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build"]

# A link that leads nowhere is a warning, and a warning fails the build.
nitpicky = False
myst_enable_extensions = ["colon_fence", "deflist", "linkify"]
myst_linkify_fuzzy_links = False
myst_heading_anchors = 3

numpydoc_show_class_members = False
autodoc_typehints = "none"

html_theme = "furo"
html_title = "hf_pipelines"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
# No copy of the sources beside the pages: the repository has them.
html_copy_source = False
html_show_sourcelink = False
# A block of no language is what is typed or printed.
highlight_language = "none"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
# Contracts and reference take whatever pages lie in their folders.
suppress_warnings = ["toc.empty_glob"]


def write_pages(app: Any) -> None:
    """Write the pages that are made of the code; what has not changed is left alone, so that Sphinx keeps it."""
    from hf_pipelines.commands.contracts import contract_pages
    from hf_pipelines.commands.reference import reference_pages

    # A site of a few pages, as tests build it, has no such folders.
    parts = ((Path(app.srcdir, "contracts"), contract_pages), (Path(app.srcdir, "reference"), reference_pages))
    for folder, pages in (each for each in parts if each[0].is_dir()):
        for name, text in pages():
            path = folder / f"{name}.md"
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("builder-inited", write_pages)
