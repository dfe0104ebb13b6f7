"""Contributions of any learner to rows of a test fold, by permutations: for those without an exact method of their own.

Lives here: which rows are explained and against which, and how many permutations they get. Not here: sampling (`contributions`), exact methods
(`own`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.explanations.asking import ask_row
from hf_pipelines.research.explanations.contributions import Contributions, Floats, permutation_contributions
from hf_pipelines.research.explanations.windows import ask_window, whole_windows, window_contributions
from hf_pipelines.research.learners import Pipeline, feature_array
from hf_pipelines.research.prediction_replay import reads_keys

# Rows whose contributions are averaged, at most: each costs as much as all others.
N_ROWS = 40

# Rows, or windows, that a feature is unknown against.
N_BACKGROUND = 200

# Each is used in both directions; fewer where a row costs many others, so that a command stays within seconds.
N_PERMUTATIONS, MIN_PERMUTATIONS = 200, 5
MAX_ROWS = 4_000_000

# Rows that are predicted for all explained rows of a fold, about; what one of them lacks in permutations the mean over them has.
MAX_FOLD_ROWS = 250_000


def permutations_within(n_features: int, *, rows_each: int, most_rows: float = MAX_ROWS) -> int:
    """Permutations of one row that stay within a number of predicted rows.

    Parameters
    ----------
    n_features : int
    rows_each : int
        Rows that are predicted for each change of a row: those of its session, or of its window.
    most_rows : float
        Rows that may be predicted for this one; for the least number of permutations it may be more.
    """
    return int(np.clip(most_rows // (2 * (n_features + 1) * rows_each), MIN_PERMUTATIONS, N_PERMUTATIONS))


def sampled_contributions(
    pipeline: Pipeline,
    frame: pl.DataFrame,
    wanted: np.ndarray,
    background: pl.DataFrame,
    *,
    features: Sequence[str],
    classes: Sequence[str],
    missing: str,
    times: pl.Series | None,
) -> tuple[Contributions, np.ndarray]:
    """Contributions to some of the rows of a frame, evenly spaced, against other rows.

    Parameters
    ----------
    pipeline : fitted Pipeline
    frame : DataFrame
        Keys and features of whole sessions, each row once; of a learner that reads earlier bars with these.
    wanted : array of bool of shape (n_rows,)
        Rows that may be explained.
    background : DataFrame
        Rows that the learner was fitted on.
    features, classes, missing, times
        As for `predict_frame`.

    Returns
    -------
    Contributions
        Of at most `N_ROWS` rows that have a prediction; they add up to it.
    array of shape (n_explained, n_features)
        Their features.
    """
    asked: dict[str, Any] = {"features": features, "classes": classes, "missing": missing}
    X = feature_array(frame, features)
    is_known = ~(np.isnan(X).all(axis=1) if missing == "keep" else np.isnan(X).any(axis=1))
    able = np.flatnonzero(wanted & is_known)
    chosen = able[np.unique(np.linspace(0, len(able) - 1, min(N_ROWS, len(able))).astype(int))] if len(able) else able
    n_bars = pipeline.choice.history_bars + 1
    keys = frame.select("symbol", "ts").rows()
    found: list[Contributions] = []
    if n_bars > 1:
        others = whole_windows(background, features, n_bars=n_bars, most=N_BACKGROUND, times=times)
    else:
        of_all = feature_array(background, features)
        others = of_all[np.linspace(0, len(of_all) - 1, min(N_BACKGROUND, len(of_all))).astype(int)]
    for number, row in enumerate(chosen.tolist()):
        symbol, ts = keys[row]
        if n_bars > 1:
            window = ask_window(pipeline, frame.filter(pl.col("ts") <= ts), symbol, times=times, **asked)
            n = permutations_within(len(features), rows_each=window.n_rows, most_rows=MAX_FOLD_ROWS / len(chosen))
            found.append(window_contributions(window, others, n_permutations=n, seed=number))
        else:
            is_here = pl.col("ts") == ts
            session = frame.filter(is_here if reads_keys(pipeline.choice) else is_here & (pl.col("symbol") == symbol))
            ask = ask_row(pipeline, session, symbol, **asked)
            n = permutations_within(len(features), rows_each=session.height, most_rows=MAX_FOLD_ROWS / len(chosen))
            found.append(permutation_contributions(ask, X[row : row + 1], others, n_permutations=n, seed=number))
    # Too little history, or a window with a gap: no prediction.
    is_whole = np.array([np.isfinite(each.values).all() for each in found], dtype=bool)
    kept = [each for each, whole in zip(found, is_whole, strict=True) if whole]
    return _joined(kept, n_features=len(features)), X[chosen[is_whole]].astype(np.float64)


def _joined(parts: Sequence[Contributions], *, n_features: int) -> Contributions:
    def rows(name: str) -> Floats:
        return np.concatenate([getattr(each, name) for each in parts]) if parts else np.empty((0, n_features))

    return Contributions(
        np.concatenate([each.base for each in parts]) if parts else np.empty(0), rows("values"), rows("standard_error")
    )
