"""Payload: what a portfolio layer is told when another release of a strategy serves, or none any more.

Lives here: the messages that follow from a history, and the figures in them. Does not live here: measuring the figures, storing and sending
the messages; both are above this room. A message recommends nothing and orders nothing: what is traded is decided by who reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from hf_pipelines.research.promotion.lifecycle import Lifecycle, states_of

SCHEMA_VERSION = 1

# Each with its unit, for the schema and for who measures it.
FIGURES: dict[str, str] = {
    "expected_return": "Compound return of the simulated account after costs, a fraction a year, out of fold",
    "confidence": "Deflated Sharpe ratio: probability that the Sharpe ratio is above 0, given all trials that count",
    "sharpe": "Sharpe ratio of a year after costs",
    "sharpe_low": "Lower bound of its interval of 95 %",
    "sharpe_high": "Upper bound of its interval of 95 %",
    "max_drawdown": "Largest drawdown of the account; 0.2 is 20 % below the peak",
    "turnover_per_year": "Value traded in a year, buys and sells, over equity",
    "capacity": "Money, in the market's currency, at which market impact halves the mean return",
}

NOT_KEPT = "the decision was recorded before figures were kept"
NOTHING_SERVES = "nothing serves"


def payloads_of(strategy: str, records: Sequence[Mapping[str, Any]], hashes: Sequence[str]) -> list[dict[str, Any]]:
    """A message for each decision after which another release serves than before, or none, in order.

    Parameters
    ----------
    strategy : str
    records : sequence of mapping
        The whole history, a record each.
    hashes : sequence of str
        SHA-256 of each record.

    Returns
    -------
    list of dict
        JSON values, as `schemas/payload.json` has them. The same history always gives the same ones, and a longer one begins with them.
    """
    found: list[dict[str, Any]] = []
    for number, (before, after) in enumerate(pairwise(states_of(records))):
        if _serving(before) != _serving(after):
            found.append(_payload(strategy, records, number, (before, after), hashes[number], n=len(found) + 1))
    return found


def _payload(
    strategy: str,
    records: Sequence[Mapping[str, Any]],
    number: int,
    states: tuple[Lifecycle, Lifecycle],
    digest: str,
    *,
    n: int,
) -> dict[str, Any]:
    record, (left, release) = records[number], (each.champion for each in states)
    # After a rollback the figures are those that the release was promoted by.
    judged = None if release is None else records[release.number - 1]
    figures: Mapping[str, Any] = {} if judged is None else judged["figures"]
    missing = {"value": None, "why": NOTHING_SERVES if judged is None else NOT_KEPT}
    told = {name: figures.get(name, missing) for name in FIGURES}
    return {
        "schema_version": SCHEMA_VERSION,
        "id": record["id"],
        "strategy": strategy,
        "n": n,
        "decision": record["kind"],
        "decision_number": record["n"],
        "at": record["at"],
        "actor": record["actor"],
        "reason": record["reason"],
        "is_override": release is not None and release.is_override,
        "version": None if release is None else str(release.version),
        "left": None if left is None else str(left.version),
        "configuration": None if release is None else release.configuration,
        "week": None if release is None else release.week,
        **{name: each["value"] for name, each in told.items()},
        "unknown": {name: each["why"] for name, each in told.items() if each["value"] is None},
        # A record that was read has its fields in another order than one that was just made.
        "evidence": {}
        if judged is None
        else {asset: dict(sorted(parts.items())) for asset, parts in sorted(judged["evidence"].items())},
        "record": digest,
    }


def _serving(state: Lifecycle) -> int | None:
    return None if state.champion is None else state.champion.number
