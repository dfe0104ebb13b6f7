"""Demo: the whole pipeline on real bars, from the sample to signals, with a printed summary.

Lives here: which weeks the demo makes and what it prints. Does not live here: the pipeline.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import polars as pl

from hf_pipelines.commands.candidates import candidate_of
from hf_pipelines.commands.making import Maker, Making
from hf_pipelines.commands.reporting import overview_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.side_by_side import open_maker
from hf_pipelines.components.market_stages import MarketPlan
from hf_pipelines.components.strategy_stages import StrategyPlan, retrained, serving
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.research.metrics import ANNUAL_SESSIONS
from hf_pipelines.research.promotion.decision import MISSING
from hf_pipelines.research.signals import reason_in_words, upgrade_issue
from hf_pipelines.resources.report_files import PAGE
from hf_pipelines.resources.storage_errors import ObjectMissingError

# The source that comes with the installed packages.
SAMPLE = "sample"

# Weeks of signals of strategies that get more than one, in the order in which they are made: few enough for two minutes on two cores. Each
# has a model of its own; a rule that looks back on earlier weeks has models of these too.
MODEL_WEEKS = {"tech_direction": 2, "tech_ranking": 2, "tech_meta": 1, "tech_sequence": 1}
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

# Of the gates that refuse a strategy.
REASONS_SHOWN = 2

# Below this Sharpe ratio a result of so few years cannot be distinguished from luck.
WORTH_A_LOOK = 1.0


@dataclass
class Demo:
    """One pass of the demo over the strategies on markets of the sample: what is current is not made again."""

    pipeline: Pipeline
    is_full: bool = False

    def run(self) -> None:
        """Make what is missing and print what came out.

        Raises
        ------
        ValueError
            If no strategy trades a market of the sample that has an end.
        """
        began, by_market = perf_counter(), self._by_market()
        with open_maker(self.pipeline) as maker:
            self._make_all(maker, by_market)
            reports = self._reports(maker, by_market)
        for _, plans in by_market:
            for plan in plans:
                print(self._account(plan))
        print(self._closing(maker.seconds, perf_counter() - began, reports))

    def _make_all(self, maker: Maker, by_market: Sequence[tuple[MarketPlan, list[StrategyPlan]]]) -> None:
        for market, plans in by_market:
            members = [*market.universe.members, market.universe.benchmark]
            print(
                f"{market.name}: real bars of {', '.join(members[:-1])} and {members[-1]}, to {_last_day(market)}.\n",
                flush=True,
            )
            self._make(maker, market, plans)

    def _by_market(self) -> list[tuple[MarketPlan, list[StrategyPlan]]]:
        order = [*MODEL_WEEKS]
        plans = [each for each in self.pipeline.strategies() if each.market.source.spec.type == SAMPLE]
        plans = [each for each in plans if each.market.partitions.end is not None]
        plans.sort(key=lambda each: (order.index(each.name) if each.name in order else len(order), each.name))
        if not plans:
            raise ValueError(
                f"`source` of a market must be of type {SAMPLE}, with an `end`, for its strategies to be shown, was of none; give one of them such a source."
            )
        markets = {each.market.name: each.market for each in plans}
        return [(market, [each for each in plans if each.market.name == name]) for name, market in markets.items()]

    def _make(self, maker: Maker, market: MarketPlan, plans: list[StrategyPlan]) -> None:
        last_week = _last_week(market)
        issued_from = {each.name: shift_week(last_week, 1 - self._n_weeks(each)) for each in plans}
        first_weeks = {each.name: _first_model_week(each, issued_from[each.name]) for each in plans}
        wanted: dict[str, tuple[StrategyPlan, str, str]] = {}
        for plan in plans:
            wanted |= {
                plan.asset(stage): (plan, first_weeks[plan.name], last_week) for stage in (*retrained(plan), "signals")
            }
        maker.make_inputs(market, wanted)
        models = [
            self._models(plan, week)
            for plan in plans
            for week in market.partitions.trading_weeks(
                market.partitions.weeks_between(parse_key(first_weeks[plan.name]), parse_key(last_week))
            )
        ]
        # What takes longest begins first: weeks that are judged too.
        models.sort(key=lambda each: -len(each.assets))
        if market.feature_groups:
            models.append(Making("features_report", (market.report_asset,), market.name, last_week, last_week))
        maker.make_all([[each] for each in models])
        maker.make_all([self._issues(plan, issued_from[plan.name], is_shown=plan == plans[0]) for plan in plans])

    def _models(self, plan: StrategyPlan, week: str) -> Making:
        # Signals of the weeks before need their models, and nothing that judges these or shows them: pictures would take a third of the time.
        is_judged = self.is_full or week == _last_week(plan.market)
        assets = tuple(plan.asset(stage) for stage in (retrained(plan) if is_judged else serving(plan)))
        return Making("models", assets, plan.market.name, week, week, is_drawn=is_judged)

    def _issues(self, plan: StrategyPlan, first_week: str, *, is_shown: bool) -> list[Making]:
        """Signals and what tells of them, in their order; of one strategy with its page."""
        market, last_week = plan.market, _last_week(plan.market)
        first_day = market.partitions.sessions_of_week(first_week)[0].isoformat()
        made = [Making("signals", (plan.asset("signals"),), market.name, first_day, _last_day(market))]
        # A track record tells of the weeks before its own.
        told = ["track_record"] * (self._n_weeks(plan) > 1) + ["report"] * is_shown
        return [*made, *(Making(each, (plan.asset(each),), market.name, last_week, last_week) for each in told)]

    def _n_weeks(self, plan: StrategyPlan) -> int:
        return FULL_WEEKS if self.is_full else MODEL_WEEKS.get(plan.name, 1)

    def _account(self, plan: StrategyPlan) -> str:
        store, strategy, week = self.pipeline.store, plan.name, _last_week(plan.market)
        scored = store.read(f"{strategy}/cv_results", week).footer.facts
        cross_validation: dict[str, float] = scored["metrics"]  # type: ignore[assignment]
        backtest = store.read(f"{strategy}/backtest", week)
        metrics: dict[str, float] = backtest.footer.facts["metrics"]  # type: ignore[assignment]
        equity = backtest.frame
        latest = json.loads(store.objects.get(f"{strategy}/signals/latest.json"))
        issue = upgrade_issue(store.read(f"{strategy}/signals", latest["day"]).frame)
        lines = [
            "",
            f"== {strategy} " + "=" * (76 - len(strategy)),
            f"Out of fold, week {week}: "
            + ", ".join(f"{name} {cross_validation[name]:.4f}" for name in SCORES if name in cross_validation),
            f"  {scored.get('verdict', 'Not compared with baselines.')}",
            f"Backtest of the out-of-fold predictions, {equity['session'][0]} to {equity['session'][-1]}, next-open fills:",
            "  " + _performance(metrics, sessions=equity.height),
            "  " + _verdict(metrics, cross_validation),
            *self._track_record(strategy, week),
            f"Latest signals, {latest['day']} ({latest['issue_kind']}, model of as_of {issue['model_as_of'][0]:%Y-%m-%d}):",
        ]
        for row in issue.iter_rows(named=True):
            why = reason_in_words(row["reason"], row["reason_detail"])
            lines.append(
                f"  {row['symbol']:<6} weight {row['weight']:+.3f}   prediction {row['prediction']:+.4f}   "
                f"confidence {row['confidence']:.2f}" + f"   {why}" * bool(why)
            )
        return "\n".join([*lines, *self._promotion(strategy, week)])

    def _promotion(self, strategy: str, week: str) -> list[str]:
        """Whether its gates would let it serve, and the first reasons why not."""
        failed = candidate_of(self.pipeline, strategy).first_faults(week)
        if not failed:
            return ["Promotion: every gate passes; hfp promote makes it the champion."]
        # What was measured says more than what was not made.
        told = sorted(failed, key=lambda each: each.verdict == MISSING)[:REASONS_SHOWN]
        more = len(failed) - len(told)
        return [
            f"Promotion: refused. {' '.join(each.why for each in told)}",
            f"  {f'At least {more} more gates fail' if more else 'What it takes'}: hfp gates {strategy}",
        ]

    def _track_record(self, strategy: str, week: str) -> list[str]:
        try:
            record = self.pipeline.store.read(f"{strategy}/track_record", week)
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

    def _reports(self, maker: Maker, by_market: Sequence[tuple[MarketPlan, list[StrategyPlan]]]) -> list[str]:
        """Where the page of each market's first strategy lies, and that of all of them."""
        lines = []
        for market, (plan, *_) in by_market:
            asset, week = plan.asset("report"), _last_week(market)
            footer = self.pipeline.store.footer(asset, week)
            assert footer is not None
            key = self.pipeline.store.attachment_key(footer, PAGE)
            lines.append(f"Report of {plan.name}: {self.pipeline.store.objects.address(key)}")
        overview = overview_of(self.pipeline, **maker.apart)
        return [*lines, f"Report of all strategies: {overview.address}"]

    def _closing(self, of_stages: Mapping[str, float], seconds: float, reports: Sequence[str]) -> str:
        stages = ", ".join(f"{name} {took:.1f}" for name, took in of_stages.items()) or "nothing was out of date"
        return "\n".join(
            [
                "",
                f"Seconds per stage: {stages}; {seconds:.1f} in all.",
                f"Stored in {self.pipeline.store.objects.uri} (Parquet; any tool reads it).",
                *reports,
                "Look at it: hfp ui, then http://127.0.0.1:3000",
            ]
        )


def _first_model_week(plan: StrategyPlan, week: str) -> str:
    """The first week whose model the signals of a week read."""
    first = plan.market.partitions.sessions_of_week(week)[0]
    return min(week, week_key(plan.decided_sessions(first)[0]))


def _last_day(market: MarketPlan) -> str:
    """The last session of a market that has an end."""
    partitions = market.partitions
    assert partitions.end is not None
    return partitions.sessions_between(partitions.start, partitions.end)[-1].isoformat()


def _last_week(market: MarketPlan) -> str:
    return week_key(parse_key(_last_day(market)))


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
