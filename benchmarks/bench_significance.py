"""Cost of telling many candidates apart, beside arch: 20 candidates x 1,500 sessions x 1,000 resamples.

Hansen's test, White's reality check and the model confidence set, with Politis and White's block length and the sessions drawn; arch
draws them for each test anew. Both in turn; prints the least wall and CPU seconds of each. Exits 1 if ours take more than
`MAX_SECONDS` of CPU.

    python benchmarks/bench_significance.py [rounds]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from arch.bootstrap import MCS, SPA

from hf_pipelines.research.metrics.bootstrap import draw_stationary, politis_white_block
from hf_pipelines.research.significance import (
    adjust_holm,
    diebold_mariano,
    model_confidence_set,
    reality_check,
    superior_ability,
)

CANDIDATES, SESSIONS, RESAMPLES, SEED = 20, 1_500, 1_000, 0
MAX_SECONDS = 5.0


def ours(losses: np.ndarray) -> None:
    """Every test of the first candidate against the others, and of all of them."""
    advantage = losses[:, [0]] - losses[:, 1:]
    block = politis_white_block(advantage)
    draws = draw_stationary(SESSIONS, block_sessions=block, seed=SEED, n_resamples=RESAMPLES)
    assert draws is not None
    superior_ability(losses[:, 0], losses[:, 1:], draws)
    reality_check(losses[:, 0], losses[:, 1:], draws)
    model_confidence_set(losses, draws)
    adjust_holm([diebold_mariano(each).p for each in advantage.T])


def theirs(losses: np.ndarray) -> None:
    """The same by arch: its reality check is Hansen's upper bound."""
    block = politis_white_block(losses[:, [0]] - losses[:, 1:])
    SPA(losses[:, 0], losses[:, 1:], block_size=block, reps=RESAMPLES, seed=SEED).compute()
    MCS(losses, 0.05, block_size=block, reps=RESAMPLES, method="R", seed=SEED).compute()


def main() -> int:
    """Time both in turn; 0 if ours are as fast as they must be."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rng = np.random.default_rng(SEED)
    losses = rng.normal(1.0, 0.5, (SESSIONS, 1)) + rng.normal(0.0, 0.2, (SESSIONS, CANDIDATES))
    ways: dict[str, Callable[[np.ndarray], None]] = {"ours": ours, "arch": theirs}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            began, used = time.perf_counter(), time.process_time()
            run(losses)
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - used)
    for name in ways:
        print(f"{name}: wall {min(wall[name]):.3f} s, CPU {min(cpu[name]):.3f} s", flush=True)
    print(f"arch takes {min(cpu['arch']) / min(cpu['ours']):.1f} times as long")
    return 0 if min(cpu["ours"]) <= MAX_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main())
