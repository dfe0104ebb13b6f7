"""Sentiment features: scored articles that became available before the session opened.

Here: averages over the articles of a session and of windows of sessions. A session's articles are those that became
available from the open of the symbol's bar before until just before its own open. Not here: how a text is scored
(`research/sentiment.py`).

For one bar a session: on an intraday bar that opens no session of its own every value is NaN, as it is where a
window's sessions span more than `_SPAN_DAYS` (a halt). An article with a correction counts twice, each at its own time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import FloatArray, OffsetArray
from hf_pipelines.research.features.point_in_time import DAY, finite, first_rows_after, known_table, ratio
from hf_pipelines.research.references import SCORE_COLUMNS

# 21 sessions are a month of days; with holidays and a short halt less than two.
_SPAN_DAYS = 60
REFERENCE_DAYS = _SPAN_DAYS + 2

_MOMENTUM_SESSIONS = 5
_USUAL_SESSIONS = 20


@dataclass(frozen=True, eq=False)
class Articles:
    """Sums over the articles of each row's session; arrays of shape (n_rows,), the rest of the panel's rows 0."""

    panel: Panel
    count: FloatArray
    positive: FloatArray
    negative: FloatArray
    neutral: FloatArray
    entropy: FloatArray

    def over(self, name: str, sessions: int, *, skip: int = 0) -> FloatArray:
        """Sum over the last `sessions` sessions before the latest `skip`; NaN where the window is not whole."""
        values = getattr(self, name)
        total = np.zeros(values.size)
        for back in range(skip, min(skip + sessions, values.size)):
            total[back:] += values[: values.size - back]
        return np.where(self._is_whole(skip + sessions), total, np.nan)

    def mean(self, name: str, sessions: int = 1, *, skip: int = 0) -> FloatArray:
        """Mean over the articles of a window, NaN without any."""
        return ratio(self.over(name, sessions, skip=skip), self.over("count", sessions, skip=skip))

    def composite(self, sessions: int, *, skip: int = 0) -> FloatArray:
        """Mean of positive minus negative over the articles of a window, -1 to 1; NaN without any."""
        return self.mean("positive", sessions, skip=skip) - self.mean("negative", sessions, skip=skip)

    def _is_whole(self, sessions: int) -> np.ndarray:
        """Whether the bars of the sessions, and the one before that bounds them, are readable and near."""
        opens = self.panel.session_open
        rows = np.arange(opens.size)
        first = rows - sessions
        is_whole = first >= self.panel.first_readable
        is_whole &= opens - opens[np.maximum(first, 0)] <= _SPAN_DAYS * DAY
        return is_whole & (self._latest_repeat <= first)

    @functools.cached_property
    def _latest_repeat(self) -> OffsetArray:
        """For each row the last one up to it that opens no later session than the row before; its symbol's first does."""
        opens = self.panel.session_open
        is_repeat = np.append(True, opens[1:] <= opens[:-1])[: opens.size] | np.isnat(opens)
        is_repeat[self.panel.starts[:-1]] = True
        return np.maximum.accumulate(np.where(is_repeat, np.arange(opens.size), -1))


def read_articles(panel: Panel) -> Articles:
    """Sum the scored articles of each row's session.

    Raises
    ------
    ValueError
        If the panel holds no news, or articles that no scorer has read.
    """
    news = panel.references.get("news")
    held = [name for name in SCORE_COLUMNS if news is None or name in news.columns]
    table = known_table(panel, "news", columns=held)
    scores = {name: table.figure(name)[:-1] for name in held}
    if len(scores) < len(SCORE_COLUMNS) or any(np.isnan(values).any() for values in scores.values()):
        raise ValueError("`references['news']` must be scored, was without scores; run `score_news` over it first.")
    rows = first_rows_after(panel, table)
    is_read = rows >= 0
    columns = {"count": np.ones(rows.size), **scores, "entropy": _entropy(np.stack([*scores.values()]))}
    sums = {
        name: np.bincount(rows[is_read], weights=values[is_read], minlength=panel.close.size).astype(np.float64)
        for name, values in columns.items()
    }
    return Articles(panel=panel, **sums)


def _entropy(probabilities: FloatArray) -> FloatArray:
    """Entropy of each column as a fraction of its largest value, 0 (sure) to 1."""
    logarithm = np.log(np.where(probabilities > 0.0, probabilities, 1.0))
    return np.asarray(-(probabilities * logarithm).sum(axis=0) / np.log(probabilities.shape[0]))


def sentiment_positive(articles: Articles) -> FloatArray:
    """Mean probability of positive over the session's articles, NaN without any."""
    return articles.mean("positive")


def sentiment_negative(articles: Articles) -> FloatArray:
    """Mean probability of negative over the session's articles, NaN without any."""
    return articles.mean("negative")


def sentiment_neutral(articles: Articles) -> FloatArray:
    """Mean probability of neutral over the session's articles, NaN without any."""
    return articles.mean("neutral")


def sentiment_uncertainty(articles: Articles) -> FloatArray:
    """Mean entropy of the session's articles' probabilities, 0 to 1; NaN without any."""
    return articles.mean("entropy")


def article_volume(articles: Articles) -> FloatArray:
    """Log of 1 + the session's articles, 0 without any."""
    return np.log1p(articles.over("count", 1))


def article_volume_ratio_20(articles: Articles) -> FloatArray:
    """The session's articles over the mean of 20 sessions, 0 to 20; NaN if those have none."""
    return ratio(articles.over("count", 1), articles.over("count", _USUAL_SESSIONS) / _USUAL_SESSIONS)


def sentiment_momentum_5(articles: Articles) -> FloatArray:
    """Composite of the articles of 5 sessions minus that of the 5 before; NaN if either have none."""
    return articles.composite(_MOMENTUM_SESSIONS) - articles.composite(_MOMENTUM_SESSIONS, skip=_MOMENTUM_SESSIONS)


def sentiment_divergence_20(articles: Articles) -> FloatArray:
    """Composite of the session's articles minus that of the 20 sessions before; NaN if either have none."""
    return articles.composite(1) - articles.composite(_USUAL_SESSIONS, skip=1)


_OF_ARTICLES: dict[str, Callable[[Articles], FloatArray]] = {}


def _together(panel: Panel, names: Sequence[str]) -> list[FloatArray]:
    """The named features, from one reading of the articles."""
    articles = read_articles(panel)
    return [finite(np.where(panel.is_wanted, _OF_ARTICLES[name](articles), np.nan)) for name in names]


def _feature(
    function: Callable[[Articles], FloatArray], *, sessions: int = 1, formula: str, source: str = ""
) -> Feature:
    name = function.__name__
    _OF_ARTICLES[name] = function

    def compute(panel: Panel) -> FloatArray:
        return _together(panel, [name])[0]

    compute.__doc__ = function.__doc__
    # One bar more: its open is where the window's first session begins.
    return Feature(
        name, "sentiment", compute, sessions + 1, ("news", "session_open"), formula, source,
        together=_together, reference_days=REFERENCE_DAYS,
    )  # fmt: skip


FEATURES = (
    _feature(sentiment_positive, formula="mean(positive) over the session's articles",
             source="Loughran & McDonald (2011), When Is a Liability Not a Liability?, J. Finance 66(1)"),
    _feature(sentiment_negative, formula="mean(negative) over the session's articles"),
    _feature(sentiment_neutral, formula="mean(neutral) over the session's articles"),
    _feature(sentiment_uncertainty, formula="mean(entropy(positive, negative, neutral) / log(3))"),
    _feature(article_volume, formula="log(1 + articles)"),
    _feature(article_volume_ratio_20, sessions=_USUAL_SESSIONS, formula="articles / mean(articles, 20 sessions)"),
    _feature(sentiment_momentum_5, sessions=2 * _MOMENTUM_SESSIONS,
             formula="composite(5 sessions) - composite(the 5 before); composite = mean(positive - negative)"),
    _feature(sentiment_divergence_20, sessions=1 + _USUAL_SESSIONS,
             formula="composite(session) - composite(the 20 sessions before)"),
)  # fmt: skip
