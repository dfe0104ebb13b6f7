"""Run environment: with what a result was made, for the experiment tracker.

Lives here: commit, user, machine, versions of libraries, peak memory. Does not live here: what is logged where
(`components.strategy_stages.model_tracking`).
"""

import getpass
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hf_pipelines.resources.project import find_project

GIT_TIMEOUT_S = 5.0

# Those that decide about numbers, whatever the learner.
PACKAGES = ("hf_pipelines", "dagster", "numpy", "polars", "scikit-learn")


def project_folder() -> Path:
    """Folder of the project that runs."""
    project = find_project()
    return Path.cwd() if project is None else project.root


@lru_cache(maxsize=8)
def git_commit(folder: Path) -> str | None:
    """The commit that is checked out in a folder; None outside of git, and without git."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def user_name() -> str | None:
    """Name of the account; None where it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def library_versions(*names: str) -> dict[str, str]:
    """Versions of those libraries that are installed, `PACKAGES` first."""
    found: dict[str, str] = {}
    for name in dict.fromkeys([*PACKAGES, *names]):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def described_machine() -> dict[str, str]:
    """Python and machine, by the names of tags."""
    return {"hf.python": platform.python_version(), "hf.platform": platform.platform(terse=True)}


def peak_memory_mb() -> float:
    """Largest resident memory that this process had since it began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on a Mac, kilobytes elsewhere.
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def in_words(versions: dict[str, str] | Sequence[tuple[str, str]]) -> str:
    """`numpy 2.4.0, polars 2.1.0`."""
    return ", ".join(f"{name} {each}" for name, each in dict(versions).items())
