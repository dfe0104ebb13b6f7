"""Strategies on learners of one series a symbol, from bars to signals: what they read, what is refused when they load."""

import re
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from dagster.components.core.component_tree import ComponentTreeException

from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.research.learners import predict_frame
from hf_pipelines.research.learners.arima import check_arima, fit_arima, forecast_arima
from hf_pipelines.research.learners.kalman import fit_kalman, forecast_kalman
from hf_pipelines.research.learners.state_space import forecast_sums, forecast_weights, settled
from hf_pipelines.research.learners.symbol_series import fit_series
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy
from hf_pipelines_tests.tracing import traced, unseen

HISTORY = 8
SERIES = {"history_bars": HISTORY, "minimum_bars": 20, "horizon_bars": 2}
OPTIONS: dict[str, Any] = {
    "features": ["quick", "statistical"],
    "training": {"weeks": 7, "minimum_rows": 40},
    "cross_validation": {"n_splits": 1, "min_train_sessions": 20, "test_sessions": 6},
}
VOTE = {
    "type": "voting",
    "params": {
        "members": [
            {"type": "arima", "params": {**SERIES, "order": [1, 0]}},
            {"type": "kalman", "params": {**SERIES, "model": "local_level", "ar_lags": 0}},
            {"type": "ridge", "preprocessing": ["standard_scaling"]},
        ]
    },
}
CALM = {
    **OPTIONS,
    "target": {"type": "realised_volatility", "horizon_bars": 2},
    "learner": {"type": "garch", "params": SERIES},
    "signal": {"type": "inverse_volatility"},
}


@pytest.fixture(scope="module")
def series_project(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("series") / "project")
    market = {**project.market, "features": ["quick", "statistical/return_1"]}
    project.rewrite(market, [ridge_strategy("vote", **OPTIONS, learner=VOTE), ridge_strategy("calm", **CALM)])
    project.make(
        ["small/bars", "small/features/quick", "small/features/statistical"], project.weeks[0], project.weeks[8]
    )
    return project


@pytest.mark.parametrize("name", ["vote", "calm"])
def test_a_strategy_on_series_trains_issues_and_holds_in_its_versions_all_that_it_ran(
    series_project: Project, name: str
):
    project, week = series_project, series_project.weeks[8]
    day = project.partitions.sessions_of_week(week)[1]
    # Tracing statsmodels takes a minute: of its learners the functions are named.
    with traced() if name == "calm" else nullcontext({}) as called:
        project.make([f"{name}/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], week)
        issue = project.make(f"{name}/signals", str(day))
    assert issue.checks[f"{name}/signals", "replay"].passed
    (given,) = (each for each in project.strategies if each["name"] == name)
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(dict(given))).plan(market_of(project.market))
    stages = {stage.asset: stage for stage in build_stages(plan)}
    fitted = {asset: stages[asset] for asset in (f"{name}/cv_results", f"{name}/fitted_model", f"{name}/signals")}
    if name == "calm":
        assert unseen({asset: called[asset] for asset in fitted}, fitted) == {}
    else:
        ran = {fit_arima, forecast_arima, check_arima, fit_kalman, forecast_kalman, forecast_sums, settled, fit_series}
        for asset in ("vote/cv_results", "vote/fitted_model"):
            assert {each.__code__ for each in ran} <= stages[asset].code_version.codes
        foretold = {forecast_arima, check_arima, forecast_kalman, forecast_weights, settled}
        assert {each.__code__ for each in foretold} <= stages["vote/signals"].code_version.codes

    results = project.store.read(f"{name}/cv_results", week)
    assert results.frame["prediction"].is_finite().all()
    report = results.footer.facts["reports"]["fold 0"]
    assert (report["members"][0] if name == "vote" else report)["fitted"] == 4
    model = project.store.read(f"{name}/fitted_model", week)
    # What was stored predicts what was issued, from exactly the sessions that it reads.
    pipeline = load_model(Loaded(f"{name}/fitted_model", {week: model}, project.store), model)
    weeks = project.weeks[:9]
    rows = [
        pl.concat(project.store.read(f"small/features/{group}", key).frame for key in weeks)
        for group in ("quick", "statistical")
    ]
    frame = rows[0].join(rows[1], on=["symbol", "session", "ts"]).filter(pl.col("session") <= day).sort("ts", "symbol")
    read = frame["session"].unique().sort()[-1 - HISTORY :]
    frame = frame.filter(pl.col("session").is_in(read.to_list()))
    names = model.frame["features"][0].split(",")
    again = predict_frame(pipeline, frame, features=names, classes=(), wanted=(frame["session"] == day).to_numpy())
    issued = project.store.read(f"{name}/signals", str(day))
    assert again["prediction"].is_finite().all()
    assert again["prediction"].to_list() == issued.frame["prediction"].to_list()
    hashed = issued.footer.inputs["small/features/statistical"]
    assert sorted(each.split("#")[1] for each in hashed) == [str(each) for each in read]
    if name == "calm":
        risk = (issued.frame["weight"] * issued.frame["prediction"]).to_numpy()
        np.testing.assert_allclose(risk, risk[0])
        assert issued.frame["weight"].sum() == pytest.approx(1.0)


def test_the_hold_out_is_in_no_series_that_a_model_is_fitted_to(series_project: Project, tmp_path):
    project, week = series_project.copy(tmp_path / "held"), series_project.weeks[8]
    begins = project.partitions.sessions_of_week(project.weeks[7])[0]
    options = {
        "holdout": {"from": str(begins)},
        "cross_validation": {**OPTIONS["cross_validation"], "test_sessions": 2},
    }
    project.rewrite(strategies=[*project.strategies, ridge_strategy("held", **{**CALM, **options})])
    project.make([f"held/{each}" for each in ("training_matrix", "cv_results")], week)
    matrix = project.store.read("held/training_matrix", week).frame
    assert matrix["session"].max() < begins and matrix["label_end"].max().date() < begins + timedelta(days=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(
            {"features": ["quick"]},
            "`feature` must be among the `features` of the strategy, was return_1; add it",
            id="feature",
        ),
        pytest.param(
            {"target": {"type": "realised_volatility", "horizon_bars": 5}},
            r"`target` must be realised_volatility over the `horizon_bars` of learner 'garch' \(2\).* over 5; write the same",
            id="horizon",
        ),
        pytest.param(
            {"learner": {"type": "garch", "params": SERIES, "preprocessing": ["standard_scaling"]}},
            "`preprocessing` of learner 'garch' must keep the units .* was with standard_scaling; leave it out",
            id="units",
        ),
        pytest.param(
            {"target": {"type": "forward_return", "horizon_bars": 2}, "learner": {"type": "ridge"}},
            "`target` must be realised_volatility for the rule 'inverse_volatility', .* was 'forward_return'; take such",
            id="rule",
        ),
        pytest.param(
            {"learner": {"type": "garch", "params": {**SERIES, "horizon_bars": 0}}},
            "`horizon_bars` of 'garch' must",
            id="no horizon",
        ),
        pytest.param(
            {"learner": {"type": "arima", "params": {"order": [1, 0], "seasonal_order": [1, 0]}}},
            "`season_bars` of 'arima' must be at least 2 with a `seasonal_order`, was 0; give the bars",
            id="season",
        ),
        pytest.param(
            {"training": {"weeks": 7, "minimum_rows": 40, "weighting": "time_decay"}},
            "`training.weighting` must be none for learner 'garch', which reads no weights",
            id="weights",
        ),
    ],
)
def test_what_a_learner_of_series_does_not_stand_for_is_refused_when_the_strategy_loads(
    series_project: Project, tmp_path, changed, message
):
    project = Project(tmp_path / "refused", series_project.market, [ridge_strategy("calm", **{**CALM, **changed})])
    with pytest.raises(ComponentTreeException) as raised:
        _ = project.definitions
    told, fault = [], raised.value.__cause__
    while fault is not None:
        told.append(str(fault))
        fault = fault.__cause__
    assert re.search(message, "\n".join(told))
