"""Splitters: which rows a fold trains on and which it is tested on, no label reaching into its test.

Lives here: the registry of splitters, one module each, and the one way to make one from it. Not here: fitting and scoring
(`cross_validation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_pipelines.research.params import Number, complete_params
from hf_pipelines.research.splitters.purged_kfold import PurgedKFold
from hf_pipelines.research.splitters.purged_walk_forward import PurgedWalkForward
from hf_pipelines.research.splitters.splitter import PathSplitter, Splitter, SplitterKind

__all__ = [
    "DEFAULT_SPLITTER",
    "SPLITTERS",
    "PathSplitter",
    "PurgedKFold",
    "PurgedWalkForward",
    "Splitter",
    "SplitterKind",
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
_MIN_TRAIN = _sessions(60, meaning="sessions that each fold must have to train on")

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
            "embargo_sessions": _EMBARGO,
            "min_train_sessions": _MIN_TRAIN,
        },
        trains_on_later=True,
        summary="every session tested once, by a model of the sessions before and after its block; no walk-forward",
    ),
}
