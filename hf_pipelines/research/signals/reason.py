"""Reasons: the closed list of words for a weight of 0.

Lives here: the words and what each means. Not here: which row has which (`members`, and `why` of each rule).
"""

from __future__ import annotations

from enum import StrEnum

# In `reason` of a row with a position.
HAS_POSITION = ""


class Reason(StrEnum):
    """Why a member of an issue has weight 0; a word that is not among these is never issued."""

    NO_BAR = "no bar"
    MISSING_FEATURE = "missing feature"
    NO_PREDICTION = "no prediction"
    BELOW_THRESHOLD = "below the threshold"
    NOT_SELECTED = "not selected"
    NO_POSITION = "no position by the rule"
    TOO_LITTLE_HISTORY = "too little history"
    NO_EDGE = "no edge"
    LONG_ONLY = "long only"
    NOT_SHORTABLE = "not shortable"
    SMALL_TRADE = "trade too small"
    CAPPED = "capped"
    NO_CHAMPION = "no champion"
    WITHDRAWN = "withdrawn"
    NO_SOUND_MODEL = "no sound model"


def reason_in_words(reason: str | None, detail: str | None) -> str:
    """A reason with what it names; "" of a row with a position, and of issues that tell none."""
    return f"{reason} ({detail})" if reason and detail else reason or ""


REASONS: dict[Reason, str] = {
    Reason.NO_BAR: "the session has no bar of the member: halted, missing, or refused by the checks of bars",
    Reason.MISSING_FEATURE: "a feature that the model or the rule reads is unknown; `reason_detail` names it",
    Reason.NO_PREDICTION: "its features are known and the learner still cannot predict it: too little history, or it was not fitted on it",
    Reason.BELOW_THRESHOLD: "the prediction, or its probability, does not reach a level of the rule",
    Reason.NOT_SELECTED: "the rule ranks or optimises and holds others, or too few members are known to hold any",
    Reason.NO_POSITION: "the rule gives 0 for what is predicted: between its sides, no branch of a tree, parts that cancel",
    Reason.TOO_LITTLE_HISTORY: "the rule or its sizing measures the member's own bars or predictions, and they are too few or never moved",
    Reason.NO_EDGE: "the probabilities predicted lose at the payoff, so that Kelly stakes nothing",
    Reason.LONG_ONLY: "it would be short, and the strategy holds no short position",
    Reason.NOT_SHORTABLE: "it would be short, and cannot be borrowed",
    Reason.SMALL_TRADE: "the position would be smaller than `band` lets trade",
    Reason.CAPPED: "a limit of the book has taken the whole position",
    Reason.NO_CHAMPION: "the strategy has gates and nothing was promoted yet",
    Reason.WITHDRAWN: "the champion was withdrawn, and nothing was promoted since",
    Reason.NO_SOUND_MODEL: "no refit of the champion within `max_model_age_weeks` is sound; the issue's `promotion` says why of each",
}
