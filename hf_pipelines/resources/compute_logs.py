"""Compute logs: what runs print, beside the assets: in the bucket where storage is S3, else on disk.

Lives here: the choice between the two by environment, so that one dagster.yaml serves both worlds. Does not live here:
the logs of our services (`serving.stack`), and events, which are in the instance's storage.

Dagster concept: compute log manager. dagster.yaml names this class and holds neither bucket nor key: dagster-aws finds
the keys in the environment. Web server and runs then share no folder.
"""

import logging
import os
from typing import Any

from hf_pipelines.resources import settings
from hf_pipelines.resources.dagster_internals import (
    ComputeLogManager,
    ConfigurableClass,
    ConfigurableClassData,
    LocalComputeLogManager,
)
from hf_pipelines.resources.redaction import redacted
from hf_pipelines.resources.s3_access import check_bucket_uri, check_endpoint, forbid_metadata

# Below the prefix of the assets, which never begin with an underscore.
FOLDER = "_compute_logs"

# A log that cannot be stored must not hold up a run for minutes.
TIMEOUT_S = 10
ATTEMPTS = 3

logger = logging.getLogger(__name__)


class ComputeLogs(ComputeLogManager, ConfigurableClass):
    """dagster-aws' S3 manager where HF_STORAGE_URI is s3://, else Dagster's own below DAGSTER_HOME.

    Named in dagster.yaml; building it returns one of the two.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        folder = str(settings.dagster_home() / "storage")
        uri = settings.storage_uri()
        if not uri.startswith("s3://"):
            return LocalComputeLogManager(folder, inst_data=inst_data)
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        return _s3(bucket, "/".join(filter(None, [prefix.strip("/"), FOLDER])), folder, inst_data)


def _s3(bucket: str, prefix: str, folder: str, inst_data: ConfigurableClassData | None) -> Any:
    # dagster-aws takes half a second to import.
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

    class BoundedS3ComputeLogManager(S3ComputeLogManager):
        """A failed upload is logged by the process; the run goes on."""

        def upload_to_cloud_storage(self, log_key: Any, io_type: Any, partial: bool = False) -> None:
            try:
                super().upload_to_cloud_storage(log_key, io_type, partial)
            except (Boto3Error, BotoCoreError, ClientError) as e:
                message = f"the log {'/'.join(log_key)} could not be stored in s3://{bucket}/{prefix}: {e}"
                logger.warning(redacted(message))

    forbid_metadata()
    endpoint = check_endpoint(settings.s3_endpoint())
    check_bucket_uri(f"s3://{bucket}/{prefix}")
    # boto3 knows the other name of AWS_REGION only.
    region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or None
    manager = BoundedS3ComputeLogManager(
        bucket, local_dir=folder, inst_data=inst_data, prefix=prefix, endpoint_url=endpoint, region=region
    )
    manager._s3_session = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        config=Config(
            connect_timeout=TIMEOUT_S,
            read_timeout=TIMEOUT_S,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        ),
    )
    return manager
