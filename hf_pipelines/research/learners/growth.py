"""Growth: what a library of boosted trees is given, and what it gives back.

Lives here: the dataclasses. Does not live here: what all boosters share (`boosting`), how a library grows its trees (a module
each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hf_pipelines.research.learners.attribution import Attribution

# A line through these shows a fit as well as all.
NOTED_ROUNDS = 10

# Features of rows, batch after batch, at every call anew.
Batches: TypeAlias = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows as a library takes them; categories are codes 0, 1, ... or NaN.

    Attributes
    ----------
    features : ndarray of shape (n_rows, n_features), float32; or Batches
    y, weight : ndarray of shape (n_rows,), float64
    """

    features: np.ndarray | Batches
    y: np.ndarray
    weight: np.ndarray

    @property
    def X(self) -> np.ndarray:  # noqa: N802
        """Features of all rows at once."""
        return self.features if isinstance(self.features, np.ndarray) else np.concatenate([*self.features()])


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One model to grow.

    Attributes
    ----------
    params : mapping
        The library's own parameters.
    train, validation : Data
        Training stops when the loss on `validation` has not become smaller for `patience` rounds; the best round is kept.
    patience : int
    n_classes : int
        0: regression.
    quantile : float or None
        The quantile of `y` that is predicted; None: the mean.
    n_features : int
    categories : tuple of int
        Columns of `X` that are categories, ascending.
    device : {"cpu", "cuda"}
    seed, n_threads : int
    shares_bins : bool
        Whether other models will be grown of the same bins.
    log : callable
        `(rounds, loss on the validation rows)` while trees grow.
    """

    params: Mapping[str, Any]
    train: Data
    validation: Data
    patience: int
    n_classes: int
    quantile: float | None
    n_features: int
    categories: tuple[int, ...]
    device: str
    seed: int
    n_threads: int
    shares_bins: bool = False
    log: Callable[[int, float], None] = lambda rounds, loss: None

    def note(self, rounds: int, loss: float) -> None:
        """Log the loss after so many rounds, of the first and of every tenth."""
        if rounds == 1 or rounds % NOTED_ROUNDS == 0:
            self.log(rounds, loss)


@dataclass(frozen=True, kw_only=True)
class Grown:
    """A grown model, cut after its best round.

    Attributes
    ----------
    model : the library's own
    rounds : int
        Rounds that were kept.
    loss : float
        Of the validation rows after the round that was kept.
    """

    model: Any
    rounds: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Library:
    """How one library grows, asks and stores a model; everything else is shared.

    Attributes
    ----------
    extension : str
        File name extension of a model.
    grow : callable
        `(Growth, bins) -> Grown`; the same bits for the same growth, on any number of threads, of new bins and of used ones.
    bin : callable, optional
        `Growth -> bins`: training and validation rows as `grow` takes them. Left out: `grow` makes its own, and gets None.
    binned_by : callable, optional
        `Growth -> JSON values`: all that bins depend on beside the rows; with `bin`.
    predict : callable
        `(model, X, categories, n_threads) -> (n_rows,)` of a regression, `(n_rows, n_classes)` of classes.
    gains : callable
        `(model, categories) -> (n_features,)`: how much each column is used.
    contributions : callable, optional
        `(model, X, categories, n_threads) -> Attribution, or None`: what each column adds, in the space of the trees' sums.
    contributions_need_shap : bool
    save, load : callable
        Model to bytes and back; equal models give equal bytes.
    is_built_for_cuda : callable, optional
        Whether the installed library can use a CUDA device; left out: it never can.
    check_batches : callable, optional
        Of a library that takes rows in batches, to the same bits: raises ValueError for parameters with which it does not.
    """

    extension: str
    grow: Callable[[Growth, Any], Grown]
    predict: Callable[[Any, np.ndarray, tuple[int, ...], int], np.ndarray]
    gains: Callable[[Any, tuple[int, ...]], np.ndarray]
    save: Callable[[Any], bytes]
    load: Callable[[bytes], Any]
    contributions: Callable[[Any, np.ndarray, tuple[int, ...], int], Attribution | None] | None = None
    contributions_need_shap: bool = False
    bin: Callable[[Growth], Any] | None = None
    binned_by: Callable[[Growth], Any] | None = None
    is_built_for_cuda: Callable[[], bool] | None = None
    check_batches: Callable[[Mapping[str, Any]], None] | None = None
