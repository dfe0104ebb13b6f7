"""Access to a store: its folder on disk, or its bucket through obstore and boto3.

Lives here: opening either with bounded retries, and refusing a service that does not list as S3 does. Does not live here: objects
(`object_store`), addresses and keys of S3 (`s3_access`).
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_pipelines.resources.redaction import shown_address
from hf_pipelines.resources.storage_errors import StorageUnavailableError

# Bounded: an outage fails the step within half a minute, Dagster's own retry comes after that.
RETRY = {
    "max_retries": 4,
    "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5)},
    "retry_timeout": timedelta(seconds=30),
}

# One request that is not answered; the next one is not begun after RETRY's timeout.
REQUEST_TIMEOUT = timedelta(seconds=30)

CONNECT_TIMEOUT = timedelta(seconds=5)


def require_listing(address: str, endpoint: str | None) -> None:
    """Refuse an endpoint that answers a listing with anything else than S3: to the client a page of HTML is an empty list.

    Parameters
    ----------
    address : str
        `s3://bucket/prefix`.

    Raises
    ------
    StorageUnavailableError
        If its answer to a listing is none.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    try:
        page = s3_client(endpoint).list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except (BotoCoreError, ClientError, ResponseParserError) as e:
        raise StorageUnavailableError(
            f"`{address}` must be listed, was refused: {' '.join(str(e).split())[:300]}"
        ) from e
    require_page(page, address)


def require_page(page: Mapping[str, Any], address: str) -> None:
    """Refuse a page of a listing that names no bucket: every S3 service does, a page of HTML does not."""
    if not page.get("Name"):
        raise StorageUnavailableError(
            f"`{address}` must be listed by an S3 service, its endpoint answered with something else; "
            "see HF_S3_ENDPOINT, and what answers there."
        )


# Making a client costs a quarter of a second; one an endpoint and process is enough.
@lru_cache(maxsize=8)
def s3_client(endpoint: str | None) -> Any:
    """A boto3 client for listings, out of the environment."""
    import boto3
    from botocore.config import Config

    from hf_pipelines.resources.s3_access import check_endpoint, require_keys

    check_endpoint(endpoint)
    require_keys()
    config = Config(
        connect_timeout=LISTING_CONNECT_S,
        read_timeout=LISTING_READ_S,
        retries={"mode": "standard", "total_max_attempts": LISTING_ATTEMPTS},
    )
    # The object store reads AWS_REGION, boto3 alone does not.
    return boto3.client("s3", endpoint_url=endpoint, region_name=os.environ.get("AWS_REGION") or None, config=config)


# Opening costs a TLS client; one per root and process is enough.
@lru_cache(maxsize=32)
def open_backend(uri: str, endpoint: str | None) -> Any:
    if uri.startswith("s3://"):
        return _open_s3(uri, endpoint)
    if "://" in uri:
        raise StorageUnavailableError(
            f"`HF_STORAGE_URI` must be a folder or s3://bucket/prefix, was {shown_address(uri)}."
        )
    return _open_local(uri)


def root_folder(uri: str) -> Path:
    try:
        return Path(uri).expanduser().resolve()
    except (RuntimeError, OSError) as e:
        # A link that leads to itself, or a name that no disk takes.
        raise StorageUnavailableError(f"`{uri[:200]}` must be a folder, was not ({str(e)[:200]}).") from e


def _open_local(uri: str) -> Any:
    from obstore.store import LocalStore

    root = root_folder(uri)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StorageUnavailableError(
            f"`HF_STORAGE_URI` must be a folder that can be written, was {uri} ({e.strerror}); "
            "set it to another folder or an s3://bucket/prefix."
        ) from e
    return LocalStore(prefix=str(root), mkdir=True)


def _open_s3(uri: str, endpoint: str | None) -> Any:
    from obstore.store import S3Store

    from hf_pipelines.resources.s3_access import check_bucket_uri, check_endpoint, require_keys

    check_bucket_uri(uri)
    check_endpoint(endpoint)
    require_keys()
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = {"timeout": REQUEST_TIMEOUT, "connect_timeout": CONNECT_TIMEOUT}
    options: dict[str, Any] = {"retry_config": RETRY, "prefix": prefix or None, "client_options": client}
    if endpoint:
        options |= {"endpoint": endpoint, "client_options": {**client, "allow_http": True}}
    return S3Store(bucket, **options)


# Bounded: a tick of a sensor that hangs on a dead endpoint holds up those after it.
LISTING_CONNECT_S, LISTING_READ_S, LISTING_ATTEMPTS = 5, 10, 3
