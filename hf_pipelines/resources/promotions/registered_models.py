"""Registered models: MLflow's registry as the history of promotions has it: a version for each release, aliases `champion` and `previous`.

Lives here: what MLflow must hold (pure), what is to be done for that (pure), and doing it. Does not live here: the connection
(`mlflow_tracking`), when it is done (`following`). Our history is the truth; MLflow keeps none of its aliases.

A version is a pointer: the model of MLflow without files that a fit has left (or one that is made here), with `hf.address` and `hf.sha256`
of the artifact in our store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hf_pipelines.resources.footer import FITTED_MODEL, Footer
from hf_pipelines.resources.mlflow_values import MAX_TAG_LENGTH
from hf_pipelines.resources.partition_store import VERSIONS, PartitionStore
from hf_pipelines.resources.promotions.history import History
from hf_pipelines.resources.redaction import redacted
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

CHAMPION, PREVIOUS = ALIASES = ("champion", "previous")

# By it a version is known again: the id of the decision that made the release.
DECISION = "hf.decision"


@dataclass(frozen=True)
class Wanted:
    """What MLflow must hold of a strategy.

    Attributes
    ----------
    name : str
        Of the registered model: the strategy's.
    versions : mapping of decision id to tags
        In the order of the releases.
    aliases : mapping of alias to decision id
    """

    name: str
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """What MLflow holds of it: `versions` are decision id to version and tags, of several versions of one decision the first."""

    is_registered: bool = False
    versions: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One change: `register` the model, `add` the version of a decision, `tag` it, `alias` it, or `drop` an alias."""

    do: Literal["register", "add", "tag", "alias", "drop"]
    decision: str = ""
    name: str = ""
    value: str = ""


def wanted_of(history: History, store: PartitionStore) -> Wanted:
    """What MLflow must hold, by the history alone; addresses and hashes of artifacts as the store has them."""
    state, ids = history.state, {number: each["id"] for number, each in enumerate(history.records, 1)}
    versions = {}
    for release in state.releases:
        record = history.records[release.number - 1]
        versions[ids[release.number]] = {
            DECISION: ids[release.number],
            "hf.strategy": history.strategy,
            "hf.version": str(release.version),
            "hf.configuration": release.configuration,
            "hf.week": release.week,
            "hf.stage": state.stages[release.configuration],
            "hf.decision_number": str(release.number),
            **({"hf.override": record["override"]} if release.is_override else {}),
            **_artifact(store, f"{history.strategy}/{FITTED_MODEL}", record["evidence"]),
        }
    served = {CHAMPION: state.champion, PREVIOUS: state.previous}
    aliases = {alias: ids[release.number] for alias, release in served.items() if release is not None}
    return Wanted(history.strategy, versions, aliases)


def steps_between(held: Held, wanted: Wanted) -> list[Step]:
    """What is to be done so that MLflow holds what it must; nothing where it does.

    Versions come before the aliases that point to them. Versions of decisions that the history does not know are left alone, without an alias.
    """
    steps = [] if held.is_registered or not wanted.versions else [Step("register")]
    for decision, tags in wanted.versions.items():
        if decision not in held.versions:
            steps.append(Step("add", decision))
            continue
        there = held.versions[decision][1]
        steps += [Step("tag", decision, name, value) for name, value in tags.items() if there.get(name) != value]
    known = {version: decision for decision, (version, _) in held.versions.items()}
    for alias in ALIASES:
        points_to = known.get(held.aliases.get(alias, ""))
        if alias in wanted.aliases:
            if points_to != wanted.aliases[alias]:
                steps.append(Step("alias", wanted.aliases[alias], alias))
        elif alias in held.aliases:
            steps.append(Step("drop", name=alias))
    return steps


def held_by(client: Any, name: str) -> Held:
    """What MLflow holds of a strategy."""
    found = [each for each in client.search_registered_models(f"name = '{name}'") if each.name == name]
    if not found:
        return Held()
    # The answer of a search leaves aliases out where a model has many versions.
    model, versions = client.get_registered_model(name), client.search_model_versions(f"name = '{name}'")
    by_decision: dict[str, tuple[str, Mapping[str, str]]] = {}
    for each in sorted(versions, key=lambda each: int(each.version)):
        if DECISION in each.tags:
            by_decision.setdefault(each.tags[DECISION], (str(each.version), each.tags))
    return Held(True, by_decision, {alias: str(version) for alias, version in model.aliases.items()})


def take_steps(client: Any, experiment_id: str, steps: Sequence[Step], *, held: Held, wanted: Wanted) -> None:
    """Do what is to be done, in its order: whoever stops in between leaves less to be done."""
    numbers = {decision: version for decision, (version, _) in held.versions.items()}
    for each in steps:
        match each.do:
            case "register":
                client.create_registered_model(wanted.name, tags={"hf.strategy": wanted.name})
            case "add":
                tags = wanted.versions[each.decision]
                model_id = _pointer(client, experiment_id, wanted.name, tags)
                # A pointer has nothing to be copied, which is what MLflow would wait for.
                made = client.create_model_version(
                    wanted.name, source=f"models:/{model_id}", model_id=model_id, tags=dict(tags), await_creation_for=0
                )
                numbers[each.decision] = str(made.version)
            case "tag":
                client.set_model_version_tag(wanted.name, numbers[each.decision], each.name, each.value)
            case "alias":
                client.set_registered_model_alias(wanted.name, each.name, numbers[each.decision])
            case "drop":
                client.delete_registered_model_alias(wanted.name, each.name)


def _pointer(client: Any, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    """MLflow's model without files of an artifact: the one that its fit has left, else one that is made here, once."""
    by_content = {each: tags[each] for each in ("hf.content_hash", "hf.sha256") if each in tags}
    asked = by_content if len(by_content) == 2 else {DECISION: tags[DECISION]}
    query = " and ".join(f"tags.`{each}` = '{value}'" for each, value in asked.items())
    if found := client.search_logged_models([experiment_id], query):
        made = found[0]
    else:
        made = client.create_logged_model(
            experiment_id, name=f"{name}-{tags['hf.week']}", tags={**tags, "mlflow.model.isExternal": "true"}
        )
    if str(made.status) != "READY":
        client.finalize_logged_model(made.model_id, "READY")
    return str(made.model_id)


def _artifact(store: PartitionStore, asset: str, evidence: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Content hash of a release's model, and where its bytes lie; without the latter if they are stored no more."""
    for week, digest in evidence.get(asset, {}).items():
        found = {"hf.content_hash": digest}
        footer = _footer_of(store, asset, week, digest)
        name = next((each for each in footer.attachments if each.startswith("model.")), None) if footer else None
        if footer is None or name is None:
            return found
        address = store.objects.address(store.attachment_key(footer, name))
        return {**found, "hf.sha256": footer.attachments[name], "hf.address": redacted(address)[:MAX_TAG_LENGTH]}
    return {}


def _footer_of(store: PartitionStore, asset: str, week: str, digest: str) -> Footer | None:
    """Footer of a content by its hash, current or not; None if it is stored no more or damaged."""
    try:
        current = store.footer(asset, week)
        if current is not None and current.content_hash == digest:
            return current
        return store.peek(f"{VERSIONS}/{asset}/{week}/{digest}.parquet", asset=asset, partition=week)
    except (ObjectMissingError, StoredPartitionError):
        return None
