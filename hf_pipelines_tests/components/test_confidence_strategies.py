"""Strategies that say how sure they are, from bars to signals: calibrated probabilities and intervals reach rule, model and page."""

import io

import polars as pl
import pytest
import yaml

from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.research.learners import build_pipeline, choose_learner
from hf_pipelines.research.learners.learner import Setup
from hf_pipelines.research.learners.prediction import predict_frame
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy, trees_strategy
from hf_pipelines_tests.tracing import traced, unseen

pytestmark = pytest.mark.pictures

LEARNER = {
    "type": "xgboost_classifier",
    "params": {"n_estimators": 12, "max_depth": 2},
    "calibration": {"type": "sigmoid", "params": {"min_rows": 10, "fitted_on": "folds"}},
}
# Between the most that the sigmoid leaves and what the trees say: what is read decides.
SPLITS = {"n_splits": 3, "test_sessions": 8, "min_train_sessions": 10}
CALIBRATED = trees_strategy(
    "calibrated", learner=LEARNER, cross_validation=SPLITS, intervals={"method": "aps", "coverage": 0.8}
)
RANGING = ridge_strategy(
    "ranging",
    cross_validation=SPLITS,
    intervals={"method": "adaptive", "coverage": 0.8, "params": {"window_sessions": 20}},
)


def test_a_calibration_on_folds_reaches_model_signals_and_page(small_project: Project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    project.rewrite(project.market, [CALIBRATED])
    week = project.weeks[10]
    day = project.partitions.sessions_of_week(week)[1]
    project.make(["small/bars", "small/features/quick"], project.weeks[0], week)
    with traced() as called:
        made = project.make([f"calibrated/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], week)
        project.make("calibrated/signals", str(day))
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(dict(CALIBRATED))).plan(market_of(project.market))
    stages = {stage.asset: stage for stage in build_stages(plan)}
    fitted = {
        asset: stages[asset] for asset in ("calibrated/cv_results", "calibrated/fitted_model", "calibrated/signals")
    }
    assert unseen({asset: called[asset] for asset in fitted}, fitted) == {}

    # The page says which folds count.
    shown = made.materialised["calibrated/cv_results"][week]
    assert "Folds 1, 2 count, calibrated by earlier ones; not 0, left as they are." in shown["calibration"]
    results = project.store.read("calibrated/cv_results", week)
    kept = pl.read_parquet(io.BytesIO(project.store.read_attachment(results.footer, "calibration.parquet")))
    assert kept["n_calibration"][0] == 0 < kept["n_calibration"][1] < kept["n_calibration"][2]
    assert results.frame["uncalibrated_up"].null_count() == results.frame.filter(fold=0).height

    # Sets of classes are of calibrated folds: the last one alone has an earlier one that is.
    assert results.frame.columns[-1] == "class_set" and results.frame.filter(fold=2)["class_set"].null_count() == 0
    assert results.frame.filter(pl.col("fold") < 2)["class_set"].drop_nulls().is_empty()
    assert shown["coverage"].startswith("Of intervals that promise 80.0% hold ")

    # The artifact holds the calibration, and the issue is what it makes of what the trees say.
    model = project.store.read("calibrated/fitted_model", week)
    pipeline = load_model(Loaded("calibrated/fitted_model", {week: model}, project.store), model)
    assert pipeline.calibrator.n_rows == results.frame.height and not pipeline.calibrator.reason
    features = project.store.read("small/features/quick", week).frame.filter(pl.col("session") == day)
    ask = {"features": model.frame["features"][0].split(","), "classes": plan.target.classes}
    calibrated = predict_frame(pipeline, features, **ask)
    bare = build_pipeline(choose_learner("xgboost_classifier", LEARNER["params"]), Setup("classification"))
    bare.estimator = pipeline.estimator
    raw = predict_frame(bare, features, **ask)
    issued = project.store.read("calibrated/signals", str(day)).frame
    both = issued.join(calibrated, on="symbol", suffix="_again").join(raw, on="symbol", suffix="_raw")
    assert both.height and both["confidence"].to_list() == both["confidence_again"].to_list()
    assert (both["confidence"] != both["confidence_raw"]).all()
    assert set("|".join(issued["class_set"]).split("|")) <= set(plan.target.classes)
    # Of the target's last class, whichever is named; bounds are of returns alone.
    assert both["calibrated_probability"].to_list() == both["probability_up"].to_list()
    assert (both["calibrated_probability"] != both["probability_up_raw"]).all()
    assert issued["lower"].null_count() == issued["upper"].null_count() == issued.height > 0
    # The rule's threshold reads the calibrated ones: another threshold between both scales, another issue.
    by_hand = plan.weigh(calibrated).sort("symbol")["weight"].to_list()
    assert both.sort("symbol")["weight"].to_list() == by_hand != plan.weigh(raw).sort("symbol")["weight"].to_list()


def test_intervals_of_an_issue_are_those_of_its_model_in_whatever_order_days_are_made(small_project: Project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    project.rewrite(project.market, [RANGING])
    weeks = project.weeks[10:12]
    days = [str(project.partitions.sessions_of_week(week)[at]) for week in weeks for at in (0, 1)]
    project.make(["small/bars", "small/features/quick"], project.weeks[0], weeks[1])
    made = project.make([f"ranging/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], weeks[0])
    shown = made.materialised["ranging/cv_results"][weeks[0]]
    assert shown["coverage"].startswith("Of intervals that promise 80.0% hold ") and shown[
        "coverage_picture"
    ].startswith("![picture]")
    # Trained anew in the middle; in the other project the days come the other way round.
    project.make([f"ranging/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], weeks[1])
    other = project.copy(tmp_path / "other")
    signalled = project.make("ranging/signals", days[0], days[-1]).materialised["ranging/signals"]
    assert all(signalled[day]["weights"].startswith("![picture]") for day in days)
    for day in reversed(days):
        other.make("ranging/signals", day)
    thresholds = {}
    for week in weeks:
        (told,) = project.store.read("ranging/fitted_model", week).footer.facts["intervals"]
        thresholds[week] = told["threshold"]
    assert thresholds[weeks[0]] != thresholds[weeks[1]]
    for at, day in enumerate(days):
        issue, again = (each.store.read("ranging/signals", day) for each in (project, other))
        assert issue.footer.content_hash == again.footer.content_hash
        frame = issue.frame
        assert frame["class_set"].null_count() == frame["calibrated_probability"].null_count() == frame.height > 0
        half = (frame["upper"] - frame["lower"]) / 2.0
        assert half.to_list() == pytest.approx([thresholds[weeks[at // 2]]] * frame.height)
        middle = (frame["upper"] + frame["lower"]) / 2.0
        assert middle.to_list() == pytest.approx(frame["prediction"].to_list())
