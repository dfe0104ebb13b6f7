"""Promotions through a store that goes away at each of its requests in turn: real S3 over HTTP, behind a proxy that breaks it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_pipelines.research.promotion.lifecycle import PROMOTED, ROLLED_BACK
from hf_pipelines.resources import store_access
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import history_of, record_decision
from hf_pipelines.resources.storage_errors import StorageUnavailableError
from hf_pipelines_tests.faulty_s3 import Fault, Faulty, faulty
from hf_pipelines_tests.resources.promotions.deciding import draft
from hf_pipelines_tests.resources.promotions.test_following import assert_whole, follow, portfolio
from hf_pipelines_tests.servers import S3, s3_server

pytestmark = pytest.mark.servers

KINDS = (PROMOTED, PROMOTED, ROLLED_BACK)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.env.items():
            patch.setenv(name, value)
        patch.delenv("HF_S3_ENDPOINT")
        # One request in place of five: what is repeated here is the whole decision.
        patch.setitem(store_access.RETRY, "max_retries", 0)
        store_access.open_backend.cache_clear()
        yield server
    store_access.open_backend.cache_clear()


@pytest.fixture(scope="module")
def proxy(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with faulty(s3.endpoint, tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.mark.parametrize(
    "fault", [Fault(status=503), Fault(cut="answer")], ids=["refused", "done, and its answer lost"]
)
def test_store_that_goes_away_at_any_request_leaves_one_champion_and_each_payload_once(
    fault: Fault, s3: S3, proxy: Faulty, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    tracking = MLflowTracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    n_away = 0
    with portfolio() as (url, got):
        monkeypatch.setenv("HF_PORTFOLIO_URL", url)
        store = PartitionStore(ObjectStore(f"s3://{s3.bucket}/{tmp_path.name}", proxy.endpoint))
        for number, kind in enumerate(KINDS):
            # A person who is told that it failed asks again: the decision keeps its token.
            wanted = draft(kind, ("long", "short", "flat")[number], token=f"{number:032d}")
            passed = 0
            while True:
                proxy.forget()
                proxy.plant(Fault(fault.method, status=fault.status, cut=fault.cut, skip=passed))
                try:
                    record_decision(store.objects, "tech", wanted)
                    is_whole = follow(store, tracking).is_whole
                except StorageUnavailableError:
                    is_whole = False
                proxy.heal()
                if is_whole:
                    break
                n_away += 1
                passed += 1
                # Never two, and never less than what was there.
                assert len(history_of(store.objects, "tech").records) in (number, number + 1)
        history = history_of(store.objects, "tech")
        assert [each["kind"] for each in history.records] == [*KINDS]
        assert (str(history.state.champion.version), history.state.previous) == ("v1.0.0", None)
        assert_whole(store, tracking, got)
    # The first decision alone lists and reads, writes record, payload and note.
    assert n_away >= 3 * len(KINDS)
