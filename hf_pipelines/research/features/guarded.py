"""Guarded features: what a function that others wrote raises or gives is told by the feature's name.

Here: `guarded`. Not here: whether its values are sound (`contract.py`), the features of the project, which are tested.
"""

from __future__ import annotations

import traceback
from dataclasses import replace

import numpy as np

from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import FloatArray


class FeatureFunctionError(ValueError):
    """The function of a feature raised, or gave what is no column."""


def guarded(feature: Feature) -> Feature:
    """The feature, whose function is told by name if it raises or gives what is no column."""

    def compute(panel: Panel) -> FloatArray:
        try:
            values = feature.compute(panel)
        except Exception as e:  # noqa: BLE001 - a function that others wrote may raise anything, and is what is judged
            remedy = "; a panel is shared by all features: write into a copy." if "read-only" in str(e) else "."
            raise FeatureFunctionError(
                f"`{feature.group}/{feature.name}` must be computed without an error, raised {type(e).__name__}"
                f"{_place(e)}: {str(e).rstrip('. ')}{remedy}"
            ) from e
        if not isinstance(values, np.ndarray) or values.shape != panel.close.shape or values.dtype.kind not in "fiub":
            was = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise FeatureFunctionError(
                f"`{feature.group}/{feature.name}` must give an array of float64 of shape {panel.close.shape}, one number a "
                f"row of the panel, was {was}."
            )
        return values

    # One that shares its work with others is the project's own, and is judged by that.
    return feature if feature.together is not None else replace(feature, compute=compute)


def _place(error: Exception) -> str:
    """File and line of the innermost call within the file of the function that raised."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" in {own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}" if own else ""
