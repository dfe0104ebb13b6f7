"""Which learners find a planted linear signal and a planted interaction, beside what is expected of them: part of `make noise`.

Lives here: the panels, the expectation of every entry, and the table. The short form is in `test_learner_signals.py`.

A linear signal is a feature that is correlated with the label. Of a pure interaction the product of two features is, and each
alone says nothing: a linear learner must not find it. Found is an information coefficient whose t, by Newey and West, exceeds the
limit of all tests together (Bonferroni); not found, one that does not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from hf_pipelines.research.learners import Task
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import Target
from hf_pipelines_tests.noise_table import FAMILY_ERROR, Recipe, coefficient_t, panel_matrix
from hf_pipelines_tests.sample_learners import learner_levels, sized_learner, target_of

LINEAR, INTERACTION = "linear", "interaction"
SIGNALS = (LINEAR, INTERACTION)

_BOTH, _LINE, _NONE = frozenset(SIGNALS), frozenset({LINEAR}), frozenset[str]()

# Of every entry of the registry. Ensembles are of a linear member and of trees.
EXPECTED: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("xgboost", "xgboost_early_stopping", "lightgbm", "catboost", "hist_gradient_boosting"), _BOTH),
    **dict.fromkeys(("random_forest", "extra_trees", "nearest_neighbours"), _BOTH),
    **dict.fromkeys(("lstm", "gru", "transformer", "tcn", "mlp"), _BOTH),
    **dict.fromkeys(("voting", "stacking", "blending", "dynamic_weighting", "regime_experts"), _BOTH),
    # It takes the member that finds it.
    "discrete_super_learner": _BOTH,
    **dict.fromkeys(("ridge", "lasso", "elastic_net", "huber", "quantile", "logistic"), _LINE),
    # They read the feature that has the linear signal.
    **dict.fromkeys(("last_value", "momentum_sign"), _LINE),
    **dict.fromkeys(("majority", "mean", "random"), _NONE),
    # They model the series of one feature, which is fresh noise here, and none of the others.
    **dict.fromkeys(("arima", "kalman", "garch", "egarch", "gjr_garch"), _NONE),
}

# Sizes with which what can be found is.
SIZES: dict[str, Any] = {
    **{"n_estimators": 60, "num_leaves": 15, "max_depth": 6, "depth": 6, "learning_rate": 0.1},
    **{"early_stopping_rounds": 20, "min_samples_leaf": 50, "n_neighbors": 100, "alpha": 1e-4},
    **{"window": 3, "hidden": 16, "heads": 2, "layers": 1, "epochs": 12, "n_splits": 2},
    **{"history_bars": 8, "minimum_bars": 20, "order": [1, 0]},
}


@dataclass(frozen=True)
class Panel:
    """How large a panel is, and how strong its signals are.

    Attributes
    ----------
    skill : float
        Correlation of the label with the feature; with the sign of the product of two features it is that of a latent number.
    """

    symbols: int
    sessions: int
    test_sessions: int
    skill: Mapping[str, float]


WHOLE = Panel(symbols=100, sessions=750, test_sessions=150, skill={LINEAR: 0.1, INTERACTION: 0.15})


@dataclass(frozen=True)
class Line:
    """What a learner found of a signal."""

    name: str
    task: Task
    signal: str
    coefficient: float
    t: float
    cpu_s: float

    @property
    def is_expected(self) -> bool:
        return self.signal in EXPECTED[self.name]

    def is_right(self, limit: float) -> bool:
        """Whether it was found where it can be, and nothing where it cannot; nothing at all is NaN."""
        return self.t > limit if self.is_expected else not abs(self.t) > limit


def signal_matrix(target: Target, panel: Panel, signal: str, *, seed: int) -> pl.DataFrame:
    """Training matrix of random walks and three fresh features, with a signal in the first one or in the first two."""
    matrix = panel_matrix(
        target, seed=seed, symbols=panel.symbols, sessions=panel.sessions, persistence=0.0, n_features=3
    )
    outcome = pl.col("target") - pl.col("target").mean().over("ts")
    skill = panel.skill[signal]
    rng = np.random.default_rng(seed + 1)
    fresh = pl.Series(rng.normal(size=matrix.height))
    latent = skill * outcome / outcome.std() + math.sqrt(1.0 - skill**2) * fresh
    if signal == LINEAR:
        return matrix.with_columns(latent.cast(pl.Float32).alias("feature_0"))
    # The sign of the product follows the label; each factor is as likely up as down, whatever the label.
    other = latent.sign() * pl.col("feature_0").sign() * pl.col("feature_1").abs()
    return matrix.with_columns(other.cast(pl.Float32).alias("feature_1"))


def signal_lines(
    levels: list[tuple[str, Task]], panel: Panel, *, sizes: Mapping[str, Any] = SIZES, seed: int = 1
) -> Iterator[Line]:
    """What each learner finds of each signal, in the order of `levels`."""
    splitter = PurgedWalkForward(
        n_splits=1, test_sessions=panel.test_sessions, embargo_sessions=1, min_train_sessions=20
    )
    matrices: dict[tuple[str, str], pl.DataFrame] = {}
    for name, task in levels:
        target = target_of(name, task, horizon_bars=1)
        recipe = Recipe(name, sized_learner(name, target, sizes=sizes), target, (), seed=3)
        for signal in SIGNALS:
            if (target.name, signal) not in matrices:
                matrices[target.name, signal] = signal_matrix(target, panel, signal, seed=seed)
            began = process_time()
            coefficient, t = coefficient_t(matrices[target.name, signal], recipe, splitter)
            yield Line(name, task, signal, coefficient, t, process_time() - began)


def limit_of(n: int) -> float:
    """Size of t that none of `n` tests exceeds by chance, but for the family error."""
    return float(stats.norm.isf(FAMILY_ERROR / (2 * n)))


def report_signals() -> Iterator[str]:
    """Print the table; what is not as expected."""
    levels = learner_levels()
    limit = limit_of(len(levels) * len(SIGNALS))
    print(
        f"\nPlanted signals in {WHOLE.symbols} symbols and {WHOLE.sessions} sessions, the last {WHOLE.test_sessions} tested; "
        f"found is t > {limit:.2f}\n"
    )
    print(f"{'learner':24}{'task':16}{'signal':13}{'coefficient':>11}{'t':>8}  {'expected':10}{'CPU s':>7}")
    for line in signal_lines(levels, WHOLE):
        word = "found" if line.is_expected else "none"
        print(
            f"{line.name:24}{line.task:16}{line.signal:13}{line.coefficient:11.4f}{line.t:8.2f}  {word:10}{line.cpu_s:7.1f}",
            flush=True,
        )
        if not line.is_right(limit):
            yield f"{line.signal} signal and {line.name} of {line.task}: t {line.t:.2f}, expected {word}"


if __name__ == "__main__":
    faults = list(report_signals())
    print(*(f"FAULT: {fault}" for fault in faults), sep="\n")
    sys.exit(1 if faults else 0)
