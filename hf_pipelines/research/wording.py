"""Wording: how a message names many things.

Lives here: the first few of many names, which known name an unknown one is near to, and what may be shown of a text that somebody else
wrote. Does not live here: any message. The validators of bars and references keep words
of their own: what they call is part of the code version of what is stored.
"""

import re
from collections.abc import Collection
from difflib import get_close_matches

import polars as pl

NAMES_SHOWN = 5

# Of 1, at which a name of five letters with one or two others is still found.
LEAST_LIKENESS = 0.65

# Names that a reader still looks through: the learners, targets, steps and parameters that may be chosen stay listed.
MOST_LISTED = 40

# Of 1, from which one letter of ten is wrong: what was meant is no longer in doubt.
SURE_LIKENESS = 0.9

# Of a text from outside: enough to find it again, too little to carry a secret, a link or markup into a log.
EXCERPT_LENGTH = 20


def some_of(names: Collection[str]) -> str:
    """The first five names, and how many more there are.

    Examples
    --------
    >>> some_of(["a", "b"])
    'a, b'
    >>> some_of("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join([*names][:NAMES_SHOWN]) + more


def number_of(n: int, noun: str) -> str:
    """So many of a thing.

    Examples
    --------
    >>> number_of(1, "week"), number_of(1_500, "session")
    ('1 week', '1,500 sessions')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def with_nearest(message: str) -> str:
    """A message of an unknown name with the known one that is spelt nearly the same, where the message lists it.

    A list of more than `MOST_LISTED` is left out where that name is spelt so nearly that nothing else can be meant.

    Examples
    --------
    >>> with_nearest("`type` must be among lasso, ridge, was rigde.")
    '`type` must be among lasso, ridge, was rigde; did you mean ridge?'
    >>> with_nearest("`params` of 'ridge' must be among ['alpha', 'fit_intercept'], was ['alfa']; see the docs.")
    "`params` of 'ridge' must be among ['alpha', 'fit_intercept'], was ['alfa']; did you mean alpha? see the docs."
    >>> with_nearest(f"`asset` must be one of {', '.join(f'a{at}/bars' for at in range(60))}, us_tech/bars, was us_tech/bar.")
    '`asset` must be one of 61 known names, was us_tech/bar; did you mean us_tech/bars?'
    >>> with_nearest("`type` must be among lasso, ridge, was trees.")
    '`type` must be among lasso, ridge, was trees.'
    """
    found = re.search(r"must be (?:among|one of) (.+), was ([^;]+?)(?:;|\.?$)", message)
    if found is None or "did you mean" in message:
        return message
    # Names in backticks are those of fields, not of what a field may hold.
    parts = (re.sub(r"`[^`]*`", "", part) for part in found.groups())
    known, given = (dict.fromkeys(re.findall(r"[A-Za-z_][\w/-]*", part)) for part in parts)
    near = [get_close_matches(each, known, n=1, cutoff=LEAST_LIKENESS) for each in given if each not in known]
    if not (names := dict.fromkeys(name for each in near for name in each)):
        return message
    # A long list hides the one name that matters.
    is_sure = all(get_close_matches(each, known, n=1, cutoff=SURE_LIKENESS) for each in given if each not in known)
    if is_sure and (n_listed := found[1].count(",") + 1) > MOST_LISTED:
        message = message.replace(found[1], f"{n_listed} known names", 1)
    told, _, remedy = message.removesuffix(".").partition("; ")
    hint = f"{told}; did you mean {' and '.join(names)}?"
    return f"{hint} {remedy}." if remedy else hint


def excerpt(text: object) -> str:
    """The beginning of a text from outside, of plain characters alone.

    Examples
    --------
    >>> excerpt("adj_close")
    'adj_close'
    >>> excerpt("root:x:0:0:root:/root:/bin/bash")
    'root?x?0?0?root??roo...'
    """
    shown = str(text)[: EXCERPT_LENGTH + 1]
    plain = re.sub(r"[^A-Za-z0-9_. +-]", "?", shown[:EXCERPT_LENGTH])
    return plain + ("..." if len(shown) > EXCERPT_LENGTH else "")


def excerpts(texts: Collection[object]) -> str:
    """Excerpts of the first five texts from outside, and how many more there are.

    Examples
    --------
    >>> excerpts(["a", "b<script>", "c", "d", "e", "f", "g"])
    'a, b?script?, c, d, e and 2 more'
    """
    more = f" and {len(texts) - NAMES_SHOWN} more" if len(texts) > NAMES_SHOWN else ""
    return ", ".join(excerpt(each) for each in [*texts][:NAMES_SHOWN]) + more


def type_words(dtype: pl.DataType) -> str:
    """A column's type, without the names and values that a nested or categorical one carries.

    Examples
    --------
    >>> type_words(pl.Struct({"password": pl.Int64})), type_words(pl.Datetime("us"))
    ('Struct', "Datetime(time_unit='us', time_zone=None)")
    """
    is_plain = not (dtype.is_nested() or isinstance(dtype, pl.Enum | pl.Categorical))
    return str(dtype if is_plain else dtype.base_type())


def printable(text: str) -> str:
    """A text with whatever a terminal or a log would obey, or cannot show, written as escapes.

    Examples
    --------
    >>> print(printable("2013-02-24\\n.csv"))
    2013-02-24\\n.csv
    """
    return text if text.isprintable() else ascii(text)[1:-1]
