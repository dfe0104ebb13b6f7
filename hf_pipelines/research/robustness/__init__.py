"""Robustness: what an account would have been under other conditions, and over parts of what it was.

Lives here: `tests` (the registry `TESTS`, one function and one line each), what a strategy is known by that lives on one thing (`signs`), and whether
the code that fitted it finds what is there and nothing else (`controls`).
Not here: whether the account is luck (`overfitting`, `significance`), filling orders (`backtest`).
"""

from hf_pipelines.research.robustness.controls import Controls, controls_in_words, run_controls
from hf_pipelines.research.robustness.kept import Row, Tested
from hf_pipelines.research.robustness.neighbourhood import Neighbourhood, is_near, judge_neighbours, neighbours
from hf_pipelines.research.robustness.registry import TESTS, robustness_table, untested_in_words
from hf_pipelines.research.robustness.signs import SIGNS, Sign, judge_signs, signs_of

__all__ = [
    "SIGNS",
    "TESTS",
    "Controls",
    "Neighbourhood",
    "Row",
    "Sign",
    "Tested",
    "controls_in_words",
    "is_near",
    "judge_neighbours",
    "judge_signs",
    "neighbours",
    "robustness_table",
    "run_controls",
    "signs_of",
    "untested_in_words",
]
