"""Studies in MLflow: the trial table of a study, and its best trials as runs below the run of the partition.

Lives here: which trials become runs, and what they hold. Does not live here: the run of the partition (`mlflow_tracking`).

A run takes MLflow 10 to 20 ms, so a study of 1,000 trials has 20 and its front, and all trials in a table; `HF_MLFLOW_TRIALS=all` makes a
run of each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_pipelines.research.tuning import COMPLETED, FAILED, Study, Trial
from hf_pipelines.resources import settings

# Runs of a study besides the front.
BEST = 20

# Of a front of hundreds: evenly over the first objective.
MOST_OF_FRONT = 20

TABLE = "trials.csv"


def log_study(client: Any, run_id: str, study: Study, *, importances: Mapping[str, float], place: str = "") -> int:
    """Log a study to the run of its partition; logging the same again makes no other runs. Returns the runs that were made.

    Parameters
    ----------
    client : MlflowClient
    run_id : str
        Of the partition.
    importances : mapping of str to float
        Of parameters, from `parameter_importances`.
    place : str
        Of a study on an outer fold.
    """
    from mlflow.entities import Metric

    parent = client.get_run(run_id).info
    where = f"{place}/" if place else ""
    client.log_text(run_id, study.table().write_csv(), f"{where}{TABLE}")
    if importances:
        named = {_name(f"importance/{where}{name}"): value for name, value in importances.items()}
        client.log_batch(run_id, metrics=[Metric(name, value, parent.start_time, 0) for name, value in named.items()])
    there = _slots_of(client, parent.experiment_id, run_id, place)
    front = study.front
    on_front, used = {each.slot for each in front}, study.best.slot if front else None
    chosen = [
        each for each in chosen_trials(study, front, are_all=settings.logs_every_trial()) if each.slot not in there
    ]
    for trial in chosen:
        tags = {
            "mlflow.parentRunId": run_id,
            "hf.place": place,
            "hf.is_on_front": str(trial.slot in on_front),
            "hf.is_used": str(trial.slot == used),
        }
        _log_trial(client, parent.experiment_id, trial, study, tags, name=f"{where}trial {trial.slot}")
    return len(chosen)


def chosen_trials(study: Study, front: Sequence[Trial], *, are_all: bool) -> list[Trial]:
    """Trials that become runs, by slot: all, or the best of the first objective and the front."""
    if are_all:
        return list(study.trials)
    goal = study.design.goals[0]
    completed = [each for each in study.trials if each.outcome.state == COMPLETED and each.repeats is None]
    sign = -1.0 if goal.is_better_higher else 1.0
    ranked = sorted(
        completed, key=lambda each: (not each.outcome.is_feasible, sign * each.outcome.values[0], each.slot)
    )
    along = sorted(front, key=lambda each: each.outcome.values[0])
    chosen = {each.slot: each for each in (*ranked[:BEST], *_spread(along))}
    return [chosen[slot] for slot in sorted(chosen)]


def _spread(trials: Sequence[Trial]) -> list[Trial]:
    if len(trials) <= MOST_OF_FRONT:
        return list(trials)
    return [trials[round(at * (len(trials) - 1) / (MOST_OF_FRONT - 1))] for at in range(MOST_OF_FRONT)]


def _log_trial(client: Any, experiment: str, trial: Trial, study: Study, tags: Mapping[str, str], *, name: str) -> None:
    from mlflow.entities import Metric, Param

    outcome = trial.outcome
    about = {"hf.slot": str(trial.slot), "hf.state": outcome.state}
    if outcome.error:
        about["hf.error"] = outcome.error[:500]
    run = client.create_run(experiment, run_name=name, tags={**tags, **about}).info
    numbers = {
        **dict(outcome.scores),
        **dict(zip((each.name for each in study.design.goals), outcome.values, strict=False)),
    }
    client.log_batch(
        run.run_id,
        metrics=[Metric(_name(name), value, run.start_time, 0) for name, value in numbers.items()],
        params=[Param(_name(name), str(value)[:500]) for name, value in trial.point.items()],
    )
    client.set_terminated(run.run_id, status="FAILED" if outcome.state == FAILED else "FINISHED")


def _slots_of(client: Any, experiment: str, parent: str, place: str) -> set[int]:
    """Slots that have a whole run already: an attempt before this one was killed."""
    query = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status != 'RUNNING'"
    found, token = [], None
    while True:
        page = client.search_runs([experiment], query, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return {int(each.data.tags["hf.slot"]) for each in found if each.data.tags.get("hf.place") == place}


def _name(name: str) -> str:
    """A name that MLflow takes."""
    return "".join(each if each.isalnum() or each in "_-. /" else "_" for each in name)
