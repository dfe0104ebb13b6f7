"""One entry of each kind, typed as a strict project types them, and the calls of a notebook."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, assert_type

import dagster as dg
import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.definitions import build_defs
from hf_pipelines.research.backtest import ENGINES as SHIPPED
from hf_pipelines.research.backtest import BacktestResult, Engine, Execution
from hf_pipelines.research.content_hash import content_hash
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.cross_validation import CrossValidation, cross_validate
from hf_pipelines.research.features import Feature, Panel, window_kernel, windowed
from hf_pipelines.research.learners import Learner, ModelFormat, Setup, choose_learner
from hf_pipelines.research.metrics import sharpe_ratio
from hf_pipelines.research.overfitting import SharpeEstimate, estimate_sharpe
from hf_pipelines.research.params import Number
from hf_pipelines.research.signals import Rule, RuleContext, RuleNeeds
from hf_pipelines.research.splitters import SplitterKind, build_splitter
from hf_pipelines.research.targets import TargetKind, TargetNeeds, build_target, forward_return
from hf_pipelines.resources.feature_reader import load_features
from hf_pipelines.resources.market_data import SourceFile, by_week
from hf_pipelines.resources.market_data.source_entry import SourceEntry, SourceMarket, SourceSpec
from hf_pipelines.resources.trial_ledger import record_trial

Floats = npt.NDArray[np.float64]


@window_kernel
def pullback(open_: Floats, high: Floats, low: Floats, close: Floats, volume: Floats) -> float:
    return float(close[-1] / close.max() - 1.0)


def gap(panel: Panel) -> Floats:
    return np.zeros(len(panel.keys))


FEATURES = (
    Feature("pullback_10", "own", windowed(pullback, 10), 10, ("close",), "close / max(close, 10 bars) - 1"),
    Feature("gap_1", "own", gap, 1, ("close",), "0"),
)


class Line:
    def __init__(self, params: Mapping[str, Any], setup: Setup) -> None:
        self.params, self.setup, self.level = params, setup, 0.0

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"params": self.params, "setup": self.setup}

    def fit(self, X: npt.NDArray[np.float32], y: Floats, sample_weight: Floats) -> None:
        self.level = float(np.average(y, weights=sample_weight))

    def predict(self, X: npt.NDArray[np.float32]) -> Floats:
        return np.full(len(X), self.level)


def save(fitted: Line) -> bytes:
    return json.dumps(fitted.level).encode()


def load(data: bytes, unfitted: Line) -> Line:
    unfitted.level = float(json.loads(data))
    return unfitted


LEARNERS = {
    "level": Learner(
        name="level",
        family="own",
        tasks=frozenset({"regression"}),
        build=Line,
        params={"penalty": Number(default=1.0, low=1e-6, high=1e6, meaning="of the level")},
        format=ModelFormat("json", save, load),
    )
}


def label(bars: pl.DataFrame, params: Mapping[str, Any]) -> pl.DataFrame:
    return forward_return(bars, params["horizon_bars"])


TARGETS = {
    "own_return": TargetKind(
        name="own_return",
        label=label,
        params={"horizon_bars": Number(default=5, low=1, high=250, is_whole=True, meaning="bars to look ahead")},
        needs=lambda params: TargetNeeds(horizon_bars=params["horizon_bars"]),
        formula="y = return over horizon_bars",
    )
}


def weigh(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    is_taken = pl.col("prediction") > context.params["threshold"]
    return predictions.select(pl.when(is_taken).then(1.0 / is_taken.sum().over("ts"))).to_series()


RULES = {
    "above": Rule(
        name="above",
        weigh=weigh,
        params={"threshold": Number(default=0.0, low=-10.0, high=10.0, meaning="of the prediction")},
        needs=lambda params: RuleNeeds(shorts=False, max_gross=1.0),
        formula="1 / n for the n members above the threshold",
    )
}


@dataclass(frozen=True)
class LastSessions:
    sessions: int

    def split(
        self, X: object, y: object = None, groups: object = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        yield np.arange(10), np.arange(10, 10 + self.sessions)


SPLITTERS = {
    "last_sessions": SplitterKind(
        name="last_sessions",
        build=LastSessions,
        params={"sessions": Number(default=20, low=1, high=1000, is_whole=True, meaning="sessions of the test block")},
        trains_on_later=False,
        summary="the last sessions",
    )
}


def run(
    weights: pl.DataFrame, bars: pl.DataFrame, costs: Costs, execution: Execution, *, periods_per_year: float
) -> BacktestResult:
    harder = replace(costs, slippage_bps=2.0 * costs.slippage_bps)
    return SHIPPED["reference"].run(weights, bars, harder, execution, periods_per_year=periods_per_year)


ENGINES = {"harder": Engine(name="harder", run=run, capabilities=SHIPPED["reference"].capabilities, summary="harder")}


class TableSpec(SourceSpec):
    table: str


@dataclass(frozen=True)
class Table:
    table: Path
    symbols: tuple[str, ...]

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        return {file.name: file.sha256 for file in self.read(sessions)}

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        bars = pl.read_parquet(self.table).filter(pl.col("symbol").is_in(self.symbols))
        return [
            SourceFile(f"own/{week}", content_hash(bars), bars.filter(pl.col("session").is_in(days)), tuple(days))
            for week, days in by_week(sessions).items()
        ]


def open_table(spec: TableSpec, market: SourceMarket) -> Table:
    return Table(Path(spec.table), market.symbols)


SOURCES = {"own_table": SourceEntry(spec=TableSpec, build=open_table, delivery="polled")}


def definitions() -> dg.Definitions:
    return build_defs(Path(__file__), dg.Definitions())


def notebook(matrix: pl.DataFrame) -> float:
    frame = load_features("us_tech", ["technical"], "2012-01-01", "2012-12-31", symbols=["AAPL"])
    assert_type(frame, pl.DataFrame)
    found = cross_validate(
        matrix,
        learner=choose_learner("ridge", {"alpha": 1.0}),
        splitter=build_splitter("purged_walk_forward", {"n_splits": 5}),
        target=build_target("forward_return", horizon_bars=5),
        weightings=(),
        seed=0,
    )
    assert_type(found, CrossValidation)
    returns = frame["rsi_14"].to_numpy()
    assert_type(estimate_sharpe(returns), SharpeEstimate)
    with record_trial(strategy="momentum", configuration={"lookback": 20}, seed=1) as trial:
        trial.end(scores={"sharpe": 0.05})
    return sharpe_ratio(returns, periods_per_year=252.0)
