"""Fixtures of the tests that run Dagster: an environment of their own, registries that are put back."""

import gc
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from _pytest.unraisableexception import gc_collect_iterations_key
from filelock import FileLock

from hf_pipelines.research.features import FEATURES, Feature, technical
from hf_pipelines.research.features.windows import alone, swept
from hf_pipelines_tests.pipeline import (
    Project,
    files_market,
    prepare_mlflow,
    ridge_strategy,
    session_bars,
    sessions_from,
)
from hf_pipelines_tests.slow_tests import slow_tests, without_case

# Not modules of this process: other processes find them on their PYTHONPATH when they start.
collect_ignore_glob = ["fault_injection/*"]

FIRST_SESSION = date(2012, 1, 3)

# Weeks of the small market: enough for models of ten weeks and for some weeks that they serve.
SMALL_WEEKS = 18


BuildOnce = Callable[[str, Callable[[Path], object]], Path]

# Fixtures of a module that cost next to nothing: they do not keep its tests together.
CHEAP_MODULE_FIXTURES = frozenset({"quick", "small_project", "modules_of_a_file"})

TESTS = Path(__file__).parent

# What a process tells those that it starts of its project.
OF_A_PROJECT = ("HF_PROJECT", "PYTHONPATH")

# Who imports any of these, of this package, runs Dagster or commands as processes.
HARNESS = ("pipeline.Project", "checkout.", "running.", "stack_process.", "ticking.")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread tests over workers one by one, but for those that share a fixture of their module: it is made once.

    Tests of servers come first, the simulated quarter before all, single tests last: nothing long is left to run alone
    at the end.
    """
    of_servers = {item.path for item in items if item.get_closest_marker("servers")}
    for item in items:
        if runs_pipeline(item):
            item.add_marker(pytest.mark.pipeline)
        if without_case(item.nodeid) in slow_tests():
            item.add_marker(pytest.mark.slow)
        group = shared_group(item) if isinstance(item, pytest.Function) else ""
        if group and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(
        key=lambda item: (
            item.path.name != "test_quarter.py",
            item.path not in of_servers,
            item.get_closest_marker("xdist_group") is None,
        )
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Pictures are drawn where a test looks at some: elsewhere they would be a third of what is computed."""
    os.environ["HF_PICTURES"] = "all" if item.get_closest_marker("pictures") else "none"


def runs_pipeline(item: pytest.Item) -> bool:
    """Whether a test is left out by `make test-quick`: by its folder, what it is given, or what its module imports."""
    is_given = "mlflow_template" in getattr(item, "fixturenames", ())
    return is_given or TESTS / "components" in item.path.parents or _has_harness(getattr(item, "module", None))


@cache
def _has_harness(module: ModuleType | None) -> bool:
    imported = vars(module).values() if module is not None else ()
    named = (f"{getattr(each, '__module__', '')}.{getattr(each, '__name__', '')}" for each in imported)
    return any(each.startswith(tuple(f"{__package__}.{name}" for name in HARNESS)) for each in named)


def pytest_configure(config: pytest.Config) -> None:
    """At its end pytest collects what is not needed five times, which takes seconds of each worker: once is enough."""
    config.stash[gc_collect_iterations_key] = 1


def pytest_collection_finish() -> None:
    """Libraries and tests stay to the end: the collector need not go through them again and again."""
    gc.collect()
    gc.freeze()


def shared_group(item: pytest.Function) -> str:
    """Name of the group of tests that share fixtures of their module with this one, "" without any."""
    definitions = item._fixtureinfo.name2fixturedefs
    shared = {name for name in definitions if definitions[name][-1].scope == "module"} - CHEAP_MODULE_FIXTURES
    if not shared:
        return ""
    # A fixture with parameters is made for each of them: its tests need not share a worker with those of another.
    indices = item.callspec.indices if hasattr(item, "callspec") else {}
    of_parameters = [f"{name} {indices[name]}" for name in sorted(shared & set(indices))]
    return " ".join([f"{item.path.parent.name}/{item.path.stem}", *of_parameters])


def quick_features() -> list[Feature]:
    """A group of three features whose longest window is six bars, so that small markets are enough."""
    kernels = {
        "quick_roc_2": (technical.rate_of_change, 3, "change over 2 bars"),
        "quick_roc_5": (technical.rate_of_change, 6, "change over 5 bars"),
        "quick_gap_5": (technical.sma_gap, 5, "distance from the mean of 5"),
    }
    return [
        Feature(name, "quick", alone(swept(kernel, bars, [name], inputs=["close"]), name), bars, ("close",), formula)
        for name, (kernel, bars, formula) in kernels.items()
    ]


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing that a test runs may write to the project's own data folder."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATA_DIR", str(folder))
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
        # A test that makes something again means it: to answer it by what is stored would show nothing.
        patch.setenv("HF_ANSWER_TRIALS", "0")
        for name in (
            "HF_PROJECT",
            "HF_STORAGE_URI",
            "HF_LANDING_URI",
            "HF_S3_ENDPOINT",
            "HF_MLFLOW_URI",
            "HF_POSTGRES_URL",
            "DAGSTER_HOME",
        ):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture
def registry() -> Iterator[dict[str, Feature]]:
    """The registry of features, put back as it was after the test."""
    before = dict(FEATURES)
    yield FEATURES
    FEATURES.clear()
    FEATURES.update(before)


@contextmanager
def registered(features: Sequence[Feature]) -> Iterator[None]:
    """Features in the registry for as long as the context lasts, and for as long as one around it does."""
    # A fixture of the session is made inside of one of a module where another test of that came first.
    added = {feature.name: feature for feature in features if feature.name not in FEATURES}
    FEATURES.update(added)
    try:
        yield
    finally:
        for name in added:
            del FEATURES[name]


@contextmanager
def forgetting_modules() -> Iterator[None]:
    """What modules of researchers register while the context lasts is forgotten: one process runs tests of many projects."""
    entries, features = _registered_by_modules()
    yield
    if (modules := sys.modules.get("hf_pipelines.components.modules")) is None:
        return
    for table, name in modules._origins.keys() - entries:
        del modules._origins[table, name]
        modules.REGISTRIES[table].entries.pop(name, None)
    for name in modules._feature_origins.keys() - features:
        del modules._feature_origins[name]
        FEATURES.pop(name, None)


def _registered_by_modules() -> tuple[set[tuple[str, str]], set[str]]:
    modules = sys.modules.get("hf_pipelines.components.modules")
    return (set(), set()) if modules is None else ({*modules._origins}, {*modules._feature_origins})


@contextmanager
def restoring_project() -> Iterator[None]:
    """What a command says in the environment of the project that it runs, for the processes that it starts, ends with the context."""
    before = {name: os.environ.get(name) for name in OF_A_PROJECT}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True, scope="module")
def modules_of_a_file() -> Iterator[None]:
    with forgetting_modules(), restoring_project():
        yield


@pytest.fixture(autouse=True)
def modules_of_a_test(modules_of_a_file: None) -> Iterator[None]:
    with forgetting_modules(), restoring_project():
        yield


@pytest.fixture(scope="module")
def quick() -> Iterator[list[Feature]]:
    """The group `quick`, registered while a module of tests runs."""
    features = quick_features()
    with registered(features):
        yield features


@pytest.fixture(scope="session")
def build_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BuildOnce:
    """Folders that the first worker to need one fills, and that all of a run then read."""
    of_worker = tmp_path_factory.getbasetemp()
    shared = of_worker.parent if hasattr(request.config, "workerinput") else of_worker

    def build(name: str, fill: Callable[[Path], object]) -> Path:
        folder, is_full = shared / name, shared / f"{name}.full"
        with FileLock(shared / f"{name}.lock"):
            if not is_full.exists():
                # What a worker that died has left.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                is_full.touch()
        return folder

    return build


@pytest.fixture(scope="session")
def mlflow_template(build_once: BuildOnce) -> Path:
    return build_once("mlflow", lambda folder: prepare_mlflow(folder / "mlflow.db")) / "mlflow.db"


@pytest.fixture(scope="session")
def small_template(build_once: BuildOnce, mlflow_template: Path) -> Path:
    """Four random symbols over 18 weeks, bars and features published; `market.json` holds the market's attributes."""

    def fill(folder: Path) -> None:
        bars = session_bars(sessions_from(FIRST_SESSION, SMALL_WEEKS), seed=1)
        market = files_market(folder / "source", bars, features=["quick"])
        with registered(quick_features()):
            project = Project(folder, market, mlflow_template=mlflow_template)
            project.make(["small/bars", "small/features/quick"], project.weeks[0], project.weeks[-1])
        (folder / "market.json").write_text(json.dumps(market))

    return build_once("small", fill)


@pytest.fixture(scope="module")
def small_project(tmp_path_factory: pytest.TempPathFactory, quick: list[Feature], small_template: Path) -> Project:
    """A copy of the small project; tests copy it once more. The source's files are those of all: change none of them."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(small_template / "storage", folder / "storage")
    market = json.loads((small_template / "market.json").read_text())
    return Project(folder, market, [ridge_strategy()], mlflow_template=small_template / "mlflow.db")
