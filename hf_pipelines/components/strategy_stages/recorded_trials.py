"""Recorded trials: what a week tries beside the strategy itself, each a trial in the ledger before it runs.

Lives here: what is known before a week begins, and beginning a trial beside it. Does not live here: what is tried, and how it is kept
(`leaderboard_records`, `sweep_points`), the ledger (`resources.trial_ledger`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.research.learners import Progress
from hf_pipelines.resources.trial_ledger import OpenTrial, Slot
from hf_pipelines.resources.trial_ledger.trials import ancestors_of, kind_of


@dataclass
class RecordedTrials:
    """Begins a trial for each thing that a week tries, by its configuration: a retry is no second trial.

    Attributes
    ----------
    source : str
        What makes them, as the ledger says it.
    plan : StrategyPlan
    run : StageRun
    key : str
        Week.
    data : mapping
        Content hashes of the matrix.
    progress : Progress
        Where entries are kept.
    """

    source: ClassVar[str]

    plan: StrategyPlan
    run: StageRun
    key: str
    data: Mapping[str, Mapping[str, str]]
    progress: Progress
    open: dict[str, OpenTrial] = field(default_factory=dict)
    slots: dict[str, tuple[Slot, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read once what is known: all of a week are judged beside the same trials."""
        ledger = self.run.trials
        self._before = None if ledger is None else ledger.known()
        self._lineage = (
            [] if self._before is None else [*self.plan.descends_from, *ancestors_of(self.plan.name, self._before)]
        )

    def begin_trial(self, name: str, slot: Slot, settings: Mapping[str, Any], *, differs: Mapping[str, Any]) -> None:
        """Record the trial of `name`; nothing where a stored partition is replayed."""
        if self.run.trials is None or self._before is None:
            return
        self.open[name] = self.run.trials.begin(
            slot,
            source=self.source,
            kind=kind_of(slot, self.source, self._before, lineage=self._lineage),
            differs=differs,
            settings=settings,
            descends_from=self.plan.descends_from,
            code_version=self.run.code_version,
        )
