"""Code print: whether a worker on another machine runs the same code.

Lives here: the digest of this package, its interpreter and the libraries that decide on numbers. Does not live here: the versions of
stages (`components.code_version`), which say what a stored number was computed by.
"""

import hashlib
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import hf_pipelines

# What fits and scores are computed by.
LIBRARIES = (
    "numpy",
    "scipy",
    "polars",
    "scikit-learn",
    "xgboost",
    "lightgbm",
    "catboost",
    "torch",
    "numba",
    "statsmodels",
)


@cache
def code_print() -> str:
    """Versions, and a digest of the modules of this package: `python 3.11.9, numpy 2.4.6, ..., modules 3f2a...`."""
    folder = Path(hf_pipelines.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    found = [f"python {'.'.join(map(str, sys.version_info[:3]))}", *map(_version, LIBRARIES)]
    return ", ".join([*found, f"modules {digest.hexdigest()[:12]}"])


def require_same_code(asked: str) -> None:
    """Refuse to compute for a process of other code.

    Raises
    ------
    RuntimeError
        With what differs.
    """
    pairs = zip(asked.split(", "), code_print().split(", "), strict=True)
    differing = [f"{here} (the run has {there})" for there, here in pairs if here != there]
    if differing:
        raise RuntimeError(
            f"A worker must run the code and the libraries of the run that it works for, was {'; '.join(differing)}; "
            "start the workers from the same image or the same lock file."
        )


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library} none"
