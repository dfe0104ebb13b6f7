"""Explanations: what a prediction is made of, and what would change it.

Lives here: contributions of features that add up to the prediction, the nearest value of a feature that turns its sign, a line fitted
around a row. Any function of rows can be explained: what a model is does not matter here (`learners`).
"""

from __future__ import annotations

from hf_pipelines.research.explanations.contributions import Contributions, permutation_contributions
from hf_pipelines.research.explanations.local_line import LocalLine, fit_local_line
from hf_pipelines.research.explanations.turning import Turn, nearest_turns, percentile_of

__all__ = [
    "Contributions",
    "LocalLine",
    "Turn",
    "fit_local_line",
    "nearest_turns",
    "percentile_of",
    "permutation_contributions",
]
