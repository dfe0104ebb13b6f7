"""Strategy: one YAML file gives a chain of assets from training matrix to signals, with its schedule and checks.

Lives here: the YAML of a strategy and the definitions made of it. Does not live here: the assets' bodies
(`strategy_stages`), and maths (`research`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import dagster as dg
from pydantic import BaseModel, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from hf_pipelines.components.asset_facts import owners_field
from hf_pipelines.components.automation.retraining import retrain_job, retrain_schedule
from hf_pipelines.components.automation.strategy_sensor import following_sensor, signals_job
from hf_pipelines.components.diagnostics_fields import DiagnosticsSpec
from hf_pipelines.components.drift_fields import DriftSpec
from hf_pipelines.components.extras import require_extra
from hf_pipelines.components.gate_fields import GatesSpec
from hf_pipelines.components.interval_fields import IntervalsSpec
from hf_pipelines.components.leaderboard_fields import LeaderboardSpec, plan_leaderboard, plan_learner
from hf_pipelines.components.learner_rules import (
    refuser_of_unknown,
    require_horizons,
    require_unseen_labels,
    tasks_in_words,
)
from hf_pipelines.components.market_fields import NAME_PATTERN, checked_name, require_dates
from hf_pipelines.components.market_stages import MarketPlan, code_versions
from hf_pipelines.components.modules import register_modules
from hf_pipelines.components.rollout_fields import RolloutSpec
from hf_pipelines.components.scaffolders import StrategyScaffolder
from hf_pipelines.components.setting_values import SettingOverride
from hf_pipelines.components.signal_rules import require_columns, require_direction, require_target_params
from hf_pipelines.components.stage_asset import build_asset, build_currency_check
from hf_pipelines.components.strategy_fields import (
    BacktestSpec,
    CrossValidationSpec,
    HoldoutSpec,
    LearnerSpec,
    SignalSpec,
    TargetSpec,
    TrainingSpec,
)
from hf_pipelines.components.strategy_market import buildable, market_of
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.backtest_plan import BacktestPlan
from hf_pipelines.components.strategy_stages.leaderboard_plan import LeaderboardPlan
from hf_pipelines.components.strategy_stages.plan import LearnerPlan, RulePlan, StrategyPlan
from hf_pipelines.components.strategy_stages.promotion import build_promotion
from hf_pipelines.components.strategy_stages.start import require_nothing_before, week_of_start
from hf_pipelines.components.strategy_stages.sweep_plan import SweepPlan
from hf_pipelines.components.strategy_stages.trials_check import build_trials_check
from hf_pipelines.components.strategy_stages.tuning_plan import TuningPlan
from hf_pipelines.components.strategy_window import misfits
from hf_pipelines.components.sweep_fields import SweepSpec, plan_sweep
from hf_pipelines.components.tuning_fields import TuningSpec, plan_tuning
from hf_pipelines.components.yaml_components import component_of
from hf_pipelines.components.yaml_lines import line_of
from hf_pipelines.components.yaml_schema import YamlSchema
from hf_pipelines.research.backtest import ENGINES, asked_of_engine, require_capable, require_engine
from hf_pipelines.research.features.registry import names_by_group
from hf_pipelines.research.learners import ALIASES, LEARNERS, Task
from hf_pipelines.research.signals import ALIASES as RULE_ALIASES
from hf_pipelines.research.signals import RULES, fill_rule_params, rule_name
from hf_pipelines.research.splitters import SPLITTERS
from hf_pipelines.research.targets import TARGETS
from hf_pipelines.research.weights import require_weighable
from hf_pipelines.resources.footer import SIGNALS
from hf_pipelines.resources.parquet_io_manager import open_store
from hf_pipelines.resources.ranges import ranged


@dg.scaffold_with(StrategyScaffolder)
class Strategy(YamlSchema, dg.Component, dg.Model, dg.Resolvable):
    """From features to signals, by one YAML file."""

    name: str = Field(description="Name of the component's folder, first part of its asset keys, and its group.")
    description: str = Field(default="", description="A sentence for people.")
    market: str = Field(description="Folder name below `defs/markets`.")
    modules: Sequence[str] = Field(
        default_factory=list,
        description="Importable modules with entries of your own, in tables named like the registries: `LEARNERS`, `RULES`...",
    )
    features: Sequence[str] = Field(
        description="Groups (`technical`) or single features (`technical/rsi_14`) of the market; `-technical/rsi_14` leaves one out."
    )
    target: TargetSpec = Field(description="What is predicted.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="Which rows a model is trained on.")
    # Dagster's own reading would refuse the parameters of one splitter that stand beside `type`.
    cross_validation: Annotated[
        CrossValidationSpec,
        dg.Resolver(lambda context, given: CrossValidationSpec.model_validate(given), model_field_type=dict),
    ] = Field(default_factory=CrossValidationSpec, description="How folds are made.")
    diagnostics: DiagnosticsSpec = Field(
        default_factory=DiagnosticsSpec, description="Further fits of cross-validation; none by default."
    )
    learner: LearnerSpec = Field(description="What is fitted.")
    intervals: IntervalsSpec | None = Field(default=None, description="Bounds of predictions with a known coverage.")
    tuning: TuningSpec | None = Field(
        default=None, description="A study of each week, whose best `cv_results` and `fitted_model` take."
    )
    leaderboard: LeaderboardSpec | None = Field(
        default=None, description="Candidates compared each week on the same folds, ranked and held to the baselines."
    )
    sweep: SweepSpec | None = Field(
        default=None,
        description="Settings of rule, sizing and costs that are tried each week on the stored predictions.",
    )
    signal: SignalSpec = Field(description="From predictions to target weights.")
    backtest: BacktestSpec = Field(
        default_factory=BacktestSpec, description="Engine, fills and costs of the simulated account."
    )
    # `from` is no name of Python's: Dagster's own reading knows no aliases.
    holdout: Annotated[
        HoldoutSpec | None,
        dg.Resolver(
            lambda context, given: None if given is None else HoldoutSpec.model_validate(given),
            model_field_type=dict | None,
        ),
    ] = Field(default=None, description="Weeks that no CV, backtest or choice of a model sees.")
    gates: GatesSpec | None = Field(
        default=None,
        description="What a configuration must show before it may be promoted; `{}` asks for every default. Left out: *ungated*, the week's "
        "model serves.",
    )
    rollout: RolloutSpec = Field(default_factory=RolloutSpec, description="How a challenger is given capital.")
    drift: DriftSpec = Field(default_factory=DriftSpec, description="How drift is judged, day by day.")
    max_model_age_weeks: int = Field(
        default=0,
        description="Weeks that a model may be old to make signals; 0 takes the model of the day's week only.",
    )
    track_record_weeks: int = Field(default=52, description="Trailing weeks that `track_record` looks at.")
    descends_from: Sequence[str] = Field(
        default_factory=list,
        description="Strategies that it was made from, be they gone: their trials count for it too.",
    )

    start: str | None = Field(
        default=None,
        description="A date, YYYY-MM-DD, whose whole week belongs to it: its weeks and days begin there; left out: with those of its market.",
    )
    owners: Sequence[str] = Field(default_factory=list, description="As of a market; left out: those of its market.")

    _overrides: tuple[SettingOverride, ...] = PrivateAttr(default=())

    _owners = owners_field()
    _age = ranged("max_model_age_weeks", low=0, high=520)
    _record = ranged("track_record_weeks", low=1, high=2_600)

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        return component_of(cls, context.path)

    @property
    def overrides(self) -> tuple[SettingOverride, ...]:
        """What the environment sets of it."""
        return self._overrides

    def take_overrides(self, overrides: Sequence[SettingOverride]) -> None:
        """Know what the environment has set in it already."""
        self._overrides = tuple(overrides)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return checked_name(name)

    @field_validator("descends_from")
    @classmethod
    def _check_descent(cls, names: Sequence[str], info: ValidationInfo) -> Sequence[str]:
        for each in names:
            if not re.fullmatch(NAME_PATTERN, each):
                raise ValueError(f"`descends_from` must name strategies ({NAME_PATTERN}), was {each[:80]!r}.")
        if info.data.get("name") in names:
            raise ValueError("`descends_from` must name other strategies, was the strategy itself; leave it out.")
        return names

    @field_validator("start")
    @classmethod
    def _check_start(cls, start: str | None) -> str | None:
        require_dates("start", [] if start is None else [start])
        return start

    @field_validator("modules")
    @classmethod
    def _register_modules(cls, modules: Sequence[str]) -> Sequence[str]:
        register_modules(modules, "modules")
        return modules

    @field_validator("features")
    @classmethod
    def _check_features(cls, features: Sequence[str]) -> Sequence[str]:
        if not features:
            raise ValueError("`features` must name at least one group or feature, was empty.")
        names_by_group(features)
        return features

    @field_validator("target")
    @classmethod
    def _check_target(cls, target: TargetSpec) -> TargetSpec:
        _require_known("target", target.type, TARGETS)
        try:
            target.build()
        except TypeError as e:
            raise ValueError(str(e)) from e
        return target

    @field_validator("cross_validation")
    @classmethod
    def _check_cross_validation(cls, spec: CrossValidationSpec) -> CrossValidationSpec:
        _require_known("cross_validation", spec.type, SPLITTERS)
        try:
            spec.plan()
        except TypeError as e:
            raise ValueError(str(e)) from e
        return spec

    @field_validator("learner")
    @classmethod
    def _check_learner(cls, learner: LearnerSpec) -> LearnerSpec:
        _require_known("learner", learner.type, {**LEARNERS, **ALIASES})
        try:
            learner.choice()
        except TypeError as e:
            raise ValueError(str(e)) from e
        return learner

    @field_validator("signal")
    @classmethod
    def _check_signal(cls, signal: SignalSpec) -> SignalSpec:
        _require_known("signal", signal.type, {**RULES, **RULE_ALIASES})
        _require_known(f"params of {signal.type}", list(signal.params), RULES[rule_name(signal.type)].params)
        try:
            # Of the rule by itself first: within a chain its parameters would have longer names.
            fill_rule_params(rule_name(signal.type), signal.params)
            fill_rule_params(signal.rule, signal.rule_params)
            require_extra("portfolio", f"`signal.type` {signal.type}", signal.needs.packages)
        except TypeError as e:
            raise ValueError(str(e)) from e
        return signal

    @field_validator("backtest")
    @classmethod
    def _check_backtest(cls, backtest: BacktestSpec) -> BacktestSpec:
        _require_known("engine", backtest.engine, ENGINES)
        require_engine(backtest.engine)
        return backtest

    @model_validator(mode="after")
    def _check_numbers(self) -> "Strategy":
        learner = self.learner.choice()
        task: Task = "classification" if self.target.build().is_classification else "regression"
        if task not in learner.tasks:
            raise ValueError(
                f"`learner` must fit the target {self.target.type!r}, was {self.learner.type!r} for "
                f"{tasks_in_words(learner)}."
            )
        if task == "classification" and learner.params.get("quantiles") and "quantiles" not in learner.outputs(task):
            raise ValueError(
                f"`quantiles` of learner {self.learner.type!r} must be left out for classes, was given with target "
                f"{self.target.type!r}; take a target of a return."
            )
        learner.require_target(self.target.build())
        require_horizons(learner, self.target.build())
        if self.intervals is not None:
            self.intervals.require_fitting(learner, self.target.build(), self.cross_validation.type)
        require_direction(self.signal, self.target)
        require_columns(self.signal, learner, self.target, named=self.learner.type)
        require_target_params(self.signal, self.target)
        asked = asked_of_engine(
            self.backtest.charged,
            self.backtest.execution,
            shorts=self.signal.needs.shorts,
            max_gross=self.signal.needs.max_gross,
        )
        require_capable(self.backtest.engine, asked)
        if self.training.missing == "keep" and not learner.handles_missing:
            able = ", ".join(name for name, entry in sorted(LEARNERS.items()) if entry.handles_missing)
            raise ValueError(
                f"`training.missing` must be drop for {refuser_of_unknown(learner)}, which takes no unknown features, was "
                f"keep; drop such rows, let its preprocessing begin with imputation, or take a learner that does ({able})."
            )
        require_unseen_labels(learner)
        self.training.require_readable(learner, self.diagnostics.plan(self.learner, self.target.build()))
        self.diagnostics.plan_importance(self.learner, self.target.build(), read=self.training.read)
        require_weighable(self.training.weightings, self.target.build())
        if self.training.weightings and not learner.takes_weights:
            raise ValueError(
                f"`training.weighting` must be none for learner {self.learner.type!r}, which reads no weights, was "
                f"{self.training.weighting}; leave it out, or take another learner."
            )
        self._plan_tuning(dict.fromkeys(names_by_group(self.features), ()))
        self._plan_leaderboard()
        self._plan_sweep(dict.fromkeys(names_by_group(self.features), ()))
        self._require_fed()
        return self

    def stored_yaml(self) -> dict[str, Any]:
        """The YAML with every default, by its own names, as a record of a promotion keeps it: `plan_of` makes the same of it."""
        return self.model_dump(mode="json", by_alias=True)

    def plan(self, market: MarketPlan) -> StrategyPlan:
        """Everything the assets' bodies need, in research's own types."""
        # A whole group is what the market stores of it.
        selected = {
            group: tuple(name for name in market.feature_groups[group] if name in names)
            for group, names in names_by_group(self.features).items()
        }
        return StrategyPlan(
            name=self.name,
            market=market,
            feature_names=selected,
            target=self.target.build(),
            training=self.training.plan(),
            splitter=self.cross_validation.plan(),
            diagnostics=self.diagnostics.plan(self.learner, self.target.build()),
            learner=self._plan_learner(),
            importance=self.diagnostics.plan_importance(self.learner, self.target.build(), read=self.training.read),
            rule=RulePlan(name=self.signal.rule, params=self.signal.of_target(self.target.build()).rule_params),
            backtest=BacktestPlan(
                engine=self.backtest.engine, execution=self.backtest.execution, costs=self.backtest.charged
            ),
            max_model_age_weeks=self.max_model_age_weeks,
            track_record_weeks=self.track_record_weeks,
            holdout=None if self.holdout is None else self.holdout.build(self.name, market),
            descends_from=tuple(self.descends_from),
            intervals=None if self.intervals is None else self.intervals.choice(),
            tuning=self._plan_tuning(selected),
            leaderboard=self._plan_leaderboard(),
            sweep=self._plan_sweep(selected),
            drift=self.drift.plan(),
            description=self.description,
            start=week_of_start(self.start, market),
            gates=None if self.gates is None else self.gates.thresholds(),
            refit_margin=0.0 if self.gates is None else self.gates.refit_margin,
            plan_of=lambda yaml: Strategy.model_validate(buildable(yaml, market, self.modules)).plan(market),
            overrides={each.field: each.value for each in self._overrides},
        )

    def _plan_tuning(self, features: Mapping[str, Sequence[str]]) -> TuningPlan | None:
        target, splitter, beside = self.target.build(), self.cross_validation.plan(), (self.training, self.diagnostics)
        parts = (self.tuning, self.learner, self.signal.of_target(target))
        return plan_tuning(*parts, features=features, target=target, splitter=splitter, beside=beside)

    def _plan_sweep(self, features: Mapping[str, Sequence[str]]) -> SweepPlan | None:
        parts = (self.sweep, self.learner, self.signal, self.backtest)
        return plan_sweep(*parts, features=features, target=self.target.build())

    def _plan_leaderboard(self) -> LeaderboardPlan | None:
        target, splitter = self.target.build(), self.cross_validation.plan()
        return plan_leaderboard(
            self.leaderboard, self.learner, target=target, splitter=splitter, training=self.training
        )

    def _plan_learner(self) -> LearnerPlan:
        target, splitter = self.target.build(), self.cross_validation.plan()
        return plan_learner(self.leaderboard, self.learner, target=target, splitter=splitter, training=self.training)

    def _require_fed(self) -> None:
        """Refuse a leaderboard that feeds the model beside what looks at the one learner that is written."""
        learner = self._plan_learner().choice
        if self.leaderboard is None or self.leaderboard.feeds is None:
            return
        beside = {"tuning": self.tuning, "diagnostics.validation_curve": self.diagnostics.validation_curve}
        if given := [name for name, each in beside.items() if each is not None]:
            raise ValueError(
                f"`leaderboard.feeds` must be left out beside `{given[0]}`, which changes the parameters of one learner, was given; leave one "
                "of them out."
            )
        require_columns(self.signal, learner, self.target, named=self.learner.type)
        if self.intervals is not None:
            self.intervals.require_fitting(learner, self.target.build(), self.cross_validation.type)

    def checked_plan(self, context: dg.ComponentLoadContext, *, is_widened: bool = False) -> StrategyPlan:
        """Its plan, with all that its market and its weeks can refuse refused.

        Parameters
        ----------
        is_widened : bool
            Whether features that are registered and that the market does not store are taken all the same.

        Raises
        ------
        ValueError
            With file and line.
        """
        plan = self.plan(market_of(self, context, is_widened=is_widened))
        for field, fault in misfits(plan):
            raise ValueError(f"{line_of(context.path, field)}: {fault}")
        return plan

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        plan = self.checked_plan(context)
        if plan.start is not None:
            self._require_kept(plan, context)
        market = plan.market
        stages = build_stages(plan)
        versions = {**code_versions(market), **{stage.asset: stage.code_version for stage in stages}}
        issues = [stage.asset for stage in stages if stage.kind == SIGNALS]
        checks = [build_currency_check(stage, versions, issues) for stage in stages]
        retrain, issue, owners = retrain_job(plan), signals_job(plan), self.owners or market.owners
        return dg.Definitions(
            assets=[
                *(build_asset(each, owners=owners, tags=plan.tags) for each in stages),
                build_promotion(plan, owners=owners, yaml=self.stored_yaml(), versions=versions, issues=issues),
            ],
            asset_checks=[*checks, build_trials_check(plan)],
            jobs=[retrain, issue],
            schedules=[retrain_schedule(plan, retrain)],
            sensors=[following_sensor(plan, retrain, issue)],
        )

    def _require_kept(self, plan: StrategyPlan, context: dg.ComponentLoadContext) -> None:
        """Refuse a start after what is stored. Of a store behind a network its runs are refused instead: definitions load without one."""
        store = open_store()
        try:
            if not store.objects.is_remote:
                require_nothing_before(plan, store)
        except ValueError as e:
            raise ValueError(f"{line_of(context.path, 'start')}: {e}") from e


def _require_known(field: str, names: str | list[str], registry: Mapping[str, Any]) -> None:
    if unknown := sorted({*([names] if isinstance(names, str) else names)} - set(registry)):
        raise ValueError(f"`{field}` must be among {', '.join(sorted(registry))}, was {', '.join(unknown[:5])}.")
