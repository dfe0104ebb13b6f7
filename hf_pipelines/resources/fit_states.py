"""Fit states: what long fits have come to, so that a run that was killed goes on from there.

Lives here: keeping the state of a fit in the store. Does not live here: what a state holds (`research.learners`), which are removed (`retention`).

Layout: `_fits/<asset path>/<partition>/<hash>.state`. The hash is of the code version, of the inputs' content hashes, of the place
of the fit (such as `fold 2`) and of what the fit itself says that it depends on: the state of another configuration or of another
matrix has another name. Each epoch is one whole object; the sha256 before its bytes tells one that was damaged.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import ObjectMissingError

FITS = "_fits"
_DIGEST_BYTES = 32

# Takes the numbers of a step, such as the losses of an epoch.
Log = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class FitStates:
    """States of the fits of an asset.

    Parameters
    ----------
    objects : ObjectStore
    asset, code_version : str
    """

    objects: ObjectStore
    asset: str
    code_version: str

    def progress(
        self, partition: str, *, place: str, inputs: Mapping[str, Any], log: Log = lambda step, values: None
    ) -> "FitProgress":
        """Progress of the fits at one place of a partition.

        Parameters
        ----------
        place : str
            Such as `fold 2`.
        inputs : mapping
            Content hashes of what is fitted.
        log : callable
        """
        return FitProgress(self, partition, json.dumps([self.code_version, inputs, place], sort_keys=True), log)

    def clear(self, partition: str) -> None:
        """Remove every state of a partition."""
        for key in self.objects.keys(f"{FITS}/{self.asset}/{partition}"):
            self.objects.delete(key)


@dataclass(frozen=True)
class FitProgress:
    """Keeps and restores the state of fits: `Progress` of `research.learners`."""

    states: FitStates
    partition: str
    made_of: str
    log: Log

    def restore(self, fit: str) -> bytes | None:
        """State that was kept last; None without one, and of a damaged one."""
        try:
            payload = self.states.objects.get(self._key(fit))
        except ObjectMissingError:
            return None
        digest, state = payload[:_DIGEST_BYTES], payload[_DIGEST_BYTES:]
        return state if sha256(state).digest() == digest else None

    def keep(self, fit: str, state: bytes) -> None:
        """Replace the state."""
        self.states.objects.put(self._key(fit), sha256(state).digest() + state)

    def _key(self, fit: str) -> str:
        digest = sha256(f"{self.made_of}\n{fit}".encode()).hexdigest()
        return f"{FITS}/{self.states.asset}/{self.partition}/{digest}.state"
