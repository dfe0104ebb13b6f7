"""Hyper-parameters that libraries of trees share: the same default, range and words in each.

Lives here: the specifications. Does not live here: what a library calls them (a module each).
"""

from __future__ import annotations

from hf_pipelines.research.params import Number

# Of boosters that stop early.
TREES_AT_MOST = Number(default=1_000, low=1, high=10_000, is_whole=True, meaning="trees at most")
LEARNING_RATE = Number(
    default=0.05, low=1e-6, high=1.0, search=(0.01, 0.3), is_log=True, meaning="share of each tree that counts"
)
SHARE_OF_ROWS = Number(default=0.8, low=0.01, high=1.0, search=(0.5, 1.0), meaning="share of rows for each tree")
SHARE_OF_FEATURES = Number(
    default=0.8, low=0.01, high=1.0, search=(0.4, 1.0), meaning="share of features for each tree"
)
LEAVES = Number(
    default=31, low=2, high=4_096, search=(4, 128), is_log=True, is_whole=True, meaning="leaves of a tree at most"
)
LEVELS_OR_ANY = Number(
    default=None, low=1, high=100, is_whole=True, is_optional=True, meaning="levels of a tree; null: any"
)
ALPHA = Number(default=0.0, low=0.0, high=1e9, meaning="penalty on sizes of leaf values")
SMALLEST_GAIN = Number(default=0.0, low=0.0, high=1e9, meaning="smallest gain of a split")
