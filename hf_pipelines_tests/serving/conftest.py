"""Fixtures of the tests of the web UI: the guarded UI, its viewer mode and Dagster's plain web server, started once."""

from collections.abc import Iterator

import pytest

from hf_pipelines_tests.web_uis import WebUIs, web_uis


@pytest.fixture(scope="package")
def uis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUIs]:
    """Shared by the files of this folder: each counts only the runs that carry its own tags."""
    with web_uis(tmp_path_factory.mktemp("uis")) as uis:
        yield uis
