"""Storage faults: S3 that answers 500, 503, 403, slowly, half, or not at all. Nothing is half published.

The S3 server, the proxy that breaks it and the runs are processes of their own; what is stored is read past the proxy.
"""

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.partitions import shift_week
from hf_pipelines.resources import outages, store_access
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectExistsError, StorageOutageError, StorageUnavailableError
from hf_pipelines_tests.checkout import DAY, FIRST_BARS, WEEK, Checkout, built_checkout
from hf_pipelines_tests.faulty_s3 import Fault, Faulty, faulty, through
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.pipeline import Project
from hf_pipelines_tests.servers import S3, s3_server, wait_until
from hf_pipelines_tests.short_backoff import with_short_backoff
from hf_pipelines_tests.test_faults import publish_old

BARS = "us_tech/bars"
# One request is made once and repeated as often as `store_access.RETRY` says; a step likewise as `outages.WAITS_S` says.
REQUESTS = 1 + int(store_access.RETRY["max_retries"])
ATTEMPTS = 1 + len(outages.WAITS_S)
PAYLOAD = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.env.items():
            patch.setenv(name, value)
        patch.delenv("HF_S3_ENDPOINT")
        yield server


@pytest.fixture(scope="module")
def running_proxy(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with faulty(s3.endpoint, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy: Faulty) -> Faulty:
    running_proxy.heal()
    running_proxy.forget()
    return running_proxy


@pytest.fixture
def objects(proxy: Faulty, s3: S3, tmp_path: Path) -> ObjectStore:
    """A root of its own, reached through the proxy, with one object."""
    store = ObjectStore(f"s3://{s3.bucket}/{tmp_path.name}", proxy.endpoint)
    store.put("bars/week", PAYLOAD)
    proxy.forget()
    return store


@pytest.mark.servers
@pytest.mark.parametrize("method", ["PUT", "GET"])
@pytest.mark.parametrize(
    ("fault", "made"),
    [
        pytest.param(Fault(status=500, times=2), [500, 500, 200], id="500"),
        pytest.param(Fault(status=503, times=2), [503, 503, 200], id="503"),
        pytest.param(Fault(cut="connection", times=2), ["cut connection", "cut connection", 200], id="closed"),
        pytest.param(Fault(cut="request", times=2), ["cut request", "cut request", 200], id="cut in the request"),
        pytest.param(Fault(cut="answer", times=2), ["cut answer", "cut answer", 200], id="answer lost"),
        # An answer that broke off is read on from where it broke: 206, partial content.
        pytest.param(Fault("GET", cut="response", times=1), ["cut response", 206], id="cut in the answer"),
        pytest.param(Fault(delay_s=1.0, times=1), [200], id="slow"),
    ],
)
def test_object_store_whose_server_fails_for_a_moment_reads_and_writes_the_very_bytes(
    method: str, fault: Fault, made: list[int | str], objects: ObjectStore, proxy: Faulty, s3: S3
) -> None:
    proxy.plant(fault)
    if method == "GET":
        assert objects.get("bars/week") == PAYLOAD
    else:
        objects.put("bars/week", PAYLOAD[::-1])
        assert ObjectStore(objects.uri, s3.endpoint).get("bars/week") == PAYLOAD[::-1]
    # A PUT is answered without a body: there is none to cut.
    assert proxy.requests(method, "bars/week") == (made if fault.method in ("*", method) else [200])


@pytest.mark.servers
@pytest.mark.parametrize(
    ("fault", "cause", "is_outage", "n_requests"),
    [
        pytest.param(Fault(status=500), "500 Internal Server Error: .*InternalError", True, REQUESTS, id="500"),
        pytest.param(Fault(status=503), "503 Service Unavailable: .*SlowDown", True, REQUESTS, id="503"),
        pytest.param(Fault(status=403), "403 Forbidden: .*AccessDenied", False, 1, id="403"),
        pytest.param(Fault(cut="connection"), "error sending request", True, REQUESTS, id="closed"),
        pytest.param(Fault(cut="request"), "error sending request", True, REQUESTS, id="cut in the request"),
        pytest.param(Fault(delay_s=30.0), r"\(Timeout\)", True, 0, id="no answer"),
        pytest.param(None, r"\(Connection refused\)", True, 0, id="refused"),
    ],
)
def test_object_store_whose_server_fails_for_good_names_key_root_and_cause_and_keeps_the_old_object(
    fault: Fault | None,
    cause: str,
    is_outage: bool,
    n_requests: int,
    objects: ObjectStore,
    proxy: Faulty,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The real one is 30 s, and times the five requests.
    monkeypatch.setattr(store_access, "REQUEST_TIMEOUT", timedelta(seconds=0.3))
    store_access.open_backend.cache_clear()
    if fault is None:
        proxy.refuse()
    else:
        proxy.plant(fault)
    began = time.monotonic()
    deeds: dict[str, Callable[[], Any]] = {
        "`bars/week` must be written": lambda: objects.put("bars/week", b"new"),
        "`bars/week` must be read": lambda: objects.get("bars/week"),
        "`bars` must be listed": lambda: objects.keys("bars"),
    }
    for deed, do in deeds.items():
        with pytest.raises(StorageUnavailableError, match=f"{deed} in {objects.uri}, was refused: .*{cause}") as caught:
            do()
        assert isinstance(caught.value, StorageOutageError) == is_outage
        assert "\n" not in str(caught.value)
    # Three requests, each five times: four waits of at most 0.2, 0.4, 0.8 and 1.6 s, and five timeouts of 0.3 s.
    assert time.monotonic() - began < 3 * (3.0 + 1.5) + 30.0
    assert len(proxy.requests("PUT")) == n_requests
    assert ObjectStore(objects.uri, s3.endpoint).get("bars/week") == PAYLOAD
    store_access.open_backend.cache_clear()


@pytest.mark.servers
def test_create_only_put_whose_answer_is_lost_holds_the_object_once_and_its_issue_is_unchanged(
    objects: ObjectStore, proxy: Faulty, s3: S3
) -> None:
    proxy.plant(Fault("PUT", "issue", cut="answer", times=1))
    with pytest.raises(ObjectExistsError):
        objects.put("issue", b"weights", create_only=True)
    # The second request found what the first had written.
    assert proxy.requests("PUT", "issue") == ["cut answer", 412]

    frame = pl.DataFrame({"symbol": ["A", "B"], "weight": [0.5, -0.5], "prediction": [0.1, -0.1]})
    store = PartitionStore(objects)
    proxy.plant(Fault("PUT", "signals/2013", cut="answer", times=1))
    stamp = Stamp("1", "r", "2013-02-25T21:00:00+00:00")
    issued = store.publish("a/signals", "2013-02-25", Content(frame), stamp, kind="signals")
    assert issued.outcome == "unchanged"
    direct = PartitionStore(ObjectStore(objects.uri, s3.endpoint))
    assert direct.read("a/signals", "2013-02-25").frame.equals(frame)
    # Neither a second issue nor a shadow.
    assert direct.objects.all_keys() == ["a/signals/2013-02-25.parquet", "bars/week", "issue"]


def on_s3(proxy: Faulty, s3: S3, folder: Path) -> tuple[Checkout, PartitionStore]:
    """A checkout with short waits whose storage lies behind the proxy, and the same storage without it."""
    uri = f"s3://{s3.bucket}/{folder.name}/prod"
    checkout = with_short_backoff(built_checkout().checkout, folder, **through(proxy, s3).env, HF_STORAGE_URI=uri)
    return checkout, PartitionStore(ObjectStore(uri, s3.endpoint))


def copy_storage(checkout: Checkout, store: PartitionStore, *without: str) -> None:
    """Everything that was stored on disk, on S3."""
    source = checkout.store().objects
    for key in source.all_keys():
        if not key.startswith(without or ("-",)):
            store.objects.put(key, source.get(key))


def hashes(store: PartitionStore, asset: str) -> dict[str, str]:
    """Content hash of what is stored; reading recomputes each, half an object would be refused."""
    return {key: store.read(asset, key).footer.content_hash for key in store.partitions(asset)}


def retries(checkout: Checkout) -> list[str]:
    """Steps that were tried again, one entry a retry, as Dagster recorded them."""
    home = checkout.data / "dagster_home"
    with dg.DagsterInstance.from_ref(_ref(home)) as instance:
        return [
            entry.step_key or ""
            for run in instance.get_runs()
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
        ]


def _ref(home: Path) -> Any:
    from dagster._core.instance.ref import InstanceRef

    return InstanceRef.from_dir(str(home), overrides={"storage": {"sqlite": {"base_dir": str(home / "storage")}}})


def test_waits_of_a_step_outlast_an_outage_of_a_minute_and_are_bounded() -> None:
    assert sum(outages.WAITS_S) * (1 - outages.JITTER) > 60.0
    assert sum(outages.WAITS_S) * (1 + outages.JITTER) < 120.0
    assert list(outages.WAITS_S) == sorted(outages.WAITS_S)


@pytest.mark.servers
def test_bars_on_s3_that_is_gone_for_a_while_wait_say_so_and_end_with_the_undisturbed_hashes(
    proxy: Faulty, s3: S3, tmp_path: Path
) -> None:
    checkout, store = on_s3(proxy, s3, tmp_path)
    # Gone from the tenth week on, for a time that is longer than the retries of one request.
    proxy.plant(Fault("PUT", BARS, cut="connection", skip=9))
    process = checkout.start(checkout.command("materialise", BARS, "--from", FIRST_BARS, "--to", WEEK))
    wait_until(lambda: "cut connection" in proxy.requests(), "first failure", timeout_s=120)
    found = len(store.partitions(BARS))
    proxy.refuse(for_s=4.0)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, output + errors
    assert found == 9
    new = {key.split("/")[-1]: each for key, each in built_checkout().hashes.items() if key.startswith(f"{BARS}/")}
    assert hashes(store, BARS) == new
    tried = retries(checkout)
    assert 1 <= len(tried) < ATTEMPTS
    assert set(tried) == {"us_tech__bars"}
    waiting = [line for line in errors.splitlines() if ", then retry " in line]
    assert len(waiting) == len(tried)
    assert waiting[0].startswith("`us_tech/bars/")
    assert f"retry 1 of {len(outages.WAITS_S)} of us_tech__bars" in waiting[0]


@pytest.mark.servers
def test_bars_that_s3_refuses_fail_naming_key_and_cause_with_each_week_old_or_new_and_heal(
    proxy: Faulty, s3: S3, tmp_path: Path
) -> None:
    checkout, store = on_s3(proxy, s3, tmp_path)
    weeks = [shift_week(WEEK, number) for number in range(-3, 1)]
    undisturbed = {week: built_checkout().hashes[f"{BARS}/{week}"] for week in weeks}
    old = {week: publish_old(store, BARS, week, built_checkout().checkout.store()) for week in weeks}
    arguments = ["materialise", BARS, "--from", weeks[0], "--to", weeks[-1]]
    refused = f"{BARS}/{weeks[2]}.parquet"
    half = {**old, weeks[0]: undisturbed[weeks[0]], weeks[1]: undisturbed[weeks[1]]}

    # 403 stays 403 until a person acts: one request, no wait. 503 is asked again, and the step tried again.
    for status, n_requests, n_retries in ((403, 1, 0), (503, REQUESTS * ATTEMPTS, len(outages.WAITS_S))):
        proxy.plant(Fault("PUT", f"/{refused}", status=status))
        proxy.forget()
        began = time.monotonic()
        failed = checkout.hfp(*arguments)
        assert failed.returncode == 1
        # A run that waits says how far it is, too.
        *waiting, last = (line for line in failed.stderr.splitlines() if not line.startswith("run of "))
        assert last.startswith(f"hfp: `{refused}` must be written in s3://{s3.bucket}/")
        assert f"status code: {status}" in last
        assert ("tried 4 times. See that it answers, then re-execute this run" in last) == (status == 503)
        assert len(waiting) == n_retries
        assert time.monotonic() - began < 100.0
        # The archive of the old content was written, the object itself was refused each time.
        assert proxy.requests("PUT", f"prod/{refused}") == [status] * n_requests
        assert hashes(store, BARS) == half
    assert retries(checkout) == ["us_tech__bars"] * len(outages.WAITS_S)

    proxy.heal()
    checkout.succeed(*arguments)
    assert hashes(store, BARS) == undisturbed
    assert {week: store.versions(BARS, week) for week in weeks} == {week: [old[week]] for week in weeks}


@pytest.mark.servers
def test_features_and_signals_on_an_s3_that_breaks_off_are_tried_again_and_issued_once(
    proxy: Faulty, s3: S3, tmp_path: Path
) -> None:
    checkout, store = on_s3(proxy, s3, tmp_path)
    features, signals = "us_tech/features/cross_asset", "short_ranking/signals"
    copy_storage(built_checkout().checkout, store, signals, f"{features}/{WEEK}")

    # Reading an input breaks for one attempt of the step.
    proxy.plant(Fault("GET", f"prod/{BARS}/{WEEK}", cut="response", times=REQUESTS))
    checkout.succeed("materialise", features, "--from", WEEK)
    assert hashes(store, features)[WEEK] == built_checkout().hashes[f"{features}/{WEEK}"]
    assert retries(checkout) == ["us_tech__features__cross_asset"]

    # The issue is written, and every answer that says so is lost: for the step it is not there.
    proxy.plant(
        Fault("PUT", f"prod/{signals}/{DAY}", cut="answer", times=1), Fault("PUT", signals, status=500, times=4)
    )
    proxy.forget()
    checkout.succeed("materialise", signals, "--from", DAY)
    assert proxy.requests("PUT", f"prod/{signals}/{DAY}") == ["cut answer", 500, 500, 500, 500, 412]
    assert hashes(store, signals) == {DAY: built_checkout().hashes[f"{signals}/{DAY}"]}
    assert store.versions(signals, DAY) == []
    assert store.objects.exists(f"{signals}/latest.json")
    assert retries(checkout).count("short_ranking__signals") == 1


def truncated(project: Project, week: str) -> None:
    path = project.folder / "storage" / "small" / "bars" / f"{week}.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def missing(project: Project, week: str) -> None:
    (project.folder / "storage" / "small" / "bars" / f"{week}.parquet").unlink()


@pytest.mark.parametrize("damage", [truncated, missing])
def test_features_of_faulty_data_are_not_tried_again(
    damage: Callable[[Project, str], None], small_project: Project, tmp_path: Path
) -> None:
    project = small_project.copy(tmp_path / "project")
    week = project.weeks[5]
    damage(project, week)
    began = time.monotonic()
    failed = project.run("small/features/quick", week)
    assert not failed.success
    assert time.monotonic() - began < min(outages.WAITS_S) * (1 - outages.JITTER) + 30.0
    kinds = [event.event_type_value for event in failed.result.all_events]
    assert (kinds.count("STEP_FAILURE"), kinds.count("STEP_UP_FOR_RETRY")) == (1, 0)


@pytest.mark.servers
def test_step_that_is_interrupted_while_it_waits_ends_at_once(tmp_path: Path) -> None:
    """Whoever ends a waiting run does not wait with it."""
    checkout = built_checkout().checkout
    waiting = Checkout(
        checkout.root,
        tmp_path / "data",
        env={
            "HF_STORAGE_URI": "s3://nowhere/prod",
            "HF_S3_ENDPOINT": "http://127.0.0.1:9",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        },
    )
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = popen(
            waiting.command("materialise", BARS, "--from", WEEK),
            cwd=waiting.root,
            env=waiting.environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # The second wait is of 16 to 24 s.
    wait_until(lambda: "retry 2 of 3" in log.read_text(), "second wait", timeout_s=120)
    began = time.monotonic()
    os.kill(process.pid, 15)
    process.wait(60)
    assert time.monotonic() - began < 12.0
