"""`hfp gates` on strategies that were trained: its numbers are those that are stored, and what knows nothing is refused."""

import io
import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from hf_pipelines.commands.candidates import candidate_of
from hf_pipelines.commands.features import recorded_replay_lines
from hf_pipelines.commands.gates import gates_lines, gates_of
from hf_pipelines.commands.validating import full_validation_of
from hf_pipelines.components.strategy_stages.evidence import (
    NUMBERS_OF,
    OF_CONTROLS,
    OF_FOLDS,
    Champion,
    gather_evidence,
    returns_of_week,
)
from hf_pipelines.components.strategy_stages.promoting import TAKING_SECONDS
from hf_pipelines.components.strategy_stages.tuned import SELECTED
from hf_pipelines.research.promotion import GATES, Decision, Evidence, Judged, judge_gates
from hf_pipelines.resources.partition_codec import Content, Stamp
from hf_pipelines.resources.replay_record import read_record, write_record
from hf_pipelines_tests.pipeline import Project, ridge_strategy, trees_strategy

WEEK = "2012-04-01"
# Two weeks after the Sunday of the week that is judged; the market has no later end.
NOW = datetime(2012, 4, 15, tzinfo=UTC)


def _gate(decision: Decision, name: str) -> Judged:
    return next(each for each in decision.gates if each.gate == name)


def _attached(project: Project, asset: str, name: str) -> pl.DataFrame:
    footer = project.store.footer(asset, WEEK)
    assert footer is not None
    return pl.read_parquet(io.BytesIO(project.store.read_attachment(footer, name)))


@pytest.mark.pipeline
def test_gates_hold_the_numbers_that_are_stored_and_name_what_makes_those_that_are_not(
    small_project: Project, tmp_path: Any
) -> None:
    project = small_project.copy(tmp_path / "project")
    before = project.code_versions
    project.rewrite(strategies=[ridge_strategy(gates={"turnover": 1_000_000.0, "rows": 40, "capacity": None})])
    # The block is of no asset's version: nothing is made again for it.
    after = project.code_versions
    assert {asset: after[asset] for asset in before} == before
    assert {*after} - {*before} == {"ranking/champion_model"}
    with pytest.raises(ValueError, match="`strategy` must have a backtest, ranking has none; hfp retrain ranking"):
        gates_of(project.pipeline, "ranking", None)
    project.retrain("ranking", WEEK)
    files = {key: project.store.objects.get(key) for key in project.store.objects.all_keys()}
    found = gates_of(project.pipeline, "ranking", None)
    assert {key: project.store.objects.get(key) for key in project.store.objects.all_keys()} == files

    metrics: Any = project.store.footer("ranking/backtest", WEEK).facts["metrics"]
    matrix = project.store.footer("ranking/training_matrix", WEEK)
    deciding = _attached(project, "ranking/cv_results", "scores.parquet").filter(
        pl.col("fold").is_null(), predictor="model", score="rmse"
    )
    by_fold = _attached(project, "ranking/backtest", "fold_metrics.parquet")["total_return"]
    values = {each.gate: each.value for each in found.gates}
    assert found.is_gated and found.week == WEEK
    assert (values["rows"], values["max_drawdown"]) == (matrix.rows, metrics["max_drawdown"])
    assert values["beats_baselines"] == deciding["probability"].item()
    assert values["stable_folds"] == (by_fold > 0.0).mean() and values["engines_agree"] is True
    assert _gate(found, "calibration").why == "It predicts no classes: there are no probabilities to calibrate."
    # Ten weeks have no annual figure, and show nothing beside other accounts; one trial is no choice.
    assert [_gate(found, name).verdict for name in ("sharpe", "turnover", "beats_portfolios")] == ["missing"] * 3
    assert _gate(found, "sharpe").why == "Made, of too little to tell it: sharpe."
    assert _gate(found, "sharpe").command.startswith(f"too few sessions or trades of week {WEEK}: take a later week")
    assert _gate(found, "stable_paths").why == "Not made yet: path share."
    assert _gate(found, "overfitting").why == "One trial counts: none was chosen among several."
    assert _gate(found, "up_to_date").verdict == "passed"
    assert _gate(found, "stable_paths").command == f"hfp validate ranking {WEEK} --full"
    weeks = len(matrix.inputs["small/features/quick"])
    assert _gate(found, "replayed").why == f"{weeks} weeks of its features are not replayed in full."
    assert _gate(found, "replayed").command == "hfp replay small --record"
    assert _gate(found, "capacity").verdict == "not asked" and _gate(found, "rows").is_weaker

    lines = [line for line, _ in gates_lines(found)]
    n_failed = len(found.failed)
    assert lines[0] == (
        f"ranking, week {WEEK}: refused: {n_failed} of {len(GATES)} gates fail; asked less than by default: rows, turnover, capacity"
    )
    assert any(line.startswith("rows") and "40 (weaker than 1,000)" in line and "passed" in line for line in lines)
    assert f"stable_paths: hfp validate ranking {WEEK} --full" in lines

    # Without what takes seconds the same gates fail, but for those that need it.
    first = candidate_of(project.pipeline, "ranking").first_faults(WEEK)
    assert [each.gate for each in first] == [each.gate for each in found.failed if each.gate not in TAKING_SECONDS]
    assert {*TAKING_SECONDS} <= {*GATES} and len(first) < n_failed

    # What was missing is made.
    market = project.pipeline.strategy("ranking").market
    n_stored = len(project.store.partitions("small/features/quick"))
    told = list(recorded_replay_lines(project.store, market))
    assert [is_sound for _, is_sound in told] == [True] and f": {n_stored} week(s), " in told[0][0]
    full = full_validation_of(project.pipeline, "ranking", WEEK)["full"]
    again = gates_of(project.pipeline, "ranking", WEEK)
    assert _gate(again, "replayed").verdict == "passed"
    # Another content of a week than the one that the matrix was made from was replayed: that says nothing of this one.
    record = read_record(project.store, "small/features/quick")
    record.confirmed[min(matrix.inputs["small/features/quick"])] = "0" * 64
    write_record(project.store, "small/features/quick", record)
    evidence = gather_evidence(
        project.pipeline.strategy("ranking"), project.store, WEEK, checker=project.pipeline.checker(), now=NOW
    )
    assert (evidence.unreplayed, evidence.replays_failed) == (1, 0)
    paths = [row["total_return"] > 0.0 for row in full["table"] if row["test"] == "path"]
    assert _gate(again, "stable_paths").value == sum(paths) / len(paths)
    # On no fold there are rows enough.
    assert (
        _gate(again, "controls").why
        == f"{len(full['controls'])} folds have too few rows for the controls to be judged."
    )
    json.dumps(again.to_json(), allow_nan=False)

    # Other costs: what is stored is not what today's settings make.
    project.rewrite(strategies=[ridge_strategy(backtest={"fee_bps": 9.0})])
    changed = gates_of(project.pipeline, "ranking", WEEK)
    assert "ranking/backtest" in _gate(changed, "up_to_date").why and not changed.is_gated
    assert [line for line, _ in gates_lines(changed)][1].startswith("ranking is ungated: the model of the week serves")


@pytest.mark.pipeline
def test_evidence_of_classes_of_a_champion_and_of_time_is_what_is_stored(small_project: Project, tmp_path: Any) -> None:
    copied = small_project.copy(tmp_path / "project")
    project = Project(copied.folder, copied.market, [trees_strategy()])
    project.make([f"direction/{stage}" for stage in ("training_matrix", "cv_results", "backtest")], WEEK)
    pipeline, store = project.pipeline, project.store
    champion = Champion(f"v1.0.0 of {WEEK}", returns_of_week(store, "direction/backtest", WEEK))
    plan = pipeline.strategy("direction")
    found = gather_evidence(plan, store, WEEK, checker=pipeline.checker(), now=NOW, champion=champion)
    groups = _attached(project, "direction/cv_results", "reliability.parquet").to_dicts()
    apart = sum(abs(each["confidence"] - each["share_right"]) * each["n_rows"] for each in groups)
    assert found.calibration_error == pytest.approx(apart / sum(each["n_rows"] for each in groups), rel=1e-12)
    assert found.age_weeks == min(2.0, (plan.market.partitions.end - datetime.fromisoformat(WEEK).date()).days / 7.0)
    assert (found.champion, found.has("champion_probability")) == (f"v1.0.0 of {WEEK}", False)
    # Too few sessions to say who is better; and names of evidence that a choice would spoil are names of evidence.
    assert {each.name for each in fields(Evidence)} >= OF_FOLDS
    assert found.selected == frozenset()
    # These stages were not made; and what waits for a stage is evidence too.
    assert found.unmade == NUMBERS_OF["validation"] | NUMBERS_OF["full_validation"] | OF_CONTROLS
    assert {each.name for each in fields(Evidence)} >= OF_CONTROLS.union(*NUMBERS_OF.values())
    assert found.capacity_multiple is None and found.controls_failed is None and found.universe_chosen is None

    # A study has chosen parameters by these folds: none of what rests on them passes, however good.
    stored = store.read("direction/cv_results", WEEK)
    chosen = Content(
        stored.frame,
        attachments={name: store.read_attachment(stored.footer, name) for name in stored.footer.attachments},
        inputs=stored.footer.inputs,
        facts={**stored.footer.facts, SELECTED: True},
    )
    stamp = Stamp("by hand", "by hand", stored.footer.created_at)
    store.publish("direction/cv_results", WEEK, chosen, stamp, verdicts=stored.footer.verdicts)
    selected = gather_evidence(plan, store, WEEK, checker=pipeline.checker(), now=NOW)
    assert selected.selected == OF_FOLDS
    judged = {each.gate: each for each in judge_gates(selected, plan.gates).gates}
    assert judged["max_drawdown"].verdict == "failed" and "`tuning.nested: true`" in judged["max_drawdown"].command
    assert judged["rows"].why.startswith("The number of training rows")
