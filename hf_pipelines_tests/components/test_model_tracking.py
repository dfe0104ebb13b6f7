"""What a retrained week leaves in MLflow, in a real store: searched by what a person knows, parents with what their tables show."""

import polars as pl
import pytest

from hf_pipelines_tests.pipeline import Project, ridge_strategy, trees_strategy

pytestmark = [pytest.mark.servers, pytest.mark.pictures]

WEEK = "2012-04-01"


@pytest.fixture(scope="module")
def trained(small_project: Project, tmp_path_factory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("tracked"))
    trees = trees_strategy(description="Trees on quick features.", learner={"type": "xgboost_early_stopping"})
    trees["learner"]["params"] = {"n_estimators": 30, "max_depth": 2}
    project.rewrite(strategies=[trees])
    project.retrain("direction", WEEK)
    return project


def test_a_model_is_found_by_strategy_week_learner_and_hash(trained):
    client = trained.definitions.resources["mlflow"].client()
    experiment = client.get_experiment_by_name("direction").experiment_id
    model = trained.store.footer("direction/fitted_model", WEEK)
    (sha256,) = model.attachments.values()
    for name, value in {
        "hf.strategy": "direction",
        "hf.week": WEEK,
        "hf.learner": "xgboost_early_stopping",
        "hf.family": "xgboost",
        "hf.content_hash": model.content_hash,
    }.items():
        found = {run.info.run_id for run in client.search_runs([experiment], f"tags.`{name}` = '{value}'")}
        assert model.facts["mlflow_run_id"] in found, name
    (by_file,) = client.search_runs([experiment], f"tags.`hf.sha256` = '{sha256}'")
    assert by_file.info.run_id == model.facts["mlflow_run_id"]
    (pointer,) = client.search_logged_models([experiment], f"tags.`hf.sha256` = '{sha256}'")
    assert pointer.source_run_id == by_file.info.run_id
    # The pointer leads to the bytes.
    root = trained.store.objects.uri.rstrip("/")
    assert pointer.tags["hf.address"].startswith(root)
    assert trained.store.objects.get(pointer.tags["hf.address"].removeprefix(root + "/"))


def test_the_run_of_a_model_holds_how_it_was_made(trained):
    client = trained.definitions.resources["mlflow"].client()
    model = trained.store.footer("direction/fitted_model", WEEK)
    run = client.get_run(model.facts["mlflow_run_id"])
    results = trained.store.footer("direction/cv_results", WEEK)
    assert run.data.metrics["n_train_rows"] == trained.store.read("direction/fitted_model", WEEK).frame["n_rows"][0]
    assert {"peak_memory_mb", "fit_seconds", "compute_seconds"} <= run.data.metrics.keys()
    assert run.data.metrics["log_loss"] == pytest.approx(results.facts["metrics"]["log_loss"])
    folds = client.get_metric_history(run.info.run_id, "fold/log_loss")
    assert [each.step for each in folds] == [0, 1] and folds[0].value != folds[1].value
    # As trees grew: after the first round, and every tenth.
    losses = {each.step: each.value for each in client.get_metric_history(run.info.run_id, "validation_loss")}
    assert {*losses} == {1, 10, 20, 30} and min(losses.values()) >= model.facts["report"]["validation_loss"] - 1e-9
    (dataset,) = run.inputs.dataset_inputs
    matrix = trained.store.footer("direction/training_matrix", WEEK)
    assert dataset.dataset.digest == matrix.content_hash[:36] and dataset.dataset.name == "direction/training_matrix"
    tags = run.data.tags
    assert tags["hf.code_version"] == trained.code_versions["direction/fitted_model"]
    assert "xgboost 3" in tags["hf.packages"] and tags["hf.python"].startswith("3.")
    paths = {each.path for each in client.list_artifacts(run.info.run_id, "pictures")}
    assert "pictures/importances.png" in paths


def test_the_run_of_a_week_carries_what_its_table_shows_and_its_models_nest_below(trained):
    client = trained.definitions.resources["mlflow"].client()
    experiment = client.get_experiment_by_name("direction").experiment_id
    runs = client.search_runs([experiment])
    (week,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs if run is not week} == {week.info.run_id}
    account = trained.store.footer("direction/backtest", WEEK).facts["metrics"]
    assert week.data.metrics["backtest/total_return"] == pytest.approx(account["total_return"])
    assert {"cv/log_loss", "cv/information_coefficient", "cv/folds"} <= week.data.metrics.keys()
    params = week.data.params
    assert (params["target"], params["horizon_bars"], params["cv"]) == ("direction", "2", "purged_walk_forward")
    assert params["learner.n_estimators"] == "30" and params["features"].count(",") == int(params["n_features"]) - 1
    assert week.inputs.dataset_inputs[0].dataset.name == "direction/training_matrix"
    tags = week.data.tags
    assert tags["mlflow.note.content"] == "Trees on quick features." and "mlflow.user" in tags
    assert "mlflow.source.name" in tags and week.info.status == "FINISHED"
    assert "pictures/equity.png" in {each.path for each in client.list_artifacts(week.info.run_id, "pictures")}


def test_the_run_of_a_week_holds_its_leaderboard(small_project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    candidates = [{"learner": "ridge", "params": {"alpha": 50.0}}, {"learner": "lasso"}]
    project.rewrite(strategies=[ridge_strategy(leaderboard={"candidates": candidates})])
    project.make(["ranking/training_matrix", "ranking/leaderboard"], WEEK)
    stored = project.store.read("ranking/leaderboard", WEEK)
    client = project.definitions.resources["mlflow"].client()
    (week,) = client.search_runs([client.get_experiment_by_name("ranking").experiment_id])
    by_name = dict(stored.frame.select("candidate", "value").iter_rows())
    best = min(by_name[name] for name in ("as the strategy is", "ridge", "lasso"))
    assert week.data.metrics["leaderboard/best_rmse"] == pytest.approx(best, rel=1e-12)
    assert week.data.metrics["leaderboard/best_baseline_rmse"] == pytest.approx(
        by_name[stored.footer.facts["best_baseline"]], rel=1e-12
    )
    assert (week.data.metrics["leaderboard/candidates"], week.data.metrics["leaderboard/ranked"]) == (3, 3)
    # Too few sessions for a test.
    assert (
        "leaderboard/p" not in week.data.metrics and week.data.tags["hf.leaderboard"] == stored.footer.facts["verdict"]
    )
    table = pl.read_csv(client.download_artifacts(week.info.run_id, "leaderboard.csv", str(tmp_path)))
    assert table["candidate"].to_list() == stored.frame["candidate"].to_list()
    assert "pictures/leaderboard.png" in {each.path for each in client.list_artifacts(week.info.run_id, "pictures")}
    # A model of the week beside it: the same run, which holds both.
    project.make([f"ranking/{stage}" for stage in ("cv_results", "fitted_model", "backtest")], WEEK)
    metrics = client.get_run(week.info.run_id).data.metrics
    assert {"leaderboard/best_rmse", "cv/rmse", "backtest/total_return"} <= {*metrics}
