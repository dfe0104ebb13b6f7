"""Validating: what a sceptic asks of a stored backtest; the lines of `hfp validate`.

Lives here: what is read, and the words. Does not live here: the tests (`research.robustness`, `research.overfitting`).
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.trials import Scope, summarise
from hf_pipelines.commands.walking import walk_command, walk_lines, walked
from hf_pipelines.components.strategy_stages.controls import CONTROLS
from hf_pipelines.components.strategy_stages.decided_weights import decide, stored_inputs
from hf_pipelines.components.strategy_stages.full_validation import full_validation_lines, read_full_validation
from hf_pipelines.components.strategy_stages.near_trials import near_in_words, near_trials
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.validating import doubted, tested_paths
from hf_pipelines.components.strategy_stages.validation import read_validation
from hf_pipelines.partitions import usual_sessions, week_key
from hf_pipelines.research.adjustment import adjust
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.overfitting import SharpeEstimate, minimum_track_record_length
from hf_pipelines.research.plots.frames import SYMBOLS_OF_TENTHS, TENTHS
from hf_pipelines.research.robustness import Controls, controls_in_words, judge_signs, untested_in_words
from hf_pipelines.research.robustness.controls import NOT_TRUSTED, Twin
from hf_pipelines.research.signal_quality import book_of
from hf_pipelines.research.wording import number_of
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.judging import (
    best_of,
    estimate_of,
    judge_choice,
    judge_superiority,
    sharing_sessions,
)
from hf_pipelines.resources.trial_ledger.returns import session_returns
from hf_pipelines.resources.trial_ledger.trials import counted, select


def validation_of(pipeline: Pipeline, strategy: str, week: str | None) -> dict[str, Any]:
    """Tests of the backtest of a week, by default the latest that there is, for programs.

    Raises
    ------
    ValueError
        If the strategy is unknown or has no backtest of that week.
    """
    plan, key = pipeline.strategy(strategy), backtested_week(pipeline, strategy, week)
    sessions_per_year = usual_sessions(plan.market.partitions.calendar_name)[0]
    found, walks = _of_week(pipeline, plan, key), walked(pipeline, plan)
    return {
        "strategy": strategy,
        "week": key,
        **found,
        "table": found["table"].to_dicts(),
        "trials": _trials(pipeline, strategy),
        "neighbourhood": near_trials(
            plan,
            pipeline.store.objects,
            key,
            {} if (footer := pipeline.store.footer(plan.asset("cv_results"), key)) is None else footer.facts,
            sharpe=found["table"]["sharpe"][0],
            low=found["table"]["low"][0],
        ),
        "beside": _beside(pipeline, strategy, key, sessions_per_year).to_dicts(),
        "benchmark": _benchmark(pipeline, plan, key, sessions_per_year),
        "walk_forward": walks,
        "walk_forward_command": "" if walks else walk_command(plan, pipeline.store),
    }


def backtested_week(pipeline: Pipeline, strategy: str, week: str | None) -> str:
    """A week of which a strategy has a backtest, by default the latest.

    Raises
    ------
    ValueError
        If the strategy is unknown or has no backtest of that week.
    """
    weeks = pipeline.store.partitions(pipeline.strategy(strategy).asset("backtest"))
    if not weeks:
        raise ValueError(
            f"`strategy` must have a backtest, {strategy} has none; hfp retrain {strategy} --week SUNDAY --with-inputs."
        )
    if week is not None and week not in weeks:
        raise ValueError(
            f"`week` must be one of which {strategy} has a backtest ({', '.join(weeks[-5:])}), was {week[:40]!r}; hfp retrain "
            f"{strategy} --week SUNDAY --with-inputs."
        )
    return week or max(weeks)


def full_validation_of(pipeline: Pipeline, strategy: str, week: str | None) -> dict[str, Any]:
    """`validation_of`, and under `full` what takes refits, made where it is not there or out of date.

    Raises
    ------
    ValueError
        As `validation_of`.
    RunFailedError
        If it cannot be made.
    """
    found = validation_of(pipeline, strategy, week)
    asset, key = pipeline.strategy(strategy).asset("full_validation"), found["week"]
    if key not in pipeline.store.partitions(asset) or not pipeline.checker().is_current(asset, key).is_current:
        pipeline.materialise([asset], key, key)
    return {**found, "full": read_full_validation(pipeline.store.read(asset, key))}


def _of_week(pipeline: Pipeline, plan: StrategyPlan, key: str) -> dict[str, Any]:
    """What `<strategy>/validation` holds if it was made of the stored backtest by the code of today; else the same, made now."""
    asset = plan.asset("validation")
    if key in pipeline.store.partitions(asset) and pipeline.checker().is_current(asset, key).is_current:
        return read_validation(pipeline.store.read(asset, key))
    decided = decide(plan, stored_inputs(plan, pipeline.store, key), key, horizon=plan.decided_horizon)
    # Controls are fits: those of the week are made with it.
    return {**doubted(plan, decided, tested_paths(plan, decided)), CONTROLS: None}


def _beside(pipeline: Pipeline, strategy: str, week: str, sessions_per_year: float) -> pl.DataFrame:
    """The stored account beside those of the project's other strategies of the same week."""
    series: dict[str, dict[object, float]] = {}
    for plan in pipeline.strategies():
        asset = plan.asset("backtest")
        if week in pipeline.store.partitions(asset):
            stored = pipeline.store.read(asset, week)
            if (found := session_returns(stored.frame, stored.footer.facts)) is not None:
                series[plan.name] = dict(zip(*found, strict=True))
    return book_of(series if strategy in series else {}, strategy, sessions_per_year=sessions_per_year)


def _benchmark(pipeline: Pipeline, plan: StrategyPlan, week: str, sessions_per_year: float) -> dict[str, Any] | None:
    """The stored account beside the benchmark of its market, as `_beside`; None where the bars have none."""
    store, symbol = pipeline.store, plan.market.universe.benchmark
    stored = store.read(plan.asset("backtest"), week)
    found = session_returns(stored.frame, stored.footer.facts)
    if found is None or not symbol or not len(found[0]):
        return None
    sessions = stored.frame["session"]
    first, last = week_key(sessions.min()), week_key(sessions.max())  # type: ignore[arg-type]
    weeks = [each for each in store.partitions(plan.market.bars_asset) if first <= each <= last]
    parts = [store.read(plan.market.bars_asset, each).frame.filter(pl.col("symbol") == symbol) for each in weeks]
    bars = pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()
    if bars.is_empty():
        return None
    last_ts: Any = bars["ts"].max()
    closes = adjust(bars, as_of=last_ts).group_by("session").agg(pl.col("close").sort_by("ts").last()).sort("session")
    moved = dict(zip(closes["session"], closes["close"].pct_change(), strict=True))
    series: dict[str, dict[object, float]] = {plan.name: {}, symbol: {}}
    for session, value in zip(*found, strict=True):
        if (of_benchmark := moved.get(session)) is not None:
            series[plan.name][session], series[symbol][session] = value, of_benchmark
    return book_of(series, plan.name, sessions_per_year=sessions_per_year).to_dicts()[0]


def _trials(pipeline: Pipeline, strategy: str) -> dict[str, Any]:
    """What the ledger says of the search: the deflated Sharpe ratio of its best trial, and what became of choosing."""
    every = TrialLedger(pipeline.store.objects, "").known()
    scope = Scope(strategy=strategy)
    known = every.filter(strategy=strategy).height
    if not known:
        return {
            "counted": 0,
            "deflation": None,
            "choice": None,
            "n_compared": 0,
            "superiority": None,
            "track_record": None,
        }
    found = summarise(pipeline.store, scope)
    trials = counted(select(every, **asdict(scope)))
    shared = sharing_sessions(pipeline.store.objects, trials)
    choice, n_compared = judge_choice(shared)
    superiority = judge_superiority(shared)
    best = estimate_of(best_of(trials))
    told = None
    if choice is not None:
        told = {
            "probability": choice.probability,
            "probability_of_loss": choice.probability_of_loss,
            "n_trials": choice.n_trials,
            "n_blocks": choice.n_blocks,
        }
    return {
        "counted": found["counted"],
        "deflation": found["deflation"],
        "choice": told,
        "n_compared": n_compared,
        "superiority": None if superiority is None else dict(zip(("hansen", "white"), superiority, strict=True)),
        "track_record": None if best is None else _track_record(best),
    }


def _track_record(best: SharpeEstimate) -> dict[str, Any]:
    """Sessions that a Sharpe ratio has, and needs to be above zero with 95 % if it were the only one; None: no number is enough."""
    needed = float(minimum_track_record_length(best.sharpe, best.skew, best.kurtosis))
    return {"sessions": best.n, "needed": math.ceil(needed) if math.isfinite(needed) else None}


def validation_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The signs first, then the search, then every test; and whether each line is sound."""
    yield f"{found['strategy']}, week {found['week']}: its out-of-fold account, kept again under other conditions", True
    yield _of_controls(found)
    for each in found["signs"]:
        yield f"{each['name']}: {each['told']}", False
    if not found["signs"]:
        yield judge_signs((), found["table"][0]["low"]), True
    yield from ((f"survivorship: {each}", True) for each in found["doubts"])
    if found["paths"]:
        yield _of_paths(found["paths"]), True
    yield from ((line, True) for line in walk_lines(found["walk_forward"], found["walk_forward_command"]))
    near = found["neighbourhood"]
    # Where its neighbours were fitted nothing is lacking.
    if near["n"] or "full" not in found:
        yield near_in_words(near), True
    yield from ((f"{each['name']}: {each['told']}", False) for each in near["signs"])
    if "full" in found:
        yield from ((line, True) for line in full_validation_lines(found["full"]))
        yield from _of_every_fold(found["full"]["controls"])
    yield from ((line, True) for line in _of_trials(found["trials"]))
    yield from ((line, True) for line in _of_signal(found["signal"]))
    yield from ((line, True) for line in _of_others(found["strategy"], found["beside"], found["benchmark"]))
    yield "", True
    head = ("test", "", "sessions", "Sharpe a year", "95 % bounds", "return", "drawdown")
    yield from ((line, True) for line in text_table([head, *(_cells(row) for row in found["table"])]))
    if untested := untested_in_words({row["test"] for row in found["table"]}):
        yield untested, True


def _of_controls(found: Mapping[str, Any]) -> tuple[str, bool]:
    """Whether the code that made it can be trusted."""
    of_week = found[CONTROLS]
    if of_week is None:
        return (
            f"controls of the week: not made; hfp materialise {found['strategy']}/validation --from {found['week']}",
            True,
        )
    told = Controls(**{**of_week, "twins": tuple(Twin(**each) for each in of_week["twins"])})
    return controls_in_words(told), told.verdict != NOT_TRUSTED


def _of_every_fold(controls: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, bool]]:
    verdicts = Counter(each["verdict"] for each in controls)
    told = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
    yield f"controls on {number_of(len(controls), 'fold')}: {told}", NOT_TRUSTED not in verdicts
    for fold, each in enumerate(controls):
        if each["reasons"]:
            yield f"controls on fold {fold}: {'; '.join(each['reasons'])}", each["verdict"] != NOT_TRUSTED


def _of_paths(paths: Sequence[Mapping[str, Any]]) -> str:
    earned = sum(each["total_return"] > 0.0 for each in paths)
    middle = paths[(len(paths) - 1) // 2]
    shown = ", ".join(
        f"{name} {each['total_return']:+.1%}"
        + ("" if each["sharpe"] is None else f" (Sharpe ratio {each['sharpe']:.2f})")
        for name, each in (("lowest", paths[0]), ("middle", middle), ("highest", paths[-1]))
    )
    deepest = max(each["max_drawdown"] for each in paths)
    return f"{earned} of {len(paths)} paths of cross-validation earned something: {shown}; the deepest drawdown is {deepest:.1%}"


def _of_trials(trials: Mapping[str, Any]) -> Iterator[str]:
    counted = (
        "the ledger: 1 trial counts" if trials["counted"] == 1 else f"the ledger: {trials['counted']:,} trials count"
    )
    if trials["deflation"] is None:
        yield f"{counted}; none has a return series: nothing can be deflated"
        return
    probability = trials["deflation"]["deflated"]
    yield (
        f"{counted}; the probability that the Sharpe ratio of the best of them, of whatever week, is above 0 given so many is {probability:.0%} "
        "(deflated Sharpe ratio); of this week's own account it is a gate: hfp gates"
    )
    record = trials["track_record"]
    if record is not None:
        needs = (
            "its Sharpe ratio is not above 0, and no number of them would show that it is"
            if record["needed"] is None
            else f"{record['needed']:,} are needed for a Sharpe ratio above 0 with 95 %, were it the only one"
        )
        yield f"minimum track record: the best of them has {record['sessions']:,} sessions; {needs}"
    if trials["superiority"] is None:
        yield "test that the best of the trials earns nothing: needs trials on the same sessions, and sessions enough for blocks"
    else:
        found = trials["superiority"]
        yield (
            f"test that the best of the trials on the same sessions earns nothing, given so many: p {found['hansen']:.3f} (superior predictive "
            f"ability), {found['white']:.3f} (reality check)"
        )
    choice = trials["choice"]
    if choice is None:
        yield (
            f"probability of backtest overfitting: needs two different trials on the same sessions, at least 32 of them; the most that share theirs "
            f"are {trials['n_compared']}"
        )
    else:
        yield (
            f"probability of backtest overfitting: {choice['probability']:.0%}, of {choice['n_trials']} different trials on the same sessions in "
            f"{choice['n_blocks']} blocks; that the chosen one loses: {choice['probability_of_loss']:.0%}"
        )


def _of_signal(signal: Mapping[str, Any]) -> Iterator[str]:
    groups = signal["quantiles"]
    if len(groups) > 1:
        outcomes = [each["outcome"] for each in groups]
        n_rises = sum(after > before for before, after in itertools.pairwise(outcomes))
        why = "" if len(groups) == TENTHS else f" (tenths from {SYMBOLS_OF_TENTHS} symbols a time on)"
        yield (
            f"mean outcome of {len(groups)} equal groups of its predictions{why}, from the lowest to the highest: "
            f"{', '.join(f'{each:+.4f}' for each in outcomes)}; it rises at {n_rises} of {len(groups) - 1} steps"
        )
    told = ", ".join(
        f"{each['horizon_bars']}: {each['mean']:+.3f} (t {each['t']:.1f})"
        for each in signal["decay"]
        if each["t"] is not None
    )
    if told:
        yield f"rank information coefficient with the return over so many bars: {told}"
    if signal["rank_turnover"] is not None:
        yield (
            f"turnover of ranks from one time to the next: {signal['rank_turnover']:.2f} (0: the symbols keep their order, 1: the new order knows nothing "
            "of the old)"
        )
    money = signal["capacity"]
    if money is None:
        yield "capacity: cannot be told, the bars lack volumes of what it traded"
    elif money == 0.0:
        yield "capacity: none, it earns nothing"
    elif math.isfinite(money):
        yield f"capacity: market impact halves its mean return at {money:,.0f} {signal['currency']}"


def _of_others(
    strategy: str, beside: Sequence[Mapping[str, Any]], benchmark: Mapping[str, Any] | None
) -> Iterator[str]:
    if benchmark is not None:
        told = "too few" if benchmark["correlation"] is None else f"correlation {benchmark['correlation']:.2f}"
        yield f"beside the benchmark {benchmark['beside']}: {told}, over {number_of(benchmark['n_sessions'], 'session')} in common"
    for each in beside:
        if each["correlation"] is None:
            yield f"beside {each['beside']}: {number_of(each['n_sessions'], 'session')} in common, too few"
        else:
            name = "all others together" if each["beside"] == "book" else each["beside"]
            yield (
                f"beside {name}: correlation {each['correlation']:.2f}; Sharpe ratio of {name} {each['sharpe_without']:.2f}, and "
                f"{each['sharpe_with']:.2f} with {strategy}, each at the same volatility"
            )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["test"],
        row["name"] if row["name"] != row["test"] else "",
        f"{row['n_sessions']:,}",
        "" if row["sharpe"] is None else f"{row['sharpe']:.2f}",
        "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
        f"{row['total_return']:+.1%}",
        f"{row['max_drawdown']:.1%}",
    )
