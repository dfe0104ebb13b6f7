"""Evidence of a week of a strategy, as `research.promotion` takes it: out of what is stored, the ledger and the record of replays.

Lives here: which stored number is which evidence. Does not live here: what is asked of it (`research.promotion`). Nothing is stored and nothing
is fitted; the week's weights are decided again, for the accounts that the strategy is held to and for the other engine.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.components.strategy_stages.accounts import middle_of
from hf_pipelines.components.strategy_stages.backtest import BASELINE_SEED
from hf_pipelines.components.strategy_stages.controls import CONTROLS
from hf_pipelines.components.strategy_stages.decided_weights import decide, stored_inputs
from hf_pipelines.components.strategy_stages.full_validation import FOUND, PATHS
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, trade
from hf_pipelines.components.strategy_stages.reconciliation import agreement
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.components.strategy_stages.tuned import SELECTED
from hf_pipelines.partitions import parse_key, usual_sessions
from hf_pipelines.research.backtest.account_baselines import account_baselines
from hf_pipelines.research.comparison import probability_of_higher_sharpe
from hf_pipelines.research.promotion import Evidence
from hf_pipelines.research.robustness.controls import CANNOT_BE_JUDGED, NOT_TRUSTED
from hf_pipelines.research.score_table import DECIDING
from hf_pipelines.research.score_words import MODEL
from hf_pipelines.research.targets import HORIZON
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.holdout_looks import count_looks
from hf_pipelines.resources.lineage import read_content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import history_of
from hf_pipelines.resources.replay_record import read_record
from hf_pipelines.resources.trial_ledger import TrialLedger, configuration_hash
from hf_pipelines.resources.trial_ledger.heads import TRIAL
from hf_pipelines.resources.trial_ledger.judging import estimate_of, judge, judge_choice, sharing_sessions
from hf_pipelines.resources.trial_ledger.returns import session_returns
from hf_pipelines.resources.trial_ledger.trials import counted, select

# What rests on out-of-fold predictions: nothing of it is out of sample where the same folds chose the parameters.
OF_FOLDS = frozenset(
    {
        *("score_better_by", "score_probability", "calibration_error", "portfolio_probability", "sharpe", "sharpe_low"),
        *("deflated_sharpe", "max_drawdown", "turnover_per_year", "capacity_multiple", "fold_share", "champion_probability"),
    }
)  # fmt: skip

RANDOM = "random strategies"

# Of a week, in the order in which they are made; the last one only where it was asked for.
STAGES = ("training_matrix", "cv_results", "backtest", "validation", "full_validation")

# Numbers by the stage that has to be stored for them; of the controls any of two.
NUMBERS_OF = {
    "training_matrix": {"rows", "replays_failed", "unreplayed"},
    "cv_results": {"score_better_by", "score_probability", "calibration_error"},
    "backtest": {
        *("sharpe", "sharpe_low", "max_drawdown", "turnover_per_year", "fold_share", "champion_probability"),
        *("portfolio_probability", "engines_agree", "n_trials", "overfitting", "deflated_sharpe"),
    },
    "validation": {"capacity_multiple"},
    "full_validation": {"path_share"},
}  # fmt: skip
OF_CONTROLS = {"controls_failed", "controls_unjudged"}
LEFT_OUT_IN_BRIEF = {"portfolio_probability", "engines_agree"}

Returns = Mapping[date, float]


@dataclass(frozen=True)
class Champion:
    """The configuration that serves now.

    Attributes
    ----------
    name : str
        For people.
    returns : mapping of date to float
        Net returns of its account by session: see `returns_of_week`.
    """

    name: str
    returns: Returns


def gather_evidence(
    plan: StrategyPlan,
    store: PartitionStore,
    week: str,
    *,
    checker: CurrencyChecker,
    now: datetime,
    champion: Champion | None = None,
    is_brief: bool = False,
) -> Evidence:
    """What is known of a strategy in a week.

    Parameters
    ----------
    plan : StrategyPlan
    store : PartitionStore
    week : str
        Key of the week.
    checker : CurrencyChecker
        With the present code and settings.
    now : datetime
        Until when evidence grows old.
    champion : Champion, optional
        What it is to be better than; None: nothing serves.
    is_brief : bool
        Whether what takes seconds is left out: no weights are decided again, and `portfolio_probability` and `engines_agree` stay unknown.

    Raises
    ------
    ValueError
        If bars or features that the stored backtest reads are not there.
    """
    footers = {stage: store.footer(plan.asset(stage), week) for stage in STAGES}
    results, account = footers["cv_results"], footers["backtest"]
    matrix, validated, fully = footers["training_matrix"], footers["validation"], footers["full_validation"]
    found: dict[str, Any] = {
        "rows": None if matrix is None else matrix.rows,
        **(_replays(plan, store, matrix) if matrix is not None else {}),
        **(_scores(plan, store, results) if results is not None else {}),
        **(_account(plan, store, week, account, champion) if account is not None else {}),
        **(_beside_account(plan, store, week, account) if account is not None and not is_brief else {}),
        **(_trials(plan, store, account) if account is not None else {}),
        **(_capacity(plan, validated) if validated is not None else {}),
        **_controls(validated, fully),
    }
    if fully is not None:
        table = store.read(plan.asset("full_validation"), week).frame.filter(test=PATHS)
        found["path_share"] = _share_above_zero(table["total_return"])
    return Evidence(
        strategy=plan.name,
        week=week,
        market=plan.market.name,
        **found,
        is_classification=plan.target.is_classification,
        age_weeks=age_weeks(week, now, end=plan.market.partitions.end),
        outdated=_outdated(plan, week, checker),
        has_holdout=plan.holdout is not None,
        holdout_looks=count_looks(store.objects, [plan.name, *plan.descends_from]),
        holdout_budget=0 if plan.holdout is None else plan.holdout.looks,
        universe_chosen=plan.market.universe.chosen,
        champion="" if champion is None else champion.name,
        selected=OF_FOLDS if results is not None and results.facts.get(SELECTED) else frozenset(),
        unmade=frozenset(_unmade(footers, is_brief=is_brief)),
    )


def _unmade(footers: Mapping[str, Footer | None], *, is_brief: bool) -> set[str]:
    """Numbers that wait for a stage of the week."""
    found = {name for stage, footer in footers.items() if footer is None for name in NUMBERS_OF[stage]}
    if footers["validation"] is None and footers["full_validation"] is None:
        found |= OF_CONTROLS
    return found | (LEFT_OUT_IN_BRIEF if is_brief else set())


def champion_of(plan: StrategyPlan, store: PartitionStore) -> Champion | None:
    """What a strategy is to be better than: the champion with the account that it was promoted by.

    None where nothing serves, or the strategy's own configuration does: a refit need not be better than itself.

    Raises
    ------
    PromotionHistoryError
        If the history is not as it was written.
    ValueError
        If that account is stored no more.
    """
    history, asset = history_of(store.objects, plan.name), plan.asset("backtest")
    release = history.state.champion
    if release is None or release.configuration == configuration_hash(settings_of(plan)):
        return None
    # An account of which nothing is known is no reason to pass.
    parts = history.records[release.number - 1]["evidence"].get(asset, {})
    returns: Returns = {}
    for week, digest in parts.items():
        stored = read_content(store, asset, week, digest)
        found = session_returns(stored.frame, stored.footer.facts)
        returns = {} if found is None else dict(zip(*found, strict=True))
    return Champion(f"{release.version} of week {release.week}", returns)


def returns_of_week(store: PartitionStore, asset: str, week: str) -> Returns:
    """Net returns by session of a stored account, such as `tech/backtest`; of several paths those of the middle one."""
    stored = store.read(asset, week)
    found = session_returns(stored.frame, stored.footer.facts)
    return {} if found is None else dict(zip(*found, strict=True))


def _scores(plan: StrategyPlan, store: PartitionStore, results: Footer) -> dict[str, Any]:
    """How the model compares with the best baseline, of the horizon that is traded; how far confidence can be believed."""
    scores = _attached(store, results, "scores.parquet")
    if scores is None:
        return {}
    deciding = DECIDING["classification" if plan.target.is_classification else "regression"]
    rows = scores.filter(pl.col("fold").is_null(), predictor=MODEL, score=deciding)
    if HORIZON in rows.columns:
        rows = rows.filter(pl.col(HORIZON) == plan.decided_horizon)
    if rows.is_empty():
        return {}
    row = rows.row(0, named=True)
    found = {
        "score_better_by": row["better_by"],
        "score_probability": row["probability"],
        "score_against": f"the best baseline ({row['best_baseline']}) in {deciding}",
    }
    if (groups := _attached(store, results, "reliability.parquet")) is not None:
        sure, right, n = (groups[name].to_numpy() for name in ("confidence", "share_right", "n_rows"))
        found["calibration_error"] = float(np.average(np.abs(sure - right), weights=n))
    return found


def _account(
    plan: StrategyPlan, store: PartitionStore, week: str, account: Footer, champion: Champion | None
) -> dict[str, Any]:
    """The account itself, and beside the champion's."""
    metrics: Any = account.facts["metrics"]
    found = {
        "sharpe": metrics.get("sharpe_ratio"),
        "sharpe_low": _sharpe_bounds(store, account)[0],
        "max_drawdown": metrics.get("max_drawdown"),
        "turnover_per_year": metrics.get("turnover_per_year"),
        "fold_share": _fold_share(store, account),
    }
    if champion is not None:
        own = returns_of_week(store, account.asset, week)
        sessions_per_year = usual_sessions(plan.market.partitions.calendar_name)[0]
        found["champion_probability"] = _probability(own, champion.returns, sessions_per_year)
    return found


def _beside_account(plan: StrategyPlan, store: PartitionStore, week: str, account: Footer) -> dict[str, Any]:
    """The account beside those that take no skill, and another engine's."""
    own = returns_of_week(store, account.asset, week)
    sessions_per_year = usual_sessions(plan.market.partitions.calendar_name)[0]
    inputs = stored_inputs(plan, store, week)
    decided = decide(plan, inputs, week, horizon=plan.decided_horizon)
    middle = middle_of({path: trade(plan, weights, decided.bars) for path, weights in decided.weights.items()})
    baselines = account_baselines(
        middle,
        decided.bars,
        benchmark=plan.market.universe.benchmark,
        costs=plan.backtest.costs,
        execution=plan.backtest.execution,
        periods_per_year=plan.market.bars_per_year,
        seed=BASELINE_SEED,
    )
    beside = {name: _probability(own, _daily(curve), sessions_per_year) for name, curve in baselines.curves.items()}
    found: dict[str, Any] = {"portfolio_probability": {**beside, RANDOM: account.facts.get("beats_random")}}
    agreed = agreement(plan, lambda: decided, week)
    if agreed.n_compared:
        found["engines_agree"] = agreed.passed
    return found


def _fold_share(store: PartitionStore, account: Footer) -> float | None:
    by_fold = _attached(store, account, "fold_metrics.parquet")
    # An account in which nothing was earned has no folds.
    if by_fold is None or "total_return" not in by_fold.columns:
        return None
    return _share_above_zero(by_fold["total_return"])


def account_figures(plan: StrategyPlan, store: PartitionStore, week: str) -> dict[str, float | None]:
    """What no gate asks of the stored account of a week: `expected_return`, a fraction a year, and `sharpe_high`; None: undefined."""
    account = store.footer(plan.asset("backtest"), week)
    if account is None:
        return {}
    metrics: Any = account.facts["metrics"]
    return {"expected_return": metrics.get("annual_return"), "sharpe_high": _sharpe_bounds(store, account)[1]}


def _sharpe_bounds(store: PartitionStore, account: Footer) -> tuple[float | None, float | None]:
    """The bounds that the summary of the account that is shown has."""
    summary = _attached(store, account, "summary.parquet")
    if summary is None:
        return None, None
    if "path" in summary.columns:
        paths: Any = account.facts["paths"]
        ordered = sorted(paths, key=lambda each: paths[each]["total_return"])
        summary = summary.filter(path=int(ordered[(len(ordered) - 1) // 2]))
    row = summary.filter(metric="sharpe_ratio").row(0, named=True)
    return row["low"], row["high"]


def _trials(plan: StrategyPlan, store: PartitionStore, account: Footer) -> dict[str, Any]:
    """The account beside all trials that count; nothing of a ledger that cannot be read whole, which would count too few."""
    every, unreadable = TrialLedger(store.objects, "").read()
    trials = counted(select(every, strategy=plan.name))
    if unreadable or trials.is_empty():
        return {}
    choice, _ = judge_choice(sharing_sessions(store.objects, trials))
    found: dict[str, Any] = {"n_trials": trials.height, "overfitting": None if choice is None else choice.probability}
    own = estimate_of(every.filter(trial=str(account.facts.get(TRIAL))))
    if own is not None:
        judged, lacking = judge(store.objects, trials, own)
        found["deflated_sharpe"] = None if lacking else judged.deflated
    return found


def _capacity(plan: StrategyPlan, validated: Footer) -> dict[str, Any]:
    stated: Any = validated.facts[FOUND]
    money = stated["signal"]["capacity"]
    return {"capacity_multiple": None if money is None else money / plan.backtest.execution.initial_cash}


def _controls(validated: Footer | None, fully: Footer | None) -> dict[str, Any]:
    """Of every fold where they were made, else of the last one."""
    made: list[Any] = []
    if fully is not None:
        stated: Any = fully.facts[FOUND]
        made = stated["controls"]
    elif validated is not None:
        made = [each for each in (validated.facts.get(CONTROLS),) if each is not None]
    if not made:
        return {}
    verdicts = [each["verdict"] for each in made]
    return {
        "controls_failed": verdicts.count(NOT_TRUSTED),
        "controls_unjudged": verdicts.count(CANNOT_BE_JUDGED),
    }


def _replays(plan: StrategyPlan, store: PartitionStore, matrix: Footer) -> dict[str, Any]:
    """Of the very contents that the matrix was made from: how many were replayed row by row."""
    failed, left = 0, 0
    for group in plan.feature_names:
        asset = plan.market.features_asset(group)
        record = read_record(store, asset)
        for week, digest in matrix.inputs.get(asset, {}).items():
            if record.rejected.get(week, ("", ""))[0] == digest:
                failed += 1
            elif record.confirmed.get(week) != digest:
                left += 1
    return {"replays_failed": failed, "unreplayed": left}


def _outdated(plan: StrategyPlan, week: str, checker: CurrencyChecker) -> tuple[str, ...]:
    told = []
    for stage in STAGES:
        asset = plan.asset(stage)
        # What was never made is missing, not old.
        if checker.footer(asset, week) is not None and not checker.is_current(asset, week).is_current:
            told.append(asset)
    return tuple(told)


def age_weeks(week: str, now: datetime, *, end: date | None) -> float:
    """Weeks since the Sunday of a week, until the end of a market that has one."""
    until = min(now.date(), end or now.date())
    return max((until - parse_key(week)).days / 7.0, 0.0)


def _probability(own: Returns, other: Returns, sessions_per_year: float) -> float:
    shared = sorted({*own} & {*other})
    one, two = (np.array([each[day] for day in shared]) for each in (own, other))
    return probability_of_higher_sharpe(one, two, sessions_per_year=sessions_per_year)


def _daily(curve: pl.DataFrame) -> Returns:
    found = session_returns(curve, {})
    return {} if found is None else dict(zip(*found, strict=True))


def _share_above_zero(values: pl.Series) -> float | None:
    known = values.drop_nulls().drop_nans()
    return float((known > 0.0).mean()) if len(known) else None  # type: ignore[arg-type]


def _attached(store: PartitionStore, footer: Footer, name: str) -> pl.DataFrame | None:
    """A table beside a partition; None where an earlier version made none."""
    if name not in footer.attachments:
        return None
    return pl.read_parquet(io.BytesIO(store.read_attachment(footer, name)))
