"""Ranking: candidates and baselines in order, with intervals, who may be the best, and whether the baselines are beaten.

Lives here: the table and its verdict. Does not live here: predictions (`evaluating`), tests (`significance`).

Every predictor is scored on the same rows. Intervals and errors count that sessions near each other are alike (cosines, as in
`hfp compare`); the best of many is held to the baselines by Hansen's test, so that it need not be corrected for having been picked.

References
----------
Hansen (2005), "A Test for Superior Predictive Ability", J. Business & Economic Statistics 23(4). Hansen, Lunde & Nason (2011), "The
Model Confidence Set", Econometrica 79(2). Breiman, Friedman, Olshen & Stone (1984), "Classification and Regression Trees", ch. 3: the
simplest within one standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import polars as pl

from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.comparison import LEAST_SESSIONS
from hf_pipelines.research.leaderboard.entries import BASELINE, COMPLETED, ENDED, FAILED, NOT_RUN, Entry
from hf_pipelines.research.leaderboard.scoring import Floats, Metric, session_values
from hf_pipelines.research.metrics.bootstrap import LEVEL, N_RESAMPLES
from hf_pipelines.research.significance import (
    diebold_mariano,
    draw_rotations,
    model_confidence_set,
    superior_ability,
)

Choice: TypeAlias = Literal["best", "simplest"]

# A predictor that leaves out more of the rows would take them from the comparison of all others.
LEAST_SHARE = 0.5

# Of losses that differ by rounding alone.
ROUNDING = 1e-12

SEED = 0

SCHEMA: dict[str, type[pl.DataType]] = {
    "rank": pl.Int32,
    "candidate": pl.String,
    "state": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "behind": pl.Float64,
    "behind_error": pl.Float64,
    "p_best": pl.Float64,
    "may_be_best": pl.Boolean,
    "is_chosen": pl.Boolean,
    "n_sessions": pl.Int64,
    "artifact_bytes": pl.Int64,
    "fit_seconds": pl.Float64,
    "predict_seconds": pl.Float64,
    "reason": pl.String,
}


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Candidates in order.

    Attributes
    ----------
    metric : Metric
    table : DataFrame
        A row for each candidate and baseline: `rank` (null of what has no score), `candidate`, `state`, `value`; `low` and `high`, its
        interval of 95 %; `behind`, by how much the best candidate is better in the metric's mean over sessions (below 0 of a baseline
        that is better), and its standard error; `p_best`, that of the model confidence set, and `may_be_best`, whether it is among
        those that hold the best with 95 %; `is_chosen`; `n_sessions`; `artifact_bytes`, `fit_seconds`, `predict_seconds`, and `reason`,
        why it has no rank. Null where there is none.
    chosen : str
        The candidate that the rule takes.
    p : float or None
        That the best of the candidates is no better than the best baseline; None of too few sessions.
    best_baseline : str
        "" where none can be scored.
    verdict : str
        Whether the baselines are beaten, in one sentence.
    notes : tuple of str
    """

    metric: Metric
    table: pl.DataFrame
    chosen: str
    p: float | None
    best_baseline: str
    verdict: str
    notes: tuple[str, ...]

    @property
    def beats_baselines(self) -> bool:
        """Whether a candidate is shown to beat all baselines."""
        return self.p is not None and self.p < 1.0 - LEVEL


def rank_entries(
    entries: Sequence[Entry],
    metric: Metric,
    *,
    label_sessions: int,
    choice: Choice = "best",
    n_resamples: int = N_RESAMPLES,
) -> Leaderboard:
    """Rank candidates and baselines on the rows that all of them predict.

    Parameters
    ----------
    entries : sequence of Entry
        In the order in which equal ones are ranked.
    metric : Metric
    label_sessions : int
        Sessions that a label spans.
    choice : {"best", "simplest"}
        `simplest`: of the candidates that are not behind the best one by more than the standard error of the difference, the one
        whose model is smallest.
    n_resamples : int
        Of the tests.

    Raises
    ------
    ValueError
        If no candidate was completed, with why the first one was not.
    """
    given = _scorable(entries, metric)
    scored = [each for each in given if each.predictions is not None and not each.reason]
    able = [at for at, each in enumerate(scored) if each.state == COMPLETED]
    if not able:
        raise ValueError(_why_none(given))
    sessions, values = session_values(
        {str(at): each.predictions for at, each in enumerate(scored) if each.predictions is not None}, metric
    )
    if not len(values):
        raise ValueError(f"`metric` must be defined in some session of the test rows, {metric.name} is in none.")
    losses = metric.losses(values)
    means = losses.mean(axis=0)
    order = sorted(range(len(scored)), key=lambda at: (means[at], scored[at].state != BASELINE, at))
    best = min(able, key=lambda at: (means[at], at))
    is_long = len(sessions) >= max(LEAST_SESSIONS, 2 * label_sessions)
    tests = _Tests.of(losses, able, label_sessions, n_resamples) if is_long else None
    behind = [_behind(losses, at, best, label_sessions if is_long else None) for at in range(len(scored))]
    chosen = _choose(choice, scored, able, best, behind)
    rows = []
    for rank, at in enumerate(order, start=1):
        low, high = _interval(values[:, at], metric, label_sessions) if is_long else (math.nan, math.nan)
        rows.append(
            {
                **_told(scored[at]),
                "rank": rank,
                "value": metric.of_mean(float(values[:, at].mean())),
                "low": low,
                "high": high,
                "behind": behind[at][0],
                "behind_error": behind[at][1],
                "p_best": None if tests is None else tests.p_best[at],
                "may_be_best": None if tests is None else bool(tests.p_best[at] > 1.0 - LEVEL),
                "is_chosen": at == chosen,
                "n_sessions": len(sessions),
            }
        )
    rows += [{**_told(each), "is_chosen": False} for each in given if each.predictions is None or each.reason]
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
    baselines = [at for at in order if scored[at].state == BASELINE]
    p = None if tests is None else tests.p_beaten
    first = scored[baselines[0]].name if baselines else ""
    return Leaderboard(
        metric,
        table,
        scored[chosen].name,
        p,
        first,
        _say(table, metric, scored[best].name, first, p, n_sessions=len(sessions)),
        tuple(_notes(table, sessions, label_sessions, is_long=is_long)),
    )


@dataclass(frozen=True, eq=False)
class _Tests:
    p_best: Floats
    p_beaten: float | None

    @classmethod
    def of(cls, losses: Floats, able: Sequence[int], horizon: int, n_resamples: int) -> _Tests:
        draws = draw_rotations(len(losses), horizon=horizon, seed=[SEED], n_resamples=n_resamples)
        others = [at for at in range(losses.shape[1]) if at not in set(able)]
        with one_blas_thread():
            p_best = model_confidence_set(losses, draws).p
            if not others:
                return cls(p_best, None)
            benchmark = min(others, key=lambda at: float(losses[:, at].mean()))
            found = superior_ability(losses[:, benchmark], losses[:, list(able)], draws)
        return cls(p_best, found.consistent)


def _scorable(entries: Sequence[Entry], metric: Metric) -> list[Entry]:
    """The same, those without a score with the reason."""
    heights = [each.predictions.height for each in entries if each.predictions is not None]
    found = []
    for each in entries:
        state, reason = each.state, each.reason
        if each.predictions is not None:
            n = each.predictions.filter(pl.col("prediction").is_finite()).height
            if n < LEAST_SHARE * max(heights):
                reason = f"predicts {n:,} of {max(heights):,} rows; it would take the others from the comparison"
                state = FAILED if state == COMPLETED else state
            elif metric.name == "log_loss" and not each.gives_probabilities:
                reason = "names a class and gives no probability: it has no log_loss"
        found.append(each if reason == each.reason else replace(each, state=state, reason=reason))
    return found


def _behind(losses: Floats, at: int, best: int, horizon: int | None) -> tuple[float, float]:
    """Mean loss beyond that of the best candidate, and its standard error."""
    difference = losses[:, at] - losses[:, best]
    size = np.abs(losses[:, at]) + np.abs(losses[:, best])
    difference = np.where(np.abs(difference) <= ROUNDING * size, 0.0, difference)
    if horizon is None:
        return float(difference.mean()), math.nan
    found = diebold_mariano(difference, horizon=horizon)
    return found.mean, found.error


def _interval(values: Floats, metric: Metric, horizon: int) -> tuple[float, float]:
    low, high = diebold_mariano(values, horizon=horizon).interval(LEVEL)
    return metric.of_mean(low) if low == low else low, metric.of_mean(high) if high == high else high


def _choose(
    choice: Choice,
    scored: Sequence[Entry],
    able: Sequence[int],
    best: int,
    behind: Sequence[tuple[float, float]],
) -> int:
    if choice == "best":
        return best
    near = [at for at in able if at == best or behind[at][0] <= behind[at][1]]
    return min(near, key=lambda at: (scored[at].artifact_bytes or math.inf, behind[at][0], at))


def _told(entry: Entry) -> dict[str, object]:
    return {
        "candidate": entry.name,
        "state": entry.state,
        "artifact_bytes": entry.artifact_bytes,
        "fit_seconds": entry.fit_seconds,
        "predict_seconds": entry.predict_seconds,
        "reason": entry.reason or None,
    }


def _why_none(entries: Sequence[Entry]) -> str:
    candidates = [each for each in entries if each.state != BASELINE]
    failed = [each for each in candidates if each.state == FAILED]
    if failed:
        return (
            f"`leaderboard` must have a candidate that can be fitted, was without: {len(failed)} of {len(candidates)} failed, the first, "
            f"{failed[0].name}, by: {failed[0].reason}"
        )
    if candidates:
        return (
            f"`deadline_s` must leave time for one candidate at least, was too short for all {len(candidates)}; give more, or begin with "
            "a cheaper one."
        )
    return "`candidates` must hold at least one, was empty; write auto, or leave `leaderboard` out."


def _say(table: pl.DataFrame, metric: Metric, best: str, baseline: str, p: float | None, *, n_sessions: int) -> str:
    if not baseline:
        return f"No baseline can be ranked by {metric.name}: {best} is the best candidate, and is held to nothing."
    of_candidate = float(table.filter(pl.col("state") == COMPLETED, pl.col("candidate") == best)["value"].item())
    of_baseline = float(table.filter(pl.col("state") == BASELINE, pl.col("candidate") == baseline)["value"].item())
    shown = f"{best} comes to {metric.name} {of_candidate:.4g}, the baseline {baseline} to {of_baseline:.4g}"
    if p is None:
        return f"Too few sessions ({n_sessions}) to say whether anything beats the baselines: {shown}."
    if p < 1.0 - LEVEL:
        return f"A candidate beats the baselines (p {_p(p)}, as the best of all candidates): {shown}."
    return f"Nothing is shown to beat the baselines (p {_p(p)}): {shown}."


def _p(p: float) -> str:
    return "under 0.001" if p < 0.001 else f"{p:.3f}"


def _notes(table: pl.DataFrame, sessions: pl.Series, label_sessions: int, *, is_long: bool) -> list[str]:
    notes = [
        f"{len(sessions)} sessions from {sessions[0]} to {sessions[-1]}, the rows that all of them predict; labels of "
        f"{label_sessions} session{'s' * (label_sessions != 1)}."
    ]
    if not is_long:
        least = max(LEAST_SESSIONS, 2 * label_sessions)
        notes.append(f"No intervals and no tests: {len(sessions)} sessions are fewer than {least}; test more sessions.")
    for state, words in ((FAILED, "failed"), (ENDED, "ended by the deadline"), (NOT_RUN, "not run for the deadline")):
        names = table.filter(state=state)["candidate"].to_list()
        if names:
            notes.append(f"{len(names)} {words}: {'; '.join(names[:5])}{' ...' if len(names) > 5 else ''}.")
    return notes
