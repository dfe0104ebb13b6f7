"""Code versions: what an edit touches, and nothing else."""

import functools
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hf_pipelines.components.code_version import code_version
from hf_pipelines.research.features import FEATURES
from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.research.signals import RULES
from hf_pipelines_tests.pipeline import Project, ridge_strategy, shipped_features, trees_strategy

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
"""


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


@pytest.fixture(scope="module")
def chain(small_project: Project, tmp_path_factory) -> Project:
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
    stages = ("training_matrix", "cv_results", "fitted_model", "backtest")
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
        pytest.param({"target": {"type": "forward_return", "horizon_bars": 3}}, {"training_matrix"}, id="target"),
        pytest.param({"training": {"weeks": 11, "minimum_rows": 40}}, {"training_matrix"}, id="training weeks"),
        pytest.param(
            {"cross_validation": {"n_splits": 3, "min_train_sessions": 10}}, {"cv_results"}, id="cross-validation"
        ),
        pytest.param(
            {"learner": {"type": "ridge", "params": {"alpha": 2.0}}}, {"cv_results", "fitted_model"}, id="learner"
        ),
        pytest.param({"learner": {"type": "ridge", "seed": 1}}, {"cv_results", "fitted_model"}, id="seed"),
        pytest.param(
            {"signal": {"type": "rank_long_short", "params": {"n_long": 2, "n_short": 1}}},
            {"backtest", "signals"},
            id="signal rule",
        ),
        pytest.param({"backtest": {"fee_bps": 3.0}}, {"backtest", "track_record"}, id="costs"),
        pytest.param({"backtest": {"fill": "next_close"}}, {"backtest", "track_record"}, id="fill"),
        pytest.param({"max_model_age_weeks": 1}, {"signals"}, id="model age"),
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
            {f"{strategy}/{stage}" for strategy in ("ranking", "direction") for stage in ("backtest", "track_record")},
            id="periods per year",
        ),
    ],
)
def test_an_edit_of_a_markets_yaml_touches_only_the_assets_that_read_it(versions_after, fields, expected):
    assert versions_after(market=fields) == expected


@pytest.mark.parametrize(
    ("registered", "name", "field", "expected"),
    [
        pytest.param(LEARNERS, "ridge", "build", {"ranking/cv_results", "ranking/fitted_model"}, id="learner"),
        pytest.param(RULES, "rank_long_short", "weigh", {"ranking/backtest", "ranking/signals"}, id="rule"),
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
