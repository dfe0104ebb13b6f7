"""S3 access: what the environment must hold before a bucket is used, for every client of one.

Lives here: addresses that hold no secret, keys that are there, and never asking the cloud's metadata address without
being asked to. Does not live here: the clients (`object_store`, `s3_client`, `compute_logs`, `market_data.landing`).

Without keys the libraries ask http://169.254.169.254 for those of the machine's role. On a laptop that address is
whoever answers there, and whoever does is handed requests that it can answer with keys of its own.
"""

import os
import re

from hf_pipelines.resources.storage_errors import StorageUnavailableError

# What says where keys come from, besides the keys themselves: all of its names, set together.
OTHER_KEYS = (
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
    ("AWS_SKIP_SIGNATURE",),
)
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

BUCKET_URI = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]*(/[^@?#\s]*)?")
ENDPOINT = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?/?[^@?#\s]*")


def uses_machine_role() -> bool:
    """Whether the metadata address may be asked for the keys of the machine's role."""
    given = os.environ.get("HF_S3_MACHINE_ROLE") or "0"
    if given not in ("0", "1"):
        raise ValueError(f"`HF_S3_MACHINE_ROLE` must be 0 or 1, was {given[:20]!r}.")
    return given == "1"


def forbid_metadata() -> None:
    """Keep boto3, wherever a library uses it in this process, from the metadata address unless it is allowed."""
    if not uses_machine_role():
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def check_bucket_uri(uri: str, name: str = "HF_STORAGE_URI") -> str:
    """Refuse an address of a bucket that holds more than bucket and prefix.

    Raises
    ------
    StorageUnavailableError
        Without its value: it may hold a secret.
    """
    if not BUCKET_URI.fullmatch(uri):
        raise StorageUnavailableError(
            f"`{name}` must be s3://bucket/prefix without user, password or query, was something else; "
            "keys belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    return uri


def check_endpoint(endpoint: str | None) -> str | None:
    """Refuse an endpoint that holds more than scheme, host, port and path.

    Raises
    ------
    StorageUnavailableError
        Without its value: it may hold a secret.
    """
    if endpoint is not None and not ENDPOINT.fullmatch(endpoint):
        raise StorageUnavailableError(
            "`HF_S3_ENDPOINT` must be like http://host:port without user, password or query, was something else; "
            "keys belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    return endpoint


def require_keys() -> None:
    """Refuse to ask a bucket for which no keys are there, and keep libraries from looking for some.

    Raises
    ------
    StorageUnavailableError
    """
    forbid_metadata()
    ways = (KEYS, *OTHER_KEYS)
    if not uses_machine_role() and not any(all(os.environ.get(name) for name in way) for way in ways):
        raise StorageUnavailableError(
            "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` must be set for a bucket, were not; set them, or "
            "HF_S3_MACHINE_ROLE=1 where the machine has a role of its own (its keys are asked for at the cloud's "
            "metadata address), or AWS_SKIP_SIGNATURE=true for a public bucket."
        )
