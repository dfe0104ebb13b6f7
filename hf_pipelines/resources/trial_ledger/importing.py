"""Importing: results that were stored before there was a ledger become trials of it.

Lives here: what their footers say. Does not live here: when they are taken in (`components`, `hfp ledger import`).
"""

from contextlib import suppress
from datetime import date

from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError
from hf_pipelines.resources.trial_ledger.heads import TRIAL
from hf_pipelines.resources.trial_ledger.ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.returns import session_returns
from hf_pipelines.resources.trial_ledger.trials import DIAGNOSTIC, IMPORTED, SELECTION, Slot, configuration_hash


def import_stored(
    ledger: TrialLedger, store: PartitionStore, asset: str, *, now: tuple[str, Slot] | None = None
) -> int:
    """Record the stored `cv_results` of a strategy that the ledger does not know; returns how many.

    Parameters
    ----------
    asset : str
        `<strategy>/cv_results`.
    now : (str, Slot), optional
        Present code version and slot of the strategy: what the same version made has the same configuration and seed. Of other
        results the code version stands for both, which is the one thing that their footers say of them.
    """
    known = ledger.known()
    ids, seen = {*known["trial"]}, {*known.filter(kind=SELECTION).select("configuration", "seed").rows()}
    n = 0
    for key in store.partitions(asset):
        # What is damaged is made again, and recorded then.
        with suppress(StoredPartitionError, ObjectMissingError):
            footer = store.peek(store.key(asset, key), asset=asset, partition=key)
            slot = _slot(footer, now)
            if footer.facts.get(TRIAL) in ids or slot.id in ids:
                continue
            kind = DIAGNOSTIC if (slot.configuration, slot.seed) in seen else SELECTION
            seen.add((slot.configuration, slot.seed))
            differs = {"made_at": footer.created_at, "run_id": footer.run_id, "content_hash": footer.content_hash}
            trial = ledger.begin(slot, source=IMPORTED, kind=kind, differs=differs, code_version=footer.code_version)
            metrics = footer.facts.get("metrics")
            trial.end(scores=metrics if isinstance(metrics, dict) else {}, returns=_returns(store, footer))
            n += 1
    return n


def _returns(store: PartitionStore, results: Footer) -> tuple[list[date], list[float]] | None:
    """Returns of the stored account that follows some results; None where there is none, or one of other results."""
    try:
        account = store.read(f"{results.asset.rpartition('/')[0]}/backtest", results.partition)
    except (StoredPartitionError, ObjectMissingError):
        return None
    follows = account.footer.inputs.get(results.asset, {}).get(results.partition) == results.content_hash
    return session_returns(account.frame, account.footer.facts) if follows else None


def _slot(footer: Footer, now: tuple[str, Slot] | None) -> Slot:
    strategy = footer.asset.rpartition("/")[0]
    if now is not None and now[0] == footer.code_version:
        present = now[1]
        return Slot(strategy, footer.partition, present.configuration, present.seed, footer.inputs, present.market)
    configuration = configuration_hash({"strategy": strategy, "code_version": footer.code_version})
    return Slot(strategy, footer.partition, configuration, None, footer.inputs, "" if now is None else now[1].market)
