"""Which way a score runs: whether more of it is better.

Lives here: the one list of scores of which less is better. Not here: what a score means (a module a kind).
"""

from __future__ import annotations

# Prefix of the losses of quantiles, with the level behind it.
QUANTILE_LOSS = "quantile_loss_"

# Scores of which less is better; of the rest more.
ERRORS = frozenset({"log_loss", "brier", "mse", "rmse", "mae", "mape", "max_drawdown"})


def is_better_higher(score: str) -> bool:
    """Whether more of a score is better."""
    return score not in ERRORS and not score.startswith(QUANTILE_LOSS)
