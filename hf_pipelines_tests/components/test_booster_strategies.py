"""A strategy on a booster, from bars to signals: categories of the market, quantiles, the round in the results."""

import numpy as np
import polars as pl
import pytest
import yaml

from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.research.learners import predict_frame
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy
from hf_pipelines_tests.tracing import traced, unseen

LEARNER = {
    "type": "lightgbm",
    "params": {
        "n_estimators": 6,
        "min_child_samples": 3,
        "categories": ["day_of_week", "sector_number"],
        "quantiles": [0.1, 0.9],
    },
}


@pytest.fixture(scope="module")
def sector_project(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("sectors") / "project")
    universe = [{**each, "sector": ("oil", "gas", "oil")[at % 3]} for at, each in enumerate(project.market["universe"])]
    market = {
        **project.market,
        "universe": universe,
        "features": ["quick", "temporal/day_of_week", "fundamental/sector_number"],
    }
    options = {
        "features": ["quick", "temporal", "fundamental"],
        "training": {"weeks": 7, "minimum_rows": 40},
        "cross_validation": {"n_splits": 1, "min_train_sessions": 10},
    }
    project.rewrite(market, [ridge_strategy("boosted", **options, learner=LEARNER)])
    assets = ["small/bars", *(f"small/features/{group}" for group in ("quick", "temporal", "fundamental"))]
    run = project.make(assets, project.weeks[0], project.weeks[7])
    assert run.checks["small/features/fundamental", "replay"].passed
    return project


def test_a_strategy_on_a_booster_trains_issues_and_holds_in_its_versions_all_that_it_ran(sector_project: Project):
    project, week = sector_project, sector_project.weeks[7]
    day = project.partitions.sessions_of_week(week)[1]
    with traced() as called:
        project.make([f"boosted/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], week)
        project.make("boosted/signals", str(day))
    (given,) = project.strategies
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(dict(given))).plan(market_of(project.market))
    stages = {stage.asset: stage for stage in build_stages(plan)}
    fitted = {asset: stages[asset] for asset in ("boosted/fitted_model", "boosted/signals")}
    assert unseen({asset: called[asset] for asset in fitted}, fitted) == {}

    results = project.store.read("boosted/cv_results", week)
    report = results.footer.facts["reports"]["fold 0"]
    assert 1 <= report["best_round"] <= 6 and report["validation_loss"] > 0 and "quantile_0.9" in report
    low, high = results.frame["quantile_0.1"].to_numpy(), results.frame["quantile_0.9"].to_numpy()
    assert (low <= high).all() and np.isfinite(low).all()
    model = project.store.read("boosted/fitted_model", week)
    assert list(model.footer.attachments) == ["model.zip"] and model.footer.facts["report"]["best_round"] >= 1
    names = model.frame["features"][0].split(",")
    assert {"day_of_week", "sector_number"} < {*names} and set(model.footer.facts["importances"]) == {*names}
    # What was stored predicts what was issued.
    pipeline = load_model(Loaded("boosted/fitted_model", {week: model}, project.store), model)
    rows = [project.store.read(f"small/features/{each}", week).frame for each in ("quick", "temporal", "fundamental")]
    frame = rows[0].join(rows[1], on=["symbol", "session", "ts"]).join(rows[2], on=["symbol", "session", "ts"])
    frame = frame.filter(pl.col("session") == day).sort("ts", "symbol")
    again = predict_frame(pipeline, frame, features=names, classes=())
    issued = project.store.read("boosted/signals", str(day)).frame
    known = issued.join(again, on="symbol", suffix="_again")
    assert known.height and known["prediction"].to_list() == known["prediction_again"].to_list()
