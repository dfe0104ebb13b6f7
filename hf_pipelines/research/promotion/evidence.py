"""Evidence: what was measured of a configuration, each number by itself.

Lives here: the names and units of the numbers. Not here: measuring them, and what is asked of them (`gates`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a configuration in one week; None and NaN: not measured.

    Attributes
    ----------
    strategy : str
    week : str
        Key of the week, the Sunday that it begins on.
    market : str
    rows : int
        Of the training matrix.
    score_better_by, score_probability : float
        Of the score that decides, over all outer folds: by how much the model is better than the best predictive baseline, and the
        probability that it is.
    score_against : str
        That baseline and score in words, for people.
    portfolio_probability : mapping of str to float
        For each portfolio baseline the probability that the account is better than it.
    sharpe, sharpe_low : float
        Annual Sharpe ratio after costs, and the lower bound of its interval of 95 %.
    deflated_sharpe : float
        Probability that it is above 0, given all trials that count.
    overfitting : float
        Probability of backtest overfitting.
    n_trials : int
        Trials that count.
    max_drawdown : float
        Of the account, positive.
    turnover_per_year : float
        Traded value over equity.
    capacity_multiple : float
        Money at which market impact halves the mean return, over the money that the account begins with; inf: at none.
    engines_agree : bool
        Whether another engine keeps the same account.
    unreplayed : int
        Stored weeks of its features that no full replay has confirmed.
    replays_failed : int
        Those that a full replay has rejected.
    controls_failed : int
        Folds on which the controls found something that is not there, or missed what is.
    controls_unjudged : int
        Folds with too few rows for them to say so.
    is_classification : bool
        Whether it predicts classes, with probabilities.
    calibration_error : float
        Expected calibration error of these.
    fold_share, path_share : float
        Share of the folds, and of the paths of combinatorial cross-validation, in which the account earned something.
    age_weeks : float
        From the end of the week's evidence to today, or to the end of a market that has one.
    outdated : tuple of str
        What of the evidence today's code and data would make otherwise.
    holdout_looks, holdout_budget : int
        How often the hold-out was looked at, and how often it may be; a strategy without one has a budget of 0.
    has_holdout : bool
    universe_chosen : str
        How the members of the market were chosen: "hindsight", "index_history", "all_listed".
    champion : str
        Name of the configuration that serves now; "": none does.
    champion_probability : float
        Probability that this one is better.
    selected : frozenset of str
        Names of the numbers above that are of the very rows by which its parameters were chosen.
    unmade : frozenset of str
        Names of the numbers above whose asset is not stored for the week. What is neither here nor measured was made of too little to tell it.
    """

    strategy: str
    week: str
    market: str = ""
    rows: int | None = None
    score_better_by: float | None = None
    score_probability: float | None = None
    score_against: str = "the best baseline"
    portfolio_probability: Mapping[str, float | None] | None = None
    sharpe: float | None = None
    sharpe_low: float | None = None
    deflated_sharpe: float | None = None
    overfitting: float | None = None
    n_trials: int | None = None
    max_drawdown: float | None = None
    turnover_per_year: float | None = None
    capacity_multiple: float | None = None
    engines_agree: bool | None = None
    unreplayed: int | None = None
    replays_failed: int | None = None
    controls_failed: int | None = None
    controls_unjudged: int | None = None
    is_classification: bool | None = None
    calibration_error: float | None = None
    fold_share: float | None = None
    path_share: float | None = None
    age_weeks: float | None = None
    outdated: tuple[str, ...] | None = None
    holdout_looks: int | None = None
    holdout_budget: int | None = None
    has_holdout: bool | None = None
    universe_chosen: str | None = None
    champion: str | None = None
    champion_probability: float | None = None
    selected: frozenset[str] = field(default_factory=frozenset)
    unmade: frozenset[str] = field(default_factory=frozenset)

    def has(self, name: str) -> bool:
        """Whether a number was measured; of several under one name all of them."""
        value = getattr(self, name)
        if isinstance(value, Mapping):
            return bool(value) and all(_is_known(each) for each in value.values())
        return _is_known(value)

    def to_json(self) -> dict[str, Any]:
        """For programs and hashes; infinity as "inf"."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _is_known(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [*value]
    if isinstance(value, frozenset):
        return sorted(value)
    return plain_number(value) if isinstance(value, float) else value


def plain_number(value: float) -> float | str | None:
    """A number as JSON has it: None of NaN, "inf" and "-inf" of what is not finite."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
