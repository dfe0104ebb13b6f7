"""Service: a program that is kept running.

Lives here: what is known of one. Does not live here: starting and watching it (`supervisor`), which there are (`stack`).
"""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STOP_TIMEOUT_S = 10.0


class ServiceFailedError(RuntimeError):
    """A service could not be started, or not be kept alive."""


@dataclass(frozen=True)
class Service:
    """A program that is kept running.

    Attributes
    ----------
    address : str
        Where it answers, for people.
    is_healthy : callable
        Whether it does what it is there for; it is given the time (seconds since 1970) of its start.
    is_serving : callable or None
        Whether it still does, asked again and again once it was healthy. How long a busy one may take is up to it.
    revive : callable or None
        Makes it serve again without a restart, which would end what it has under way; returns whether it serves.
    after : sequence of str
        Services that must be healthy before it is started.
    port : int or None
        Port of 127.0.0.1 that must be free.
    user : str or None
        Account it runs under, None for ours.
    """

    name: str
    command: Sequence[str]
    address: str
    is_healthy: Callable[[float], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    after: Sequence[str] = ()
    port: int | None = None
    user: str | None = None
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    is_serving: Callable[[], bool] | None = None
    revive: Callable[[], bool] | None = None
