"""Ridge regression on standardised features, saved as skops.

The scaler is a step of the estimator, so whoever fits a fold fits the scaler on that fold's training rows
alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from hf_pipelines.research.learners import skops_bytes
from hf_pipelines.research.learners.learner import Estimator, SearchRange
from hf_pipelines.research.params import Limits, ParamValue

DEFAULTS: dict[str, ParamValue] = {"alpha": 1.0, "fit_intercept": True}

LIMITS: dict[str, Limits] = {"alpha": (0.0, 1e12)}

# The penalty is against the sum of squares over rows: a few thousand rows need a large one to feel it.
SEARCH_SPACE = {"alpha": SearchRange(1e-2, 1e5, is_log=True)}

WEIGHT_ARGUMENT = "ridge__sample_weight"

# All that a saved ridge consists of: anything more in the file is not ours.
TRUSTED_TYPES = frozenset(
    {
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.linear_model._ridge.Ridge",
        "numpy.ndarray",
        "numpy.float32",
        "numpy.float64",
        "numpy.int64",
        "builtins.dict",
        "builtins.list",
        "builtins.tuple",
        "builtins.str",
    }
)


def build(params: Mapping[str, ParamValue], seed: int, n_threads: int) -> Estimator:
    """Make an unfitted Pipeline(StandardScaler, Ridge); a direct solver, so seed and threads do nothing."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    ridge = Ridge(**params, solver="cholesky", random_state=seed)
    return Pipeline([("standard_scaler", StandardScaler()), ("ridge", ridge)])


def save(estimator: Estimator) -> bytes:
    """Return the fitted pipeline as skops bytes; equal fits give equal bytes."""
    return skops_bytes.dump(estimator)


def load(data: bytes) -> Estimator:
    """Return the fitted pipeline.

    Raises
    ------
    ValueError
        If the bytes hold any type outside `TRUSTED_TYPES`.
    """
    return skops_bytes.load(data, trusted_types=TRUSTED_TYPES)
