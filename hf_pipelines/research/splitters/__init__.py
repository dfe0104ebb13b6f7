"""Splitters: which rows a fold trains on and which it is tested on, no label reaching into its test.

Lives here: the registry of splitters, one module each, and the one way to make one from it. Not here: fitting and scoring
(`cross_validation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_pipelines.research.params import Choice, Flag, Number, complete_params
from hf_pipelines.research.splitters.combinatorial_purged import CombinatorialPurged
from hf_pipelines.research.splitters.monte_carlo import MonteCarlo
from hf_pipelines.research.splitters.purged_kfold import PurgedKFold
from hf_pipelines.research.splitters.purged_walk_forward import PurgedWalkForward
from hf_pipelines.research.splitters.splitter import PathSplitter, Splitter, SplitterKind
from hf_pipelines.research.splitters.walk_forward import (
    TWO_YEARS_BY_QUARTERS,
    ExpandingWindow,
    RollingWindow,
    TimeSeriesWindows,
    WalkForward,
)

__all__ = [
    "DEFAULT_SPLITTER",
    "SPLITTERS",
    "TWO_YEARS_BY_QUARTERS",
    "CombinatorialPurged",
    "ExpandingWindow",
    "MonteCarlo",
    "PathSplitter",
    "PurgedKFold",
    "PurgedWalkForward",
    "RollingWindow",
    "Splitter",
    "SplitterKind",
    "TimeSeriesWindows",
    "WalkForward",
    "build_splitter",
    "fill_splitter_params",
]

# What a strategy is validated by that names none.
DEFAULT_SPLITTER = "purged_walk_forward"


def build_splitter(name: str, params: Mapping[str, Any] | None = None) -> Splitter:
    """Make a splitter.

    Parameters
    ----------
    name : str
        A key of `SPLITTERS`.
    params : mapping, optional
        Parameters that differ from the defaults.

    Returns
    -------
    Splitter
        With a method `split` that yields row numbers of training and test set.

    Raises
    ------
    ValueError, TypeError
        As `fill_splitter_params`, and for values that make no sense together.
    """
    filled = fill_splitter_params(name, params)
    return SPLITTERS[name].build(**filled)


def fill_splitter_params(name: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every parameter of a splitter: those given, and defaults for the rest.

    Raises
    ------
    ValueError, TypeError
        If the splitter is unknown; as `complete_params`.
    """
    if name not in SPLITTERS:
        raise ValueError(f"`cross_validation` must be one of {sorted(SPLITTERS)}, was {name!r}.")
    return complete_params(name, params, SPLITTERS[name].params)


def _sessions(default: int | None, *, meaning: str) -> Number:
    return Number(default=default, low=1, high=15_000, is_whole=True, is_optional=default is None, meaning=meaning)


_N_SPLITS = Number(default=5, low=1, high=1_000, is_whole=True, meaning="number of test blocks")
_EMBARGO = Number(
    default=1, low=0, high=1_000, is_whole=True, meaning="sessions left out between training and test, beside the purge"
)
# With labels of twenty bars five blocks of 420 sessions leave the first fold 49.
_MIN_TRAIN = _sessions(40, meaning="sessions that each fold must have to train on")

# Of nearly all splitters.
_PURGE = {"embargo_sessions": _EMBARGO, "min_train_sessions": _MIN_TRAIN}

_BY_SHARE = {
    "n_splits": _N_SPLITS,
    "test_share": Number(default=0.1, low=0.0001, high=0.9, meaning="share of all sessions that each test block has"),
    **_PURGE,
}

SPLITTERS: dict[str, SplitterKind] = {
    "purged_walk_forward": SplitterKind(
        name="purged_walk_forward",
        build=PurgedWalkForward,
        params={
            "n_splits": _N_SPLITS,
            "test_sessions": _sessions(None, meaning="sessions of each test block; null: all / (n_splits + 1)"),
            "step_sessions": _sessions(None, meaning="sessions from one test block to the next; null: test_sessions"),
            "min_train_sessions": _MIN_TRAIN,
            "max_train_sessions": _sessions(
                None, meaning="only the last so many sessions of each training set; null: all"
            ),
            "embargo_sessions": _EMBARGO,
        },
        trains_on_later=False,
        summary="blocks in order of time, each predicted by a model of what was known before it",
    ),
    "purged_kfold": SplitterKind(
        name="purged_kfold",
        build=PurgedKFold,
        params={
            "n_splits": Number(default=5, low=2, high=1_000, is_whole=True, meaning="number of test blocks"),
            **_PURGE,
        },
        trains_on_later=True,
        summary="every session tested once, by a model of the sessions before and after its block; no walk-forward",
    ),
    "walk_forward": SplitterKind(
        name="walk_forward",
        build=WalkForward,
        params={
            "train": _sessions(252, meaning="length of what is trained on, in `unit`"),
            "test": _sessions(63, meaning="length of each test block, in `unit`"),
            "step": _sessions(63, meaning="from one test block to the next, in `unit`"),
            "unit": Choice(default="sessions", names=("sessions", "months"), meaning="what the lengths are counted in"),
            "is_anchored": Flag(default=False, meaning="train on everything before the block, not on the last `train`"),
            **_PURGE,
        },
        trains_on_later=False,
        summary="blocks of a given length, each predicted by a model of the period before it; 24, 6 and 3 months as desks do",
    ),
    "expanding_window": SplitterKind(
        name="expanding_window",
        build=ExpandingWindow,
        params=_BY_SHARE,
        trains_on_later=False,
        summary="blocks that are a share of all sessions, each predicted by a model of everything before it",
    ),
    "rolling_window": SplitterKind(
        name="rolling_window",
        build=RollingWindow,
        params=_BY_SHARE,
        trains_on_later=False,
        summary="blocks that are a share of all sessions, each predicted by a model of as many sessions as the first one",
    ),
    "time_series_windows": SplitterKind(
        name="time_series_windows",
        build=TimeSeriesWindows,
        params={
            "initial_train": _sessions(252, meaning="sessions before the first test block"),
            "horizon": _sessions(21, meaning="sessions of each test block"),
            "step": _sessions(None, meaning="sessions from one test block to the next; null: horizon"),
            "max_train": _sessions(None, meaning="only the last so many sessions of each training set; null: all"),
            **_PURGE,
        },
        trains_on_later=False,
        summary="blocks of `horizon` sessions from a first training window on",
    ),
    "monte_carlo": SplitterKind(
        name="monte_carlo",
        build=MonteCarlo,
        params={
            "n_splits": Number(default=10, low=1, high=1_000, is_whole=True, meaning="number of test blocks"),
            "train_sessions": _sessions(189, meaning="sessions that each block is trained on"),
            "test_sessions": _sessions(42, meaning="sessions of each test block"),
            "seed": Number(default=0, low=0, high=2**31 - 1, is_whole=True, meaning="of the places of the blocks"),
            **_PURGE,
        },
        trains_on_later=False,
        summary="blocks at random places, each predicted by a model of the sessions before it (repeated holdout)",
    ),
    "combinatorial_purged": SplitterKind(
        name="combinatorial_purged",
        build=CombinatorialPurged,
        params={
            "n_folds": Number(default=6, low=2, high=30, is_whole=True, meaning="number of blocks"),
            "n_test_folds": Number(default=2, low=1, high=29, is_whole=True, meaning="blocks tested at a time"),
            **_PURGE,
        },
        trains_on_later=True,
        summary="every choice of blocks tested by a model of the others, as paths over all sessions; no walk-forward",
    ),
}
