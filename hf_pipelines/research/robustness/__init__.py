"""Robustness: what an account would have been under other conditions, and over parts of what it was.

Lives here: `tests` (the registry `TESTS`, one function and one line each), what a strategy is known by that lives on one thing (`signs`).
Not here: whether the account is luck (`overfitting`, `significance`), filling orders (`backtest`).
"""

from hf_pipelines.research.robustness.kept import Row, Tested
from hf_pipelines.research.robustness.registry import TESTS, robustness_table
from hf_pipelines.research.robustness.signs import SIGNS, Sign, signs_of

__all__ = ["SIGNS", "TESTS", "Row", "Sign", "Tested", "signs_of", "robustness_table"]
