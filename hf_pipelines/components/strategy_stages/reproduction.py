"""Reproduction: a stored model made again from the very contents that its card names.

Lives here: finding these contents, fitting anew without storing anything, and what differs. Does not live here: the fit (`fitted_model`),
the words of a terminal (`commands.cards`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hf_pipelines.components.stage import StageInput
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.fitted_model import fitted_model
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.lineage import CURRENT, read_content
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Stored
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

# Of the row of a card: when it was written is another time.
_TIME_OF_WRITING = "created_at"


@dataclass(frozen=True)
class Artifact:
    """Bytes of a model by their sha256: as they were stored, and as they came out now ("" if there are none)."""

    name: str
    stored: str
    rebuilt: str

    @property
    def agrees(self) -> bool:
        return self.stored == self.rebuilt


@dataclass(frozen=True)
class Reproduction:
    """What came of making a model again.

    Attributes
    ----------
    missing : tuple of (asset, partition, content hash, what is wrong)
        Contents that it was made from and that cannot be read: then nothing was made.
    settings : mapping of str to (stored, now)
        What the model was fitted with and is not what the strategy says now.
    code : (str, str)
        Version of code and settings of the stored model, and now.
    artifacts : tuple of Artifact
    card : mapping of str to (stored, rebuilt)
        Fields of the card's row that differ.
    """

    missing: tuple[tuple[str, str, str, str], ...]
    settings: Mapping[str, tuple[Any, Any]]
    code: tuple[str, str]
    artifacts: tuple[Artifact, ...] = ()
    card: Mapping[str, tuple[Any, Any]] | None = None

    @property
    def agrees(self) -> bool:
        """Whether the same bytes came out."""
        return (
            not self.missing and not self.card and bool(self.artifacts) and all(each.agrees for each in self.artifacts)
        )


def reproduce_model(plan: StrategyPlan, store: PartitionStore, model: Stored, now: datetime) -> Reproduction:
    """Fit a stored model anew from the contents that its footer names; nothing is stored and no trial is recorded.

    Parameters
    ----------
    plan : StrategyPlan
        The strategy as it is now.
    model : Stored
        A content of its `fitted_model`, current or not.
    now : datetime
        UTC.

    Raises
    ------
    ValueError
        If the fit fails.
    """
    stage, footer = fitted_model(plan), model.footer
    code = (footer.code_version, str(stage.code_version))
    changed = _changed_settings(footer.facts, plan)
    inputs, missing = {}, []
    for each in stage.inputs:
        inputs[each.name], faults = _read(store, each, footer)
        missing += faults
    if missing:
        return Reproduction(tuple(missing), changed, code)
    refit = footer.facts.get("final_refit")
    run = StageRun(
        (footer.partition,),
        now,
        logging.getLogger(__name__),
        store=store,
        final_refit=None if refit is None else str(refit),
        code_version=code[1],
    )
    content = stage.compute(run, inputs).contents[footer.partition]
    rebuilt = {name: hashlib.sha256(payload).hexdigest() for name, payload in content.attachments.items()}
    artifacts = [
        Artifact(name, footer.attachments.get(name, ""), rebuilt.get(name, ""))
        for name in sorted({*footer.attachments, *rebuilt})
    ]
    before, after = model.frame.row(0, named=True), content.frame.row(0, named=True)
    differing = {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after} - {_TIME_OF_WRITING})
        if before.get(name) != after.get(name)
    }
    return Reproduction((), changed, code, tuple(artifacts), differing)


def _read(store: PartitionStore, wanted: StageInput, footer: Footer) -> tuple[Loaded, list[tuple[str, str, str, str]]]:
    """The contents of one input that a footer names, and those that cannot be read."""
    parts, missing = {}, []
    named = footer.inputs.get(wanted.asset)
    if named is None and not wanted.is_optional:
        # A final refit is fitted on another matrix, and reads of this one alone when its labels ended.
        named = {footer.partition: CURRENT}
    for partition, digest in (named or {}).items():
        try:
            parts[partition] = _content(store, wanted, partition, digest)
        except (ValueError, ObjectMissingError, StoredPartitionError) as e:
            missing.append((wanted.asset, partition, digest, str(e)))
    return Loaded(wanted.asset, parts, store), missing


def _content(store: PartitionStore, wanted: StageInput, partition: str, digest: str) -> Stored:
    found = read_content(store, wanted.asset, partition, digest)
    if wanted.whole_columns and store.footer(wanted.asset, partition) == found.footer:
        return store.read_in_batches(wanted.asset, partition, whole=wanted.whole_columns)
    return found


def _changed_settings(facts: Mapping[str, Any], plan: StrategyPlan) -> dict[str, tuple[Any, Any]]:
    """Parameters of the learner that the YAML says otherwise by now; of a tuned one those that are searched are the study's."""
    stored, now = facts.get("learner") or {}, plan.learner.choice.settings()
    if plan.tuning is not None:
        return {}
    before, after = _flat(stored), _flat(now)
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def _flat(value: Any, place: str = "learner") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {name: each for key, inner in value.items() for name, each in _flat(inner, f"{place}.{key}").items()}
    if isinstance(value, list | tuple):
        return {name: each for at, inner in enumerate(value) for name, each in _flat(inner, f"{place}.{at}").items()}
    return {place: value}
