"""Origins: the features that the columns of a learner were made of.

Lives here: following columns through fitted preprocessing. Not here: what each step makes of its columns (`preprocessing`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.learners.learner import Estimator
from hf_pipelines.research.learners.preprocessing import Step


def column_origins(steps: Iterable[tuple[Step, Estimator]], n_features: int) -> npt.NDArray[np.float64] | None:
    """Of each column that a learner sees the share that belongs to each feature.

    Parameters
    ----------
    steps : iterable of (Step, fitted transformer)
    n_features : int

    Returns
    -------
    array of shape (n_columns, n_features) or None
        Rows add up to 1. None if a step does not tell what its columns are made of.
    """
    shares = np.eye(n_features)
    for step, transformer in steps:
        if step.keeps_columns:
            continue
        if step.origins is None:
            return None
        shares = step.origins(transformer, len(shares)) @ shares
    return shares
