"""Study: trials round by round, the same for any number of workers and after any interruption.

Lives here: the loop, when it ends, which trials are given up, and what a study says of itself. Does not live here: proposals (`samplers`),
evaluating a point (`evaluation`), which trial is used (`picking`), where trials run and are kept: both are handed in.

A study goes in rounds of `batch` trials. A round is proposed from the rounds before it alone, in the order of their slots; pruning
looks at earlier rounds alone, too. So neither workers nor the order in which trials end change a bit. A resumed study proposes the
same again and evaluates only the slots that its journal lacks. With a limit of `seconds` no two studies need be equal: how many
rounds fit into it depends on the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.tuning.picking import Pick, front_of, pick_trial
from hf_pipelines.research.tuning.samplers import draw_ahead, propose, require_goals, sampler_of
from hf_pipelines.research.tuning.space import Point, Space
from hf_pipelines.research.tuning.trials import (
    COMPLETED,
    Evaluate,
    Goal,
    Journal,
    MapTrials,
    MemoryJournal,
    Outcome,
    Proposal,
    Task,
    Trial,
    attempt,
    one_by_one,
)

# A median of fewer trials gives up good ones.
PRUNING_STARTUP = 5

# A sampler that learns leaves the median of all trials behind: of 100 trials it then gives up too few to save a third of the folds.
PRUNING_RECENT = 16

# Why a study has ended.
ALL_TRIALS, WHOLE_SPACE, NO_IMPROVEMENT, OUT_OF_TIME = "trials", "whole space", "no improvement", "seconds"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a study ends: whichever comes first, looked at after each round.

    Attributes
    ----------
    trials : int
        Slots, at least 1; pruned, failed and repeated ones are among them.
    no_improvement : int or None
        Trials without a better one.
    seconds : float or None
        Of this process; then the result depends on the machine.
    """

    trials: int
    no_improvement: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check that something is tried."""
        for name in ("trials", "no_improvement", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be above zero, was {value}; leave out `tuning` to tune nothing.")


@dataclass(frozen=True, kw_only=True)
class Design:
    """Everything that decides the result of a study, beside what is evaluated.

    Attributes
    ----------
    space : Space
    goals : tuple of Goal
        One or several objectives.
    budget : Budget
    sampler : str
        A key of `SAMPLERS`.
    batch : int
        Trials of a round: as many can run at once, and so many are proposed without knowing each other's results.
    seed : int
    keeps : float or None
        A trial is given up after a fold where its mean so far is not among the best `keeps` of the last 16 completed trials of earlier
        rounds, after as many folds: 0.5 is the median rule, less gives up more. None prunes nothing; so it must be with several objectives.
    first : tuple of Point
        What is tried before the sampler is asked: a warm start.
    pick : Pick
        Which trial is used.
    """

    space: Space
    goals: tuple[Goal, ...]
    budget: Budget
    sampler: str = "tpe"
    batch: int = 8
    seed: int = 0
    keeps: float | None = None
    first: tuple[Point, ...] = ()
    pick: Pick = Pick()

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        if not self.space.dimensions:
            raise ValueError("`space` must have at least one dimension, was empty; name what may be tried.")
        if not self.goals:
            raise ValueError("`goals` must be at least one objective, was none.")
        if self.batch < 1:
            raise ValueError(f"`batch` must be at least 1, was {self.batch}.")
        if self.keeps is not None and len(self.goals) > 1:
            raise ValueError(
                f"`prune` must be left out with several objectives, was given with {', '.join(each.name for each in self.goals)}: "
                "which of two trials is worse is not known after some folds."
            )
        if self.keeps is not None and not 0 < self.keeps < 1:
            raise ValueError(f"`keeps` must lie between 0 and 1, was {self.keeps}; 0.5 is the median.")
        sampler = sampler_of(self.sampler)
        require_goals(sampler, self.goals)
        if sampler.build is None:
            # Raises for what is not countable.
            next(self.space.points())
        for each in self.first:
            self.space.require(each)

    @property
    def n_trials(self) -> int:
        """Slots at most: a space may have fewer points than the budget has trials."""
        n_points = self.space.n_points
        if n_points is not None and (n_points == 1 or sampler_of(self.sampler).build is None):
            return min(self.budget.trials, n_points + len(self.first) * (n_points > 1))
        return self.budget.trials

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for hashes and journals."""
        return {
            "space": self.space.to_json(),
            "goals": [[each.name, each.is_better_higher] for each in self.goals],
            "budget": [self.budget.trials, self.budget.no_improvement, self.budget.seconds],
            "sampler": self.sampler,
            "batch": self.batch,
            "seed": self.seed,
            "keeps": self.keeps,
            "first": [dict(each) for each in self.first],
            "pick": [self.pick.rule, self.pick.tolerance],
        }


@dataclass(frozen=True)
class Study:
    """A study that has ended.

    Attributes
    ----------
    design : Design
    trials : tuple of Trial
        By slot, without a gap.
    ended_by : str
        "trials", "whole space", "no improvement" or "seconds".
    """

    design: Design
    trials: tuple[Trial, ...]
    ended_by: str

    @property
    def front(self) -> tuple[Trial, ...]:
        """Feasible trials that no other one is better than in every objective, by slot; of one objective the best alone."""
        return front_of(self.trials, self.design.goals)

    @property
    def best(self) -> Trial:
        """The trial to use.

        Raises
        ------
        ValueError
            If none was completed, or none holds the constraints.
        """
        return pick_trial(self.trials, self.design.goals, self.design.pick)

    @property
    def hash(self) -> str:
        """SHA-256 of the design and of everything that trials found, times and what samplers noted apart."""
        kept = [{name: value for name, value in each.to_json().items() if name != "notes"} for each in self.trials]
        text = json.dumps([self.design.to_json(), kept, self.ended_by], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def count(self, state: str) -> int:
        """Trials that ended so."""
        return sum(each.outcome.state == state for each in self.trials)

    def table(self) -> pl.DataFrame:
        """One row a trial.

        Returns
        -------
        DataFrame
            `slot`, `state`, `value_<objective>` (null unless completed), `n_folds` evaluated (null where it has none), `is_feasible`, `is_on_front`, `is_best`,
            `repeats`, `error`, `point` and `scores` as JSON text.
        """
        on_front = {each.slot for each in self.front}
        best = (
            self.best.slot
            if any(each.outcome.state == COMPLETED and each.outcome.is_feasible for each in self.trials)
            else None
        )
        rows = [_row(each, self.design.goals, on_front, best) for each in self.trials]
        return pl.DataFrame(rows, schema=_schema(self.design.goals))


def run_study(
    design: Design,
    evaluate: Evaluate,
    *,
    map_trials: MapTrials = one_by_one,
    journal: Journal | None = None,
    clock: Callable[[], float] | None = None,
    on_round: Callable[[Sequence[Trial]], None] = lambda trials: None,
) -> Study:
    """Run a study, or what is left of it.

    Parameters
    ----------
    design : Design
    evaluate : callable
        `Task -> Outcome`, a pure function; it asks `Task.is_hopeless` after each fold where the design prunes. A ValueError fails
        the trial. It is handed to `map_trials` with all that it holds: what is large should be handed over once a worker.
    map_trials : callable
        Where trials of a round run.
    journal : Journal, optional
        Of this study; whoever opens it makes sure that it belongs to this design and these data.
    clock : callable, optional
        Seconds that only grow; needed for a budget of seconds.
    on_round : callable
        Told all trials after each round.

    Raises
    ------
    ValueError
        If the journal holds another study.
    """
    if design.budget.seconds is not None and clock is None:
        raise ValueError("`clock` must be given for a budget of `seconds`, was missing.")
    kept = MemoryJournal() if journal is None else journal
    known = dict(kept.known())
    began = clock() if clock else 0.0
    trials: list[Trial] = []
    function = partial(attempt, evaluate, len(design.goals))
    sampler, n_trials = sampler_of(design.sampler), design.n_trials
    drawn = draw_ahead(sampler, design.space, seed=design.seed, batch=design.batch, trials=n_trials)
    ended_by = ""
    while not ended_by:
        proposals = propose(
            sampler,
            design.space,
            goals=design.goals,
            seed=design.seed,
            batch=design.batch,
            trials=n_trials,
            earlier=trials,
            first=design.first,
            drawn=drawn,
        )
        trials += _round(design, proposals, trials, known, kept, partial(map_trials, function))
        on_round(trials)
        elapsed = clock() - began if clock else 0.0
        ended_by = _ended(design, trials, elapsed) or ("" if proposals else WHOLE_SPACE)
    return Study(design, tuple(trials), ended_by)


def _round(
    design: Design,
    proposals: Sequence[Proposal],
    earlier: Sequence[Trial],
    known: Mapping[int, Trial],
    journal: Journal,
    run: Callable[[Sequence[Task]], Any],
) -> list[Trial]:
    """The trials of a round, by slot: those that are known, those that are evaluated, and those that repeat another."""
    first_of: dict[str, int] = {}
    for trial in earlier:
        first_of.setdefault(_key(trial.point), trial.slot)
    ended = {trial.slot: trial for trial in earlier}
    limits = _limits(design, earlier)
    tasks, repeated = {}, []
    for each in proposals:
        before = first_of.setdefault(_key(each.point), each.slot)
        if (found := known.get(each.slot)) is not None:
            if _key(found.point) != _key(each.point):
                raise ValueError(
                    f"`journal` must hold this study, was with another point in slot {each.slot}; give the study a journal of its own."
                )
            ended[each.slot] = found
        elif before != each.slot:
            repeated.append((each, before))
        else:
            tasks[each.slot] = Task(each.slot, each.point, limits, design.goals[0].is_better_higher)
    by_slot = {each.slot: each for each in proposals}
    if tasks:
        journal.begin([*tasks.values()])
        for slot, outcome in zip(tasks, run([*tasks.values()]), strict=True):
            ended[slot] = _ended_trial(journal, by_slot[slot], outcome)
    for each, before in repeated:
        ended[each.slot] = _ended_trial(journal, each, ended[before].outcome, repeats=before)
    return [ended[each.slot] for each in proposals]


def _ended_trial(journal: Journal, proposal: Proposal, outcome: Outcome, *, repeats: int | None = None) -> Trial:
    trial = Trial(proposal.slot, proposal.point, outcome, proposal.notes, repeats)
    journal.record(trial)
    return trial


def _limits(design: Design, earlier: Sequence[Trial]) -> tuple[float, ...]:
    """By number of folds the quantile over the last completed trials of the mean of their first folds."""
    completed = [each.outcome.running_means() for each in earlier if each.outcome.state == COMPLETED]
    completed = [each for each in completed if each][-PRUNING_RECENT:]
    if design.keeps is None or len(completed) < PRUNING_STARTUP:
        return ()
    level = 1.0 - design.keeps if design.goals[0].is_better_higher else design.keeps
    # After the last fold there is nothing left to save.
    n_folds = min(map(len, completed)) - 1
    return tuple(float(np.quantile([each[n] for each in completed], level)) for n in range(n_folds))


def _ended(design: Design, trials: Sequence[Trial], elapsed: float) -> str:
    budget = design.budget
    n_points = design.space.n_points
    if n_points is not None and len({_key(each.point) for each in trials}) >= n_points:
        return WHOLE_SPACE
    if len(trials) >= budget.trials:
        return ALL_TRIALS
    if budget.no_improvement is not None and _since_improvement(trials, design.goals) >= budget.no_improvement:
        return NO_IMPROVEMENT
    if budget.seconds is not None and elapsed >= budget.seconds:
        return OUT_OF_TIME
    return ""


def _since_improvement(trials: Sequence[Trial], goals: Sequence[Goal]) -> int:
    """Trials after the last one that joined the front."""
    front = front_of(trials, goals)
    return len(trials) - 1 - max((each.slot for each in front), default=-1)


def _key(point: Point) -> str:
    return json.dumps(point, sort_keys=True)


def _schema(goals: Sequence[Goal]) -> dict[str, Any]:
    return {
        "slot": pl.Int32,
        "state": pl.String,
        **{f"value_{each.name}": pl.Float64 for each in goals},
        "n_folds": pl.Int32,
        "is_feasible": pl.Boolean,
        "is_on_front": pl.Boolean,
        "is_best": pl.Boolean,
        "repeats": pl.Int32,
        "error": pl.String,
        "point": pl.String,
        "scores": pl.String,
    }


def _row(trial: Trial, goals: Sequence[Goal], on_front: set[int], best: int | None) -> dict[str, Any]:
    outcome = trial.outcome
    values = outcome.values or [None] * len(goals)
    scores = {**dict(outcome.scores), **{f"{name}_excess": value for name, value in outcome.excesses}}
    return {
        "slot": trial.slot,
        "state": outcome.state,
        **{f"value_{goal.name}": value for goal, value in zip(goals, values, strict=True)},
        "n_folds": len(outcome.fold_scores) or None,
        "is_feasible": outcome.is_feasible if outcome.state == COMPLETED else None,
        "is_on_front": trial.slot in on_front,
        "is_best": trial.slot == best,
        "repeats": trial.repeats,
        "error": outcome.error,
        "point": json.dumps(trial.point),
        "scores": json.dumps(scores, sort_keys=True),
    }
