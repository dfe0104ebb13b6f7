"""Features: what a model may know at the close of a bar.

`registry.py` names them all and computes them; a group is a module (`technical`, `cross_asset`, `temporal`);
`panel.py` and `windows.py` are what the groups stand on.
"""

from __future__ import annotations

from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.panel import Panel, build_panel
from hf_pipelines.research.features.registry import (
    FEATURES,
    compute_features,
    feature_frame,
    group_names,
    register,
)
from hf_pipelines.research.features.windows import paired, windowed

__all__ = [
    "FEATURES",
    "Feature",
    "Panel",
    "build_panel",
    "compute_features",
    "feature_frame",
    "group_names",
    "paired",
    "register",
    "window_kernel",
    "windowed",
]
