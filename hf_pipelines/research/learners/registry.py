"""The registry of learners. To add one: write its module with one entry, and name it here.

Lives here: `LEARNERS`, and the other names that an entry answers to.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_pipelines.research.learners.arima import ARIMA
from hf_pipelines.research.learners.baseline_learners import LAST_VALUE, MAJORITY, MEAN, MOMENTUM_SIGN, RANDOM
from hf_pipelines.research.learners.boosters import XGBOOST, XGBOOST_EARLY_STOPPING
from hf_pipelines.research.learners.catboost_trees import CATBOOST
from hf_pipelines.research.learners.garch import EGARCH, GARCH, GJR_GARCH
from hf_pipelines.research.learners.kalman import KALMAN
from hf_pipelines.research.learners.learner import Learner, Task
from hf_pipelines.research.learners.lightgbm_trees import LIGHTGBM
from hf_pipelines.research.learners.linear import ELASTIC_NET, HUBER, LASSO, LOGISTIC, RIDGE
from hf_pipelines.research.learners.neighbours import NEIGHBOURS
from hf_pipelines.research.learners.quantile_regression import QUANTILE
from hf_pipelines.research.learners.sequence_learners import GRU, LSTM, MLP, TCN, TRANSFORMER
from hf_pipelines.research.learners.sklearn_trees import EXTRA_TREES, HIST_GRADIENT_BOOSTING, RANDOM_FOREST
from hf_pipelines.research.learners.stacking import BLENDING, STACKING
from hf_pipelines.research.learners.voting import VOTING
from hf_pipelines.research.learners.weighting import DYNAMIC_WEIGHTING, REGIME_EXPERTS


@dataclass(frozen=True)
class Alias:
    """Another name of an entry, for some of its tasks alone."""

    name: str
    tasks: frozenset[Task]


LEARNERS: dict[str, Learner] = {
    each.name: each
    for each in (
        XGBOOST,
        XGBOOST_EARLY_STOPPING,
        LIGHTGBM,
        CATBOOST,
        HIST_GRADIENT_BOOSTING,
        RANDOM_FOREST,
        EXTRA_TREES,
        RIDGE,
        LASSO,
        ELASTIC_NET,
        HUBER,
        QUANTILE,
        LOGISTIC,
        NEIGHBOURS,
        LSTM,
        GRU,
        TRANSFORMER,
        TCN,
        MLP,
        MAJORITY,
        MEAN,
        LAST_VALUE,
        MOMENTUM_SIGN,
        RANDOM,
        ARIMA,
        KALMAN,
        GARCH,
        GJR_GARCH,
        EGARCH,
        VOTING,
        STACKING,
        BLENDING,
        DYNAMIC_WEIGHTING,
        REGIME_EXPERTS,
    )
}

# Names that files were written with, and that stored models have.
ALIASES: dict[str, Alias] = {"xgboost_classifier": Alias("xgboost", frozenset({"classification"}))}
