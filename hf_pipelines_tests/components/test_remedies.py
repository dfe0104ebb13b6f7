"""Remedies: the commands that a failure names are run as they stand, and what failed then succeeds."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_pipelines_tests.conftest import FIRST_SESSION
from hf_pipelines_tests.pipeline import Project, files_market, ridge_strategy, session_bars, sessions_from

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
    stages = ("training_matrix", "cv_results", "fitted_model", "backtest") if kind == "retrain" else None
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
