"""The gates, each a function of the evidence and of its threshold.

Lives here: what each finds, in a sentence. Not here: their names, thresholds and what they read (`registry`). A gate is only called with
evidence that has what it needs.

References
----------
Bailey & López de Prado (2014), "The Deflated Sharpe Ratio", J. Portfolio Management 40(5). Bailey, Borwein, López de Prado & Zhu (2017), "The
Probability of Backtest Overfitting", J. Computational Finance 20(4). Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hf_pipelines.research.promotion.evidence import Evidence
from hf_pipelines.research.promotion.gate import Found, at_least, at_most
from hf_pipelines.research.wording import some_of

CHOSEN_BEFORE = ("index_history", "all_listed")


def rows(evidence: Evidence, least: float) -> Found:
    return at_least(float(_known(evidence.rows)), least, "The number of training rows", form=",.0f")


def beats_baselines(evidence: Evidence, least: float) -> Found:
    by, sure = _known(evidence.score_better_by), _known(evidence.score_probability)
    against = evidence.score_against
    if by <= 0.0:
        return Found(sure, False, f"The model is not better than {against}.")
    return at_least(sure, least, f"The probability that the model is better than {against}", form=".3f")


def beats_portfolios(evidence: Evidence, least: float) -> Found:
    of_each = _known(evidence.portfolio_probability)
    hardest = min(of_each, key=lambda name: of_each[name])
    return at_least(of_each[hardest], least, f"The probability that the account is better than {hardest}", form=".3f")


def sharpe(evidence: Evidence, least: float) -> Found:
    return at_least(_known(evidence.sharpe), least, "The Sharpe ratio of a year, after costs")


def sharpe_low(evidence: Evidence, least: float) -> Found:
    return at_least(_known(evidence.sharpe_low), least, "The lower bound of the Sharpe ratio's interval of 95 %")


def deflated_sharpe(evidence: Evidence, least: float) -> Found:
    what = f"The probability that the Sharpe ratio of this account is above 0 given {_trials(evidence)} (deflated Sharpe ratio)"
    return at_least(_known(evidence.deflated_sharpe), least, what, form=".3f")


def overfitting(evidence: Evidence, most: float) -> Found:
    if evidence.n_trials == 1:
        return Found(None, True, "One trial counts: none was chosen among several.")
    return at_most(
        _known(evidence.overfitting), most, f"The probability of backtest overfitting, of {_trials(evidence)}"
    )


def max_drawdown(evidence: Evidence, most: float) -> Found:
    return at_most(_known(evidence.max_drawdown), most, "The largest drawdown of the account", form=".1%")


def turnover(evidence: Evidence, most: float) -> Found:
    return at_most(_known(evidence.turnover_per_year), most, "The value traded in a year over equity", form=".1f")


def capacity(evidence: Evidence, least: float) -> Found:
    what = "The money at which market impact halves the mean return, over that of the account"
    return at_least(_known(evidence.capacity_multiple), least, what, form=",.2f")


def engines_agree(evidence: Evidence, asked: bool) -> Found:
    if evidence.engines_agree:
        return Found(True, True, "Another engine keeps the same account.")
    return Found(False, False, "Another engine keeps another account from the same weights and bars.")


def replayed(evidence: Evidence, asked: bool) -> Found:
    failed, left = _known(evidence.replays_failed), _known(evidence.unreplayed)
    if failed:
        return Found(False, False, f"A full replay has found look-ahead in {_count(failed, 'week')} of its features.")
    if left:
        return Found(False, False, f"{_count(left, 'week')} of its features {_are(left)} not replayed in full.")
    return Found(True, True, "Every week of its features was replayed in full, and nothing looks ahead.")


def controls(evidence: Evidence, asked: bool) -> Found:
    failed, open_ = _known(evidence.controls_failed), _known(evidence.controls_unjudged)
    if failed:
        return Found(
            False, False, f"The controls of {_count(failed, 'fold')} found what is not there, or missed what is."
        )
    if open_:
        return Found(
            False, False, f"{_count(open_, 'fold')} {_have(open_)} too few rows for the controls to be judged."
        )
    return Found(True, True, "The controls found what was planted, and nothing else.")


def calibration(evidence: Evidence, most: float) -> Found:
    if not evidence.is_classification:
        return Found(None, True, "It predicts no classes: there are no probabilities to calibrate.")
    what = "The mean distance between how sure predictions are and how often they are right"
    return at_most(_known(evidence.calibration_error), most, what, form=".3f")


def stable_folds(evidence: Evidence, least: float) -> Found:
    return at_least(_known(evidence.fold_share), least, "The share of folds that earned something", form=".0%")


def stable_paths(evidence: Evidence, least: float) -> Found:
    what = "The share of paths of combinatorial cross-validation that earned something"
    return at_least(_known(evidence.path_share), least, what, form=".0%")


def age(evidence: Evidence, most: float) -> Found:
    return at_most(_known(evidence.age_weeks), most, "The age of the evidence, in weeks", form=".1f")


def up_to_date(evidence: Evidence, asked: bool) -> Found:
    outdated = _known(evidence.outdated)
    if outdated:
        return Found(False, False, f"Today's code and data would make it otherwise: {some_of(outdated)}.")
    return Found(True, True, "It is what today's code and data make.")


def holdout_looks(evidence: Evidence, most: float) -> Found:
    looks = _known(evidence.holdout_looks)
    if not evidence.has_holdout:
        why = f"It has no hold-out now, and {_looks(looks)} at one."
        return Found(looks, looks == 0, why, applied=0.0)
    allowed = min(most, float(_known(evidence.holdout_budget)))
    return replace(at_most(float(looks), allowed, "The number of looks at the hold-out", form=".0f"), applied=allowed)


def members(evidence: Evidence, asked: bool) -> Found:
    chosen = _known(evidence.universe_chosen)
    if chosen in CHOSEN_BEFORE:
        return Found(chosen, True, f"Members are not chosen by hindsight: {chosen}.")
    return Found(chosen, False, "Members were chosen by hindsight: every account of them flatters.")


def beats_champion(evidence: Evidence, least: float) -> Found:
    if not evidence.champion:
        return Found(None, True, "No other configuration serves.")
    what = f"The probability that the account is better than that of the champion, {evidence.champion}"
    return at_least(_known(evidence.champion_probability), least, what, form=".3f")


def _known(value: Any) -> Any:
    """A number that was looked for before: the gate is called with nothing less."""
    if value is None:
        raise ValueError("`evidence` must have all that a gate needs, lacked a number; judge it by `judge_gates`.")
    return value


def _trials(evidence: Evidence) -> str:
    n = evidence.n_trials
    return "all trials" if n is None else _count(n, "trial")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _have(n: int) -> str:
    return "has" if n == 1 else "have"


def _looks(n: int) -> str:
    return "nobody has looked" if n == 0 else f"{_count(n, 'look')} {'was' if n == 1 else 'were'} taken"
