"""Looks at a hold-out: counted before they are shown, by everybody, for ever; and no other way to see it.

The small market has 18 weeks from 2012-01-01 on. `early` holds out the week of Tuesday 20 March and all later ones, and allows two looks.
"""

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from hf_pipelines.commands.holdout import holdout_lines, look, look_line, looks_told
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.track_record import _not_held_back
from hf_pipelines.resources import settings
from hf_pipelines.resources.feature_reader import load_features
from hf_pipelines.resources.holdout import Holdout
from hf_pipelines.resources.holdout_looks import (
    STRATEGIES,
    LooksSpentError,
    count_looks,
    looks_of,
    state_holdout,
    stated_holdouts,
    take_look,
)
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.report_files import PAGE
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy

BEGIN = "2012-03-18"
STRADDLING = "2012-04-01"
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
HOLDOUT = Holdout("early", BEGIN, datetime(2012, 3, 18, 4, tzinfo=UTC), "small", 2)
SPAN = (date(2012, 3, 19), date(2012, 3, 23))


def taken(objects: ObjectStore, *, holdout: Holdout = HOLDOUT, reason: str = "why", **more: Any) -> int:
    return take_look(objects, holdout, actor="ann", reason=reason, what="account", of=SPAN, at=NOW, **more).number


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    return ObjectStore(str(tmp_path / "store"))


def test_looks_are_numbered_kept_and_refused_beyond_the_budget(objects):
    assert count_looks(objects, ["early"]) == 0
    assert [taken(objects), taken(objects, reason="before it goes live")] == [1, 2]
    with pytest.raises(
        LooksSpentError, match="`looks` of the hold-out of early must be more than the 2 that were taken, was 2"
    ):
        taken(objects)
    second = looks_of(objects, ["early"])[1]
    assert dict(second.told) == {
        "actor": "ann",
        "reason": "before it goes live",
        "at": "2026-01-02T03:04:00+00:00",
        "what": "account",
        "week": BEGIN,
        "budget": 2,
        "of": ["2012-03-19", "2012-03-23"],
    }
    # Killed between the record and the numbers: it has looked.
    assert second.shown is None and "ended before it showed anything" in look_line(second)


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 501])
def test_a_look_without_a_reason_is_refused_and_not_counted(objects, reason):
    with pytest.raises(ValueError, match="`reason` must say"):
        taken(objects, reason=reason)
    assert count_looks(objects, ["early"]) == 0


def test_a_moved_holdout_and_a_descendant_win_no_look(objects):
    taken(objects)
    moved = Holdout("early", "2012-06-03", NOW, "small", 2)
    assert taken(objects, holdout=moved) == 2
    with pytest.raises(LooksSpentError):
        taken(objects, holdout=moved)
    child = Holdout("child", BEGIN, NOW, "small", 3)
    assert taken(objects, holdout=child, descends_from=["early"]) == 1
    with pytest.raises(LooksSpentError, match="3 that were taken, was 3"):
        taken(objects, holdout=child, descends_from=["early"])
    # A larger budget is one: it stands with each look.
    assert taken(objects, holdout=Holdout("early", BEGIN, NOW, "small", 3)) == 3
    assert [each.told["budget"] for each in looks_of(objects, ["early"])] == [2, 2, 3]


def test_ten_at_once_take_as_many_looks_as_are_allowed(objects):
    many = Holdout("early", BEGIN, NOW, "small", 4)

    def one(at: int) -> int:
        try:
            return taken(objects, holdout=many, reason=f"thread {at}")
        except LooksSpentError:
            return 0

    with ThreadPoolExecutor(10) as threads:
        numbers = sorted(threads.map(one, range(10)))
    assert numbers == [0] * 6 + [1, 2, 3, 4]


KILLED = """
import os, signal
from hf_pipelines_tests.components.test_holdout_looks import taken
from hf_pipelines.resources.object_store import ObjectStore
import hf_pipelines.resources.holdout_looks as looks
looks._keep_count = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
taken(ObjectStore(os.environ["STORE"]))
"""


def test_killed_right_after_the_record_it_is_counted(objects, tmp_path):
    env = {**os.environ, "STORE": str(tmp_path / "store")}
    ended = subprocess.run([sys.executable, "-c", KILLED], env=env, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert count_looks(objects, ["early"]) == 1
    assert taken(objects) == 2


def test_a_store_of_before_the_looks_forgets_none_on_this_machine(objects, tmp_path):
    taken(objects)
    taken(objects)
    for path in (tmp_path / "store" / STRATEGIES / "early" / "looks").iterdir():
        path.unlink()
    assert looks_of(objects, ["early"]) == [] and count_looks(objects, ["early"]) == 2
    with pytest.raises(LooksSpentError):
        taken(objects)
    # Nor does a machine without the count where the store has the records.
    assert settings.data_dir() == tmp_path / "data"


def test_a_record_that_cannot_be_read_counts(objects, tmp_path):
    taken(objects)
    (tmp_path / "store" / STRATEGIES / "early" / "looks" / "00001.json").write_text("{")
    assert count_looks(objects, ["early"]) == 1
    assert look_line(looks_of(objects, ["early"])[0]) == "early look 1: its record cannot be read; it counts"


def test_stated_holdouts_are_those_of_the_market_that_a_span_reaches_into(objects):
    assert stated_holdouts(objects, "small", until=date(2030, 1, 1)) == []
    state_holdout(objects, HOLDOUT)
    state_holdout(objects, Holdout("late", "2012-04-08", NOW, "small", 1))
    state_holdout(objects, Holdout("other", "2012-01-08", NOW, "crypto", 1))
    for until, names in (
        (date(2012, 3, 17), []),
        (date(2012, 3, 18), ["early"]),
        (date(2012, 4, 8), ["early", "late"]),
    ):
        assert [each.strategy for each in stated_holdouts(objects, "small", until=until)] == names
    state_holdout(objects, Holdout("early", "2012-06-03", NOW, "small", 2))
    assert stated_holdouts(objects, "small", until=date(2012, 4, 1)) == []


@pytest.fixture(scope="module")
def held(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("looked_at"))
    project.rewrite(
        strategies=[ridge_strategy("early", holdout={"from": "2012-03-20", "looks": 2}), ridge_strategy("free")]
    )
    project.retrain("early", STRADDLING)
    project.make("early/signals", "2012-04-02", "2012-04-05")
    return project


def test_every_path_to_held_out_sessions_is_closed(held, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    project = held.copy(tmp_path / "copy")
    # What choosing reads: each stage but these is given no input that is not guarded.
    market = market_of(project.market)
    plan = Strategy.resolve_from_yaml(
        yaml.safe_dump(ridge_strategy("early", holdout={"from": "2012-03-20", "looks": 2}))
    ).plan(market)
    open_stages = set()
    for stage in build_stages(plan):
        if stage.reads_holdout == "always":
            open_stages.add(stage.asset)
        else:
            assert stage.inputs and all(each.guard is not None for each in stage.inputs), stage.asset
    # The report reads what these have stored, and is looked at below.
    assert open_stages == {"early/drift", "early/report", "early/signals", "early/track_record"}
    project.make("early/report", STRADDLING)
    footer = project.store.footer("early/report", STRADDLING)
    page = project.store.read_attachment(footer, PAGE).decode()
    # Beside them keys of weeks, which are Sundays, and the sessions alone that issues were made for.
    shown = {date.fromisoformat(each) for each in re.findall(r"\b2012-\d\d-\d\d\b", page)}
    later = {each for each in shown if each > date(2012, 3, 18) and each.weekday() != 6}
    assert later == {date(2012, 4, 2), date(2012, 4, 5)}
    assert date(2012, 3, 16) in {each for each in shown if each <= date(2012, 3, 18)}
    # What is stored of the strategy: no session of it, in any of its assets but the issues.
    for asset in sorted({str(each) for each in project.store.objects.folders("early")} - {"signals"}):
        for key in project.store.partitions(f"early/{asset}"):
            frame = project.store.read(f"early/{asset}", key).frame
            if "session" in frame.columns:
                assert frame["session"].max() < date(2012, 3, 18), asset
    # The record of what was issued afterwards would be a look at it.
    refused = project.run("early/track_record", "2012-04-08").message
    assert "look at them: hfp holdout early --reason WHY" in refused
    # A notebook.
    store = project.store
    whole = load_features("small", "quick", "2012-01-03", "2012-03-17", store=store)
    assert whole["session"].max() == date(2012, 3, 16)
    with pytest.raises(
        ValueError, match=r"`end` must be before what strategies of small hold out \(early from 2012-03-18 on\)"
    ):
        load_features("small", "quick", "2012-01-03", "2012-03-19", store=store)
    assert looks_of(store.objects, ["early"]) == []
    seen = load_features("small", "quick", "2012-03-12", "2012-03-19", store=store, holdout_reason="a look at ranges")
    assert seen["session"].max() == date(2012, 3, 19)
    (one,) = looks_of(store.objects, ["early"])
    assert (one.told["what"], one.told["of"]) == ("features", ["2012-03-18", "2012-03-19"])


def test_record_of_a_holdout_holds_what_was_live_and_what_lies_before():
    issues = pl.DataFrame(
        {
            "session": [date(2012, 3, 16), date(2012, 3, 19), date(2012, 3, 19)],
            "issue_kind": ["backfill", "backfill", "live"],
        }
    )
    assert _not_held_back(HOLDOUT, issues, STRADDLING).rows() == [
        (date(2012, 3, 16), "backfill"),
        (date(2012, 3, 19), "live"),
    ]
    with pytest.raises(ValueError, match="hfp holdout early --reason WHY"):
        _not_held_back(HOLDOUT, issues[1:2], STRADDLING)


def test_a_look_shows_the_account_of_the_issues_and_is_listed_for_ever(held, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_ACTOR", "ann")
    project = held.copy(tmp_path / "copy")
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    with pytest.raises(ValueError, match="free has none: every week is seen"):
        look(pipeline, "free", "why")
    found = look(pipeline, "early", "before it goes live")
    # The account by hand: weights of the close of a session, filled at the next open, from the issues and the bars alone.
    assert found.shown["n_sessions"] == 4 and found.shown["n_backfilled"] == 4
    days = [day for day in project.store.partitions("early/signals") if day >= BEGIN]
    assert found.told["of"] == [days[0], days[-1]]
    bars = pl.concat(
        [
            project.store.read("small/bars", week).frame
            for week in project.store.partitions("small/bars")
            if week >= STRADDLING
        ]
    ).filter(pl.col("session") <= date.fromisoformat(days[-1]))
    assert found.shown["total_return"] == pytest.approx(_by_hand(project, days, bars), abs=2e-3)
    told = [*holdout_lines(looks_told(pipeline, "early"))]
    assert told[0] == "early holds out week 2012-03-18 and all later ones; 1 of 2 looks taken"
    assert "by ann (before it goes live), sessions 2012-04-02 to 2012-04-05: total return " in told[1]
    assert json.loads(json.dumps(looks_told(pipeline, "early")))["looks"][0]["shown"] == found.shown
    look(pipeline, "early", "again")
    with pytest.raises(LooksSpentError):
        look(pipeline, "early", "once more")
    # Moved to a later week it is the same count.
    project.rewrite(strategies=[ridge_strategy("early", holdout={"from": "2012-04-03", "looks": 2})])
    moved = Pipeline(project.definitions, project.instance, project.store)
    with pytest.raises(LooksSpentError):
        look(moved, "early", "of the new one")


def _by_hand(project: Project, days: list[str], bars: pl.DataFrame) -> float:
    """Total return of weights that are filled at the next open, held in between, without costs."""
    opened = bars.pivot("symbol", index="session", values="open").sort("session")
    close = bars.pivot("symbol", index="session", values="close").sort("session")
    names = [each for each in opened.columns if each != "session"]
    o, c = opened.select(names).to_numpy(), close.select(names).to_numpy()
    place = {day: at for at, day in enumerate(opened["session"].to_list())}
    equity, shares, cash = 1.0, 0.0 * o[0], 1.0
    for day in days:
        at = place[date.fromisoformat(day)]
        issue = project.store.read("early/signals", day).frame
        weights = dict(issue.select("symbol", "weight").rows())
        equity = cash + float(shares @ c[at])
        if at + 1 == len(o):
            break
        wanted = equity * pl.Series([weights.get(each, 0.0) for each in names]).to_numpy() / c[at]
        cash -= float((wanted - shares) @ o[at + 1])
        shares = wanted
    return cash + float(shares @ c[-1]) - 1.0
