"""Fixtures of the storage tests: a store on disk, a real S3 endpoint over HTTP, a disk that is nearly full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore

BUCKET = "hf-test"
SMALL_DISK_BYTES = 256 * 1024


@pytest.fixture
def store(tmp_path: Path) -> PartitionStore:
    return PartitionStore(ObjectStore(str(tmp_path / "store")))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of moto's S3 server, with one bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as environment:
        for name, value in credentials.items():
            environment.setenv(name, value)
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
        yield endpoint
    server.stop()


@pytest.fixture
def s3_store(s3_endpoint: str, tmp_path: Path) -> PartitionStore:
    """A store below a prefix of its own."""
    return PartitionStore(ObjectStore(f"s3://{BUCKET}/{tmp_path.name}", s3_endpoint))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"this machine does not let root mount: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
