"""Explanations: what a prediction is made of, and what would change it.

Lives here: contributions of features that add up to the prediction, by a learner's own method or by permutations of any, the nearest value of a feature that turns its sign, a line fitted
around a row. Not here: how a library finds its own contributions (`learners`).
"""

from __future__ import annotations

from hf_pipelines.research.explanations.contributions import Contributions, permutation_contributions
from hf_pipelines.research.explanations.local_line import LocalLine, fit_local_line
from hf_pipelines.research.explanations.own import OwnContributions, own_contributions
from hf_pipelines.research.explanations.turning import Turn, nearest_turns, percentile_of

__all__ = [
    "Contributions",
    "LocalLine",
    "OwnContributions",
    "Turn",
    "fit_local_line",
    "nearest_turns",
    "own_contributions",
    "percentile_of",
    "permutation_contributions",
]
