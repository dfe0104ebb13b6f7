"""Fixtures of the ledger's tests: a ledger of its own, whose writers begin anew."""

from pathlib import Path

import pytest

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines_tests.resources.trial_ledger.trying import new_process


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    return ObjectStore(str(tmp_path / "store"))


@pytest.fixture
def ledger(objects: ObjectStore) -> TrialLedger:
    new_process()
    return TrialLedger(objects, "tester")
