"""Trials: what a study asks to be evaluated, and what comes back.

Lives here: proposals, tasks, outcomes and trials, as plain values that can be sent to another process and stored. Does not live here: how
points are chosen (`samplers`), evaluating one (`evaluation`), the loop (`study`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from hf_pipelines.research.learners import Progress
from hf_pipelines.research.tuning.space import Point

State: TypeAlias = Literal["completed", "pruned", "failed"]
COMPLETED: State = "completed"
PRUNED: State = "pruned"
FAILED: State = "failed"


@dataclass(frozen=True)
class Goal:
    """One objective of a study: its name and which way it runs."""

    name: str
    is_better_higher: bool

    def is_better(self, one: float, other: float) -> bool:
        """Whether a value is better than another one."""
        return one > other if self.is_better_higher else one < other


@dataclass(frozen=True)
class Proposal:
    """A point that a sampler proposes for a slot; `notes`: what the sampler wrote on the trial, JSON."""

    slot: int
    point: dict[str, Any]
    notes: str = ""


@dataclass(frozen=True)
class Task:
    """A point to evaluate, and when to give it up.

    Attributes
    ----------
    slot : int
        Its number in the study: who evaluates the same slot again evaluates the same point.
    point : mapping
    limits : tuple of float
        By folds evaluated so far: the mean score at which to stop if it is worse; empty, or NaN where there is none.
    is_better_higher : bool
        Of the scores that the limits are compared with.
    """

    slot: int
    point: Point
    limits: tuple[float, ...] = ()
    is_better_higher: bool = True

    def is_hopeless(self, fold_scores: Sequence[float]) -> bool:
        """Whether to stop after some folds: their mean is worse than the limit for as many folds."""
        if not 0 < len(fold_scores) <= len(self.limits):
            return False
        limit = self.limits[len(fold_scores) - 1]
        mean = sum(fold_scores) / len(fold_scores)
        return mean < limit if self.is_better_higher else mean > limit


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes
    ----------
    state : {"completed", "pruned", "failed"}
    values : tuple of float
        One for each objective of the study; empty unless completed.
    fold_scores : tuple of float
        The first objective by fold, of the folds that were evaluated; empty where it has no folds.
    excesses : tuple of (str, float)
        By constraint how far it is violated; at most 0 where it holds.
    scores : tuple of (str, float)
        What else was measured.
    error : str
        Why it failed.
    """

    state: State
    values: tuple[float, ...] = ()
    fold_scores: tuple[float, ...] = ()
    excesses: tuple[tuple[str, float], ...] = ()
    scores: tuple[tuple[str, float], ...] = ()
    error: str = ""

    @property
    def is_feasible(self) -> bool:
        """Whether every constraint holds."""
        return all(each <= 0 for _, each in self.excesses)

    def running_means(self) -> tuple[float, ...]:
        """Mean of the scores of the first fold, of the first two, and so on."""
        return tuple(sum(self.fold_scores[:n]) / n for n in range(1, len(self.fold_scores) + 1))

    def to_json(self) -> dict[str, Any]:
        """As `Outcome.from_json` takes it back, to the bit."""
        return asdict(self)

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> Outcome:
        return Outcome(
            state=given["state"],
            values=tuple(given["values"]),
            fold_scores=tuple(given["fold_scores"]),
            excesses=tuple((str(name), value) for name, value in given["excesses"]),
            scores=tuple((str(name), value) for name, value in given["scores"]),
            error=given["error"],
        )


@dataclass(frozen=True)
class Trial:
    """A slot of a study that has ended.

    Attributes
    ----------
    slot : int
    point : mapping
    outcome : Outcome
    notes : str
        What the sampler wrote on it, JSON.
    repeats : int or None
        An earlier slot with the same point, whose outcome it is: nothing was evaluated.
    """

    slot: int
    point: dict[str, Any]
    outcome: Outcome
    notes: str = ""
    repeats: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As `Trial.from_json` takes it back, to the bit."""
        return {
            "slot": self.slot,
            "point": dict(self.point),
            "outcome": self.outcome.to_json(),
            "notes": self.notes,
            "repeats": self.repeats,
        }

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> Trial:
        return Trial(
            slot=given["slot"],
            point=dict(given["point"]),
            outcome=Outcome.from_json(given["outcome"]),
            notes=given["notes"],
            repeats=given["repeats"],
        )


Evaluate: TypeAlias = Callable[[Task], Outcome]

MapTrials: TypeAlias = Callable[[Evaluate, Sequence[Task]], Iterable[Outcome]]
"""Calls the function for each task and gives the outcomes in the order of the tasks, wherever it runs them."""


def one_by_one(evaluate: Evaluate, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Evaluate tasks in this thread: what every other way to map must agree with, to the bit."""
    return (evaluate(task) for task in tasks)


class Journal(Protocol):
    """Where a study keeps what it has done, so that who resumes it repeats nothing that has ended."""

    def known(self) -> Mapping[int, Trial]:
        """Trials that have ended, by slot."""

    def begin(self, tasks: Sequence[Task]) -> None:
        """Note that slots are about to be evaluated, before any of them is."""

    def record(self, trial: Trial) -> None:
        """Keep a trial that has ended, before its result is used."""


@dataclass
class MemoryJournal:
    """Keeps trials as long as the process lives."""

    trials: dict[int, Trial] = field(default_factory=dict)
    begun: list[int] = field(default_factory=list)

    def known(self) -> Mapping[int, Trial]:
        return dict(self.trials)

    def begin(self, tasks: Sequence[Task]) -> None:
        self.begun += [task.slot for task in tasks]

    def record(self, trial: Trial) -> None:
        self.trials[trial.slot] = trial


@dataclass(frozen=True)
class KeptJournal:
    """Keeps each trial where long fits keep their state: it outlives the process, and on a remote store the machine.

    Parameters
    ----------
    progress : Progress
        Of this design on these data: the state of another study has another name there.
    n_slots : int
        Slots of the study at most.
    batch : int
        Slots of a round.
    """

    progress: Progress
    n_slots: int
    batch: int

    def known(self) -> Mapping[int, Trial]:
        found: dict[int, Trial] = {}
        for begin in range(0, self.n_slots, self.batch):
            # A round is begun when the one before it has ended: after one without any there are none.
            kept = {
                slot: self.progress.restore(_slot_name(slot))
                for slot in range(begin, min(begin + self.batch, self.n_slots))
            }
            found |= {slot: Trial.from_json(json.loads(each)) for slot, each in kept.items() if each is not None}
            if not any(each is not None for each in kept.values()):
                break
        return found

    def begin(self, tasks: Sequence[Task]) -> None:
        """Nothing is kept of what has not ended: it is evaluated again."""

    def record(self, trial: Trial) -> None:
        self.progress.keep(_slot_name(trial.slot), json.dumps(trial.to_json(), allow_nan=False).encode())


def _slot_name(slot: int) -> str:
    return f"slot {slot}"


def attempt(evaluate: Evaluate, n_goals: int, task: Task) -> Outcome:
    """Evaluate a task: a configuration that cannot be fitted or scored is a failed trial, and the study goes on.

    What is no fault of the configuration, such as a store that does not answer, is raised.
    """
    try:
        outcome = evaluate(task)
    except ValueError as e:
        return Outcome(FAILED, error=str(e) or type(e).__name__)
    if outcome.state != COMPLETED:
        return outcome
    numbers = [*outcome.values, *(value for _, value in outcome.excesses)]
    if len(outcome.values) != n_goals:
        raise TypeError(f"`values` of a trial must be one for each of {n_goals} objectives, was {len(outcome.values)}.")
    if not all(math.isfinite(each) for each in numbers):
        told = ", ".join(f"{each:g}" for each in numbers)
        return Outcome(FAILED, scores=outcome.scores, error=f"the score is not a finite number ({told})")
    return outcome
