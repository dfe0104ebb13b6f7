"""Inputs of strategies: which weeks of the market must be there, by hand from the windows of the shipped files."""

import pytest

from hf_pipelines.commands.making import Span, market_spans
from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.component_tree import load_components
from hf_pipelines.components.strategy_stages import RETRAINED
from hf_pipelines.resources.project import PACKAGE_ROOT


@pytest.fixture(scope="module")
def ranking():
    """Trained on 156 weeks of two groups, of which the longest lookback is 120 bars: 28 weeks with their holidays."""
    tree = load_components(PACKAGE_ROOT).tree
    market = tree.load_component("markets/us_tech", expected_type=Market).plan
    return tree.load_component("strategies/tech_ranking", expected_type=Strategy).plan(market)


def spans(plan, stages, first, last):
    return market_spans(plan.market, {plan.asset(stage): (plan, first, last) for stage in stages})


def test_a_retrained_week_needs_the_weeks_before_it_and_the_lookback_of_their_features(ranking):
    assert spans(ranking, RETRAINED, "2013-02-24", "2013-02-24") == [
        Span("us_tech/bars", "2009-08-16", "2013-02-17"),
        Span("us_tech/features/technical", "2010-02-28", "2013-02-17"),
        Span("us_tech/features/cross_asset", "2010-02-28", "2013-02-17"),
    ]


def test_signals_need_features_of_their_own_week(ranking):
    # Of a Monday and the Friday after the next one.
    found = spans(ranking, ["signals"], "2013-02-11", "2013-02-22")
    assert {each.asset: (each.first, each.last) for each in found} == {
        "us_tech/bars": ("2012-07-29", "2013-02-17"),
        "us_tech/features/technical": ("2013-02-10", "2013-02-17"),
        "us_tech/features/cross_asset": ("2013-02-10", "2013-02-17"),
    }


def test_several_weeks_and_stages_are_one_span_and_none_begins_before_the_market(ranking):
    found = spans(ranking, [*RETRAINED, "signals"], "2003-03-02", "2003-03-16")
    # The market begins on 2000-03-01, a Wednesday; 156 weeks before 2003-03-02 is 2000-03-05.
    assert found[0] == Span("us_tech/bars", "2000-02-27", "2003-03-16")
    assert found[1] == Span("us_tech/features/technical", "2000-03-05", "2003-03-16")


def test_features_of_the_market_need_bars_of_their_lookback_and_bars_need_nothing(ranking):
    asset = "us_tech/features/technical"
    found = market_spans(ranking.market, {asset: (None, "2013-02-10", "2013-02-17")})
    # 120 bars are 28 weeks with their holidays.
    assert found == [Span("us_tech/bars", "2012-07-29", "2013-02-17")]
    assert market_spans(ranking.market, {"us_tech/bars": (None, "2013-02-10", "2013-02-17")}) == []
