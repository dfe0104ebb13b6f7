"""Candidates: what a leaderboard compares, by hand or chosen by task, rows and missing values.

Lives here: a candidate, presets of learners, the list that `auto` chooses from. To add a candidate to `auto`: a line in `AUTO`. Does not
live here: fitting one (`evaluating`), the YAML (`components.leaderboard_fields`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hf_pipelines.research.learners import LearnerChoice, choose_learner
from hf_pipelines.research.targets import Target

# What a target is to a choice of candidates: of a ranking the order of the symbols in a session counts alone.
Kind: TypeAlias = Literal["classification", "regression", "ranking"]

RANKING_TARGETS = frozenset({"rank", "excess_return"})

DEFAULT = "default"

# Parameters by learner and name of the preset; `default` is every learner's, and changes nothing.
PRESETS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "ridge": {"strong": {"alpha": 1_000.0}},
    "lasso": {"strong": {"alpha": 0.05}},
    "logistic": {"strong": {"C": 0.001}},
    "xgboost": {
        "shallow": {"max_depth": 3, "n_estimators": 200},
        "deep": {"max_depth": 8, "n_estimators": 400, "learning_rate": 0.03},
    },
    "lightgbm": {
        "small": {"num_leaves": 7, "min_child_samples": 100, "learning_rate": 0.03},
        "deep": {"num_leaves": 63, "learning_rate": 0.03},
    },
    "hist_gradient_boosting": {"small": {"max_leaf_nodes": 7, "min_samples_leaf": 100, "learning_rate": 0.03}},
    "random_forest": {"small": {"n_estimators": 100, "max_depth": 6, "min_samples_leaf": 100}},
    "extra_trees": {"small": {"n_estimators": 100, "max_depth": 6, "min_samples_leaf": 100}},
    "nearest_neighbours": {"wide": {"n_neighbors": 200}},
}

_CLASSES, _VALUES, _ORDER = "classification", "regression", "ranking"
_ALL = frozenset({_CLASSES, _VALUES, _ORDER})
_NUMBERS = frozenset({_VALUES, _ORDER})


@dataclass(frozen=True)
class Candidate:
    """A configuration that is compared.

    Attributes
    ----------
    name : str
        Tells it apart, such as `xgboost shallow`.
    learner : LearnerChoice
    target : Target or None
        Another one than the strategy's.
    is_tuned : bool
        Whether its parameters are chosen anew on the training rows of each outer fold.
    """

    name: str
    learner: LearnerChoice
    target: Target | None = None
    is_tuned: bool = False


@dataclass(frozen=True)
class AutoCandidate:
    """A line of `AUTO`.

    Attributes
    ----------
    learner, preset : str
        A key of `LEARNERS`, and one of its presets.
    kinds : frozenset of str
        Targets that it is chosen for.
    preprocessing : tuple of str
        Keys of `PREPROCESSING`; `imputation` comes before them where features are missing and the learner takes none.
    most_rows : int or None
        It is left out of larger matrices, where it takes too long.
    least_rows : int
        And of smaller ones, whose folds have too few rows for it.
    """

    learner: str
    preset: str = DEFAULT
    kinds: frozenset[str] = _ALL
    preprocessing: tuple[str, ...] = ()
    most_rows: int | None = None
    least_rows: int = 0


# In the order in which they run: what is cheap first, so that a deadline leaves out what is dear.
AUTO: tuple[AutoCandidate, ...] = (
    AutoCandidate("ridge", kinds=_NUMBERS),
    AutoCandidate("ridge", "strong", kinds=_NUMBERS),
    AutoCandidate("ridge", kinds=frozenset({_ORDER}), preprocessing=("cross_sectional_rank",)),
    AutoCandidate("ridge", kinds=_NUMBERS, preprocessing=("winsorising",)),
    AutoCandidate("elastic_net", kinds=_NUMBERS),
    AutoCandidate("huber", kinds=frozenset({_VALUES})),
    AutoCandidate("logistic", kinds=frozenset({_CLASSES})),
    AutoCandidate("logistic", "strong", kinds=frozenset({_CLASSES})),
    AutoCandidate("logistic", kinds=frozenset({_CLASSES}), preprocessing=("winsorising",)),
    AutoCandidate("hist_gradient_boosting", "small"),
    AutoCandidate("hist_gradient_boosting"),
    AutoCandidate("extra_trees", "small"),
    AutoCandidate("random_forest", "small"),
    AutoCandidate("lightgbm", "small"),
    AutoCandidate("xgboost", "shallow"),
    AutoCandidate("lightgbm"),
    AutoCandidate("lightgbm", kinds=frozenset({_ORDER}), preprocessing=("cross_sectional_rank",)),
    AutoCandidate("xgboost"),
    AutoCandidate(
        "nearest_neighbours", "wide", preprocessing=("standard_scaling",), most_rows=50_000, least_rows=4_000
    ),
    AutoCandidate("random_forest", most_rows=200_000),
    AutoCandidate("extra_trees", most_rows=200_000),
)


def kind_of_target(target: Target) -> Kind:
    """What a target is to the choice of candidates."""
    if target.is_classification:
        return "classification"
    return "ranking" if target.name in RANKING_TARGETS else "regression"


def target_key(target: Target) -> str:
    """What tells targets apart.

    Examples
    --------
    >>> from hf_pipelines.research.targets import build_target
    >>> target_key(build_target("rank", horizon_bars=5))
    'rank {"horizon_bars": 5}'
    """
    return f"{target.name} {json.dumps(dict(target.params), sort_keys=True, default=str)}"


def preset_params(learner: str, preset: str) -> Mapping[str, Any]:
    """Parameters of a preset of a learner.

    Raises
    ------
    ValueError
        If the learner has none of this name.
    """
    if preset == DEFAULT:
        return {}
    known = PRESETS.get(learner, {})
    if preset not in known:
        raise ValueError(
            f"`preset` of {learner!r} must be one of {', '.join((DEFAULT, *known))}, was {preset[:40]!r}; or write `params`."
        )
    return known[preset]


def auto_candidates(
    target: Target,
    *,
    n_rows: int | None,
    has_missing: bool,
    can_run: Callable[[LearnerChoice], bool] = lambda choice: True,
) -> list[Candidate]:
    """The candidates that `auto` compares.

    Parameters
    ----------
    target : Target
        With one label a row.
    n_rows : int or None
        Of the training matrix; None: all that there may be.
    has_missing : bool
        Whether rows with unknown features are kept.
    can_run : callable
        Whether a learner can be used here: its library may not be installed.

    Raises
    ------
    ValueError
        If the target has several labels a row, which few learners take.
    """
    if target.horizons:
        raise ValueError(
            f"`candidates` must be listed for target {target.name!r}, whose rows have several labels, was auto; write learners with "
            "the output horizons."
        )
    kind = kind_of_target(target)
    return [
        each
        for line in AUTO
        if kind in line.kinds
        and (n_rows is None or line.least_rows <= n_rows)
        and (n_rows is None or line.most_rows is None or n_rows <= line.most_rows)
        for each in _of_line(line, has_missing=has_missing)
        if can_run(each.learner)
    ]


def _of_line(line: AutoCandidate, *, has_missing: bool) -> Iterator[Candidate]:
    params = preset_params(line.learner, line.preset)
    choice = choose_learner(line.learner, params, preprocessing=line.preprocessing)
    if has_missing and not choice.handles_missing:
        choice = choose_learner(line.learner, params, preprocessing=("imputation", *line.preprocessing))
    yield Candidate(candidate_name(line.learner, line.preset, line.preprocessing), choice)


def candidate_name(
    learner: str,
    preset: str = DEFAULT,
    preprocessing: Sequence[str] = (),
    *,
    target: str = "",
    is_tuned: bool = False,
) -> str:
    """A name that tells a candidate apart.

    Examples
    --------
    >>> candidate_name("xgboost", "shallow", ["winsorising"], is_tuned=True)
    'xgboost shallow, winsorising, tuned'
    """
    parts = [learner if preset == DEFAULT else f"{learner} {preset}", *preprocessing]
    return ", ".join([*parts, *([f"target {target}"] if target else []), *(["tuned"] if is_tuned else [])])


def require_distinct(candidates: Sequence[Candidate]) -> None:
    """Refuse no candidates, and two of one name.

    Raises
    ------
    ValueError
    """
    if not candidates:
        raise ValueError("`candidates` must hold at least one, was empty; write auto, or leave `leaderboard` out.")
    names = [each.name for each in candidates]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise ValueError(f"`candidates` must differ, were twice: {'; '.join(twice[:5])}; give one of them a `name`.")
