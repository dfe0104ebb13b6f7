"""Standing: what becomes of a call that is made session after session: an alarm that is raised once, and resolved once.

Lives here: from how many calls on, and after how many sessions without one. Not here: the calls (`day`), who is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

# Sessions in a row with a call before it is an alarm: one day in twenty is called by chance, and windows of neighbouring days are nearly the
# same, so this does not change the error much; it keeps a single bad file quiet.
RAISED_AFTER = 3

# Sessions in a row without a call before an alarm is over.
RESOLVED_AFTER = 5


@dataclass(frozen=True)
class Standing:
    """Where one kind of call stands.

    Attributes
    ----------
    is_raised : bool
        Whether it is an alarm.
    n_called, n_quiet : int
        Sessions in a row with and without a call, up to now; one of them is 0.
    raised_on : date or None
        Session that raised the alarm; None while there is none.
    since : date or None
        Since when what was called then has lasted.
    """

    is_raised: bool = False
    n_called: int = 0
    n_quiet: int = 0
    raised_on: date | None = None
    since: date | None = None


def next_standing(before: Standing, is_called: bool | None, session: date, *, since: date | None = None) -> Standing:
    """Where a call stands after one more session.

    Parameters
    ----------
    before : Standing
        After the session before.
    is_called : bool or None
        None: it cannot be judged, which changes nothing.
    session : date
    since : date, optional
        Since when what is called has lasted, as far as it is known; kept while the alarm stands.

    Returns
    -------
    Standing

    Examples
    --------
    >>> state = Standing()
    >>> for day in (1, 2, 3):
    ...     state = next_standing(state, True, date(2024, 1, day))
    >>> state.is_raised, state.raised_on
    (True, datetime.date(2024, 1, 3))
    """
    if is_called is None:
        return before
    if not is_called:
        n_quiet = before.n_quiet + 1
        if before.is_raised and n_quiet < RESOLVED_AFTER:
            return Standing(True, 0, n_quiet, before.raised_on, before.since)
        return Standing(n_quiet=n_quiet)
    if before.is_raised:
        return Standing(True, before.n_called + 1, 0, before.raised_on, before.since)
    n_called = before.n_called + 1
    return Standing(True, n_called, 0, session, since) if n_called >= RAISED_AFTER else Standing(n_called=n_called)
