"""The offline scorer, and the contract that every scorer keeps."""

from datetime import date

import numpy as np
import pytest

from hf_pipelines.research.sentiment import lexicon_scores, score_news
from hf_pipelines_tests.sample_references import table_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", (0, 0, 1), id="nothing"),
        pytest.param("The board met on Tuesday to discuss tax, cost and liabilities.", (0, 0, 1), id="neutral"),
        pytest.param("PROFITS SURGED", (2 / 3, 0, 1 / 3), id="two positive, any case"),
        pytest.param("Shares plunged after a profit warning", (1 / 4, 2 / 4, 1 / 4), id="both"),
        pytest.param("Sales did not improve", (0, 1 / 2, 1 / 2), id="negated positive"),
        pytest.param("Sales didn’t improve", (0, 1 / 2, 1 / 2), id="curly apostrophe"),
        pytest.param("No losses were reported", (0, 0, 1), id="negated negative says nothing"),
        pytest.param("Not one of the products in the range did improve", (1 / 2, 0, 1 / 2), id="negator too far"),
        pytest.param("The mission of the topical lager brand is fine", (0, 0, 1), id="not the words they begin with"),
    ],
)
def test_lexicon_scores_by_hand(text, expected):
    assert lexicon_scores([text])[0] == pytest.approx(expected)


def test_lexicon_scores_are_probabilities_one_row_a_text():
    rng = np.random.default_rng(0)
    words = ["profit", "loss", "not", "no", "strong", "weak", "fraud", "the", "shares", "surged", "never", "improve"]
    texts = [" ".join(rng.choice(words, rng.integers(0, 30))) for _ in range(200)]
    scores = lexicon_scores(texts)
    assert scores.shape == (200, 3) and (scores >= 0.0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0)
    np.testing.assert_array_equal(lexicon_scores(texts[::-1])[::-1], scores)
    assert lexicon_scores([]).shape == (0, 3)


def _news(*texts: str):
    day = date(2020, 5, 1)
    return table_of(
        "news",
        [{"symbol": "A", "event_time": day, "available_at": day, "article_id": str(number), "text": text}
         for number, text in enumerate(texts)],
    )  # fmt: skip


def test_score_news_keeps_rows_in_order_and_scores_each_text_once():
    asked = []

    def scorer(texts):
        asked.extend(texts)
        return np.array([[len(text) / 10, 0.0, 1.0 - len(text) / 10] for text in texts])

    news = _news("aaa", "b", "aaa", "cc")
    scored = score_news(news, scorer)
    assert asked == ["aaa", "b", "cc"]
    assert scored["positive"].to_list() == [0.3, 0.1, 0.3, 0.2]
    assert scored.schema == news.schema
    assert score_news(scored, scorer).equals(scored)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        pytest.param(np.zeros((1, 2)), r"`scorer` must return the shape \(1, 3\), was \(1, 2\)", id="shape"),
        pytest.param(np.zeros((1, 3)), "must return probabilities that add up to 1, was .0.0, 0.0, 0.0", id="zeros"),
        pytest.param(np.array([[np.nan, 0.5, 0.5]]), "must return probabilities", id="nan"),
        pytest.param(np.array([[1.5, -0.5, 0.0]]), "must return probabilities", id="negative"),
    ],
)
def test_score_news_refuses_a_scorer_that_gives_no_probabilities(scores, message):
    with pytest.raises(ValueError, match=message):
        score_news(_news("a"), lambda texts: scores)
