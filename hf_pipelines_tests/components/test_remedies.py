"""Remedies: commands that a message names are run as they stand; what failed then succeeds, and the message is gone."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from hf_pipelines.commands.store import verify_store
from hf_pipelines_tests.conftest import FIRST_SESSION
from hf_pipelines_tests.pipeline import RETRAINED, Project, files_market, ridge_strategy, session_bars, sessions_from

COMMAND = re.compile(r"hfp (?:(materialise) (\S+) --from (\S+?)(?: --to (\S+?))?|(retrain) (\S+) --week (\S+?)(?: --to (\S+?))?)(?=[\s,;.)]|$)")  # fmt: skip
GROUPS = ["quick", "temporal"]


@pytest.fixture
def project(tmp_path: Path, quick, mlflow_template: Path) -> Project:
    """Files of twelve weeks, and nothing made of them; a strategy on two groups of features."""
    bars = session_bars(sessions_from(FIRST_SESSION, 12), seed=3)
    market = files_market(tmp_path / "source", bars, features=["quick", "temporal/day_of_week"])
    folds = {"n_splits": 2, "test_sessions": 5, "min_train_sessions": 5}
    strategy = ridge_strategy(features=GROUPS, training={"weeks": 6, "minimum_rows": 20}, cross_validation=folds)
    return Project(tmp_path / "project", market, [strategy], mlflow_template=mlflow_template)


def run(project: Project, command: tuple) -> str:
    """What a command fails with, "" if it succeeds."""
    kind, name, first, last = command
    stages = RETRAINED if kind == "retrain" else None
    done = project.run([f"{name}/{each}" for each in stages] if stages else [name], first, last)
    return "" if done.success else done.message


def commands_of(message: str) -> Iterator[tuple]:
    for found in COMMAND.finditer(message):
        materialise, asset, first, last, retrain, strategy, week, to = found.groups()
        yield (materialise or retrain, asset or strategy, first or week, last or to)


def cure(project: Project, command: tuple, tried: list[tuple]) -> None:
    """Run a command; where it fails, all that its failure names, then it again: once must be enough."""
    tried.append(command)
    if message := run(project, command):
        named = [each for each in dict.fromkeys(commands_of(message)) if each[:2] != command[:2]]
        assert named, f"no command in: {message}"
        for each in named:
            assert each not in tried, f"{each} was run already and is named again by: {message}"
            cure(project, each, tried)
        assert run(project, command) == "", f"{named} did not cure {command}"


def test_failure_of_signals_names_all_that_is_missing_and_its_commands_cure(project):
    week = project.weeks[-2]
    day = project.partitions.sessions_of_week(week)[1].isoformat()
    command = ("materialise", "ranking/signals", day, None)
    named = {each[:2] for each in commands_of(run(project, command))}
    assert named == {
        ("materialise", "small/features/quick"),
        ("materialise", "small/features/temporal"),
        ("retrain", "ranking"),
    }
    cure(project, command, [])
    assert project.store.partitions("ranking/signals") == [day]


def test_failure_of_a_training_matrix_names_bars_and_every_group_at_once(project):
    week = project.weeks[-1]
    message = run(project, ("materialise", "ranking/training_matrix", week, None))
    assert {each[1] for each in commands_of(message)} >= {
        "small/bars",
        "small/features/quick",
        "small/features/temporal",
    }


def test_failure_over_a_hole_in_the_middle_is_cured_by_its_command(project):
    weeks = project.weeks
    project.make("small/bars", weeks[0], weeks[3])
    project.make("small/bars", weeks[5], weeks[-1])
    cure(project, ("materialise", "small/features/quick", weeks[0], weeks[-1]), [])
    assert project.store.partitions("small/features/quick") == weeks


def cured_lines(project: Project, lines_of: Callable[[], list[str]]) -> list[str]:
    """Run the commands of each line in its order, the first line of each kind; a line must be gone after its own.

    Returns the lines that were cured. Of a kind are lines whose commands make the same, as a remedy or as a line alone.
    """
    cured: dict[tuple, str] = {}
    while new := [line for line in lines_of() if kind_of(line) and kind_of(line) not in cured]:
        line = cured[kind_of(new[0])] = new[0]
        for command in commands_of(line):
            cure(project, command, [])
        assert line not in lines_of(), f"its command did not cure: {line}"
    return [*cured.values()]


def kind_of(line: str) -> tuple:
    is_remedy = "do: " in line
    return ("do", *commands) if (commands := tuple(each[:2] for each in commands_of(line))) and is_remedy else commands


def status_lines(project: Project, instance: dg.DagsterInstance) -> list[str]:
    """Lines of `hfp status` with what stands above their remedies: without it two lines may be the same."""
    above, found = "", []
    for line in replace(project.pipeline, instance=instance).status().lines():
        found.append(f"{above.strip()}: {line.strip()}" if line.startswith("    do:") else line.strip())
        above = above if line.startswith("    ") else line
    return found


@pytest.fixture
def made(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Ten of its weeks made, models of two of them and two issues; the files of two more weeks arrived long ago."""
    for name, value in {
        "LATE_HOURS": "0",
        "LEAST_DISK_MB": "0",
        "LEAST_MEMORY_MB": "0",
        "DATA_DIR": str(project.folder),
    }.items():
        monkeypatch.setenv(f"HF_{name}", value)
    for path in Path(project.market["source"]["uri"]).iterdir():
        os.utime(path, (0, 0))
    weeks = project.weeks
    project.make(["small/bars", *(f"small/features/{group}" for group in GROUPS)], weeks[0], weeks[9])
    for week in (weeks[7], weeks[9]):
        project.make([f"ranking/{stage}" for stage in ("training_matrix", "cv_results", "fitted_model")], week)
    sessions = project.partitions.sessions_of_week(weeks[9])
    for session in (sessions[0], sessions[3]):
        project.make("ranking/signals", session.isoformat())
    return project


def lose(project: Project, *partitions: tuple[str, int]) -> None:
    for asset, week in partitions:
        project.store.objects.delete(project.store.key(asset, project.weeks[week]))


def damage(project: Project, *partitions: tuple[str, int]) -> None:
    for asset, week in partitions:
        key = project.store.key(asset, project.weeks[week])
        project.store.objects.put(key, project.store.objects.get(key)[:-9] + b"something")


def test_each_line_of_status_current_and_verify_that_names_a_command_is_gone_when_that_was_run(made, tmp_path):
    retrain, bars, signals = ("retrain", "ranking"), ("materialise", "small/bars"), ("materialise", "ranking/signals")
    quick, temporal = (("materialise", f"small/features/{group}") for group in GROUPS)

    # Before the windows of the models that are late, so that nothing else makes it, and in one of them.
    lose(made, ("small/bars", 1), ("small/features/quick", 1))
    lose(made, ("small/features/quick", 5), ("small/features/temporal", 5))
    # The instance of the runs is in memory alone, and knows no ticks.
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        cured = cured_lines(made, lambda: status_lines(made, instance))
    assert {kind_of(line) for line in cured} == {
        # Late: bars whose files have arrived; a model, after what it is trained on; signals, with a model and without one.
        ("do", bars),
        ("do", quick, temporal, retrain),
        ("do", signals),
        ("do", retrain),
        # Holes and a gap.
        (bars,),
        (quick,),
        (retrain,),
    }

    lose(made, ("small/bars", 2))
    assets = ("small/bars", "ranking/signals")
    cured = cured_lines(made, lambda: [line for asset in assets for line in made.pipeline.current_lines(asset)[0]])
    assert {kind_of(line) for line in cured} == {(bars,), (signals,)}
    # That of a week between two others was never made; a stage of a model is made with the others.
    (line,) = (line for line in made.pipeline.current_lines("ranking/backtest")[0] if kind_of(line))
    assert line.endswith(f"hfp retrain ranking --week {made.weeks[9]} --to {made.weeks[9]}")

    def verify_lines() -> list[str]:
        lines: list[str] = []
        verify_store(made.store, None, lines.append, lambda _: None)
        return lines

    damage(made, ("small/bars", 9), ("small/features/quick", 9))
    damage(made, ("ranking/training_matrix", 7), ("ranking/fitted_model", 8))
    lose(made, ("small/features/temporal", 8))
    cured = cured_lines(made, verify_lines)
    stages = (("materialise", f"ranking/{stage}") for stage in ("training_matrix", "fitted_model"))
    assert {kind_of(line) for line in cured} == {(each,) for each in (bars, quick, temporal, *stages)}
    assert verify_lines()[-1].endswith(": no mismatches")
