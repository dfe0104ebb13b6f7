"""`<strategy>/drift`: what is planted is named and dated, told once and resolved; what cannot be judged is said so, never a zero."""

import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from jsonschema import Draft202012Validator

from hf_pipelines.commands.contracts import schema_of
from hf_pipelines.commands.drift import drift_lines, drift_of
from hf_pipelines.components.operations.drifting import look_for_drift
from hf_pipelines.components.strategy_stages.drift import MEASURES_NAME
from hf_pipelines.research.promotion import GATES
from hf_pipelines.resources.incidents import Book
from hf_pipelines_tests.drift_quarters import BEGINS, LEVEL, NAMES, NONE, Quarter, play
from hf_pipelines_tests.pipeline import Project, ridge_strategy

NOW = datetime(2013, 1, 1, tzinfo=UTC)
WEEK, MONDAY = "2012-04-08", "2012-04-09"


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Quarter:
    """The sixteenth to the twentieth session after a shift of 1.5 standard deviations in one of six features."""
    folder = tmp_path_factory.mktemp("shifted")
    return play(folder, seed=0, planted=LEVEL, places=slice(BEGINS + 15, BEGINS + 20))


@pytest.mark.pipeline
def test_level_shift_of_one_feature_is_named_alone_and_dated(shifted):
    day = shifted.sessions[-1]
    rows = {row["column"]: row for row in shifted.contents[day].frame.to_dicts()}
    assert {name for name, row in rows.items() if row["verdict"] == "drifted"} == {NAMES[1]}
    assert abs((shifted.planted_on - rows[NAMES[1]]["since"]).days) <= 3
    assert rows[NAMES[1]]["share"] == max(row["share"] or 0.0 for row in rows.values())
    assert {row["part"] for row in rows.values()} == {"feature", "output"}
    # One day is no alarm; three in a row are.
    raised = [shifted.facts[each]["standing"]["drift"]["is_raised"] for each in shifted.sessions]
    assert raised == [False, False, True, True, True]
    assert shifted.facts[day]["sentence"].startswith(f"Drift of {NAMES[1]} since ")


@pytest.mark.pipeline
def test_alarm_is_one_incident_and_one_event_however_long_it_lasts(shifted, monkeypatch):
    monkeypatch.delenv("HF_PORTFOLIO_URL", raising=False)
    book, store = Book(), shifted.store
    for day in shifted.sessions:
        shifted.publish(day)
        assert look_for_drift(["ranking"], store, book, NOW) == []
    (message,) = [each.message for each in book.pending]
    assert (message.event, message.kind, message.asset, message.severity) == (
        "opened",
        "drift",
        "ranking/drift",
        "WARN",
    )
    assert message.partition == f"{shifted.sessions[2]}" and message.remedy == "look at it: hfp drift ranking"
    (key,) = store.objects.keys("_outbox/ranking-drift")
    event = json.loads(store.objects.get(key))
    Draft202012Validator(schema_of("drift_event")).validate(event)
    assert (event["n"], event["kind"], event["session"]) == (1, "drift", f"{shifted.sessions[2]}")
    assert [each["column"] for each in event["columns"]] == [NAMES[1]]
    # What is over has healed; the outbox keeps what it holds.
    quiet: Any = {**shifted.contents[day].facts, "standing": {}}
    content = type(shifted.contents[day])(shifted.contents[day].frame, facts=quiet)
    shifted.write("2013-01-02", content)
    look_for_drift(["ranking"], store, book, NOW)
    assert [each.message.event for each in book.pending] == ["opened", "healed"] and book.open == []
    assert store.objects.keys("_outbox/ranking-drift") == [key]


@pytest.mark.pipeline
def test_feature_that_left_the_market_and_constant_ones_are_said_in_words(tmp_path):
    left, same, moved = NAMES[1], NAMES[2], NAMES[5]

    def change(frame: pl.DataFrame, week: str) -> pl.DataFrame:
        is_new = week >= "2012-07-01"
        frame = frame.with_columns(pl.lit(3.0, pl.Float32).alias(same), pl.lit(3.0 + is_new, pl.Float32).alias(moved))
        return frame.drop(left) if is_new else frame

    quarter = play(tmp_path, seed=0, planted=NONE, places=slice(BEGINS + 6, BEGINS + 9), change=change)
    day = quarter.sessions[-1]
    rows = {row["column"]: row for row in quarter.contents[day].frame.to_dicts()}
    assert {name: (rows[name]["verdict"], rows[name]["why"]) for name in (left, same, moved)} == {
        left: ("drifted", "no value in the window"),
        same: ("cannot be judged", "the same in every session of the reference"),
        moved: ("cannot be judged", "the same in every session of the reference, and other values now"),
    }
    assert (rows[left]["missing_reference"], rows[same]["p"], rows[moved]["p"]) == (0.0, None, None)
    facts = quarter.facts[day]
    assert facts["sentence"].startswith(f"Drift of {left} since 2012-07-0")
    assert facts["sentence"].endswith("; 2 of 7 columns cannot be judged.")
    assert {f"{name}: {rows[name]['why']}" for name in (left, same, moved)} <= {*facts["lacking"]}


@pytest.mark.pipeline
def test_short_history_says_what_cannot_be_judged_and_is_no_zero(small_project: Project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    project.rewrite(strategies=[ridge_strategy()])
    project.retrain("ranking", WEEK)
    project.make(["ranking/signals", "ranking/drift"], MONDAY)
    stored = project.store.read("ranking/drift", MONDAY)
    facts: Any = stored.footer.facts
    assert facts["sentence"] == "Drift cannot be judged." and stored.frame.is_empty()
    assert {**facts["called"]} == {"drift": None, "decay": None, "accuracy": None, "age": False}
    assert any("hold no 13 windows of 5 sessions" in each for each in facts["lacking"])
    measures = pl.read_parquet(io.BytesIO(project.store.read_attachment(stored.footer, MEASURES_NAME)))
    rows = {row["measure"]: row for row in measures.to_dicts()}
    lines = list(drift_lines(drift_of(project.pipeline, "ranking", None)))
    assert lines[0] == f"ranking, {MONDAY}: Drift cannot be judged." and "cannot be judged:" in lines
    assert any(re.match(r"accuracy +no prediction has matured", each) for each in lines)
    assert rows["accuracy"]["value"] is None and rows["accuracy"]["why"] == "no prediction has matured"
    assert rows["age_days"]["value"] == 1.0 and rows["sharpe"]["value"] is None

    # Nothing was promoted: no model to judge.
    project.rewrite(strategies=[ridge_strategy(gates={name: False if each.bound is None else None for name, each in GATES.items()})])  # fmt: skip
    project.make(["ranking/signals", "ranking/drift"], "2012-04-10")
    lines = list(drift_lines(drift_of(project.pipeline, "ranking", "2012-04-10")))
    assert lines[0] == "ranking, 2012-04-10: Cannot be judged: nothing serves: no champion."
    with pytest.raises(ValueError, match="`day` must be one that ranking/drift has"):
        drift_of(project.pipeline, "ranking", "2012-04-11")
    facts = project.store.footer("ranking/drift", "2012-04-10").facts  # type: ignore[union-attr]
    assert facts["sentence"] == "Cannot be judged: nothing serves: no champion."
