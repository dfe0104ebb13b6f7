"""Strategy plan: a strategy in research's own types, and what its stages share.

Lives here: `StrategyPlan` and the few calls that several stages make. Does not live here: the YAML (`strategy`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.market_stages.feature_inputs import weeks_of_bars
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import StageInput, window
from hf_pipelines.components.strategy_stages.backtest_plan import BacktestPlan
from hf_pipelines.components.strategy_stages.drift_plan import DriftPlan
from hf_pipelines.components.strategy_stages.leaderboard_plan import LeaderboardPlan
from hf_pipelines.components.strategy_stages.sweep_plan import SweepPlan
from hf_pipelines.components.strategy_stages.tuning_plan import SplitterPlan, TuningPlan
from hf_pipelines.partitions import parse_key, shift_week, week_key, week_start
from hf_pipelines.research.backtest import ENGINES, BacktestResult
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.batched_matrix import BatchedMatrix
from hf_pipelines.research.explanations.importance import Importance
from hf_pipelines.research.intervals import ChosenIntervals
from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.matrix import RESERVED_COLUMNS
from hf_pipelines.research.overfitting import Diagnostics
from hf_pipelines.research.promotion import Threshold
from hf_pipelines.research.signals import (
    RuleNeeds,
    apply_rule,
    explain_rule,
    rule_functions,
    rule_needs,
    window_sessions,
    zero_reasons,
)
from hf_pipelines.research.targets import Target
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines.research.weights import NONE, WEIGHTINGS, Weightings
from hf_pipelines.resources.holdout import Holdout
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Stored


@dataclass(frozen=True)
class TrainingPlan:
    """Which rows a model is trained on."""

    weeks: int
    minimum_rows: int
    weightings: Weightings
    missing: str
    read: str = "whole"

    @property
    def weighting_functions(self) -> tuple[Callable[..., Any], ...]:
        """The functions of its weightings; for code versions."""
        return tuple(WEIGHTINGS[each.name].weigh for each in self.weightings)

    @property
    def weighting_fields(self) -> str | list[list[Any]]:
        """The weightings as they enter code versions: by its name alone if that says it all."""
        if not self.weightings:
            return NONE
        if len(self.weightings) == 1 and not self.weightings[0].params:
            return self.weightings[0].name
        return [[each.name, dict(each.params)] for each in self.weightings]


@dataclass(frozen=True)
class LearnerPlan:
    """A learner with its preprocessing and calibration, the seed of its fits, and the share of validation rows."""

    choice: LearnerChoice
    seed: int
    validation_share: float


@dataclass(frozen=True)
class RulePlan:
    """A key of `RULES` and the parameters that differ from its defaults."""

    name: str
    params: Mapping[str, Any]

    @property
    def needs(self) -> RuleNeeds:
        return rule_needs(self.name, self.params)

    @property
    def functions(self) -> tuple[Any, ...]:
        return rule_functions(self.name, self.params)


@dataclass(frozen=True)
class StrategyPlan:
    """A strategy in research's own types, one part for each of its YAML; made by `Strategy.plan`. `overrides` are values of fields that the environment has set, and that are in all other parts already; `start` is the Sunday of its first
    week, None for that of its market; `gates` are thresholds by the names of `GATES`, None of a strategy without gates; `refit_margin` is how
    far the score of a champion's refit may fall; `plan_of` makes the plan of another resolved YAML.
    """

    name: str
    market: MarketPlan
    feature_names: Mapping[str, tuple[str, ...]]
    target: Target
    training: TrainingPlan
    splitter: SplitterPlan
    diagnostics: Diagnostics
    learner: LearnerPlan
    rule: RulePlan
    backtest: BacktestPlan
    max_model_age_weeks: int
    track_record_weeks: int
    holdout: Holdout | None = None
    descends_from: tuple[str, ...] = ()
    intervals: ChosenIntervals | None = None
    description: str = ""
    importance: Importance | None = None
    tuning: TuningPlan | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    leaderboard: LeaderboardPlan | None = None
    sweep: SweepPlan | None = None
    drift: DriftPlan = DriftPlan()
    start: date | None = None
    gates: Mapping[str, Threshold] | None = None
    refit_margin: float = 0.0
    plan_of: "Callable[[Mapping[str, Any]], StrategyPlan] | None" = field(default=None, compare=False, repr=False)

    @property
    def first_week(self) -> date:
        """Sunday of the first week that it has partitions of."""
        return self.start or self.market.partitions.first_week

    @cached_property
    def weekly(self) -> dg.WeeklyPartitionsDefinition:
        """Its weeks: those of its market, from its own start on."""
        return self.market.partitions.weekly_from(self.first_week)

    @cached_property
    def daily(self) -> dg.TimeWindowPartitionsDefinition:
        """Days of its signals: those of its market, from its own start on."""
        return self.market.partitions.daily_from(self.first_week)

    @property
    def first_trainable_week(self) -> str:
        """The first week with as many weeks of the market before it as a model is trained on."""
        return shift_week(week_key(self.market.partitions.first_week), self.training.weeks)

    @property
    def begins_too_early(self) -> bool:
        """Whether some of its weeks can never be made, and a later start would leave them out."""
        first = self.first_trainable_week
        return parse_key(first) > self.first_week and self.market.partitions.has_week(first)

    @property
    def base(self) -> Configuration:
        """What a study's points change."""
        return Configuration(self.learner.choice, self.feature_names, self.rule.params)

    def tuned(self, point: Mapping[str, Any]) -> "StrategyPlan":
        """The strategy at a point of its space, as if it had been written so.

        Raises
        ------
        ValueError
            If the point is none of this strategy.
        """
        at = self.base.at(point)
        return replace(
            self,
            learner=replace(self.learner, choice=at.learner),
            feature_names=at.features,
            rule=replace(self.rule, params=at.rule),
            tuning=None,
        )

    @property
    def asks_for_diagnostics(self) -> bool:
        """Whether cross-validation makes more fits than its own."""
        asked = self.diagnostics
        return bool(asked.permutations or asked.train_shares or asked.candidates)

    @property
    def history_weeks(self) -> int:
        """Weeks of bars before those of the training rows that labels look back on."""
        n_bars = self.target.needs.history_bars
        return weeks_of_bars(self.market, n_bars) if n_bars else 0

    def asset(self, stage: str) -> str:
        return f"{self.name}/{stage}"

    @property
    def tags(self) -> dict[str, str]:
        """What the catalogue's search finds all its assets by."""
        return {"market": self.market.name, "learner": self.learner.choice.name, "target": self.target.name}

    @property
    def all_features(self) -> list[str]:
        return [name for names in self.feature_names.values() for name in names]

    def bar_times(self, sessions: pl.Series) -> pl.Series | None:
        """When bars should have ended from the first of some sessions to the last: None for a learner that does not look back."""
        if not self.learner.choice.history_bars or sessions.is_empty():
            return None
        partitions = self.market.partitions
        days = partitions.sessions_between(sessions.min(), sessions.max())  # type: ignore[arg-type]
        return self.market.bar_grid.ends({day: partitions.hours[day] for day in days})["ts"]

    @property
    def history_functions(self) -> tuple[Any, ...]:
        """What numbers the bars that a learner looks back on; for code versions."""
        return (type(self.market.bar_grid),) if self.learner.choice.history_bars else ()

    @property
    def learner_weeks(self) -> int:
        """Weeks before a session that hold the bars which its predictions read."""
        n_bars = self.learner.choice.history_bars
        return weeks_of_bars(self.market, n_bars) if n_bars else 0

    @cached_property
    def memory_weeks(self) -> int:
        """Weeks before a session that hold the earlier sessions whose predictions the rule looks at."""
        sessions = self.market.partitions.sessions
        # A market may have fewer than the rule looks at: then all of them.
        needs = self.rule.needs
        n_sessions = min(needs.sessions, len(sessions))
        spans = zip(sessions, sessions[n_sessions - 1 :], strict=False)
        weeks = max(((week_start(last) - week_start(first)).days // 7 for first, last in spans), default=0)
        # Of the last week of a block: the rest of it, and the block before.
        return weeks + max(2 * needs.block_weeks - 1, 0)

    def selection_weeks(self, weeks: Sequence[str]) -> list[str]:
        """Those of some weeks that models may be trained on and chosen by: all but those of the hold-out."""
        return [*weeks] if self.holdout is None else self.holdout.before(weeks)

    def selection_window(self, stage_input: StageInput, key: str) -> list[str]:
        """Weeks of an input that a partition reads, without those of the hold-out."""
        return self.selection_weeks(window(self.market.partitions, stage_input, key))

    def cutoff(self, key: str) -> datetime:
        """The instant (UTC) before which labels of a week's training rows end."""
        begins = self.market.partitions.week_begin(key)
        return begins if self.holdout is None else min(begins, self.holdout.begins)

    @property
    def rule_weeks(self) -> int:
        """Weeks before a session that hold the bars which the rule looks back on."""
        n_bars = self.rule.needs.history_bars
        return weeks_of_bars(self.market, n_bars) if n_bars else 0

    @property
    def issue_bars_weeks(self) -> int:
        """Weeks before a session whose bars its issue reads: those that the rule looks back on from the first decision that it replays."""
        return (
            self.rule_weeks + self.memory_weeks if self.rule_weeks and self.rule.needs.block_weeks else self.rule_weeks
        )

    def decided_sessions(self, session: date) -> list[date]:
        """Sessions whose predictions the weights of one depend on, itself the last; none that no model can serve."""
        first = max(parse_key(self.first_trainable_week), self.first_week)
        needs = self.rule.needs
        until = window_sessions(
            self.market.partitions.sessions, session, n_sessions=needs.sessions, block_weeks=needs.block_weeks
        )
        return [day for day in until if day >= first or day == session]

    @property
    def decided_horizon(self) -> int | None:
        """Of a target with several horizons the one whose prediction an issue is decided by: the learner's first."""
        return self.learner.choice.horizons("regression")[0] if self.target.horizons else None

    def weigh(self, predictions: pl.DataFrame, *, bars: pl.DataFrame | None = None) -> pl.DataFrame:
        """Weights of predictions by the rule, with what it needs of the market."""
        return apply_rule(
            predictions, rule=self.rule.name, params=self.rule.params, **self.known_to_rule(predictions, bars)
        )

    def zero_reasons(
        self, predictions: pl.DataFrame, weights: pl.DataFrame, *, bars: pl.DataFrame | None = None
    ) -> pl.DataFrame:
        """Why members have weight 0 in the last session of `weights`, which `weigh` made of the same predictions and bars."""
        known = self.known_to_rule(predictions, bars)
        return zero_reasons(predictions, weights, rule=self.rule.name, params=self.rule.params, **known)

    def explain(self, predictions: pl.DataFrame, *, bars: pl.DataFrame | None = None) -> dict[str, str]:
        """What the rule made of predictions, as metadata; nothing of a rule that has nothing to tell."""
        told = explain_rule(
            predictions, rule=self.rule.name, params=self.rule.params, **self.known_to_rule(predictions, bars)
        )
        return {"rule": told} if told else {}

    def known_to_rule(self, predictions: pl.DataFrame, bars: pl.DataFrame | None) -> dict[str, Any]:
        """What the rule may know beside predictions."""
        held = predictions["session"].unique().sort().to_list()
        return {
            "sessions": self.market.partitions.sessions_between(held[0], held[-1]) if held else [],
            "sectors": self.market.universe.sectors,
            "bars": bars,
        }

    @property
    def reads_in_batches(self) -> bool:
        """Whether features of the matrix are read in batches, to fit and to cross-validate."""
        return self.training.read == "batches"

    def matrix_input(self, name: str, **options: Any) -> StageInput:
        """A matrix as its readers take it."""
        whole = RESERVED_COLUMNS if self.reads_in_batches else ()
        return StageInput(name, self.asset(name), guards=("replay",), whole_columns=whole, **options)

    @property
    def batch_functions(self) -> tuple[Callable[..., Any], ...]:
        """What fits rows that are read in batches; for code versions."""
        entry = self.learner.choice.entry
        own = (entry.fit_batches, entry.check_batches) if self.reads_in_batches else ()
        return tuple(each for each in own if each is not None)

    def feature_inputs(self, first_week: int, last_week: int, *, offsets_a_week: int = 1) -> tuple[StageInput, ...]:
        return tuple(
            StageInput(
                f"features_{group}",
                self.market.features_asset(group),
                first_week=first_week,
                last_week=last_week,
                guards=("replay",),
                is_optional=True,
                fails_alone=True,
                offsets_a_week=offsets_a_week,
            )
            for group in self.feature_names
        )

    def bars_input(self, first_week: int, last_week: int) -> StageInput:
        return StageInput(
            "bars",
            self.market.bars_asset,
            first_week=first_week,
            last_week=last_week,
            is_optional=True,
            fails_alone=True,
        )


def feature_frames(plan: StrategyPlan, inputs: Mapping[str, Loaded], weeks: Sequence[str]) -> list[pl.DataFrame]:
    return [
        inputs[f"features_{group}"].frame(weeks, columns=[*KEY_COLUMNS, *names])
        for group, names in plan.feature_names.items()
    ]


def single(loaded: Loaded, key: str) -> Stored:
    loaded.require([key])
    return loaded.parts[key]


def matrix_of(loaded: Loaded, key: str) -> pl.DataFrame | BatchedMatrix:
    """A stored matrix, its features in memory or read in batches."""
    stored = single(loaded, key)
    if stored.batched is None:
        return stored.frame
    return BatchedMatrix(stored.frame, stored.batched.names, stored.batched.read)


def learner_fields(plan: StrategyPlan) -> dict[str, Any]:
    learner = plan.learner
    shares = {"validation_share": learner.validation_share} if learner.choice.needs_validation else {}
    return {"learner": [learner.choice.settings(), learner.seed], **shares}


def holdout_fields(plan: StrategyPlan) -> dict[str, Any]:
    """For the code versions of what is made without a hold-out."""
    return {} if plan.holdout is None else {"holdout": plan.holdout.week}


def trading_fields(plan: StrategyPlan) -> dict[str, Any]:
    return {
        "engine": [plan.backtest.engine, str(plan.backtest.execution)],
        "costs": str(plan.backtest.costs),
        "periods_per_year": plan.market.bars_per_year,
    }


def trade(plan: StrategyPlan, weights: pl.DataFrame, bars: pl.DataFrame) -> BacktestResult:
    backtest = plan.backtest
    return ENGINES[backtest.engine].run(
        weights, bars, backtest.costs, backtest.execution, periods_per_year=plan.market.bars_per_year
    )
