"""`hfp model`: releases as history and store have them, after everything that can happen to both."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from hf_pipelines.commands.cli import main
from hf_pipelines.commands.models import (
    lineage_lines,
    lineage_told,
    models_lines,
    models_told,
    release_lines,
    release_told,
)
from hf_pipelines.commands.promoting import promote, roll_back, withdraw
from hf_pipelines.commands.release_changes import changelog_lines, changelog_told, diff_lines, diff_told
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.research.promotion import GATES
from hf_pipelines.research.promotion.lifecycle import PROMOTED
from hf_pipelines.resources.promotions.history import PromotionHistoryError, record_decision
from hf_pipelines_tests.pipeline import Project, ridge_strategy
from hf_pipelines_tests.resources.promotions.deciding import draft

FIRST, SECOND = "2012-04-01", "2012-04-08"
NOTHING = {name: False if gate.bound is None else None for name, gate in GATES.items()}
OTHER = {"features": ["quick", "-quick/quick_roc_5"], "learner": {"type": "ridge", "params": {"alpha": 30.0}}}


@pytest.fixture(scope="module")
def released(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A release of one week, and by override another of the next: one feature less, and other parameters."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_ACTOR", "bob")
        project = small_project.copy(tmp_path_factory.mktemp("models") / "project")
        project.rewrite(strategies=[ridge_strategy(gates=NOTHING)])
        project.retrain("ranking", FIRST)
        promote(project.pipeline, "ranking", FIRST, "the first")
        project.rewrite(strategies=[ridge_strategy(gates={**NOTHING, "rows": 1_000_000}, **OTHER)])
        project.retrain("ranking", SECOND)
        promote(project.pipeline, "ranking", SECOND, "the desk wants it", override="Ann")
    return project


@pytest.fixture
def project(released: Project, tmp_path: Path) -> Project:
    return released.copy(tmp_path / "project")


def row_of(pipeline: Pipeline, strategy: str = "ranking") -> dict[str, Any]:
    return next(each for each in models_told(pipeline) if each["strategy"] == strategy)


def text(lines: Any) -> str:
    return "\n".join(line if isinstance(line, str) else line[0] for line in lines)


@pytest.mark.pipeline
def test_list_is_right_after_override_rollback_withdrawal_and_of_what_is_gone_or_damaged(project):
    pipeline = project.pipeline
    row = row_of(pipeline)
    assert (row["champion"], row["stage"], row["week"], row["is_override"], row["is_gated"]) == (
        "v2.0.0", "production", SECOND, True, True,
    )  # fmt: skip
    # A market with an end grows no older.
    assert (
        row["age_weeks"] == (pipeline.strategy("ranking").market.partitions.end - np.datetime64(SECOND).item()).days / 7
    )
    assert row["is_champion_today"] is True
    roll_back(pipeline, "ranking", "it loses")
    row = row_of(pipeline)
    assert (row["champion"], row["is_override"], row["is_champion_today"], row["stage_today"]) == (
        "v1.0.0",
        False,
        False,
        "deprecated",
    )
    assert "a challenger, deprecated" in text(models_lines([row]))
    withdraw(pipeline, "ranking", "the vendor")
    row = row_of(pipeline)
    assert (row["champion"], row["is_withdrawn"], row["stage"], row["week"], row["age_weeks"]) == (
        None,
        True,
        "archived",
        None,
        None,
    )
    record_decision(pipeline.store.objects, "left", draft(PROMOTED))
    row = row_of(pipeline, "left")
    assert (row["champion"], row["is_in_project"], row["is_gated"], row["is_champion_today"]) == (
        "v1.0.0",
        False,
        False,
        None,
    )
    assert all(is_sound for _, is_sound in models_lines(models_told(pipeline)))
    Path(pipeline.store.objects.address("_promotions/ranking/00000001.json")).write_bytes(b"{}")
    (line,) = [line for line, is_sound in models_lines(models_told(pipeline)) if not is_sound]
    assert "ranking: its history of promotions is damaged: `" in line and "_promotions/ranking/00000001.json" in line
    with pytest.raises(PromotionHistoryError, match="00000001.json"):
        release_told(pipeline, "ranking")
    with pytest.raises(PromotionHistoryError, match="00000001.json"):
        changelog_told(pipeline, "ranking")


@pytest.mark.pipeline
def test_show_and_changelog_hold_what_is_stored_and_say_what_is_not(project):
    pipeline, store = project.pipeline, project.store
    told = json.loads(json.dumps(release_told(pipeline, "ranking"), allow_nan=False))
    account, scores = (store.footer(f"ranking/{each}", SECOND).facts["metrics"] for each in ("backtest", "cv_results"))
    assert told["metrics"]["account/max_drawdown"] == account["max_drawdown"]
    assert told["metrics"]["scores/rmse"] == scores["rmse"] and len(told["metrics"]) == len(account) + len(scores)
    assert (told["version"], told["override"], told["failed_gates"], told["parent"]) == (
        "v2.0.0",
        "Ann",
        ["rows"],
        "v1.0.0",
    )
    assert told["parameters"]["learner.params.alpha"] == 30.0 and "quick/quick_roc_5" not in told["features"]
    model = store.footer("ranking/fitted_model", SECOND)
    assert told["artifacts"] == model.attachments and {each["fault"] for each in told["evidence"]} == {None}
    assert release_told(pipeline, "ranking@previous") == release_told(pipeline, "ranking@v1.0.0")
    lines = text(release_lines(told))
    assert "ranking v2.0.0: champion since" in lines and ", by override in the name of Ann" in lines
    assert "overridden by bob: the desk wants it" in lines and "gates that stood in the way: rows" in lines
    with pytest.raises(ValueError, match=r"with one of v1\.0\.0, v2\.0\.0, there is no v3\.0\.0 of ranking"):
        release_told(pipeline, "ranking@v3.0.0")

    newest, oldest = changelog_told(pipeline, "ranking")
    changes = newest["changes"]
    assert (changes["features_added"], changes["features_dropped"]) == ([], ["quick/quick_roc_5"])
    assert changes["parameters"] == {"learner.params.alpha": [1.0, 30.0]}
    before = store.footer("ranking/backtest", FIRST).facts["metrics"]["max_drawdown"]
    assert changes["metrics"]["account/max_drawdown"] == [before, account["max_drawdown"]]
    assert (oldest["changes"], oldest["role"]) == (None, "previous: a rollback makes it the champion")
    lines = text(changelog_lines("ranking", [newest, oldest]))
    assert "features dropped: quick/quick_roc_5" in lines and "learner.params.alpha: from 1 to 30" in lines

    # The account of the first one is not stored any more: that is said, and no number takes its place.
    Path(store.objects.address(f"ranking/backtest/{FIRST}.parquet")).unlink()
    newest, oldest = changelog_told(pipeline, "ranking")
    assert not [each for each in newest["changes"]["metrics"] if each.startswith("account/")]
    assert newest["changes"]["unknown_metrics"] == [
        f"account of ranking v1.0.0: ranking/backtest {FIRST} is stored no more"
    ]
    lines = text(changelog_lines("ranking", [newest, oldest]))
    assert f"unknown: account of ranking v1.0.0: ranking/backtest {FIRST} is stored no more" in lines
    withdraw(pipeline, "ranking", "why")
    with pytest.raises(ValueError, match="there is no champion: withdrawn on .* of ranking"):
        release_told(pipeline, "ranking")
    assert release_told(pipeline, "ranking@v2.0.0")["role"] == "withdrawn"


@pytest.mark.pipeline
def test_lineage_goes_up_to_the_bars_and_names_what_is_lost(project):
    pipeline, store = project.pipeline, project.store
    told = json.loads(json.dumps(lineage_told(pipeline, "ranking"), allow_nan=False))
    assert [(each["version"], each["changed"]) for each in told["ancestors"]] == [("v1.0.0", ["features", "learner"])]
    by_asset = {each["asset"]: each for each in told["made_from"]}
    matrix = store.footer("ranking/training_matrix", SECOND)
    features = matrix.inputs["small/features/quick"]
    assert by_asset["small/features/quick"]["contents"] == len(features)
    assert (by_asset["small/features/quick"]["first"], by_asset["small/features/quick"]["last"]) == (
        min(features),
        max(features),
    )
    bars = {
        (week, digest)
        for asset, weeks in (
            ("ranking/training_matrix", [SECOND]),
            ("ranking/backtest", [SECOND]),
            ("small/features/quick", features),
        )
        for each in weeks
        for week, digest in store.footer(asset, each).inputs.get("small/bars", {}).items()
    }
    assert by_asset["small/bars"]["contents"] == len(bars) and by_asset["small/bars"]["sources"] > 0
    assert [each["asset"] for each in told["made_from"]][-1] == "small/bars"
    assert all(is_sound for _, is_sound in lineage_lines(told))
    # A week of features is made again by hand with other content: what the release was made from is gone.
    lost = min(features)
    Path(store.objects.address(f"small/features/quick/{lost}.parquet")).unlink()
    after = lineage_told(pipeline, "ranking")
    (line,) = [line for line, is_sound in lineage_lines(after) if not is_sound]
    assert (
        line
        == f"small/features/quick: 1 of {len(features)} cannot be read: {lost} {features[lost][:12]}: stored no more"
    )
    assert {each["asset"]: each["digest"] for each in after["made_from"]}["small/features/quick"] == by_asset[
        "small/features/quick"
    ]["digest"]


@pytest.mark.pipeline
def test_diff_agrees_with_numbers_made_by_hand_and_says_what_cannot_be_told(project, monkeypatch, capsys):
    pipeline, store = project.pipeline, project.store
    told = json.loads(json.dumps(diff_told(pipeline, "ranking@v1.0.0", "ranking"), allow_nan=False))
    frames = [store.read("ranking/cv_results", week).frame for week in (FIRST, SECOND)]
    both = (
        frames[0].join(frames[1], on=["symbol", "ts"], suffix="_other").drop_nulls(["prediction", "prediction_other"])
    )
    x, y = both["prediction"].to_numpy(), both["prediction_other"].to_numpy()
    assert told["agreement"] == {
        "n_rows": len(x),
        "correlation": pytest.approx(pearsonr(x, y).statistic),
        "rank_correlation": pytest.approx(spearmanr(x, y).statistic),
        "same_sign": (np.sign(x) == np.sign(y)).mean(),
    }
    assert len(x) > 50 and told["agreement_unknown"] == [] and told["features_dropped"] == ["quick/quick_roc_5"]
    lines = text(diff_lines(told))
    assert f"{len(x):,} rows of both" in lines and "only in the first: quick/quick_roc_5" in lines
    assert told["compare"].startswith(f"hfp compare ranking@{FIRST}:") and told["compare"] in lines
    with pytest.raises(ValueError, match=r"two that differ, both were ranking v2\.0\.0"):
        diff_told(pipeline, "ranking", "ranking@v2.0.0")
    Path(store.objects.address(f"ranking/cv_results/{FIRST}.parquet")).unlink()
    gone = diff_told(pipeline, "ranking@v1.0.0", "ranking")
    assert gone["agreement"] is None and gone["compare"] is None
    assert gone["agreement_unknown"] == [f"ranking/cv_results {FIRST} of ranking v1.0.0 is stored no more"]
    assert "Predictions cannot be compared: ranking/cv_results" in text(diff_lines(gone))
    # A release of a strategy that has left the project, of which nothing is stored.
    record_decision(store.objects, "left", draft(PROMOTED))
    left = diff_told(pipeline, "left", "ranking")
    assert left["agreement_unknown"][0] == "the record of left v1.0.0 names no cv_results" and left["metrics"] == {}
    assert "none" in text(diff_lines(left)) or left["features_added"]
    assert text(release_lines(release_told(pipeline, "left"))).count("unknown: ") == 2

    # The commands print these very lines.
    monkeypatch.setattr(Pipeline, "open", staticmethod(lambda: pipeline))
    monkeypatch.setenv("HF_DATA_DIR", str(project.folder))
    for words, status in (
        ("list", 0), ("show ranking", 0), ("lineage ranking", 0), ("changelog ranking", 0), ("diff ranking left", 0),
        ("lineage ranking@v1.0.0", 1), ("show nothing", 1),
    ):  # fmt: skip
        assert main(["model", *words.split()]) == status, capsys.readouterr()
        out = capsys.readouterr().out
        assert (out == "") is (words == "show nothing")
        if words != "show nothing":
            assert main(["model", *words.split(), "--json"]) == status
            json.loads(capsys.readouterr().out)
