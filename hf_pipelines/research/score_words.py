"""Words of a table of scores: what a page says of it.

Lives here: whether the best baseline is beaten in a sentence, what was resampled,
what is undefined, and numbers as text. Not here: the numbers (`score_table`, `account_table`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from hf_pipelines.research.metrics.bootstrap import LEVEL, MIN_BLOCKS, N_RESAMPLES
from hf_pipelines.research.targets import HORIZON

MODEL = "model"

# Less sure than this the best baseline is not beaten: noise is better than it as often as not.
BEATEN_FROM = 0.95

PLACES_SHOWN = 5


def say_verdict(deciding: pl.DataFrame) -> str:
    """Whether the model beats the best baseline, of its pooled row of the score that decides."""
    row = deciding.row(0, named=True)
    by, sure = row["better_by"], row["probability"]
    against = f"the best baseline ({row['best_baseline']}) in {row['score']}"
    size = "no better" if by == 0.0 else f"{'better' if by > 0.0 else 'worse'} by {abs(by):.4g}"
    if sure is None:
        return f"The model is {size} than {against}; too few sessions to say how sure that is."
    if by > 0.0 and sure >= BEATEN_FROM:
        return f"The model beats {against} by {by:.4g} with a probability of {_percent(sure)}."
    if by > 0.0:
        return (
            f"The model is not shown to beat {against}: it is {size}, but that it is better at all has a probability of only "
            f"{_percent(sure)}."
        )
    return f"The model does not beat {against}: it is {size}; that it is better has a probability of {_percent(sure)}."


def _percent(probability: float) -> str:
    if probability > 0.99:
        return "over 99 %"
    return "under 1 %" if probability < 0.01 else f"{probability:.0%}".replace("%", " %")


def say_notes(scores: pl.DataFrame, *, block: int, n_sessions: int, n_paths: int) -> Iterator[str]:
    """What was resampled, and what is undefined, of one predictor's rows.

    Parameters
    ----------
    scores : DataFrame
        As `ScoreTable.scores`, of one horizon.
    block, n_sessions, n_paths : int
        Sessions of a block and of all folds; paths.
    """
    if n_sessions < MIN_BLOCKS * block:
        yield (
            f"No intervals and no probability of all folds: {n_sessions} sessions make fewer than {MIN_BLOCKS} blocks of {block}; "
            "test more sessions."
        )
    else:
        along = f"; of each of the {n_paths} paths the same sessions, their scores averaged" if n_paths > 1 else ""
        yield (
            f"Intervals of {LEVEL:.0%}: {N_RESAMPLES:,} resamples of blocks of {block} whole sessions out of {n_sessions}{along}."
        )
    short = scores.filter(pl.col("low").is_null().all().over("fold") & pl.col("fold").is_not_null())
    if n_short := short["fold"].n_unique():
        yield f"Of {n_short} folds no intervals: their sessions make fewer than {MIN_BLOCKS} blocks of their own."
    undefined = scores.filter(pl.col("value").is_null())
    for (score,), part in undefined.partition_by("score", as_dict=True, maintain_order=True).items():
        places = ["all folds" if fold is None else f"fold {fold}" for fold in part["fold"].to_list()]
        yield f"{score} is undefined in {', '.join(places[:PLACES_SHOWN])}."


def shown_scores(scores: pl.DataFrame, *, predictor: str = MODEL) -> pl.DataFrame:
    """The pooled scores as a page shows them: a row a score, the model beside the baselines.

    Parameters
    ----------
    scores : DataFrame
        As `ScoreTable.scores`.
    predictor : str
        The one that is compared with the others.

    Returns
    -------
    DataFrame
        Text: `score`, `model`, its interval, its mean and deviation over the folds, every baseline, and how the best one
        compares; empty where undefined.
    """
    optional = [HORIZON] if HORIZON in scores.columns else []
    pooled = scores.filter(pl.col("fold").is_null())
    index = [*optional, "score"]
    values = pooled.pivot("predictor", index=index, values="value", maintain_order=True)
    baselines = [name for name in values.columns if name not in (*index, predictor)]
    # Apart from the values: a baseline is called `mean`, too.
    own = pooled.filter(predictor=predictor).rows_by_key(index, named=True, unique=True)
    return pl.DataFrame(
        [
            {
                **{name: str(row[name]) for name in optional},
                "score": row["score"],
                predictor: _number(row[predictor]),
                f"interval of {LEVEL:.0%}": _joined(told["low"], told["high"], " to "),
                "mean and deviation over folds": _joined(told["mean"], told["deviation"], " \u00b1 "),
                **{name: _number(row[name]) for name in baselines},
                **(_comparison(told) if baselines else {}),
            }
            for row in values.to_dicts()
            for told in [own[tuple(row[name] for name in index) if optional else row["score"]]]
        ]
    )


def _comparison(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "best baseline": row["best_baseline"] or "",
        "better by": _number(row["better_by"]),
        "probability": "" if row["probability"] is None else _percent(row["probability"]),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _joined(first: float | None, second: float | None, between: str) -> str:
    return between.join(_number(each) for each in (first, second) if each is not None)
