"""Sentiment: what a text says of its company, as probabilities of positive, negative and neutral.

Lives here: the contract of a scorer, the offline default (a small word list of finance with negation), and the scoring
of a news table. Does not live here: models that are read from disk or a hub (`resources/sentiment.py`), the features
(`features/sentiment.py`).

The word list is our own, in the tradition of Loughran & McDonald (2011), "When Is a Liability Not a Liability?",
J. Finance 66(1): words that are negative in everyday language, such as liability, tax or cost, are not in finance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import polars as pl

from hf_pipelines.research.features.panel_columns import FloatArray
from hf_pipelines.research.references import SCORE_COLUMNS


class Scorer(Protocol):
    """Anything that reads texts."""

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities of positive, negative and neutral: float64 of shape (n, 3), rows add up to 1."""
        ...


# A star stands for any ending.
_POSITIVE = """
    accelerat* achiev* acclaim* advantage* award* beat beats beaten benefit* best better bolster* boom boost* booming
    breakthrough* bullish collaborat* efficien* enhanc* exceed* excel excellen* exceptional* favorabl* favourabl* gain gains
    gained gaining grew grow grows growing grown growth improv* innovat* milestone* momentum opportunit* optimis* outpac*
    outperform* pleased popular* profitab* profit profits progress* prosper* rally rallied rallies rebound* recover* resilien*
    reward* robust* soar* solid stabiliz* stable strength* strong stronger strongest strongly succeed* success* superior
    surge surged surges surging surpass* thriv* upbeat upgrad* upside upturn* win wins winner* winning won
"""
_NEGATIVE = """
    abandon* accus* adverse* allegation* alleged bankrupt* bearish breach* bribe* burden* closure* collaps* complain* concerned
    concerns curtail* cutback* damag* danger* declin* default* defect* deficien* deficit* delay* delinquen* deteriorat*
    disappoint* disput* disrupt* downgrad* downturn* drop drops dropped dropping embezzl* erod* erosion fail failed failing
    fails failure* fall fallen falling falls fell fined fines fraud* halt halted halts harm* headwind* hurt hurts illegal*
    impair* inability inadequa* insolven* investigat* lack lacked lacking lacks lagged lagging lawsuit* layoff* litigat* lose
    loses losing loss losses lost misconduct misstat* missed misses negativ* obsole* penalt* plummet* plung* poor poorly
    problem* prosecut* recall* recession* resign* restat* scandal* shortfall* shrank shrink* shutdown* slash* slowdown* slowed
    slowing slump* stagnan* strain* struggl* subpoena* sued suffer* suspend* terminat* threat* troubl* turmoil uncertain*
    underperform* unfavorabl* unfavourabl* unpaid violat* volatil* vulnerab* warn warned warning* warns weak weaken* weaker
    weakest weakness* worse worsen* worst writedown* writeoff*
"""
_NEGATORS = """
    no not none neither never nobody nor without cannot cant can't isn't wasn't aren't weren't doesn't didn't don't won't
    wouldn't hasn't haven't hadn't hardly barely
"""
# Words before a listed one in which a negator turns it round, as in Loughran & McDonald.
_NEGATION_REACH = 3

# What silence weighs: one listed word makes its side a half, two make it two thirds.
_NEUTRAL_WEIGHT = 1.0

_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?")


def _word_list(listed: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Whole words, and beginnings of words."""
    words = listed.split()
    return frozenset(words), tuple(word[:-1] for word in words if word.endswith("*"))


_POSITIVE_WORDS, _POSITIVE_STEMS = _word_list(_POSITIVE)
_NEGATIVE_WORDS, _NEGATIVE_STEMS = _word_list(_NEGATIVE)
_NEGATOR_WORDS, _ = _word_list(_NEGATORS)


def lexicon_scores(texts: Sequence[str]) -> FloatArray:
    """Score texts by counting finance words: the default, which needs no model.

    Parameters
    ----------
    texts : sequence of str

    Returns
    -------
    float64 array of shape (n, 3)
        Positive, negative, neutral. With p positive and n negative words: p, n and 1, over p + n + 1. A positive word
        after a negator (up to three words before) counts as negative; a negative one then counts as nothing, since
        "no loss" is not good news yet.

    Examples
    --------
    >>> lexicon_scores(["Sales surged", "Sales did not improve", "The board met"]).tolist()
    [[0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
    """
    counts = np.array([_count(text) for text in texts], dtype=np.float64).reshape(-1, 2)
    weights = np.column_stack([counts, np.full(counts.shape[0], _NEUTRAL_WEIGHT)])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _count(text: str) -> tuple[int, int]:
    """Positive and negative words of a text."""
    words = _WORD.findall(text.lower().replace("’", "'"))
    positive = negative = 0
    for at, word in enumerate(words):
        is_negated = not _NEGATOR_WORDS.isdisjoint(words[max(at - _NEGATION_REACH, 0) : at])
        if word in _POSITIVE_WORDS or word.startswith(_POSITIVE_STEMS):
            positive += not is_negated
            negative += is_negated
        elif word in _NEGATIVE_WORDS or word.startswith(_NEGATIVE_STEMS):
            negative += not is_negated
    return positive, negative


def score_news(news: pl.DataFrame, scorer: Scorer) -> pl.DataFrame:
    """Score every article of a news table.

    Parameters
    ----------
    news : DataFrame
        Contract `news`; scores it may hold are replaced.
    scorer : callable
        See `Scorer`. A text that comes several times is scored once.

    Returns
    -------
    DataFrame
        The same rows, with `positive`, `negative`, `neutral`.

    Raises
    ------
    ValueError
        If the scorer gives another shape, or numbers that are no probabilities.
    """
    texts = news["text"].unique(maintain_order=True)
    scores = np.asarray(scorer(texts.to_list()), dtype=np.float64)
    if scores.shape != (texts.len(), len(SCORE_COLUMNS)):
        raise ValueError(f"`scorer` must return the shape {(texts.len(), len(SCORE_COLUMNS))}, was {scores.shape}.")
    is_off = (scores < 0.0) | (np.abs(scores.sum(axis=1, keepdims=True) - 1.0) > 1e-3) | ~np.isfinite(scores)
    if is_off.any():
        first = int(np.flatnonzero(is_off.any(axis=1))[0])
        raise ValueError(f"`scorer` must return probabilities that add up to 1, was {scores[first].tolist()}.")
    of_text = pl.DataFrame({"text": texts, **dict(zip(SCORE_COLUMNS, scores.T, strict=True))})
    return news.drop(SCORE_COLUMNS, strict=False).join(of_text, on="text", how="left", maintain_order="left")
