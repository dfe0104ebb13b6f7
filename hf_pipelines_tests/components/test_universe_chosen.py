"""How members were chosen is said, asked about, and on every page."""

from datetime import date

import pytest

from hf_pipelines.components.market_stages.universe import CHOSEN, CHOSEN_UNSAID, Universe
from hf_pipelines.definitions import defs

START, LAST = date(2000, 3, 1), date(2013, 3, 1)


def universe(chosen: str | None, *, leaves: date | None = None) -> Universe:
    spells = (("A", START, None), ("B", START, leaves))
    return Universe(spells, {}, "X", None, START, chosen)


@pytest.mark.parametrize(
    ("chosen", "leaves", "last", "told"),
    [
        pytest.param("index_history", date(2010, 1, 4), LAST, [], id="sound"),
        pytest.param("index_history", None, date(2009, 3, 1), [], id="short"),
        pytest.param("index_history", None, LAST, ["no member has left in 13 years"], id="no leaver"),
        pytest.param("all_listed", LAST, LAST, ["no member has left in 13 years"], id="leaves with the last day"),
        pytest.param("hindsight", None, LAST, ["how members were chosen is hindsight"], id="hindsight"),
        pytest.param(None, date(2010, 1, 4), LAST, ["how members were chosen is not said"], id="unsaid"),
        pytest.param(None, None, LAST, ["how members were chosen is not said", "no member has left"], id="unsaid, no leaver"),
    ],
)  # fmt: skip
def test_doubts_of_a_universe(chosen, leaves, last, told):
    found = universe(chosen, leaves=leaves).doubts(last)
    assert len(found) == len(told)
    for line, begins in zip(found, told, strict=True):
        assert line.startswith(begins)


def test_every_strategy_of_the_sample_says_that_its_members_are_hindsight():
    graph = defs().resolve_asset_graph()
    said = {
        key.to_user_string(): graph.get(key).metadata["universe_chosen"]
        for key in graph.materializable_asset_keys
        if "universe_chosen" in graph.get(key).metadata
    }
    assert len(said) > 25 and set(said.values()) == {CHOSEN["hindsight"]}
    assert universe(None).chosen_in_words == CHOSEN_UNSAID
