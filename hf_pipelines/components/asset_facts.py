"""Asset facts: who an asset belongs to, how it is searched for, and the page of the docs that explains it.

Lives here: what the catalogue shows beside an asset's content. Does not live here: the asset (`stage_asset`).
"""

import re
from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import field_validator

from hf_pipelines.resources import settings

# Of an address of mail, or of a team as Dagster writes it.
OWNER = re.compile(r"[^@\s:]+@[^@\s:]+\.[^@\s:]+|team:[\w-]+")

# Page of each kind of asset, below `docs/`.
PAGES = {
    "bars": "concepts/checks-on-bars",
    "features": "guides/feature",
    "features_report": "operate/web-ui",
    "reference": "guides/reference-tables",
    "training_matrix": "guides/training",
    "tuning": "guides/tuning",
    "leaderboard": "guides/leaderboard",
    "sweep": "guides/sweep",
    "cv_results": "guides/results",
    "fitted_model": "guides/explanations",
    "backtest": "concepts/claims",
    "validation": "guides/robustness",
    "full_validation": "guides/robustness",
    "report": "guides/report",
    "promotion": "guides/idea-to-production",
    "signals": "guides/signals",
    "track_record": "concepts/claims",
}


def owners_field(name: str = "owners") -> Any:
    """A validator of a component's field that names owners."""

    def check(owners: Sequence[str]) -> Sequence[str]:
        if wrong := sorted({repr(each[:80]) for each in owners if not OWNER.fullmatch(each)}):
            raise ValueError(
                f"`{name}` must hold addresses of mail or teams such as team:research, was {', '.join(wrong[:5])}."
            )
        return owners

    return field_validator(name)(check)


def docs_of(kind: str) -> dict[str, dg.MetadataValue[Any]]:
    """Metadata: the page that explains a kind of asset, as a link where `HF_DOCS_URL` says where the site is served."""
    page = PAGES.get(kind)
    if page is None:
        return {}
    site = settings.docs_url()
    return {"docs": dg.MetadataValue.url(f"{site}/{page}.html") if site else dg.MetadataValue.text(f"docs/{page}.md")}
