"""Reusable templates: typed YAML in, Dagster definitions out. No maths of their own.

`Market` and `Strategy` are what a `defs.yaml` may name.
"""

from hf_pipelines.components.market import Market
from hf_pipelines.components.strategy import Strategy

__all__ = ["Market", "Strategy"]
