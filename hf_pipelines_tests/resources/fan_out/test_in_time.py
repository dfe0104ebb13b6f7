"""Calls until a deadline: what ends, what is ended, what never begins, and what loses its process."""

import time
from functools import partial
from time import monotonic

import psutil
import pytest

from hf_pipelines.research.fan_out import Lost, Threads, one_in_time
from hf_pipelines.resources.fan_out.processes import Processes
from hf_pipelines_tests.resources.fan_out import mapped


@pytest.fixture(scope="module")
def processes():
    with Processes(2) as opened:
        yield opened


@pytest.mark.parametrize("backend", ["loop", "threads", "processes"])
def test_without_a_deadline_every_task_comes_once_with_its_place(backend, processes):
    in_time = {"loop": one_in_time, "threads": Threads(3).in_time, "processes": processes.in_time}[backend]
    tasks = [7, -2, 5, -9, 1]
    assert dict(in_time(abs, tasks, None)) == dict(enumerate(map(abs, tasks)))
    assert [*in_time(abs, [], None)] == []


def test_tasks_are_drawn_as_they_begin(processes):
    drawn = []

    def tasks():
        for each in range(20):
            drawn.append(each)
            yield each

    for n_ended, _ in enumerate(processes.in_time(abs, tasks(), None)):
        assert len(drawn) <= n_ended + 1 + processes.n_workers


def test_what_is_under_way_at_the_deadline_is_ended_within_a_tenth_of_the_time():
    seconds = 4.0
    with Processes(2) as processes:
        began = monotonic()
        found = dict(processes.in_time(partial(mapped.sleep_at, 1), range(3), lambda: seconds - (monotonic() - began)))
        took = monotonic() - began
        # Starting a process counts, too: a slow machine may not have made any in so short a time.
        assert 1 not in found and set(found) <= {0, 2}
        assert seconds <= took + 0.01 <= 1.1 * seconds
        # It is gone, and others take its place.
        assert not any("sleep" in " ".join(each.cmdline()) for each in psutil.Process().children(recursive=True))
        assert dict(processes.in_time(abs, [-4], None)) == {0: 4}


def test_no_time_begins_nothing(processes):
    drawn = iter([1, 2])
    assert [*processes.in_time(abs, drawn, lambda: 0.0)] == [] == [*one_in_time(abs, drawn, lambda: 0.0)]
    assert [*drawn] == [1, 2]


def test_task_that_kills_its_process_is_lost_alone_and_those_beside_it_are_made(tmp_path):
    (tmp_path / "always").touch()
    (tmp_path / "killed").touch()
    with Processes(2) as processes:
        found = dict(processes.in_time(partial(mapped.be_killed_once, str(tmp_path)), range(8), None))
    lost = found.pop(5)
    assert isinstance(lost, Lost) and "SIGKILL(-9)" in lost.reason
    assert found == {at: (at, at * at) for at in range(8) if at != 5}


def test_an_error_crosses_as_it_is(processes):
    with pytest.raises(ValueError, match="`task` must not be 0, was 0"):
        list(processes.in_time(partial(mapped.fail_at, 0), [0], None))


def test_a_thread_that_runs_over_is_left_behind():
    began = monotonic()
    found = list(Threads(2).in_time(_slow, [0.0, 1.0], lambda: 0.3 - (monotonic() - began)))
    assert found == [(0, 0.0)] and monotonic() - began < 0.9


def _slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
