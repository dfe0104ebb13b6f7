"""A report of made-up results: hostile texts are escaped, numbers are those of the tables, every section holds the contract."""

import json
import re
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.report.blocks import (
    DASH,
    Axis,
    Cell,
    Chart,
    Column,
    Heatmap,
    Missing,
    Series,
    Table,
    Text,
    bounded,
)
from hf_pipelines.research.report.frames import before_costs, period_returns, rolling, session_returns, thinned
from hf_pipelines.research.report.interactive import figure
from hf_pipelines.research.report.making import Page, make_page, numbers_of
from hf_pipelines.research.report.overview import Strategy, make_overview
from hf_pipelines.research.report.page import coded, content_policy
from hf_pipelines.research.report.pictures import COLOURS, svg
from hf_pipelines.research.report.registry import SECTIONS, build_section
from hf_pipelines.resources.report_files import page_files
from hf_pipelines_tests.doc_pages import Command, command_fault
from hf_pipelines_tests.report_results import results_of, wide_results

HOSTILE = [
    shape.format(at)
    for at in range(10)
    for shape in (
        "<script>window.planted={}</script>",
        '"><img src=x onerror=window.planted={}>',
        "</script><svg onload=window.planted={}>",
        "{{{{ {0} }}}} ${{{{1}}}} `<b onclick=x{0}>` $\\frac{{{0}$",
        "javascript:window.planted={}//'\"&amp;\u2028",
    )
]


def html_charts(page: Page) -> int:
    return sum(isinstance(block, Chart | Heatmap) for section in page.shown for block in section.blocks)


class Tags(HTMLParser):
    """Elements and attributes of a page as a browser's parser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))


def tags_of(html: bytes) -> list[tuple[str, dict[str, Any]]]:
    parser = Tags()
    parser.feed(html.decode())
    return parser.tags


def test_fifty_hostile_texts_make_no_element_and_no_attribute_of_their_own():
    assert len(HOSTILE) == 50
    plain, hostile = (
        make_page(results_of(texts=texts), page_files()).html
        for texts in (tuple(f"name{at}" for at in range(50)), tuple(HOSTILE))
    )
    shape = [[(tag, sorted(attributes)) for tag, attributes in tags_of(page)] for page in (plain, hostile)]
    # Parts between backticks are code in both or in none.
    shape = [[each for each in of_page if each[0] != "code"] for of_page in shape]
    assert shape[1] == shape[0]
    assert all(not name.startswith("on") for _, attributes in tags_of(hostile) for name in attributes)
    text = hostile.decode()
    assert "window.planted=3" in text and "<script>window.planted" not in text and "<img src=x" not in text


def test_hostile_names_of_a_chart_are_letters_in_both_renderers():
    names = tuple(dict.fromkeys(HOSTILE[:10]))
    axis = Axis("name", "category"), Axis("number", "number")
    chart = Chart(
        name="c",
        title="t",
        about="a",
        x=axis[0],
        y=axis[1],
        series=(Series(name=names[0], x=names, y=(1.0,) * len(names), mark="bar"),) * 2,
    )
    told = json.dumps(figure(chart))
    assert "<" not in re.sub("<.?extra>", "", told) and "&lt;script&gt;" in told
    drawn = tags_of(svg(chart))
    assert {tag for tag, _ in drawn} & {"script", "img"} == set()


def test_policy_names_the_very_scripts_of_the_page():
    files = page_files()
    html = make_page(results_of(), files).html.decode()
    policy = dict(
        tag for tag in [(t, a) for t, a in tags_of(html.encode()) if a.get("http-equiv") == "Content-Security-Policy"]
    )
    assert content_policy(files) == policy["meta"]["content"]
    # Scripts that run have no attribute; the rest are data.
    assert re.findall(r"<script>(.*?)</script>", html, re.S) == [files.script]
    assert "unsafe-inline" not in content_policy(files).split("style-src")[0] and "unsafe-eval" not in content_policy(
        files
    )


def test_code_between_backticks_is_escaped():
    assert str(coded("a `b<c>` d")) == "a <code>b&lt;c&gt;</code> d"
    assert str(coded("a `b<c>")) == "a `b&lt;c&gt;"


@pytest.mark.parametrize("name", SECTIONS)
def test_each_section_holds_the_contract(name):
    section, results = SECTIONS[name], results_of()
    assert section.name == name and section.title
    blocks = build_section(section, results)
    assert blocks
    for block in blocks:
        match block:
            case Table():
                assert all(len(row) == len(block.columns) for row in block.rows)
                # An undefined number has its reason, and a number its unit.
                assert all(cell.reason for row in block.rows for cell in row if not cell.is_defined)
            case Chart():
                assert block.about and block.x.title and block.y.title
                assert all(len(each.x) == len(each.y) for each in block.series)
                json.dumps(figure(block), allow_nan=False)
                assert svg(block) == svg(block)
            case Heatmap():
                assert {len(row) for row in block.values} == {len(block.columns)} and len(block.values) == len(
                    block.rows
                )
            case Missing():
                assert block.what and block.command.startswith("hfp ")
            case Text():
                assert block.lines


@pytest.mark.parametrize("name", [name for name, each in SECTIONS.items() if each.needs])
def test_section_without_its_input_names_a_command_that_there_is(name):
    results = results_of()
    (missing,) = build_section(SECTIONS[name], replace(results, parts={}))
    assert isinstance(missing, Missing)
    assert command_fault(Command(place=name, text=missing.command, is_whole=True), {}) == ""


def test_names_of_charts_and_tables_are_the_pages_own():
    page = make_page(results_of(), page_files())
    names = [
        block.name for section in page.shown for block in section.blocks if isinstance(block, Table | Chart | Heatmap)
    ]
    assert len(names) == len(set(names))
    # Without JavaScript, and on paper, a picture stands where each chart was.
    stills = [each for tag, each in tags_of(page.html) if tag == "img"]
    assert [each["src"].startswith("data:image/svg+xml;base64,") and bool(each["alt"]) for each in stills] == [
        True
    ] * html_charts(page)
    ids = re.findall(r' id="([^"]+)"', page.html.decode())
    assert len(ids) == len(set(ids))


def test_palette_of_pictures_is_that_of_the_style_sheet():
    root = page_files().style.partition("@media")[0]
    for role, colour in COLOURS.items():
        assert f"--{role}: {colour.lower()};" in root, role


def test_same_results_give_the_same_page_and_under_60_sessions_no_figure_of_a_year():
    short = make_page(results_of(n=40), page_files())
    assert make_page(results_of(n=40), page_files()).html == short.html
    assert "Fewer than 60 sessions: no figure of a year." in short.sentence
    numbers = numbers_of(short)
    of_a_year = numbers.filter(pl.col("key").str.contains("annual|sharpe|a_year|turnover"))
    assert of_a_year.height and of_a_year["value"].null_count() == of_a_year.height
    assert set(of_a_year["text"]) == {DASH}


def test_months_and_years_compound_to_the_whole():
    account = results_of().account
    whole = float(account["equity"][-1] / account["equity"][0])
    for every in ("1mo", "1y"):
        assert float((1.0 + period_returns(account, every)["value"]).product()) == pytest.approx(whole)


def test_rolling_numbers_are_those_of_pandas():
    account = results_of().account
    own = session_returns(account)
    held = own.with_columns(
        value=pl.col("value") * 0.5 + pl.Series(np.random.default_rng(1).normal(0, 0.01, own.height))
    )
    found = rolling(own, held, sessions=63, a_year=252.0)
    x, y = own["value"].to_pandas(), held["value"].to_pandas()
    assert found["volatility"].to_numpy() == pytest.approx((x.rolling(63).std() * 252**0.5)[62:].to_numpy())
    assert found["sharpe"].to_numpy() == pytest.approx(
        (x.rolling(63).mean() / x.rolling(63).std() * 252**0.5)[62:].to_numpy()
    )
    assert found["beta"].to_numpy() == pytest.approx((x.rolling(63).cov(y) / y.rolling(63).var())[62:].to_numpy())


def test_costs_are_added_back_as_they_were_paid():
    account = results_of(n=4).account
    assert (before_costs(account) - account["equity"]).to_list() == pytest.approx([15.0, 30.0, 45.0, 60.0])


def test_thinned_line_keeps_its_ends_and_extremes_and_is_short():
    y = pl.Series(np.random.default_rng(2).normal(size=100_000))
    y[50_001], y[70_003] = 99.0, -99.0
    x, kept = thinned(pl.Series(range(100_000)), y, most=900)
    assert len(x) <= 1_000 and (x[0], x[-1]) == (0, 99_999)
    assert {99.0, -99.0} <= set(kept) and x.is_sorted()


def test_undefined_numbers_are_a_dash():
    assert [Cell(each, "ratio", "why").text for each in (None, float("nan"), float("inf"))] == [DASH] * 3
    assert Cell(None, "ratio", "why").raw == "" and Cell(0.1 + 0.2, "ratio").raw == repr(0.1 + 0.2)


def test_page_of_500_symbols_over_ten_years_is_under_two_megabytes_and_says_what_is_left_out():
    page = make_page(wide_results(symbols=500, sessions=2_520, trials=3_000), page_files())
    assert len(page.html) < 2_000_000
    blocks = {
        block.name: block for section in page.shown for block in section.blocks if isinstance(block, Table | Chart)
    }
    by_symbol, tests = blocks["by-symbol"], blocks["tests-table"]
    assert (
        by_symbol.note == "The 50 highest and 50 lowest of 500; all of them are stored." and len(by_symbol.rows) == 100
    )
    # Profits are -5 to 5: the largest and the smallest stay.
    assert [by_symbol.rows[at][5].value for at in (0, -1)] == [5.0, -5.0]
    assert tests.note == "Symbols: the 10 highest and 10 lowest of 500; all of them are stored."
    assert [row[0].value for row in tests.rows].count("shock") == 5 and len(tests.rows) == 25
    # Where a row is stored is said of those that stay.
    keys = [row[6].key for row in tests.rows]
    assert keys[0] == "validation/frame/0/total_return" and keys[-1] == "validation/frame/504/total_return"
    assert len(blocks["importance-gain"].series[0].x) == 20 and "thinned" not in blocks["trials"].title


def test_coverage_of_intervals_is_drawn_beside_what_is_promised():
    groups = pl.DataFrame(
        {
            "by": ["all", "fold", "symbol"],
            "group": ["all", "1", "AAPL"],
            "nominal": 0.8,
            "coverage": [0.75, 0.7, 0.1],
            "low": [0.7, 0.6, 0.0],
            "high": [0.8, None, 0.2],
        }
    )
    results = results_of()
    part = replace(results.parts["cv_results"], tables={"coverage": groups}, facts={"coverage": "75 % are inside."})
    chart, told = build_section(SECTIONS["belief"], replace(results, parts={**results.parts, "cv_results": part}))
    assert isinstance(chart, Chart) and told == Text(("75 % are inside.",))
    assert chart.level == 0.8 and [*chart.series[0].x] == ["all", "fold 1"] and [*chart.series[0].y] == [0.75, 0.7]
    several = pl.concat([groups.with_columns(horizon=pl.lit(each)) for each in (1, 5)])
    part = replace(part, tables={"coverage": several})
    chart, _ = build_section(SECTIONS["belief"], replace(results, parts={**results.parts, "cv_results": part}))
    assert [*chart.series[0].x] == ["1 bars: all", "1 bars: fold 1", "5 bars: all", "5 bars: fold 1"]


def test_years_stand_beside_the_benchmarks_and_turnover_is_a_mean_of_sessions():
    results = wide_results(symbols=2, sessions=400, trials=1)
    table = build_section(SECTIONS["calendar"], results)[-1]
    assert isinstance(table, Table)
    # The benchmark's curve is the account's, times a number: its returns are the same.
    assert [row[2].value for row in table.rows] == pytest.approx([row[1].value for row in table.rows])
    without = build_section(SECTIONS["calendar"], results_of())[-1]
    assert isinstance(without, Table) and {row[2].text for row in without.rows} == {DASH}
    (turnover,) = [
        each
        for each in build_section(SECTIONS["windows"], results)
        if isinstance(each, Chart) and each.name == "rolling-turnover"
    ]
    assert len(turnover.series[0].y) == 400 - 62 and set(turnover.series[0].y) == {0.1}


def test_one_trial_is_no_figure_and_sentences_are_marked_for_a_telephone():
    one, many = (build_section(SECTIONS["trials"], wide_results(symbols=2, sessions=100, trials=n)) for n in (1, 2))
    assert [type(each) for each in one] == [Text, Table] and [type(each) for each in many] == [Text, Table, Chart]
    assert not many[1].ends_in_words
    rows = ((Cell("a"), Cell(1.0, "ratio"), Cell("This is said of it in a sentence.")),)
    told = Table(name="t", title="t", columns=(Column("a"), Column("b", "ratio"), Column("c")), rows=rows)
    assert told.ends_in_words


def test_block_that_is_too_large_is_cut_and_counted():
    many = [str(at) for at in range(300)]
    table = Table(
        name="t", title="t", columns=(Column("name"),), rows=tuple((Cell(each),) for each in many), note="Note."
    )
    assert bounded(table).note == "Note. The first 100 of 300 rows; all of them are stored."
    assert [row[0].value for row in bounded(table).rows] == many[:100]
    bars = Series(name="b", x=many, y=[1.0] * 300, low=[0.5] * 300, mark="bar")
    axes = Axis("name", "category"), Axis("number", "number")
    cut = bounded(Chart(name="c", title="Bars", about="a", x=axes[0], y=axes[1], series=(bars,)))
    assert cut.title == "Bars, the first 60 of 300" and [
        len(each) for each in (cut.series[0].x, cut.series[0].low)
    ] == [60, 60]
    lines = bounded(
        Chart(
            name="c",
            title="Lines",
            about="a",
            x=Axis("x", "number"),
            y=axes[1],
            series=(Series(name="l", x=[1.0], y=[1.0]),) * 40,
        )
    )
    assert lines.title == "Lines, 24 of 40 lines" and len(lines.series) == 24
    assert len(bounded(Text(("x" * 9_999,))).lines[0]) == 2_001
    assert bounded(Text(("x",))) == Text(("x",))


def test_what_is_missing_is_said_with_its_command():
    results = results_of()
    (block,) = build_section(SECTIONS["paths"], results)
    assert isinstance(block, Missing) and block.command == "hfp validate AAPL 2020-11-01 --full"


def test_overview_sets_strategies_beside_each_other():
    rng = np.random.default_rng(3)
    days = [date(2020, 1, 1) + timedelta(days=at) for at in range(100)]
    base = rng.normal(0.001, 0.01, 100)
    series = {"one": base, "twin": base * 2.0, "short": base[:40], HOSTILE[0]: -base}
    decision = results_of().decision
    strategies = [
        Strategy(
            name=name,
            week="2020-11-01",
            decision=decision,
            metrics={"total_return": 0.1},
            returns=dict(zip(days, values.tolist(), strict=False)),
            sessions_per_year=252.0,
        )
        for name, values in series.items()
    ]
    html = make_overview(strategies, ["untrained"], page_files(), until=date(2020, 11, 2))
    assert b"None of 4 strategies passes its gates." in html and b"<script>window" not in html
    assert b"hfp retrain untrained --week SUNDAY --with-inputs" in html
    numbers = {each["data-key"]: each["data-value"] for _, each in tags_of(html) if each.get("data-key")}
    # Twins go together, opposites apart; 40 sessions have no figure of a year.
    assert float(numbers["pairs/one/twin/correlation"]) == pytest.approx(1.0)
    assert float(numbers[f"pairs/one/{HOSTILE[0]}/correlation"]) == pytest.approx(-1.0)
    assert numbers["pairs/one/short/correlation"] == numbers["pairs/one/short/better"] == ""
    assert (
        float(numbers["pairs/one/twin/n_sessions"]) == 100 and numbers["one/backtest/summary/sharpe_ratio/value"] == ""
    )


@pytest.mark.parametrize("n", [1, 2, 63])
def test_account_of_few_sessions_has_a_page(n):
    page = make_page(results_of(n=n), page_files())
    assert b"nan" not in re.sub(rb"base64,[^\"]*|<script.*?</script>|<style.*?</style>", b"", page.html, flags=re.S)
    assert ("The account has one session, and no return." in page.html.decode()) == (n == 1)


def test_overview_of_one_strategy_without_returns_is_a_page():
    alone = Strategy(
        name="one", week="2020-11-01", decision=results_of().decision, metrics={}, returns={}, sessions_per_year=252.0
    )
    html = make_overview([alone], [], page_files(), until=date(2020, 11, 2)).decode()
    assert "The one strategy does not pass its gates." in html and "one has no return by session." in html


def test_drift_of_a_week_that_nobody_judged_says_so_and_an_alarm_is_marked():
    results = results_of()
    told, _, measures, columns = build_section(SECTIONS["drift"], results)
    assert isinstance(told, Text) and told.tone == "bad" and told.lines[0].startswith("By the close of 2020-11-06: ")
    assert isinstance(measures, Table) and [cell.is_defined for cell in measures.rows[0]] == [True] + [False] * 5
    assert isinstance(columns, Table) and columns.note == "1 of 2 columns have drifted, 1 cannot be judged."
    (told,) = build_section(SECTIONS["drift"], replace(results, parts={}))
    assert isinstance(told, Text) and told.lines[0].startswith("No session of the week was judged")
