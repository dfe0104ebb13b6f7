"""Event of drift: what a portfolio layer is told when an alarm is raised.

Lives here: the message. Does not live here: storing and sending it. It recommends nothing and orders nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import polars as pl

from hf_pipelines.research.drift.judgement import DRIFTED

SCHEMA_VERSION = 1

DETECTED = "drift.detected"


def drift_event(
    strategy: str, kind: str, columns: pl.DataFrame, *, facts: Mapping[str, Any], session: str, content_hash: str
) -> dict[str, Any]:
    """The message of an alarm, without its place among the others.

    Parameters
    ----------
    strategy : str
    kind : {"drift", "decay", "accuracy"}
        What was called.
    columns : DataFrame
        Of the session that raised it.
    facts : mapping
        Of that session: its sentence, where calls stand, the model.
    session : str
        That raised it, ISO 8601.
    content_hash : str
        Of its partition.

    Returns
    -------
    dict
        JSON values, as `schemas/drift_event.json` has them, but for `n`.
    """
    drifted = columns.filter(verdict=DRIFTED).sort("p", "shift", descending=[False, True])
    rows = drifted.select("part", "column", "p", "share", "since").to_dicts()
    return {
        "schema_version": SCHEMA_VERSION,
        "id": sha256(f"{DETECTED} {strategy} {kind} {session}".encode()).hexdigest()[:32],
        "event": DETECTED,
        "strategy": strategy,
        "kind": kind,
        "session": session,
        "since": facts["standing"][kind]["since"],
        "says": facts["sentence"],
        "columns": [{**row, "since": None if row["since"] is None else f"{row['since']}"} for row in rows],
        "p": facts["p"],
        "family_error": facts["family_error"],
        "model_week": facts["model_week"],
        "model": facts["model"],
        "record": content_hash,
    }
