"""Shown studies: Optuna's tools and other processes see each trial once, whatever was killed; none of it can stop a study."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import optuna
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.commands.tuning import duration, progress_line
from hf_pipelines.research.tuning import run_study
from hf_pipelines.resources.shown_studies import Progress, journal_path, open_studies, read_progress
from hf_pipelines_tests.resources.studying import evaluate, run_shown, small_design
from hf_pipelines_tests.servers import free_port, postgres_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("HF_STUDIES_URL", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[str]:
    with postgres_server(tmp_path_factory.mktemp("studies")) as postgres:
        yield postgres.url


def killed_study(folder: Path, *, at: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "hf_pipelines_tests.resources.studying", str(folder), str(at)],
        cwd=ROOT,
        env=dict(os.environ),
    )


def shown_trials(name: str = "small/2013-02-24/01234567"):
    return optuna.load_study(study_name=name, storage=open_studies("small")).trials


def test_a_study_that_was_killed_twice_is_shown_as_one_that_was_not(folder):
    undisturbed = run_study(small_design(), evaluate)
    for at in (1, 6):
        assert killed_study(folder, at=at).wait(120) == -9
    found = run_shown(pytest.fail)
    assert found.hash == undisturbed.hash
    by_slot = {each.user_attrs["slot"]: each for each in shown_trials()}
    assert sorted(by_slot) == list(range(12)) and len(shown_trials()) == 12
    for trial in undisturbed.trials:
        shown = by_slot[trial.slot]
        assert shown.params == trial.point
        assert tuple(shown.values or ()) == trial.outcome.values
    assert by_slot[2].state.name == "FAIL" and by_slot[2].user_attrs["error"] == "no such luck"
    assert by_slot[3].state.name == "PRUNED" and by_slot[3].intermediate_values == {1: 8.0}
    study = optuna.load_study(study_name="small/2013-02-24/01234567", storage=open_studies("small"))
    assert study.best_trial.user_attrs["slot"] == undisturbed.best.slot
    assert study.metric_names == ["loss"]


def test_another_process_sees_how_far_a_study_is(folder, capsys):
    (folder / "wait").touch()
    child = killed_study(folder, at=5)
    try:
        end = time.monotonic() + 120
        while True:
            assert time.monotonic() < end
            try:
                assert main(["tuning", "watch", "small", "--once"]) == 0
            except AssertionError:
                capsys.readouterr()
                time.sleep(0.2)
                continue
            line = capsys.readouterr().out.strip()
            if (
                line.startswith("small/2013-02-24/01234567: 5 of 12 trials, 3 running, 1 failed; best loss 0.")
                and "left" in line
            ):
                break
            time.sleep(0.2)
    finally:
        (folder / "wait").unlink()
        child.wait(60)
    run_shown(pytest.fail)
    run_shown(pytest.fail, week="2013-03-03", trials=4)
    assert main(["tuning", "watch", "small", "2013-02-24"]) == 0
    assert capsys.readouterr().out.endswith(
        "12 of 12 trials, 1 failed; best loss "
        + f"{run_study(small_design(), evaluate).best.outcome.values[0]:.6g}; done\n"
    )
    # Without a week the study that began last.
    assert main(["tuning", "watch", "small"]) == 0
    assert capsys.readouterr().out.startswith("small/2013-03-03/01234567: 4 of 4 trials")


@pytest.mark.parametrize(("arguments", "told"), [
    (["watch", "absent"], "`strategy` must have a study here, absent has none; materialise absent/tuning"),
    (["ui", "absent"], "`strategy` must have a study here, absent has none; materialise absent/tuning"),
    (["watch", "../../etc"], "`strategy` must be the name of a strategy, was '../../etc'."),
])  # fmt: skip
def test_what_is_not_there_is_told_in_one_line_and_nothing_is_made(folder, capsys, arguments, told):
    assert main(["tuning", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hfp: {told}") and said.count("\n") == 1
    assert not (folder / "data" / "studies").exists()


def test_a_line_that_was_not_finished_when_the_power_went_is_cut_off(folder):
    run_shown(pytest.fail, trials=4)
    path = journal_path("small")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "wor')
    assert read_progress(open_studies("small"), "small/2013-02-24/01234567").n_done == 4
    assert path.read_bytes() == whole
    run_shown(pytest.fail)
    assert len(shown_trials()) == 12


def test_a_study_that_cannot_be_shown_goes_on_and_says_so_once(monkeypatch, folder):
    told = []
    monkeypatch.setenv("HF_STUDIES_URL", "postgresql://user:secretword@127.0.0.1:1/studies")
    assert run_shown(told.append).hash == run_study(small_design(), evaluate).hash
    (line,) = told
    assert line.startswith(
        "the study goes on, but is not shown any more: `HF_STUDIES_URL` must be a PostgreSQL database that answers"
    )
    assert "secretword" not in line
    monkeypatch.delenv("HF_STUDIES_URL")
    (folder / "data").mkdir()
    (folder / "data" / "studies").write_text("no folder")
    assert run_shown(told.append).count("completed") == 10
    assert len(told) == 2


@pytest.mark.long
@pytest.mark.servers
def test_two_processes_meet_an_empty_database_and_both_are_shown(database, monkeypatch, folder):
    monkeypatch.setenv("HF_STUDIES_URL", database)
    children = [killed_study(folder, at=at) for at in (4, 9)]
    assert [each.wait(240) for each in children] == [-9, -9]
    run_shown(pytest.fail)
    slots = [each.user_attrs["slot"] for each in shown_trials()]
    # Both showed the same study at once: no run counts a slot twice, two at once may show one twice.
    assert set(slots) == set(range(12))
    assert not (folder / "data" / "studies").exists()
    found = read_progress(open_studies("small"), "small/2013-02-24/01234567")
    assert (found.n_asked, found.ended, found.goals) == (12, "done", ("loss",))


@pytest.mark.long
@pytest.mark.servers
def test_optunas_dashboard_lists_the_study(folder):
    run_shown(pytest.fail, trials=4)
    port = free_port()
    served = subprocess.Popen(
        [sys.executable, "-m", "hf_pipelines.commands.cli", "tuning", "ui", "small", "--port", str(port)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert served.stdout is not None
        assert f"http://127.0.0.1:{port}" in served.stdout.readline().decode()
        end = time.monotonic() + 60
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=10) as answer:
                    listed = json.load(answer)["study_summaries"]
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.1)
    finally:
        served.kill()
        served.wait()
    assert [each["study_name"] for each in listed] == ["small/2013-02-24/01234567"]


def test_progress_is_told_in_words():
    running = Progress("s/2013-02-24/ab", 100, 12, 2, 1, (0.53125,), ("accuracy",), 190.0, 3.0, "")
    assert (
        progress_line(running)
        == "s/2013-02-24/ab: 12 of 100 trials, 2 running, 1 failed; best accuracy 0.53125; about 3 min left"
    )
    silent = Progress("s/2013-02-24/ab", 100, 0, 2, 0, (), ("accuracy",), None, 430.0, "")
    assert progress_line(silent) == (
        "s/2013-02-24/ab: 0 of 100 trials, 2 running; none completed yet; silent for 6 min: its run may be dead, see hfp status"
    )
    assert [duration(each) for each in (40, 100, 7200)] == ["40 s", "2 min", "2.0 h"]
