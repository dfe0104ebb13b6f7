"""Trial ledger: a record of every evaluated configuration, by anyone, that nobody can change without being seen.

Lives here: records, the hash chains that hold them, sealing and verifying, and what was tried. Does not live here: which runs make
trials (`components.trial_recording`), what the number of trials does to a Sharpe ratio (`research.overfitting`).

**Records.** A trial leaves at least two: `begun` before anything is fitted, `ended` (completed, pruned or failed, with its scores)
before its result is used. A trial without an end has died. The id of a trial is its slot: a digest of the strategy, the week, the
configuration, the seed and the data. A retry has the same slot, and is no second trial. A record is one line of canonical JSON,
which holds its own SHA-256, the writer, its number and the SHA-256 of the record before it.

**Chains.** Each writer, a process at a time on one machine, appends to a chain of its own: nobody waits for anybody, and no clock
decides an order. A writer's name, its last number and hash (its head) lie in `HF_DATA_DIR/trial_writers`, locked by the process;
the next process goes on with the chain. A copied data folder meets a record that it did not write, and begins a chain of its own.

**Objects.** Below the store's root, never overwritten, never touched by retention::

    _trials/records/<writer>/<number>      one record, put create-only and, on disk, synced before the trial goes on
    _trials/segments/<sha256>              500 records and more, named by the SHA-256 of their bytes
    _trials/returns/<sha256>               the return series of a trial

Every 500 records a writer seals its own into a segment and then removes the single ones; `seal_loose` (every week) does so for
writers that are gone. Whoever stops in between leaves both: equal copies of a record are one record.

**What a crash leaves.** A begun trial without an end; an unfinished file, under a name that no listing shows and housekeeping
removes; records beside their segment. Never half a record, never a number twice: the next process finds the last record by looking,
not by what it remembers. A full disk fails the trial before it is fitted, and the chain goes on where it was.

**What verifying proves.** A record that was changed, dropped, reordered or inserted breaks its chain, and is named. A tail that was
dropped, or a chain that was written anew from some record on, is whole in itself: it shows by the heads that are kept apart, in the
footers of `cv_results` and `backtest`, in the metadata of their materialisations in Dagster's storage, in the data folder of the
machine that wrote, and wherever a person noted the digest of `hfp ledger summary`.

**What it does not prove.** There is no secret: who may write to the store, to Dagster's database and to the data folder, and knows
what was noted elsewhere, can write another history. Who has the store alone can remove what nobody has noted yet: trials begun after
the last stored footer. What runs in bare Python beside the pipeline leaves no record unless it calls `record_trial`.
"""

from hf_pipelines.resources.trial_ledger.actors import actor_of
from hf_pipelines.resources.trial_ledger.chains import Head, LedgerFault, verify_chains
from hf_pipelines.resources.trial_ledger.ledger import OpenTrial, TrialLedger, record_trial
from hf_pipelines.resources.trial_ledger.trials import DIAGNOSTIC, SELECTION, Slot, configuration_hash, n_trials

__all__ = [
    "DIAGNOSTIC",
    "SELECTION",
    "Head",
    "LedgerFault",
    "OpenTrial",
    "Slot",
    "TrialLedger",
    "actor_of",
    "configuration_hash",
    "n_trials",
    "record_trial",
    "verify_chains",
]
