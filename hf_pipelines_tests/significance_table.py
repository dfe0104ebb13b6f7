"""How often tests of significance find something in noise, and what they find where something is: `make significance`.

Lives here: series of losses of several kinds, and the shares of them in which each test finds a difference at 5 %. The short form
is in `research/significance`.

A share of 1,000 draws has an error of 0.7 %: of a test that holds its level 5 % is found in 3.2 to 6.8 % of them, with a
probability of 99 %.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np

from hf_pipelines.research.metrics.bootstrap import draw_stationary, politis_white_block
from hf_pipelines.research.significance import (
    COSINE,
    TRUNCATED,
    diebold_mariano,
    draw_rotations,
    model_confidence_set,
    reality_check,
    superior_ability,
)

LEVEL, N_DRAWS, CANDIDATES, RESAMPLES = 0.05, 1_000, 20, 300
ERROR = math.sqrt(LEVEL * (1.0 - LEVEL) / N_DRAWS)
# Where nothing is wrong one of 100 shares lies further away.
WITHIN = 2.58 * ERROR

Make = Callable[[np.random.Generator, int, int], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """Differences of losses where neither is better.

    Attributes
    ----------
    make : callable
        `(rng, n_sessions, n_series) -> array of shape (n_sessions, n_series)`.
    horizon : int
        Sessions that a label spans.
    """

    name: str
    make: Make
    horizon: int = 1


def persistent(share: float) -> Make:
    """Noise of which each session keeps a share of the one before."""
    from scipy.signal import lfilter

    def make(rng: np.random.Generator, n: int, n_series: int) -> np.ndarray:
        drawn = rng.normal(size=(n + 200, n_series))
        return np.asarray(lfilter([1.0], [1.0, -share], drawn, axis=0)[200:])

    return make


def overlapping(horizon: int) -> Make:
    """Sums of neighbours, as of labels that overlap."""

    def make(rng: np.random.Generator, n: int, n_series: int) -> np.ndarray:
        total = np.cumsum(rng.normal(size=(n + horizon, n_series)), axis=0)
        return np.asarray(total[horizon:] - total[:-horizon])

    return make


def heavy(rng: np.random.Generator, n: int, n_series: int) -> np.ndarray:
    """Student's t with four degrees of freedom."""
    return rng.standard_t(4, size=(n, n_series))


KINDS = (
    Kind("independent", persistent(0.0)),
    Kind("heavy tails", heavy),
    Kind("labels of 5 sessions", overlapping(5), horizon=5),
    Kind("labels of 20 sessions", overlapping(20), horizon=20),
    Kind("persistence 0.3", persistent(0.3)),
    Kind("persistence 0.5", persistent(0.5)),
)


def pair_shares(series: np.ndarray, horizon: int) -> dict[str, float]:
    """Share of series in which each form of the test of a pair finds a difference."""
    ways = {"naive": (1, TRUNCATED), TRUNCATED: (horizon, TRUNCATED), COSINE: (horizon, COSINE)}
    return {
        name: float(np.mean([diebold_mariano(each, horizon=h, variance=variance).p < LEVEL for each in series.T]))
        for name, (h, variance) in ways.items()
    }


def many_shares(
    kind: Kind, *, n: int, n_draws: int, advantage: float = 0.0, poor: float = 0.0, seed: int = 0
) -> dict[str, float]:
    """Share of draws in which each test of many candidates finds that one beats the first, or that they are not alike.

    Parameters
    ----------
    kind : Kind
        Of each candidate's losses beside what all of them share.
    n : int
        Sessions.
    n_draws : int
    advantage : float
        Of the second candidate, in standard deviations of its losses.
    poor : float
        What all after the second lose more.
    """
    found: dict[str, list[bool]] = {}
    for number in range(n_draws):
        rng = np.random.default_rng([seed, number])
        losses = kind.make(rng, n, CANDIDATES)
        losses = losses / losses.std(axis=0) + rng.normal(0.0, 2.0, (n, 1))
        losses[:, 1] -= advantage
        losses[:, 2:] += poor
        block = politis_white_block(losses[:, [0]] - losses[:, 1:], label_sessions=kind.horizon)
        draws = draw_stationary(n, block_sessions=block, seed=[seed, number], n_resamples=RESAMPLES)
        if draws is None:
            raise ValueError(f"`n` must make eight blocks of {block}, was {n}.")
        given = losses[:, 0], losses[:, 1:], draws
        turned = draw_rotations(n, horizon=kind.horizon, seed=[seed, number], n_resamples=RESAMPLES)
        p = {
            "best alone": min(diebold_mariano(each, horizon=kind.horizon).p for each in (given[0] - given[1].T)),
            "reality check": reality_check(*given),
            "SPA, blocks": superior_ability(*given).consistent,
            "SPA, rotations": superior_ability(*given[:2], turned).consistent,
            "MCS, blocks": float(model_confidence_set(losses, draws).p.min()),
            "MCS, rotations": float(model_confidence_set(losses, turned).p.min()),
        }
        for name, each in p.items():
            found.setdefault(name, []).append(each < LEVEL)
    return {name: float(np.mean(each)) for name, each in found.items()}


def _line(name: str, shares: dict[str, float]) -> str:
    return f"{name:34}" + "".join(f"{share:>16.1%}" for share in shares.values())


def _head(name: str, columns: Sequence[str]) -> str:
    return f"\n{name:34}" + "".join(f"{column:>16}" for column in columns)


def _report_pairs() -> Iterator[str]:
    rng = np.random.default_rng(0)
    print(_head("One pair, no difference", ("naive", TRUNCATED, COSINE)))
    for n in (60, 250, 1_500):
        for kind in KINDS:
            if n < 12 * kind.horizon:
                continue
            shares = pair_shares(kind.make(rng, n, N_DRAWS), kind.horizon)
            print(_line(f"{n:5,} sessions, {kind.name}", shares))
            # Of 60 sessions and much persistence no test holds its level.
            if shares[COSINE] - LEVEL > WITHIN and n * (kind.name != "independent") != 60:
                yield f"the test of a pair finds {shares[COSINE]:.1%} in noise of {n} sessions, {kind.name}"
    print(_head("One pair, errors of the mean away", ("naive", TRUNCATED, COSINE)))
    for away in (1.0, 2.0, 3.0, 4.0):
        series = rng.normal(away / math.sqrt(500), 1.0, (500, N_DRAWS))
        print(_line(f"  500 sessions, {away:g}", pair_shares(series, 1)))


def _report_many() -> Iterator[str]:
    names = ("best alone", "reality check", "SPA, blocks", "SPA, rotations", "MCS, blocks", "MCS, rotations")
    print(_head(f"{CANDIDATES} candidates, no difference", names))
    for n, kind in ((250, KINDS[0]), (500, KINDS[0]), (500, KINDS[2]), (500, KINDS[5]), (1_500, KINDS[5])):
        shares = many_shares(kind, n=n, n_draws=N_DRAWS)
        print(_line(f"{n:5,} sessions, {kind.name}", shares), flush=True)
        for name in ("SPA, rotations", "MCS, rotations"):
            if shares[name] - LEVEL > WITHIN:
                yield f"{name} finds {shares[name]:.1%} in noise of {n} sessions, {kind.name}"
    print(_head("One of them better, 500 sessions", names))
    for advantage in (0.1, 0.2, 0.3):
        shares = many_shares(KINDS[0], n=500, n_draws=N_DRAWS // 5, advantage=advantage)
        print(_line(f"  by {advantage:g} standard deviations", shares), flush=True)
    shares = many_shares(KINDS[0], n=500, n_draws=N_DRAWS // 5, advantage=0.2, poor=0.5)
    print(_line("  by 0.2, the others worse by 0.5", shares), flush=True)


def main() -> int:
    """Print the tables; 1 if a test finds more in noise than it says."""
    cpu = process_time()
    print(f"Share of {N_DRAWS:,} draws in which a test finds a difference at {LEVEL:.0%}; its error is {ERROR:.1%}.")
    faults = [*_report_pairs(), *_report_many()]
    for fault in faults:
        print(f"FAULT: {fault}")
    print(f"\n{process_time() - cpu:.0f} seconds of a processor")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
