"""Scores of a stored cross-validation and its backtest: what is attached, what the pages say, and that both agree."""

import io
from datetime import datetime, timedelta

import polars as pl
import pytest

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.research.account_summary import values_of
from hf_pipelines_tests.pipeline import Project, ridge_strategy, trees_strategy

pytestmark = pytest.mark.pictures

WEEK = "2012-04-01"


def attached(project: Project, asset: str, name: str) -> pl.DataFrame:
    footer = project.store.footer(asset, WEEK)
    return pl.read_parquet(io.BytesIO(project.store.read_attachment(footer, f"{name}.parquet")))


@pytest.fixture(scope="module")
def made(small_project: Project, tmp_path_factory):
    project = small_project.copy(tmp_path_factory.mktemp("scores"))
    project.rewrite(strategies=[trees_strategy(), ridge_strategy()])
    stages = {"direction": ("training_matrix", "cv_results"), "ranking": ("training_matrix", "cv_results", "backtest")}
    run = {
        name: project.make([f"{name}/{stage}" for stage in each], WEEK).materialised for name, each in stages.items()
    }
    return project, {asset: parts[WEEK] for each in run.values() for asset, parts in each.items()}


@pytest.mark.parametrize(
    ("strategy", "usual", "score"), [("direction", "majority", "accuracy"), ("ranking", "mean", "rmse")]
)
def test_cv_results_hold_scores_beside_baselines(made, strategy, usual, score):
    project, shown = made
    stage = f"{strategy}/cv_results"
    scores, folds = attached(project, stage, "scores"), attached(project, stage, "fold_metrics")
    assert set(scores["predictor"]) == {"model", usual, "last_value", "momentum_sign", "random"}
    pooled = scores.filter(pl.col("fold").is_null(), predictor="model")
    footer = project.store.footer(stage, WEEK)
    facts = footer.facts
    for row in pooled.to_dicts():
        assert row["value"] == facts["metrics"][row["score"]]
    of_folds = scores.filter(pl.col("fold").is_not_null(), predictor=usual, score=score)["value"]
    assert folds[f"{usual}_{score}"].to_list() == of_folds.to_list()
    assert shown[stage]["verdict"] == facts["verdict"] and f"in {score}" in facts["verdict"]
    commands = Pipeline(project.definitions, project.instance, project.store)
    made = datetime.fromisoformat(footer.created_at)
    assert commands.verdict_lines(strategy, WEEK, began=made) == [facts["verdict"]]
    # Of a later run that evaluated nothing it is said.
    later = commands.verdict_lines(strategy, WEEK, began=made + timedelta(minutes=1))
    assert later == [
        f"answered by the ledger: these code, data and settings were evaluated at {footer.created_at}",
        facts["verdict"],
    ]
    assert commands.verdict_lines(strategy, "2012-03-25", began=made) == []
    assert shown[stage]["score_intervals"].startswith("![picture](data:image/png")
    assert ("confusion" in shown[stage]) == (strategy == "direction")
    # Only of classes there is a confidence that may be right.
    assert ("reliability" in shown[stage]) == (strategy == "direction") == ("confidence" in facts)
    if strategy == "direction":
        groups = attached(project, stage, "reliability")
        assert groups["n_rows"].sum() == project.store.read(stage, WEEK).frame.height
        assert shown[stage]["confidence"] == facts["confidence"] and "apart on average" in facts["confidence"]
        share = groups.select((pl.col("share_right") * pl.col("n_rows")).sum() / pl.col("n_rows").sum()).item()
        assert share == pytest.approx(facts["metrics"]["accuracy"])
    page = shown[stage]["scores"]
    assert f"| {score} |" in page and "- last_value: the symbol's last label that had ended" in page


def test_backtest_holds_the_scores_of_its_account_by_fold(made):
    project, shown = made
    stage = "ranking/backtest"
    scores, folds = attached(project, stage, "scores"), attached(project, stage, "fold_metrics")
    footer = project.store.footer(stage, WEEK)
    facts = footer.facts["metrics"]
    pooled = {row["score"]: row["value"] for row in scores.filter(pl.col("fold").is_null()).to_dicts()}
    for name in ("hit_rate", "total_return", "max_drawdown"):
        assert pooled[name] == pytest.approx(facts[name])
    tested = attached(project, "ranking/cv_results", "fold_metrics")
    assert folds["fold"].to_list() == tested["fold"].to_list()
    # The returns of all bars after the first decision, each in one fold.
    assert folds["n_sessions"].sum() == project.store.read(stage, WEEK).frame.height - 1
    assert "| profit_factor |" in shown[stage]["scores"]
    # Seven weeks are annualised by nobody; a page says so and hides nothing.
    summary = attached(project, stage, "summary")
    assert values_of(summary) == facts and facts["profit_factor"] == pytest.approx(pooled["profit_factor"])
    assert (
        "| sharpe_ratio | undefined |" in shown[stage]["summary"]
        and "| trades | n_round_trips" in shown[stage]["summary"]
    )


def test_a_cost_or_a_rule_changes_what_was_earned_and_no_model(made):
    project, _ = made
    before = project.code_versions
    project.rewrite(strategies=[trees_strategy(), ridge_strategy(backtest={"fee_bps": 20})])
    changed = {asset for asset, version in project.code_versions.items() if version != before[asset]}
    assert "ranking/backtest" in changed
    assert not {"ranking/cv_results", "ranking/fitted_model"} & changed
