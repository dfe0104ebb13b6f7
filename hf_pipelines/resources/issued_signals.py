"""Issued signals: what is issued is never written again.

Lives here: how an issue that is damaged or gone comes back, and what differs between two. Does not live here: which issue is the
newest (`issues`).
"""

import polars as pl

from hf_pipelines.resources.footer import SIGNALS, Footer

# Names the newest issue of signals (`issues`).
LATEST = "latest.json"


def is_issued(kind: str) -> bool:
    """Whether what an asset of this kind publishes is never written again."""
    return kind == SIGNALS


def remake(asset: str, partition: str, kind: str) -> str:
    """How a partition that is damaged or gone is made again, in words."""
    if is_issued(kind):
        return "put back the bytes that were issued, from a backup: issued signals are not made again"
    return f"make it again: hfp materialise {asset} --from {partition}"


def is_of_other_version(issued: Footer, recomputed: Footer) -> bool:
    """Whether two issues have columns of different versions, so that their hashes say nothing of their decisions."""
    return issued.facts.get("schema_version") != recomputed.facts.get("schema_version")


def compare_issues(issued: pl.DataFrame, recomputed: pl.DataFrame) -> pl.DataFrame:
    """Rows of two signal frames that differ: symbol, ts (below a day an issue has several a symbol), weight_issued,
    weight_recomputed and the predictions."""
    names, keys = ("weight", "prediction"), ["symbol", "ts"]
    joined = issued.select(*keys, *names).join(
        recomputed.select(*keys, *names), on=keys, how="full", suffix="_recomputed", coalesce=True
    )
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_recomputed")) for name in names)
    return joined.filter(differs).rename({name: f"{name}_issued" for name in names}).sort(keys)
