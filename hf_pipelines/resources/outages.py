"""Outages: a step that needs a server which does not answer waits and is tried again, a few times.

Lives here: which errors mean that a server is away, how long to wait for it, and asking Dagster for the retry. Does not
live here: the retries within one request (`store_access.RETRY`), and the faults of the data, which no waiting mends.

Dagster concept: RetryRequested. A RetryPolicy would also retry faults of the data, and a run that a user terminates.
The wait is in the step itself: Dagster's own counts by the wall clock, which may jump, and cannot be interrupted.
"""

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from hf_pipelines.resources.dagster_internals import StepExecutionContext
from hf_pipelines.resources.market_data import MarketDataOutageError
from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.resources.storage_errors import StorageOutageError

OUTAGES = (StorageOutageError, TrackingUnavailableError, MarketDataOutageError)

# A restarted server or an outage of a minute heals by itself: even with the shortest jitter these add up to 68 s, and
# the attempts themselves come on top.
WAITS_S = (5.0, 20.0, 60.0)

# Steps that failed together should not come back together.
JITTER = 0.2

# A service may ask to be left alone; longer than this a run does not wait.
LONGEST_WAIT_S = 300.0


@contextmanager
def waiting_out(step: StepExecutionContext) -> Iterator[None]:
    """Wait out an outage and have Dagster execute the step again, at most once for each of WAITS_S.

    Raises
    ------
    RetryRequested
        After the wait.
    StorageOutageError, TrackingUnavailableError, MarketDataOutageError
        When the waits are used up: which server, which key, and the cause.
    """
    try:
        yield
    except OUTAGES as e:
        n_before, reason = step.previous_attempt_count, str(e).rstrip(".")
        if n_before >= len(WAITS_S):
            # Not chained: the causes of a tracking error quote its address with the password.
            raise type(e)(
                f"{reason}; tried {n_before + 1} times. See that it answers, then re-execute this run: what is published is whole."
            ) from None
        wait_s = WAITS_S[n_before] * random.uniform(1 - JITTER, 1 + JITTER)
        wait_s = max(wait_s, min(getattr(e, "retry_after_s", 0.0), LONGEST_WAIT_S))
        message = f"{reason}; waiting {wait_s:.1f} s, then retry {n_before + 1} of {len(WAITS_S)} of {step.step.key}"
        step.log.warning(message)
        # `hfp` shows no run logs: without handlers Python prints this line to stderr.
        logging.getLogger(__name__).warning(message)
        time.sleep(wait_s)
        raise dg.RetryRequested(max_retries=len(WAITS_S)) from e
