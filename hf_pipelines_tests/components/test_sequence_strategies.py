"""A strategy on a network of sequences, from bars to signals: what it reads, what it keeps while it is fitted, what it shows."""

from importlib import import_module
from typing import Any

import polars as pl
import pytest
import yaml

from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.research.signals import Reason
from hf_pipelines.resources.fit_states import FITS, FitProgress
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy
from hf_pipelines_tests.tracing import traced, unseen

NAME = "sequence"
WINDOW = 3
GRU: dict[str, Any] = {
    "type": "gru",
    "params": {"window": WINDOW, "hidden": 4, "epochs": 3, "batch_size": 32, "dropout": 0.2},
    "seed": 5,
}
OPTIONS = {
    "training": {"weeks": 7, "minimum_rows": 40},
    "cross_validation": {"n_splits": 2, "test_sessions": 5, "min_train_sessions": 10},
}
STAGES = [f"{NAME}/{each}" for each in ("training_matrix", "cv_results", "fitted_model")]


@pytest.fixture
def project(small_project: Project, tmp_path) -> Project:
    copy = small_project.copy(tmp_path / "project")
    copy.rewrite(copy.market, [ridge_strategy(NAME, **OPTIONS, learner=GRU)])
    return copy


def test_a_strategy_on_a_sequence_trains_shows_its_losses_and_issues(project):
    week = project.weeks[7]
    first, second, third = project.partitions.sessions_of_week(week)[:3]
    project.make(STAGES[0], week)
    # The trace is slow, and follows imports too.
    for library in ("skorch.callbacks", "matplotlib.figure", "mlflow"):
        import_module(library)
    with traced() as called:
        made = project.make(STAGES[1:], week)
        project.make(f"{NAME}/signals", str(first))
    project.make(f"{NAME}/signals", str(second))
    (given,) = project.strategies
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(dict(given))).plan(market_of(project.market))
    stages = {stage.asset: stage for stage in build_stages(plan)}
    fitted = {asset: stages[asset] for asset in (f"{NAME}/cv_results", f"{NAME}/fitted_model", f"{NAME}/signals")}
    assert unseen({asset: called[asset] for asset in fitted}, fitted) == {}
    model = project.store.read(f"{NAME}/fitted_model", week)
    report = model.footer.facts["report"]
    assert len(report["validation_losses"]) == 3 and report["threads"] == 1
    for asset in ("cv_results", "fitted_model"):
        assert "losses" in made.materialised[f"{NAME}/{asset}"][week]
    assert project.store.objects.keys(FITS) == []
    # Logged as it ran: a point an epoch.
    client = project.definitions.resources["mlflow"].client()
    points = client.get_metric_history(str(model.footer.facts["mlflow_run_id"]), "validation_loss")
    assert {each.step: each.value for each in points} == dict(enumerate(report["validation_losses"]))
    issued = project.store.read(f"{NAME}/signals", str(second)).frame
    assert issued["prediction"].is_finite().all() and issued["prediction"].n_unique() == issued.height
    # The first session of a week reads the last ones of the week before.
    read = project.store.footer(f"{NAME}/signals", str(first)).inputs["small/features/quick"]
    assert {each.partition("#")[0] for each in read} == {project.weeks[6], week} and len(read) == WINDOW

    # A row of the second session is refused later: the symbol has too little history on the third.
    path = project.take_source() / f"{second}.parquet"
    is_hit = pl.col("symbol") == "S001"
    pl.read_parquet(path).with_columns(volume=pl.when(is_hit).then(-1.0).otherwise("volume")).write_parquet(path)
    project.make(["small/bars", "small/features/quick"], week)
    project.make(f"{NAME}/signals", str(third))
    late = project.store.read(f"{NAME}/signals", str(third)).frame
    assert late.filter(pl.col("prediction").is_nan()).select("symbol", "weight", "reason").rows() == [
        ("S001", 0.0, Reason.NO_PREDICTION)
    ]


def test_a_run_that_dies_in_the_middle_of_a_fit_goes_on_to_the_same_bytes_beside_a_holdout_too(
    project, tmp_path, monkeypatch
):
    week = project.weeks[7]
    project.rewrite(strategies=[ridge_strategy(NAME, **OPTIONS, learner=GRU, holdout={"from": str(project.weeks[8])})])
    other = project.copy(tmp_path / "other")
    project.make(STAGES, week)
    kept: list[str] = []
    keep = FitProgress.keep

    def dying(self, fit, state):
        keep(self, fit, state)
        kept.append(self.partition)
        if len(kept) == 5:
            raise RuntimeError("died")

    monkeypatch.setattr(FitProgress, "keep", dying)
    with pytest.raises(Exception, match="died"):
        other.make(STAGES, week)
    states = other.store.objects.keys(FITS)
    assert states and all(each.startswith(f"{FITS}/{NAME}/cv_results/{week}/") for each in states)
    monkeypatch.undo()
    restored: list[bool] = []
    restore = FitProgress.restore

    def noting(self, fit):
        restored.append((found := restore(self, fit)) is not None)
        return found

    monkeypatch.setattr(FitProgress, "restore", noting)
    other.make(STAGES, week)
    # Two folds and the model.
    assert len(restored) == 3 and any(restored[:2]) and not restored[2]
    assert other.store.objects.keys(FITS) == []
    for asset in STAGES[1:]:
        one, again = (each.store.footer(asset, week) for each in (project, other))
        assert one.content_hash == again.content_hash or asset.endswith("fitted_model")
        assert one.attachments == again.attachments
