"""Drawn means: what the means of losses could have been.

Lives here: the two ways to draw them, under one call. Not here: the tests.
"""

from __future__ import annotations

import numpy as np

from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.metrics.bootstrap import Draws
from hf_pipelines.research.significance.losses import Floats
from hf_pipelines.research.significance.rotations import Rotations


def drawn_means(losses: Floats, draws: Draws | Rotations) -> Floats:
    """Mean of each candidate in each resample, as if its true mean were 0; shape (n_resamples, n_candidates).

    Raises
    ------
    ValueError
        If other sessions were drawn.
    """
    n_drawn = draws.n_sessions if isinstance(draws, Rotations) else draws.order.shape[1]
    if n_drawn != len(losses):
        raise ValueError(f"`draws` must be of the {len(losses)} sessions of the losses, was of {n_drawn}.")
    with one_blas_thread():
        if isinstance(draws, Rotations):
            return draws.means(losses)
        # About the mean, or losses far from 0 would lose their digits.
        return np.asarray(draws.counts.astype(np.float64) @ (losses - losses.mean(axis=0)) / len(losses))
