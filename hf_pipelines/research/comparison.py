"""Comparison: is one strategy, week or learner better than another, on the sessions that both have.

Lives here: what is compared with what, and the tests of it. Not here: the tests themselves (`significance`), the series
(`session_values`), words (`comparison_words`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.metrics.bootstrap import LEVEL, interval
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.metrics.session_scores import Floats, SessionScores, account_scores
from hf_pipelines.research.score_rows import draw_for_labels
from hf_pipelines.research.session_values import (
    RETURN,
    account_values,
    common_rows,
    have_same_labels,
    prediction_values,
)
from hf_pipelines.research.significance import (
    adjust_holm,
    diebold_mariano,
    draw_rotations,
    model_confidence_set,
    superior_ability,
)

# A quarter of sessions: fewer hold too little to tell anything but a miracle from chance.
LEAST_SESSIONS = 60

SHARPE = "sharpe_ratio"

# Of what an account comes to over all sessions: no mean of sessions, so there is an interval and no test.
WHOLE = ("total_return", "max_drawdown")

SEED = 0

# Of values that are equal but for the order in which they were added up.
ROUNDING = 1e-12

SCHEMA: dict[str, type[pl.DataType]] = {
    "other": pl.String,
    "score": pl.String,
    "first_value": pl.Float64,
    "other_value": pl.Float64,
    "better_by": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "found_from": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "n_sessions": pl.Int64,
}

TOGETHER: dict[str, pl.DataType] = {
    "score": pl.String(),
    "n_sessions": pl.Int64(),
    "best": pl.String(),
    "p": pl.Float64(),
    "p_holm": pl.Float64(),
    "members": pl.List(pl.String()),
}


@dataclass(frozen=True, eq=False)
class Contestant:
    """What is compared.

    Attributes
    ----------
    name : str
    predictions : DataFrame
        Out-of-fold predictions as stored.
    equity : DataFrame or None
        That of a stored backtest of them.
    label_sessions : int
        Sessions that a label spans.
    sessions_per_year : float
    """

    name: str
    predictions: pl.DataFrame
    equity: pl.DataFrame | None
    label_sessions: int
    sessions_per_year: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """How the first of some contestants compares with the others.

    Attributes
    ----------
    names : tuple of str
        The first one first.
    scores : DataFrame
        A row for each `other` and `score`: both values; `better_by`, above 0 if the first is better, whether more or less of the
        score is better; `low` and `high`, an interval of 95 % of it; `found_from`, the difference that would have been found in four of five
        samples; `p`, that a difference as large is chance; `p_holm`, the same of all tests here together; `n_sessions`. Null
        where there is none; a score that is the same in every session is not tested.
    together : DataFrame
        Of more than two, a row for each `score`: the `best` of the others, `p` and `p_holm` that the first is beaten by none of them
        (Hansen's test), and `members` of the confidence set: those that may be the best.
    notes : tuple of str
        On which sessions, and what could not be compared.
    """

    names: tuple[str, ...]
    scores: pl.DataFrame
    together: pl.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Series:
    """One score of each contestant on the same sessions, shape (n_sessions, n_contestants), finite."""

    score: str
    names: tuple[str, ...]
    values: Floats
    horizon: int

    @property
    def losses(self) -> Floats:
        return -self.values if is_better_higher(self.score) else self.values


def compare(contestants: Sequence[Contestant]) -> Comparison:
    """Compare the first of some contestants with the others.

    Predictions on the rows that all of them predict, of those with the labels of the first; accounts on the sessions that all
    of them have.

    Raises
    ------
    ValueError
        If there are fewer than two, or nothing of them can be compared.
    """
    if len(contestants) < 2:
        raise ValueError(f"`contestants` must be two at least, was {len(contestants)}.")
    of_predictions, predictions_notes = _of_predictions(contestants)
    of_accounts, returns, account_notes = _of_accounts(contestants)
    notes = (*predictions_notes, *account_notes)
    if not of_predictions and returns is None:
        raise ValueError("`contestants` must have something in common: " + " ".join(notes))
    names = tuple(each.name for each in contestants)
    rows = [row for series in (*of_predictions, *of_accounts) for row in _pairs(series)]
    if returns is not None:
        rows += _of_whole_accounts(contestants, returns)
    scores = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
    return Comparison(names, _adjusted(scores), _together((*of_predictions, *of_accounts)), notes)


def sharpe_influence(returns: Floats, *, sessions_per_year: float) -> Floats:
    """Of each session what it adds to the Sharpe ratio, which is the mean of them.

    References
    ----------
    Ledoit & Wolf (2008), "Robust Performance Hypothesis Testing with the Sharpe Ratio", J. Empirical Finance 15(5).
    """
    mean, deviation = returns.mean(), returns.std(ddof=1)
    ratio = mean / deviation
    standard = (returns - mean) / deviation
    each = ratio + standard - 0.5 * ratio * (standard**2 - (standard**2).mean())
    return np.asarray(each * math.sqrt(sessions_per_year))


def probability_of_higher_sharpe(first: Floats, other: Floats, *, sessions_per_year: float) -> float:
    """How sure it is that an account has a higher Sharpe ratio than another: one less the one-sided p-value of the test of `compare`.

    Parameters
    ----------
    first, other : array of shape (n_sessions,)
        Returns of the same sessions, in order of time, finite.
    sessions_per_year : float

    Returns
    -------
    float
        0.5 of equal accounts; NaN of fewer than 60 sessions, and where one earns the same in every session.
    """
    from scipy.stats import t

    if len(first) < LEAST_SESSIONS or not (first.std() > 0.0 and other.std() > 0.0):
        return math.nan
    one, two = (sharpe_influence(each, sessions_per_year=sessions_per_year) for each in (first, other))
    difference = one - two
    difference[np.abs(difference) <= ROUNDING * (np.abs(one) + np.abs(two))] = 0.0
    found = diebold_mariano(difference)
    return float(t.cdf(found.statistic, found.degrees))


def _of_predictions(contestants: Sequence[Contestant]) -> tuple[list[_Series], list[str]]:
    first, notes = contestants[0], []
    alike = [first]
    for other in contestants[1:]:
        one, two = common_rows([first.predictions, other.predictions])
        if one.is_empty():
            notes.append(
                f"Predictions of {other.name} are of no row (symbol and bar) that {first.name} predicts: compare strategies of one "
                "market, and weeks whose test sessions overlap."
            )
        elif not have_same_labels(one, two):
            notes.append(
                f"Predictions of {other.name} are of another target than those of {first.name}: errors of different quantities "
                "do not compare. Give both the same `target`, or go by the accounts."
            )
        else:
            alike.append(other)
    if len(alike) < 2:
        return [], notes
    frames = common_rows([each.predictions for each in alike])
    n_sessions = frames[0]["session"].n_unique()
    horizon = max(each.label_sessions for each in alike)
    if shortage := _shortage("predictions", n_sessions, horizon):
        return [], [*notes, shortage]
    days = frames[0]["session"].unique().sort()
    n_rows = frames[0].select("symbol", "ts").n_unique()
    notes.append(
        f"Predictions: {n_rows:,} rows of {n_sessions} sessions that {_all(alike)} predict, {days[0]} to {days[-1]}; labels of "
        f"{horizon} session{'s' * (horizon != 1)}."
    )
    return _series([prediction_values(each) for each in frames], alike, horizon, notes), notes


def _of_accounts(contestants: Sequence[Contestant]) -> tuple[list[_Series], Floats | None, list[str]]:
    without = [each.name for each in contestants if each.equity is None]
    if without:
        return [], None, [f"Accounts are not compared: {', '.join(without)} has no backtest of these predictions."]
    frames = [account_values(each.equity) for each in contestants if each.equity is not None]
    shared = frames[0].select("session")
    for each in frames[1:]:
        shared = shared.join(each.select("session"), on="session", how="semi")
    if shortage := _shortage("accounts", shared.height, 1):
        return [], None, [shortage]
    days = shared["session"].sort()
    kept = [each.join(shared, on="session", how="semi", maintain_order="left") for each in frames]
    notes = [f"Accounts: net returns of {shared.height} sessions, {days[0]} to {days[-1]}."]
    found = _series(kept, contestants, 1, notes)
    returns = np.column_stack([each[RETURN].to_numpy() for each in kept])
    if (returns.std(axis=0) > 0.0).all():
        per_year = contestants[0].sessions_per_year
        values = np.column_stack([sharpe_influence(each, sessions_per_year=per_year) for each in returns.T])
        found.append(_Series(SHARPE, tuple(each.name for each in contestants), values, 1))
    else:
        flat = [each.name for each, one in zip(contestants, returns.T, strict=True) if not one.std() > 0.0]
        notes.append(f"No Sharpe ratio: the account of {', '.join(flat)} earns the same in every session.")
    return found, returns, notes


def _series(
    frames: Sequence[pl.DataFrame], contestants: Sequence[Contestant], horizon: int, notes: list[str]
) -> list[_Series]:
    """Each score on the sessions where every contestant has it."""
    found = []
    for score in (name for name in frames[0].columns if name != "session"):
        values = np.column_stack([each[score].cast(pl.Float64).fill_null(math.nan).to_numpy() for each in frames])
        known = np.isfinite(values).all(axis=1)
        n_known = int(known.sum())
        if n_known < max(LEAST_SESSIONS, 2 * horizon):
            notes.append(f"{score} is not compared: it is defined in {n_known} sessions for all.")
            continue
        if n_known < len(known):
            notes.append(f"{score}: without {len(known) - n_known} sessions in which it is undefined for one.")
        found.append(_Series(score, tuple(each.name for each in contestants), values[known], horizon))
    return found


def _pairs(series: _Series) -> list[dict[str, object]]:
    from scipy.stats import t

    sign = 1.0 if is_better_higher(series.score) else -1.0
    first, rows = series.values[:, 0], []
    for at, name in enumerate(series.names[1:], start=1):
        other = series.values[:, at]
        difference = sign * (first - other)
        # What is left of equal sums is rounding, and would be tested as if it were something.
        difference[np.abs(difference) <= ROUNDING * (np.abs(first) + np.abs(other))] = 0.0
        found = diebold_mariano(difference, horizon=series.horizon)
        low, high = found.interval(LEVEL)
        reach = float(t.ppf((1.0 + LEVEL) / 2.0, found.degrees) + t.ppf(0.8, found.degrees)) * found.error
        rows.append(
            {
                "other": name,
                "score": series.score,
                "first_value": float(first.mean()),
                "other_value": float(other.mean()),
                "better_by": found.mean,
                "low": low,
                "high": high,
                "found_from": reach if found.error > 0.0 else math.nan,
                # Where nothing differs there is nothing to test: it would only weaken the tests of the rest.
                "p": found.p if difference.any() else math.nan,
                "n_sessions": len(first),
            }
        )
    return rows


def _of_whole_accounts(contestants: Sequence[Contestant], returns: Floats) -> list[dict[str, object]]:
    n = len(returns)
    draws = draw_for_labels(n, label_sessions=max(each.label_sessions for each in contestants), seed=[SEED])
    of_each = [
        SessionScores(
            n,
            account_scores(np.arange(n), n_sessions=n, returns=each, periods_per_year=contestants[0].sessions_per_year),
        )
        for each in returns.T
    ]
    rows: list[dict[str, object]] = []
    with one_blas_thread():
        observed = [each.observed() for each in of_each]
        resampled = [each.scores(draws) for each in of_each] if draws else []
    for at, contestant in enumerate(contestants[1:], start=1):
        for score in WHOLE:
            sign = 1.0 if is_better_higher(score) else -1.0
            low, high = math.nan, math.nan
            if draws:
                low, high = interval(sign * (resampled[0][score] - resampled[at][score]), draws)
            rows.append(
                {
                    "other": contestant.name,
                    "score": score,
                    "first_value": observed[0][score],
                    "other_value": observed[at][score],
                    "better_by": sign * (observed[0][score] - observed[at][score]),
                    "low": low,
                    "high": high,
                    "n_sessions": n,
                }
            )
    return rows


def _adjusted(scores: pl.DataFrame) -> pl.DataFrame:
    p = adjust_holm(scores["p"].fill_null(math.nan).to_numpy())
    return scores.with_columns(p_holm=pl.Series(p, dtype=pl.Float64).fill_nan(None))


def _together(series: Sequence[_Series]) -> pl.DataFrame:
    """Hansen's test of the first and the confidence set, of scores that more than two have."""
    rows: list[Mapping[str, object]] = []
    for each in series:
        if len(each.names) < 3:
            continue
        draws = draw_rotations(len(each.values), horizon=each.horizon, seed=[SEED])
        found = superior_ability(each.losses[:, 0], each.losses[:, 1:], draws)
        members = model_confidence_set(each.losses, draws).members(LEVEL)
        rows.append(
            {
                "score": each.score,
                "n_sessions": len(each.values),
                "best": each.names[1 + found.best],
                "p": found.consistent,
                "members": [each.names[at] for at in members],
            }
        )
    table = pl.DataFrame(rows, schema=TOGETHER)
    p = adjust_holm(table["p"].to_numpy()) if table.height else np.zeros(0)
    return table.with_columns(p_holm=pl.Series(p, dtype=pl.Float64))


def _shortage(what: str, n_sessions: int, horizon: int) -> str:
    least = max(LEAST_SESSIONS, 2 * horizon)
    if n_sessions >= least:
        return ""
    why = f", twice what a label of {horizon} spans" if least > LEAST_SESSIONS else ""
    return (
        f"The {what} have {n_sessions} sessions in common, fewer than {least}{why}: choose weeks that are nearer to each other, or test "
        "more sessions (`training.weeks`, `splitter`)."
    )


def _all(contestants: Sequence[Contestant]) -> str:
    return "both" if len(contestants) == 2 else f"all {len(contestants)}"
