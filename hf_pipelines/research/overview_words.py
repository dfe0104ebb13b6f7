"""Words of an overview of several runs: what differs, their scores, how far they agree; line by line.

Lives here: the tables as text. Not here: the numbers (`overview`).
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from hf_pipelines.research.comparison_words import number, say_p, text_table

BEST = "*"

# Of more runs the names take more room than their numbers: each has a letter.
MOST_NAMED = 3


def overview_lines(
    names: Sequence[str], *, settings: Mapping[str, Sequence[str]], scores: pl.DataFrame, agreement: pl.DataFrame
) -> Iterator[str]:
    """An overview.

    Parameters
    ----------
    names : sequence of str
    settings : mapping of field to sequence of str
        Fields that differ, with the value of each run in words.
    scores, agreement : DataFrame
        From `score_overview` and `prediction_agreement`.
    """
    if len(names) > MOST_NAMED:
        letters = string.ascii_uppercase[: len(names)]
        yield ""
        yield from (f"{letter}  {name}" for letter, name in zip(letters, names, strict=True))
        key = dict(zip(names, letters, strict=True))
        scores = scores.with_columns(pl.col("best", "members").list.eval(pl.element().replace_strict(key)))
        agreement = agreement.with_columns(pl.col("one", "other").replace_strict(key))
        names = [*letters]
    if settings:
        yield ""
        yield from text_table(
            [("parameters that differ", *names), *((field, *told) for field, told in settings.items())]
        )
    if scores.height:
        yield ""
        yield from text_table(
            [("score", *names, judged_by(names)), *(score_row(names, row) for row in scores.to_dicts())]
        )
        yield f"{BEST} the best of the row, on what all of them have in common."
    if agreement.height:
        yield ""
        yield from text_table(
            [
                ("predictions of", "rows of both", "correlation", "rank correlation", "same sign"),
                *(
                    (
                        f"{row['one']} and {row['other']}",
                        f"{row['n_rows']:,}",
                        number(row["correlation"]),
                        number(row["rank_correlation"]),
                        "" if row["same_sign"] is None else f"{row['same_sign']:.1%}",
                    )
                    for row in agreement.to_dicts()
                ),
            ]
        )


def judged_by(names: Sequence[str]) -> str:
    """Heading of what says whether the best is better."""
    return "p by Holm" if len(names) == 2 else "may be the best (95 %)"


def score_row(names: Sequence[str], row: Mapping[str, object]) -> tuple[str, ...]:
    """A score of each run, the best marked, and whether it is better than chance makes it."""
    values = row["values"]
    assert isinstance(values, list)
    p, members, best = row["p"], row["members"], row["best"]
    assert isinstance(best, list)
    shown = [f"{BEST if name in best else ''}{number(value)}" for name, value in zip(names, values, strict=True)]
    assert p is None or isinstance(p, float)
    if isinstance(members, list):
        judged = "any" if len(members) == len(names) else ", ".join(members)
    else:
        # Of several runs two alone may have the score.
        judged = say_p(p) if len(names) == 2 or p is None else f"by p {say_p(p)}"
    return (str(row["score"]), *shown, judged)
