"""Pytest plugin: what each test costs, and the ten slowest at the end of a run; with `HF_TEST_COSTS=FILE` all of them as JSON.

Seconds of a test are those of its setup, call and teardown; a fixture that many tests share is counted with the first
of them. CPU is that of the test's process and of the children that it waited for: what outlives the test, and who else
ran, is counted over the whole run by `hf_pipelines_tests.cost`.
"""

import json
import os
import resource
from collections import defaultdict
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hf_pipelines_tests.forked import ended_cpu_s

N_SLOWEST = 10


def cpu_seconds(who: int) -> float:
    """CPU seconds, of user and system, of `resource.RUSAGE_SELF` or `RUSAGE_CHILDREN` so far."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Cost:
    """Seconds of one test: by the clock, and of CPU."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@dataclass(eq=False)  # pytest keeps plugins in sets
class CostReport:
    """Adds up the phases of each test where results come together: the only process, or the one that leads the workers."""

    costs: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    _before: float = 0.0

    def _cpu_s(self) -> float:
        return cpu_seconds(resource.RUSAGE_SELF) + cpu_seconds(resource.RUSAGE_CHILDREN) + ended_cpu_s()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        self._before = self._cpu_s()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        now = self._cpu_s()
        # Attributes of a report travel from a worker to the process that leads it.
        report.cpu_s, self._before = now - self._before, now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cost = self.costs[report.nodeid]
        cost.wall_s += report.duration
        cost.cpu_s += getattr(report, "cpu_s", 0.0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        slowest = sorted(self.costs.items(), key=lambda entry: -entry[1].wall_s)[:N_SLOWEST]
        if not slowest:
            return
        if told := os.environ.get("HF_TEST_COSTS"):
            Path(told).write_text(json.dumps({name: asdict(cost) for name, cost in self.costs.items()}, indent=1))
        total_s = sum(cost.cpu_s for cost in self.costs.values())
        terminalreporter.section(f"slowest {len(slowest)} tests; all tests: {total_s:.0f} CPU seconds", sep="=")
        for name, cost in slowest:
            terminalreporter.write_line(f"{cost.wall_s:7.1f} s {cost.cpu_s:7.1f} s CPU  {name}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CostReport(), "cost_report")
