"""Settings of trials: the configuration that a trial was made with, out of the records.

Lives here: finding it by the trial, or by another one of the same configuration. Does not live here: trials and their kinds (`trials`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger.records import BEGUN
from hf_pipelines.resources.trial_ledger.segments import read_contents


@dataclass(frozen=True)
class TrialSettings:
    """All that may change the result of a trial, the seed apart."""

    settings: Mapping[str, Any]
    seed: int | None


def settings_of_trials(objects: ObjectStore, trials: Sequence[str]) -> list[TrialSettings | None]:
    """The configuration of each of some trials; None where the ledger does not hold it.

    A refit holds none of its own: it has that of the selection with the same configuration.
    """
    by_configuration: dict[str, Mapping[str, Any]] = {}
    begun: dict[str, tuple[str, int | None]] = {}
    for record in read_contents(objects).records:
        fields = record.fields
        if fields.get("event") != BEGUN:
            continue
        begun.setdefault(str(fields["trial"]), (str(fields["configuration"]), fields.get("seed")))
        if isinstance(settings := fields.get("settings"), Mapping):
            by_configuration.setdefault(str(fields["configuration"]), settings)
    found: list[TrialSettings | None] = []
    for each in trials:
        configuration, seed = begun.get(each, ("", None))
        settings = by_configuration.get(configuration)
        found.append(None if settings is None else TrialSettings(settings, seed))
    return found
