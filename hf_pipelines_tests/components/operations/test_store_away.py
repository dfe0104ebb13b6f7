"""The watch while the store is away: an alert that is due goes out once all the same, what is not known yet is told later, and no look fails."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.components.operations.inventory import Watched, WatchedStrategy
from hf_pipelines.components.operations.watch import watch_sensor
from hf_pipelines.research.drift.day import CALLS, COLUMNS
from hf_pipelines.research.drift.standing import Standing
from hf_pipelines.resources import settings, store_access
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.incidents import load_book
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.alert_receivers import Service, web_service
from hf_pipelines_tests.drift_quarters import make_plan, publish
from hf_pipelines_tests.faulty_s3 import Faulty, faulty
from hf_pipelines_tests.servers import s3_server

pytestmark = pytest.mark.servers

NOW = datetime(2013, 3, 1, 22, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = date(2013, 3, 1)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Faulty, str]]:
    """An S3 server that can be made to go away, and a prefix in its bucket."""
    with s3_server(tmp_path) as s3, faulty(s3.endpoint, tmp_path) as running:
        for name, value in {**s3.env, "HF_S3_ENDPOINT": running.endpoint}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(store_access.RETRY, "max_retries", 0)
        store_access.open_backend.cache_clear()
        yield running, f"s3://{s3.bucket}/away"
    store_access.open_backend.cache_clear()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with web_service() as made:
        monkeypatch.setenv("HF_ALERT_URLS", f"desk=json://127.0.0.1:{made.port}/hook")
        yield made


def test_alert_that_is_due_while_the_store_is_away_goes_out_once(proxy, service, tmp_path, monkeypatch):
    s3, uri = proxy
    for name, value in {"DAGSTER_HOME": tmp_path / "home", "HF_DATA_DIR": tmp_path / "data"}.items():
        monkeypatch.setenv(name, f"{value}")
    for name in ("HF_WEBHOOK_URL", "HF_PORTFOLIO_URL"):
        monkeypatch.delenv(name, raising=False)
    settings.prepare_dagster_home()
    store = PartitionStore(ObjectStore(uri, s3.endpoint))
    market = make_plan(tmp_path, 0)[0].market
    look = looking(dg.DagsterInstance.get(), Watched((market,), (WatchedStrategy("ranking", market, 8),)), uri)

    def drift_told() -> list[str]:
        return [body["title"] for body in service.bodies() if "drift" in body["title"]]

    say(store, raised_on=DAY)
    s3.refuse()
    # Nothing is known of the alarm yet, and nothing fails.
    look(NOW)
    assert drift_told() == [] and not load_book(dg.DagsterInstance.get()).open
    s3.heal()
    look(NOW + MINUTE)
    assert [each.kind for each in load_book(dg.DagsterInstance.get()).open if each.kind == "drift"] == ["drift"]
    (event,) = store.objects.keys("_outbox/ranking-drift")
    # Its message is due in a minute, which the store does not see.
    s3.refuse()
    for minutes in (2, 3, 4, 5):
        look(NOW + minutes * MINUTE)
    assert drift_told() == ["WARNING: drift: ranking/drift 2013-03-01"]
    s3.heal()
    look(NOW + 6 * MINUTE)
    assert store.objects.keys("_outbox/ranking-drift") == [event]
    # It is over while nobody can read so; that is told once too, later.
    say(store, raised_on=None, day=DAY + timedelta(days=3))
    s3.refuse()
    look(NOW + 20 * MINUTE)
    assert len(drift_told()) == 1
    s3.heal()
    for minutes in (21, 30, 40):
        look(NOW + minutes * MINUTE)
    assert drift_told()[1:] == ["RESOLVED: drift: ranking/drift 2013-03-01"]


def say(store: PartitionStore, *, raised_on: date | None, day: date = DAY) -> None:
    """A session of drift in which an alarm stands, or none."""
    told = {kind: asdict(Standing()) for kind in CALLS}
    if raised_on is not None:
        told["drift"] |= {"is_raised": True, "n_called": 3, "raised_on": f"{raised_on}", "since": f"{raised_on}"}
    said = {"p": 0.001, "family_error": 0.05, "model_week": "2013-02-24", "model": "0" * 64}
    content = Content(pl.DataFrame(schema=COLUMNS), facts={"sentence": "Drift of a.", "standing": told, **said})
    publish(store, "ranking/drift", f"{day}", content)


def looking(instance: dg.DagsterInstance, watched: Watched, uri: str) -> Callable[[datetime], None]:
    """A look of the watch at a time, each from the cursor of the one before."""
    sensor = watch_sensor(watched)
    cursor: str | None = None

    def look(at: datetime) -> None:
        nonlocal cursor
        context = dg.build_sensor_context(instance=instance, cursor=cursor, sensor_name=sensor.name)
        cursor = sensor(
            context, storage=Storage(uri=uri), clock=Clock(fixed=at.isoformat()), notifier=Notifier()
        ).cursor

    return look
