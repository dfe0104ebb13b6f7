"""Learners, splitters and preprocessing of the registries in small sizes, for tables over all of them.

Lives here: what an entry cannot do without, and sizes of what costs time, by the names that entries share: a new entry joins by
itself. Not here: what is done with them (`learner_noise`, `learner_signals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from hf_pipelines.research.learners import LEARNERS, PREPROCESSING, LearnerChoice, Task, choose_learner
from hf_pipelines.research.params import Number
from hf_pipelines.research.splitters import SPLITTERS, Splitter, build_splitter
from hf_pipelines.research.targets import Target, build_target

# Of trees, of networks, of ensembles.
SMALL: dict[str, Any] = {
    **{"n_estimators": 20, "num_leaves": 7, "max_depth": 4, "depth": 3, "learning_rate": 0.1},
    **{"early_stopping_rounds": 5, "min_samples_leaf": 20, "n_neighbors": 20},
    **{"window": 3, "hidden": 4, "heads": 2, "epochs": 2, "n_splits": 2},
    **{"history_bars": 8, "minimum_bars": 20, "order": [1, 0]},
}
# A learning rate of trees is none of networks.
_NETWORK_SIGN = "epochs"
# Columns that stay, of six to eight.
STEP_SIZES: dict[str, Any] = {"k": 3, "most_rows": 1_000, "n_quantiles": 100}
# For panels of 160 sessions.
SPLITTER_SIZES: dict[str, Any] = {
    **{"n_splits": 2, "test_sessions": 25, "test_share": 0.15, "embargo_sessions": 1, "min_train_sessions": 20},
    **{"train": 70, "test": 30, "step": 30, "initial_train": 80, "horizon": 30, "train_sessions": 70},
    **{"n_folds": 4, "n_test_folds": 1},
}

FEATURE = "feature_0"


def learner_levels() -> list[tuple[str, Task]]:
    """Every entry of the registry with each of its tasks."""
    return [(name, task) for name, entry in sorted(LEARNERS.items()) for task in sorted(entry.tasks)]


def costly_learners() -> set[str]:
    """Networks, and models of each symbol's series: one costs as much as all others together, with its library."""
    return {name for name, entry in LEARNERS.items() if _NETWORK_SIGN in entry.params or entry.is_divided}


def sized_learner(
    name: str, target: Target, *, sizes: Mapping[str, Any] = SMALL, step: str | None = None
) -> LearnerChoice:
    """An entry with sizes where it has parameters of these names, and with members and a feature where it needs them."""
    given = _sized(name, sizes)
    spec = LEARNERS[name].params
    linear = "logistic" if target.is_classification else "ridge"
    trees = {"type": "lightgbm", "params": _sized("lightgbm", sizes)}
    needed = {"members": [linear, trees], "final": linear, "feature": FEATURE, "horizon_bars": target.horizon_bars}
    given |= {each: value for each, value in needed.items() if each in spec}
    preprocessing = [] if step is None else [{"type": step, "params": step_params(step)}]
    return choose_learner(name, given, preprocessing=preprocessing)


def target_of(name: str, task: Task, *, horizon_bars: int) -> Target:
    """The first of a few targets that an entry stands for: most take any.

    Raises
    ------
    ValueError
        If it takes none of them: another target must join them.
    """
    kinds = ("direction",) if task == "classification" else ("forward_return", "realised_volatility")
    for kind in kinds:
        target = build_target(kind, horizon_bars=horizon_bars)
        if _takes(sized_learner(name, target), target):
            return target
    raise ValueError(f"`{name}` must take one of the targets {', '.join(kinds)}, was for none of them.")


def step_params(step: str) -> dict[str, Any]:
    """Sizes of a step where it has parameters of these names."""
    return {name: value for name, value in STEP_SIZES.items() if name in PREPROCESSING[step].params}


def sized_splitter(name: str) -> Splitter:
    """A splitter for panels of 160 sessions."""
    spec = SPLITTERS[name].params
    return build_splitter(name, {each: value for each, value in SPLITTER_SIZES.items() if each in spec})


@cache
def fits_behind(name: str, task: Task, step: str | None) -> bool:
    """Whether a learner can stand behind a step.

    One that reads a feature by its name needs that the feature stays, and one that forecasts a series its units.
    """
    if step is None:
        return True
    if "feature" in LEARNERS[name].params and not PREPROCESSING[step].keeps_columns:
        return False
    target = target_of(name, task, horizon_bars=1)
    return _takes(sized_learner(name, target, step=step), target)


def _takes(choice: LearnerChoice, target: Target) -> bool:
    try:
        choice.require_target(target)
    except ValueError:
        return False
    return True


def _sized(name: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    spec = LEARNERS[name].params
    given = {each: value for each, value in sizes.items() if each in spec}
    if _NETWORK_SIGN in spec:
        given.pop("learning_rate", None)
    # Not beyond what an entry takes.
    return {
        each: min(max(value, param.low), param.high) if isinstance(param := spec[each], Number) else value
        for each, value in given.items()
    }
