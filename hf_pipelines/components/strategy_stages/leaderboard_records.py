"""Leaderboard records: each candidate is a trial in the ledger before it runs, and what it came to outlives the process.

Lives here: the record of a week's candidates. Does not live here: running them (`research.leaderboard`), the ledger (`resources.trial_ledger`).
"""

import io
import json
from dataclasses import replace
from typing import Any

import polars as pl

from hf_pipelines.components.display import parquet_bytes
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.recorded_trials import RecordedTrials
from hf_pipelines.components.strategy_stages.trial_records import settings_of, slot_of
from hf_pipelines.research.leaderboard import Candidate, Entry
from hf_pipelines.research.leaderboard.entries import COMPLETED, ENDED
from hf_pipelines.resources.trial_ledger import Slot
from hf_pipelines.resources.trial_ledger.trials import COMPLETED as TRIAL_COMPLETED
from hf_pipelines.resources.trial_ledger.trials import FAILED, LEADERBOARD, PRUNED


class RecordedCandidates(RecordedTrials):
    """The trials of a week's candidates, by their names."""

    source = LEADERBOARD

    def known(self, candidate: Candidate) -> Entry | None:
        """How a candidate has ended in a run that was killed."""
        kept = self.progress.restore(self._slot(candidate)[0].id)
        return None if kept is None else replace(_entry_of(kept), name=candidate.name)

    def begin(self, candidate: Candidate) -> None:
        """Record its trial."""
        slot, settings = self._slot(candidate)
        self.begin_trial(candidate.name, slot, settings, differs={"candidate": candidate.name})

    def end(self, candidate: Candidate, entry: Entry) -> None:
        """Record how it ended, then keep it; one that the deadline has ended may run again."""
        if (opened := self.open.pop(candidate.name, None)) is not None:
            outcome = {COMPLETED: TRIAL_COMPLETED, ENDED: PRUNED}.get(entry.state, FAILED)
            opened.end(outcome, scores=entry.scores, error="" if entry.state == COMPLETED else entry.reason)
        if entry.state != ENDED:
            self.progress.keep(self._slot(candidate)[0].id, _bytes_of(entry))

    def _slot(self, candidate: Candidate) -> tuple[Slot, dict[str, Any]]:
        if candidate.name not in self.slots:
            at = candidate_plan(self.plan, candidate)
            settings = settings_of(at)
            if candidate.is_tuned:
                # The procedure is what is evaluated: each fold has parameters of its own.
                assert self.plan.leaderboard is not None
                settings = {**settings, "tuned_by": json.loads(json.dumps(self.plan.leaderboard.tuned.fields()))}
            self.slots[candidate.name] = slot_of(at, self.key, self.data, settings=settings), settings
        return self.slots[candidate.name]


def candidate_plan(plan: StrategyPlan, candidate: Candidate) -> StrategyPlan:
    """The strategy as if it had been written with a candidate: with its own learner it is the one that is."""
    return replace(
        plan,
        learner=replace(plan.learner, choice=candidate.learner),
        target=candidate.target or plan.target,
        tuning=None,
    )


def _bytes_of(entry: Entry) -> bytes:
    """An entry as a line of JSON, and below it its predictions."""
    told = {name: getattr(entry, name) for name in ("state", "reason", "artifact_bytes", "fit_seconds")}
    told |= {"predict_seconds": entry.predict_seconds, "scores": dict(entry.scores)}
    body = b"" if entry.predictions is None else parquet_bytes(entry.predictions)
    return json.dumps(told).encode() + b"\n" + body


def _entry_of(kept: bytes) -> Entry:
    told, _, body = kept.partition(b"\n")
    return Entry(name="", predictions=pl.read_parquet(io.BytesIO(body)) if body else None, **json.loads(told))
