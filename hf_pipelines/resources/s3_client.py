"""S3 client: dagster-aws' client of the object store, for sensors that list a bucket.

Lives here: where its keys come from. Does not live here: reading and publishing assets
(`object_store`), the client itself (dagster-aws, boto3).

Dagster concept: resource with `EnvVar`. Pages and events show the names of variables, never what they hold.
"""

import os
from typing import Any

import dagster as dg

from hf_pipelines.resources.s3_access import check_endpoint, forbid_metadata

# Instead of boto3's five: a sensor's tick fails soon.
MAX_ATTEMPTS = 3


class S3Client(dg.ConfigurableResource[Any]):
    """dagster-aws' S3Resource, imported when it is used: that takes half a second, which loading the code should not.

    Parameters
    ----------
    endpoint_url, region_name, aws_access_key_id, aws_secret_access_key, aws_session_token : str or None
        As those of S3Resource. Without keys boto3 asks the machine for its role, where HF_S3_MACHINE_ROLE allows it.
    """

    endpoint_url: str | None = None
    region_name: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    aws_session_token: str | None = None

    def get_client(self) -> Any:
        """A boto3 client."""
        from dagster_aws.s3 import S3Resource

        given = {name: getattr(self, name) for name in type(self).model_fields}
        check_endpoint(self.endpoint_url)
        forbid_metadata()
        return S3Resource(max_attempts=MAX_ATTEMPTS, **given).get_client()

    @staticmethod
    def from_environment() -> "S3Client":
        """The client that the environment describes; nothing is asked of it where no bucket is configured."""
        # boto3 knows the first name, obstore both.
        region = "AWS_DEFAULT_REGION" if os.environ.get("AWS_DEFAULT_REGION") else "AWS_REGION"
        return S3Client(
            endpoint_url=if_set("HF_S3_ENDPOINT"),
            region_name=if_set(region),
            aws_access_key_id=if_set("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=if_set("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=if_set("AWS_SESSION_TOKEN"),
        )


def if_set(name: str) -> dg.EnvVar | None:
    """A variable by its name; None where it is not set."""
    return dg.EnvVar(name) if os.environ.get(name) else None
