"""Commands that write are refused beside a service whose overrides are others; every command is judged."""

import json
import os

import pytest

from hf_pipelines.commands.cli import commands, main

COMMANDS = dict(commands())

# What only reads, makes a project of its own, or is the service itself. Whatever is not named here must be refused.
READING = {
    *("status", "current", "signals", "list", "tries", "tuning watch", "incident list", "alert test"),
    *(
        "compare",
        "leaderboard",
        "sweep",
        "explain",
        "drift",
        "card",
        "reproduce",
        "validate",
        "gates",
        "reconcile",
        "replay",
        "feature test",
    ),
    *("model list", "model show", "model lineage", "model changelog", "model diff"),
    *("history", "ledger summary", "ledger verify", "versions", "diff", "verify"),
    *("init", "ui", "stack", "mlflow", "tuning ui"),
}


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A service that runs, this process, with an override that the shell lacks, and without one that it has."""
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HF_SET__TECH_RANKING__LEARNER__SEED", "5")
    (tmp_path / "stack").mkdir()
    state = {"pid": os.getpid(), "id": "x", "command": "hfp ui", "overrides": {"HF_SET__TECH_DIRECTION__NOTE": "a b"}}
    (tmp_path / "stack" / "operator.json").write_text(json.dumps(state))
    return tmp_path


def least_line(name: str, *more: str) -> list[str]:
    """The shortest line of a command that its parser takes."""
    line = name.split()
    for each in COMMANDS[name].params:
        if each.required:
            line += [each.opts[0], "word"] if each.opts[0].startswith("-") else ["word"]
    return [*line, *more]


@pytest.mark.parametrize("name", sorted({*COMMANDS} - READING))
def test_every_command_that_writes_is_refused_before_anything_is_touched(service, capsys, name):
    before = sorted(service.rglob("*"))
    more = ("--yes",) if name == "gc" else ()
    assert main(least_line(name, *more)) == 1
    told = capsys.readouterr().err
    assert (
        told
        == f"hfp: `HF_SET__...` must be the overrides of the running hfp ui (pid {os.getpid()}) for a command that writes: "
        "HF_SET__TECH_DIRECTION__NOTE is not set here, a b there, HF_SET__TECH_RANKING__LEARNER__SEED is 5 here, not set there; "
        "take those of the service here: export HF_SET__TECH_DIRECTION__NOTE='a b'; unset HF_SET__TECH_RANKING__LEARNER__SEED; or stop the "
        "service and start it from this shell.\n"
    )
    assert sorted(service.rglob("*")) == before


def test_what_the_refusal_names_cures_it(service, monkeypatch, capsys):
    monkeypatch.setenv("HF_SET__TECH_DIRECTION__NOTE", "a b")
    monkeypatch.delenv("HF_SET__TECH_RANKING__LEARNER__SEED")
    # What is wrong of it is said now: it came that far.
    assert main(["feed", "word", "--init"]) == 1
    assert "`market` must be one of" in capsys.readouterr().err


def test_a_dry_run_of_gc_is_not_refused(service, capsys):
    assert main(["gc"]) == 0
    assert "nothing was removed: hfp gc --yes" in capsys.readouterr().out
