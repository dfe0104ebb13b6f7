"""Significance: is A better than B, or was it luck.

Lives here: tests of differences between series of losses, one a session. Not here: the losses and intervals of scores (`metrics`),
which sessions are drawn (`metrics.bootstrap`), what a comparison says (`comparison`).
"""

from hf_pipelines.research.significance.confidence_set import ConfidenceSet, model_confidence_set
from hf_pipelines.research.significance.diebold_mariano import COSINE, TRUNCATED, DieboldMariano, diebold_mariano
from hf_pipelines.research.significance.holm import adjust_holm
from hf_pipelines.research.significance.rotations import Rotations, draw_rotations
from hf_pipelines.research.significance.superiority import SuperiorAbility, reality_check, superior_ability

__all__ = [
    "COSINE",
    "TRUNCATED",
    "ConfidenceSet",
    "DieboldMariano",
    "Rotations",
    "SuperiorAbility",
    "adjust_holm",
    "diebold_mariano",
    "draw_rotations",
    "model_confidence_set",
    "reality_check",
    "superior_ability",
]
