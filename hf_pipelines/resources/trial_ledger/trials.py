"""Trials: what the records say, one trial a slot, and how many of them count.

Lives here: the slot of a trial, merging its records, the rule by which it counts, ancestors of a strategy. Does not live here: how
records are stored (`segments`), statistics (`research.overfitting`).

**The rule.** A trial is of kind *selection* where somebody may choose by its result, and counts; else it is *diagnostic*.

1. A point of a learning curve, a point of a validation curve, fits on permuted labels: diagnostic. They show how a configuration
   behaves, and do not stand for choice.
2. A configuration with a seed that the strategy has evaluated before as a selection, now on other data (another week, revised bars):
   diagnostic. It is the weekly refit of what was chosen already.
3. Everything else: selection. Another seed is another trial: the best of 50 seeds is a choice.

Selections count once for each pair of configuration and seed, however many weeks and strategies they were evaluated for. A validation
curve counts with all of its points as soon as one of them other than its strategy's own is evaluated as a selection: whoever takes
the best of ten values has made ten trials.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import polars as pl

from hf_pipelines.resources.trial_ledger.records import BEGUN, ENDED, canonical

SELECTION, DIAGNOSTIC = "selection", "diagnostic"
KINDS = (SELECTION, DIAGNOSTIC)

# What makes trials; others may name sources of their own.
CROSS_VALIDATION, BACKTEST, NOTEBOOK, IMPORTED = "cross_validation", "backtest", "notebook", "imported"
TUNING, TRY, LEADERBOARD, SWEEP = "tuning", "try", "leaderboard", "sweep"
LEARNING_CURVE, VALIDATION_CURVE, PERMUTED_LABELS = "learning_curve", "validation_curve", "permuted_labels"
FULL_VALIDATION = "full_validation"
DIAGNOSTIC_SOURCES = frozenset({LEARNING_CURVE, VALIDATION_CURVE, PERMUTED_LABELS, FULL_VALIDATION})

COMPLETED, PRUNED, FAILED = "completed", "pruned", "failed"
OUTCOMES = (COMPLETED, PRUNED, FAILED)

_DIGITS = 32


@dataclass(frozen=True)
class Slot:
    """What identifies a trial: whoever evaluates the same again evaluates this trial.

    Attributes
    ----------
    strategy : str
    week : str
        Key of the partition, "" where there is none.
    configuration : str
        From `configuration_hash`: all that may change the result, the seed apart.
    seed : int or None
    data : mapping of asset path to (partition to content hash)
    market : str
    purpose : str
        Of a diagnostic what it shows: it is another trial than the evaluation of the same configuration.
    """

    strategy: str
    week: str
    configuration: str
    seed: int | None
    data: Mapping[str, Mapping[str, str]]
    market: str = ""
    purpose: str = ""

    @property
    def id(self) -> str:
        parts = [self.strategy, self.week, self.configuration, self.seed, self.fields()["data"]]
        parts += [self.purpose] if self.purpose else []
        return _digest(parts)

    def fields(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "week": self.week,
            "configuration": self.configuration,
            "seed": self.seed,
            "data": {asset: dict(hashes) for asset, hashes in self.data.items()},
            "data_hash": hash_of_data(self.data),
            "market": self.market,
        }


def configuration_hash(settings: Mapping[str, Any]) -> str:
    """Hash of all settings that may change a result, the seed left out.

    Parameters
    ----------
    settings : mapping
        JSON values: texts, whole and finite numbers, true, false, None, lists and mappings of these.

    Returns
    -------
    str
        Hexadecimal digits; the same for the same settings in any order of their names.

    Raises
    ------
    TypeError
        If a setting is no JSON value.

    Examples
    --------
    >>> configuration_hash({"a": 1, "b": [2]}) == configuration_hash({"b": [2], "a": 1})
    True
    """
    return _digest(settings)


def _digest(value: Any) -> str:
    return sha256(canonical(value)).hexdigest()[:_DIGITS]


def hash_of_data(data: Mapping[str, Mapping[str, str]]) -> str:
    """Hash of the contents that a trial is evaluated on."""
    return _digest({asset: dict(hashes) for asset, hashes in data.items()})


# Columns that the first record of a trial decides.
_BEGUN = (
    "source",
    "strategy",
    "market",
    "week",
    "actor",
    "configuration",
    "seed",
    "data_hash",
    "code_version",
    "parent",
)
# What is counted once.
_KEY = ("configuration", "seed")


def trials_of(records: pl.DataFrame) -> pl.DataFrame:
    """One row for each slot, in the order in which they were begun, by their clocks.

    Parameters
    ----------
    records : DataFrame
        As `read_table` gives them.

    Returns
    -------
    DataFrame
        `trial`, `kind`, `source` (cross_validation, backtest, validation_curve, notebook...), `strategy`, `market`, `week`, `actor`,
        `configuration`, `seed`, `data_hash`, `code_version`, `parent` (trial that it belongs to, or ""), `descends_from`, `begun_at`,
        `n_begun`, `outcome` (null of a trial that has not ended: it is under way, or has died), `ended_at`, `returns` (SHA-256 of its
        return series, or null), `estimate` (Sharpe ratio per period with its moments, or null).
    """
    ordered = records.sort("at", "writer", "n")
    begun = (
        ordered.filter(event=BEGUN)
        .group_by("trial", maintain_order=True)
        .agg(
            # What is begun again is the same trial; a selection stays one.
            pl.when((pl.col("kind") == DIAGNOSTIC).all())
            .then(pl.lit(DIAGNOSTIC))
            .otherwise(pl.lit(SELECTION))
            .alias("kind"),
            pl.col(*_BEGUN, "descends_from").first(),
            begun_at=pl.col("at").first(),
            n_begun=pl.len(),
        )
    )
    ended = (
        ordered.filter(pl.col("event") == ENDED)
        .group_by("trial", maintain_order=True)
        .agg(
            # What was completed once has a result, whatever became of it when it was made again.
            pl.when((pl.col("outcome") == COMPLETED).any())
            .then(pl.lit(COMPLETED))
            .otherwise(pl.col("outcome").last())
            .alias("outcome"),
            pl.col("returns", "estimate").drop_nulls().last(),
            ended_at=pl.col("at").last(),
        )
    )
    # A trial whose beginning was taken away is one, too.
    found = begun.join(ended, on="trial", how="full", coalesce=True)
    return found.with_columns(
        pl.col("kind").fill_null(SELECTION),
        pl.col("begun_at").fill_null(pl.col("ended_at")),
        pl.col("parent", "strategy", "market", "source").fill_null(""),
        pl.col("configuration").fill_null(pl.col("trial")),
        pl.col("n_begun").fill_null(0),
    ).sort("begun_at", "trial")


def kind_of(slot: Slot, source: str, known: pl.DataFrame, *, lineage: Iterable[str] = ()) -> str:
    """Kind of a trial by the rule above, beside all trials that are known.

    Parameters
    ----------
    lineage : iterable of str
        Ancestors of the strategy, whose refits are its own.
    """
    if source in DIAGNOSTIC_SOURCES:
        return DIAGNOSTIC
    earlier = known.filter(
        pl.col("configuration") == slot.configuration,
        pl.col("seed").eq_missing(slot.seed),
        pl.col("strategy").is_in([slot.strategy, *lineage]),
        pl.col("kind") == SELECTION,
        pl.col("trial") != slot.id,
    )
    return SELECTION if earlier.is_empty() else DIAGNOSTIC


def counted(trials: pl.DataFrame) -> pl.DataFrame:
    """The trials that count, in their order: one for each pair of configuration and seed; the first that has returns."""
    selected = trials.filter(kind=SELECTION).select(*_KEY).unique()
    points = trials.filter(pl.col("source") == VALIDATION_CURVE, pl.col("kind") == DIAGNOSTIC)
    searched: list[str] = []
    if points.height:
        own = trials.select(parent="trial", own=pl.struct(*_KEY))
        others = points.join(own, on="parent", how="left").filter(pl.struct(*_KEY).ne_missing(pl.col("own")))
        searched = others.join(selected, on=_KEY, how="semi", nulls_equal=True)["parent"].unique().to_list()
    is_counted = (pl.col("kind") == SELECTION) | (
        (pl.col("source") == VALIDATION_CURVE) & pl.col("parent").is_in(searched)
    )
    return (
        trials.filter(is_counted)
        .sort(pl.col("returns").is_null(), "begun_at", "trial")
        .unique(_KEY, keep="first", maintain_order=True)
        .sort("begun_at", "trial")
    )


def n_trials(trials: pl.DataFrame) -> int:
    """How many of some trials count.

    Parameters
    ----------
    trials : DataFrame of shape (n_recorded, ...)
        From `TrialLedger`, one row a trial.

    Returns
    -------
    int
        One for each pair of configuration and seed by which somebody may have chosen; points of a validation curve are among them
        where one of them was taken.
    """
    return counted(trials).height


def ancestors_of(strategy: str, trials: pl.DataFrame) -> list[str]:
    """Strategies whose trials a strategy inherits, sorted: those that it declares, and those whose configuration it has taken.

    A configuration belongs to the strategy that evaluated it first.
    """
    declared: dict[str, set[str]] = defaultdict(set)
    named = trials.select("strategy", "descends_from").explode("descends_from").drop_nulls().unique()
    for name, of in named.rows():
        declared[name].add(of)
    evaluated = trials.filter(~pl.col("source").is_in([*DIAGNOSTIC_SOURCES])).select("configuration", "strategy")
    first = evaluated.unique("configuration", keep="first", maintain_order=True).rename({"strategy": "first"})
    taken = evaluated.unique().join(first, on="configuration").filter(pl.col("strategy") != pl.col("first"))
    for name, of in taken.select("strategy", "first").unique().rows():
        declared[name].add(of)
    found, waiting = set[str](), [strategy]
    while waiting:
        for of in declared[waiting.pop()] - found - {strategy}:
            found.add(of)
            waiting.append(of)
    return sorted(found)


def select(
    trials: pl.DataFrame,
    *,
    strategy: str | None = None,
    market: str | None = None,
    actor: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> pl.DataFrame:
    """Those of some trials that a strategy or its ancestors, a market or an actor has made, begun in a span of ISO times."""
    wanted = None if strategy is None else [strategy, *ancestors_of(strategy, trials)]
    conditions = {
        "strategy": None if wanted is None else pl.col("strategy").is_in(wanted),
        "market": None if market is None else pl.col("market") == market,
        "actor": None if actor is None else pl.col("actor") == actor,
        "since": None if since is None else pl.col("begun_at") >= since,
        "until": None if until is None else pl.col("begun_at") < until,
    }
    return trials.filter(*(each for each in conditions.values() if each is not None))
