"""Report results: made-up results of a week, as reports are made of.

Lives here: small ones with any texts, and those of many symbols and years. Does not live here: what is asserted of the pages.
"""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.drift.day import COLUMNS, MEASURES
from hf_pipelines.research.promotion import Decision, Judged
from hf_pipelines.research.report.results import Part, Trials, WeekResults

N = 300


def results_of(*, n: int = N, texts: tuple[str, ...] = (), seed: int = 0) -> WeekResults:
    """Results with an account of `n` sessions, whose names are `texts` where they are given."""
    rng = np.random.default_rng(seed)
    days = [date(2020, 1, 1) + timedelta(days=at) for at in range(n)]
    equity = 1e6 * np.cumprod(np.concatenate([[1.0], 1.0 + rng.normal(0.0, 0.01, n - 1)]))
    account = pl.DataFrame(
        {
            "session": days,
            "ts": pl.Series(days).cast(pl.Datetime("us", "UTC")),
            "equity": equity,
            "cash": equity,
            "gross_exposure": 1.0,
            "net_exposure": 0.0,
            "turnover": 0.1,
            "fees": 10.0,
            "slippage": 5.0,
            "borrow": 0.0,
            "dividends": 0.0,
            "drawdown": 1.0 - equity / np.maximum.accumulate(equity),
        }
    )
    names = list(texts) or ["AAPL", "MSFT"]
    trips = pl.DataFrame(
        {
            "symbol": names,
            "return": np.linspace(-0.1, 0.1, len(names)),
            "holding_bars": 3,
            "pnl": np.linspace(-5.0, 5.0, len(names)),
            "costs": 1.0,
        }
    )
    baselines = pl.DataFrame({"account": ["strategy", names[0]], "total_return": [0.1, 0.2]})
    for name in (
        "annual_return",
        "annual_volatility",
        "sharpe_ratio",
        "max_drawdown",
        "turnover_per_year",
        "costs_total",
    ):
        baselines = baselines.with_columns(pl.lit(None, dtype=pl.Float64).alias(name))
    scores = pl.DataFrame(
        {
            "predictor": "model",
            "score": names,
            "fold": None,
            "value": 0.1,
            "low": None,
            "high": None,
            "best_baseline": names,
            "better_by": None,
            "probability": None,
        },
        schema_overrides={name: pl.Float64 for name in ("low", "high", "better_by", "probability")},
    )
    importances = pl.DataFrame(
        {"fold": 0, "kind": "gain", "name": names, "value": 0.5, "direction": None},
        schema_overrides={"direction": pl.Float64},
    )
    predictions = pl.DataFrame(
        schema={
            "symbol": pl.String,
            "session": pl.Date,
            "ts": pl.Datetime("us", "UTC"),
            "fold": pl.Int32,
            "trained_until": pl.Datetime("us", "UTC"),
            "prediction": pl.Float64,
            "target": pl.Float64,
        }
    )
    word = names[0]
    parts = {
        "backtest": Part(
            account,
            {"metrics": {"total_return": float(equity[-1] / equity[0] - 1.0)}, "beats_random": 0.4},
            {"round_trips": trips, "baselines": baselines},
            inputs={word: 3},
        ),
        "cv_results": Part(predictions, {"verdict": "\n".join(names)}, {"scores": scores, "importances": importances}),
        "drift": _drift(names),
    }
    gates = tuple(
        Judged(gate=each, value=None, threshold=0.5, default=0.5, verdict="missing", why=each, command=f"hfp {each}")
        for each in names
    )
    return WeekResults(
        strategy=word,
        week="2020-11-01",
        market=word,
        description=word,
        currency=word,
        until=date(2020, 11, 2),
        decision=Decision(strategy=word, week="2020-11-01", is_gated=True, gates=gates),
        parts=parts,
        sessions_per_year=252.0,
        trials=None,
        served=pl.DataFrame(
            {"first": days[:1], "last": days[:1], "model_week": [word], "model": [word], "n_sessions": [1]}
        ),
    )


def wide_results(*, symbols: int, sessions: int, trials: int) -> WeekResults:
    """Results of many symbols and years, with a validation, curves of others and a search."""
    names = tuple(f"S{at:04d}" for at in range(symbols))
    results = results_of(n=sessions, texts=names)
    account = results.parts["backtest"]
    days = account.frame.select("session", "ts")
    curves = pl.concat(
        days.with_columns(account=pl.lit(name), equity=account.frame["equity"] * scale, low=low, high=high)
        for name, scale, low, high in (
            ("benchmark", 0.9, pl.lit(None, pl.Float64), pl.lit(None, pl.Float64)),
            ("equal weight", 1.1, pl.lit(None, pl.Float64), pl.lit(None, pl.Float64)),
            ("random", 1.0, pl.lit(5e5), pl.lit(2e6)),
        )
    )
    parts = {
        **results.parts,
        "backtest": replace(account, tables={**account.tables, "baseline_curves": curves}),
        "validation": Part(tests_of(names), VALIDATED, {}),
    }
    found = Trials(
        n_trials=trials,
        n_independent=trials // 10,
        sharpes=tuple(np.random.default_rng(0).normal(0.0, 0.05, trials).tolist()),
        best_week=results.week,
        best=0.18,
        expected_maximum=0.17,
        probabilistic=0.99,
        deflated=0.6,
        deflated_by_all=0.5,
        overfitting=0.4,
    )
    return replace(results, strategy="wide", market="wide", description="", currency="USD", parts=parts, trials=found)


def tests_of(symbols: tuple[str, ...]) -> pl.DataFrame:
    """Rows of a validation: five shocks and a test of each symbol."""
    rows: list[dict[str, Any]] = [{"test": "shock", "name": f"shock {at}"} for at in range(5)]
    rows += [{"test": "symbol", "name": each} for each in symbols]
    numbers = np.linspace(-1.0, 1.0, len(rows))
    return pl.DataFrame(rows).with_columns(
        n_sessions=pl.lit(2_520),
        sharpe=pl.Series(numbers),
        low=pl.Series(numbers - 0.5),
        high=pl.Series(numbers + 0.5),
        total_return=pl.Series(numbers),
        max_drawdown=pl.lit(0.2),
    )


VALIDATED: dict[str, Any] = {
    "found": {
        "signs": [],
        "signal": {
            "decay": [{"horizon_bars": at, "mean": 0.01, "t": 1.0, "n_sessions": 2_000} for at in (1, 5, 10)],
            "rank_turnover": 0.3,
            "capacity": None,
        },
    },
    "controls": {
        "verdict": "trusted",
        "reasons": [],
        "twins": [{"kind": "planted", "correlation": 0.5, "p": 0.001, "is_found": True}],
    },
}


def _drift(names: list[str]) -> Part:
    """A session of drift whose first column has drifted and whose others cannot be judged."""
    is_first = pl.int_range(pl.len()) == 0
    columns = pl.DataFrame({"column": names}).select(
        pl.lit("feature").alias("part"),
        "column",
        *(pl.lit(None, dtype=kind).alias(name) for name, kind in COLUMNS.items() if name not in ("part", "column")),
    )
    columns = columns.with_columns(
        verdict=pl.when(is_first).then(pl.lit("drifted")).otherwise(pl.lit("cannot be judged")),
        p=pl.when(is_first).then(0.001),
        since=pl.when(is_first).then(date(2020, 10, 1)),
    )
    measures = pl.DataFrame([{"measure": "accuracy", "why": names[0]}], schema=MEASURES)
    facts = {
        "session": "2020-11-06",
        "sentence": names[0],
        "lacking": names,
        "standing": {"drift": {"is_raised": True}},
    }
    return Part(columns, facts, {"measures": measures})
