"""Study tracking: what a study leaves in the experiment tracker.

Lives here: what the run of a study holds. Does not live here: runs of trials (`resources.mlflow_studies`), models and accounts
(`model_tracking`).

| run | holds |
|---|---|
| of a study, below that of (strategy, week) | what was searched and how, the best values, importances of parameters, the table of all trials, pictures |
| below it, of the 20 best trials, of the front, and of the trial that each outer fold uses | point, scores, whether it is used |
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.strategy_stages.model_tracking import (
    PublishedTracker,
    made_by,
    pictures_of,
    searched_by,
)
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.tuned import BEST, STUDY, TRIALS, VALUES
from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.resources.mlflow_studies import log_trials
from hf_pipelines.resources.mlflow_values import RunNotes
from hf_pipelines.resources.partition_codec import Content

# In the metadata of the asset.
IMPORTANCES = "importances"

TABLE = "trials.csv"


class StudyTracker(PublishedTracker):
    """Logs a study to a run of its own, below that of its strategy and week; without the tracker nothing fails.

    Its trials are shown by Optuna's tools while they run.
    """

    def log(self, partition: str, content: Content, metadata: Mapping[str, Any]) -> None:
        """Log a study that was published."""
        assert self.plan.tuning is not None
        try:
            runs = self.context.resources.mlflow.study_run(
                experiment=self.plan.name,
                asset=self.plan.asset("tuning"),
                partition=partition,
                study=str(content.facts[STUDY]),
            )
            status = "FAILED"
            try:
                runs.note(partition, self._notes(partition, content, metadata))
                log_trials(runs, partition, content.frame, goal=self.plan.tuning.design.goals[0])
                status = "FINISHED"
            finally:
                runs.end(status)
        except TrackingUnavailableError as e:
            self.context.log.warning(f"{e} The study is stored all the same.")

    def _notes(self, partition: str, content: Content, metadata: Mapping[str, Any]) -> RunNotes:
        assert self.plan.tuning is not None
        design = self.plan.tuning.design
        facts: Mapping[str, Any] = content.facts
        states = dict(content.frame.group_by("state").agg(pl.len()).iter_rows())
        return RunNotes(
            params={
                "sampler": design.sampler,
                "trials": design.budget.trials,
                "batch": design.batch,
                "seed": design.seed,
                "objective": ", ".join(each.name for each in design.goals),
                "nested": self.plan.tuning.is_nested,
                "space": json.dumps(facts["searched"]),
                **{f"best/{name}": value for name, value in facts[BEST].items()},
            },
            metrics={
                **{f"best/{name}": value for name, value in facts[VALUES].items()},
                **{f"importance/{name}": value for name, value in metadata[IMPORTANCES].value.items()},
                **{f"trials_{state}": n for state, n in states.items()},
                "trials": facts[TRIALS],
            },
            tags={
                **searched_by(self.plan, partition),
                "hf.content_hash": content.content_hash(),
                # Who is killed on the way leaves it RUNNING: it is ended by this.
                "hf.root_run_id": self.context.run.root_run_id or self.context.run.run_id,
                "hf.ended_by": facts["ended_by"],
                **made_by(),
            },
            files={**pictures_of(metadata), TABLE: content.frame.write_csv().encode()},
        )


@contextmanager
def track_study(plan: StrategyPlan, context: dg.AssetExecutionContext) -> Iterator[StudyTracker]:
    """Tracker of the studies of a run."""
    yield StudyTracker(plan, context)
