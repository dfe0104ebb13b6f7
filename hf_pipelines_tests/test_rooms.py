"""Rooms: which of them may know which, and that research is pure."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESEARCH = ROOT / "hf_pipelines" / "research"

# What would tie a number to a disk, an environment, a clock or a global seed.
IMPURE = {
    "a file": r"\bopen\(|\.read_text\(|\.write_text\(|\bread_(csv|parquet|json)\(|\.write_(csv|parquet|json)\(|\bPath\(",
    "the environment": r"os\.environ|os\.getenv",
    "the clock": r"datetime\.now|datetime\.utcnow|date\.today|\btime\.time\(|perf_counter|\bmonotonic\(",
    "a global seed": r"np\.random\.(seed|rand|randn|random|normal|choice|shuffle|permutation)\b|random\.seed|\bimport random\b",
    "a global figure": r"import.*\bpyplot\b",
}


def test_rooms_know_only_those_below_them():
    program = Path(sys.executable).parent / "lint-imports"
    run = subprocess.run(
        [str(program), "--no-cache"], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert re.search(r"Contracts: \d+ kept, 0 broken", run.stdout)


@pytest.mark.parametrize("pattern", IMPURE.values(), ids=IMPURE.keys())
def test_research_touches_neither_disk_environment_clock_nor_global_seed(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(RESEARCH.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_every_module_opens_with_a_room_card():
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "hf_pipelines").rglob("*.py"))
        if path.read_text().strip() and not path.read_text().startswith('"""')
    ]
    assert silent == []
