"""Samplers: how a study chooses the points to try.

Lives here: `SAMPLERS`, and the proposals of one round. To add one: write its build function, and name it here. Does not live here:
evaluating points, and when a study ends (`study`).

Optuna's own `n_jobs` gives another study for each number of workers, since a sampler then knows whichever trials happen to have ended.
Here a sampler is made anew for each round, seeded by the study's seed and the number of the round, and is told the trials of
earlier rounds in the order of their slots, with the notes that samplers leave on trials of their own. So a round depends on
earlier rounds alone: not on workers, on who ended first, or on what was killed and resumed in between.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_pipelines.research.tuning.space import Categorical, Distribution, Float, Int, Point, Space, Value
from hf_pipelines.research.tuning.trials import COMPLETED, FAILED, PRUNED, Goal, Proposal, Trial

if TYPE_CHECKING:
    import optuna

# Of a first model of the objective: fewer trials than this are drawn at random.
STARTUP = 10


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One way to choose points.

    Attributes
    ----------
    name : str
        Key in `SAMPLERS`.
    build : callable or None
        `(seed, batch) -> Optuna's sampler`; None: every point in its order.
    learns : bool
        Whether it looks at results; else all points of a study are drawn at once.
    most_goals : int
        Objectives that it can follow.
    summary : str
    """

    name: str
    build: Callable[[int, int], optuna.samplers.BaseSampler] | None
    learns: bool
    most_goals: int
    summary: str


def propose(
    sampler: Sampler,
    space: Space,
    *,
    goals: Sequence[Goal],
    seed: int,
    batch: int,
    trials: int,
    earlier: Sequence[Trial],
    first: Sequence[Point] = (),
    drawn: Sequence[Point] = (),
) -> list[Proposal]:
    """Points of the round that follows some trials.

    Parameters
    ----------
    batch : int
        Points of a round.
    trials : int
        Points of the whole study.
    earlier : sequence of Trial
        All of earlier rounds, by slot.
    first : sequence of Point
        What the first slots try, whatever the sampler would.
    drawn : sequence of Point
        Of a sampler that does not learn: from `draw_ahead`.

    Returns
    -------
    list of Proposal
        Fewer than `batch` where the study or its space ends.
    """
    begin = len(earlier)
    slots = range(begin, min(begin + batch, trials))
    given = [Proposal(slot, dict(first[slot])) for slot in slots if slot < len(first)]
    wanted, begin = len(slots) - len(given), begin + len(given)
    if not wanted:
        return given
    if not sampler.learns:
        # Slots that a warm start fills are no draws of the sampler.
        points = drawn[begin - len(first) :][:wanted]
        return given + [Proposal(begin + at, dict(point)) for at, point in enumerate(points)]
    assert sampler.build is not None
    with _quiet() as optuna:
        built = sampler.build(round_seed(seed, len(earlier) // batch), batch)
        study = optuna.create_study(directions=_directions(goals), sampler=built)
        study.add_trials([as_optuna(each, space) for each in earlier])
        asked = [study.ask() for _ in range(wanted)]
        proposed = [space.draw(each) for each in asked]
        noted = study.get_trials(deepcopy=False)
    notes = [json.dumps(noted[each.number].system_attrs, sort_keys=True) for each in asked]
    return given + [
        Proposal(begin + at, point, note) for at, (point, note) in enumerate(zip(proposed, notes, strict=True))
    ]


def draw_ahead(sampler: Sampler, space: Space, *, seed: int, batch: int, trials: int) -> list[dict[str, Value]]:
    """All points of a study whose sampler does not look at results; none of others."""
    if sampler.learns:
        return []
    if sampler.build is None:
        return list(itertools.islice(space.points(), trials))
    with _quiet() as optuna:
        study = optuna.create_study(sampler=sampler.build(round_seed(seed, 0), batch))
        points = []
        for _ in range(trials):
            trial = study.ask()
            points.append(space.draw(trial))
            # Some look whether a trial has ended, none at its value.
            study.tell(trial, 0.0)
        return points


def round_seed(seed: int, number: int) -> int:
    """Seed of the sampler of a round, 32 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "little")


def as_optuna(trial: Trial, space: Space) -> optuna.trial.FrozenTrial:
    """A trial that has ended, as Optuna writes it, with the notes of its sampler."""
    import optuna

    states = {
        COMPLETED: optuna.trial.TrialState.COMPLETE,
        PRUNED: optuna.trial.TrialState.PRUNED,
        FAILED: optuna.trial.TrialState.FAIL,
    }
    outcome = trial.outcome
    is_pruned = outcome.state == PRUNED
    return optuna.trial.create_trial(
        state=states[outcome.state],
        values=list(outcome.values) if outcome.state == COMPLETED else None,
        params=dict(trial.point),
        distributions={
            each.name: optuna_distribution(each.distribution) for each in space.dimensions if each.name in trial.point
        },
        system_attrs=json.loads(trial.notes) if trial.notes else {},
        intermediate_values=dict(enumerate(outcome.running_means())) if is_pruned else None,
        constraints=dict(outcome.excesses) if outcome.excesses and outcome.state == COMPLETED else None,
    )


def optuna_distribution(distribution: Distribution) -> optuna.distributions.BaseDistribution:
    """A dimension's distribution as Optuna writes it."""
    from optuna import distributions

    match distribution:
        case Categorical(choices=choices):
            return distributions.CategoricalDistribution(choices)
        case Int(low=low, high=high, log=log, step=step):
            return distributions.IntDistribution(low, high, log=log, step=step)
        case Float(low=low, high=high, log=log, step=step):
            return distributions.FloatDistribution(low, high, log=log, step=step)


def _directions(goals: Sequence[Goal]) -> list[str]:
    return ["maximize" if each.is_better_higher else "minimize" for each in goals]


@contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna without its line for each study, and without warnings about what is chosen here on purpose."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def _random(seed: int, batch: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _qmc(seed: int, batch: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import QMCSampler, RandomSampler

    return QMCSampler(
        seed=seed,
        scramble=True,
        independent_sampler=RandomSampler(seed=seed),
        warn_asynchronous_seeding=False,
        warn_independent_sampling=False,
    )


def _tpe(seed: int, batch: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import TPESampler

    # Points of a round that are still without a result count as bad ones: else they would lie on top of each other.
    return TPESampler(
        seed=seed,
        n_startup_trials=STARTUP,
        multivariate=True,
        group=True,
        constant_liar=True,
        warn_independent_sampling=False,
    )


def _gp(seed: int, batch: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import GPSampler, RandomSampler

    return GPSampler(
        seed=seed,
        n_startup_trials=STARTUP,
        independent_sampler=RandomSampler(seed=seed),
        deterministic_objective=False,
        warn_independent_sampling=False,
    )


def _cmaes(seed: int, batch: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import CmaEsSampler, RandomSampler

    return CmaEsSampler(
        seed=seed,
        n_startup_trials=STARTUP,
        independent_sampler=RandomSampler(seed=seed),
        warn_independent_sampling=False,
    )


def _nsga2(seed: int, batch: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import NSGAIISampler

    # A generation is a round: its parents have ended.
    return NSGAIISampler(seed=seed, population_size=max(batch, 4))


SAMPLERS: dict[str, Sampler] = {
    each.name: each
    for each in (
        Sampler(name="grid", build=None, learns=False, most_goals=5, summary="every point of a countable space"),
        Sampler(name="random", build=_random, learns=False, most_goals=5, summary="independent draws"),
        Sampler(
            name="qmc",
            build=_qmc,
            learns=False,
            most_goals=5,
            summary="scrambled Sobol sequence: draws that keep apart",
        ),
        Sampler(
            name="tpe", build=_tpe, learns=True, most_goals=5, summary="tree-structured Parzen estimator, multivariate"
        ),
        Sampler(name="gp", build=_gp, learns=True, most_goals=5, summary="Gaussian process; needs torch (extra deep)"),
        Sampler(
            name="cmaes",
            build=_cmaes,
            learns=True,
            most_goals=1,
            summary="covariance matrix adaptation; categorical values are drawn at random",
        ),
        Sampler(
            name="nsga2", build=_nsga2, learns=True, most_goals=5, summary="genetic algorithm for several objectives"
        ),
    )
}
"""Every sampler, by name."""


def sampler_of(name: str) -> Sampler:
    """A sampler by its name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in SAMPLERS:
        raise ValueError(f"`sampler` must be one of {', '.join(sorted(SAMPLERS))}, was {name!r:.40}.")
    return SAMPLERS[name]


def require_goals(sampler: Sampler, goals: Sequence[Goal]) -> None:
    """Refuse a sampler that cannot follow these objectives.

    Raises
    ------
    ValueError
    """
    if len(goals) > sampler.most_goals:
        able = ", ".join(name for name, each in sorted(SAMPLERS.items()) if each.most_goals >= len(goals))
        raise ValueError(
            f"`sampler` must follow {len(goals)} objectives, was {sampler.name!r}, which follows {sampler.most_goals}; take one of {able}."
        )
