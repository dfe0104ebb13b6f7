"""Fresh processes: features computed in a process that has computed nothing before.

Lives here: the process and the exchange with it. Does not live here: the features (`research.features`), what is
compared (`components.market_stages.features`).

A function that keeps what it has seen, in its module or anywhere else in its process, may know what came later once it was
called with it. In a process that was only ever given what was known by then, it cannot.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib import import_module
from types import TracebackType
from typing import Any, Self

import polars as pl

from hf_pipelines.resources.child_process import end_child, start_child


class FreshFeatures:
    """`compute_features` in a process of its own, which takes a second or two to start.

    It is replaced by another one as soon as it is asked for a time before the latest that it has seen.

    Parameters
    ----------
    modules : sequence of str
        Modules whose features are registered there.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = tuple(modules)
        self._child: subprocess.Popen[bytes] | None = None
        self._latest: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._child is not None:
            assert self._child.stdin is not None and self._child.stdout is not None
            self._child.stdin.close()
            self._child.stdout.close()
            end_child(self._child)
        self._child, self._latest = None, None

    def __call__(self, bars: pl.DataFrame, names: Iterable[str], **arguments: Any) -> pl.DataFrame:
        """See `compute_features`.

        Raises
        ------
        ValueError
            What it raises there.
        RuntimeError
            If the process ended.
        """
        latest = bars["ts"].max()
        assert latest is None or isinstance(latest, datetime)
        if latest is not None and self._latest is not None and latest < self._latest:
            self.close()
        self._latest = latest or self._latest
        child = self._child = self._child or self._start()
        assert child.stdin is not None and child.stdout is not None
        try:
            pickle.dump((bars, list(names), arguments), child.stdin)
            child.stdin.flush()
            found, fault = pickle.load(child.stdout)
        except (EOFError, OSError) as e:
            code = child.wait()
            self._child = None
            raise RuntimeError(
                f"`modules` ({', '.join(self.modules) or 'none'}) must be computable in a process of their own, it ended "
                f"with status {code}; what it wrote stands above."
            ) from e
        if fault is not None:
            raise ValueError(fault)
        assert isinstance(found, pl.DataFrame)
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        # With all variables: a module may need any of them.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return start_child(__name__, self.modules, environment=os.environ, **pipes)


def main(modules: Sequence[str]) -> None:
    """Compute what is sent, until the input is closed."""
    from hf_pipelines.research.features.registry import compute_features, register

    # What a function prints must not come between what is sent back.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for name in modules:
        register(import_module(name).FEATURES)
    while True:
        try:
            bars, names, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: tuple[pl.DataFrame | None, str | None]
        try:
            answer = compute_features(bars, names, **arguments), None
        except ValueError as e:
            answer = None, str(e)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
