"""Lookout: what has stopped is told once to a real receiver, and once when it is well again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus
from dagster._daemon.types import DaemonHeartbeat
from sqlalchemy.exc import OperationalError

from hf_pipelines.resources.pulse import Ticking
from hf_pipelines.serving.lookout import Lookout, tell_end
from hf_pipelines_tests.resources.test_notifier import receiver
from hf_pipelines_tests.resources.test_pulse import state, tick

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SENSORS = [Ticking("sensor", name, True, interval_s=15.0) for name in ("arrivals", "watch")]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("HF_LEAST_MEMORY_MB", "0")
    monkeypatch.setenv("HF_LEAST_DISK_MB", "0")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_UI_URL", "http://ui.example")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def beat(instance: dg.DagsterInstance, at: datetime) -> None:
    for kind in instance.get_required_daemon_types():
        instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), kind, None, None))


def test_sensors_that_stop_together_are_told_once_over_a_restart_and_once_when_each_ticks_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [state(instance, each, InstigatorStatus.DECLARED_IN_CODE) for each in SENSORS]
    for each in states:
        tick(instance, each, TickStatus.SUCCESS, timedelta(hours=1))
    with receiver(204) as (url, got):
        monkeypatch.setenv("HF_WEBHOOK_URL", url)
        lookout = Lookout(instance)

        def look(minutes: int) -> list[str]:
            at = NOW + minutes * MINUTE
            beat(instance, at)
            return [each.what for each in lookout.look(SENSORS, {}, at)]

        # The daemon has just been started, after an hour: it gets its time.
        assert look(0) == look(10) == []
        assert look(11) == ["sensor arrivals", "sensor watch"]
        assert got == []
        # The second look in a row.
        assert look(12) == ["sensor arrivals", "sensor watch"]
        (opened,) = [message for _, message in got]
        assert (opened["event"], opened["kind"], opened["asset"]) == ("opened", "stopped", "sensor arrivals")
        assert "none" not in opened["cause"] and "sensor watch: it must have ticked since" in opened["cause"]
        assert opened["url"] == "http://ui.example/automation"
        look(13)
        # The web server restarts.
        lookout = Lookout(instance)
        assert look(14) == []
        look(25), look(26)
        assert len(got) == 1
        for each in states:
            tick(instance, each, TickStatus.SKIPPED, timedelta(minutes=-26))
        assert look(27) == []
        assert [message["event"] for _, message in got] == ["opened", "healed"]


def test_code_that_is_not_loaded_and_a_database_that_is_away_are_told(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver(204) as (url, got):
        monkeypatch.setenv("HF_WEBHOOK_URL", url)
        lookout = Lookout(instance)
        beat(instance, NOW + 15 * MINUTE)
        for minutes in (0, 9, 11, 12):
            lookout.look([], {"hf_pipelines": "benchmrk must be a field"}, NOW + minutes * MINUTE)
        assert [message["asset"] for _, message in got] == ["code hf_pipelines"]
        assert "could not be loaded since 2026-11-22 12:00:00 UTC: benchmrk must be a field" in got[0][1]["cause"]

        def away(*_: object, **__: object) -> None:
            raise OperationalError("SELECT 1", {}, OSError("no route"))

        # What every call of a database that is away ends with.
        monkeypatch.setattr(instance, "get_daemon_heartbeats", away)
        monkeypatch.setattr(type(instance), "daemon_cursor_storage", property(away))
        for minutes in (13, 14, 15):
            lookout.look([], {}, NOW + minutes * MINUTE)
        assert [message["asset"] for _, message in got[1:]] == ["code hf_pipelines", "database"]
        assert [message["event"] for _, message in got[1:]] == ["healed", "opened"]


def test_supervisor_that_gives_up_tells_it(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver(204) as (url, got):
        monkeypatch.setenv("HF_WEBHOOK_URL", url)
        tell_end("hfp stack", "code_server must keep running, ended with signal SIGKILL for the 6th time")
    ((_, message),) = got
    assert message["text"].startswith(
        "OPENED stopped: hfp stack: it has stopped with all its services: code_server must"
    )
    assert message["remedy"] == "mend that, then start `hfp stack` again"
