"""Side by side: runs that do not need each other, several at a time, each in a process of its own.

Lives here: the processes, what each is given, and the lines of what it made. Does not live here: one run (`making`), the processes
themselves (`resources.fan_out`), which runs wait for which (who asks for them).
"""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import Any

from hf_pipelines.commands.console import ignore_previews, progress
from hf_pipelines.commands.making import Maker, Making
from hf_pipelines.commands.runs import Pipeline, RunFailedError
from hf_pipelines.research.fan_out import FanOut, Lost, Threads
from hf_pipelines.resources import settings
from hf_pipelines.resources.fan_out.faults import Fault, error_of, fault_of
from hf_pipelines.resources.fan_out.opening import Share
from hf_pipelines.resources.fan_out.processes import Processes
from hf_pipelines.resources.machine import cores_given, memory_left
from hf_pipelines.resources.redaction import guard_process

# With more of them the longest run of the demo is what is waited for.
MOST_PROCESSES = 4

# What a process takes that trains a network.
PROCESS_BYTES = 1_500_000_000


@dataclass(frozen=True)
class Made:
    """What a process made of a chain of runs.

    Attributes
    ----------
    lines, warnings : str
        For stdout and stderr.
    seconds : mapping of str to float
        By stage.
    failed : Making or None
        The run that failed, and with which `fault`.
    """

    lines: str
    warnings: str
    seconds: dict[str, float]
    failed: Making | None = None
    fault: Fault | None = None


@cache
def opened_pipeline() -> Pipeline:
    """The pipeline of a process that was started for runs."""
    guard_process()
    ignore_previews()
    # Faults of the project's files were named by the process that started this one.
    return Pipeline.open(tells_faults=False)


@dataclass
class ManyMaker(Maker):
    """A `Maker` whose chains are made by workers: processes, which end with this one however it ends.

    Attributes
    ----------
    workers : FanOut
    opened : callable
        Gives the pipeline of a worker, opened once.
    """

    workers: FanOut = field(default_factory=Threads)
    opened: Callable[[], Pipeline] = opened_pipeline

    def make_all(self, chains: Sequence[Sequence[Making]]) -> None:
        """See `Maker.make_all`; lines come as chains end.

        Raises
        ------
        RunFailedError
            Of the first run that fails, with its assets; the other ones are ended.
        """
        # A process that has nothing to do yet loads the project meanwhile.
        idle: list[Sequence[Making]] = [()] * (self.workers.n_workers - len(chains))
        given = [*map(tuple, chains), *idle]
        with progress("runs side by side", len(chains)) as shown:
            for place, made in self.workers.in_time(self._make_apart, given, None):
                if isinstance(made, Lost):
                    raise RunFailedError(f"{given[place][0].words}: {made.reason}")
                shown.end()
                print(made.lines, end="", flush=True)
                print(made.warnings, end="", file=sys.stderr, flush=True)
                for stage, seconds in made.seconds.items():
                    self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
                if made.fault is not None:
                    raise _named(made)
                if given[place]:
                    shown.advance(given[place][-1].words)

    @property
    def apart(self) -> dict[str, Any]:
        """See `Maker.apart`."""
        return {"workers": self.workers, "opened": self.opened}

    @cached_property
    def _make_apart(self) -> Callable[[Sequence[Making]], Made]:
        # One function for all: it is handed over once.
        return partial(make_apart, self.opened)


@contextmanager
def open_maker(pipeline: Pipeline) -> Iterator[Maker]:
    """A maker with a process for each core, at most four and as many as there is memory for; with one core it is this process."""
    cores = cores_given()
    asked = settings.fan_out_workers() or MOST_PROCESSES
    share = Share.of_cores(cores, asked=max(min(asked, MOST_PROCESSES, memory_left() // PROCESS_BYTES), 1))
    if share.n_workers == 1:
        yield Maker(pipeline)
        return
    with Processes(share.n_workers, share.n_threads, prepare=opened_pipeline) as processes:
        yield ManyMaker(pipeline, workers=processes)


def make_apart(opened: Callable[[], Pipeline], chain: Sequence[Making]) -> Made:
    """Make a chain of runs in this process, one after the other, up to the first that fails."""
    maker, lines, told = Maker(opened()), io.StringIO(), io.StringIO()
    failed: Making | None = None
    fault: Fault | None = None
    with redirect_stdout(lines), redirect_stderr(told):
        for each in chain:
            try:
                maker.make(each)
            except Exception as e:  # noqa: BLE001  It is raised again where the lines are printed.
                failed, fault = each, fault_of(e)
                break
    return Made(lines.getvalue(), told.getvalue(), maker.seconds, failed, fault)


def _named(made: Made) -> BaseException:
    """The error of a run, by its assets where it is one of the run's own."""
    assert made.failed is not None and made.fault is not None
    error = error_of(made.fault)
    if not isinstance(error, RunFailedError):
        return error
    named = RunFailedError(f"{made.failed.words}: {error}")
    named.__cause__ = error
    return named
