"""Fan-out: the same results by threads and processes; errors, kills and ends."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.fan_out import Threads
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.tuning import Budget, Design, Goal, MemoryJournal, read_space, run_study
from hf_pipelines.research.weights import choose_weightings
from hf_pipelines.resources.fan_out import open_fan_out, opening
from hf_pipelines.resources.fan_out import processes as process_module
from hf_pipelines.resources.fan_out.opening import Share
from hf_pipelines.resources.fan_out.packing import packed, unpack
from hf_pipelines.resources.fan_out.processes import Processes
from hf_pipelines_tests.resources import studying
from hf_pipelines_tests.resources.fan_out import mapped
from hf_pipelines_tests.sample_matrix import random_matrix

BACKENDS = ["threads", "processes"]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as opened:
        yield opened


@pytest.fixture(params=BACKENDS)
def fan_out(request, processes):
    return Threads(2) if request.param == "threads" else processes


def pieces(n: int) -> pl.DataFrame:
    """A frame whose column lies in pieces of several lengths: sums by piece round differently than a sum of all."""
    rng = np.random.default_rng(3)
    return pl.concat([pl.DataFrame({"x": rng.normal(size=each) * 1e6}) for each in (7, n, 3, 1001)], rechunk=False)


def test_data_goes_to_each_process_once_and_is_shared_and_results_are_those_of_a_loop(processes):
    array = np.random.default_rng(0).normal(size=200_000)
    function = partial(mapped.tell_data, pieces(10_001), array)
    alone = [each[2] for each in map(function, range(40))]
    first, second = (list(processes(function, range(40))) for _ in range(2))
    assert [each[2] for each in first] == [each[2] for each in second] == alone
    found = {(pid, address) for pid, address, _, _ in first + second}
    # One that starts slowly has had nothing to do yet.
    deadline = time.monotonic() + 120.0
    while len({pid for pid, _ in found}) < 2 and time.monotonic() < deadline:
        found |= {(pid, address) for pid, address, _, _ in processes(function, range(40))}
    # One address a process: nothing is unpacked again for another task, or when the function is mapped anew.
    assert len(found) == len({pid for pid, _ in found}) == 2
    assert not any(writeable for *_, writeable in first)
    shared = [psutil.Process(pid).memory_maps(grouped=True) for pid, _ in found]
    assert all(sum("hf_fan_out_" in each.path for each in maps) == 1 for maps in shared)


def test_packed_frames_keep_the_pieces_and_types_of_each_column():
    frame = pieces(50).with_columns(
        name=pl.lit("a").cast(pl.Enum(["a", "b"])),
        category=pl.lit("a").cast(pl.Categorical),
        at=pl.datetime(2020, 1, 1, time_zone="UTC"),
        empty=pl.lit(None, dtype=pl.Float32),
        text=pl.lit("a text that is too long to lie in a view"),
        many=pl.lit([1.0, 2.0]),
        both=pl.struct(a=pl.lit(1), b=pl.lit("x")),
    )
    back, series, none, empty = unpack(packed((frame, frame["x"], frame.head(0), pl.DataFrame())))
    assert_frame_equal(back, frame)
    assert [back[each].chunk_lengths() for each in back.columns] == [
        frame[each].chunk_lengths() for each in back.columns
    ]
    assert (series.chunk_lengths(), series.name) == ([7, 50, 3, 1001], "x")
    assert none.schema == back.schema
    assert empty.shape == (0, 0)
    assert pickle.loads(pickle.dumps(frame)).n_chunks() == 1, "pickle joins pieces: that is why columns go as Arrow"


def test_order_is_kept_and_tasks_are_drawn_as_workers_are_free(fan_out):
    drawn = []

    def tasks():
        for each in range(100):
            drawn.append(each)
            yield each

    results = fan_out(partial(mapped.fail_at, -1), tasks())
    assert drawn == []
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(drawn) < 20
    assert list(results) == list(range(3, 100))
    assert list(fan_out(abs, [])) == []


def test_an_error_crosses_with_its_type_message_and_cause_and_workers_go_on(fan_out):
    results = fan_out(partial(mapped.fail_at, 2), range(10))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message below
        next(results)
    assert (type(caught.value), str(caught.value)) == (ValueError, "`task` must not be 2, was 2.")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.args == ("key",)
    assert list(fan_out(partial(mapped.fail_at, -1), range(3))) == [0, 1, 2]


def test_an_error_that_cannot_be_pickled_crosses_by_its_words(processes):
    with pytest.raises(RuntimeError, match="^StubbornError: no way\n") as caught:
        list(processes(mapped.fail_stubbornly, [1]))
    assert "in fail_stubbornly" in "".join(caught.value.__notes__)


def test_what_cannot_be_sent_is_refused_where_it_is_mapped(processes):
    with pytest.raises((TypeError, pickle.PicklingError), match="lock|pickle"):
        list(processes(partial(mapped.fail_at, threading.Lock()), [1]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_loops_inside_a_call_take_no_more_threads(backend, processes, monkeypatch):
    outer = Threads(2) if backend == "threads" else processes
    # A thread of this process would open a fan-out of its own: that is for whoever opens it to limit.
    found = list(outer(partial(mapped.map_inside, outer), [1, 2]))
    assert [each[2] for each in found] == [1, 1]
    assert [each[3] for each in found] == [[1], [2, 1]]
    if backend == "processes":
        assert [each[:2] for each in found] == [(1, 1), (1, 1)]


def test_a_killed_process_is_replaced_and_its_task_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(process_module, "MOST_LOST", 1)
    others = set(_worker_processes())
    told = []
    with Processes(2, tell=told.append) as processes:
        results = list(processes(partial(mapped.be_killed_once, str(tmp_path)), range(8)))
        assert results == [(each, each * each) for each in range(8)]
        assert (tmp_path / "killed").exists()
        assert any("SIGKILL(-9)" in line for line in told)
        (tmp_path / "always").touch()
        with pytest.raises(RuntimeError, match=r"killed 2 times \(.*SIGKILL\(-9\).*HF_FAN_OUT_WORKERS=1"):
            list(processes(partial(mapped.be_killed_once, str(tmp_path)), range(8)))
        assert list(processes(abs, [-1])) == [1]
        workers = set(_worker_processes()) - others
        assert len(workers) == 2
    _wait_for(lambda: not any(map(_is_alive, workers)), 10)


@pytest.mark.long
def test_a_study_one_of_whose_fits_ends_its_process_says_so_and_keeps_what_has_ended(monkeypatch):
    monkeypatch.setattr(process_module, "MOST_LOST", 1)
    space = read_space({"x": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.1}})
    design = Design(space=space, goals=(Goal("x", False),), budget=Budget(trials=11), sampler="grid", batch=4)
    journal = MemoryJournal()
    with Processes(2) as processes:
        for _ in range(2):
            # A retry meets the same fault: it is no trial that has failed, since another machine may have the memory.
            with pytest.raises(RuntimeError, match=r"must leave its process alive, .*killed 2 times .*SIGSEGV"):
                run_study(design, studying.score_of_small, map_trials=processes, journal=journal)
            # Slot 10 is in the third round; the two beside it may be lost with its process, but no earlier ones.
            assert {*journal.known()} >= {*range(8)} and 10 not in journal.known()
        ended = len(journal.known())
        # Without what ends it, the study goes on from there.
        found = run_study(design, studying.score_of_all, map_trials=processes, journal=journal)
    assert len(found.trials) == 11 and found.best.slot == 0 and ended in (8, 9, 10)


# A process in the background of a script ignores interrupts, and so do its children.
SCRIPT = """
import sys, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from functools import partial
from hf_pipelines.resources.fan_out.processes import Processes
from hf_pipelines_tests.resources import studying
from hf_pipelines_tests.resources.fan_out import mapped
with Processes(2) as processes:
    list(processes(partial(mapped.sleep_and_tell, sys.argv[1]), range(4)))
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, id="kill -9"),
        pytest.param(signal.SIGINT, id="interrupt", marks=pytest.mark.long),
    ],
)
def test_nothing_is_left_of_a_parent_that_is_killed_or_interrupted(tmp_path, how):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[3],
    )
    try:
        _wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 120)
        workers = [int(each.stem) for each in tmp_path.glob("*.pid")]
        assert list(temporary.glob("hf_fan_out_*/function"))
        parent.send_signal(how)
        parent.wait(60)
        _wait_for(lambda: not any(map(_is_alive, workers)), 30)
        _wait_for(lambda: not list(temporary.glob("hf_fan_out_*")), 30)
    finally:
        parent.kill()


def fits() -> tuple[pl.DataFrame, dict[str, Any]]:
    """A matrix, and what it is cross-validated with."""
    target = build_target("direction", horizon_bars=3)
    arguments: dict[str, Any] = {
        "learner": choose_learner("xgboost", {"n_estimators": 12, "max_depth": 3}),
        "splitter": PurgedWalkForward(n_splits=2, test_sessions=12, embargo_sessions=1),
        "target": target,
        "weightings": choose_weightings("uniqueness"),
    }
    return random_matrix(target), arguments


def test_cross_validation_in_processes_is_that_of_threads_to_the_bit(processes):
    matrix, arguments = fits()
    function = partial(mapped.fit_fold, matrix, arguments)
    alone = [function(seed) for seed in range(3)]
    for each in (Threads(3), processes):
        for one, other in zip(alone, each(function, range(3)), strict=True):
            assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize(
    ("cores", "asked", "share"),
    [(8, None, (8, 1)), (8, 2, (2, 4)), (8, 3, (3, 2)), (2, 8, (2, 1)), (1, None, (1, 1)), (1, 5, (1, 1))],
)
def test_workers_and_their_threads_never_exceed_the_cores(cores, asked, share):
    assert Share.of_cores(cores, asked=asked) == share
    assert share[0] * share[1] <= cores


def test_the_environment_says_where_tasks_run_and_the_log_what_each_may_take(monkeypatch):
    monkeypatch.setattr(opening, "cores_given", lambda: 4)
    monkeypatch.setattr(opening, "memory_left", lambda: 8_000_000_000)
    told = []
    for backend, workers, line in (
        ("", "", "fan-out: 4 threads with 1 thread each on 4 cores; 8,000 MB of memory are left, 2,000 for each"),
        (
            "processes",
            "2",
            "fan-out: 2 processes with 2 threads each on 4 cores; 8,000 MB of memory are left, 4,000 for each",
        ),
        (
            "threads",
            "9",
            "fan-out: 4 threads (9 asked for) with 1 thread each on 4 cores; 8,000 MB of memory are left, 2,000 for each",
        ),
    ):
        monkeypatch.setenv("HF_FAN_OUT", backend)
        monkeypatch.setenv("HF_FAN_OUT_WORKERS", workers)
        with open_fan_out(told.append) as fan_out:
            # Nothing is started before something is mapped.
            assert fan_out.n_workers * fan_out.n_threads <= 4
        assert told.pop() == line


def test_processes_take_no_more_cores_than_a_container_gives():
    """By the quota of a cgroup, or the affinity: joblib reads both, here the affinity of a process of its own."""
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from hf_pipelines.resources.machine import cores_given; print(cores_given())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_ray_without_its_extra_and_a_cluster_that_is_not_there_are_told_in_one_line(monkeypatch):
    from hf_pipelines.resources.fan_out import ray_tasks

    monkeypatch.setenv("HF_FAN_OUT", "ray")
    monkeypatch.setenv("HF_RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match=r"`HF_RAY_ADDRESS` must be .* was 127.0.0.1:1 \(.*refused\); start it"):
        with open_fan_out(str):
            pass
    monkeypatch.setattr(ray_tasks, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'was ray; install the extra: pip install "hf_pipelines\[ray\]"'):
        with open_fan_out(str):
            pass


def _worker_processes() -> list[int]:
    return [each.pid for each in psutil.Process().children() if "popen_loky" in " ".join(each.cmdline())]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_for(holds, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
