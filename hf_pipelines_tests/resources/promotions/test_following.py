"""What a history leaves outside of itself, through deaths of processes and absences of servers: one champion, each payload once by its id."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest
from jsonschema import Draft202012Validator

from hf_pipelines.commands.contracts import schema_of
from hf_pipelines.components.operations.following import promotions_sensor
from hf_pipelines.research.promotion.lifecycle import OVERRIDDEN, PROMOTED, REFUSED, ROLLED_BACK, WITHDRAWN
from hf_pipelines.resources import webhook
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.following import Followed, follow_history
from hf_pipelines.resources.promotions.history import history_of, record_decision
from hf_pipelines.resources.promotions.outbox import OutboxError, fill_outbox
from hf_pipelines.resources.promotions.registered_models import (
    DECISION,
    Held,
    Step,
    Wanted,
    held_by,
    steps_between,
    wanted_of,
)
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.resources.promotions.deciding import FAILED, draft
from hf_pipelines_tests.servers import free_port, mlflow_server

NOW = datetime(2026, 1, 3, tzinfo=UTC)
SECRET = "d3sk-s3cret"


@contextmanager
def portfolio(*statuses: int) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A portfolio layer that answers with these statuses in turn, the last one for ever; what it accepted, with the header's key."""
    got: list[tuple[str, dict[str, Any]]] = []
    answers = list(statuses) or [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = answers.pop(0) if len(answers) > 1 else answers[0]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if status < 300:
                got.append((self.headers["Idempotency-Key"], body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Into no test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/in/{SECRET}", got
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartitionStore:
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    return PartitionStore(ObjectStore(str(tmp_path / "storage")))


@pytest.fixture
def tracking(tmp_path: Path, mlflow_template: Path) -> MLflowTracking:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    return MLflowTracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


AWAY = MLflowTracking(uri=f"http://127.0.0.1:{free_port()}")


def follow(store: PartitionStore, tracking: MLflowTracking) -> Followed:
    return follow_history(history_of(store.objects, "tech"), store, tracking, NOW)


def decided(store: PartitionStore, *kinds: str) -> None:
    for number, kind in enumerate(kinds):
        rule = ("long", "short", "flat")[number % 3]
        record_decision(store.objects, "tech", draft(kind, rule, **({"gates": [FAILED]} if kind == REFUSED else {})))


def test_payloads_of_real_records_follow_the_schema_that_is_shipped(store):
    decided(store, PROMOTED, REFUSED, OVERRIDDEN, ROLLED_BACK, WITHDRAWN)
    fill_outbox(store.objects, history_of(store.objects, "tech"))
    schema = Draft202012Validator(schema_of("payload"))
    payloads = [json.loads(store.objects.get(key)) for key in store.objects.keys("_outbox/tech")]
    assert [each["decision"] for each in payloads] == [PROMOTED, OVERRIDDEN, ROLLED_BACK, WITHDRAWN]
    for each in payloads:
        schema.validate(each)
        assert {*each} == {*schema.schema["properties"]} == {*schema.schema["required"]}
    first, last = payloads[0], payloads[-1]
    for of, changes in [
        (first, {"sharpe": 1.0}),
        (first, {"unknown": {}}),
        (first, {"version": None}),
        (first, {"decision": "refused"}),
        (last, {"version": "v1.0.0"}),
        (first, {"n": 0}),
    ]:
        assert not schema.is_valid({**of, **changes}), changes


def test_payload_of_a_decision_that_was_just_made_is_that_of_its_record(store):
    parts = {f"tech/{each}": {"2020-01-12": "1" * 64, "2020-01-05": "2" * 64} for each in "ba"}
    figures = {name: {"value": value, "why": ""} for name, value in (("sharpe", 0.1 + 0.2), ("capacity", 1e20))}
    made = record_decision(store.objects, "tech", draft(PROMOTED, evidence=parts, figures=figures))
    (payload,) = fill_outbox(store.objects, made)
    assert fill_outbox(store.objects, history_of(store.objects, "tech")) == [payload]
    assert json.loads(payload)["sharpe"] == 0.1 + 0.2 and json.loads(payload)["evidence"] == parts


def test_payloads_are_sent_in_order_once_taken_never_again_and_wait_while_the_receiver_refuses(
    store, tracking, monkeypatch
):
    monkeypatch.setattr(webhook, "POST_BACKOFF_S", 0.01)
    decided(store, PROMOTED, PROMOTED)
    assert "HF_PORTFOLIO_URL is not set" in " ".join(follow(store, AWAY).done)
    with portfolio(200, 503, 503, 200) as (url, got):
        monkeypatch.setenv("HF_PORTFOLIO_URL", url)
        refused = follow(store, tracking)
        assert refused.faults == ("the webhook did not take payload 2 of tech: HTTP 503",)
        decided(store, ROLLED_BACK)
        assert follow(store, tracking).is_whole and follow(store, tracking).is_whole
    records = history_of(store.objects, "tech").records
    assert [(key, body["id"], body["n"]) for key, body in got] == [
        (record["id"], record["id"], n) for n, record in enumerate(records, 1)
    ]
    stored = [json.loads(store.objects.get(key)) for key in store.objects.keys("_outbox/tech")]
    assert stored == [body for _, body in got]
    noted = [json.loads(store.objects.get(key)) for key in store.objects.keys("_delivered/tech")]
    assert [each["id"] for each in noted] == [each["id"] for each in stored]
    # The address is a secret.
    assert SECRET not in json.dumps([refused.faults, refused.done, noted])


def test_an_outbox_that_holds_something_else_is_named_and_nothing_is_sent(store, monkeypatch):
    decided(store, PROMOTED, PROMOTED)
    history = history_of(store.objects, "tech")
    fill_outbox(store.objects, history)
    with portfolio() as (url, got):
        monkeypatch.setenv("HF_PORTFOLIO_URL", url)
        # The history of an older copy of the store: what was told since is not taken back by silence.
        Path(store.objects.address("_promotions/tech/00000002.json")).unlink()
        (fault,) = [each for each in follow(store, AWAY).faults if "_outbox" in each]
        assert "_outbox/tech/00000002.json` must be the payload that follows from the history of tech" in fault
        decided(store, WITHDRAWN)
        with pytest.raises(OutboxError, match="00000002.json"):
            fill_outbox(store.objects, history_of(store.objects, "tech"))
        assert got == []


def test_steps_to_what_mlflow_must_hold_are_none_where_it_does():
    tags = {DECISION: "a", "hf.stage": "production"}
    wanted = Wanted("tech", {"a": tags, "b": {DECISION: "b", "hf.stage": "deprecated"}}, {"champion": "a"})
    assert steps_between(Held(), Wanted("tech")) == []
    assert steps_between(Held(), wanted) == [
        Step("register"),
        Step("add", "a"),
        Step("add", "b"),
        Step("alias", "a", "champion"),
    ]
    there = {"a": ("1", tags), "b": ("2", {DECISION: "b", "hf.stage": "production"})}
    # An alias that somebody has moved, one that is not wanted, a stage of yesterday.
    held = Held(True, there, {"champion": "2", "previous": "1", "mine": "1"})
    assert steps_between(held, wanted) == [
        Step("tag", "b", "hf.stage", "deprecated"),
        Step("alias", "a", "champion"),
        Step("drop", name="previous"),
    ]
    there = {**there, "b": ("2", wanted.versions["b"])}
    assert steps_between(Held(True, there, {"champion": "1"}), wanted) == []


def served_by_mlflow(tracking: MLflowTracking) -> tuple[dict[str, str], list[str]]:
    """Version of ours by alias, and our versions in MLflow's registry, each once."""
    client = tracking.client()
    versions = {str(each.version): each.tags for each in client.search_model_versions("name = 'tech'")}
    aliases = client.get_registered_model("tech").aliases
    told = {alias: versions[str(version)]["hf.version"] for alias, version in aliases.items()}
    return told, sorted(each["hf.version"] for each in versions.values())


def test_registry_follows_each_decision_and_puts_right_what_was_changed_by_hand(store, tracking):
    for kind, served in [
        (PROMOTED, {"champion": "v1.0.0"}),
        (PROMOTED, {"champion": "v1.1.0", "previous": "v1.0.0"}),
        (ROLLED_BACK, {"champion": "v1.0.0"}),
        (WITHDRAWN, {}),
    ]:
        record_decision(store.objects, "tech", draft(kind, "short" if len(served) == 2 else "long"))
        assert follow(store, tracking).is_whole
        assert served_by_mlflow(tracking)[0] == served, kind
    assert served_by_mlflow(tracking)[1] == ["v1.0.0", "v1.1.0"]
    client = tracking.client()
    stages = {each.tags["hf.version"]: each.tags["hf.stage"] for each in client.search_model_versions("name = 'tech'")}
    assert stages == {"v1.0.0": "archived", "v1.1.0": "deprecated"}
    client.set_registered_model_alias("tech", "champion", "2")
    follow(store, tracking)
    assert served_by_mlflow(tracking)[0] == {}


@pytest.mark.servers
def test_while_the_tracking_server_is_away_decisions_stand_and_its_registry_follows_later(store, tmp_path):
    port = free_port()
    tracking = MLflowTracking(uri=f"http://127.0.0.1:{port}")
    record_decision(store.objects, "tech", draft(PROMOTED))
    record_decision(store.objects, "tech", draft(PROMOTED, week="2020-01-19"))
    away = follow(store, tracking)
    assert len(away.faults) == 1 and "must be a tracking server or database that answers" in away.faults[0]
    assert len(store.objects.keys("_outbox/tech")) == 2
    with mlflow_server(tmp_path / "tracking", port):
        assert follow(store, tracking).is_whole
        assert served_by_mlflow(tracking) == ({"champion": "v1.0.1", "previous": "v1.0.0"}, ["v1.0.0", "v1.0.1"])
        record_decision(store.objects, "tech", draft(WITHDRAWN))
        assert follow(store, tracking).is_whole and served_by_mlflow(tracking)[0] == {}


def test_sensor_does_what_is_left_and_then_rests_until_something_is_decided(store, tracking, tmp_path, monkeypatch):
    sensor, instance = promotions_sensor(), dg.DagsterInstance.ephemeral()

    def tick(cursor: str | None, mlflow: MLflowTracking) -> tuple[str, str]:
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        found = sensor(context, storage=Storage(uri=store.objects.uri), clock=Clock(), mlflow=mlflow)
        return found.cursor, found.skip_reason.skip_message

    cursor, told = tick(None, AWAY)
    assert told == "nothing is left to be done"
    decided(store, PROMOTED)
    # A tracker that is away is tried again at the next tick.
    cursor, told = tick(cursor, AWAY)
    assert "must be a tracking server" in told and cursor == "{}"
    cursor, told = tick(cursor, tracking)
    assert "MLflow: 1 version(s) of tech, champion v1.0.0" in told
    assert tick(cursor, tracking) == (cursor, "nothing is left to be done")
    with portfolio() as (url, got):
        # Another place to tell of it.
        monkeypatch.setenv("HF_PORTFOLIO_URL", url)
        cursor, told = tick(cursor, tracking)
        assert "1 payload(s) in _outbox, all taken" in told and SECRET not in cursor and len(got) == 1
    decided(store, WITHDRAWN)
    assert "no alias" in tick(cursor, tracking)[1]


def dying(folder: Path, *kinds: str, url: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "hf_pipelines_tests.resources.promotions.dying", str(folder), json.dumps(kinds)]
    env = {**os.environ, "HF_PORTFOLIO_URL": url, "HF_DATA_DIR": str(folder), "PYTHONWARNINGS": "ignore"}
    return popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def assert_whole(
    store: PartitionStore, tracking: MLflowTracking, got: list[tuple[str, dict[str, Any]]], strategy: str = "tech"
) -> None:
    """Everything that follows from the history is there once, and nothing is left to be done."""
    history = history_of(store.objects, strategy)
    payloads = [json.loads(each) for each in fill_outbox(store.objects, history)]
    # At least once, and each first one behind those before it.
    assert list(dict.fromkeys(key for key, _ in got)) == [each["id"] for each in payloads]
    assert all(body == payloads[body["n"] - 1] for _, body in got)
    assert len(store.objects.keys(f"_delivered/{strategy}")) == len(payloads)
    wanted = wanted_of(history, store)
    with tracking.registry(strategy) as (client, _):
        assert steps_between(held_by(client, strategy), wanted) == []
        assert len(client.search_model_versions(f"name = '{strategy}'")) == len(history.state.releases)


def test_killed_after_each_step_of_promotion_and_rollback_everything_is_there_once(store, tracking, tmp_path):
    with portfolio() as (url, got):
        process = dying(tmp_path, PROMOTED, PROMOTED, ROLLED_BACK, url=url)
        told, faults = process.communicate(timeout=300)
    assert process.returncode == 0, faults.decode()[-2000:]
    steps = told.decode().split()
    assert {"put_durably", "_post", "create_registered_model", "create_model_version", "set_registered_model_alias"} <= {*steps}  # fmt: skip
    history = history_of(store.objects, "tech")
    assert [each["kind"] for each in history.records] == [PROMOTED, PROMOTED, ROLLED_BACK]
    assert (str(history.state.champion.version), history.state.previous) == ("v1.0.0", None)
    assert_whole(store, tracking, got)
    # Each payload was posted twice: its process died before it could note the first time.
    assert len(got) == 6


@pytest.mark.long
def test_two_processes_that_are_killed_after_each_step_beside_each_other_leave_everything_once(
    store, tracking, tmp_path
):
    kinds = (PROMOTED, PROMOTED, ROLLED_BACK, WITHDRAWN)
    with portfolio() as (url, got):
        both = [dying(tmp_path, *kinds, url=url) for _ in range(2)]
        ended = [each.communicate(timeout=600) for each in both]
    assert [each.returncode for each in both] == [0, 0], b"".join(err for _, err in ended).decode()[-3000:]
    assert [each["kind"] for each in history_of(store.objects, "tech").records] == [*kinds]
    assert_whole(store, tracking, got)
