"""What a run of the tests costs: every process counts, and a run above its budget is warned of."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hf_pipelines_tests.cost import BUDGET, verdict
from hf_pipelines_tests.cost_report import Cost

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).resolve().parents[1]
BURNT_S = 0.5

# A child starts a process in a session of its own and ends at once: nobody below waits for that process.
ORPHAN = f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while time.process_time() < {BURNT_S}: pass
        os.closerange(0, 3)
        open(sys.argv[1], "w").close()
        time.sleep(float(sys.argv[2]))
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1]): time.sleep(0.02)
time.sleep(0.2)
sys.exit(3)
"""


def _cost(*command: str) -> tuple[int, float, str]:
    """Exit code, CPU seconds and output of a command that runs under `cost`."""
    argv = [sys.executable, "-m", "hf_pipelines_tests.cost", *command]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    found = re.search(r"cost: ([0-9.]+) CPU seconds", run.stdout)
    assert found, run.stdout + run.stderr
    return run.returncode, float(found[1]), run.stdout


def test_cost_of_a_command_without_children_is_its_own():
    code, seconds, _ = _cost(sys.executable, "-S", "-c", "")
    assert code == 0
    assert seconds < BURNT_S


def test_cost_counts_an_orphan_that_ended_in_a_session_of_its_own(tmp_path):
    code, seconds, said = _cost(sys.executable, "-S", "-c", ORPHAN, str(tmp_path / "burnt"), "0")
    assert code == 3
    assert BURNT_S <= seconds < 3 * BURNT_S
    assert "left running" not in said


def test_cost_counts_and_names_what_still_runs_at_the_end(tmp_path):
    code, seconds, said = _cost(sys.executable, "-S", "-c", ORPHAN, str(tmp_path / "burnt"), "600")
    left = re.search(r"left running: (\d+) ", said)
    assert left, said
    os.kill(int(left[1]), signal.SIGKILL)
    assert code == 3
    assert BURNT_S <= seconds < 3 * BURNT_S


def test_cost_of_a_killed_command_has_the_exit_code_of_a_shell():
    code, _, _ = _cost(sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)")
    assert code == 137


@pytest.mark.parametrize(
    ("cost", "above"),
    [
        (Cost(wall_s=12 * 60, cpu_s=18 * 60), []),
        (Cost(wall_s=12 * 60 + 1, cpu_s=18 * 60), ["wall_minutes"]),
        (Cost(wall_s=1, cpu_s=18 * 60 + 1), ["cpu_minutes"]),
        (Cost(wall_s=721, cpu_s=1081), ["cpu_minutes", "wall_minutes"]),
    ],
    ids=["at the budget", "too long", "too dear", "both"],
)
def test_verdict_warns_above_the_budget_alone(cost, above):
    said = verdict(cost, {"cpu_minutes": 18.0, "wall_minutes": 12.0})
    assert ("WARNING" in said) == bool(above)
    assert f"WARNING: {' and '.join(above)} above" in said or not above


def test_budget_states_both_minutes():
    assert set(tomllib.loads(BUDGET.read_text())) == {"cpu_minutes", "wall_minutes"}


PLAIN_TESTS = """
import subprocess, sys, time
import pytest

@pytest.fixture
def dear():
    time.sleep(0.3)

def test_waits(dear): pass
def test_burns():
    subprocess.run([sys.executable, "-S", "-c", "import time\\nwhile time.process_time() < 0.2: pass"], check=True)
def test_quick(): pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_report_lists_slowest_tests_with_fixtures_and_children(tmp_path, workers):
    (tmp_path / "test_plain.py").write_text(PLAIN_TESTS)
    argv = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    plugins = ["-p", "xdist.plugin", "-p", "hf_pipelines_tests.cost_report", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*argv, *plugins, "-n", workers],
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = re.findall(r"^ +([0-9.]+) s +([0-9.]+) s CPU .*::test_(\w+)", run.stdout, re.MULTILINE)
    assert {name for *_, name in lines} == {"waits", "burns", "quick"}
    wall_s = {name: float(wall) for wall, _, name in lines}
    cpu_s = {name: float(cpu) for _, cpu, name in lines}
    assert wall_s["waits"] >= 0.3
    assert cpu_s["burns"] >= 0.2
    assert cpu_s["waits"] < 0.2
