"""History: each decision once, in order, whoever else decides and whoever is killed; and nothing foreign among them."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_pipelines.research.promotion.lifecycle import (
    OVERRIDDEN,
    PROMOTED,
    REFUSED,
    ROLLED_BACK,
    ROLLOUT_ADVANCED,
    ROLLOUT_STARTED,
    ROLLOUT_STOPPED,
    STAGED,
    WITHDRAWN,
    IllegalEventError,
    Lifecycle,
)
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.promotions.history import (
    FIELDS,
    FOLDER,
    ChampionChangedError,
    PromotionHistoryError,
    history_of,
    record_decision,
    strategies_with_history,
)
from hf_pipelines.resources.trial_ledger.records import read_line, write_record
from hf_pipelines_tests.resources.promotions.deciding import FAILED, draft


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "store"))


def path_of(objects: ObjectStore, number: int) -> Path:
    return Path(objects.uri) / FOLDER / "tech" / f"{number:08d}.json"


def kinds(objects: ObjectStore) -> list[str]:
    return [each["kind"] for each in history_of(objects, "tech").records]


def test_decisions_are_read_as_they_were_written_and_say_what_serves(objects):
    assert history_of(objects, "tech").records == () and strategies_with_history(objects) == []
    made = [
        draft(REFUSED, "long", gates=[FAILED], reason="  too few rows "),
        draft(OVERRIDDEN, "long"),
        draft(PROMOTED, "short", evidence={"tech/backtest": {"2020-01-12": "ab" * 32}}),
        draft(ROLLED_BACK, reason="it loses"),
        draft(WITHDRAWN),
    ]
    for each in made:
        returned = record_decision(objects, "tech", each)
        assert returned == history_of(objects, "tech")
    history = history_of(objects, "tech")
    assert [each["n"] for each in history.records] == [1, 2, 3, 4, 5]
    assert [set(each) for each in history.records] == [set(FIELDS)] * 5
    assert history.records[0]["reason"] == "too few rows" and history.records[1]["override"] == "Ann"
    assert history.records[2]["evidence"] == {"tech/backtest": {"2020-01-12": "ab" * 32}}
    assert history.state.champion is None and history.state.is_withdrawn
    assert [str(each.version) for each in history.state.releases] == ["v1.0.0", "v1.1.0"]
    # Another strategy has a history of its own.
    record_decision(objects, "tech_2", draft(PROMOTED))
    assert len(history_of(objects, "tech").records) == 5 and strategies_with_history(objects) == ["tech", "tech_2"]


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        (draft(PROMOTED, reason=" "), "`reason` must say"),
        (draft(PROMOTED, reason="x" * 501), "`reason` must say"),
        (draft(PROMOTED, actor=""), "`actor` must be a name"),
        (draft(PROMOTED, gates=[FAILED]), "`gates` must all have passed for what is promoted, rows failed"),
        (draft(STAGED, gates=[]), "`gates` must all have passed for what is staged, no gate was judged"),
        (draft(OVERRIDDEN, override=""), "`override` must name a person"),
        (draft(PROMOTED, override="Ann"), "`override` must name a person"),
        (draft(PROMOTED, settings={}), "`settings`, `yaml` and `week` must be given"),
        (draft(ROLLED_BACK, yaml={"a": 1}), "and of no other kind"),
        (draft(ROLLED_BACK), "`previous` must be a release to go back to"),
        (
            draft(ROLLOUT_STOPPED, rollout={}),
            "`rollout` must be given of rollout_started, .*, was not of rollout_stopped",
        ),
        (
            draft(STAGED, rollout={"configuration": "a", "share": 0.0}),
            "`rollout` must be given .*, was given of staged",
        ),
    ],
)
def test_a_decision_that_says_too_little_is_refused_and_not_recorded(objects, planted, told):
    with pytest.raises(ValueError, match=told):
        record_decision(objects, "tech", planted)
    assert strategies_with_history(objects) == []


def test_a_decision_about_another_champion_is_refused(objects):
    record_decision(objects, "tech", draft(PROMOTED, "long"))
    seen = history_of(objects, "tech").state
    record_decision(objects, "tech", draft(PROMOTED, "short"))
    with pytest.raises(ChampionChangedError, match=r"made about, v1\.0\.0 of week 2020-01-12, was v1\.1\.0 of week"):
        record_decision(objects, "tech", draft(ROLLED_BACK), about=seen)
    # What changes no champion comes between.
    seen = history_of(objects, "tech").state
    record_decision(objects, "tech", draft(REFUSED, "flat", gates=[FAILED]))
    record_decision(objects, "tech", draft(ROLLED_BACK), about=seen)
    assert kinds(objects) == [PROMOTED, PROMOTED, REFUSED, ROLLED_BACK]


def _sealed(fields: dict[str, object]) -> bytes:
    return write_record(fields).line


def _flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"why"', b'"who"', 1))


def _refield(**changes: object) -> Callable[[Path], None]:
    """A record with other fields, under a hash that is right."""
    return lambda path: path.write_bytes(_sealed({**read_line(path.read_bytes()), **changes})) and None


@pytest.mark.parametrize(
    ("number", "plant", "told"),
    [
        (2, _flip, "00000002.json` must be .* it is of another SHA-256 than it says"),
        (2, lambda path: path.write_bytes(b""), "00000002.json` must be .* it is no JSON that begins with its SHA-256"),
        (2, lambda path: path.unlink(), "00000002.json` must be .* it is missing; restore it"),
        (1, lambda path: path.unlink(), "00000001.json` must be .* it is missing"),
        (1, _refield(reason="other"), "00000002.json` must be .* does not follow the one before it"),
        (3, _refield(strategy="tech_2"), "00000003.json` must be .* it is number 3 of tech_2"),
        (3, _refield(n=4), "00000003.json` must be .* it is number 4 of tech"),
        (3, _refield(v=2), "00000003.json` must be .* it is of version 2; read it with a newer"),
        (3, _refield(kind="sold"), "00000003.json` must be .* cannot follow those before it"),
        (3, _refield(kind="withdrawn", at=7), "00000003.json` must be .* has no `at` of type str"),
        (3, _refield(evidence={"a": 3}), "00000003.json` must be .* has `evidence`, `gates`, `figures` or `rollout` of another form"),
        (3, _refield(rollout={"share": "all"}), "00000003.json` must be .* has `evidence`, `gates`, `figures` or `rollout` of"),
        (3, _refield(figures={"sharpe": 3}), "00000003.json` must be .* has `evidence`, `gates`, `figures` or `rollout` of"),
        (2, _refield(configuration="0" * 16), "00000002.json` must be .* `configuration` that is not the hash of its"),
        (4, lambda path: path.with_name("note.txt").write_text("hello"), "note.txt` must be .* it is none; move it out"),
        (4, lambda path: path.write_bytes(b"0" * 300_000), "00000004.json` must be .* 300,000 bytes, above"),
    ],
)  # fmt: skip
def test_a_damaged_foreign_or_missing_record_is_refused_by_name(objects, number, plant, told):
    for each in (draft(PROMOTED, "long"), draft(PROMOTED, "short"), draft(ROLLED_BACK)):
        record_decision(objects, "tech", each)
    plant(path_of(objects, number))
    before = {path: path.read_bytes() for path in path_of(objects, 1).parent.glob("0*") if not path.is_symlink()}
    with pytest.raises(PromotionHistoryError, match=told):
        history_of(objects, "tech")
    with pytest.raises(PromotionHistoryError, match=told):
        record_decision(objects, "tech", draft(WITHDRAWN))
    assert before == {path: path.read_bytes() for path in before}


def test_what_is_no_file_in_the_place_of_the_next_record_stops_a_decision(objects):
    record_decision(objects, "tech", draft(PROMOTED))
    path_of(objects, 2).symlink_to("/dev/zero")
    with pytest.raises(
        PromotionHistoryError, match="00000002.json` must be .* it is no file that is read; move it out"
    ):
        record_decision(objects, "tech", draft(WITHDRAWN))
    assert kinds(objects) == [PROMOTED]


SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
from hf_pipelines.research.promotion.lifecycle import PROMOTED
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.promotions import history
from hf_pipelines_tests.resources.promotions.deciding import draft

objects, rule, how = ObjectStore(sys.argv[1]), sys.argv[2], sys.argv[3]
put, link = ObjectStore.put_durably, os.link

def put_together(self, key, payload):
    # Both have seen the same history, and go for the same number.
    meeting = Path(sys.argv[1]).with_name("meeting")
    meeting.mkdir(exist_ok=True)
    (meeting / rule).touch()
    deadline = time.monotonic() + 60
    while len([*meeting.iterdir()]) < 2 and time.monotonic() < deadline:
        pass
    put(self, key, payload)

def put_and_die(self, key, payload):
    put(self, key, payload)
    os.kill(os.getpid(), signal.SIGKILL)

if how == "together":
    ObjectStore.put_durably = put_together
if how == "die after":
    ObjectStore.put_durably = put_and_die
if how == "die before":
    os.link = lambda *given, **more: os.kill(os.getpid(), signal.SIGKILL)
try:
    given = json.loads(sys.argv[4])
    history.record_decision(objects, "tech", draft(given.pop("kind", PROMOTED), rule, **given))
except history.ChampionChangedError as e:
    sys.exit(str(e))
"""


def started(objects: ObjectStore, rule: str, how: str, **given: object) -> "subprocess.Popen[str]":
    line = [sys.executable, "-c", SCRIPT, objects.uri, rule, how, json.dumps(given)]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True)


def test_of_two_processes_that_promote_at_once_one_wins_and_the_other_is_refused(objects):
    record_decision(objects, "tech", draft(PROMOTED, "flat"))
    both = [started(objects, rule, "together") for rule in ("long", "short")]
    told = {each.returncode: err for each in both if (err := each.communicate(timeout=60)[1]) is not None}
    assert sorted(told) == [0, 1] and "another decision came first: see hfp history tech" in told[1]
    history = history_of(objects, "tech")
    won = "long" if both[0].returncode == 0 else "short"
    assert [each["settings"]["rule"] for each in history.records] == ["flat", won]
    assert history.state.champion.settings["rule"] == won and history.state.previous.settings["rule"] == "flat"
    assert "was v1.1.0 of week" in told[1]


@pytest.mark.parametrize(("how", "n_kept"), [("die before", 0), ("die after", 1)])
def test_killed_around_the_write_a_record_is_there_once_or_not_at_all(objects, how, n_kept):
    process = started(objects, "long", how)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(history_of(objects, "tech").records) == n_kept
    if n_kept:
        with pytest.raises(IllegalEventError, match="it is the champion already"):
            record_decision(objects, "tech", draft(PROMOTED, "long"))
    else:
        record_decision(objects, "tech", draft(PROMOTED, "long"))
    assert kinds(objects) == [PROMOTED]


@pytest.mark.parametrize(("how", "n_kept"), [("die before", 3), ("die after", 4)])
def test_killed_around_the_write_a_step_of_a_rollout_is_recorded_once(objects, how, n_kept):
    for each in (draft(PROMOTED, "long"), draft(STAGED, "short"), draft(ROLLOUT_STARTED, "short")):
        record_decision(objects, "tech", each)
    rollout = {**draft(ROLLOUT_STARTED, "short").rollout, "share": 0.1}
    step = {"kind": ROLLOUT_ADVANCED, "rollout": rollout, "token": "ab" * 16}
    process = started(objects, "short", how, **step)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and len(history_of(objects, "tech").records) == n_kept
    # Whoever comes next takes the same step: it has the same id.
    for _ in range(2):
        record_decision(objects, "tech", draft(ROLLOUT_ADVANCED, "short", rollout=rollout, token="ab" * 16))
    assert kinds(objects) == [PROMOTED, STAGED, ROLLOUT_STARTED, ROLLOUT_ADVANCED]
    assert history_of(objects, "tech").state.rollout.share == 0.1


def test_a_store_that_answers_twice_has_it_once(objects, monkeypatch):
    put = ObjectStore.put_durably

    def put_twice(self: ObjectStore, key: str, payload: bytes) -> None:
        """As a client that asks again, since the first answer was lost."""
        put(self, key, payload)
        put(self, key, payload)

    monkeypatch.setattr(ObjectStore, "put_durably", put_twice)
    history = record_decision(objects, "tech", draft(PROMOTED))
    assert len(history.records) == 1 and history == history_of(objects, "tech")


def test_kept_records_are_those_of_the_champion_of_what_can_be_gone_back_to_and_of_what_is_staged(objects):
    for each in (
        draft(PROMOTED, "a"), draft(STAGED, "b"), draft(STAGED, "b", "2020-01-19"), draft(PROMOTED, "c"), draft(STAGED, "d"),
        draft(REFUSED, "d", gates=[FAILED]), draft(PROMOTED, "e"), draft(WITHDRAWN), draft(REFUSED, "f", gates=[FAILED]),
    ):  # fmt: skip
        record_decision(objects, "tech", each)
    kept = {record["n"]: why for record, why in history_of(objects, "tech").kept_records()}
    # 2 was staged again, 5 refused since, 7 withdrawn.
    assert kept == {
        1: "tech v1.0.0 may be gone back to",
        3: "tech has it staged",
        4: "tech v1.1.0 may be gone back to",
    }
    record_decision(objects, "tech", draft(ROLLED_BACK))
    kept = {record["n"]: why for record, why in history_of(objects, "tech").kept_records()}
    assert kept[4] == "it is the champion of tech, v1.1.0"


def test_a_record_is_a_line_of_json_that_other_programs_read(objects):
    record_decision(objects, "tech", draft(PROMOTED))
    found = json.loads(path_of(objects, 1).read_bytes())
    assert {name: type(value) for name, value in found.items() if name != "sha256"} == FIELDS
    assert Lifecycle() == history_of(objects, "other").state
