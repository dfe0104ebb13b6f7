"""Fields of a strategy's YAML: the parts of its file, each with the names and ranges that it may hold.

Lives here: the form of the parts, and what each makes of itself in research's own types. Does not live here: what they
must be together, and the assets (`strategy`).
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Literal

import dagster as dg
from pydantic import Field, field_validator, model_validator

from hf_pipelines.components.extras import require_installed
from hf_pipelines.components.market_fields import require_dates
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.strategy_stages.plan import LearnerPlan, TrainingPlan
from hf_pipelines.components.strategy_stages.tuning_plan import SplitterPlan
from hf_pipelines.partitions import parse_key, week_key, week_start
from hf_pipelines.research.backtest import Execution, Fill
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.learners import LearnerChoice, choose_learner
from hf_pipelines.research.overfitting import Diagnostics
from hf_pipelines.research.signals import RuleNeeds, rule_name, rule_needs
from hf_pipelines.research.signals.sizing import OUTCOMES, TARGET
from hf_pipelines.research.splitters import DEFAULT_SPLITTER, SPLITTERS, build_splitter, fill_splitter_params
from hf_pipelines.research.targets import Target, build_target
from hf_pipelines.research.targets.widths import fixed_levels, target_widths
from hf_pipelines.research.validation_rows import VALIDATION_SHARE
from hf_pipelines.research.weights import NONE, Weightings, choose_weightings
from hf_pipelines.resources.holdout import Holdout
from hf_pipelines.resources.ranges import ranged


class TargetSpec(dg.Model, dg.Resolvable):
    """What is predicted: a key of TARGETS, its horizon where it has one, and its other parameters."""

    type: str = Field(description="What is predicted: a key of TARGETS.")
    horizon_bars: int | None = Field(
        default=None, description="Bars that a label looks ahead, where the target has one horizon."
    )
    params: Mapping[str, Any] = Field(default_factory=dict, description="Other parameters of the target.")

    # A week of minutes around the clock.
    _horizon = ranged("horizon_bars", low=1, high=10_080)

    def build(self) -> Target:
        return build_target(self.type, horizon_bars=self.horizon_bars, params=self.params)


class TrainingSpec(dg.Model, dg.Resolvable):
    """Which rows a model is trained on: the trailing weeks, how they are weighted, and those with unknown features."""

    weeks: int = Field(default=156, description="Weeks before the week that a model serves; it is trained on these.")
    minimum_rows: int = Field(default=250, description="Rows below which a week's matrix is refused.")
    weighting: Any = Field(
        default=NONE,
        description="Weights of the rows: none, a key of WEIGHTINGS, its `type` and `params`, or a list of these.",
    )
    missing: Literal["drop", "keep"] = Field(
        default="drop", description="Rows with an unknown feature are dropped, or kept for learners that take NaN."
    )
    read: Literal["whole", "batches"] = Field(
        default="whole",
        description="Features of the matrix all in memory, or read in batches: the same results, for learners that can.",
    )

    _weeks = ranged("weeks", low=1, high=2_600)
    _rows = ranged("minimum_rows", low=1, high=1_000_000_000)

    @field_validator("weighting")
    @classmethod
    def _check_weighting(cls, weighting: Any) -> Any:
        try:
            choose_weightings(weighting)
        except TypeError as e:
            raise ValueError(str(e)) from e
        return weighting

    @property
    def weightings(self) -> Weightings:
        return choose_weightings(self.weighting)

    def require_readable(self, learner: LearnerChoice, diagnostics: Diagnostics) -> None:
        """Refuse what needs all features in memory where they are read in batches.

        Raises
        ------
        ValueError
        """
        if self.read == "whole":
            return
        try:
            learner.check_batches()
        except ValueError as e:
            raise ValueError(f"`training.read` must be whole for this learner, was batches: {e}") from e
        if diagnostics.permutations or diagnostics.train_shares or diagnostics.candidates:
            raise ValueError(
                "`training.read` must be whole for `diagnostics`, whose fits need all features in memory, was batches; leave these "
                "out, or read the matrix whole."
            )

    def plan(self) -> TrainingPlan:
        return TrainingPlan(self.weeks, self.minimum_rows, self.weightings, self.missing, self.read)


class HoldoutSpec(dg.Model):
    """The weeks that CV and the choice of models do not see: the last ones of the market's data, or all from a date on.

    `weeks` are counted back from the market's `end`, a date of its YAML: where there is none the hold-out would move with every
    week, and what was held out last week would be trained on today.
    """

    weeks: int | None = Field(default=None, description="Weeks before the market's `end`; or give `from`.")
    from_: str | None = Field(
        default=None,
        alias="from",
        description="A date, YYYY-MM-DD; its whole week belongs to the hold-out. Or give `weeks`.",
    )

    looks: int = Field(
        default=3, description="How often it may be looked at (`hfp holdout STRATEGY --reason ...`), ever."
    )

    _weeks = ranged("weeks", low=1, high=2_600)
    _looks = ranged("looks", low=0, high=1_000)

    @field_validator("from_")
    @classmethod
    def _check_date(cls, day: str | None) -> str | None:
        if day is not None:
            require_dates("from", [day])
        return day

    @model_validator(mode="after")
    def _take_one(self) -> "HoldoutSpec":
        if (self.weeks is None) == (self.from_ is None):
            given = "neither" if self.weeks is None else f"both, {self.weeks} and {self.from_}"
            raise ValueError(f"`holdout` must give `weeks` or `from` (a date), was {given}; give one of them.")
        return self

    def build(self, strategy: str, market: MarketPlan) -> Holdout:
        """Where it begins for a market.

        Raises
        ------
        ValueError
            If it does not begin within the data, after their first week.
        """
        partitions = market.partitions
        if self.from_ is not None:
            field, given, sunday = "from", self.from_, week_start(parse_key(self.from_))
        elif partitions.end_sunday is not None:
            field, given, sunday = "weeks", str(self.weeks), partitions.end_sunday - timedelta(weeks=self.weeks or 0)
        else:
            fixed = week_start(date.today()) - timedelta(weeks=self.weeks or 0)
            raise ValueError(
                f"`weeks` must be counted back from the `end` of market {market.name}, was {self.weeks} where it has none; fix the "
                f"date, so that it does not move with every week: holdout: {{from: {fixed}}}"
            )
        last = partitions.end or partitions.sessions[-1]
        if not partitions.first_week < sunday <= last:
            raise ValueError(
                f"`{field}` must leave weeks of market {market.name}, {partitions.start} to {last}, on both sides of the hold-out, "
                f"was {given}; take {'a date between them' if field == 'from' else 'fewer'}."
            )
        key = week_key(sunday)
        return Holdout(strategy, key, partitions.week_begin(key), market.name, self.looks)


class CrossValidationSpec(dg.Model, dg.Resolvable):
    """A key of SPLITTERS and its parameters, below `params` or beside `type`."""

    type: str = Field(default=DEFAULT_SPLITTER, description="How folds are made: a key of SPLITTERS.")
    params: Mapping[str, Any] = Field(
        default_factory=dict, description="Parameters of the splitter; they may stand beside `type`."
    )
    n_splits: int | None = Field(default=None, description="Number of folds.")
    test_sessions: int | None = Field(default=None, description="Sessions that a fold is tested on.")
    step_sessions: int | None = Field(
        default=None, description="Sessions from the start of one test block to the next."
    )
    min_train_sessions: int | None = Field(
        default=None, description="Sessions that the first fold is trained on, at least."
    )
    max_train_sessions: int | None = Field(
        default=None, description="Sessions that a fold is trained on, at most: the latest."
    )
    embargo_sessions: int | None = Field(
        default=None, description="Sessions beside a test block that are not trained on."
    )

    _splits = ranged("n_splits", low=1, high=1_000)
    _sessions = ranged("test_sessions", "step_sessions", "min_train_sessions", "max_train_sessions", low=1, high=15_000)
    _embargo = ranged("embargo_sessions", low=0, high=1_000)

    @model_validator(mode="before")
    @classmethod
    def _take_what_stands_beside(cls, given: Any) -> Any:
        """Fields are the parameters that many splitters share; those of one alone may stand beside `type` too."""
        below = given.get("params", {}) if isinstance(given, Mapping) else None
        kind = SPLITTERS.get(str(given.get("type", DEFAULT_SPLITTER))) if isinstance(given, Mapping) else None
        if kind is None or not isinstance(below, Mapping):
            return given
        beside = {name: given[name] for name in given if name in kind.params and name not in cls.model_fields}
        if twice := sorted({*beside} & {*below}):
            raise ValueError(_given_twice(twice))
        return {**{name: given[name] for name in given if name not in beside}, "params": {**below, **beside}}

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that differ from the splitter's defaults."""
        beside = self.model_dump(exclude={"type", "params"}, exclude_none=True)
        if twice := sorted({*beside} & {*self.params}):
            raise ValueError(_given_twice(twice))
        return {**beside, **self.params}

    def plan(self) -> SplitterPlan:
        """What it names, checked.

        Raises
        ------
        TypeError, ValueError
            If it makes no splitter.
        """
        build_splitter(self.type, self.given)
        return SplitterPlan(self.type, fill_splitter_params(self.type, self.given))


def _given_twice(names: Sequence[str]) -> str:
    return f"`cross_validation` must give a parameter once, was given {', '.join(names)} twice."


class LearnerSpec(dg.Model, dg.Resolvable):
    """A key of LEARNERS with its hyper-parameters, its preprocessing and calibration, and the seed of its fits."""

    type: str = Field(description="What is fitted: a key of LEARNERS.")
    params: Mapping[str, Any] = Field(
        default_factory=dict, description="Hyper-parameters that differ from the defaults."
    )
    preprocessing: Sequence[Any] = Field(
        default_factory=list,
        description="Keys of PREPROCESSING, or `type` and `params` of each, in the order of application.",
    )
    calibration: Any = Field(
        default=None, description="Calibration of probabilities: a key of CALIBRATIONS, or its `type` and `params`."
    )
    seed: int = Field(default=0, description="Seed of every fit.")
    validation_share: float = Field(
        default=VALIDATION_SHARE,
        description="Share of the training sessions, the latest, set apart for learners that need validation rows.",
    )

    # XGBoost keeps 32 bits.
    _seed = ranged("seed", low=0, high=2**31 - 1)
    _share = ranged("validation_share", low=0.01, high=0.5)

    def with_params(self, params: Mapping[str, Any]) -> "LearnerSpec":
        """The same with other values of some parameters."""
        return self.model_copy(update={"params": {**self.params, **params}})

    def plan(self) -> LearnerPlan:
        return LearnerPlan(self.choice(), self.seed, self.validation_share)

    def choice(self) -> LearnerChoice:
        """What it names, checked."""
        found = choose_learner(self.type, self.params, preprocessing=self.preprocessing, calibration=self.calibration)
        require_installed(found)
        return found


class SignalSpec(dg.Model, dg.Resolvable):
    """A key of RULES, or an alias of one, and its parameters."""

    type: str = Field(description="From predictions to target weights: a key of RULES.")
    params: Mapping[str, Any] = Field(
        default_factory=dict, description="Parameters of the rule that differ from the defaults."
    )
    sizing: Sequence[Any] = Field(
        default_factory=list,
        description="Keys of SIZINGS, or `type` and `params` of each: what sizes the positions of the rule, in this order.",
    )
    limits: Sequence[Any] = Field(
        default_factory=list,
        description="Keys of LIMITS, or `type` and `params` of each: what the book keeps, in the order that the guide states.",
    )
    memory_weeks: int = Field(
        default=4,
        description="Weeks of a block: limits that look at what was held replay it from the block before that of the decision.",
    )

    _memory = ranged("memory_weeks", low=1, high=52)

    @property
    def rule(self) -> str:
        """Key in RULES of what weighs: the rule, or the chain of it with sizing and limits."""
        return "chain" if self.sizing or self.limits else rule_name(self.type)

    @property
    def rule_params(self) -> dict[str, Any]:
        """The parameters of `rule` that differ from its defaults."""
        if not (self.sizing or self.limits):
            return dict(self.params)
        return {
            "rule": {"type": rule_name(self.type), "params": dict(self.params)},
            "sizing": [_step(each) for each in self.sizing],
            "limits": [_step(each) for each in self.limits],
            "memory_weeks": self.memory_weeks,
        }

    @property
    def needs(self) -> RuleNeeds:
        return rule_needs(self.rule, self.rule_params)

    def of_target(self, target: Target) -> "SignalSpec":
        """The same with the payoffs that Kelly takes from the widths of the target, written out.

        Raises
        ------
        ValueError
            If the target has none, or they are stated too.
        """
        return self.model_copy(update={"sizing": [_with_payoffs(each, target) for each in map(_step, self.sizing)]})


def _with_payoffs(step: Any, target: Target) -> Any:
    params = (step.get("params") if isinstance(step, Mapping) else None) or {}
    source = params.get("payoff_from")
    if source not in (TARGET, OUTCOMES):
        return step
    if stated := sorted({"payoff", "payoff_short", "horizon_bars", "upper", "lower"} & {*params}):
        raise ValueError(
            f"`signal.sizing` must leave {stated[0]} out where payoff_from is {source}, was with both; leave one of them out."
        )
    try:
        return {**step, "params": {**params, **_payoffs_of(source, target)}}
    except ValueError as e:
        raise ValueError(
            f"`signal.sizing` must have payoff_from stated for this target, was {source}: {e} Give `payoff` as a number instead."
        ) from e


def _payoffs_of(source: str, target: Target) -> dict[str, float]:
    if source == TARGET:
        up, down = target_widths(target)
        return {"payoff": up / down, "payoff_short": down / up}
    horizon, upper, lower = fixed_levels(target)
    return {"horizon_bars": horizon, "upper": upper, "lower": lower}


def _step(given: Any) -> Any:
    """A step with its parameters, so that a study finds them; what is none is refused elsewhere."""
    if isinstance(given, str):
        return {"type": given, "params": {}}
    return {"params": {}, **given} if isinstance(given, Mapping) else given


class BacktestSpec(dg.Model, dg.Resolvable):
    """Engine, fills, limits and costs of the simulated account; `Execution` says what each limit does."""

    engine: str = Field(default="reference", description="What simulates the account: a key of ENGINES.")
    fill: Fill = Field(default="next_open", description="Price at which a decision is filled: of the bar after it.")
    initial_cash_usd: float = Field(
        default=1_000_000.0, description="Cash that the account begins with, in US dollars."
    )
    fee_bps: float = Field(default=1.0, description="Commission in basis points of the traded notional.")
    slippage_bps: float = Field(default=2.0, description="Slippage in basis points of the traded notional.")
    borrow_bps_per_year: float = Field(
        default=0.0, description="Fee on borrowed shares, in basis points of their value a year."
    )
    costs: Sequence[Any] = Field(
        default_factory=list,
        description="Keys of COST_KINDS, or `type` and `params` of each: what is charged beside the flat costs.",
    )
    participation: float | None = Field(
        default=None,
        description="Share of a bar's volume that an order may fill; what is left waits. Left out: no limit.",
    )
    lot_size: float | None = Field(
        default=None, description="Shares are held in whole multiples of it; left out: in fractions."
    )
    cash_limit: bool = Field(
        default=False, description="true: sells first, then buys scaled down to the cash there is."
    )
    delisted_after_bars: int | None = Field(
        default=None,
        description="Bars without one of the symbol after which a position is paid out at the last close; left out: never.",
    )
    delisting_haircut: float = Field(default=0.0, description="Share of the last close that a paid-out position loses.")
    t_plus_one: bool = Field(
        default=False,
        description="true: no share is sold in the session in which it was bought. Of daily bars nothing changes.",
    )

    _cash = ranged("initial_cash_usd", low=1, high=1_000_000_000_000)
    # 10,000 basis points are all of the notional.
    _costs = ranged("fee_bps", "slippage_bps", low=0, high=10_000)
    _borrow = ranged("borrow_bps_per_year", low=0, high=1_000_000)

    @property
    def charged(self) -> Costs:
        """All costs, the flat ones and the kinds."""
        return Costs(
            fee_bps=self.fee_bps,
            slippage_bps=self.slippage_bps,
            borrow_bps_per_year=self.borrow_bps_per_year,
            kinds=self.costs,
        )

    @property
    def execution(self) -> Execution:
        return Execution(
            fill=self.fill,
            initial_cash=self.initial_cash_usd,
            participation=self.participation,
            lot_size=self.lot_size,
            cash_limit=self.cash_limit,
            delisted_after_bars=self.delisted_after_bars,
            delisting_haircut=self.delisting_haircut,
            t_plus_one=self.t_plus_one,
        )

    @model_validator(mode="after")
    def _check_limits(self) -> "BacktestSpec":
        # Refuses what no account can be kept with.
        _ = self.execution, self.charged
        return self
