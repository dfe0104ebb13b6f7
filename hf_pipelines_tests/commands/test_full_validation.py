"""`hfp validate --full`: its refits are those of strategies that are written so, and count as no choice."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import full_validation_of, validation_lines
from hf_pipelines.research.robustness import Row, judge_neighbours
from hf_pipelines.research.splitters import SPLITTERS, build_splitter
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines_tests.pipeline import Project, ridge_strategy

WEEK = "2012-04-01"

PATHS = {"type": "combinatorial_purged", "n_folds": 6, "n_test_folds": 2}


def _row(sharpe: float, low: float) -> Row:
    return Row(test="t", name="n", n_sessions=700, sharpe=sharpe, low=low, high=sharpe + 1.0, total_return=0.1, max_drawdown=0.1)  # fmt: skip


@pytest.mark.parametrize(
    ("own", "others", "is_flagged"),
    [((2.0, 0.5), (1.1, 1.0), False), ((2.0, 0.5), (1.1, 0.7), True), ((2.0, -0.1), (0.0, 0.0), False)],
    ids=["plateau", "peak", "claims nothing"],
)
def test_a_peak_is_what_claims_something_and_loses_half_of_it_one_step_away(own, others, is_flagged):
    found, signs = judge_neighbours(own[0], [*others, np.nan], low=own[1])
    assert (found.mean, found.worst, found.n) == (pytest.approx(sum(others) / 2), min(others), 2)
    assert [each.name for each in signs] == ["stands on a peak"] * is_flagged


def test_without_neighbours_nothing_is_said():
    found, signs = judge_neighbours(2.0, [], low=1.0)
    assert np.isnan(found.mean) and found.n == 0 and signs == []


@pytest.fixture(scope="module")
def made(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, Any]]:
    project = small_project.copy(tmp_path_factory.mktemp("full") / "project")
    own = ridge_strategy()
    params = {**own["cross_validation"].get("params", {}), **{"min_train_sessions": 10}}
    # The same strategy cross-validated as --full does it, and one step away.
    paths = ridge_strategy("paths", cross_validation={**PATHS, "params": {}, **params})
    paths["cross_validation"].pop("params")
    project.rewrite(strategies=[own, paths])
    project.retrain("ranking", WEEK)
    project.retrain("paths", WEEK)
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    return project, full_validation_of(pipeline, "ranking", WEEK)


@pytest.mark.pipeline
def test_paths_are_those_of_a_strategy_that_is_cross_validated_so(made):
    project, found = made
    facts: Any = project.store.read("paths/backtest", WEEK).footer.facts
    expected = sorted(each["total_return"] for each in facts["paths"].values())
    rows = [row for row in found["full"]["table"] if row["test"] == "path"]
    assert len(expected) == 5
    np.testing.assert_allclose([row["total_return"] for row in rows], expected, rtol=1e-9)
    # The first row is the account as it is stored.
    metrics: Any = project.store.read("ranking/backtest", WEEK).footer.facts["metrics"]
    assert found["full"]["table"][0]["total_return"] == pytest.approx(metrics["total_return"], rel=1e-9)
    stored = project.store.read("ranking/full_validation", WEEK)
    fan = pl.read_parquet(project.store.read_attachment(stored.footer, "paths.parquet"))
    ends = fan.group_by("path").agg(pl.col("equity").last())["equity"].sort() - 1.0
    np.testing.assert_allclose(ends.to_numpy(), expected, rtol=1e-9)


@pytest.mark.pipeline
def test_neighbours_are_strategies_that_are_written_so_and_no_trial_counts(made, tmp_path):
    project, found = made
    rows = [row for row in found["full"]["table"] if row["test"] == "neighbour"]
    assert [row["name"].split()[0] for row in rows] == ["learner.alpha", "learner.alpha"]
    ledger = TrialLedger(project.store.objects, "").known().filter(strategy="ranking")
    assert ledger.filter(kind="selection").height == 1
    of_full = ledger.filter(source="full_validation")
    # Paths and two neighbours; none of them is a choice.
    assert (of_full.height, set(of_full["kind"])) == (3, {"diagnostic"})
    assert found["trials"]["counted"] == 1

    alpha = float(rows[0]["name"].split()[1])
    other = project.copy(tmp_path / "other")
    own = ridge_strategy()
    other.rewrite(strategies=[{**own, "learner": {**own["learner"], "params": {"alpha": alpha}}}])
    other.retrain("ranking", WEEK)
    metrics: Any = other.store.read("ranking/backtest", WEEK).footer.facts["metrics"]
    assert rows[0]["total_return"] == pytest.approx(metrics["total_return"], rel=1e-6)


@pytest.mark.pipeline
def test_what_is_current_is_not_made_again(made):
    project, found = made
    objects = {key: project.store.objects.get(key) for key in project.store.objects.all_keys()}
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    assert full_validation_of(pipeline, "ranking", WEEK) == found
    assert {key: project.store.objects.get(key) for key in project.store.objects.all_keys()} == objects
    lines = dict(validation_lines(found))
    assert any("of 5 paths of combinatorial cross-validation earned something" in line for line in lines)


@dataclass(frozen=True)
class _TrainsOnItsTest:
    """The fault: test rows are trained on."""

    inner: Any

    def split(self, X: object, y: object = None, groups: object = None) -> Any:
        for train, test in self.inner.split(X):
            yield np.union1d(train, test), test


@pytest.mark.pipeline
def test_folds_that_are_trained_on_what_they_test_are_not_trusted(made, tmp_path, monkeypatch):
    project = made[0].copy(tmp_path / "project")
    strategy = ridge_strategy(learner={"type": "nearest_neighbours", "params": {"n_neighbors": 3}})
    project.rewrite(strategies=[strategy])
    project.retrain("ranking", WEEK)
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    sound = full_validation_of(pipeline, "ranking", WEEK)
    assert not [each for each in sound["full"]["controls"] if each["verdict"] == "not trusted"]

    # Planted where folds are made, behind the check of cv_results, which would refuse them.
    name = strategy["cross_validation"].get("type", "purged_walk_forward")
    entry = SPLITTERS[name]
    monkeypatch.setitem(
        SPLITTERS, name, replace(entry, build=lambda **params: _TrainsOnItsTest(entry.build(**params)))
    )  # fmt: skip
    assert isinstance(build_splitter(name, {}), _TrainsOnItsTest)
    run = project.make("ranking/full_validation", WEEK)
    verdict = run.checks["ranking/full_validation", "controls_behaved"]
    assert not verdict.passed and "sees labels of the rows that it is tested on" in verdict.description
