"""Command: the built wheel in an empty environment, with the core alone, and a project of its own made with it.

It builds the wheel, installs it beside nothing, makes a project outside of this checkout, and runs the project's own `make demo`,
`make test` and `make check`. Prints what each took, and the size of the environment: `make wheel-project`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from time import perf_counter

from hf_pipelines_tests.checkout import REPOSITORY

NAME = "myfund"

# What a learner or engine brings by an extra: none of it may come with the core.
EXTRAS = ("xgboost", "lightgbm", "catboost", "torch", "skorch", "vectorbt", "backtrader", "optuna")


# Every learner either works with the core, or names its extra where it is chosen.
LEARNERS_OF_CORE = """
from hf_pipelines.components.extras import BY_FAMILY, require_installed
from hf_pipelines.research.learners import LEARNERS, Setup, build_pipeline, choose_learner
for name, entry in LEARNERS.items():
    inner = [{"type": "ridge"}, {"type": "mean"}]
    given = {"members": inner, "feature": "return_1", "final": {"type": "ridge"}}
    asked = {key: given[key] for key in entry.params if key in given}
    choice = choose_learner(name, asked)
    try:
        require_installed(choice)
    except ValueError as e:
        assert entry.family in BY_FAMILY and "hf_pipelines[" in str(e), f"{name}: {e}"
        print("needs an extra:", name)
        continue
    assert entry.family not in BY_FAMILY or entry.family == "statsmodels", f"{name} was not refused"
    build_pipeline(choice, Setup("regression" if "regression" in entry.tasks else "classification"))
    print("of the core:", name)
"""


def main() -> int:
    """Run all of it; the status is that of the first step that failed."""
    with tempfile.TemporaryDirectory(prefix="hf_wheel_") as folder:
        try:
            _try_out(Path(folder))
        except subprocess.CalledProcessError as e:
            print(
                f"{' '.join(map(str, e.cmd))} ended with {e.returncode}:\n{e.stdout or ''}{e.stderr or ''}",
                file=sys.stderr,
            )
            return 1
    return 0


def _try_out(folder: Path) -> None:
    source = folder / "source"
    # What was built or computed in a checkout would go into the wheel, or take long to copy.
    left_out = shutil.ignore_patterns(
        ".git", ".venv", "data", "build", "dist", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis"
    )
    shutil.copytree(REPOSITORY, source, ignore=left_out)
    pip = (sys.executable, "-m", "pip")
    _run(
        *pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source), cwd=folder, shown="wheel built"
    )
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")

    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    _install(python, wheel, cwd=folder, shown="core installed")
    lacking = f"from importlib.util import find_spec; print(*(each for each in {EXTRAS} if find_spec(each)))"
    if brought := _run(python, "-c", lacking, cwd=folder, shown=None).split():
        raise SystemExit(f"The core must be without what extras bring, had {', '.join(brought)}.")

    told = _run(python, "-c", LEARNERS_OF_CORE, cwd=folder, shown=None).splitlines()
    n_core = sum(each.startswith("of the core") for each in told)
    print(f"{n_core:8d}   learners work with the core, {len(told) - n_core} name their extra", flush=True)

    project = folder / NAME
    hfp = environment / "bin" / "hfp"
    _run(hfp, "init", NAME, cwd=folder, shown="project made")
    # Its commands find the environment as a user has it, made beside it.
    (project / ".venv").symlink_to(environment)
    _install(python, "--editable", f"{project}[dev]", cwd=folder, shown="project installed")
    (project / ".venv" / ".installed").touch()
    for target in ("demo", "test", "check"):
        said = _run("make", "--no-print-directory", target, cwd=project, shown=f"make {target}")
        if target == "demo" and "Latest signals, 2013-03-01" not in said:
            raise SystemExit(f"make demo must end in signals, did not:\n{said}")
    n_bytes = sum(each.stat().st_size for each in environment.rglob("*") if each.is_file() and not each.is_symlink())
    print(f"{n_bytes / 1e9:8.2f} GB environment of the core, compiled", flush=True)
    _require_untouched(environment, project)


def _install(python: Path, *what: "str | Path", cwd: Path, shown: str) -> None:
    """Install into an environment by uv, where that cannot by pip, as the Makefile does."""
    asked = ["install", "--quiet", "--constraint", REPOSITORY / "constraints.txt", *what]
    uv = Path(sys.executable).with_name("uv")
    try:
        _run(uv, "pip", asked[0], "--native-tls", "--python", python, *asked[1:], cwd=cwd, shown=shown)
    except subprocess.CalledProcessError:
        _run(python, "-m", "pip", *asked, cwd=cwd, shown=f"{shown}, by pip")


def _require_untouched(environment: Path, project: Path) -> None:
    """What the project computes lies in the project, nothing beside the installed code but what was compiled."""
    package = next(environment.glob("lib/python*/site-packages/hf_pipelines"))
    listed = (next(package.parent.glob("hf_pipelines-*.dist-info")) / "RECORD").read_text()
    written = [
        each
        for each in package.rglob("*")
        if each.is_file() and "__pycache__" not in each.parts and str(each.relative_to(package.parent)) not in listed
    ]
    if written:
        raise SystemExit(f"Nothing may be written into the installed package, was {', '.join(map(str, written[:5]))}.")
    if not (project / "data" / "storage" / "first_ranking").is_dir():
        raise SystemExit(f"The project's data must lie in {project / 'data'}, were not there.")


def _run(*command: "str | Path", cwd: Path, shown: str | None) -> str:
    """Run a command in a shell of a user who has set nothing; returns what it printed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "DAGSTER_", "MLFLOW", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS"))
    }
    began = perf_counter()
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=kept, capture_output=True, text=True, check=True)
    if shown is not None:
        print(f"{perf_counter() - began:8.1f} s {shown}", flush=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
