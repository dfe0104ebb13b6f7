"""Fields of the block `tuning` of a strategy's YAML.

Lives here: their form, and what they make in research's own types. Does not live here: what a study is (`research.tuning`), the asset
(`strategy_stages.tuning`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import dagster as dg
from pydantic import Field, model_validator

from hf_pipelines.components.diagnostics_fields import DiagnosticsSpec
from hf_pipelines.components.extras import require_extra
from hf_pipelines.components.strategy_fields import CrossValidationSpec, LearnerSpec, SignalSpec, TrainingSpec
from hf_pipelines.components.strategy_stages.tuning_plan import SplitterPlan, TuningPlan
from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.overfitting.fits import scores_of
from hf_pipelines.research.signals import fill_rule_params, rule_needs
from hf_pipelines.research.targets import Target
from hf_pipelines.research.tuning import PRESETS, Budget, Design, Pick, Space, default_space, read_space
from hf_pipelines.research.tuning.objectives import OBJECTIVES, Bound, Wanted
from hf_pipelines.research.tuning.points import SECTIONS, Configuration
from hf_pipelines.research.tuning.samplers import sampler_of
from hf_pipelines.research.tuning.space import Dimension
from hf_pipelines.resources.ranges import ranged

MEDIAN = 0.5


class TuningSpec(dg.Model, dg.Resolvable):
    """A study of each week, whose best `cv_results` and `fitted_model` take."""

    preset: str | None = Field(
        default=None, description="A key of PRESETS; fields that are given stand instead of its own."
    )
    space: Mapping[str, Any] = Field(
        default_factory=dict,
        description="What is tried: `learner`, `preprocessing`, `features`, `rule`, each a mapping; left out: what the learner's "
        "specification names.",
    )
    sampler: str = Field(default="tpe", description="How points are chosen: a key of SAMPLERS.")
    trials: int = Field(default=100, description="Trials at most, pruned and failed ones among them.")
    no_improvement: int | None = Field(
        default=None, description="Ends the study after so many trials without a better one."
    )
    seconds: float | None = Field(
        default=None, description="Ends the study after so long; then two studies need not be equal."
    )
    batch: int = Field(default=8, description="Trials that are proposed at once, and so may run at once.")
    seed: int = Field(default=0, description="Seed of the study.")
    objective: Any = Field(
        default=None,
        description="A key of OBJECTIVES, or `name` and `less_deviations`, or a list of them; left out: log_loss of classes, else rmse.",
    )
    constraints: Mapping[str, float] = Field(
        default_factory=dict, description="Limits of the account: max_drawdown, hit_rate (at least), turnover_per_year."
    )
    pick: Any = Field(
        default="best_first",
        description="Which trial of several objectives is used: a key of PICKS, or `rule` and `tolerance`.",
    )
    prune: Any = Field(
        default=None,
        description="`median`, or `keep`: the share of earlier trials that a trial must be among after each fold.",
    )
    nested: bool = Field(
        default=False, description="A study for each outer fold, too: then cv_results are outer scores."
    )
    adaptive: bool = Field(
        default=False, description="The space is narrowed around the best of the week before, which is tried first."
    )
    cross_validation: Annotated[
        CrossValidationSpec | None,
        dg.Resolver(
            lambda context, given: None if given is None else CrossValidationSpec.model_validate(given),
            model_field_type=dict | None,
        ),
    ] = Field(default=None, description="Folds of the studies; left out: those of the strategy.")

    _trials = ranged("trials", low=1, high=100_000)
    _patience = ranged("no_improvement", low=1, high=100_000)
    _seconds = ranged("seconds", low=1, high=10_000_000)
    _batch = ranged("batch", low=1, high=1_000)
    _seed = ranged("seed", low=0, high=2**31 - 1)

    @model_validator(mode="before")
    @classmethod
    def _take_preset(cls, given: Any) -> Any:
        """Fields of the preset where none are given."""
        name = given.get("preset") if isinstance(given, Mapping) else None
        if name is None:
            return given
        if name not in PRESETS:
            raise ValueError(f"`preset` must be one of {', '.join(sorted(PRESETS))}, was {str(name)[:40]!r}.")
        return {**PRESETS[name], **given}

    def plan(
        self,
        learner: LearnerSpec,
        signal: SignalSpec,
        *,
        features: Mapping[str, Sequence[str]],
        target: Target,
        splitter: SplitterPlan,
        beside: tuple[TrainingSpec, DiagnosticsSpec],
    ) -> TuningPlan:
        """What it asks for, checked against the strategy that it tunes.

        Raises
        ------
        ValueError
            Naming the field.
        """
        require_extra("tuning", "`tuning`", self._packages())
        self._require_beside(*beside)
        base = Configuration(
            learner.choice(), {group: tuple(names) for group, names in features.items()}, signal.rule_params
        )
        try:
            wanted = self._wanted(target)
            plan = TuningPlan(
                Design(
                    space=self._space(base, rule=signal.rule, target=target),
                    goals=tuple(each.goal for each in wanted),
                    budget=Budget(trials=self.trials, no_improvement=self.no_improvement, seconds=self.seconds),
                    sampler=self.sampler,
                    batch=self.batch,
                    seed=self.seed,
                    keeps=self._keeps(),
                    pick=self._pick(),
                ),
                wanted,
                tuple(Bound(name, float(limit)) for name, limit in self.constraints.items()),
                splitter if self.cross_validation is None else self.cross_validation.plan(),
                self.nested,
                self.adaptive,
            )
            _require_followed(plan)
            _require_whole_folds(plan, base)
        except (TypeError, ValueError) as e:
            # Fields are named within their block.
            raise ValueError(str(e).replace("`", "`tuning.", 1)) from e
        return plan

    def _require_beside(self, training: TrainingSpec, diagnostics: DiagnosticsSpec) -> None:
        """Refuse what a study cannot stand beside."""
        if training.read != "whole":
            raise ValueError(
                f"`training.read` must be whole for `tuning`, whose trials share one matrix in memory, was {training.read}; leave one "
                "of them out."
            )
        if self.nested and (diagnostics.permutations or diagnostics.learning_curve or diagnostics.validation_curve):
            raise ValueError(
                "`tuning.nested` must be false for `diagnostics`, which look at one configuration, was true: each fold has its own; "
                "leave one of them out."
            )

    def _packages(self) -> tuple[str, ...]:
        sampler_of(self.sampler)
        return ("optuna", *(["cmaes"] if self.sampler == "cmaes" else []))

    def _wanted(self, target: Target) -> tuple[Wanted, ...]:
        given = self.objective
        if given is None:
            given = "log_loss" if target.is_classification else "rmse"
        listed = given if isinstance(given, list | tuple) else [given]
        if not listed:
            raise ValueError("`objective` must name at least one, was empty.")
        found = tuple(_wanted(each) for each in listed)
        for each in found:
            of_target = [*scores_of(target)]
            if each.objective.source == "predictions" and each.name not in of_target and each.name in OBJECTIVES:
                raise ValueError(
                    f"`objective` must be a score of target {target.name!r} ({', '.join(sorted(of_target))}), or of its account, was "
                    f"{each.name}."
                )
        if len({each.goal.name for each in found}) < len(found):
            raise ValueError(f"`objective` must name each once, was {', '.join(each.goal.name for each in found)}.")
        return found

    def _pick(self) -> Pick:
        if isinstance(self.pick, str):
            return Pick(self.pick)
        if not isinstance(self.pick, Mapping) or {*self.pick} - {"rule", "tolerance"} or "rule" not in self.pick:
            raise ValueError(
                f"`pick` must be a rule, or a mapping of `rule` and `tolerance`, was {str(self.pick)[:60]}."
            )
        return Pick(**{str(name): value for name, value in self.pick.items()})

    def _keeps(self) -> float | None:
        if self.prune in (None, False, "none"):
            return None
        if self.prune == "median":
            return MEDIAN
        if (
            isinstance(self.prune, Mapping)
            and {*self.prune} == {"keep"}
            and isinstance(self.prune["keep"], int | float)
        ):
            return float(self.prune["keep"])
        raise ValueError(f"`prune` must be none, median or {{keep: <share>}}, was {str(self.prune)[:60]}.")

    def _space(self, base: Configuration, *, rule: str, target: Target) -> Space:
        if strays := sorted(str(each) for each in {*self.space} - {*SECTIONS}):
            raise ValueError(f"`space` must have the sections {', '.join(SECTIONS)}, was with {', '.join(strays[:5])}.")
        dimensions: list[Dimension] = []
        for section in SECTIONS:
            given = self.space.get(section)
            if section == "learner" and given in (None, "default"):
                # Of what is chosen otherwise alone nothing of the learner is searched.
                if given == "default" or not self.space:
                    found = default_space(base.learner.entry.params, prefix="learner.")
                    dimensions += [each for each in found.dimensions if not _moves_inputs(base, each)]
                continue
            if section == "features" and isinstance(given, list | tuple):
                given = {str(group): {"type": "categorical", "choices": [True, False]} for group in given}
            if given is None:
                continue
            if not isinstance(given, Mapping):
                raise ValueError(f"`space.{section}` must be a mapping, was {str(given)[:40]!r}.")
            named = {f"{section}.{name}": own_section(each, section) for name, each in given.items()}
            dimensions += read_space(named).dimensions
        if not dimensions:
            raise ValueError(
                f"`space` must name what is tried, was empty, and the specification of learner {base.learner.name!r} names nothing; "
                "write `space: {learner: {...}}`."
            )
        space = Space(tuple(dimensions))
        require_points(space, base, rule=rule, target=target)
        return space


def plan_tuning(
    spec: TuningSpec | None,
    learner: LearnerSpec,
    signal: SignalSpec,
    *,
    features: Mapping[str, Sequence[str]],
    target: Target,
    splitter: SplitterPlan,
    beside: tuple[TrainingSpec, DiagnosticsSpec],
) -> TuningPlan | None:
    """What a strategy with the block asks for: see `TuningSpec.plan`."""
    if spec is None:
        return None
    return spec.plan(learner, signal, features=features, target=target, splitter=splitter, beside=beside)


def own_section(given: Any, section: str) -> Any:
    """A dimension whose condition names others of its own section without it."""
    if not isinstance(given, Mapping) or not isinstance(given.get("when"), Mapping):
        return given
    full = {
        name if str(name).split(".")[0] in SECTIONS else f"{section}.{name}": values
        for name, values in given["when"].items()
    }
    return {**given, "when": full}


def _wanted(given: Any) -> Wanted:
    if isinstance(given, str):
        return Wanted(given)
    if (
        not isinstance(given, Mapping)
        or {*given} - {"name", "less_deviations"}
        or not isinstance(given.get("name"), str)
    ):
        raise ValueError(
            f"`objective` must be a name, or a mapping of `name` and `less_deviations`, was {str(given)[:60]}."
        )
    return Wanted(given["name"], float(given.get("less_deviations", 0.0)))


def _require_followed(plan: TuningPlan) -> None:
    """Refuse dimensions that no objective looks at, and pruning by what is not known after a fold."""
    if any(each.startswith("rule.") for each in plan.design.space.names) and not plan.needs_account:
        raise ValueError(
            f"`space.rule` must be left out where no objective and no constraint is one of the account, was given with "
            f"{', '.join(each.name for each in plan.wanted)}; take one, such as sharpe_ratio."
        )
    if plan.design.keeps is not None and plan.wanted[0].objective.source != "predictions":
        raise ValueError(
            f"`prune` must be left out with objective {plan.wanted[0].name}, which is not known after a fold; take a score of "
            "the predictions, or prune nothing."
        )


def _require_whole_folds(plan: TuningPlan, base: Configuration) -> None:
    """Refuse a calibration that is fitted on other folds where folds are looked at one by one."""
    given = "nested" if plan.is_nested else "prune"
    if base.learner.calibrates_on_folds and (plan.is_nested or plan.design.keeps is not None):
        raise ValueError(
            f"`{given}` must be left out for a learner that is calibrated on what other folds predicted, was given; take another "
            "calibration."
        )


def require_points(space: Space, base: Configuration, *, rule: str, target: Target) -> None:
    """Refuse a space with a value that its owner does not take, or that would need other inputs, before any week is tuned."""
    left_out = {each.removeprefix("features.") for each in space.names if each.startswith("features.")}
    if left_out >= {*base.features}:
        raise ValueError(
            f"`space.features` must leave a group that always stands, was all of {', '.join(sorted(left_out))}; take one of them out."
        )
    for point in space.corners():
        at = base.at(point)
        try:
            needs = rule_needs(rule, fill_rule_params(rule, at.rule))
        except TypeError as e:
            raise ValueError(str(e)) from e
        own = rule_needs(rule, fill_rule_params(rule, base.rule))
        # How many symbols it takes, parameters of rules inside of it and a lower gross change nothing that it reads.
        same: dict[str, Any] = {"members": {}, "rules": (), "max_gross": own.max_gross}
        if needs.max_gross > own.max_gross or replace(needs, **same) != replace(own, **same):
            changed = [name for name in point if name.startswith("rule.")]
            raise ValueError(
                f"`space.rule` must not change what the rule reads, but one of {', '.join(changed)} does; fix it, and compare strategies."
            )
        if _inputs_of(at.learner, target) != _inputs_of(base.learner, target):
            moving = [each.name for each in space.dimensions if _moves_inputs(base, each)]
            raise ValueError(
                f"`space.learner` must not change what the learner reads or predicts, but {', '.join(moving) or 'it'} does; fix it, and "
                "compare strategies."
            )


def _inputs_of(learner: LearnerChoice, target: Target) -> Any:
    task: Any = "classification" if target.is_classification else "regression"
    return (
        learner.history_bars,
        learner.outputs(task),
        learner.horizons(task),
        learner.prediction_columns(target.classes),
    )


def _moves_inputs(base: Configuration, dimension: Dimension) -> bool:
    """Whether a dimension changes how many bars the learner looks back on: then another matrix of inputs is needed."""
    if dimension.when:
        return False
    return any(
        base.at({dimension.name: each}).learner.history_bars != base.learner.history_bars for each in dimension.ends
    )
