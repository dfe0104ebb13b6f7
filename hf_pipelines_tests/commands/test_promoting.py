"""`hfp history`, `hfp rollback`, `hfp withdraw` and the lines of `hfp status`: the very decisions that are stored."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hf_pipelines.commands.contracts import schema_of
from hf_pipelines.commands.promoting import (
    history_lines,
    history_told,
    payload_lines,
    promote,
    promotion_lines,
    roll_back,
    signals_follow,
    stored_history,
    withdraw,
)
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.operations.activity import Activity
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.status import Status
from hf_pipelines.components.strategy_stages.promoting import Candidate
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.promotion import GATES, Decision, Evidence
from hf_pipelines.research.promotion.lifecycle import (
    OVERRIDDEN,
    PROMOTED,
    REFUSED,
    ROLLOUT_STARTED,
    ROLLOUT_STOPPED,
    STAGED,
    WITHDRAWN,
)
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.incidents import Book
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.promotions.history import FIELDS, PromotionHistoryError, histories_of, record_decision
from hf_pipelines.resources.promotions.outbox import deliveries_of, fill_outbox, note_event, send_outbox
from hf_pipelines.resources.retention import Policy
from hf_pipelines.resources.trial_ledger import configuration_hash
from hf_pipelines_tests.pipeline import Project, ridge_strategy
from hf_pipelines_tests.resources.promotions.deciding import FAILED, WEEK, draft
from hf_pipelines_tests.resources.retaining import pruned

SUNDAY = "2012-04-01"
SIGNALS = "ungated: signals follow the week's model, whatever is the champion"


@pytest.fixture
def pipeline(small_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setenv("HF_ACTOR", "bob")
    project = small_project.copy(tmp_path / "project")
    return Pipeline(project.definitions, project.instance, project.store)


def decided(pipeline: Pipeline, *drafts: Any, strategy: str = "ranking") -> None:
    for each in drafts:
        record_decision(pipeline.store.objects, strategy, each)


def status_of(pipeline: Pipeline) -> Status:
    now = datetime(2012, 5, 7, tzinfo=UTC)
    histories = histories_of(pipeline.store.objects)
    return Status(
        inventory=Watched.of(pipeline.tree()).read(pipeline.store, now),
        late=[],
        incidents=Book().open,
        activity=Activity.read(pipeline.instance, now),
        late_after=timedelta(hours=6),
        now=now,
        ungated=["ranking"],
        histories=histories,
        deliveries=deliveries_of(pipeline.store.objects, histories),
    )


def test_history_tells_what_serves_and_every_decision(pipeline):
    assert list(history_lines(stored_history(pipeline, "ranking"), SIGNALS)) == [
        f"ranking: no champion; {SIGNALS}",
        "previous: none, there is nothing to go back to",
    ]
    assert signals_follow(pipeline, stored_history(pipeline, "ranking")) == SIGNALS
    decided(
        pipeline,
        draft(REFUSED, "long", gates=[FAILED]),
        draft(OVERRIDDEN, "long", reason="the desk wants it\x1b[31m"),
        draft(PROMOTED, "short"),
    )
    roll_back(pipeline, "ranking", "it loses", champion="v1.1.0")
    lines = list(history_lines(stored_history(pipeline, "ranking"), SIGNALS))
    one, two = (each["configuration"][:12] for each in stored_history(pipeline, "ranking").records[1:3])
    assert lines[0] == f"ranking: champion v1.0.0 of week {WEEK} since {lines[9][6:16]}, by override; {SIGNALS}"
    assert lines[1:7] == [
        "previous: none, there is nothing to go back to",
        "",
        f"   1  2026-01-02 03:04  refused, week {WEEK}, configuration {one}, by ann: why",
        "      gates that stood in the way: rows",
        # What a reason holds obeys no terminal.
        f"   2  2026-01-02 03:04  overridden v1.0.0, week {WEEK}, configuration {one}, by ann in the name of Ann: the desk wants it\\x1b[31m",
        "      gates that stood in the way: rows",
    ]
    assert lines[7] == f"   3  2026-01-02 03:04  promoted v1.1.0, week {WEEK}, configuration {two}, by ann: why"
    assert lines[8] == "      changed since v1.0.0: rule"
    assert lines[9].startswith("   4  ") and lines[9].endswith("  rolled back, by bob: it loses")
    assert {*lines[11:13]} == {f"configuration {one}: production", f"configuration {two}: deprecated"}
    decided(pipeline, draft(WITHDRAWN, at="2026-01-01T00:00:00+00:00"))
    told = list(history_lines(stored_history(pipeline, "ranking"), SIGNALS))[2]
    assert told.startswith("dated before a decision that came first: 5; a clock was wrong")
    assert [line.split() for line in lines[15:]] == [
        ["v1.0.0", "2026-01-02", "03:04", "2026-01-02", "03:04", WEEK, one, "overridden", "promoted"],
        ["v1.1.0", "2026-01-02", "03:04", *lines[9][6:22].split(), WEEK, two, "promoted", "rolled", "back"],
        ["v1.0.0", *lines[9][6:22].split(), WEEK, one, "rolled", "back"],
    ]


def test_a_rollback_that_names_its_champion_is_not_done_twice(pipeline):
    decided(pipeline, draft(PROMOTED, "long"), draft(PROMOTED, "short"), draft(PROMOTED, "flat"))
    assert str(roll_back(pipeline, "ranking", "why", champion="v1.2.0").state.champion.version) == "v1.1.0"
    with pytest.raises(
        ValueError, match=r"`champion` of ranking must be v1\.2\.0, was v1\.1\.0; see hfp history ranking"
    ):
        roll_back(pipeline, "ranking", "why", champion="v1.2.0")
    with pytest.raises(ValueError, match="`reason` must say"):
        withdraw(pipeline, "ranking", " ")
    state = withdraw(pipeline, "ranking", "why").state
    assert (state.champion, str(state.previous.version)) == (None, "v1.0.0")
    with pytest.raises(ValueError, match=r"`champion` of ranking must be v1\.1\.0, was none"):
        withdraw(pipeline, "ranking", "why", champion="v1.1.0")


def test_a_strategy_that_is_gone_keeps_its_history_and_an_unknown_one_names_those_there_are(pipeline):
    decided(pipeline, draft(PROMOTED), strategy="gone")
    assert str(stored_history(pipeline, "gone").state.champion.version) == "v1.0.0"
    for name in ("never", "../ranking", "gone/.."):
        with pytest.raises(ValueError, match="`strategy` must be one of .*ranking"):
            stored_history(pipeline, name)


def test_status_has_a_line_for_each_strategy_with_a_history_and_is_unwell_of_a_damaged_one(pipeline):
    before = status_of(pipeline)
    (line,) = [each for each in before.lines() if each.startswith("No champion, nothing was ever promoted: ")]
    assert "ranking (ungated)" in line and line.count("ungated") == 1
    decided(pipeline, draft(PROMOTED))
    status = status_of(pipeline)
    assert "ranking: champion v1.0.0 of week 2020-01-12 since 2026-01-02, ungated." in status.lines()
    told = {each["strategy"]: each["champion"] for each in status.to_json()["strategies"]}
    assert told["ranking"] == "champion v1.0.0 of week 2020-01-12 since 2026-01-02, ungated"
    assert status.is_well and before.is_well
    Path(pipeline.store.objects.address("_promotions/ranking/00000001.json")).write_bytes(b"{}")
    damaged = status_of(pipeline)
    (line,) = [each for each in damaged.lines() if each.startswith("ranking: its history of promotions is damaged: ")]
    assert "_promotions/ranking/00000001.json` must be" in line and not damaged.is_well
    with pytest.raises(PromotionHistoryError):
        stored_history(pipeline, "ranking")


def test_status_names_a_champion_whose_strategy_is_gone(pipeline):
    decided(pipeline, draft(PROMOTED), strategy="gone")
    gone = "gone: champion v1.0.0 of week 2020-01-12 since 2026-01-02, but it is gone from the project and has no signals; hfp withdraw gone --reason WHY."
    assert gone in status_of(pipeline).lines()
    withdraw(pipeline, "gone", "it is gone")
    assert not any(each.startswith("gone: ") for each in status_of(pipeline).lines())


def test_status_names_payloads_that_wait_and_an_outbox_that_knows_more_than_its_history(pipeline, monkeypatch):
    decided(pipeline, draft(PROMOTED), draft(PROMOTED, "short"))
    history = stored_history(pipeline, "ranking")
    objects = pipeline.store.objects
    now = datetime(2026, 1, 2, tzinfo=UTC)
    # Without a webhook nobody waits: who wants them reads the outbox.
    send_outbox(objects, history, fill_outbox(objects, history), now)
    status = status_of(pipeline)
    assert status.is_well and not any("PAYLOADS" in each for each in status.lines())
    assert list(payload_lines(pipeline, history)) == [
        "",
        "2 payload(s) in _outbox; HF_PORTFOLIO_URL is not set: none is sent",
    ]
    (told,) = (each["payloads"] for each in status.to_json()["strategies"] if each["strategy"] == "ranking")
    assert told == "2 payload(s) in _outbox; HF_PORTFOLIO_URL is not set: none is sent"
    # One that takes nothing: an event of drift waits with them.
    monkeypatch.setenv("HF_PORTFOLIO_URL", "http://127.0.0.1:9/")
    note_event(objects, "ranking", {"id": "a"})
    status = status_of(pipeline)
    assert (
        "PAYLOADS WAIT: ranking, 3 payload(s) in _outbox, 3 not taken yet; again each minute, and now by: hfp history ranking --sync"
        in status.lines()
    )
    assert not status.is_well
    # A history that was cut off at its end is seen by what was told of it.
    monkeypatch.delenv("HF_PORTFOLIO_URL")
    Path(objects.address("_promotions/ranking/00000002.json")).unlink()
    status = status_of(pipeline)
    (line,) = [each for each in status.lines() if "_outbox/ranking/00000002.json` must be the payload" in each]
    assert "restore the history" in line and not status.is_well


def test_every_record_follows_its_schema_and_what_is_told_for_programs_is_json(pipeline):
    decided(
        pipeline, draft(REFUSED, gates=[FAILED]), draft(OVERRIDDEN), draft(STAGED, "short"), draft(PROMOTED, "flat")
    )
    decided(pipeline, draft(STAGED, "short"), draft(ROLLOUT_STARTED, "short"), draft(ROLLOUT_STOPPED, "short"))
    roll_back(pipeline, "ranking", "why")
    withdraw(pipeline, "ranking", "why")
    schema = Draft202012Validator(schema_of("promotion"))
    objects = pipeline.store.objects
    records = [json.loads(objects.get(key)) for key in objects.keys("_promotions/ranking")]
    for each in records:
        schema.validate(each)
        assert set(each) == set(schema.schema["properties"]) == {"sha256", *FIELDS}
    wrong = [
        (3, {"gates": [FAILED]}), (3, {"gates": []}), (1, {"override": ""}), (3, {"override": "Ann"}), (3, {"week": ""}),
        (5, {"rollout": {}}), (7, {"week": WEEK}), (0, {"kind": "sold"}), (0, {"reason": ""}), (0, {"prev": "0"}),
    ]  # fmt: skip
    for at, changes in wrong:
        assert not schema.is_valid({**records[at], **changes}), changes
    told = json.loads(json.dumps(history_told(stored_history(pipeline, "ranking"), SIGNALS), allow_nan=False))
    assert [each["version"] for each in told["decisions"]] == [None, "v1.0.0", None, "v1.1.0", *[None] * 5]
    assert told["champion"] is None and told["is_withdrawn"] and told["previous"] is None
    assert told["signals"] == SIGNALS and [*told["stages"].values()].count("archived") == 1


@pytest.mark.pipeline
def test_promote_holds_the_stored_week_to_its_gates_and_records_what_came_of_it(small_project, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ACTOR", "bob")
    project = small_project.copy(tmp_path / "project")
    nothing = {name: False if gate.bound is None else None for name, gate in GATES.items()}
    project.rewrite(strategies=[ridge_strategy(gates=nothing)])
    project.retrain("ranking", SUNDAY)
    # No gate asks anything: the first one serves.
    found = promote(project.pipeline, "ranking", None, "the first")
    (record,) = found.history.records
    plan = project.pipeline.strategy("ranking")
    assert (record["kind"], record["week"], record["actor"]) == (PROMOTED, SUNDAY, "bob")
    assert record["configuration"] == configuration_hash(settings_of(plan)) and record["yaml"]["gates"] is not None
    assert {each["verdict"] for each in record["gates"]} == {"not asked"} and len(record["gates"]) == len(GATES)
    stored = {f"ranking/{each}" for each in ("training_matrix", "cv_results", "backtest", "fitted_model", "validation")}
    assert {*record["evidence"]} == stored
    for asset, parts in record["evidence"].items():
        assert parts == {SUNDAY: project.store.footer(asset, SUNDAY).content_hash}
    with pytest.raises(ValueError, match=r"must be another than that of the champion v1\.0\.0"):
        promote(project.pipeline, "ranking", SUNDAY, "again")
    # The configuration is no other for its gates: its refit would be v1.0.1.
    project.rewrite(strategies=[ridge_strategy(gates={**nothing, "rows": 1_000_000})])
    with pytest.raises(ValueError, match=r"must be another than that of the champion"):
        promote(project.pipeline, "ranking", SUNDAY, "again")

    # A challenger: dearer, and its stored account is that of the old fees.
    dearer = ridge_strategy(gates={**nothing, "rows": 1_000_000, "beats_champion": 0.95}, backtest={"fee_bps": 9.0})
    project.rewrite(strategies=[dearer])
    with pytest.raises(
        ValueError, match="`week` must be one whose ranking/backtest today's code, data and settings have made"
    ):
        promote(project.pipeline, "ranking", SUNDAY, "dearer", override="Ann")
    project.make("ranking/backtest", SUNDAY)
    with pytest.raises(ValueError, match="`override` must be left out beside `stage`"):
        promote(project.pipeline, "ranking", SUNDAY, "dearer", override="Ann", stage=True)
    refused = promote(project.pipeline, "ranking", SUNDAY, "dearer")
    assert refused.is_refused and [each.gate for each in refused.decision.failed] == ["rows", "beats_champion"]
    lines = list(promotion_lines(refused, SIGNALS))
    assert ("recorded as decision 2: refused", False) in lines and lines[-2][0].startswith(
        "ranking: champion v1.0.0 of week"
    )
    forced = promote(project.pipeline, "ranking", SUNDAY, "the desk wants it", override="Ann")
    assert all(is_sound for _, is_sound in promotion_lines(forced, SIGNALS)) and not forced.is_refused
    state = forced.history.state
    assert (str(state.champion.version), state.champion.changed, state.champion.is_override) == (
        "v1.1.0",
        ("account",),
        True,
    )
    assert str(state.previous.version) == "v1.0.0" and state.headline.endswith(", by override")
    # The account of the first champion is a version now, and stays while a rollback may bring it back.
    old = found.history.records[0]["evidence"]["ranking/backtest"][SUNDAY]
    assert old in project.store.versions("ranking/backtest", SUNDAY)
    for key in project.store.objects.keys("_versions"):
        os.utime(project.store.objects.address(key), (0, 0))
    pruned(project.store, Policy(days=1, versions=0), datetime(2030, 1, 1, tzinfo=UTC))
    assert old in project.store.versions("ranking/backtest", SUNDAY)
    schema = Draft202012Validator(schema_of("promotion"))
    for key in project.store.objects.keys("_promotions/ranking"):
        schema.validate(json.loads(project.store.objects.get(key)))

    # A validation that is made anew while the gates judge was not what they have judged.
    judge = Candidate.judge

    def judge_while_made_anew(self: Candidate, week: str) -> tuple[Evidence, Decision]:
        found = judge(self, week)
        stored = project.store.read("ranking/validation", SUNDAY)
        project.store.publish(
            "ranking/validation", SUNDAY, Content(stored.frame.head(1)), Stamp("c", "r", "2026-01-01")
        )
        return found

    monkeypatch.setattr(Candidate, "judge", judge_while_made_anew)
    n_before = len(stored_history(project.pipeline, "ranking").records)
    withdraw(project.pipeline, "ranking", "for another week")
    project.rewrite(strategies=[ridge_strategy(gates=nothing, backtest={"fee_bps": 9.0})])
    with pytest.raises(ValueError, match="ranking/validation of 2012-04-01 changed; promote again"):
        promote(project.pipeline, "ranking", SUNDAY, "why")
    assert len(stored_history(project.pipeline, "ranking").records) == n_before + 1
