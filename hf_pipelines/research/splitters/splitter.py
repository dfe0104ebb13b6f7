"""The contract of splitters: what a splitter is, to everything that makes folds.

Lives here: the protocols and the form of a registry entry. Not here: any particular splitter (one module each) or the
registry (`splitters`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np

from hf_pipelines.research.params import Param


class Splitter(Protocol):
    """scikit-learn's `split`, given a training matrix as `X` or its times as `groups`."""

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ascending row numbers of training and test set, fold by fold."""


class PathSplitter(Splitter, Protocol):
    """A splitter whose folds test a row more than once: each time on another path through the data.

    A path holds each row at most once. Folds that are trained on later data and test a row twice must have paths: none of
    them is the latest.
    """

    def paths(self, X: object, y: object = None, groups: object = None) -> Iterator[np.ndarray]:
        """Yield the path of each test row, an int array as long as the test set, folds in the order of `split`."""


def has_paths(splitter: Splitter) -> TypeGuard[PathSplitter]:
    """Whether a splitter says which path each test row belongs to."""
    return hasattr(splitter, "paths")


@dataclass(frozen=True, kw_only=True)
class SplitterKind:
    """One way to make folds.

    Attributes
    ----------
    name : str
        Key in `SPLITTERS`.
    build : callable
        `(**every parameter) -> splitter`, e.g. its class; raises ValueError for parameters that make no sense together.
    params : mapping of str to Param
        Every parameter; the defaults work on 420 sessions.
    trains_on_later : bool
        Whether folds are trained on data after their test rows. Then the account that follows the predictions is no
        walk-forward, and overlapping test blocks need paths.
    summary : str
        The definition, for people.
    """

    name: str
    build: Callable[..., Splitter]
    params: Mapping[str, Param]
    trains_on_later: bool
    summary: str
