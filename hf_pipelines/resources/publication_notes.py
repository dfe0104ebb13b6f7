"""Publication notes: what the UI shows of a content that was published, and where on the page.

Lives here: names, order and form of these values. Does not live here: publishing (`parquet_io_manager`).
"""

import re
from collections.abc import Mapping
from typing import Any

import dagster as dg

from hf_pipelines.resources.footer import Verdict
from hf_pipelines.resources.partition_store import Published

# A digest is one word: whole it is wider than the page of an asset, and cuts off the whole table.
DIGEST = re.compile(r"\b[0-9a-f]{33,}\b")
GROUP = 16

# What tells contents, runs and places apart: after all that a person reads.
NAMES_OF_CONTENTS = ("content_hash", "trial", "ledger_head", "mlflow_run_id", "path")


def place_in_page(name: str) -> int:
    """Where the UI shows a value: what it is about, then seconds, then hashes and places."""
    return 2 if name in NAMES_OF_CONTENTS else 1 if name.endswith("_s") else 0


def shown_value(value: Any) -> Any:
    """A value as the UI shows it: a number to six digits, the rest hides the magnitude; a digest in groups, which wrap."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return DIGEST.sub(in_groups, value) if isinstance(value, str) else value


def in_groups(digest: re.Match[str]) -> str:
    return " ".join(digest[0][at : at + GROUP] for at in range(0, len(digest[0]), GROUP))


def published_notes(published: Published, verdicts: Mapping[str, Verdict], uri: str) -> dict[str, Any]:
    """What is noted of a published content; its path is below the store's own, which no page has room for."""
    footer = published.footer
    notes: dict[str, Any] = {
        "rows": footer.rows,
        "content_hash": footer.content_hash,
        "outcome": published.outcome,
        "path": published.address.removeprefix(uri).lstrip("/"),
    }
    if footer.available_at:
        notes["available_at"] = footer.available_at[1]
    for name, verdict in verdicts.items():
        is_unseen = footer.rows and not verdict.n_compared
        compared = "others of its run, by sample" if is_unseen else f"{verdict.n_compared:,}"
        notes[name] = f"passed, values compared: {compared}"
    if published.differences is not None:
        table = published.differences.write_csv(float_precision=6)
        notes["differences_from_issue"] = dg.MetadataValue.md(f"```\n{table}```")
    return notes
