"""How often a rollout gives all capital to a challenger that is worse, and to one that is better: `make rollouts`.

Lives here: returns of champions and challengers of several kinds, 1,000 of each, and what becomes of their rollouts. The short form is in
`research/promotion/test_rollout.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import process_time

import numpy as np

from hf_pipelines.research.promotion.rollout import SHARES, Rollout, RolloutSettings, follow_rollout

SESSIONS_PER_YEAR = 252
# Of a session: the champion's returns, and by how much the challenger's differ.
CHAMPION_MEAN, CHAMPION_DEVIATION, DEVIATION = 0.0004, 0.01, 0.005

# Yearly mean of the differences over their deviation, as it is over long times.
WORSE, NO_BETTER, BETTER, LITTLE_BETTER = -1.0, 0.0, 4.0, 2.0
YEARS = {WORSE: 4, NO_BETTER: 4, LITTLE_BETTER: 4, BETTER: 2}
MOST_WORSE, LEAST_BETTER = 0.01, 0.9

Make = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal(n)


def heavy_tails(rng: np.random.Generator, n: int) -> np.ndarray:
    """Student's t of 3 degrees: the fourth moment is infinite."""
    return rng.standard_t(3.0, n) / math.sqrt(3.0)


def changing_volatility(rng: np.random.Generator, n: int) -> np.ndarray:
    """GARCH(1, 1) of shares 0.1 and 0.85."""
    found, variance = np.empty(n), 1.0
    for at, draw in enumerate(rng.standard_normal(n)):
        found[at] = math.sqrt(variance) * draw
        variance = 0.05 + 0.1 * found[at] ** 2 + 0.85 * variance
    return found


def persistent(share: float) -> Make:
    """Of each session a share of the one before."""

    def make(rng: np.random.Generator, n: int) -> np.ndarray:
        from scipy.signal import lfilter

        # The long-run deviation is 1, and that of a session is less or more than it.
        return np.asarray(lfilter([1.0 - share], [1.0, -share], rng.standard_normal(n + 100))[100:])

    return make


def crashes(rng: np.random.Generator, n: int) -> np.ndarray:
    """A small gain in most sessions, and one loss of 8 deviations in 100."""
    chance, loss = 0.01, 16.0
    values = np.where(rng.random(n) < chance, -loss, rng.standard_normal(n)) + chance * loss
    return values / math.sqrt(1.0 + chance * loss**2)


@dataclass(frozen=True)
class Kind:
    """Differences of returns of mean 0 and a long-run deviation of 1; `is_held` are those that the limits hold for at any mean."""

    name: str
    make: Make
    is_held: bool = True


KINDS = (
    Kind("normal", normal),
    Kind("heavy tails (t of 3 degrees)", heavy_tails),
    Kind("changing volatility (GARCH)", changing_volatility),
    Kind("autocorrelated, 0.2", persistent(0.2)),
    Kind("autocorrelated, 0.3", persistent(0.3)),
    Kind("autocorrelated, -0.2", persistent(-0.2)),
    # No test can know of a loss that has not come yet.
    Kind("rare crashes", crashes, is_held=False),
)


@dataclass(frozen=True)
class Outcome:
    """What became of many rollouts."""

    n: int
    n_stopped: int
    reached: tuple[int, ...]
    median_sessions: float

    @property
    def share_full(self) -> float:
        return self.reached[-1] / self.n


def rollout_of(kind: Kind, ratio: float, seed: int) -> Rollout:
    """The rollout of a challenger whose differences have so high an information ratio.

    By the default settings; of one that is no better without a limit of the drawdown, which would stop it before the test does.
    """
    settings = RolloutSettings() if ratio > NO_BETTER else RolloutSettings(max_drawdown=1.0)
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    n = YEARS[ratio] * SESSIONS_PER_YEAR
    champion = CHAMPION_MEAN + CHAMPION_DEVIATION * rng.standard_normal(n)
    difference = DEVIATION * (kind.make(rng, n) + ratio / math.sqrt(SESSIONS_PER_YEAR))
    return follow_rollout(champion + difference, champion, settings)


def outcome_of(kind: Kind, ratio: float, n_seeds: int) -> Outcome:
    """What became of the rollouts of so many challengers of a kind."""
    found = [rollout_of(kind, ratio, seed) for seed in range(n_seeds)]
    highest = [max((step.share for step in each.steps), default=0.0) for each in found]
    lengths = [each.steps[-1].n_sessions for each in found if each.is_complete]
    return Outcome(
        n=n_seeds,
        n_stopped=sum(each.is_stopped for each in found),
        reached=tuple(sum(each >= share for each in highest) for share in SHARES),
        median_sessions=float(np.median(lengths)) if lengths else math.nan,
    )


def fault_of(kind: Kind, ratio: float, outcome: Outcome) -> str:
    """Which limit is not kept; "" if none."""
    if ratio == WORSE or (ratio == NO_BETTER and kind.is_held):
        return "" if outcome.share_full <= MOST_WORSE else f"more than {MOST_WORSE:.0%} reach 100 %"
    if ratio == BETTER and kind.is_held:
        return "" if outcome.share_full >= LEAST_BETTER else f"less than {LEAST_BETTER:.0%} reach 100 %"
    return ""


def main() -> int:
    n_seeds, began, faults = 1_000, process_time(), 0
    print(
        f"{n_seeds:,} rollouts of each kind; ratio: yearly mean of the differences over their deviation; sessions: to 100 %, the median"
    )
    shares = "".join(f"{f'to {share:.0%}':>9}" for share in SHARES)
    print(f"{'differences of returns':<30} {'ratio':>6} {'within':>7}{shares} {'stopped':>8} {'sessions':>9}")
    for kind in KINDS:
        for ratio in YEARS:
            found = outcome_of(kind, ratio, n_seeds)
            fault = fault_of(kind, ratio, found)
            faults += bool(fault)
            reached = "".join(f"{each / n_seeds:>9.1%}" for each in found.reached)
            median = "-" if math.isnan(found.median_sessions) else f"{found.median_sessions:.0f}"
            print(
                f"{kind.name:<30} {ratio:>6.1f} {YEARS[ratio] * SESSIONS_PER_YEAR:>7,}{reached} {found.n_stopped / n_seeds:>8.1%} {median:>9}"
                f"{f'   FAILED: {fault}' if fault else ''}",
                flush=True,
            )
    print(
        f"{process_time() - began:.0f} s of a processor; {'every limit is kept' if not faults else f'{faults} limits are not kept'}"
    )
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
