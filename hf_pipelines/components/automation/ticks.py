"""Ticks: what a sensor's evaluation returns, and what it remembers until the next.

Lives here: `Tick`, and its memory beside Dagster's cursor. Does not live here: what is requested and remembered (`arrivals`,
`strategy_sensor`).

Dagster concept: the cursor. It is saved after the requests of its tick, so that a daemon that dies between them asks again.
The page of a sensor shows it whole, above the ticks, and years of weeks are tens of kB: so it only names the memory, by its
digest. Two places take turns: the one that the saved cursor names is not written to.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from hf_pipelines.components.automation.run_intents import digest

PLACES = ("a", "b")


@dataclass(frozen=True)
class Tick:
    """Result of a tick: run requests, what the next tick is to remember, and notes for the log."""

    requests: list[dg.RunRequest]
    cursor: str
    notes: tuple[str, ...] = ()

    def result(self, context: dg.SensorEvaluationContext, *, idle: str) -> dg.SensorResult:
        """As Dagster's result; `idle` is the skip reason where there are neither requests nor notes."""
        for line in self.notes:
            context.log.info(line)
        return dg.SensorResult(
            run_requests=self.requests,
            skip_reason=None if self.requests else dg.SkipReason("; ".join(self.notes) or idle),
            cursor=remember(context, self.cursor),
        )


def read_cursor(text: str | None) -> Mapping[str, Any]:
    """A sensor's cursor; one that cannot be read starts empty, since the store decides."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def recall(context: dg.SensorEvaluationContext) -> str | None:
    """What the tick of the saved cursor remembered; None at first, after a reset of the cursor, and where it is lost.

    A sensor without a memory compares all weeks again, which takes one longer tick.
    """
    if context.cursor is None:
        return None
    saved = read_cursor(context.cursor)
    if "memory" not in saved:
        # As saved by a release that kept all of it in the cursor.
        return context.cursor
    key = _key(context, saved["memory"])
    found = context.instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
    return found if found is not None and digest(found) == saved.get("digest") else None


def remember(context: dg.SensorEvaluationContext, memory: str) -> str:
    """Keep what a tick remembers; returns the cursor that names it."""
    saved = read_cursor(context.cursor)
    if "memory" in saved and context.cursor is not None and recall(context) == memory:
        return context.cursor
    place = PLACES[saved.get("memory") == PLACES[0]]
    context.instance.daemon_cursor_storage.set_cursor_values({_key(context, place): memory})
    return json.dumps({"memory": place, "digest": digest(memory)})


def _key(context: dg.SensorEvaluationContext, place: str) -> str:
    return f"hf_pipelines/{context.repository_name}/{context.sensor_name}/memory/{place}"
