"""Fields of the block `sweep` of a strategy's YAML.

Lives here: their form, and what they make in research's own types. Does not live here: points and ranks (`research.sweep`), the asset
(`strategy_stages.sweep`).
"""

from collections.abc import Mapping
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from hf_pipelines.components.extras import require_extra
from hf_pipelines.components.strategy_fields import BacktestSpec, LearnerSpec, SignalSpec
from hf_pipelines.components.strategy_stages.sweep_plan import SweepPlan
from hf_pipelines.components.tuning_fields import own_section, require_points
from hf_pipelines.research.sweep import costs_at
from hf_pipelines.research.targets import Target
from hf_pipelines.research.tuning import Space, read_space
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines.research.tuning.space import Dimension
from hf_pipelines.resources.ranges import ranged

SECTIONS = ("rule", "costs")

# Each is a trial in the ledger, and one more that the best must beat.
MOST_POINTS = 10_000


class SweepSpec(dg.Model, dg.Resolvable):
    """Settings of rule, sizing, limits and costs that are tried each week on the stored predictions; nothing is fitted."""

    space: Mapping[str, Any] = Field(
        description="What is tried: `rule` (with `sizing.` and `limits.`) and `costs`, each a mapping of names to a list of values, or to a "
        "dimension as in `tuning.space`.",
    )
    sampler: Literal["grid", "random", "qmc"] = Field(
        default="grid", description="grid: every point; random or qmc: `points` draws (extra tuning)."
    )
    points: int = Field(default=100, description="Draws of a sampler that is not grid.")
    seed: int = Field(default=0, description="Seed of the draws.")
    choice: Literal["best", "plateau"] = Field(
        default="best",
        description="The point that is marked: the first after deflation, or the highest in the mean with its neighbours.",
    )
    deadline_s: float | None = Field(
        default=None, description="Seconds after which no point begins and those under way are ended; left out: none."
    )

    _points = ranged("points", low=2, high=MOST_POINTS)
    _seed = ranged("seed", low=0, high=2**31 - 1)
    _deadline = ranged("deadline_s", low=1, high=10_000_000)

    def plan(
        self,
        learner: LearnerSpec,
        signal: SignalSpec,
        backtest: BacktestSpec,
        *,
        features: Mapping[str, Any],
        target: Target,
    ) -> SweepPlan:
        """What it asks for, checked against the strategy.

        Raises
        ------
        ValueError
            Naming the field.
        """
        base = Configuration(
            learner.choice(), {group: tuple(names) for group, names in features.items()}, signal.rule_params
        )
        try:
            space = self._space(base, signal.rule, backtest, target)
        except (TypeError, ValueError) as e:
            # Fields are named within their block.
            raise ValueError(str(e).replace("`", "`sweep.", 1)) from e
        if self.sampler != "grid":
            require_extra("tuning", "`sweep.sampler`", ("optuna",))
        return SweepPlan(
            space, self.sampler, space.n_points or 0 if self.sampler == "grid" else self.points, self.seed, self.choice, self.deadline_s
        )  # fmt: skip

    def _space(self, base: Configuration, rule: str, backtest: BacktestSpec, target: Target) -> Space:
        if strays := sorted(str(each) for each in {*self.space} - {*SECTIONS}):
            raise ValueError(
                f"`space` must have the sections {', '.join(SECTIONS)}, was with {', '.join(strays[:5])}; what is fitted is tried by `tuning`."
            )
        found: dict[str, list[Dimension]] = {}
        for section in SECTIONS:
            given = self.space.get(section, {})
            if not isinstance(given, Mapping):
                raise ValueError(f"`space.{section}` must be a mapping, was {str(given)[:40]!r}.")
            named = {f"{section}.{name}": _dimension(each, section) for name, each in given.items()}
            found[section] = [*read_space(named).dimensions]
        space = Space((*found["rule"], *found["costs"]))
        if not space.dimensions:
            raise ValueError("`space` must name what is tried, was empty; write `space: {rule: {...}}`.")
        if found["rule"]:
            require_points(Space(tuple(found["rule"])), base, rule=rule, target=target)
        for point in Space(tuple(found["costs"])).corners():
            costs_at(backtest.charged, {name.removeprefix("costs."): value for name, value in point.items()})
        self._require_few(space)
        return space

    def _require_few(self, space: Space) -> None:
        if self.sampler != "grid":
            return
        # Names the dimension that is not countable.
        next(iter(space.points()), None)
        n = space.n_points
        if n is None or n > MOST_POINTS:
            raise ValueError(
                f"`space` must have at most {MOST_POINTS:,} points as a grid, had {'more than 100,000' if n is None else f'{n:,}'}; take "
                "fewer values, or `sampler: qmc` with `points`."
            )
        if n < 2:
            raise ValueError(
                "`space` must have at least two points, had one: there is nothing to compare; give more values."
            )


def plan_sweep(spec: SweepSpec | None, *given: Any, **options: Any) -> SweepPlan | None:
    """What a strategy with the block asks for: see `SweepSpec.plan`."""
    return None if spec is None else spec.plan(*given, **options)


def _dimension(given: Any, section: str) -> Any:
    """A list of values is a dimension of these."""
    if isinstance(given, list | tuple):
        return {"type": "categorical", "choices": [*given]}
    return own_section(given, section)
