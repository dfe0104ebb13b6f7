"""Sentiment features: numbers by hand over scored articles."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features import compute_features, group_names
from hf_pipelines.research.sentiment import lexicon_scores, score_news
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays
from hf_pipelines_tests.sample_references import random_references, session_opens, table_of

NAN = float("nan")
NAMES = group_names("sentiment")
DAYS = weekdays(40)


def _article(at: Any, positive: float, negative: float, *, number: int = 0) -> dict[str, Any]:
    return {"symbol": "A", "event_time": at, "available_at": at, "article_id": str(number), "text": "An article.",
            "positive": positive, "negative": negative, "neutral": 1.0 - positive - negative}  # fmt: skip


def _values(rows: list[dict[str, Any]], *, days: list[date] | None = None) -> dict[date, dict[str, float]]:
    days = days or DAYS
    frame = compute_features(
        bars_of("A", [20.0] * len(days), days=days), NAMES, opens=session_opens(days),
        references={"news": table_of("news", rows)},
    )  # fmt: skip
    return {row["session"]: row for row in frame.drop("symbol", "ts").iter_rows(named=True)}


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def test_scores_are_means_over_the_articles_since_the_session_before_opened():
    monday, tuesday, wednesday = DAYS[5:8]
    rows = [
        _article(_noon(tuesday), 0.5, 0.5, number=1),
        # At Monday's open: the first moment that belongs to Tuesday.
        _article(datetime(monday.year, monday.month, monday.day, 14, 30, tzinfo=UTC), 1.0, 0.0, number=2),
        # A microsecond before is Monday's, at Tuesday's open it is Wednesday's.
        _article(datetime(monday.year, monday.month, monday.day, 14, 29, 59, 999_999, tzinfo=UTC), 0.0, 1.0, number=3),
        _article(datetime(tuesday.year, tuesday.month, tuesday.day, 14, 30, tzinfo=UTC), 0.0, 0.0, number=4),
    ]
    of = _values(rows)
    scores = [f"sentiment_{name}" for name in ("positive", "negative", "neutral", "uncertainty")]
    assert [of[monday][name] for name in scores] == pytest.approx([0.0, 1.0, 0.0, 0.0])
    # Entropies of (0.5, 0.5, 0) and (1, 0, 0) over log 3.
    assert [of[tuesday][name] for name in scores] == pytest.approx([0.75, 0.25, 0.0, np.log(2) / np.log(3) / 2])
    assert [of[wednesday][name] for name in scores] == pytest.approx([0.0, 0.0, 1.0, 0.0])
    assert [of[day]["article_volume"] for day in DAYS[5:9]] == pytest.approx(np.log([2.0, 3.0, 2.0, 1.0]))
    assert np.isnan([of[DAYS[8]][name] for name in scores]).all()


def test_weekend_articles_belong_to_monday():
    saturday = DAYS[5] - timedelta(days=2)
    of = _values([_article(saturday, 1.0, 0.0)])
    assert [day for day in DAYS if of[day]["article_volume"] > 0] == [DAYS[5]]


def test_article_volume_is_related_to_twenty_sessions():
    rows = [
        _article(_noon(day), 0.5, 0.0, number=number) for number, day in enumerate([*DAYS[10:35], *DAYS[34:35] * 3])
    ]
    of = _values(rows)
    # Four articles; 19 sessions with one before.
    assert of[DAYS[34]]["article_volume_ratio_20"] == pytest.approx(4.0 / (23.0 / 20.0))
    assert np.isnan(of[DAYS[19]]["article_volume_ratio_20"]) and not np.isnan(of[DAYS[20]]["article_volume_ratio_20"])
    quiet = _values([_article(_noon(DAYS[2]), 0.5, 0.0)])
    assert np.isnan(quiet[DAYS[30]]["article_volume_ratio_20"])


def test_momentum_and_divergence_by_hand():
    # One article a session: composite 0.1 * number of the session in its week of five, and two on the last.
    rows = [_article(_noon(day), 0.1 * (at % 5), 0.0, number=at) for at, day in enumerate(DAYS[:31])]
    rows.append(_article(_noon(DAYS[30]), 0.0, 0.8, number=99))
    of = _values(rows)
    # Five sessions to the 30th: 0.1, 0.2, 0.3, 0.4 and 0, -0.8: 0.2 over six articles. The five before: mean 0.2.
    assert of[DAYS[30]]["sentiment_momentum_5"] == pytest.approx(0.2 / 6.0 - 0.2)
    # The session: -0.4. The twenty before: four full weeks of mean 0.2.
    assert of[DAYS[30]]["sentiment_divergence_20"] == pytest.approx(-0.4 - 0.2)
    assert of[DAYS[29]]["sentiment_momentum_5"] == pytest.approx(0.0, abs=1e-7)


def test_momentum_and_divergence_without_articles_on_a_side_are_nan():
    of = _values([_article(_noon(day), 0.5, 0.0, number=at) for at, day in enumerate(DAYS[26:31])])
    assert np.isnan(of[DAYS[30]]["sentiment_momentum_5"])
    assert of[DAYS[30]]["sentiment_divergence_20"] == pytest.approx(0.0)
    assert np.isnan(of[DAYS[31]]["sentiment_divergence_20"])


def test_window_over_a_long_halt_is_nan():
    days = [*DAYS[:25], *weekdays(30, start=DAYS[24] + timedelta(days=70))]
    of = _values([_article(_noon(day), 0.5, 0.0, number=at) for at, day in enumerate(days)], days=days)
    # The first session after the halt has no session before it within two months.
    assert np.isnan(of[days[25]]["sentiment_positive"]) and np.isnan(of[days[25]]["article_volume"])
    assert of[days[26]]["sentiment_positive"] == pytest.approx(0.5)
    assert np.isnan(of[days[34]]["sentiment_momentum_5"]) and not np.isnan(of[days[35]]["sentiment_momentum_5"])


def test_intraday_bars_have_values_on_the_first_bar_of_a_session_only():
    bars = bars_of("A", [20.0] * 10, days=DAYS[:10])
    hours = [bars.with_columns(pl.col("ts") - pl.duration(hours=hour)) for hour in (5, 4, 0)]
    frame = compute_features(
        pl.concat(hours).sort("symbol", "ts"), ["article_volume"], opens=session_opens(DAYS),
        references={"news": table_of("news", [_article(_noon(DAYS[4]), 0.5, 0.0)])},
    )  # fmt: skip
    of_day = frame.filter(pl.col("session") == DAYS[4])["article_volume"].to_list()
    assert of_day == pytest.approx([np.log(2.0), NAN, NAN], nan_ok=True)


def test_news_that_nobody_scored_are_refused():
    article = {key: value for key, value in _article(_noon(DAYS[4]), 0.5, 0.0).items() if key not in ("positive",)}
    with pytest.raises(
        ValueError, match=r"`references\['news'\]` must be scored, was without scores; run `score_news`"
    ):
        _values([article])


def test_features_of_text_scored_by_the_lexicon():
    rows = [{"symbol": "A", "event_time": _noon(DAYS[4]), "available_at": _noon(DAYS[4]), "article_id": "1",
             "text": "Profits surged despite a lawsuit"}]  # fmt: skip
    scored = score_news(table_of("news", rows), lexicon_scores)
    of = compute_features(
        bars_of("A", [20.0] * 10, days=DAYS[:10]), NAMES, opens=session_opens(DAYS), references={"news": scored}
    ).row(4, named=True)  # fmt: skip
    assert (of["sentiment_positive"], of["sentiment_negative"]) == pytest.approx((0.5, 0.25))


@pytest.mark.parametrize("seed", range(3))
def test_means_agree_with_polars_group_by_over_random_articles(seed):
    symbols = [f"S{number:03d}" for number in range(4)]
    days = weekdays(80)
    news = random_references(symbols, start=days[0], end=days[-1], seed=seed)["news"].sample(fraction=0.4, seed=seed)
    bars = random_bars(symbols=4, sessions=80, seed=seed, has_reference=False)
    ours = compute_features(bars, NAMES, opens=session_opens(days), references={"news": news})
    opens = pl.DataFrame({"session": days, "open_at": [*session_opens(days).values()]}).with_columns(
        pl.col("open_at").cast(news.schema["available_at"])
    )
    # Strictly after: the open itself belongs to the next session.
    placed = news.with_columns(pl.col("available_at") + pl.duration(microseconds=1)).sort("available_at")
    placed = placed.join_asof(opens, left_on="available_at", right_on="open_at", strategy="forward")
    theirs = placed.group_by("symbol", "session").agg(
        pl.col("positive", "negative", "neutral").mean(), (1.0 + pl.len().cast(pl.Float64)).log().alias("volume")
    )
    both = ours.filter(pl.col("session") > days[0]).join(theirs, on=["symbol", "session"], how="left")
    for name in ("positive", "negative", "neutral"):
        np.testing.assert_allclose(both[f"sentiment_{name}"], both[name].fill_null(NAN), rtol=1e-6)
    np.testing.assert_allclose(both["article_volume"], both["volume"].fill_null(0.0), rtol=1e-6)
