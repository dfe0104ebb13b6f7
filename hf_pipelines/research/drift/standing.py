"""Standing: what becomes of a call that is made session after session: an alarm that is raised once, and resolved once.

Lives here: from how many calls on, and after how many sessions without one. Not here: the calls (`day`), who is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

# Sessions in a row with a clear call before it is an alarm: it keeps a single bad file quiet. Windows of neighbouring days are nearly the
# same, so it is the lower error of a clear call, not their number, that keeps alarms by chance few.
RAISED_AFTER = 3

# Sessions in a row with any call before it is an alarm: what stays near the limit for so long is none of chance.
RAISED_AFTER_CALLS = 10

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
    n_clear : int
        Sessions in a row with a clear call, up to now.
    """

    is_raised: bool = False
    n_called: int = 0
    n_quiet: int = 0
    raised_on: date | None = None
    since: date | None = None
    n_clear: int = 0


def next_standing(
    before: Standing,
    is_called: bool | None,
    session: date,
    *,
    since: date | None = None,
    is_clear: bool | None = None,
) -> Standing:
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
    is_clear : bool, optional
        Whether the call is clear enough to raise an alarm in few sessions; any call makes it last, so that what is near the limit is one alarm, not several.
        Default: as `is_called`.

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
    n_called = before.n_called + 1
    n_clear = before.n_clear + 1 if is_clear is None or is_clear else 0
    if before.is_raised:
        return Standing(True, n_called, 0, before.raised_on, before.since, n_clear)
    if n_clear >= RAISED_AFTER or n_called >= RAISED_AFTER_CALLS:
        return Standing(True, n_called, 0, session, since, n_clear)
    return Standing(n_called=n_called, n_clear=n_clear)
