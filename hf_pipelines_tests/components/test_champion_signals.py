"""Signals by the champion: what serves is what the history says, the shadow beside it; each issue is held to its own decision."""

from datetime import UTC, datetime
from importlib import import_module
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.commands.candidates import candidate_of
from hf_pipelines.commands.explain import explain_lines
from hf_pipelines.commands.making import Maker
from hf_pipelines.commands.promoting import (
    promote,
    roll_back,
    shadow_lines,
    shadows_of,
    signals_follow,
    stored_history,
    withdraw,
)
from hf_pipelines.commands.signals import issue_lines, issue_of
from hf_pipelines.components.automation.run_intents import RunHistory
from hf_pipelines.components.automation.strategy_sensor import StrategySensor
from hf_pipelines.components.strategy_stages import CHAMPION_MODEL, retrained
from hf_pipelines.components.strategy_stages.deciding import Issue, decide_issue
from hf_pipelines.components.strategy_stages.plan import trade
from hf_pipelines.components.strategy_stages.serving import without_model
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.promotion import GATES
from hf_pipelines.research.promotion.lifecycle import OVERRIDDEN
from hf_pipelines.research.signals import Reason
from hf_pipelines.resources.footer import Footer, Stamp
from hf_pipelines.resources.issues import issue_fault, newest_issue
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.promotions.history import record_decision
from hf_pipelines.resources.trial_ledger import TrialLedger, configuration_hash
from hf_pipelines_tests.pipeline import Project, ridge_strategy
from hf_pipelines_tests.resources.promotions.deciding import draft

BEFORE, WEEK = "2012-04-01", "2012-04-08"
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (f"2012-04-{day:02d}" for day in range(9, 14))
signals = import_module("hf_pipelines.components.strategy_stages.signals")

NOW = datetime(2012, 7, 1, tzinfo=UTC)
MODEL, REFIT, SIGNALS = "ranking/fitted_model", "ranking/champion_model", "ranking/signals"
NOTHING: dict[str, Any] = {name: False if gate.bound is None else None for name, gate in GATES.items()}
# Holds two of four: no issue of the one rule is one of the other.
BROADER = {"type": "rank_long_short", "params": {"n_long": 2, "n_short": 2}}


def gated(**attributes: Any) -> dict[str, Any]:
    return ridge_strategy(**{"gates": NOTHING, "max_model_age_weeks": 1, **attributes})


@pytest.fixture(scope="module")
def trained(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A strategy with gates that ask nothing, models of two weeks, and nothing promoted."""
    project = small_project.copy(tmp_path_factory.mktemp("champion") / "project")
    project.rewrite(strategies=[gated()])
    project.retrain("ranking", BEFORE, now="2012-04-01T06:00:00+00:00")
    project.retrain("ranking", WEEK, now="2012-04-08T06:00:00+00:00")
    return project


@pytest.fixture
def project(trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("HF_ACTOR", "bob")
    return trained.copy(tmp_path / "project")


def issued(project: Project, day: str) -> tuple[pl.DataFrame, dict[str, Any], Footer]:
    """The issue of a session made just after its close: rows, what it was decided under, footer."""
    project.make(SIGNALS, day, now=f"{day}T20:05:00+00:00")
    stored = project.store.read(SIGNALS, day)
    return stored.frame, stored.footer.facts["promotion"], stored.footer  # type: ignore[return-value]


def shadow_of(project: Project, footer: Footer) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(project.store.read_attachment(footer, "shadow.parquet")))


def lines_of(project: Project, day: str) -> list[str]:
    return list(issue_lines(issue_of(project.pipeline, "ranking", day)))


def configuration(project: Project) -> str:
    return configuration_hash(settings_of(project.pipeline.strategy("ranking")))


def worse_refit(project: Project, week: str) -> None:
    """Give the stored model of a week an outer score that lies 0.5 lower."""
    stored = project.store.read(MODEL, week)
    metrics: Any = stored.footer.facts["metrics"]
    attached = {name: project.store.read_attachment(stored.footer, name) for name in stored.footer.attachments}
    facts = {**stored.footer.facts, "metrics": {**metrics, "r2": metrics["r2"] - 0.5}}
    content = Content(stored.frame, attached, stored.footer.inputs, facts=facts)
    project.store.publish(
        MODEL, week, content, Stamp("other", "r", stored.footer.created_at), verdicts=stored.footer.verdicts
    )
    assert project.store.footer(MODEL, week).facts["metrics"]["r2"] == metrics["r2"] - 0.5  # type: ignore[union-attr,index]


@pytest.mark.pipeline
def test_what_serves_follows_every_decision(project):
    own = configuration(project)
    # Nothing was promoted: no position, and beside it what the YAML would hold.
    rows, told, footer = issued(project, MONDAY)
    assert rows["weight"].to_list() == [0.0] * 4 and {*rows["reason"]} == {Reason.NO_CHAMPION}
    assert rows["issue_kind"][0] == "live" and rows["model_version"].null_count() == 4
    assert (told["record"], told["shadow"], told["shadow_model_week"]) == (0, own, WEEK)
    beside = shadow_of(project, footer)
    assert beside["weight"].abs().sum() == 1.0 and "created_at" not in beside.columns
    assert lines_of(project, MONDAY)[:3] == [
        f"ranking, {MONDAY}, live",
        "decided by nothing: no champion",
        f"shadow: configuration {own[:12]}, the model of week {WEEK}",
    ]

    promote(project.pipeline, "ranking", WEEK, "why")
    rows, told, footer = issued(project, TUESDAY)
    history = stored_history(project.pipeline, "ranking")
    assert (told["record"], told["champion"], told["configuration"]) == (1, "v1.0.0", own)
    assert told["sha256"] == history.last and told["model_week"] == WEEK and told["shadow"] == ""
    assert rows["weight"].abs().sum() == 1.0 and footer.attachments == {}
    assert (
        lines_of(project, TUESDAY)[1]
        == f"decided by champion v1.0.0, the model of week {WEEK}, decision 1 of its history"
    )

    # A challenger in the YAML: the champion decides by what its record says, the challenger is the shadow.
    project.rewrite(strategies=[gated(signal=BROADER)])
    rows, told, footer = issued(project, WEDNESDAY)
    assert (rows["weight"] != 0.0).sum() == 2 and told["champion"] == "v1.0.0"
    assert (shadow_of(project, footer)["weight"] != 0.0).sum() == 4 and told["shadow"] == configuration(project) != own
    assert signals_follow(project.pipeline, history) == (
        "signals follow the champion; the YAML's configuration is issued beside it as shadow"
    )
    # Scored by the following week: both accounts by hand on the session that has this shadow.
    project.make("ranking/track_record", "2012-04-15")
    record = project.store.read("ranking/track_record", "2012-04-15")
    scored = record.footer.facts["shadows"]["live"]
    assert (scored["configuration"], scored["issues"]) == (told["shadow"], 1)
    weights = {"_shadow": shadow_of(project, footer), "_beside_shadow": rows}
    bars = project.store.read("small/bars", WEEK).frame
    plan = project.pipeline.strategy("ranking")
    for name, each in weights.items():
        account = record.frame.filter(record=f"live{name}")
        by_hand = trade(plan, each.select("symbol", "session", "ts", "weight"), bars).equity
        assert account["equity"].to_list() == by_hand["equity"].to_list()
    assert {*record.frame["record"]} == {"live", "live_shadow", "live_beside_shadow"}
    _, line = shadow_lines(shadows_of(project.pipeline, "ranking"))
    assert line.startswith(
        f"shadow of live issues before week 2012-04-15: configuration {told['shadow'][:12]}, 1 issue: "
    )
    project.make("ranking/backtest", WEEK)
    promote(project.pipeline, "ranking", WEEK, "broader")
    began = perf_counter()
    rolled = roll_back(project.pipeline, "ranking", "it costs too much")
    rows, told, _ = issued(project, THURSDAY)
    print(f"rollback to the next issue: {perf_counter() - began:.1f} s")
    assert (told["record"], told["champion"], (rows["weight"] != 0.0).sum()) == (3, "v1.0.0", 2)
    assert rolled.state.number == 3

    withdraw(project.pipeline, "ranking", "the vendor changed its bars")
    rows, told, _ = issued(project, FRIDAY)
    assert {*rows["reason"]} == {Reason.WITHDRAWN} and rows["weight"].abs().sum() == 0.0
    assert told["record"] == 4 and told["champion"] == ""
    # What was issued before is held to its own decision, not to that of today: the same bits.
    for day in (MONDAY, TUESDAY):
        project.rewrite(strategies=[gated()])
        again = project.make(SIGNALS, day)
        assert again.materialised[SIGNALS][day]["outcome"] == "unchanged"
    # An older day that had no issue is issued by what serves now.
    rows, told, _ = issued(project, "2012-04-05")
    assert told["record"] == 4 and {*rows["reason"]} == {Reason.WITHDRAWN}
    # An issue without a model is one all the same, and the newest.
    assert issue_fault(project.store, SIGNALS, FRIDAY, NOW) == ""
    assert newest_issue(project.store, SIGNALS, [THURSDAY, FRIDAY], NOW) == FRIDAY


@pytest.mark.pipeline
def test_a_refit_that_is_worse_is_held_back_for_the_one_before_it(project):
    promote(project.pipeline, "ranking", BEFORE, "why")
    worse_refit(project, WEEK)
    rows, told, _ = issued(project, MONDAY)
    older = project.store.footer(MODEL, BEFORE)
    assert (told["model_week"], rows["model_version"][0]) == (BEFORE, older.content_hash)
    assert lines_of(project, MONDAY)[2].startswith(f"the refit of week {WEEK} is held back: its outer score is ")
    # A wider margin takes it.
    project.rewrite(strategies=[gated(gates={**NOTHING, "refit_margin": 0.6})])
    assert issued(project, TUESDAY)[1]["model_week"] == WEEK
    # The controls of these few rows cannot be judged: where they are asked for no refit is sound, but the one that was promoted.
    project.rewrite(strategies=[gated(gates={**NOTHING, "refit_margin": 0.6, "controls": True})])
    rows, told, _ = issued(project, WEDNESDAY)
    assert told["model_week"] == BEFORE and "controls" in told["held_back"][WEEK]
    project.rewrite(strategies=[gated(gates={**NOTHING, "controls": True}, max_model_age_weeks=0)])
    rows, told, _ = issued(project, THURSDAY)
    assert {*rows["reason"]} == {Reason.NO_SOUND_MODEL} and (told["champion"], told["model_week"]) == ("v1.0.0", "")
    why = without_model(project.pipeline.strategy("ranking"), project.store, told, THURSDAY)
    assert f"had none: that of week {WEEK} is held back: its controls" in why and "hfp rollback ranking" in why
    assert [line for line in lines_of(project, THURSDAY) if "held back" in line] == [why]
    # Without gates no decision says anything.
    project.rewrite(strategies=[ridge_strategy()])
    rows, told, footer = issued(project, FRIDAY)
    assert told == {"is_gated": False, "model_week": WEEK} and rows["weight"].abs().sum() == 1.0
    assert lines_of(project, FRIDAY)[1] == f"decided by the model of week {WEEK}, ungated"


@pytest.mark.pipeline
def test_a_champion_whose_models_are_stored_no_more_holds_nothing_and_a_check_names_the_command(project, capsys):
    promote(project.pipeline, "ranking", WEEK, "why")
    # Its refit is the YAML's: success alone would say that there is one beside it.
    project.pipeline.materialise([REFIT], WEEK, WEEK)
    assert f"{REFIT}: nothing was stored, there was nothing to make" in capsys.readouterr().err
    assert project.store.partitions(REFIT) == []
    assert project.make(SIGNALS, MONDAY).checks[SIGNALS, "champion_decides"].passed
    for week in project.store.partitions(MODEL):
        Path(project.store.objects.address(f"{MODEL}/{week}.parquet")).unlink()
    made = project.make(SIGNALS, TUESDAY)
    found = made.checks[SIGNALS, "champion_decides"]
    told = f"was stored in none; make it for the next issue: hfp retrain ranking --week {WEEK} --with-inputs"
    assert not found.passed and told in found.description
    assert made.materialised[SIGNALS][TUESDAY]["gross_exposure"] == 0.0
    # The model that the fit leaves is the one that was promoted.
    project.make(MODEL, WEEK)
    assert project.make(SIGNALS, WEDNESDAY).checks[SIGNALS, "champion_decides"].passed


@pytest.mark.pipeline
def test_a_damaged_history_and_a_champion_that_cannot_be_made_issue_nothing(project, monkeypatch):
    promote(project.pipeline, "ranking", WEEK, "why")
    # One feature alone is stored from now on: the champion's configuration is none of this market.
    project.rewrite({**project.market, "features": ["quick/quick_roc_2"]}, [gated(signal=BROADER)])
    run = project.run(SIGNALS, MONDAY)
    assert not run.success and "`champion` of ranking must be configuration" in run.message
    assert "hfp withdraw ranking --reason WHY" in run.message and project.store.partitions(SIGNALS) == []

    path = Path(project.store.objects.address("_promotions/ranking/00000001.json"))
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b'"why"', b'"who"'))
    project.rewrite({**project.market, "features": ["quick"]}, [gated()])
    run = project.run(SIGNALS, MONDAY)
    assert not run.success and "_promotions/ranking/00000001.json" in run.message
    assert project.store.partitions(SIGNALS) == []
    path.write_bytes(sound)

    def decide_and_withdraw(*given: Any) -> Issue:
        found = decide_issue(*given)
        if len(stored_history(project.pipeline, "ranking").records) == 1:
            withdraw(project.pipeline, "ranking", "while it is made")
        return found

    # A decision while an issue is made: the issue is whole, and held to the one that it began with; its replay too.
    monkeypatch.setattr(signals, "decide_issue", decide_and_withdraw)
    rows, told, footer = issued(project, MONDAY)
    assert told["record"] == 1 and rows["weight"].abs().sum() == 1.0 and footer.verdicts["replay"].passed
    assert footer.verdicts["replay"].n_compared > 0 and issued(project, TUESDAY)[1]["reason"] == Reason.WITHDRAWN
    monkeypatch.undo()
    # An issue whose decision the history has lost is not made again by another one.
    for each in project.store.objects.keys("_promotions/ranking"):
        Path(project.store.objects.address(each)).unlink()
    run = project.run(SIGNALS, MONDAY)
    assert not run.success and "must hold 1 decisions, held 0" in run.message


@pytest.mark.pipeline
def test_the_champion_is_refitted_beside_a_challenger_as_its_own_yaml_would(project, tmp_path):
    promote(project.pipeline, "ranking", WEEK, "why")
    next_week, next_monday = "2012-04-15", "2012-04-16"
    assert "ranking/champion_model" in project.code_versions
    # The YAML's own refit is the champion's: nothing is made.
    project.make(REFIT, WEEK, next_week)
    assert project.store.partitions(REFIT) == []
    assert REFIT in [f"ranking/{each}" for each in retrained(project.pipeline.strategy("ranking"))]
    beside = project.copy(tmp_path / "own")
    beside.make([f"ranking/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], next_week)
    expected = beside.store.footer(MODEL, next_week)

    # Of these few rows a week more is much.
    stiffer = gated(gates={**NOTHING, "refit_margin": 1.0}, learner={"type": "ridge", "params": {"alpha": 500.0}})
    project.rewrite(strategies=[stiffer])
    before = project.hashes("ranking/cv_results"), project.hashes(MODEL)
    project.make(REFIT, next_week, now=f"{next_week}T08:00:00+00:00")
    refit = project.store.footer(REFIT, next_week)
    assert refit.attachments == expected.attachments and refit.facts["metrics"] == expected.facts["metrics"]
    # Nothing that is current was touched.
    assert (project.hashes("ranking/cv_results"), project.hashes(MODEL)) == before
    rows, told, footer = issued(project, next_monday)
    assert rows["model_version"][0] == refit.content_hash and (told["champion"], told["model_week"]) == (
        "v1.0.0",
        next_week,
    )
    assert footer.inputs[REFIT] == {next_week: refit.content_hash}
    # Of the challenger no model is stored yet.
    assert "shadow_model_week" not in told and told["shadow_why"] == Reason.NO_SOUND_MODEL
    assert any(
        line.startswith("shadow: configuration ") and line.endswith(": none, no sound model")
        for line in lines_of(project, next_monday)
    )
    assert project.make(SIGNALS, next_monday).materialised[SIGNALS][next_monday]["outcome"] == "unchanged"
    # Where trusted controls are asked for it is held back: these rows are too few to judge it.
    project.rewrite(strategies=[{**stiffer, "gates": {**NOTHING, "refit_margin": 1.0, "controls": True}}])
    rows, told, _ = issued(project, "2012-04-17")
    assert (told["model_week"], told["held_back"]) == (WEEK, {next_week: f"its controls: {refit.facts['controls']}"})
    assert refit.facts["controls"] in ("cannot be judged", "not trusted")


@pytest.mark.pipeline
def test_a_tuned_champion_is_refitted_by_a_study_of_its_own(project, tmp_path):
    alpha = {"type": "float", "low": 0.01, "high": 1000.0, "log": True}
    tuned = gated(tuning={"trials": 3, "batch": 3, "sampler": "random", "space": {"learner": {"alpha": alpha}}})
    project.rewrite(strategies=[tuned])
    found = candidate_of(project.pipeline, "ranking")
    told = {"settings": settings_of(found.plan), "yaml": found.yaml, "override": "Ann"}
    record_decision(project.store.objects, "ranking", draft(OVERRIDDEN, **told))
    beside = project.copy(tmp_path / "own")
    beside.make([f"ranking/{each}" for each in ("training_matrix", "tuning", "cv_results", "fitted_model")], WEEK)
    expected = beside.store.footer(MODEL, WEEK)

    # The YAML has no study, and none of the week is stored.
    project.rewrite(strategies=[gated()])
    project.make(REFIT, WEEK)
    refit = project.store.footer(REFIT, WEEK)
    assert refit.attachments == expected.attachments and refit.facts["metrics"] == expected.facts["metrics"]
    assert project.store.partitions("ranking/tuning") == []
    trials = TrialLedger(project.store.objects, "bob").known()
    assert trials.filter(source="tuning").height == 3


@pytest.mark.pipeline
def test_signals_wait_for_the_controls_without_which_a_refit_may_not_serve(project):
    project.rewrite(strategies=[gated(gates={**NOTHING, "controls": True})])
    objects = project.store.objects
    # The week under way is the one that has a model, and its controls are still to come.
    for asset in ("small/bars", "small/features/quick"):
        for week in (each for each in project.store.partitions(asset) if each >= WEEK):
            objects.delete(f"{asset}/{week}.parquet")
    objects.delete(f"ranking/validation/{WEEK}.parquet")

    def notes() -> tuple[str, ...]:
        history = RunHistory(project.instance, NOW)
        return StrategySensor(project.pipeline.strategy("ranking"), project.store, history, NOW).tick(None).notes

    assert f"{MODEL} {WEEK} is current" in notes()
    job = project.definitions.resolve_job_def("ranking_retrain")
    judging = project.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert f"signals wait for the controls of week {WEEK}: run {judging.run_id[:8]}" in notes()
    project.instance.report_run_canceled(judging)
    assert f"{MODEL} {WEEK} is current" in notes()


@pytest.mark.pipeline
def test_what_the_champion_alone_reads_is_made_and_waited_for(project):
    """The champion reads two groups of features, the challenger in the YAML one of them."""
    more = "small/features/temporal"
    project.rewrite(
        {**project.market, "features": ["quick", "temporal/day_of_week"]}, [gated(features=["quick", "temporal"])]
    )
    found = candidate_of(project.pipeline, "ranking")
    told = {"settings": settings_of(found.plan), "yaml": found.yaml, "override": "Ann"}
    record_decision(project.store.objects, "ranking", draft(OVERRIDDEN, **told))

    def read(stage: str) -> dict[str, tuple[str, str]]:
        plan = project.pipeline.strategy("ranking")
        wanted = {
            plan.asset(stage): (plan, WEEK if stage != "signals" else MONDAY, WEEK if stage != "signals" else MONDAY)
        }
        found = Maker(project.pipeline).spans(plan.market, wanted)
        return {each.asset: (each.first, each.last) for each in found}

    by_champion = read("signals"), {**read("training_matrix"), **read("cv_results")}
    project.rewrite(strategies=[gated()])
    assert read("signals") == by_champion[0] and by_champion[0][more] == (WEEK, WEEK)
    assert read(CHAMPION_MODEL) == by_champion[1] and by_champion[1][more][1] == BEFORE
    assert more not in read("training_matrix")

    def requested() -> list[str]:
        history = RunHistory(project.instance, NOW)
        tick = StrategySensor(project.pipeline.strategy("ranking"), project.store, history, NOW).tick(None)
        return [
            tag for each in tick.requests for tag in (each.partition_key or "",) if each.job_name == "ranking_issue"
        ]

    requests = requested()
    assert requests == []
    project.make(more, WEEK)
    assert requested() != []
    # Who takes it away from the market is told by the run, which is asked for.
    project.rewrite({**project.market, "features": ["quick"]})
    assert requested() != [] and more not in read("signals")


@pytest.mark.pipeline
def test_signals_wait_for_the_champions_refit_that_is_being_made(project):
    promote(project.pipeline, "ranking", WEEK, "why")
    stiffer = gated(learner={"type": "ridge", "params": {"alpha": 500.0}})
    objects = project.store.objects
    for asset in ("small/bars", "small/features/quick"):
        for week in (each for each in project.store.partitions(asset) if each >= WEEK):
            objects.delete(f"{asset}/{week}.parquet")

    def notes() -> tuple[str, ...]:
        history = RunHistory(project.instance, NOW)
        return StrategySensor(project.pipeline.strategy("ranking"), project.store, history, NOW).tick(None).notes

    job = project.definitions.resolve_job_def("ranking_retrain")
    making = project.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    objects.delete(f"{MODEL}/{BEFORE}.parquet")
    # The YAML's own refit is the champion's.
    assert f"{MODEL} {WEEK} is current" in notes()
    project.rewrite(strategies=[stiffer])
    waiting = f"signals wait for the champion's refit of week {WEEK}: run {making.run_id[:8]}"
    assert waiting in notes()
    project.instance.report_run_canceled(making)
    assert f"{MODEL} {WEEK} is current" in notes()


@pytest.mark.pipeline
def test_an_issue_is_explained_by_the_rows_that_its_model_was_fitted_on(project):
    def added(day: str) -> tuple[str, float]:
        first, *lines = explain_lines(project.pipeline, "ranking", "S001", day)
        (told,) = (line for line in lines if line.startswith("  prediction "))
        return first, float(told.split()[-1])

    promote(project.pipeline, "ranking", WEEK, "why")
    project.make(SIGNALS, MONDAY)
    before = list(explain_lines(project.pipeline, "ranking", "S001", MONDAY))
    # A challenger of one feature, by which the same week is trained again: the champion's rows are an earlier content.
    fewer = gated(
        features=["quick/quick_roc_2"],
        learner={"type": "ridge", "params": {"alpha": 500.0}},
        gates={**NOTHING, "refit_margin": 1.0},
    )
    project.rewrite(strategies=[fewer])
    project.retrain("ranking", WEEK)
    assert list(explain_lines(project.pipeline, "ranking", "S001", MONDAY)) == before
    # By a refit beside the challenger, whose rows are made again.
    project.make("small/features/quick", "2012-04-15")
    project.make(REFIT, "2012-04-15")
    # Before the champion's refit may serve the promoted model does, an earlier content of the week that the shadow has too.
    project.make(SIGNALS, TUESDAY)
    both = project.store.read(SIGNALS, TUESDAY)
    assert both.footer.inputs[MODEL] == {WEEK: both.frame["model_version"][0]}
    assert both.footer.inputs[MODEL] != {WEEK: shadow_of(project, both.footer)["model_version"][0]}
    assert f"by the model of week {WEEK}" in added(TUESDAY)[0]
    ledger = TrialLedger(project.store.objects, "bob")
    n_trials = len(ledger.known())
    assert n_trials > 0
    project.make(SIGNALS, "2012-04-16")
    first, total = added("2012-04-16")
    issued = project.store.read(SIGNALS, "2012-04-16")
    prediction = issued.frame.filter(symbol="S001")["prediction"][0]
    assert issued.footer.facts["promotion"]["model_week"] == "2012-04-15"
    assert total == pytest.approx(prediction, abs=1e-6) and "by the model of week 2012-04-15" in first
    assert len(ledger.known()) == n_trials
