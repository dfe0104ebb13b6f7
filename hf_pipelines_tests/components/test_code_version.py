"""Code versions: what an edit touches, and nothing else."""

import functools
import importlib.util
import linecache
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
import yaml

from hf_pipelines.components import Strategy
from hf_pipelines.components import code_version as code_versions
from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.market_stages import build_stages as build_market_stages
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.research.features import FEATURES, Feature, compute_features
from hf_pipelines.research.features.lazy_kernel import LazyKernel
from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.research.signals import RULES
from hf_pipelines.research.weights import WEIGHTINGS
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy, shipped_features, trees_strategy
from hf_pipelines_tests.sample_bars import random_bars
from hf_pipelines_tests.tracing import traced, unseen

WEEK, DAY = "2012-04-08", "2012-04-11"

SOURCE = """
SHIFT = 1.0
OTHER = 2.0

def helper(panel):
    return panel.close * 1.0

def other(panel):
    return panel.open

def change(panel):
    return helper(panel) - SHIFT

def over(bars):
    def compute(panel):
        return helper(panel) / bars
    return compute

FORMULAS = {"change": helper}

def of_table(panel):
    return FORMULAS["change"](panel)

class Scaled:
    LEVEL = 3.0

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, panel):
        return self.factor * self._level(panel)

    def _level(self, panel):
        return helper(panel) - self.LEVEL

    def method(self, panel):
        return self._level(panel)

def doubled(function):
    def wrapper(panel):
        return 2.0 * function(panel)
    return wrapper

@doubled
def decorated(panel):
    return panel.open

def defaulted(panel, by=helper):
    return by(panel)

def imports_where_it_runs(panel):
    from json import dumps
    return dumps(panel)

@numba.njit
def compiled(x):
    return inner(x)

@numba.njit
def inner(x):
    return x * 3.0

@functools.cache
def remembered(n):
    return n * 5.0
"""
SOURCE = "import functools\nimport numba\n" + SOURCE


def _load(folder: Path, source: str, *, name: str = "planted") -> ModuleType:
    """The module `planted` with this source; each has a folder of its own, as an edited file has a new content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("edit", "is_other"),
    [
        pytest.param(("panel.close * 1.0", "panel.close * 1.5"), True, id="a function it calls"),
        pytest.param(("helper(panel) - SHIFT", "helper(panel) + SHIFT"), True, id="its own body"),
        pytest.param(("SHIFT = 1.0", "SHIFT = 1.5"), True, id="a constant it reads"),
        pytest.param(("OTHER = 2.0", "OTHER = 2.5"), False, id="another constant"),
        pytest.param(("return panel.open", "return panel.low"), False, id="another function of the module"),
        pytest.param(("def over(bars):", "# A remark.\ndef over(bars):"), False, id="a remark elsewhere"),
    ],
)
def test_code_version_changes_with_the_source_a_function_runs(tmp_path, edit, is_other):
    before = _load(tmp_path / "before", SOURCE)
    after = _load(tmp_path / "after", SOURCE.replace(*edit))
    versions = [code_version(module.change, fields={"name": "x"}) for module in (before, after)]
    assert (versions[0] != versions[1]) is is_other


def test_code_version_changes_with_what_a_closure_and_a_partial_hold(tmp_path):
    module = _load(tmp_path, SOURCE)
    versions = [
        code_version(module.over(5), fields={}),
        code_version(module.over(6), fields={}),
        code_version(functools.partial(module.change, 1), fields={}),
        code_version(functools.partial(module.change, 2), fields={}),
        code_version(module.change, fields={"alpha": 1.0}),
        code_version(module.change, fields={"alpha": 2.0}),
    ]
    assert len(set(versions)) == 6
    assert code_version(module.over(5), fields={}) == versions[0]


HELPER, LEVEL = ("panel.close * 1.0", "panel.close * 1.5"), ("LEVEL = 3.0", "LEVEL = 3.5")
REACHED: dict[str, tuple[Callable[[ModuleType], Any], tuple[str, str]]] = {
    "a dict": (lambda module: module.of_table, HELPER),
    "which function a dict names": (lambda module: module.of_table, ('"change": helper', '"change": other')),
    "a callable instance": (lambda module: module.Scaled(1.0), HELPER),
    "a constant of its class": (lambda module: module.Scaled(1.0), LEVEL),
    "a bound method": (lambda module: module.Scaled(1.0).method, HELPER),
    "a class": (lambda module: module.Scaled, HELPER),
    "a partial": (lambda module: functools.partial(module.change), HELPER),
    "a partial's argument": (lambda module: functools.partial(module.over, module.Scaled(1.0)), LEVEL),
    "a closure": (lambda module: module.over(5), HELPER),
    "a decorated function": (lambda module: module.decorated, ("return panel.open\n\ndef defaulted", "return 0\n\ndef defaulted")),
    "a decorator": (lambda module: module.decorated, ("2.0 * function", "3.0 * function")),
    "a default": (lambda module: module.defaulted, HELPER),
    "a compiled function": (lambda module: module.compiled, ("return inner(x)", "return inner(x) + 1")),
    "what a compiled function calls": (lambda module: module.compiled, ("x * 3.0", "x * 3.5")),
    "a cached function": (lambda module: module.remembered, ("n * 5.0", "n * 5.5")),
    "a tuple of functions": (lambda module: (module.other, module.change), HELPER),
}  # fmt: skip


@pytest.mark.parametrize("way", REACHED)
def test_code_version_changes_with_what_is_reached_by_any_way(tmp_path, way):
    reach, edit = REACHED[way]
    assert SOURCE.count(edit[0]) == 1
    before = _load(tmp_path / "before", SOURCE)
    versions = [
        code_version(reach(module), fields={})
        for module in (
            before,
            _load(tmp_path / "after", SOURCE.replace(*edit)),
            _load(tmp_path / "moved", f"MORE = 1.0\n\n{SOURCE}", name="elsewhere"),
        )
    ]
    # The same functions in another module of another name, some lines further down.
    assert versions[0] == versions[2] != versions[1]
    assert code_version(reach(before), fields={}) == versions[0]


def test_code_version_of_somebody_elses_function_knows_every_entry_of_a_table_that_it_reads(tmp_path):
    before = _load(tmp_path / "before", SOURCE)
    after = _load(tmp_path / "after", SOURCE.replace(*HELPER))
    versions = [code_version(each.of_table, fields={}, chosen_from=[each.FORMULAS]) for each in (before, after)]
    assert versions[0] != versions[1]
    # Of a function of the project what was chosen is a root of its own.
    for each in (before, after):
        each.of_table.__module__ = "hf_pipelines.research.planted"
    assert len({code_version(each.of_table, fields={}, chosen_from=[each.FORMULAS]) for each in (before, after)}) == 1


def test_code_version_of_instances_changes_with_what_they_hold(tmp_path):
    module = _load(tmp_path, SOURCE)
    versions = [code_version(module.Scaled(factor), fields={}) for factor in (1.0, 2.0, 1.0)]
    assert versions[0] == versions[2] != versions[1]
    # Entries of one table that change places.
    by_name = [{"a": module.over(5), "b": module.over(6)}, {"a": module.over(6), "b": module.over(5)}]
    assert len({code_version(each, fields={}) for each in by_name}) == 2


def test_code_version_refuses_what_it_cannot_read():
    typed_in: dict[str, Any] = {"__name__": "typed_in"}
    exec("def change(panel):\n    return panel.close", typed_in)
    with pytest.raises(ValueError, match="`source` of change must be readable, was in '<string>', which is no file"):
        code_version(typed_in["change"], fields={})
    with pytest.raises(ValueError, match="`generator of the closure of .*` must be something whose change can be seen"):
        code_version(_reads(each for each in [1]), fields={})


def _reads(generator: Any) -> Callable[[], Any]:
    def compute() -> Any:
        return zip(generator, strict=True)

    return compute


def test_code_versions_are_the_same_in_a_process_that_has_computed_features():
    bars = random_bars(sessions=30)
    before = {name: code_version(each.compute, fields={}, chosen_from=[FEATURES]) for name, each in FEATURES.items()}
    compute_features(bars)
    after = {name: code_version(each.compute, fields={}, chosen_from=[FEATURES]) for name, each in FEATURES.items()}
    assert after == before


def _formula(feature: Feature) -> CodeType:
    """The function whose docstring the feature carries: a kernel, one of a table, or its own."""
    if isinstance(feature.compute, functools.partial):
        return feature.together.__code__
    module = sys.modules[feature.compute.__module__]
    own = [each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__]
    found = [getattr(each, "py_func", each) for each in own if each.__doc__ == feature.compute.__doc__]
    return next((each.__code__ for each in found if isinstance(each, FunctionType)), feature.compute.__code__)


def test_the_formula_of_every_registered_feature_is_in_its_version(monkeypatch):
    versions = {}
    for name, feature in FEATURES.items():
        formula = _formula(feature)
        version = code_version(feature.compute, fields={}, chosen_from=[FEATURES])
        assert formula in version.codes, name
        versions.setdefault(formula, {})[name] = version
    # No kernel that no feature's version knows.
    modules = [each for name, each in sys.modules.items() if name.startswith("hf_pipelines.research.features.")]
    kernels = {
        each.py_func.__code__ for module in modules for each in vars(module).values() if isinstance(each, LazyKernel)
    }
    assert (
        kernels - {code for of_formula in versions.values() for each in of_formula.values() for code in each.codes}
        == set()
    )
    # Every one of them edited, in what Python shows as the file's lines, its names left as they are.
    for formula, of_formula in versions.items():
        lines = linecache.getlines(formula.co_filename)
        edited = [*lines]
        edited[formula.co_firstlineno] += "    # edited\n"
        entry = (1, None, edited, formula.co_filename)
        code_versions._source.cache_clear()
        with monkeypatch.context() as patch:
            patch.setitem(linecache.cache, formula.co_filename, entry)
            for name, version in of_formula.items():
                assert code_version(FEATURES[name].compute, fields={}, chosen_from=[FEATURES]) != version, name
    code_versions._source.cache_clear()


def test_everything_of_research_that_a_stage_calls_is_in_its_version(chain, tmp_path):
    project = chain.copy(tmp_path / "project")
    with traced() as called:
        project.make(["small/bars", "small/features/quick", "small/features/temporal"], WEEK)
        project.retrain("ranking", WEEK)
        project.make("ranking/full_validation", WEEK)
        project.make("ranking/report", WEEK)
        project.make(["ranking/signals", "ranking/drift"], "2012-04-12")
        project.make("ranking/track_record", "2012-04-15")
    market = market_of(project.market)
    strategy = Strategy.resolve_from_yaml(yaml.safe_dump(dict(project.strategies[0])))
    stages = {each.asset: each for each in (*build_market_stages(market), *build_stages(strategy.plan(market)))}
    assert set(called) >= set(stages)
    assert unseen(called, stages) == {}


@pytest.fixture(scope="module")
def trained(small_project: Project, tmp_path_factory) -> Project:
    """Two groups; one strategy on `quick`, one on `temporal`, each with a model and a signal."""
    project = small_project.copy(tmp_path_factory.mktemp("chain") / "project")
    dates = ridge_strategy("calendar", features=["temporal/day_of_week", "temporal/day_of_year"])
    project.rewrite({**project.market, "features": ["quick", *shipped_features("temporal")]}, [ridge_strategy(), dates])
    project.make("small/features/temporal", project.weeks[0], project.weeks[-1])
    for strategy in ("ranking", "calendar"):
        project.retrain(strategy, WEEK)
        project.make(f"{strategy}/signals", DAY)
        project.make(f"{strategy}/track_record", "2012-04-15")
    return project


@pytest.fixture
def chain(trained: Project) -> Project:
    """The same, as today's registries make it: another test may have loaded it with others."""
    trained.reload()
    return trained


def test_an_edited_feature_marks_its_group_and_its_consumers_outdated_and_nothing_else(chain, registry):
    assert chain.out_of_date() == {}
    before = chain.code_versions
    # The same feature by another function of the same inputs and window.
    edited = replace(FEATURES["quick_gap_5"], compute=FEATURES["quick_roc_5"].compute)
    registry["quick_gap_5"] = edited
    chain.reload()

    after = chain.code_versions
    assert {asset for asset in after if after[asset] != before[asset]} == {"small/features/quick"}
    reasons = chain.out_of_date()
    stages = ("training_matrix", "cv_results", "fitted_model", "backtest", "validation")
    consumers = {f"ranking/{stage} {WEEK}" for stage in stages} | {f"ranking/signals {DAY}"}
    # The record of what was issued reads the issue, which itself is out of date.
    consumers |= {"ranking/track_record 2012-04-15"}
    assert set(reasons) == {f"small/features/quick {week}" for week in chain.weeks} | consumers
    versions = (before["small/features/quick"][:12], after["small/features/quick"][:12])
    assert reasons[f"small/features/quick {WEEK}"] == "made by code and settings {}, now {}".format(*versions)

    registry["quick_gap_5"] = replace(edited, compute=before_compute(chain))
    chain.reload()
    assert chain.out_of_date() == {}


def before_compute(chain: Project) -> Any:
    """The function as the fixture registered it."""
    from hf_pipelines_tests.conftest import quick_features

    return next(feature.compute for feature in quick_features() if feature.name == "quick_gap_5")


def test_a_new_feature_changes_the_version_of_its_group_only(chain, registry):
    before = chain.code_versions
    registry["quick_roc_1"] = replace(FEATURES["quick_roc_2"], name="quick_roc_1", lookback_bars=2)
    chain.reload()
    after = chain.code_versions
    # `ranking` takes the whole group: its matrix has a column more.
    changed = {"small/features/quick", "ranking/training_matrix", "ranking/signals"}
    assert {asset for asset in after if after[asset] != before[asset]} == changed


@pytest.fixture
def versions_after(small_project: Project, tmp_path: Path):
    """Which assets' versions an edit of YAML changes."""
    strategy = ridge_strategy()
    project = small_project.copy(tmp_path / "project")
    project.rewrite(
        {**project.market, "features": ["quick", *shipped_features("cross_asset")]}, [strategy, trees_strategy()]
    )
    before = project.code_versions

    def change(*, market: dict | None = None, strategy_fields: dict | None = None) -> set[str]:
        edited = {**project.market, **(market or {})}
        project.rewrite(edited, [{**strategy, **(strategy_fields or {})}, trees_strategy()])
        after = project.code_versions
        return {asset for asset in before if after[asset] != before[asset]}

    return change


GROUPS = {"small/features/quick", "small/features/cross_asset"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"description": "other words"}, set(), id="description"),
        pytest.param({"features": ["quick/quick_roc_2"]}, {"training_matrix", "signals"}, id="features"),
        pytest.param(
            {"target": {"type": "forward_return", "horizon_bars": 3}}, {"training_matrix", "drift"}, id="target"
        ),
        pytest.param({"training": {"weeks": 11, "minimum_rows": 40}}, {"training_matrix"}, id="training weeks"),
        pytest.param(
            {"cross_validation": {"n_splits": 3, "min_train_sessions": 10}},
            {"cv_results", "validation", "full_validation"},
            id="cross-validation",
        ),
        pytest.param(
            {"learner": {"type": "ridge", "params": {"alpha": 2.0}}},
            {"cv_results", "validation", "full_validation", "fitted_model"},
            id="learner",
        ),
        pytest.param(
            {"learner": {"type": "ridge", "seed": 1}},
            {"cv_results", "validation", "full_validation", "fitted_model"},
            id="seed",
        ),
        pytest.param(
            {"signal": {"type": "rank_long_short", "params": {"n_long": 2, "n_short": 1}}},
            {"backtest", "validation", "full_validation", "signals"},
            id="signal rule",
        ),
        pytest.param(
            {"signal": {"type": "ranking", "params": {"n_long": 1, "n_short": 1}}}, set(), id="alias of the signal rule"
        ),
        pytest.param(
            {"cross_validation": {"type": "purged_walk_forward", "params": {"n_splits": 2, "min_train_sessions": 10}}},
            set(),
            id="cross-validation in full",
        ),
        pytest.param(
            {"backtest": {"fee_bps": 3.0}},
            {"backtest", "validation", "full_validation", "track_record", "drift"},
            id="costs",
        ),
        pytest.param(
            {"backtest": {"fill": "next_close"}},
            {"backtest", "validation", "full_validation", "track_record", "drift"},
            id="fill",
        ),
        pytest.param({"max_model_age_weeks": 1}, {"signals"}, id="model age"),
        pytest.param({"drift": {"window_sessions": 21}}, {"drift"}, id="drift"),
        pytest.param({"drift": {"retrain_on": ["age"], "cooldown_days": 3}}, set(), id="triggers"),
        pytest.param({"track_record_weeks": 9}, {"track_record"}, id="track record weeks"),
    ],
)
def test_an_edit_of_a_strategys_yaml_touches_only_the_assets_that_read_it(versions_after, fields, expected):
    assert versions_after(strategy_fields=fields) == {f"ranking/{stage}" for stage in expected}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"description": "other words"}, set(), id="description"),
        pytest.param({"known_gaps": ["2012-02-05"]}, set(), id="known gaps"),
        pytest.param({"max_faulty_share": 0.3}, {"small/bars"}, id="faulty share"),
        pytest.param({"benchmark": "SPX"}, {"small/bars"} | GROUPS, id="benchmark"),
        pytest.param(
            {"periods_per_year": 250.0},
            {
                f"{strategy}/{stage}"
                for strategy in ("ranking", "direction")
                for stage in ("backtest", "validation", "full_validation", "track_record", "drift")
            },
            id="periods per year",
        ),
    ],
)
def test_an_edit_of_a_markets_yaml_touches_only_the_assets_that_read_it(versions_after, fields, expected):
    assert versions_after(market=fields) == expected


@pytest.mark.parametrize(
    ("registered", "name", "field", "expected"),
    [
        pytest.param(
            LEARNERS,
            "ridge",
            "fit",
            {f"ranking/{each}" for each in ("cv_results", "validation", "full_validation", "fitted_model")},
            id="fit of a learner",
        ),
        pytest.param(
            # A model is loaded into what was built.
            LEARNERS,
            "ridge",
            "build",
            {f"ranking/{each}" for each in ("cv_results", "validation", "full_validation", "fitted_model", "signals")},
            id="learner",
        ),
        pytest.param(
            RULES,
            "rank_long_short",
            "weigh",
            {f"ranking/{each}" for each in ("backtest", "validation", "full_validation", "report", "signals")},
            id="rule",
        ),
        pytest.param(
            WEIGHTINGS,
            "class_balance",
            "weigh",
            {f"direction/{each}" for each in ("training_matrix", "cv_results", "validation", "full_validation")},
            id="weighting",
        ),
    ],
)
def test_an_edited_registry_function_touches_only_the_assets_that_call_it(
    versions_after, monkeypatch, tmp_path, registered, name, field, expected
):
    entry = registered[name]
    module = _load(tmp_path / "edited", "def edited(*arguments):\n    raise NotImplementedError\n")
    # Of the same package as the others, or it would not be followed.
    module.edited.__module__ = "hf_pipelines.research.edited"
    monkeypatch.setitem(registered, name, replace(entry, **{field: module.edited}))
    assert versions_after() == expected
