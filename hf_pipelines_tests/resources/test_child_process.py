"""Child processes: they find the modules of their parent, know its variables only where given, and are never waited for long."""

import signal
import subprocess

from hf_pipelines.resources import child_process
from hf_pipelines.resources.child_process import end_child, start_child


def test_child_finds_modules_of_its_parent_and_has_the_given_variables_alone(tmp_path, monkeypatch):
    (tmp_path / "its_module.py").write_text(
        "import os, sys; print(sys.argv[1], sorted({'GIVEN', 'KEPT'} & {*os.environ}))"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KEPT", "secret")
    child = start_child("its_module", ["one"], environment={"GIVEN": "1"}, stdout=subprocess.PIPE)
    assert child.communicate(timeout=60)[0].decode() == "one ['GIVEN']\n"
    assert end_child(child) == 0


def test_child_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(child_process, "END_S", 0.2)
    (tmp_path / "waits.py").write_text("import time; time.sleep(600)")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert end_child(start_child("waits", [], environment={})) == -signal.SIGKILL
