"""Decisions in tests."""

from collections.abc import Mapping
from typing import Any

from hf_pipelines.research.promotion.lifecycle import OF_A_CONFIGURATION, OF_A_ROLLOUT, OVERRIDDEN
from hf_pipelines.resources.promotions.history import Draft
from hf_pipelines.resources.trial_ledger import configuration_hash

WEEK = "2020-01-12"
GATE = {"gate": "rows", "value": 500.0, "threshold": 100.0, "verdict": "passed", "why": "500 rows."}
FAILED = {**GATE, "value": 50.0, "verdict": "failed", "why": "50 rows."}


def draft(kind: str, rule: str = "long", week: str = WEEK, **more: Any) -> Draft:
    """A decision on the configuration with some rule."""
    own: Mapping[str, Any] = {}
    settings = {"features": {"quick": ["x"]}, "target": "return", "rule": rule}
    if kind in OF_A_ROLLOUT:
        own = {"rollout": {"configuration": configuration_hash(settings), "share": 0.0}}
    if kind in OF_A_CONFIGURATION:
        own = {"week": week, "settings": settings, "yaml": {"name": "tech", "signal": rule}, "gates": [GATE]}
    if kind == OVERRIDDEN:
        own = {**own, "override": "Ann", "gates": [FAILED]}
    return Draft(**{"kind": kind, "actor": "ann", "reason": "why", "at": "2026-01-02T03:04:05+00:00", **own, **more})
