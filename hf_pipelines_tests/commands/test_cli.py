"""The command line says of itself what each argument is, what is meant by a wrong one, and how far it is."""

import json
import math
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from hf_pipelines.commands import completion, console
from hf_pipelines.commands.app import PANELS, app
from hf_pipelines.commands.cli import commands, main

COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_describes_each_of_its_arguments(capsys, name):
    assert main([*name.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for each in COMMANDS[name].params:
        assert each.help and (each.name == "help" or " ".join(each.help.split())[:40] in text), each.name
    if name == "list":
        assert "looked for in names, and in the formula, inputs and source of features" in text
    if name in ("current", "versions", "restore", "verify", "diff", "materialise"):
        assert "Path of an asset, such as us_tech/bars" in text


def test_commands_are_all_listed_by_the_help_in_whole_sentences(capsys):
    assert main(["-h"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for each in app.registered_commands:
        assert str(each.short_help) in text and str(each.short_help).endswith("."), each.name
    assert {"current", "list", "restore", "versions", "verify", "materialise", "ui", "stack", "incident dismiss"} <= {
        *COMMANDS
    }


def test_bare_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "retrain" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retrian"], "No such command 'retrian'. Did you mean 'retrain'?"),
        (["status", "--strikt"], "No such option: --strikt"),
        (["retrain", "momentum"], "Missing option '--week'."),
        (["ledger", "sumary"], "No such command 'sumary'. Did you mean 'summary'?"),
        (["diff", "a/b", "2013-02-24", "4be1", "--rows", "many"], "Invalid value for '--rows'"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong_and_what_is_near(capsys, arguments, said):
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split()) and "--help" in told or "-h" in told


def test_help_is_printed_without_loading_the_pipeline():
    code = (
        "import sys\nfrom hf_pipelines.commands.cli import main\nmain(['--help'])\n"
        "print({'dagster', 'polars', 'numpy', 'hf_pipelines.definitions'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.splitlines()[-1] == "set()"


def on_terminal(*command: str) -> str:
    """What a command writes to a terminal of 80 columns."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    written = b""
    while True:
        try:
            if not (part := os.read(leader, 65_536)):
                break
        except OSError:
            # Linux says so where the other end is closed.
            break
        written += part
    process.wait(timeout=60)
    os.close(leader)
    return written.decode()


def test_a_terminal_gets_colours_and_headings_and_a_pipe_plain_text():
    command = [sys.executable, "-m", "hf_pipelines.commands.cli", "--help"]
    shown = on_terminal(*command)
    assert "\x1b[" in shown and all(f" {panel} " in re.sub(r"\x1b\[[0-9;]*m", "", shown) for panel in PANELS)
    piped = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "\x1b" not in piped and "─" not in piped


def test_lines_are_coloured_on_a_terminal_and_uncut_in_a_pipe():
    long = "x" * 150
    code = (
        "from hf_pipelines.commands.console import say\n"
        f"say(['tech: late since 2013-02-24 [red]', 'Nothing is late.', '{long}'])"
    )
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert piped == f"tech: late since 2013-02-24 [red]\nNothing is late.\n{long}\n"
    shown = on_terminal(sys.executable, "-c", code)
    # What is well has no colour of a fault.
    assert (
        shown.count("\x1b[1;31mlate") == 1
        and "Nothing is late." in shown
        and "\x1b[36m2013-02-24" in shown
        and "[red]" in shown
        and long in shown
    )


def test_json_is_what_every_parser_reads(capsys):
    told = {"day": date(2013, 2, 24), "at": datetime(2013, 2, 24, 1, tzinfo=UTC), "sharpe": float("nan")}
    console.say_json({**told, "most": [math.inf, (0.5, 3)], "is_open": True, "why": None, "name": "é [red]"})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    read = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert read == {
        "day": "2013-02-24",
        "at": "2013-02-24T01:00:00+00:00",
        "sharpe": None,
        "most": [None, [0.5, 3]],
        "is_open": True,
        "why": None,
        "name": "é [red]",
    }


def test_progress_tells_how_far_it_is_and_how_long_it_takes(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(console, "monotonic", lambda: now)
    with console.progress("us_tech/bars", 4) as shown:
        shown._began = shown._told = now
        for at, told in [(104.0, ""), (130.0, "us_tech/bars: 2 of 4, week 2, about 30 s left\n"), (170.0, "")]:
            now = at
            shown.advance(f"week {shown.done + 1}")
            # A line each ten seconds, not one each step; the last step needs none while a step is left at 170 s.
            assert (printed := capsys.readouterr().err) == told or "3 of 4" in printed
        now = 200.0
        shown.advance("week 4")
        assert capsys.readouterr().err == ""


def test_quiet_leaves_progress_out(monkeypatch, capsys):
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    for is_quiet, n_lines in ((False, 1), (True, 0)):
        console.set_quiet(is_quiet)
        try:
            with console.progress("bars", 3) as shown:
                shown.advance("a week")
            assert len(capsys.readouterr().err.splitlines()) == n_lines
        finally:
            console.set_quiet(False)


def test_a_shell_is_offered_the_names_of_the_project(monkeypatch, tmp_path):
    assert completion.strategies("tech_r") == ["tech_ranking"] and completion.markets("us") == [
        "us_tech",
        "us_tech_feed",
    ]
    assert completion.kinds("l") == ["learners", "limits"]
    # In no project there is nothing to offer, and nothing is said.
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_PROJECT", raising=False)
    monkeypatch.setattr("hf_pipelines.resources.project.find_project", lambda *_: None)
    assert completion.strategies("") == [] == completion.assets("")


def words_of(name: str) -> list[str]:
    """A command line with a word for each argument that is asked for."""
    asked = [each for each in COMMANDS[name].params if each.required]
    words = [[each.opts[0], "x"] if each.param_type_name == "option" else ["x"] for each in asked]
    return [*name.split(), *(word for pair in words for word in pair)]


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"init"}))
def test_outside_of_any_project_nothing_is_answered_and_nothing_written(monkeypatch, tmp_path, capsys, name):
    """`hfp verify` of an installed package said "0 objects: no mismatches" in a wrong folder; `hfp ui` left one there."""
    for each in ("HF_PROJECT", "HF_DATA_DIR"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setattr("hf_pipelines.resources.project.PACKAGE_ROOT", tmp_path / "site-packages" / "hf_pipelines")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    assert main(words_of(name)) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(
        "hfp: `project` must be found from the working folder upwards"
    )
    assert [*tmp_path.rglob("*")] == [tmp_path / "folder"]


def test_completion_of_a_command_line_is_what_the_shell_asks_for():
    environment = {
        **os.environ,
        "_HFP_COMPLETE": "complete_bash",
        "COMP_WORDS": "hfp retrain tech_r",
        "COMP_CWORD": "2",
    }
    hfp = str(Path(sys.executable).with_name("hfp"))
    run = subprocess.run([hfp], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout.split() == ["tech_ranking"]
