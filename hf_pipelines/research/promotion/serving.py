"""Serving: who decides an issue of a strategy, by what its history says.

Lives here: champion, shadow and the capital of each, and why nothing serves; which refit of a configuration is sound enough. Does not live
here: the history (`resources.promotions`), models and weights (`components.strategy_stages`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from hf_pipelines.research.promotion.lifecycle import ARCHIVED, Lifecycle, Release
from hf_pipelines.research.robustness.controls import TRUSTED
from hf_pipelines.research.signals.reason import Reason


@dataclass(frozen=True)
class Serving:
    """Who decides an issue.

    Attributes
    ----------
    is_gated : bool
        False: the week's model of the YAML serves, whatever was decided, and nothing below says anything.
    record : int
        Number of the last decision that it follows from; 0 before the first.
    champion : Release or None
        What holds positions; None: every weight is 0, for `reason`.
    reason : Reason or None
        Why nothing serves.
    shadow : str
        Hash of the configuration that is issued beside it, that of the YAML; "" where that is the champion's own or was withdrawn.
    share : float
        Share of the capital that follows the shadow, 0 to 1.
    """

    is_gated: bool
    record: int = 0
    champion: Release | None = None
    reason: Reason | None = None
    shadow: str = ""
    share: float = 0.0


def serving_of(state: Lifecycle, configuration: str, *, is_gated: bool) -> Serving:
    """Who decides an issue of a strategy.

    Parameters
    ----------
    state : Lifecycle
        After the decision that the issue is held to.
    configuration : str
        Hash of what the YAML says today.
    is_gated : bool
        Whether the YAML has `gates`.

    Examples
    --------
    >>> serving_of(Lifecycle(), "a", is_gated=True).reason
    <Reason.NO_CHAMPION: 'no champion'>
    """
    if not is_gated:
        return Serving(is_gated=False)
    champion = state.champion
    # What was withdrawn is no challenger: it comes back through its gates, not through its results.
    is_own = champion is not None and champion.configuration == configuration
    shadow = "" if is_own or state.stages.get(configuration) == ARCHIVED else configuration
    if champion is not None:
        # Of another configuration than that of the YAML nothing can be issued: all capital follows the champion meanwhile.
        share = state.rollout.share if state.rollout is not None and state.rollout.configuration == shadow else 0.0
        return Serving(is_gated=True, record=state.number, champion=champion, shadow=shadow, share=share)
    reason = Reason.WITHDRAWN if state.is_withdrawn else Reason.NO_CHAMPION
    return Serving(is_gated=True, record=state.number, reason=reason, shadow=shadow)


@dataclass(frozen=True)
class Refit:
    """What is known of the model of a week.

    Attributes
    ----------
    week : str
        Its Sunday.
    score : float or None
        Outer out-of-fold score: accuracy of classes, else R2; more is better. None where there is none.
    controls : str or None
        What the controls of the week found; None where they were not made.
    is_taken : bool
        Whether a decision has made this very model the champion: it was judged, or somebody answers for it, and is held to nothing more.
    """

    week: str
    score: float | None
    controls: str | None
    is_taken: bool = False


def refit_faults(
    refits: Iterable[Refit], *, margin: float, needs_controls: bool = True, within: timedelta = timedelta(weeks=1)
) -> dict[str, str]:
    """Why refits of one configuration may not serve.

    Each is held to the one before it, whether that one may serve or not: a score that falls once is held back for that week, and a score
    that stays low is taken the week after.

    Parameters
    ----------
    refits : iterable of Refit
        In the order of their weeks. The first is held to none.
    margin : float
        By how much the score may be lower than that of the refit before, in its own unit.
    needs_controls : bool
        Whether the controls of the week must have been made, and be trusted.
    within : timedelta
        How long before a refit that one lies at most: an older one is none to be held to.

    Returns
    -------
    dict
        Week to a sentence; nothing of those that may serve.

    Examples
    --------
    >>> weeks = [Refit("2013-01-06", 0.54, "trusted"), Refit("2013-01-13", 0.50, "trusted")]
    >>> refit_faults(weeks, margin=0.02)
    {'2013-01-13': 'its outer score is 0.5, more than 0.02 below that of week 2013-01-06, 0.54'}
    """
    found: dict[str, str] = {}
    before: Refit | None = None
    for each in refits:
        if before is not None and date.fromisoformat(each.week) - date.fromisoformat(before.week) > within:
            before = None
        if not each.is_taken and (why := _fault(each, before, margin=margin, needs_controls=needs_controls)):
            found[each.week] = why
        before = each
    return found


def _fault(refit: Refit, before: Refit | None, *, margin: float, needs_controls: bool) -> str:
    if needs_controls and refit.controls != TRUSTED:
        return f"its controls: {refit.controls or 'not made'}"
    if refit.score is None or not math.isfinite(refit.score):
        return "it has no outer score"
    if before is None or before.score is None or not math.isfinite(before.score):
        return ""
    # Written so that a difference of exactly the margin is not lost to rounding.
    if before.score - refit.score > margin and not math.isclose(before.score - refit.score, margin):
        return f"its outer score is {refit.score:.4g}, more than {margin:g} below that of week {before.week}, {before.score:.4g}"
    return ""
