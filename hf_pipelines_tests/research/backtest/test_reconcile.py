"""Engines held to each other: random scenarios, and faults planted in each of them, which must be named."""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import (
    ENGINES,
    BacktestResult,
    Execution,
    backtrader_engine,
    reference,
    vectorbt_engine,
)
from hf_pipelines.research.backtest.reconcile import reconcile, sample_of
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.scenarios import scenario
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, symbol_bars

# All of them together import vectorbt once.
pytestmark = pytest.mark.xdist_group("vectorbt")

pytest.importorskip("vectorbt")
pytest.importorskip("backtrader")

COSTS = Costs(fee_bps=10, slippage_bps=5, borrow_bps_per_year=300)
MODULES = {"reference": reference, "vectorbt": vectorbt_engine, "backtrader": backtrader_engine}
SHOWN = range(0, 200, 20)


@pytest.mark.parametrize("number", SHOWN)
def test_engines_agree_on_random_scenarios(number: int) -> None:
    drawn = scenario(number)
    try:
        found = reconcile({name: run_of(name, drawn) for name in drawn.able()})
    except ValueError as e:
        # All of them refuse it: a ruin, or a lot that is worth more than what is left.
        assert "must stay above zero" in str(e) or "`lot_size`" in str(e)
        return
    assert found.agrees, found.findings()
    for each in found.agreements:
        # Where semantics coincide they do so to the rounding of sums.
        assert max(each.largest.values()) < 1e-9


def run_of(name: str, drawn: Any) -> Callable[[], BacktestResult]:
    return lambda: ENGINES[name].run(drawn.weights, drawn.bars, drawn.costs, drawn.execution, periods_per_year=250)


def eventful() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two symbols: a split on the day of an order and while held, a dividend on a day on which more is bought."""
    n = 12
    rng = np.random.default_rng(5)
    close = {name: 50 * np.exp(np.cumsum(rng.normal(0, 0.03, n))) for name in "AB"}
    opened = {name: values * np.exp(rng.normal(0, 0.02, n)) for name, values in close.items()}
    for values in (close["A"], opened["A"]):
        values[6:] /= 4.0
    bars = pl.concat(
        [
            symbol_bars("A", open=opened["A"].tolist(), close=close["A"].tolist(), split_ratio={6: 4.0}),
            symbol_bars("B", open=opened["B"].tolist(), close=close["B"].tolist(), dividend={4: 2.0}),
        ]
    )
    weights = {i: {"A": 0.2 + 0.05 * (i % 3), "B": 0.3 + 0.05 * i} for i in range(n)}
    return decisions(weights), bars


WEIGHTS, BARS = eventful()


def faulty(engine: str, *edits: tuple[str, str]) -> ModuleType:
    """The engine's module with some of its text replaced; what is compiled runs as plain Python."""
    source = inspect.getsource(MODULES[engine])
    for old, new in (
        *edits,
        *((("return njit(cache=True)(_keep_account)", "return _keep_account"),) * (engine == "reference")),
    ):
        assert old in source, old
        source = source.replace(old, new)
    module = ModuleType(f"faulty_{engine}")
    # backtrader looks up the module of a strategy's class.
    sys.modules[module.__name__] = module
    exec(compile(source, module.__name__, "exec"), module.__dict__)  # noqa: S102  our own source, edited
    return module


@pytest.fixture(scope="module")
def sound() -> dict[str, BacktestResult]:
    return {
        name: ENGINES[name].run(WEIGHTS, BARS, COSTS, Execution(), periods_per_year=250)
        for name in ("reference", "vectorbt", "backtrader")
    }


AT_ONCE_COMPILED = (
    ("has_order = t > 0 and is_decision[t - 1]", "has_order = t > 0 and is_decision[t]"),
    ("weight = weights[t - 1, j]", "weight = weights[t, j]"),
    ("weight * equity / close[t - 1, j]", "weight * equity / close[t, j]"),
)
AT_ONCE_VECTORBT = (
    ("if is_decision[i - 1]:", "if is_decision[i]:"),
    ("weight = weights[i - 1, j]", "weight = weights[i, j]"),
    ("weight * equity / close[i - 1, j]", "weight * equity / close[i, j]"),
)
BUYERS_VECTORBT = (
    "    equity = np.asarray(portfolio.value())",
    "    extra = sum_by(bar, shares * later * units.dividend[bar, symbol], len(beside))\n"
    "    dividends, beside = dividends + extra, beside + np.cumsum(extra)\n"
    "    equity = np.asarray(portfolio.value())",
)
SPLIT_LATE = (
    "units = in_last_shares(panel, execution)",
    "from dataclasses import replace\n    late = np.vstack([np.ones((1, panel.close.shape[1])), panel.split_ratio[:-1]])\n"
    "    units = in_last_shares(replace(panel, split_ratio=late), execution)",
)
OTHER_FEE = (
    "engine.broker.setcommission(commission=costs.fee_rate + costs.slippage_rate)",
    "fee = type('Fee', (bt.CommissionInfo,), {'_getcommission': lambda self, size, price, pseudoexec: abs(size) * price * 1.02 * 0.0015})\n"
    "    engine.broker.addcommissioninfo(fee())",
)


@pytest.mark.parametrize(
    ("engine", "edits", "told"),
    [
        ("reference", AT_ONCE_COMPILED, "filled on the bar that decided it"),
        ("vectorbt", AT_ONCE_VECTORBT, "filled on the bar that decided it"),
        ("backtrader", [("set_checksubmit(False)", "set_checksubmit(False)\n    engine.broker.set_coc(True)")],
         "the close that decided it: a stale price, or a fill on the bar of the decision"),
        ("reference", [("dividends += held * dividend[t, j]", "dividends += target * dividend[t, j]")], "paid to the buyer"),
        ("vectorbt", [BUYERS_VECTORBT], "paid to the buyer"),
        ("backtrader", [("(before * units.dividend[bar])", "(np.array([self.getposition(each).size for each in self.datas[1:]]) * units.dividend[bar])")],
         "paid to the buyer"),
        ("reference", [("held *= split_ratio[t, j]", "pass")], "the split of 4 was booked on the wrong side: the shares held were not"),
        ("reference", [("target *= split_ratio[t, j]", "pass")], "the split of 4 was booked on the wrong side"),
        ("vectorbt", [SPLIT_LATE], "the split of 4 was booked on the wrong side"),
        ("backtrader", [SPLIT_LATE], "the split of 4 was booked on the wrong side"),
        ("reference", [("traded_value += abs(notional)", "traded_value += abs(target - held) * close[t, j]")], "charged on the wrong notional, at the close of the bar"),
        ("vectorbt", [("direction=both, fees=rate)", "direction=both, fees=rate * close[i, j] / price[i, j])")], "charged on the wrong notional, at the close of the bar"),
        ("backtrader", [OTHER_FEE], "charged on the wrong notional or at another rate"),
        ("reference", [("value = held * last", "value = held * close[max(t - 1, 0), j]")], "stale price"),
        ("vectorbt", [("else price[i, j]", "else price[i - 1, j]")], "stale price, the open of the bar before"),
        ("backtrader", [("feed(units.fill_price[:, j],", "feed(np.roll(units.fill_price[:, j], 1),")], "stale price, the open of the bar before"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_named(
    sound: dict[str, BacktestResult], engine: str, edits: list[tuple[str, str]], told: str
) -> None:
    module = faulty(engine, *edits)
    run = getattr(module, f"run_{engine}")
    runs: dict[str, Callable[[], BacktestResult]] = {name: lambda name=name: sound[name] for name in sound}  # type: ignore[misc]
    runs[engine] = lambda: run(WEIGHTS, BARS, COSTS, Execution(), periods_per_year=250)
    (finding,) = reconcile(runs).findings()
    assert finding.startswith(f"{engine} parts from ") and told in finding, finding


def test_an_engine_that_does_not_finish_is_told_with_its_message(sound: dict[str, BacktestResult]) -> None:
    def ruined() -> BacktestResult:
        raise ValueError("`equity` must stay above zero, was -3.00")

    found = reconcile({"reference": lambda: sound["reference"], "other": ruined})
    assert not found.agrees
    assert found.findings() == ["other did not finish: `equity` must stay above zero, was -3.00"]
    with pytest.raises(ValueError, match="above zero"):
        reconcile({"one": ruined, "other": ruined})


def test_sample_of_has_some_traded_symbols_and_the_last_bars() -> None:
    weights, bars = random_market(seed=3, n_symbols=4, missing=0.1)
    some, of_bars = sample_of(weights, bars, n_symbols=2, n_bars=20, seed=[1])
    assert some["symbol"].unique().sort().to_list() == of_bars["symbol"].unique().sort().to_list()
    assert some["symbol"].n_unique() == 2 and of_bars["ts"].n_unique() == 20
    again, _ = sample_of(weights, bars, n_symbols=2, n_bars=20, seed=[1])
    assert some.equals(again)
    # It can be run.
    ENGINES["reference"].run(some, of_bars, Costs(), Execution(), periods_per_year=250)
