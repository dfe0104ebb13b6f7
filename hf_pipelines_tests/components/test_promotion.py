"""Asset `<strategy>/promotion`: the same decision as `hfp promote`, asked for in the web UI, with what follows from it."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hf_pipelines.commands.contracts import schema_of
from hf_pipelines.commands.promoting import promote
from hf_pipelines.components.strategy_stages.promoting import Candidate
from hf_pipelines.research.promotion import GATES, Decision, Evidence
from hf_pipelines.research.promotion.lifecycle import PROMOTED, REFUSED
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.promotions.history import history_of
from hf_pipelines_tests.pipeline import Project, ridge_strategy

SUNDAY = "2012-04-01"
ASSET = "ranking/promotion"
NOTHING = {name: False if gate.bound is None else None for name, gate in GATES.items()}


@pytest.fixture
def project(small_project: Project, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("HF_ACTOR", "bob")
    project = small_project.copy(tmp_path / "project")
    project.rewrite(strategies=[ridge_strategy(gates=NOTHING)])
    project.retrain("ranking", SUNDAY)
    return project


@pytest.mark.pipeline
def test_asset_records_what_the_gates_say_and_shows_it_and_what_follows(project, monkeypatch):
    monkeypatch.setenv("HF_PICTURES", "all")
    refused = project.run(ASSET, SUNDAY)
    assert not refused.success and "`reason` must be given, was empty" in refused.message
    assert history_of(project.store.objects, "ranking").records == ()

    made = project.make(ASSET, SUNDAY, tags={"hf/reason": "the first", "hf/actor": "Ann"})
    history = history_of(project.store.objects, "ranking")
    (record,) = history.records
    assert (record["kind"], record["reason"], record["actor"], record["week"]) == (PROMOTED, "the first", "Ann", SUNDAY)
    shown = made.materialised[ASSET][SUNDAY]
    assert shown["state"] == history.state.headline and "champion v1.0.0" in shown["state"]
    assert shown["gates"].splitlines()[0].split(" | ")[0] == "| gate"
    assert all(f"| {name} |" in shown["gates"] for name in GATES)
    assert shown["picture"].startswith("![picture](data:image/png") and shown["timeline"].startswith("![picture](data:")
    assert "v1.0.0" in shown["served"] and "MLflow: 1 version(s) of ranking, champion v1.0.0" in shown["followed"]
    assert made.checks[ASSET, "gates"].passed

    # The figures are those of the stored account; what ten weeks do not tell is null, with the reason.
    (key,) = project.store.objects.keys("_outbox/ranking")
    payload = json.loads(project.store.objects.get(key))
    Draft202012Validator(schema_of("payload")).validate(payload)
    metrics: Any = project.store.footer("ranking/backtest", SUNDAY).facts["metrics"]
    assert payload["max_drawdown"] == metrics["max_drawdown"] and payload["id"] == record["id"]
    assert payload["sharpe"] is None and payload["unknown"]["sharpe"].startswith("the account has too few sessions")
    assert payload["evidence"] == record["evidence"] and payload["record"] == history.last

    # In MLflow the version points to the model that the fit has left.
    client = MLflowTracking(uri=f"sqlite:///{project.folder / 'mlflow.db'}").client()
    version = client.get_model_version_by_alias("ranking", "champion")
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    footer = project.store.footer("ranking/fitted_model", SUNDAY)
    (name,) = [each for each in footer.attachments if each.startswith("model.")]
    assert version.tags["hf.sha256"] == model.tags["hf.sha256"] == footer.attachments[name]
    assert model.source_run_id == footer.facts["mlflow_run_id"]
    assert (version.tags["hf.version"], version.tags["hf.week"], version.tags["hf.stage"]) == (
        "v1.0.0",
        SUNDAY,
        "production",
    )
    assert version.tags["hf.configuration"] == record["configuration"]

    again = project.run(ASSET, SUNDAY, tags={"hf/reason": "again"})
    assert not again.success and "must be another than that of the champion v1.0.0" in again.message

    # The command and the asset at once, on a challenger: the command is first while the asset judges.
    project.rewrite(strategies=[ridge_strategy(gates=NOTHING, backtest={"fee_bps": 7.0})])
    project.make("ranking/backtest", SUNDAY)
    project.make("ranking/validation", SUNDAY)
    judge = Candidate.judge

    def judge_while_another_decides(self: Candidate, week: str) -> tuple[Evidence, Decision]:
        found = judge(self, week)
        monkeypatch.setattr(Candidate, "judge", judge)
        promote(project.pipeline, "ranking", SUNDAY, "by the command")
        return found

    monkeypatch.setattr(Candidate, "judge", judge_while_another_decides)
    late = project.run(ASSET, SUNDAY, tags={"hf/reason": "by the asset"})
    assert not late.success and "another decision came first: see hfp history ranking" in late.message
    history = history_of(project.store.objects, "ranking")
    assert [each["reason"] for each in history.records] == ["the first", "by the command"]
    # Nothing but the sensor tells MLflow of it: a run that was refused does nothing.
    assert str(history.state.champion.version) == "v1.1.0" and len(project.store.objects.keys("_outbox/ranking")) == 1

    # A refusal is a record too, and a check that failed.
    project.rewrite(strategies=[ridge_strategy(gates={**NOTHING, "rows": 1_000_000}, backtest={"fee_bps": 9.0})])
    project.make("ranking/backtest", SUNDAY)
    project.make("ranking/validation", SUNDAY)
    made = project.make(ASSET, SUNDAY, tags={"hf/reason": "dearer"})
    history = history_of(project.store.objects, "ranking")
    assert history.records[-1]["kind"] == REFUSED and str(history.state.champion.version) == "v1.1.0"
    check = made.checks[ASSET, "gates"]
    assert not check.passed and "\nrows: " in check.description
    # What the command has left undone is done now.
    assert len(project.store.objects.keys("_outbox/ranking")) == 2
