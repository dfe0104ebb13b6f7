"""The command line says of itself what each argument is."""

import re
import subprocess
import sys

import pytest

from hf_pipelines.commands.cli import build_parser, main

COMMANDS = sorted(re.findall(r"^    (\w+)(?:  |$)", build_parser().format_help(), re.MULTILINE))


@pytest.mark.parametrize("command", [*([each] for each in COMMANDS), ["feature", "test"]], ids=" ".join)
def test_help_of_a_command_describes_each_of_its_arguments(capsys, command):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    text = capsys.readouterr().out
    # An argument without a description stands alone in its line, and no description follows in the next.
    bare = re.findall(r"^  ((?:--\S+ )?\S+)\n(?!    )", text, re.MULTILINE)
    assert bare == []
    if command == ["features"]:
        assert "looked for in group/name, formula, inputs and source" in " ".join(text.split())
    if command in (["current"], ["versions"], ["restore"], ["verify"], ["diff"], ["materialise"]):
        assert "asset path of an asset, such as us_tech/bars" in " ".join(text.split())


def test_commands_are_all_listed_by_the_help():
    assert {"current", "features", "restore", "versions", "verify", "materialise", "ui", "stack"} <= {*COMMANDS}


def test_help_is_printed_without_loading_the_pipeline():
    code = (
        "import sys\nfrom hf_pipelines.commands.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print({'dagster', 'polars', 'numpy', 'hf_pipelines.definitions'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.splitlines()[-1] == "set()"
