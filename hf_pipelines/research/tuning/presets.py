"""Presets: whole `tuning` blocks by name, as they would be written in YAML; what a strategy gives beside the name stands instead.

Lives here: `PRESETS`. Does not live here: what the fields mean (`components.tuning_fields`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: dict[str, Mapping[str, Any]] = {
    # One hundred trials over what matters most of boosted trees.
    "xgboost_100": {
        "sampler": "tpe",
        "trials": 100,
        "space": {
            "learner": {
                "n_estimators": {"type": "int", "low": 100, "high": 500},
                "max_depth": {"type": "int", "low": 3, "high": 10},
                "learning_rate": {"type": "float", "low": 0.01, "high": 0.2, "log": True},
                "subsample": {"type": "float", "low": 0.6, "high": 1.0},
                "colsample_bytree": {"type": "float", "low": 0.6, "high": 1.0},
                "min_child_weight": {"type": "float", "low": 1.0, "high": 10.0},
            }
        },
    },
    # A study for each walk-forward window, and one for the model.
    "nested_100": {"sampler": "tpe", "trials": 100, "nested": True},
}
"""Every preset, by name."""
