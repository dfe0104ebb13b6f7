"""Diagnostics of cv_results: asked for in the YAML, they add to the results of a week and change none of them."""

import io
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines_tests.pipeline import Project, ridge_strategy

pytestmark = pytest.mark.pictures

WEEK = "2012-04-01"
ASKED = {
    "permutations": 19,
    "learning_curve": [0.5],
    "validation_curve": {"parameter": "alpha", "values": [0.1, 1.0, 1000.0]},
    "importance": {"repeats": 2, "rows": 100},
}


@pytest.fixture
def project(small_project: Project, tmp_path: Path) -> Project:
    return small_project.copy(tmp_path / "project")


def _fold_metrics(project: Project) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(_attachment(project, "fold_metrics.parquet")))


def _attachment(project: Project, name: str) -> bytes:
    return project.store.read_attachment(project.store.footer("ranking/cv_results", WEEK), name)


def test_diagnostics_add_to_the_results_of_a_week_and_change_none(project):
    plain = project.make(["ranking/training_matrix", "ranking/cv_results"], WEEK).materialised["ranking/cv_results"][
        WEEK
    ]
    assert plain["overfitting"].startswith("Not asked for: ")
    assert plain["stability"].startswith("information_coefficient from ") and " over 2 folds" in plain["stability"]
    assert plain["scores_by_fold"].startswith("![picture]") and "diagnostics_fits" not in plain
    version = project.code_versions["ranking/cv_results"]
    before = project.store.read("ranking/cv_results", WEEK)
    metrics = _fold_metrics(project)
    assert "diagnostics" not in before.footer.facts
    assert plain["importance_gain"].startswith("![picture]") and "importance_permutation" not in plain

    project.rewrite(strategies=[ridge_strategy(diagnostics=ASKED)])
    assert project.code_versions["ranking/cv_results"] != version
    run = project.make("ranking/cv_results", WEEK)
    made = run.materialised["ranking/cv_results"][WEEK]
    after = project.store.read("ranking/cv_results", WEEK)
    assert_frame_equal(after.frame, before.frame, check_exact=True)
    with_gaps = _fold_metrics(project)
    assert_frame_equal(with_gaps.select(metrics.columns), metrics, check_exact=True)
    added = ["train_information_coefficient", "gap", "permuted_gap_95"]
    assert {*with_gaps.columns} - {*metrics.columns} == {*added}
    gap = with_gaps["train_information_coefficient"] - with_gaps["information_coefficient"]
    assert with_gaps["gap"].to_list() == pytest.approx(gap.to_list())

    # Two folds: the learner itself, 19 permutations, one smaller size and two other values.
    assert made["diagnostics_fits"] == 2 * (1 + 19 + 1 + 2) == after.footer.facts["diagnostics"]["fits"]
    assert made["configurations_tried"] == 3 == after.footer.facts["diagnostics"]["configurations_tried"]
    facts = after.footer.facts["diagnostics"]
    assert facts["gap"] == pytest.approx(with_gaps["gap"].mean())
    # Shown with six digits.
    assert [made["gap"], made["gap_limit"]] == pytest.approx([facts["gap"], facts["gap_limit"]], rel=1e-5)
    assert "3 configurations were tried" in made["validation_curve_says"]
    scores = pl.read_parquet(io.BytesIO(_attachment(project, "diagnostics.parquet")))
    assert scores.height == made["diagnostics_fits"]
    assert scores.filter(kind="chosen")["test_score"].to_list() == pytest.approx(
        metrics["information_coefficient"].to_list(), abs=1e-3
    )
    # Two folds, every feature: gains, losses by permutations, contributions of a line.
    importances = pl.read_parquet(io.BytesIO(_attachment(project, "importances.parquet")))
    features = project.store.read("ranking/training_matrix", WEEK).frame
    for kind in ("gain", "permutation", "contribution"):
        of_kind = importances.filter(kind=kind)
        assert set(of_kind["name"]) <= set(features.columns) and of_kind["fold"].n_unique() == 2, kind
        assert "rank correlation of two folds" in made[f"importance_{kind}_says"]
        assert made[f"importance_{kind}"].startswith("![picture]")
    for picture in ("scores_by_fold", "gap_of_permuted_labels", "learning_curve", "validation_curve"):
        assert made[picture].startswith("![picture](data:image/png;base64,")
    lines = [each.user_message for each in project.instance.all_logs(run.result.run_id)]
    assert 5 <= sum("diagnostics: " in line for line in lines) <= 10
    assert any("diagnostics: 46 of 46 fits" in line for line in lines)
