"""Learners: what a strategy may name, each with its preprocessing and calibration.

Lives here: the contract (`learner`), the entries (one module each) and their registry, preprocessing, calibration, and the
one way to make, fit, ask and store a pipeline of them. A learner IS a scikit-learn estimator, unless it reads the symbol or
the time; an entry adds what scikit-learn lacks: checked parameters with a search space, what the learner can do, and a safe
file format.
"""

from hf_pipelines.research.learners.calibration import CALIBRATIONS, Calibration
from hf_pipelines.research.learners.choice import LearnerChoice, choose_learner
from hf_pipelines.research.learners.learner import (
    Estimator,
    Learner,
    ModelFormat,
    Progress,
    Rows,
    Setup,
    Task,
    TrainingRows,
)
from hf_pipelines.research.learners.pipeline import (
    Pipeline,
    Predicted,
    build_pipeline,
    preprocessing_reports,
    report_fit,
    report_preprocessing,
)
from hf_pipelines.research.learners.prediction import feature_array, keyed, predict_frame
from hf_pipelines.research.learners.preprocessing import PREPROCESSING, Step
from hf_pipelines.research.learners.registry import ALIASES, LEARNERS

__all__ = [
    "ALIASES",
    "CALIBRATIONS",
    "LEARNERS",
    "PREPROCESSING",
    "Calibration",
    "Estimator",
    "Learner",
    "LearnerChoice",
    "ModelFormat",
    "Pipeline",
    "Predicted",
    "Progress",
    "Rows",
    "Setup",
    "Step",
    "Task",
    "TrainingRows",
    "build_pipeline",
    "choose_learner",
    "feature_array",
    "keyed",
    "predict_frame",
    "preprocessing_reports",
    "report_fit",
    "report_preprocessing",
]
