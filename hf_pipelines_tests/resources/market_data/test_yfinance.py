"""Source `yfinance`: its mapping, on frames that yfinance's own parser makes of an answer as Yahoo gives it.

No network: what Yahoo answers is written down here in its form (chart API, version 8); that it answers so today is not tested.
"""

import builtins
import gzip
import math
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import polars as pl
import pytest

from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.research.bar_grid import BarGrid
from hf_pipelines.research.bars import SOURCE_SCHEMA, check_structure
from hf_pipelines.resources.market_data import MarketDataOutageError, MarketDataRefusedError
from hf_pipelines.resources.market_data.yahoo_session import capped_session
from hf_pipelines.resources.market_data.yfinance import YFinanceSource, bars_of_history
from hf_pipelines_tests.resources.market_data.test_hostile_answers import endless, page, service

NEW_YORK = "America/New_York"
XNYS = MarketPartitions("XNYS", NEW_YORK, date(2014, 6, 2), date(2014, 6, 13))


def history(starts: list[datetime], close: list[float], *, interval: str = "1d", **events: dict[datetime, Any]):
    """The frame of `Ticker.history(auto_adjust=False, actions=True)`, by the functions that it calls."""
    utils = pytest.importorskip("yfinance", reason="the extra `yfinance` is not installed").utils
    seconds = [int(each.timestamp()) for each in starts]
    quote = {**dict.fromkeys(("open", "high", "low", "close"), close), "volume": [700.0] * len(close)}
    answer: dict[str, Any] = {"timestamp": seconds, "indicators": {"quote": [quote], "adjclose": [{"adjclose": close}]}}
    answer["events"] = {
        kind: {str(int(at.timestamp())): {"date": int(at.timestamp()), **value} for at, value in each.items()}
        for kind, each in events.items()
    }
    frame = utils.set_df_tz(utils.parse_quotes(answer), interval, NEW_YORK)
    dividends, splits, _ = utils.parse_actions(answer)
    for name, action in (("Dividends", dividends), ("Stock Splits", splits)):
        if action.shape[0]:
            frame = utils.safe_merge_dfs(frame, utils.set_df_tz(action, interval, NEW_YORK), interval)
        else:
            frame[name] = 0.0
    return frame.fillna({"Dividends": 0.0, "Stock Splits": 0.0})


def ny(day: int, hour: int, minute: int = 0) -> datetime:
    # New York was four hours behind UTC in June.
    return datetime(2014, 6, day, hour + 4, minute, tzinfo=UTC)


def test_bars_of_daily_history_are_prices_as_traded_before_the_split():
    # Apple in today's shares: a dividend of 0.47 on Thursday, seven for one on Monday 2014-06-09.
    frame = history(
        [ny(day, 9, 30) for day in (5, 6, 9, 10)],
        [92.48, 92.22, 93.70, 94.25],
        dividends={ny(5, 9, 30): {"amount": 0.47}},
        splits={ny(9, 9, 30): {"numerator": 7.0, "denominator": 1.0, "splitRatio": "7:1"}},
    )
    bars = bars_of_history(frame, symbol="AAPL", hours=XNYS.hours, grid=BarGrid("1d", NEW_YORK))
    assert bars["close"].to_list() == pytest.approx([647.36, 645.54, 93.70, 94.25])
    assert bars["volume"].to_list() == [100.0, 100.0, 700.0, 700.0]
    assert bars["split_ratio"].to_list() == [1.0, 1.0, 7.0, 1.0]
    assert bars["dividend"].to_list() == pytest.approx([3.29, 0.0, 0.0, 0.0])
    assert bars["ts"].to_list() == [XNYS.hours[day][1] for day in bars["session"]]
    assert bars["session"].to_list() == [date(2014, 6, day) for day in (5, 6, 9, 10)]
    assert bars.schema == pl.Schema(SOURCE_SCHEMA)


def test_events_on_a_day_without_a_session_count_on_the_next_bar():
    # Rows without prices, as yfinance adds them: a split on Saturday 2014-06-07, a dividend on Sunday.
    frame = history([ny(day, 9, 30) for day in (5, 6, 9, 10)], [92.48, 92.22, 93.70, 94.25])
    for day, column, value in ((7, "Stock Splits", 7.0), (8, "Dividends", 0.5)):
        added = frame.iloc[:1] * math.nan
        added.index = frame.index[:1] + timedelta(days=day - 5)
        added[["Stock Splits", "Dividends"]] = 0.0
        added[column] = value
        frame = type(frame)(frame).combine_first(added)
    bars = bars_of_history(frame.sort_index(), symbol="AAPL", hours=XNYS.hours, grid=BarGrid("1d", NEW_YORK))
    assert bars["session"].to_list() == [date(2014, 6, day) for day in (5, 6, 9, 10)]
    assert bars["split_ratio"].to_list() == [1.0, 1.0, 7.0, 1.0]
    assert bars["dividend"].to_list() == pytest.approx([0.0, 0.0, 0.5, 0.0])
    assert bars["close"].to_list() == pytest.approx([647.36, 645.54, 93.70, 94.25])


def test_bars_of_hourly_history_end_whole_hours_after_the_open_and_at_the_close():
    starts = [ny(9, 9, 30), ny(9, 10, 30), ny(9, 15, 30), ny(9, 16, 0)]
    split = {ny(9, 9, 30): {"numerator": 7.0, "denominator": 1.0, "splitRatio": "7:1"}}
    frame = history([ny(6, 15, 30), *starts], [92.0, 93.0, 93.1, 93.2, 93.3], interval="1h", splits=split)
    grid = BarGrid("1h", NEW_YORK, "open")
    bars = bars_of_history(frame, symbol="AAPL", hours=XNYS.hours, grid=grid)
    assert bars["ts"].dt.strftime("%d %H:%M").to_list() == ["06 20:00", "09 14:30", "09 15:30", "09 20:00"]
    assert bars["close"].to_list() == pytest.approx([644.0, 93.0, 93.1, 93.2])
    assert bars["split_ratio"].to_list() == [1.0, 7.0, 1.0, 1.0]
    check_structure(bars, source="yfinance", hours=XNYS.hours, now=datetime(2014, 7, 1, tzinfo=UTC), grid=grid)


def test_bars_of_a_history_in_another_shape_name_what_is_missing():
    frame = history([ny(5, 9, 30)], [92.48])
    grid = BarGrid("1d", NEW_YORK)
    with pytest.raises(ValueError, match="was without Dividends; use the pinned version"):
        bars_of_history(frame.drop(columns="Dividends"), symbol="AAPL", hours=XNYS.hours, grid=grid)
    with pytest.raises(ValueError, match="was without a time zone"):
        bars_of_history(frame.tz_localize(None), symbol="AAPL", hours=XNYS.hours, grid=grid)
    assert bars_of_history(frame[:0], symbol="AAPL", hours=XNYS.hours, grid=grid).is_empty()


def test_read_without_the_package_says_how_to_install_it(monkeypatch):
    real_import = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "yfinance":
            raise ImportError(name)
        return real_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MarketDataRefusedError, match=r'install the extra: pip install "hf_pipelines\[yfinance\]"'):
        YFinanceSource(("AAPL",), XNYS.hours, BarGrid("1d", NEW_YORK)).read([date(2014, 6, 5)])


def test_read_of_a_yahoo_that_does_not_answer_is_an_outage(monkeypatch, tmp_path):
    yfinance = pytest.importorskip("yfinance", reason="the extra `yfinance` is not installed")
    yfinance.set_tz_cache_location(str(tmp_path))
    # Nothing listens there: every request is refused, as without a network.
    monkeypatch.setenv("no_proxy", "")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(MarketDataOutageError, match="`source` yfinance must answer for AAPL, was not"):
        YFinanceSource(("AAPL",), XNYS.hours, BarGrid("1d", NEW_YORK)).read([date(2014, 6, 5)])
    # What it asked through has the caps below.
    assert type(yfinance.data.YfData()._session).__name__ == "CappedSession"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(endless, id="endless"),
        pytest.param(page(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"), id="bomb"),
    ],
)
def test_answer_of_yahoo_above_the_cap_is_refused_while_it_comes(answer):
    pytest.importorskip("curl_cffi", reason="the extra `yfinance` is not installed")
    with service(answer) as url:
        session = capped_session(hosts=("127.0.0.1",), max_bytes=1_000_000, schemes="http")
        with pytest.raises(MarketDataRefusedError, match="must answer in at most 1,000,000 bytes, were more from 127"):
            session.get(url, timeout=30)


def test_answer_of_another_host_or_by_another_scheme_than_yahoos_is_refused_and_one_of_its_own_is_whole(tmp_path):
    errors = pytest.importorskip("curl_cffi", reason="the extra `yfinance` is not installed").requests.exceptions
    (tmp_path / "secret").write_text("canary")

    def led_away(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"file://{tmp_path / 'secret'}")
        handler.end_headers()

    with service(led_away) as url, pytest.raises(errors.RequestException, match='"file" is disabled'):
        capped_session(hosts=("127.0.0.1",)).get(url, timeout=30)
    with service(page(b'{"a": [1, 2]}')) as url:
        with pytest.raises(MarketDataRefusedError, match=r"must be answered by yahoo.com, was by 127.0.0.1"):
            capped_session().get(url, timeout=30)
        assert capped_session(hosts=("127.0.0.1",)).get(url, timeout=30).json() == {"a": [1, 2]}
