"""Tests that `make test-quick` leaves out: those that a measured run found to be slow, in `slow_tests.txt`.

`make slow-tests` measures and writes the list anew. A test that is not in it runs, so a new test runs until the list is
next written. A new case, such as one more entry of a registry, runs if its test does.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import fmean

LIST = Path(__file__).with_suffix(".txt")

# Mean over the cases of a test: what is cheaper makes four fifths of the cases and an eighth of the seconds.
SLOW_CPU_S = 0.07

HEAD = f"""\
# Tests whose cases take more than {SLOW_CPU_S} CPU seconds in the mean: `make test-quick` leaves them out.
# Written by `make slow-tests`.
"""


def without_case(node: str) -> str:
    """A test of pytest's name of one of its cases: without parameters, and without the group that pytest-xdist adds."""
    return node.partition("[")[0].partition("@")[0]


def slow_among(cpu_s: Mapping[str, float]) -> list[str]:
    """Tests that are slow, in order, of CPU seconds by the names of cases."""
    cases = defaultdict(list)
    for node, seconds in cpu_s.items():
        cases[without_case(node)].append(seconds)
    return sorted(test for test, seconds in cases.items() if fmean(seconds) > SLOW_CPU_S)


@cache
def slow_tests() -> frozenset[str]:
    """Tests of the list."""
    return frozenset(line for line in LIST.read_text().splitlines() if line and not line.startswith("#"))


def write(costs: Path) -> int:
    """Write the list from what `HF_TEST_COSTS=FILE` left; return how many tests are in it."""
    found = slow_among({node: cost["cpu_s"] for node, cost in json.loads(costs.read_text()).items()})
    LIST.write_text(HEAD + "".join(f"{test}\n" for test in found))
    return len(found)


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]))} slow tests are in {LIST.name}")
