"""The whole chain of a week on S3 over HTTP gives what it gives on disk, byte for byte of content."""

import dataclasses
import json
from pathlib import Path

import pytest

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.checkout import DAY, FIRST_BARS, RETRAINED, WEEK, built_checkout
from hf_pipelines_tests.servers import s3_server

pytestmark = pytest.mark.servers


def test_chain_on_s3_over_http_has_the_hashes_of_the_chain_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = built_checkout()
    with s3_server(tmp_path) as s3:
        uri = f"s3://{s3.bucket}/research/prod"
        remote = dataclasses.replace(built.checkout, data=tmp_path / "data", env={**s3.env, "HF_STORAGE_URI": uri})
        found = remote.hashes("short_ranking")

        on_disk = {key: each for key, each in built.hashes.items() if not key.startswith("short_trees/")}
        # 39 weeks of bars, 11 of two feature groups, four weekly stages and one day of signals.
        assert len(found) == 39 + 2 * 11 + len(RETRAINED) + 1
        assert found == on_disk
        assert {f"us_tech/bars/{FIRST_BARS}", f"short_ranking/backtest/{WEEK}", f"short_ranking/signals/{DAY}"} <= set(
            found
        )

        # Nothing of the chain was written to the disk of the machine that ran it, save the instance and the tracker.
        assert not (remote.data / "storage").exists()
        for name, value in s3.env.items():
            monkeypatch.setenv(name, value)
        store = PartitionStore(ObjectStore(uri, s3.endpoint))
        latest = json.loads(store.objects.get("short_ranking/signals/latest.json"))
        assert latest["day"] == DAY
        assert latest["content_hash"] == found[f"short_ranking/signals/{DAY}"]
