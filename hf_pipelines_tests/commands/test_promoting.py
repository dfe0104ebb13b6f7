"""`hfp history`, `hfp rollback`, `hfp withdraw` and the lines of `hfp status`: the very decisions that are stored."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hf_pipelines.commands.contracts import schema_of
from hf_pipelines.commands.promoting import (
    SIGNALS,
    history_lines,
    history_told,
    roll_back,
    stored_history,
    withdraw,
)
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.operations.activity import Activity
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.status import Status
from hf_pipelines.research.promotion.lifecycle import OVERRIDDEN, PROMOTED, REFUSED, STAGED
from hf_pipelines.resources.incidents import Book
from hf_pipelines.resources.promotions.history import FIELDS, PromotionHistoryError, histories_of, record_decision
from hf_pipelines_tests.pipeline import Project
from hf_pipelines_tests.resources.promotions.deciding import FAILED, WEEK, draft


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
    return Status(
        inventory=Watched.of(pipeline.tree()).read(pipeline.store, now),
        late=[],
        incidents=Book().open,
        activity=Activity.read(pipeline.instance, now),
        late_after=timedelta(hours=6),
        now=now,
        histories=histories_of(pipeline.store.objects, [each.name for each in pipeline.strategies()]),
    )


def test_history_tells_what_serves_and_every_decision(pipeline):
    assert list(history_lines(stored_history(pipeline, "ranking"))) == [
        f"ranking: no champion; {SIGNALS}",
        "previous: none, there is nothing to go back to",
    ]
    decided(
        pipeline,
        draft(REFUSED, "long", gates=[FAILED]),
        draft(OVERRIDDEN, "long", reason="the desk wants it\x1b[31m"),
        draft(PROMOTED, "short"),
    )
    roll_back(pipeline, "ranking", "it loses", champion="v1.1.0")
    lines = list(history_lines(stored_history(pipeline, "ranking")))
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
    assert {*lines[11:]} == {f"configuration {one}: production", f"configuration {two}: deprecated"}


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
    assert any(
        line.startswith("No champion, nothing was ever promoted: ") and "ranking" in line for line in before.lines()
    )
    decided(pipeline, draft(PROMOTED))
    status = status_of(pipeline)
    assert "ranking: champion v1.0.0 of week 2020-01-12 since 2026-01-02." in status.lines()
    told = {each["strategy"]: each["champion"] for each in status.to_json()["strategies"]}
    assert told["ranking"] == "champion v1.0.0 of week 2020-01-12 since 2026-01-02"
    assert status.is_well and before.is_well
    Path(pipeline.store.objects.address("_promotions/ranking/00000001.json")).write_bytes(b"{}")
    damaged = status_of(pipeline)
    (line,) = [each for each in damaged.lines() if each.startswith("ranking: its history of promotions is damaged: ")]
    assert "_promotions/ranking/00000001.json` must be" in line and not damaged.is_well
    with pytest.raises(PromotionHistoryError):
        stored_history(pipeline, "ranking")


def test_every_record_follows_its_schema_and_what_is_told_for_programs_is_json(pipeline):
    decided(
        pipeline, draft(REFUSED, gates=[FAILED]), draft(OVERRIDDEN), draft(STAGED, "short"), draft(PROMOTED, "flat")
    )
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
        (4, {"week": WEEK}), (0, {"kind": "sold"}), (0, {"reason": ""}), (0, {"prev": "0"}),
    ]  # fmt: skip
    for at, changes in wrong:
        assert not schema.is_valid({**records[at], **changes}), changes
    told = json.loads(json.dumps(history_told(stored_history(pipeline, "ranking")), allow_nan=False))
    assert [each["version"] for each in told["decisions"]] == [None, "v1.0.0", None, "v1.1.0", None, None]
    assert told["champion"] is None and told["is_withdrawn"] and told["previous"] is None
    assert told["signals"] == SIGNALS and [*told["stages"].values()].count("archived") == 1
