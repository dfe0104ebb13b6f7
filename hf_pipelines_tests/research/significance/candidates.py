"""Losses of candidates and sessions drawn, for the tests of many at once."""

import numpy as np

from hf_pipelines.research.metrics.bootstrap import Draws, draw_stationary


def noise(seed: int, *, n: int = 250, n_candidates: int = 5, advantages: tuple[float, ...] = ()) -> np.ndarray:
    """Losses about 1 that rise and fall together; those of the first candidates are lower by their advantages."""
    rng = np.random.default_rng(seed)
    losses = 1.0 + rng.normal(0.0, 0.5, (n, 1)) + rng.normal(0.0, 0.2, (n, n_candidates))
    losses[:, : len(advantages)] -= np.array(advantages)
    return losses


def some_draws(n: int, *, block: int = 5, seed: int = 0, n_resamples: int = 500) -> Draws:
    draws = draw_stationary(n, block_sessions=block, seed=seed, n_resamples=n_resamples)
    assert draws is not None
    return draws


def draws_of_arch(indices: list[np.ndarray], block: int) -> Draws:
    """The very sessions that arch has drawn."""
    return Draws(np.array(indices, dtype=np.int32), block)
