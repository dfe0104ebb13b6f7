"""Studies in MLflow: a run of the study below that of its week, with the table of all trials, and below it its best trials.

Lives here: which trials become runs, and what they hold. Does not live here: the run of the study and of the week (`mlflow_runs`), what a
strategy says of them (`components.strategy_stages`).

A run takes MLflow 10 to 20 ms, so a study of 1,000 trials has 20 and its front, and all trials in a table; `HF_MLFLOW_TRIALS=all` makes a
run of each.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.tuning import COMPLETED, FAILED, Goal
from hf_pipelines.resources import settings
from hf_pipelines.resources.mlflow_runs import PartitionRuns
from hf_pipelines.resources.mlflow_values import RunNotes, batches
from hf_pipelines.resources.redaction import redacted

# Runs of a study besides the front.
BEST = 20

# Of a front of hundreds: evenly over the first objective.
MOST_OF_FRONT = 20

MAX_ERROR_LENGTH = 500

# A run of a trial is found by these: the slot, and the outer fold of a nested study, "" of the one of all rows.
SLOT, FOLD = "hf.slot", "hf.fold"


def log_trials(runs: PartitionRuns, partition: str, trials: pl.DataFrame, *, goal: Goal) -> int:
    """Log trials below the open run of their study; logging the same again makes no other runs. Returns the runs that were made.

    Parameters
    ----------
    runs : PartitionRuns
        Where `open_study` has opened it.
    partition : str
    trials : DataFrame
        As `<strategy>/tuning` stores them.
    goal : Goal
        The first objective.

    Raises
    ------
    TrackingUnavailableError
        If the server has gone away.
    """
    with runs.answering(f"log the trials of {partition}"):
        study = runs.runs[partition]
        experiment = runs.client.get_run(study).info.experiment_id
        there = _logged(runs.client, experiment, study)
        made = [
            each
            for each in chosen_trials(trials, goal=goal, are_all=settings.logs_every_trial()).iter_rows(named=True)
            if _name_of(each) not in there
        ]
        for trial in made:
            _log_trial(runs.client, experiment, study, trial)
    return len(made)


def chosen_trials(trials: pl.DataFrame, *, goal: Goal, are_all: bool) -> pl.DataFrame:
    """Trials that become runs: all, or the best of the first objective and the front; of an outer fold the one that is used."""
    if are_all:
        return trials
    whole = trials.filter(pl.col("fold").is_null())
    completed = whole.filter((pl.col("state") == COMPLETED) & pl.col("repeats").is_null())
    value = f"value_{goal.name}"
    ranked = completed.sort("is_feasible", value, "slot", descending=[True, goal.is_better_higher, False])
    along = whole.filter(pl.col("is_on_front")).sort(value, "slot")
    shown = np.unique(np.linspace(0, max(along.height - 1, 0), min(along.height, MOST_OF_FRONT)).round().astype(int))
    slots = {*ranked.head(BEST)["slot"], *along[shown]["slot"]}
    return trials.filter(
        pl.when(pl.col("fold").is_null()).then(pl.col("slot").is_in(slots)).otherwise(pl.col("is_best"))
    )


def _log_trial(client: Any, experiment: str, study: str, trial: Mapping[str, Any]) -> None:
    slot, fold = _name_of(trial)
    tags = {
        "mlflow.parentRunId": study,
        SLOT: slot,
        FOLD: fold,
        "hf.state": trial["state"],
        "hf.is_on_front": str(trial["is_on_front"]),
        "hf.is_used": str(trial["is_best"]),
        **({"hf.error": redacted(trial["error"])[:MAX_ERROR_LENGTH]} if trial["error"] else {}),
    }
    run = client.create_run(experiment, run_name=f"{f'fold {fold} ' if fold else ''}trial {slot}", tags=tags).info
    values = {
        name.removeprefix("value_"): value
        for name, value in trial.items()
        if name.startswith("value_") and value is not None
    }
    notes = RunNotes(params=json.loads(trial["point"]), metrics={**json.loads(trial["scores"]), **values})
    for each in batches(notes, time_ms=run.start_time):
        client.log_batch(run.run_id, **each)
    client.set_terminated(run.run_id, status="FAILED" if trial["state"] == FAILED else "FINISHED")


def _name_of(trial: Mapping[str, Any]) -> tuple[str, str]:
    return str(trial["slot"]), "" if trial["fold"] is None else str(trial["fold"])


def _logged(client: Any, experiment: str, study: str) -> set[tuple[str, str]]:
    """Trials that have a whole run already: an attempt before this one was killed."""
    query = f"tags.`mlflow.parentRunId` = '{study}' and attributes.status != 'RUNNING'"
    found, token = [], None
    while True:
        page = client.search_runs([experiment], query, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return {(each.data.tags[SLOT], each.data.tags[FOLD]) for each in found}
