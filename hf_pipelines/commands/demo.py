"""Demo: the whole pipeline on real bars, from the sample to signals, with a printed summary.

Lives here: which weeks the demo makes and what it prints. Does not live here: the pipeline.
"""

import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from time import perf_counter

import polars as pl

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages import RETRAINED
from hf_pipelines.partitions import shift_week
from hf_pipelines.research.metrics import ANNUAL_SESSIONS
from hf_pipelines.resources.footer import SIGNALS
from hf_pipelines.resources.storage_errors import ObjectMissingError

MARKET = "us_tech"
GROUPS = ("technical", "cross_asset", "temporal")
# Strategies with the weekly models that each gets: few enough for two minutes on two cores.
MODEL_WEEKS = {"tech_direction": 2, "tech_ranking": 2, "tech_meta": 1}
# With `--full` all get as many: what a walk-forward of some weeks shows.
FULL_WEEKS = 4

# Of the scores of a strategy those that say most; the web UI shows all.
SCORES = (
    "accuracy",
    "balanced_accuracy",
    "log_loss",
    "baseline_log_loss",
    "r2",
    "rmse",
    "information_coefficient",
    "information_coefficient_t",
)

# The last of the sample.
LAST_WEEK, LAST_DAY = "2013-02-24", "2013-03-01"
TRAIN_WEEKS = 156
LOOKBACK_WEEKS = 28

# Below this Sharpe ratio a result of so few years cannot be distinguished from luck.
WORTH_A_LOOK = 1.0


@dataclass
class Demo:
    """One pass of the demo: what is current is not made again."""

    pipeline: Pipeline
    is_full: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Make what is missing and print what came out."""
        began = perf_counter()
        n_weeks = {strategy: FULL_WEEKS if self.is_full else n for strategy, n in MODEL_WEEKS.items()}
        first_features = shift_week(LAST_WEEK, 1 - max(n_weeks.values()) - TRAIN_WEEKS)
        print(f"Real daily bars of AAPL, FB, GOOG, IBM, MSFT and the S&P 500, to {LAST_DAY}.\n", flush=True)
        self._make("bars", [f"{MARKET}/bars"], shift_week(first_features, -LOOKBACK_WEEKS), LAST_WEEK)
        for group in GROUPS:
            self._make(f"features/{group}", [f"{MARKET}/features/{group}"], first_features, LAST_WEEK)
        for strategy, n in n_weeks.items():
            for back in range(n - 1, -1, -1):
                week = shift_week(LAST_WEEK, -back)
                self._make("models", [f"{strategy}/{stage}" for stage in RETRAINED], week, week)
            self._make("signals", [f"{strategy}/signals"], shift_week(LAST_WEEK, 1 - n), LAST_DAY)
            if n > 1:
                # It tells of the weeks before its own.
                self._make("track_record", [f"{strategy}/track_record"], LAST_WEEK, LAST_WEEK)
        for strategy in n_weeks:
            print(self._account(strategy))
        print(self._closing(perf_counter() - began))

    def _make(self, stage: str, assets: Sequence[str], first: str, last: str) -> None:
        checker = self.pipeline.checker()
        keys = self._needed(assets[-1], first, last)
        stale = [key for key in keys if not all(checker.is_current(asset, key).is_current for asset in assets)]
        label = f"{assets[0].split('/')[0]}: {', '.join(asset.split('/', 1)[1] for asset in assets)}"
        shown = first if first == last else f"{first} to {last}"
        if not stale:
            print(f"  {label:<70} {shown:<24} {'is current':>12}", flush=True)
            return
        print(f"  {label:<70} {shown:<24} ", end="", flush=True)
        ending, warnings = "", io.StringIO()
        try:
            # Warnings come after the line, not in the middle of it.
            with redirect_stderr(warnings):
                seconds = self.pipeline.materialise(assets, stale[0], stale[-1])
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
            ending = f"{len(stale):>4} in {seconds:4.1f} s"
        finally:
            print(ending, flush=True)
            print(warnings.getvalue(), end="", file=sys.stderr, flush=True)

    def _needed(self, asset: str, first: str, last: str) -> list[str]:
        keys = self.pipeline.partition_keys(asset, first, last)
        if self.pipeline.kind(asset) != SIGNALS:
            return keys
        # Sundays have a partition (a library fact) but no session.
        sessions = set(self._sessions())
        return [key for key in keys if key in sessions]

    def _sessions(self) -> list[str]:
        last_weeks = self.pipeline.partition_keys(f"{MARKET}/bars", shift_week(LAST_WEEK, 1 - FULL_WEEKS), LAST_WEEK)
        frames = [self.pipeline.store.read(f"{MARKET}/bars", week).frame["session"] for week in last_weeks]
        return [day.isoformat() for day in pl.concat(frames).unique().sort()]

    def _account(self, strategy: str) -> str:
        store = self.pipeline.store
        scored = store.read(f"{strategy}/cv_results", LAST_WEEK).footer.facts
        cross_validation: dict[str, float] = scored["metrics"]  # type: ignore[assignment]
        backtest = store.read(f"{strategy}/backtest", LAST_WEEK)
        metrics: dict[str, float] = backtest.footer.facts["metrics"]  # type: ignore[assignment]
        equity = backtest.frame
        latest = json.loads(store.objects.get(f"{strategy}/signals/latest.json"))
        issue = store.read(f"{strategy}/signals", latest["day"]).frame
        lines = [
            "",
            f"== {strategy} " + "=" * (76 - len(strategy)),
            f"Out of fold, week {LAST_WEEK}: "
            + ", ".join(f"{name} {cross_validation[name]:.4f}" for name in SCORES if name in cross_validation),
            f"  {scored.get('verdict', 'Not compared with baselines.')}",
            f"Backtest of the out-of-fold predictions, {equity['session'][0]} to {equity['session'][-1]}, next-open fills:",
            "  " + _performance(metrics, sessions=equity.height),
            "  " + _verdict(metrics, cross_validation),
            *self._track_record(strategy),
            f"Latest signals, {latest['day']} ({latest['issue_kind']}, model of as_of {issue['model_as_of'][0]:%Y-%m-%d}):",
        ]
        for row in issue.iter_rows(named=True):
            lines.append(
                f"  {row['symbol']:<6} weight {row['weight']:+.3f}   prediction {row['prediction']:+.4f}   "
                f"confidence {row['confidence']:.2f}" + f"   {row['reason']}" * bool(row["reason"])
            )
        return "\n".join(lines)

    def _track_record(self, strategy: str) -> list[str]:
        try:
            record = self.pipeline.store.read(f"{strategy}/track_record", LAST_WEEK)
        except ObjectMissingError:
            return []
        facts: dict[str, dict[str, float]] = record.footer.facts["records"]  # type: ignore[assignment]
        lines = []
        for kind, metrics in sorted(facts.items()):
            label = "issued live" if kind == "live" else "backfilled (simulated), not issued live"
            days = record.frame.filter(pl.col("record") == kind)["session"].to_list()
            lines += [
                f"Point-in-time walk-forward {days[0]} to {days[-1]}, each day by the model of its week, {label}:",
                "  " + _performance(metrics, sessions=len(days)),
            ]
        return lines

    def _closing(self, seconds: float) -> str:
        stages = ", ".join(f"{name} {took:.1f}" for name, took in self.seconds.items()) or "nothing was out of date"
        return "\n".join(
            [
                "",
                f"Seconds per stage: {stages}; {seconds:.1f} in all.",
                f"Stored in {self.pipeline.store.objects.uri} (Parquet; any tool reads it).",
                "Look at it: make ui, then http://127.0.0.1:3000",
            ]
        )


def _performance(metrics: dict[str, float], *, sessions: int) -> str:
    def percent(name: str) -> str:
        return f"{metrics[name]:+.1%}" if name in metrics else "undefined"

    sharpe = f"Sharpe {metrics['sharpe_ratio']:.2f}" if "sharpe_ratio" in metrics else "Sharpe undefined"
    if sessions < ANNUAL_SESSIONS:
        sharpe = f"{sessions} sessions (too few for a Sharpe ratio)"
    turnover = f"turnover {metrics['turnover_per_year']:.1f} a year, " if "turnover_per_year" in metrics else ""
    return (
        f"return {percent('total_return')}, {sharpe}, max drawdown {metrics['max_drawdown']:.1%}, "
        f"{turnover}costs {metrics['costs_total']:.2%} of the initial cash"
    )


def _verdict(metrics: dict[str, float], cross_validation: dict[str, float]) -> str:
    if "sharpe_ratio" not in metrics or metrics["total_return"] <= 0.0:
        return "It earns nothing after costs."
    if metrics["sharpe_ratio"] < WORTH_A_LOOK:
        return "It earns less than luck alone may give over so few years: no evidence of skill."
    if cross_validation.get("log_loss", 0.0) > cross_validation.get("baseline_log_loss", float("inf")):
        return "It earned, yet its probabilities are worse than constant ones: no evidence of skill."
    return "It earned; one backtest is one draw, and the trials behind it are not yet counted here."
