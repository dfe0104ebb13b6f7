"""Fan-out over Ray: a real cluster of two nodes, one of which is killed on the way; `make ray`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import numpy as np
import psutil
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.fan_out import Lost, Threads
from hf_pipelines.resources.fan_out import code_print, open_fan_out
from hf_pipelines.resources.fan_out.ray_tasks import RayTasks
from hf_pipelines_tests.resources.fan_out import mapped
from hf_pipelines_tests.resources.fan_out.test_fan_out import _is_alive, _wait_for, fits, pieces

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ray")]

STORE_BYTES = 100 * 2**20


@contextmanager
def two_nodes() -> Iterator[tuple[Any, Any]]:
    """A head with one core and a node with two: the cluster, and the node."""
    # A path of a socket has 107 characters at most.
    with TemporaryDirectory(prefix="hf") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Workers of a node find the modules of tests as this process does.
        patch.setenv("PYTHONPATH", os.pathsep.join(each or os.getcwd() for each in sys.path))
        from ray.cluster_utils import Cluster

        options = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
        cluster = Cluster()
        try:
            _started(cluster, num_cpus=1, **options)
            yield cluster, _started(cluster, num_cpus=2, **options)
        finally:
            cluster.shutdown()


def _started(cluster: Any, **options: Any) -> Any:
    """A node; Ray gives its processes 30 s to start, which a loaded machine may need twice."""
    try:
        return cluster.add_node(**options)
    except Exception as e:
        if "timed out during startup" not in str(e):
            raise
        return cluster.add_node(**options)


@pytest.fixture
def cluster(monkeypatch) -> Iterator[tuple[Any, Any]]:
    with two_nodes() as (found, node):
        monkeypatch.setenv("HF_FAN_OUT", "ray")
        monkeypatch.setenv("HF_RAY_ADDRESS", found.address)
        yield found, node


def test_a_node_that_is_killed_on_the_way_changes_nothing(cluster):
    found, node = cluster
    matrix, arguments = fits()
    slow = partial(mapped.fit_fold_slowly, matrix, arguments, 1.0)
    alone = [mapped.fit_fold(matrix, arguments, seed) for seed in range(12)]
    told: list[str] = []
    with open_fan_out(told.append) as tasks:
        results = tasks(slow, range(12))
        made = [next(results)]
        where = {made[0][1]}
        found.remove_node(node, allow_graceful=False)
        made += list(results)
        where |= {each[1] for each in made}
        for one, (other, _) in zip(alone, made, strict=True):
            assert_frame_equal(one, other, check_exact=True)
        # What ran on the node that is gone ran again on the other one.
        assert made[-1][1] == found.head_node.node_id
        assert told[0].startswith(f"fan-out: 3 Ray tasks with 1 thread each on the Ray cluster {found.address}")
        # Exceptions cross here too.
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message below
            list(tasks(partial(mapped.fail_at, 2), range(4)))
        assert (str(caught.value), type(caught.value.__cause__)) == ("`task` must not be 2, was 2.", KeyError)
        # A worker of other code is refused.
        tasks._latest = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hf_pipelines.resources.fan_out.ray_tasks.code_print", lambda: _other_print())
            with pytest.raises(RuntimeError, match=r"was numpy .* \(the run has numpy 0.1\); start"):
                list(tasks(abs, [-1]))
        tasks._latest = None
        assert list(tasks(abs, [-1])) == [1]
        # A task that ends its worker each time.
        with pytest.raises(RuntimeError, match=r"its worker was lost 4 times .*WorkerCrashedError"):
            list(tasks(mapped.be_killed, [1]))
    assert psutil.Process().is_running()


def test_data_goes_to_each_worker_of_a_ray_of_this_machine_once_and_nothing_is_left_of_a_killed_parent(tmp_path):
    array = np.random.default_rng(0).normal(size=200_000)
    function = partial(mapped.tell_data, pieces(10_001), array)
    with RayTasks(n_workers=2) as tasks:
        assert tasks.n_workers == 2
        first, second = (list(tasks(function, range(20))) for _ in range(2))
        assert [each[2] for each in first + second] == [function(each)[2] for each in range(20)] * 2
        addresses = {(pid, address) for pid, address, *_ in first + second}
        assert len(addresses) == len({pid for pid, _ in addresses})
        assert list(tasks(partial(mapped.map_inside, tasks), [1])) == [(1, 1, 1, [1])]
        assert list(Threads(2)(abs, [-1])) == [1]
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[3]
    )
    try:
        _wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 120)
        # Two agents of Ray's own, which compute nothing, may stay for longer.
        below = [
            each.pid
            for each in psutil.Process(parent.pid).children(recursive=True)
            if "Agent" not in " ".join(each.cmdline())
        ]
        parent.send_signal(signal.SIGKILL)
        parent.wait(60)
        _wait_for(lambda: not any(map(_is_alive, below)), 60)
    finally:
        parent.kill()


SCRIPT = """
import sys
from functools import partial
from hf_pipelines.resources.fan_out.ray_tasks import RayTasks
from hf_pipelines_tests.resources.fan_out import mapped
with RayTasks(n_workers=2) as tasks:
    list(tasks(partial(mapped.sleep_and_tell, sys.argv[1]), range(4)))
"""


def _other_print() -> str:
    return ", ".join("numpy 0.1" if each.startswith("numpy") else each for each in code_print.code_print().split(", "))


def test_what_is_under_way_at_the_deadline_is_ended_and_a_lost_task_takes_none_with_it(tmp_path):
    (tmp_path / "always").touch()
    (tmp_path / "killed").touch()
    with RayTasks(n_workers=2) as tasks:
        assert dict(tasks.in_time(abs, [-1, -2, -3], None)) == {0: 1, 1: 2, 2: 3}
        began = monotonic()
        found = dict(tasks.in_time(partial(mapped.sleep_at, 1), range(4), lambda: 8.0 - (monotonic() - began)))
        assert found == {0: 0, 2: 2, 3: 3} and monotonic() - began <= 8.8
        # The worker that slept is free again.
        assert dict(tasks.in_time(abs, [-4, -5], None)) == {0: 4, 1: 5}
        made = dict(tasks.in_time(partial(mapped.be_killed_once, str(tmp_path)), range(7), None))
    assert isinstance(made.pop(5), Lost)
    assert made == {at: (at, at * at) for at in range(7) if at != 5}
