"""MLflow's errors: a server or database that cannot be used, as one error without secrets.

Lives here: the error and its words. Does not live here: what is asked of a server (`mlflow_tracking`, `mlflow_runs`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hf_pipelines.resources.redaction import MARK, redacted, secrets_of, shown_address


class TrackingUnavailableError(ConnectionError):
    """The tracking server or database could not be used."""


def unusable(uri: str) -> Callable[[str], str]:
    """Words of a server that cannot be used at all, of a reason."""
    return lambda reason: (
        f"`HF_MLFLOW_URI` must be a tracking server or database that answers, {shown_address(uri)} did not ({reason}); "
        "start it, correct the address or unset it for SQLite."
    )


@contextmanager
def answering(uri: str, message: Callable[[str], str]) -> Iterator[None]:
    """Turn what a server or database that cannot be used raises into one error without secrets."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except TrackingUnavailableError:
        raise
    except (MlflowException, SQLAlchemyError, OSError) as e:
        # Not chained: Dagster stores the whole chain, and the causes quote the address with its password.
        raise TrackingUnavailableError(message(reason_of(e, uri))) from None


def reason_of(error: Exception, uri: str) -> str:
    """The message of an error, without what is secret in an address that need not be that of the environment."""
    text = redacted(str(error).split("\n")[0])
    for secret in secrets_of(uri):
        text = text.replace(secret, MARK)
    return text[:300]
