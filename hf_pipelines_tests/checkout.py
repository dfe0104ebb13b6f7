"""Checkout: a copy of the repository whose strategies train for seconds, operated through `hfp` in processes.

The copy holds the real code, the real market and real sample bars; only the strategies' YAML is shorter. That is what a
user does: clone, and write a strategy.
"""

import atexit
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml

from hf_pipelines.partitions import shift_week
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.forked import popen

REPOSITORY = Path(__file__).resolve().parents[1]
# What processes do differently in tests, where they are asked to.
FAULT_INJECTION = Path(__file__).parent / "fault_injection"
COPIED = ("pyproject.toml", "workspace.yaml", "dagster.yaml")

WEEK, DAY = "2013-02-24", "2013-02-25"
TRAIN_WEEKS = 10
# The longest lookback of the technical group is 120 bars.
LOOKBACK_WEEKS = 28
RETRAINED = ("training_matrix", "cv_results", "fitted_model", "backtest", "validation")
GROUPS = ("technical", "cross_asset")

FIRST_FEATURES = shift_week(WEEK, -TRAIN_WEEKS)
FIRST_BARS = shift_week(FIRST_FEATURES, -LOOKBACK_WEEKS)

FEATURES = ["technical/roc_5", "technical/rsi_14", "technical/volatility_20", "cross_asset"]
TRAINING = {"weeks": TRAIN_WEEKS, "minimum_rows": 60}
CROSS_VALIDATION = {"n_splits": 2, "min_train_sessions": 10, "embargo_sessions": 1}

RANKING = {
    "name": "short_ranking",
    "market": "us_tech",
    "features": FEATURES,
    "target": {"type": "forward_return", "horizon_bars": 2},
    "training": TRAINING,
    "cross_validation": CROSS_VALIDATION,
    "learner": {"type": "ridge", "params": {"alpha": 10.0}},
    "signal": {"type": "rank_long_short", "params": {"n_long": 1, "n_short": 1}},
}


def trees(n_estimators: int) -> dict[str, object]:
    """A strategy whose fit takes as long as it has trees."""
    return {
        **RANKING,
        "name": "short_trees",
        "target": {"type": "direction", "horizon_bars": 2, "params": {"upper": 0.004, "lower": -0.004}},
        "learner": {"type": "xgboost_classifier", "params": {"n_estimators": n_estimators, "max_depth": 6}, "seed": 7},
        "signal": {"type": "probability_threshold", "params": {"threshold": 0.5, "long_short": True}},
    }


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository and the data folder it writes to."""

    root: Path
    data: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The environment of a user who has set nothing but what a test sets."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DAGSTER_", "MLFLOW"))}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join([f"{FAULT_INJECTION}", f"{self.root}", f"{REPOSITORY}"]),
            "PYTHONWARNINGS": "ignore",
            "HF_DATA_DIR": str(self.data),
            **self.env,
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hf_pipelines.commands.cli", *arguments]

    def start(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        return popen(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: Sequence[str], *, timeout_s: float = 600.0) -> "subprocess.CompletedProcess[str]":
        with self.start(command) as process:
            try:
                output, errors = process.communicate(timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def hfp(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `hfp` to its end."""
        return self.run(self.command(*arguments))

    def succeed(self, *arguments: str) -> str:
        """Run `hfp`, which must succeed; returns what it printed."""
        done = self.hfp(*arguments)
        assert done.returncode == 0, f"hfp {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def hashes(self, *strategies: str) -> dict[str, str]:
        """Make bars, features and the whole chain of strategies; content hash by `<asset>/<partition>`."""
        done = self.run([sys.executable, "-m", "hf_pipelines_tests.checkout_chain", *strategies], timeout_s=600.0)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return found

    def store(self) -> PartitionStore:
        """What it has stored on disk."""
        return PartitionStore(ObjectStore(str(self.data / "storage")))

    def copy_of_data(self, folder: Path, **env: str) -> "Checkout":
        """The same code on a copy of the data, for a test that breaks something."""
        shutil.copytree(self.data, folder)
        return Checkout(self.root, folder, {**self.env, **env})


# Folder of each component's instances.
PLURALS = {"Market": "markets", "Strategy": "strategies"}


def make_checkout(
    folder: Path,
    strategies: Sequence[Mapping[str, object]],
    data: Path | None = None,
    *,
    markets: Sequence[Mapping[str, object]] = (),
) -> Checkout:
    """Copy the repository to `folder` with other strategies, and with other markets if there are any.

    A market that nothing reads has sensors all the same, and every process loads it.
    """
    replaced = shutil.ignore_patterns("research", "tech_*", *(["us_tech*"] if markets else []))
    shutil.copytree(REPOSITORY / "hf_pipelines", folder / "hf_pipelines", ignore=replaced)
    # Where the compiled kernels are kept, beside their code: compiling them anew takes longer than the tests.
    (folder / "hf_pipelines" / "research").symlink_to(REPOSITORY / "hf_pipelines" / "research")
    for name in COPIED:
        shutil.copy(REPOSITORY / name, folder / name)
    for kind, all_attributes in (("Market", markets), ("Strategy", strategies)):
        for attributes in all_attributes:
            path = folder / "hf_pipelines" / "defs" / PLURALS[kind] / str(attributes["name"]) / "defs.yaml"
            path.parent.mkdir(parents=True)
            path.write_text(yaml.safe_dump({"type": f"hf_pipelines.components.{kind}", "attributes": dict(attributes)}))
    return Checkout(folder, data or folder / "data")


@dataclass(frozen=True)
class BuiltCheckout:
    """A checkout whose chains ran on disk, and the content hashes that they gave."""

    checkout: Checkout
    hashes: Mapping[str, str]


# Fits long enough to be killed in the middle, on a machine of any speed.
N_TREES = 400


@lru_cache(maxsize=1)
def built_checkout() -> BuiltCheckout:
    """The checkout, built once a test run, by the first process that asks for it; tests work on copies of its data."""
    folder = _shared_folder()
    checkout = Checkout(folder / "checkout", folder / "data")
    found = folder / "hashes.json"
    with (folder / "building").open("w") as building:
        # Who comes while it is built waits.
        fcntl.flock(building, fcntl.LOCK_EX)
        if not found.exists():
            # What a build that failed has left.
            shutil.rmtree(checkout.root, ignore_errors=True)
            make_checkout(checkout.root, [RANKING, trees(N_TREES)])
            found.write_text(json.dumps(checkout.hashes("short_ranking", "short_trees")))
    return BuiltCheckout(checkout, json.loads(found.read_text()))


def _shared_folder() -> Path:
    """A folder of all workers of pytest-xdist, or of this process without them; the last who uses it removes it."""
    name = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)
    folder = Path(tempfile.gettempdir()) / f"hf_checkout_{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    users = os.open(folder, os.O_RDONLY)
    fcntl.flock(users, fcntl.LOCK_SH)

    def leave() -> None:
        with suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(users)

    atexit.register(leave)
    return folder
