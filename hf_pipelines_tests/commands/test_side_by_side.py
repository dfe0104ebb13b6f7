"""Runs side by side: the content of a plain loop, whole lines, and an error that says what it is of."""

import re

import pytest

from hf_pipelines.commands.making import Maker, Making
from hf_pipelines.commands.runs import RunFailedError
from hf_pipelines.commands.side_by_side import ManyMaker
from hf_pipelines.research.fan_out import Threads
from hf_pipelines_tests.pipeline import Project

pytestmark = pytest.mark.pipeline

WEEKS = ("2012-04-01", "2012-04-08")
STAGES = ("training_matrix", "cv_results")


def models(week: str) -> Making:
    return Making("models", tuple(f"ranking/{stage}" for stage in STAGES), "small", week, week)


@pytest.fixture(scope="module")
def project(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return small_project.copy(tmp_path_factory.mktemp("side") / "project")


def test_chains_are_the_same_content_as_a_plain_loop_in_whole_lines(project, tmp_path, capsys):
    chains = [[models(week)] for week in WEEKS]
    beside = project.copy(tmp_path / "beside")
    Maker(project.pipeline).make_all(chains)
    plain = capsys.readouterr().out.splitlines()
    many = ManyMaker(beside.pipeline, workers=Threads(1), opened=lambda: beside.pipeline)
    many.make_all(chains)
    lines = capsys.readouterr().out.splitlines()
    shape = re.compile(r"  ranking: training_matrix, cv_results +2012-04-0[18] +1 in +[0-9.]+ s")
    assert len(lines) == len(plain) == 2 and all(shape.fullmatch(line) for line in [*plain, *lines])
    hashes = {stage: project.hashes(f"ranking/{stage}") for stage in STAGES}
    assert {stage: beside.hashes(f"ranking/{stage}") for stage in STAGES} == hashes
    assert [*hashes["cv_results"]] == [*WEEKS] and many.seconds["models"] > 0.0


def test_error_of_a_run_names_its_assets_and_what_was_made_before_it_is_kept(project, capsys):
    # Ten weeks of training lie before no week of the market's first ones.
    first = project.weeks[1]
    many = ManyMaker(project.pipeline, workers=Threads(1), opened=lambda: project.pipeline)
    with pytest.raises(RunFailedError, match=f"^ranking: training_matrix, cv_results, {first}: `.*` must "):
        many.make_all([[models(WEEKS[0])], [models(first), models(WEEKS[1])], [models(WEEKS[1])]])
    *made, failed = capsys.readouterr().out.splitlines()
    assert len(made) == 1 and failed.split()[-2:] == [first, "failed"]
