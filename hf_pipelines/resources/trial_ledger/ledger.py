"""Ledger: beginning and ending trials, and asking what was tried.

Lives here: what writes records and reads them. Does not live here: chains and their bytes (`writers`, `segments`), which stage makes
trials (`components.trial_recording`).
"""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any

import polars as pl

from hf_pipelines.research.overfitting import estimate_sharpe
from hf_pipelines.resources import settings as environment
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.redaction import redacted
from hf_pipelines.resources.trial_ledger.actors import actor_of
from hf_pipelines.resources.trial_ledger.holes import read_whole
from hf_pipelines.resources.trial_ledger.records import BEGUN, ENDED
from hf_pipelines.resources.trial_ledger.returns import put_returns
from hf_pipelines.resources.trial_ledger.segments import Contents, Unreadable, read_contents, read_table
from hf_pipelines.resources.trial_ledger.trials import (
    COMPLETED,
    FAILED,
    KINDS,
    NOTEBOOK,
    PRUNED,
    SELECTION,
    Slot,
    ancestors_of,
    configuration_hash,
    hash_of_data,
    kind_of,
    trials_of,
)
from hf_pipelines.resources.trial_ledger.writers import ChainHead, writer_of

# Of a failure's message.
CHARACTERS_KEPT = 500


def _wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass
class OpenTrial:
    """A trial that was begun; as a context it ends completed, or failed where the block raises.

    Attributes
    ----------
    id, kind : str
    earlier : mapping or None
        Scores of a completed trial of the same configuration, seed and code on the same data: they are the answer, and nothing
        need be fitted. Nothing was begun then.
    head : ChainHead or None
        Of the chain after its last record.
    """

    ledger: "TrialLedger"
    id: str
    kind: str
    earlier: Mapping[str, float | None] | None = None
    head: ChainHead | None = None
    is_ended: bool = False

    def end(
        self,
        outcome: str = COMPLETED,
        *,
        scores: Mapping[str, float | None] | None = None,
        returns: tuple[Sequence[date], Sequence[float]] | None = None,
        error: str = "",
    ) -> ChainHead:
        """Record how it ended, before its result is used.

        Parameters
        ----------
        scores : mapping of str to float
            What is undefined is recorded as such.
        returns : (sessions, returns), optional
            Its out-of-fold returns, one a session, by which it is compared with other trials.

        Raises
        ------
        StorageUnavailableError
            If it could not be recorded.
        """
        of_returns: dict[str, Any] = {}
        if returns is not None:
            estimate = estimate_sharpe(returns[1])
            of_returns["returns"] = put_returns(self.ledger.objects, *returns)
            if math.isfinite(estimate.sharpe):
                of_returns["estimate"] = asdict(estimate)
        self.head = self.ledger.append(
            ENDED,
            self.id,
            {
                "outcome": outcome,
                "scores": {name: _number(value) for name, value in (scores or {}).items()},
                **of_returns,
                **({"error": redacted(error)[:CHARACTERS_KEPT]} if error else {}),
            },
        )
        self.is_ended = True
        return self.head

    def prune(self, *, scores: Mapping[str, float | None] | None = None) -> ChainHead:
        """Record that it was given up before its end: it counts as any other."""
        return self.end(PRUNED, scores=scores)

    def __enter__(self) -> "OpenTrial":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_ended or self.earlier is not None:
            return
        if error is None:
            self.end()
        else:
            self.end(FAILED, error=f"{type(error).__name__}: {error}")


@dataclass
class TrialLedger:
    """The ledger of a store, for one run or notebook.

    Parameters
    ----------
    objects : ObjectStore
    actor : str
        Who makes the trials.
    now : callable
        The wall clock: times are noted, and decide nothing that is counted.
    """

    objects: ObjectStore
    actor: str
    now: Callable[[], datetime] = _wall_clock

    def begin(
        self,
        slot: Slot,
        *,
        source: str,
        kind: str | None = None,
        parent: str = "",
        differs: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        descends_from: Sequence[str] = (),
        code_version: str = "",
    ) -> OpenTrial:
        """Record that a trial begins, before anything is fitted.

        Parameters
        ----------
        kind : str, optional
            By default as the rule says (`kind_of`).
        settings : mapping, optional
            The whole configuration; kept where it counts.

        Raises
        ------
        StorageUnavailableError
            If it could not be recorded: it must not be made then.
        """
        if kind is None:
            known = self.known()
            lineage = [*descends_from, *ancestors_of(slot.strategy, known)]
            kind = kind_of(slot, source, known, lineage=lineage)
        fields = {
            **slot.fields(),
            "kind": kind,
            "source": source,
            "actor": self.actor,
            "parent": parent,
            "differs": dict(differs or {}),
            "descends_from": sorted(descends_from),
            "code_version": code_version,
            **({"settings": dict(settings)} if settings and kind == SELECTION else {}),
        }
        return OpenTrial(self, slot.id, kind, head=self.append(BEGUN, slot.id, fields))

    def resume(self, trial_id: str) -> OpenTrial | None:
        """A trial that was begun before, to add to; None of one that the ledger does not know."""
        found = self.known().filter(trial=trial_id)
        return None if found.is_empty() else OpenTrial(self, trial_id, found["kind"].item())

    def answer(self, slot: Slot, *, code_version: str) -> str | None:
        """Id of a completed trial of the same configuration and seed by the same code on the same data, of whichever strategy."""
        found = self.known().filter(
            pl.col("configuration") == slot.configuration,
            pl.col("seed").eq_missing(slot.seed),
            pl.col("data_hash") == hash_of_data(slot.data),
            pl.col("code_version") == code_version,
            pl.col("outcome") == COMPLETED,
        )
        return None if found.is_empty() else str(found["trial"][0])

    def scores_of(self, trial_id: str) -> dict[str, float | None]:
        """Scores that a trial has ended with; of several ends the later counts."""
        scores: dict[str, float | None] = {}
        ends = [each.fields for each in self.contents().records if each.fields["trial"] == trial_id]
        for fields in sorted(ends, key=lambda each: str(each["at"])):
            if isinstance(told := fields.get("scores"), dict):
                scores |= told
        return scores

    def known(self) -> pl.DataFrame:
        """Every trial, the `Unreadable` left out: see `trials_of`."""
        return trials_of(read_table(self.objects)[0])

    def read(self) -> tuple[pl.DataFrame, list[Unreadable]]:
        """Every trial of the store, in the order in which they were begun, and what could not be read or is gone."""
        records, unreadable = read_whole(self.objects)
        return trials_of(records), unreadable

    def contents(self) -> Contents:
        """Every record of the store, its SHA-256 compared."""
        return read_contents(self.objects)

    def append(self, event: str, trial_id: str, fields: Mapping[str, Any]) -> ChainHead:
        """Add a record to the chain of this process."""
        return writer_of(self.objects).append({"event": event, "trial": trial_id, **fields}, at=self.now())


def record_trial(
    *,
    strategy: str,
    configuration: Mapping[str, Any],
    data: Mapping[str, Mapping[str, str]] | None = None,
    seed: int | None = None,
    kind: str = SELECTION,
    market: str = "",
    week: str = "",
    differs: Mapping[str, Any] | None = None,
    descends_from: Sequence[str] = (),
    code_version: str = "",
    is_repeated: bool = False,
    objects: ObjectStore | None = None,
) -> OpenTrial:
    """Record a trial that is made beside the pipeline, in a notebook or a script.

    Parameters
    ----------
    strategy : str
        Of which it is a trial, be it one that exists nowhere else yet.
    configuration : mapping
        All that may change the result, as JSON values, the seed apart.
    data : mapping of asset path to (partition to content hash)
        What it is evaluated on, such as the `inputs` of a footer.
    kind : str
        "selection" if you may choose by the result, "diagnostic" if not.
    differs : mapping, optional
        What differs from the strategy's own configuration.
    is_repeated : bool
        Whether to make it again if the same was completed before.
    objects : ObjectStore, optional
        By default the configured store.
    seed : int, optional
        Of what is drawn; None where nothing is.
    market, week : str, optional
        Market and week (its Sunday, YYYY-MM-DD) that it was made on.
    descends_from : sequence of str
        Strategies whose trials count for it too.
    code_version : str, optional
        Digest of the code, where you keep one: the same configuration by other code is another trial.

    Returns
    -------
    OpenTrial
        A context; see its `end` for scores and returns, and `earlier` for a trial that was made before.

    Raises
    ------
    ValueError
        If a name is empty, or `kind` is neither.
    StorageUnavailableError
        If it could not be recorded.

    Examples
    --------
    Not run here, since it writes to the store::

        with record_trial(strategy="momentum", configuration={"lookback": 20}, seed=1) as trial:
            trial.end(scores={"sharpe": 0.05}, returns=(sessions, returns))
    """
    if not (isinstance(strategy, str) and strategy.strip()):
        raise ValueError(f"`strategy` must name the strategy that the trial is of, was {strategy!r:.40}.")
    if kind not in KINDS:
        raise ValueError(f"`kind` must be {' or '.join(KINDS)}, was {kind!r:.40}.")
    opened = objects or ObjectStore(environment.storage_uri(), environment.s3_endpoint())
    ledger = TrialLedger(opened, actor_of({}))
    slot = Slot(strategy, week, configuration_hash(configuration), seed, data or {}, market)
    earlier = None if is_repeated or not data else ledger.answer(slot, code_version=code_version)
    if earlier is not None:
        return OpenTrial(ledger, earlier, kind, earlier=ledger.scores_of(earlier))
    return ledger.begin(
        slot,
        source=NOTEBOOK,
        kind=kind,
        differs=differs,
        settings=configuration,
        descends_from=descends_from,
        code_version=code_version,
    )


def _number(value: object) -> float | None:
    """A score as JSON holds it: NaN and infinity are undefined."""
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        return None
    return float(value)
