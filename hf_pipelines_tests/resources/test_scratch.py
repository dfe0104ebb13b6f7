"""Folders that a process works in: removed when it ends, by the next one where it was killed, and never under a living one."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from hf_pipelines.resources.scratch import remove_dead, scratch_folder

HELD = "from hf_pipelines.resources.scratch import scratch_folder\nimport time\nwith scratch_folder('hfp_test_') as f:\n print(f, flush=True)\n time.sleep(60)"


@pytest.fixture
def tmp(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def aged(folder):
    (folder / "inner").mkdir(parents=True, exist_ok=True)
    os.utime(folder, (time.time() - 3_600, time.time() - 3_600))
    return folder


def test_a_folder_is_removed_at_the_end_and_after_an_error(tmp):
    with pytest.raises(ZeroDivisionError), scratch_folder("hfp_test_") as folder:
        assert folder.parent == tmp and folder.is_dir()
        raise ZeroDivisionError
    assert not [*tmp.iterdir()]


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(tmp):
    child = subprocess.Popen(
        [sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp)}
    )
    try:
        assert child.stdout.readline().startswith(str(tmp))
        (folder,) = tmp.glob("hfp_test_*")
        aged(folder)
        assert remove_dead("hfp_test_") == [] and folder.is_dir()
        child.send_signal(signal.SIGKILL)
        child.wait(30)
        with scratch_folder("hfp_test_") as other:
            assert [*tmp.iterdir()] == [other]
    finally:
        child.kill()
        child.communicate()


def test_links_young_folders_and_others_are_left_alone(tmp):
    kept = aged(tmp / "precious")
    (tmp / "hfp_test_link").symlink_to(kept)
    (tmp / "hfp_test_file").touch()
    (tmp / "hfp_test_young").mkdir()
    dead = aged(tmp / "hfp_test_dead")
    assert remove_dead("hfp_test_") == [dead]
    assert sorted(each.name for each in tmp.iterdir()) == [
        "hfp_test_file",
        "hfp_test_link",
        "hfp_test_young",
        "precious",
    ]
    assert (kept / "inner").is_dir()
