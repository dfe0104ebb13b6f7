"""Ports of `hfp ui` and `hfp stack` that cannot be: refused by name, before anything is written or started."""

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
