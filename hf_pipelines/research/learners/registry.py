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
from hf_pipelines.research.learners.super_learner import DISCRETE_SUPER_LEARNER
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
        DISCRETE_SUPER_LEARNER,
    )
}

# Names that files were written with, and that stored models have.
ALIASES: dict[str, Alias] = {"xgboost_classifier": Alias("xgboost", frozenset({"classification"}))}

# What each is, in a line for people. Not a part of the entries: another word in it would fit every model anew.
SUMMARIES: dict[str, str] = {
    "xgboost": "Boosted trees of XGBoost, a fixed number of them.",
    "xgboost_early_stopping": "Boosted trees of XGBoost, as many as the validation rows want.",
    "lightgbm": "Boosted trees of LightGBM, grown leaf by leaf.",
    "catboost": "Boosted trees of CatBoost, with the same splits on each level of a tree.",
    "hist_gradient_boosting": "Boosted trees of scikit-learn on binned features.",
    "random_forest": "Mean of trees that are each grown on rows drawn with replacement.",
    "extra_trees": "Mean of trees on all rows, whose split points are drawn.",
    "ridge": "Least squares with a penalty on squared coefficients, on standardised features.",
    "lasso": "Least squares with a penalty on absolute coefficients, which leaves features out.",
    "elastic_net": "Least squares with both penalties, of ridge and lasso.",
    "huber": "A line for which large errors count by their size, not by their square.",
    "quantile": "Lines through chosen quantiles of the target.",
    "logistic": "Logistic regression on standardised features.",
    "nearest_neighbours": "Mean, or shares of the classes, of the most similar training rows.",
    "lstm": "Recurrent network (long short-term memory) on the last bars of the symbol.",
    "gru": "Recurrent network (gated recurrent units) on the last bars of the symbol.",
    "transformer": "Network with attention over the last bars of the symbol.",
    "tcn": "Network of dilated convolutions over the last bars of the symbol.",
    "mlp": "Network of plain layers on the row's features.",
    "majority": "Baseline: the shares of the classes among the training rows.",
    "mean": "Baseline: the mean label of the training rows.",
    "last_value": "Baseline: the symbol's last outcome that was known at the row.",
    "momentum_sign": "Baseline: the sign of the symbol's recent mean outcome.",
    "random": "Baseline: the label of a training row drawn at random.",
    "arima": "A time series model (ARIMA) of each symbol's outcomes, filtered forward.",
    "kalman": "A local level or trend of each symbol's outcomes, by a Kalman filter.",
    "garch": "Volatility of each symbol by GARCH.",
    "gjr_garch": "Volatility of each symbol by GJR-GARCH, in which falls count more.",
    "egarch": "Volatility of each symbol by EGARCH, on the logarithm of the variance.",
    "voting": "Weighted mean of its members' predictions or probabilities.",
    "stacking": "A final learner on the members' out-of-fold predictions.",
    "blending": "A final learner on what the members predict of one later block.",
    "dynamic_weighting": "Mean of the members, weighted by their recent out-of-sample losses.",
    "discrete_super_learner": "Of its members the one that predicts best what it was not fitted on.",
    "regime_experts": "Members weighted by how they have predicted in quiet and in rough times.",
}
