"""Runs of MLflow: of models that are not stored any more, of weeks and studies that are gone.

MLflow's own `gc` asks for nothing: it leaves versions of registered models, and their aliases, that point to runs that are gone. Here a run
that anybody has registered stays, so nothing is left to point to it; so does a run that is not ours, and what lies above one that stays.

A tracking server takes no order to free the room of a run: there a run is marked as deleted, and `mlflow gc` on its machine frees it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_pipelines.resources.mlflow_errors import answering, unusable
from hf_pipelines.resources.mlflow_runs import PARENT, STUDY
from hf_pipelines.resources.retention.judging import Holdings, Judged
from hf_pipelines.resources.retention.roots import CONTENT, VERSION

KIND = "tracked run"

# Tags by one of which a run is known to be ours.
OURS = ("hf.strategy", "hf.asset", "hf.slot")

PAGE = 1_000


def judge(holdings: Holdings) -> list[Judged]:
    """Every run of ours, one below another before it.

    Raises
    ------
    TrackingUnavailableError
        If the server does not answer.
    """
    if (found := _open(holdings)) is None:
        return []
    client, uri = found
    with answering(uri, unusable(uri)):
        runs = {run.info.run_id: run for run in _runs(client, is_server=_is_server(uri))}
        registered = dict(_registered(client))
    below: dict[str, list[str]] = defaultdict(list)
    for run_id, run in runs.items():
        below[run.data.tags.get(PARENT, "")].append(run_id)
    stored = _stored(holdings)
    verdicts: dict[str, Judged] = {}
    for run_id in _deepest_first(runs, below):
        tags, info = runs[run_id].data.tags, runs[run_id].info
        written = datetime.fromtimestamp((info.end_time or info.start_time or 0) / 1000, UTC)
        children = [verdicts[each] for each in below[run_id] if each in verdicts]
        above = runs.get(tags.get(PARENT, ""))
        is_spare = False
        if not any(each in tags for each in OURS):
            stays = "not a run of this project"
        elif run_id in registered:
            stays = registered[run_id]
        elif any(not each.goes and not each.is_spare for each in children):
            stays = "a run below it stays"
        elif "hf.slot" in tags and above is not None:
            stays = stored.get(("study", above.data.tags.get(STUDY, "")), "")
        elif STUDY in tags:
            stays = stored.get(("study", tags[STUDY]), "")
        elif PARENT in tags:
            stays = stored.get((CONTENT, tags.get("hf.content_hash", "")), "")
        else:
            stays = stored.get(("week", f"{tags.get('hf.strategy')} {tags.get('hf.week')}"), "")
        if not stays and (written >= holdings.oldest or any(not each.goes for each in children)):
            stays, is_spare = holdings.young, True
        goes = f"{holdings.aged}, and what it tells of is not stored any more"
        name = f"{info.run_name} {run_id}"
        verdicts[run_id] = Judged(KIND, name, written, not stays, stays or goes, is_spare=is_spare)
    return [each for run_id, each in verdicts.items() if any(tag in runs[run_id].data.tags for tag in OURS)]


def remove(holdings: Holdings, judged: Judged) -> None:
    """Delete a run with what it points to: pointers first, then files, then the run.

    Raises
    ------
    TrackingUnavailableError
        If the server does not answer.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if (found := _open(holdings)) is None:
        return
    client, uri = found
    run_id = judged.name.rpartition(" ")[2]
    store = client._tracking_client.store
    with answering(uri, unusable(uri)):
        try:
            info = client.get_run(run_id).info
        except MlflowException as e:
            if e.error_code == "RESOURCE_DOES_NOT_EXIST":
                return
            raise
        for model in client.search_logged_models([info.experiment_id], f"source_run_id = '{run_id}'"):
            client.delete_logged_model(model.model_id)
            if not _is_server(uri):
                store._hard_delete_logged_model(model.model_id)
        if not _is_server(uri):
            get_artifact_repository(info.artifact_uri, tracking_uri=uri).delete_artifacts()
        if info.lifecycle_stage != "deleted":
            client.delete_run(run_id)
        if not _is_server(uri):
            store._hard_delete_run(run_id)


def _open(holdings: Holdings) -> tuple[Any, str] | None:
    """A client that has answered; None without a tracker, and where its file was never made."""
    if holdings.tracking is None:
        return None
    uri = holdings.tracking.tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///").split("?")[0]).exists():
        return None
    return holdings.tracking.client(), uri


def _is_server(uri: str) -> bool:
    return uri.startswith(("http:", "https:"))


def _runs(client: Any, *, is_server: bool) -> Iterator[Any]:
    """Every run; of a database those too whose removal was begun."""
    from mlflow.entities import ViewType

    experiments = _paged(lambda token: client.search_experiments(max_results=PAGE, page_token=token))
    wanted = ViewType.ACTIVE_ONLY if is_server else ViewType.ALL
    for experiment in experiments:
        yield from _paged(
            lambda token, of=experiment.experiment_id: client.search_runs(
                [of], run_view_type=wanted, max_results=PAGE, page_token=token
            )
        )


def _registered(client: Any) -> Iterator[tuple[str, str]]:
    """Runs that a version of a registered model points to, by itself or through a logged model, and how."""
    for version in _paged(lambda token: client.search_model_versions(max_results=PAGE, page_token=token)):
        of = f"registered as {version.name} {version.version}"
        if version.run_id:
            yield version.run_id, of
        model_id = getattr(version, "model_id", None) or (version.source or "").partition("models:/")[2]
        if model_id:
            yield client.get_logged_model(model_id).source_run_id, of


def _paged(ask: Any) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def _deepest_first(runs: Mapping[str, Any], below: Mapping[str, list[str]]) -> list[str]:
    """Runs, those below one before it; one whose parent is not there stands alone."""
    ordered: list[str] = []
    waiting = [each for each, run in runs.items() if run.data.tags.get(PARENT, "") not in runs]
    while waiting:
        run_id = waiting.pop()
        ordered.append(run_id)
        waiting += below.get(run_id, [])
    return ordered[::-1]


def _stored(holdings: Holdings) -> dict[tuple[str, str], str]:
    """What is stored and stays: contents by hash, studies by hash, weeks by strategy and week."""
    found = {key: why for key, why in holdings.needed.items() if key[0] == CONTENT}
    for each in holdings.judged[VERSION]:
        if not each.goes:
            digest = each.name.rpartition("/")[2].removesuffix(".parquet")
            found.setdefault((CONTENT, digest), "what it tells of is stored")
    for footer in holdings.footers:
        told = f"{footer.asset} {footer.partition} is current"
        found.setdefault(("week", f"{footer.asset.partition('/')[0]} {footer.partition}"), told)
        if isinstance(study := footer.facts.get("study"), str):
            found.setdefault(("study", study), told)
    return found
