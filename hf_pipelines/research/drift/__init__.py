"""Drift: whether what a model reads, says and achieves is still what it was trained on.

Lives here: distances between sessions now and sessions of training (`histograms`, `distances`), what may be called drift
(`judgement`) and since when (`change_point`), and the decay of a score (`decay`). Not here: which models and sessions are
compared, and who is told.
"""

from hf_pipelines.research.drift.change_point import changed_since
from hf_pipelines.research.drift.decay import Decay, decayed, threshold_for
from hf_pipelines.research.drift.distances import Distances, distances
from hf_pipelines.research.drift.histograms import Bins, SessionHistograms, reference_bins, session_histograms
from hf_pipelines.research.drift.judgement import Drift, judge_drift
from hf_pipelines.research.drift.matured import Matured, matured_accuracy

__all__ = [
    "Bins",
    "Decay",
    "Distances",
    "Drift",
    "Matured",
    "SessionHistograms",
    "changed_since",
    "decayed",
    "distances",
    "judge_drift",
    "matured_accuracy",
    "reference_bins",
    "session_histograms",
    "threshold_for",
]
