"""The form of a registry entry: what a learner is, to everything that fits, tunes, saves or loads one.

Lives here: the two dataclasses. Not here: any particular learner (one module each) or the registry
(`learners`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hf_pipelines.research.params import Limits, ParamValue

# A scikit-learn estimator: fit, predict, get_params, and predict_proba for a classifier. scikit-learn has no
# types.
Estimator: TypeAlias = Any


@dataclass(frozen=True)
class SearchRange:
    """Interval a tuner may draw a hyper-parameter from, both ends included.

    Attributes
    ----------
    low, high : float
        Ends of the interval.
    is_integer : bool
        Draw whole numbers only.
    is_log : bool
        Draw uniformly in the logarithm.
    """

    low: float
    high: float
    is_integer: bool = False
    is_log: bool = False

    def __post_init__(self) -> None:
        """Check that the interval is one."""
        if not self.low < self.high:
            raise ValueError(f"`low` must be below `high`, was {self.low} against {self.high}.")
        if self.is_log and self.low <= 0:
            raise ValueError(f"`low` must be above zero for a logarithmic range, was {self.low}.")


@dataclass(frozen=True)
class Learner:
    """A family of estimators with its hyper-parameters and its own file format.

    Attributes
    ----------
    name : str
        Key in `LEARNERS`.
    family : {"xgboost", "sklearn"}
        Library the estimator comes from.
    task : {"classification", "regression"}
        Which targets it can fit.
    build : callable
        `(every hyper-parameter, seed, n_threads) -> estimator`, not fitted. Call `build_estimator` instead,
        which checks names and fills in defaults.
    defaults : mapping
        Every hyper-parameter a strategy may set, with its default.
    limits : mapping of str to tuple
        Lowest and highest value of every number, and the names of every text: what the library takes and a fit survives.
    search_space : mapping of str to SearchRange
        The few worth tuning, by default.
    takes_nan : bool
        Whether `fit` and `predict` take rows with unknown features.
    weight_argument : str
        Keyword by which `fit` takes sample weights: a Pipeline wants `<step>__sample_weight`.
    extension : str
        File name extension of the saved bytes.
    save, load : callable
        Fitted estimator to bytes and back, in the library's own data format: never pickle. The loaded
        estimator predicts bit for bit the same. `load` parses: check the sha256 of the bytes first.
    """

    name: str
    family: Literal["xgboost", "sklearn"]
    task: Literal["classification", "regression"]
    build: Callable[[Mapping[str, ParamValue], int, int], Estimator]
    defaults: Mapping[str, ParamValue]
    limits: Mapping[str, Limits]
    search_space: Mapping[str, SearchRange]
    weight_argument: str
    extension: str
    save: Callable[[Estimator], bytes]
    load: Callable[[bytes], Estimator]
    takes_nan: bool = False
