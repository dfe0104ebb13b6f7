"""Evidence that passes every gate, and which way each number of it is worse."""

import math
from typing import Any

from hf_pipelines.research.promotion import Evidence

STRONG = Evidence(
    strategy="tech",
    week="2013-02-24",
    market="us_tech",
    rows=50_000,
    score_better_by=0.01,
    score_probability=0.99,
    score_against="the best baseline (mean) in rmse",
    portfolio_probability={"SPY, bought and held": 0.97, "equal weight": 0.96, "random strategies": 1.0},
    sharpe=1.4,
    sharpe_low=0.3,
    deflated_sharpe=0.96,
    overfitting=0.1,
    n_trials=7,
    max_drawdown=0.12,
    turnover_per_year=20.0,
    capacity_multiple=30.0,
    engines_agree=True,
    unreplayed=0,
    replays_failed=0,
    controls_failed=0,
    controls_unjudged=0,
    is_classification=True,
    calibration_error=0.02,
    fold_share=0.75,
    path_share=1.0,
    age_weeks=1.0,
    outdated=(),
    holdout_looks=1,
    holdout_budget=3,
    has_holdout=True,
    universe_chosen="index_history",
    champion="tech 2013-01-06",
    champion_probability=0.97,
)

# Values of each number from the best to the worst; None, not measured, is always the worst.
WORSE: dict[str, tuple[Any, ...]] = {
    "rows": (10**9, 1_001, 1_000, 999, 0),
    "score_better_by": (1.0, 1e-9, 0.0, -1.0),
    "score_probability": (1.0, 0.95, 0.9499, 0.0),
    "portfolio_probability": (
        {"a": 1.0, "b": 0.95},
        {"a": 0.95, "b": 0.94},
        {"a": 0.0, "b": 0.94},
        {"a": 0.0, "b": math.nan},
        {},
    ),
    "sharpe": (5.0, 0.5, 0.49, -2.0),
    "sharpe_low": (2.0, 0.0, -0.01, -3.0),
    "deflated_sharpe": (1.0, 0.95, 0.94, 0.0),
    "overfitting": (0.0, 0.2, 0.21, 1.0),
    "n_trials": (1, 2, 10**6),
    "max_drawdown": (0.0, 0.25, 0.26, 1.0),
    "turnover_per_year": (0.0, 100.0, 101.0, math.inf),
    "capacity_multiple": (math.inf, 1.0, 0.99, 0.0),
    "engines_agree": (True, False),
    "unreplayed": (0, 1, 50),
    "replays_failed": (0, 1, 50),
    "controls_failed": (0, 1, 5),
    "controls_unjudged": (0, 1, 5),
    # Classes have a number that may fail, beside what has none.
    "is_classification": (False, True),
    "calibration_error": (0.0, 0.05, 0.051, 1.0),
    "fold_share": (1.0, 0.6, 0.59, 0.0),
    "path_share": (1.0, 0.8, 0.79, 0.0),
    "age_weeks": (0.0, 4.0, 4.1, 500.0),
    "outdated": ((), ("tech/backtest",), ("tech/backtest", "us_tech/bars")),
    "holdout_looks": (0, 3, 4, 100),
    "holdout_budget": (10, 3, 1, 0),
    # One that is gone allows no look.
    "has_holdout": (True, False),
    "universe_chosen": ("all_listed", "hindsight"),
    "champion": ("", "tech 2013-01-06"),
    "champion_probability": (1.0, 0.95, 0.94, 0.0),
}
