"""States of long fits: a process that is killed in one goes on to the same bytes, and no other fit ever does."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hf_pipelines.research.learners.archive import unpack
from hf_pipelines.resources.fit_states import FITS, FitProgress, FitStates
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.retention import Policy
from hf_pipelines_tests.resources.retaining import pruned

ASSET, WEEK = "tech/fitted_model", "2013-01-06"
INPUTS = {"tech/training_matrix": {WEEK: "a" * 64}}


def states(root: Path, code: str = "1") -> FitStates:
    return FitStates(ObjectStore(str(root)), ASSET, code)


def progress(root: Path, *, code: str = "1", inputs=INPUTS, place: str = "fold 0", **options) -> FitProgress:
    return states(root, code).progress(WEEK, place=place, inputs=inputs, **options)


def test_a_state_is_that_of_its_fit_place_inputs_and_code_alone(tmp_path):
    one = progress(tmp_path)
    assert one.restore("fit") is None
    one.keep("fit", b"first")
    one.keep("fit", b"second")
    assert one.restore("fit") == progress(tmp_path).restore("fit") == b"second"
    others = (
        progress(tmp_path, code="2"),
        progress(tmp_path, inputs={"tech/training_matrix": {WEEK: "b" * 64}}),
        progress(tmp_path, place="fold 1"),
    )
    assert one.restore("another fit") is None and all(each.restore("fit") is None for each in others)
    states(tmp_path).clear("2013-01-13")
    assert len(ObjectStore(str(tmp_path)).keys(FITS)) == 1
    states(tmp_path).clear(WEEK)
    assert ObjectStore(str(tmp_path)).keys(FITS) == [] and one.restore("fit") is None


@pytest.mark.parametrize(
    "damage", [lambda held: held[:-1], lambda held: held[:40] + b"x" + held[41:], lambda held: b""]
)
def test_a_damaged_state_is_none(tmp_path, damage):
    one = progress(tmp_path)
    one.keep("fit", b"some state of a fit")
    (path,) = (tmp_path / FITS).rglob("*.state")
    path.write_bytes(damage(path.read_bytes()))
    assert one.restore("fit") is None


def test_states_that_are_old_are_removed(tmp_path):
    progress(tmp_path).keep("fit", b"state")
    store, now = PartitionStore(ObjectStore(str(tmp_path))), datetime.now(UTC)
    policy = Policy(days=1, versions=0)
    assert pruned(store, policy, now, kind="fit") == []
    assert len(pruned(store, policy, now + timedelta(days=2), kind="fit")) == 1 and store.objects.keys(FITS) == []


FIT = """
import sys
from pathlib import Path
from hf_pipelines_tests.resources.test_fit_states import fit
fit(Path(sys.argv[1]), waits_after=3)
"""


def fit(root: Path | None, *, waits_after: int = 0) -> tuple[bytes, int]:
    """Fit a network with its state below a folder; its bytes, and the number of epochs that were run."""
    from hf_pipelines.research.cross_validation import fit_final
    from hf_pipelines.research.learners import choose_learner
    from hf_pipelines.research.learners.learner import NO_PROGRESS
    from hf_pipelines.research.targets import build_target
    from hf_pipelines_tests.sample_matrix import random_matrix

    target = build_target("forward_return", horizon_bars=1)
    params = {"window": 4, "hidden": 4, "layers": 2, "dropout": 0.3, "epochs": 12, "batch_size": 16}
    kept = []

    class Counting(FitProgress):
        def keep(self, fit: str, state: bytes) -> None:
            super().keep(fit, state)
            kept.append(state)
            if len(kept) == waits_after:
                time.sleep(300)

    of_place = NO_PROGRESS
    if root is not None:
        given = progress(root)
        of_place = Counting(given.states, given.partition, given.made_of, given.log)
    choice = choose_learner("lstm", {**params, "early_stopping_epochs": 12})
    pipeline = fit_final(random_matrix(target, sessions=120), learner=choice, target=target, seed=3, progress=of_place)
    return pipeline.save(), len(kept)


def epochs_kept(root: Path) -> int:
    """Epochs of the state that was kept last; 0 without one."""
    for path in (root / FITS).rglob("*.state"):
        return len(
            json.loads(unpack(path.read_bytes()[32:], ["state.safetensors", "state.json"])["state.json"])["training"]
        )
    return 0


def test_a_process_that_is_killed_in_the_middle_of_a_fit_goes_on_to_the_same_bytes(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", FIT, str(tmp_path)])
    try:
        deadline = time.monotonic() + 120
        while (n_epochs := epochs_kept(tmp_path)) < 3 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert n_epochs == 3
    uninterrupted, _ = fit(None)
    resumed, run = fit(tmp_path)
    assert resumed == uninterrupted and run == 12 - 3
    # Killed between the last epoch and the save: nothing is left to run.
    assert fit(tmp_path) == (uninterrupted, 0)
