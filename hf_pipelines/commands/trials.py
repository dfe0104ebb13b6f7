"""Trial commands: what `hfp ledger summary`, `verify` and `import` print.

Lives here: their words. Does not live here: the ledger (`resources.trial_ledger`), statistics (`research.overfitting`), the command
line (`cli`).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.research.overfitting import Deflation
from hf_pipelines.research.wording import printable, some_of
from hf_pipelines.resources import settings
from hf_pipelines.resources.lineage import stored_partitions
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError
from hf_pipelines.resources.trial_ledger import LedgerFault, TrialLedger, actor_of
from hf_pipelines.resources.trial_ledger.heads import digest_of_heads, verify_ledger
from hf_pipelines.resources.trial_ledger.holes import read_whole
from hf_pipelines.resources.trial_ledger.importing import import_stored
from hf_pipelines.resources.trial_ledger.judging import best_of, estimate_of, judge
from hf_pipelines.resources.trial_ledger.returns import SESSIONS_PER_YEAR
from hf_pipelines.resources.trial_ledger.trials import DIAGNOSTIC, ancestors_of, counted, n_trials, select, trials_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scope:
    """Whose trials, and of which span: ISO dates, the last one left out."""

    strategy: str | None = None
    market: str | None = None
    actor: str | None = None
    since: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            given = getattr(self, name)
            try:
                date.fromisoformat(given or "2000-01-01")
            except ValueError as e:
                raise ValueError(f"`{name}` must be a date, YYYY-MM-DD, was {given[:40]!r}.") from e


def summarise(store: PartitionStore, scope: Scope) -> dict[str, Any]:
    """What was tried within a scope, and what its best result is worth.

    Raises
    ------
    ValueError
        If the ledger knows no trial of the strategy, market or actor.
    """
    records, unreadable = read_whole(store.objects)
    every = trials_of(records)
    _require_known(every, scope)
    found = select(every, **asdict(scope))
    count = counted(found)
    best_trial = best_of(count)
    best = estimate_of(best_trial)
    judged, lacking = (None, []) if best is None else judge(store.objects, count, best)
    inherited = [] if scope.strategy is None else ancestors_of(scope.strategy, every)
    return {
        "recorded": found.height,
        "counted": count.height,
        "diagnostic": found.filter(kind=DIAGNOSTIC).height,
        "outcomes": {
            str(name): n for name, n in _counts(found.with_columns(pl.col("outcome").fill_null("not ended")), "outcome")
        },
        "by_strategy": dict(_counts(count, "strategy")),
        "by_actor": dict(_counts(count, "actor")),
        "by_source": dict(_counts(count, "source")),
        "inherited_from": {name: n_trials(found.filter(strategy=name)) for name in inherited},
        # Of a session, as all ratios of the deflation.
        "best": None if best is None else asdict(best),
        "sessions_per_year": _sessions_per_year(store, best_trial),
        "deflation": None if judged is None else asdict(judged),
        "heads": digest_of_heads(records),
        "unreadable": [f"{each.address} is {each.what}" for each in (*unreadable, *lacking)],
    }


def summary_lines(found: dict[str, Any]) -> list[str]:
    """The summary in words."""
    outcomes = ", ".join(f"{name}: {n}" for name, n in found["outcomes"].items())
    lines = [
        f"{found['counted']:,} trial{' counts' if found['counted'] == 1 else 's count'}, of {found['recorded']:,} recorded ({outcomes or 'none'})"
    ]
    if found["inherited_from"]:
        told = ", ".join(f"{name} ({n})" for name, n in found["inherited_from"].items())
        lines.append(f"inherited, by descent or by the same configuration: {told}")
    for name in ("strategy", "actor", "source"):
        told = ", ".join(f"{each} {n:,}" for each, n in found[f"by_{name}"].items())
        lines += [f"by {name}: {told}"] if told else []
    if found["deflation"] is None:
        lines.append("no trial has a return series yet: nothing can be deflated")
    else:
        best, judged = found["best"], Deflation(**found["deflation"])
        # As the check `trials` shows it; a trial of no calendar that is known here has its ratio of a session.
        a_year = found["sessions_per_year"]
        unit, scale, digits = ("per session", 1.0, 4) if a_year is None else ("a year", math.sqrt(a_year), 2)
        lines += [
            f"independent trials: {judged.n_independent:,}",
            f"best Sharpe ratio {unit}: {best['sharpe'] * scale:.{digits}f} over {best['n']:,} sessions; the best of so many trials "
            f"without skill is expected to show {judged.expected_maximum * scale:.{digits}f}",
            f"probability that its true ratio is above 0: {judged.probabilistic:.3f} if it were the only trial, "
            f"{judged.deflated:.3f} beside {judged.n_independent:,} independent ones, {judged.deflated_by_all:.3f} beside all "
            f"{judged.n_trials:,}",
        ]
    lines += [f"DAMAGED {each}" for each in found["unreadable"]]
    lines.append(f"digest of all heads, to be noted elsewhere: {found['heads']}")
    return [printable(each) for each in lines]


def _sessions_per_year(store: PartitionStore, trial: pl.DataFrame) -> int | None:
    """Of the calendar of a trial's market, as its account has it; None where there is no account."""
    for strategy, week in trial.select("strategy", "week").drop_nulls().rows():
        try:
            footer = store.footer(f"{strategy}/backtest", week)
        except (StoredPartitionError, ValueError):
            # Names of trials that programs record are their own.
            return None
        found = None if footer is None else footer.facts.get(SESSIONS_PER_YEAR)
        return int(str(found)) if found is not None else None
    return None


def verify_trials(store: PartitionStore, say: Say, *, says_nothing_of_none: bool = False) -> list[LedgerFault]:
    """Look at every record and every head that is kept apart; prints each fault, and the sum unless there is no ledger."""
    faults, n_records, n_chains, n_heads = verify_ledger(store, existing_instance())
    for each in faults:
        say(printable(f"MISMATCH {each}"))
    if says_nothing_of_none and not (faults or n_records or n_heads):
        return faults
    say(
        f"trial ledger: {n_records:,} records in {n_chains:,} chains, {n_heads:,} heads kept apart: {len(faults) or 'no'} "
        f"mismatch{'es' * (len(faults) != 1)}"
    )
    return faults


def import_lines(store: PartitionStore) -> Iterator[str]:
    """Take stored `cv_results` that the ledger does not know into it, a line for each strategy."""
    ledger = TrialLedger(store.objects, actor_of({}))
    assets = [asset for asset in stored_partitions(store) if asset.rpartition("/")[2] == "cv_results"]
    for asset in assets:
        yield printable(f"{asset}: {import_stored(ledger, store, asset)} stored results were taken in")
    if not assets:
        yield "no cv_results are stored: nothing was taken in"


def existing_instance() -> dg.DagsterInstance | None:
    """The Dagster instance of the commands, None where there is none yet."""
    home = settings.dagster_home()
    if settings.postgres_url() is None and not (home / "dagster.yaml").exists():
        return None
    settings.prepare_dagster_home()
    return dg.DagsterInstance.get()


def _require_known(trials: pl.DataFrame, scope: Scope) -> None:
    for name in ("strategy", "market", "actor"):
        given, known = getattr(scope, name), sorted(trials[name].drop_nulls().unique())
        if given is not None and given not in known:
            told = printable(some_of(known)) if known else "there is none"
            raise ValueError(f"`{name}` must be one that the ledger knows ({told}), was {given[:80]!r}.")


def _counts(trials: pl.DataFrame, column: str) -> list[tuple[str, int]]:
    rows = trials.group_by(column).len().sort(["len", column], descending=[True, False])
    return [(str(name), int(n)) for name, n in rows.rows()]
