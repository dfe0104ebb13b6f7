"""The assets of a strategy, one module each, in flow order.

Lives here: which inputs each asset reads, the one research function it calls, its checks and what it shows. Does not
live here: maths (`research`), the YAML (`strategy`), storage (`resources`).
"""

from dataclasses import replace

from hf_pipelines.components.stage import Stage, kept_out
from hf_pipelines.components.strategy_stages.backtest import backtest
from hf_pipelines.components.strategy_stages.champion_model import champion_model
from hf_pipelines.components.strategy_stages.cv_results import cv_results
from hf_pipelines.components.strategy_stages.drift import drift
from hf_pipelines.components.strategy_stages.fitted_model import fitted_model
from hf_pipelines.components.strategy_stages.full_validation import full_validation
from hf_pipelines.components.strategy_stages.issue_rows import issue_kind
from hf_pipelines.components.strategy_stages.leaderboard import leaderboard
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.report import report
from hf_pipelines.components.strategy_stages.serving import CHAMPION_MODEL
from hf_pipelines.components.strategy_stages.signals import signals
from hf_pipelines.components.strategy_stages.start import begun, first_week_in_words
from hf_pipelines.components.strategy_stages.sweep import sweep
from hf_pipelines.components.strategy_stages.track_record import track_record
from hf_pipelines.components.strategy_stages.training_matrix import refit_matrix, training_matrix
from hf_pipelines.components.strategy_stages.tuning import tuning
from hf_pipelines.components.strategy_stages.validation import validation

__all__ = [
    "CHAMPION_MODEL",
    "LEADERBOARD",
    "RETRAINED",
    "SWEEP",
    "TUNING",
    "StrategyPlan",
    "build_stages",
    "issue_kind",
    "retrained",
    "serving",
]

# What is shown on the assets of a strategy without one.
NO_HOLDOUT = "none: CV and the choice of models see every week before the one that is served"

# What the weekly retrain job makes, in order.
RETRAINED = ("training_matrix", "cv_results", "fitted_model", "backtest", "validation")

# And, of a strategy whose YAML has the block, its study before them.
TUNING = "tuning"

# And its leaderboard after all others, which nothing hangs on.
LEADERBOARD = "leaderboard"

# Last its sweep, which nothing hangs on either.
SWEEP = "sweep"


def retrained(plan: StrategyPlan) -> tuple[str, ...]:
    """What the weekly retrain job makes of a strategy, in order."""
    first, *later = RETRAINED
    studied = [] if plan.tuning is None else [TUNING]
    compared = [*([] if plan.leaderboard is None else [LEADERBOARD]), *([] if plan.sweep is None else [SWEEP])]
    # Of a strategy with gates the model of what serves, where that is another configuration.
    served = [] if plan.gates is None else [CHAMPION_MODEL]
    return (first, *studied, *later, *served, *compared)


def serving(plan: StrategyPlan) -> tuple[str, ...]:
    """Of what the retrain job makes, in order, what signals need: a model and what it is made from."""
    return tuple(each for each in retrained(plan) if each in ("training_matrix", TUNING, "cv_results", "fitted_model"))


def build_stages(plan: StrategyPlan) -> list[Stage]:
    """Every asset of a strategy, in flow order; each is kept out of its hold-out, but for those that say that they read it."""
    stages = [
        training_matrix(plan),
        *([] if plan.tuning is None else [tuning(plan)]),
        cv_results(plan),
        *([] if plan.holdout is None else [refit_matrix(plan)]),
        fitted_model(plan),
        backtest(plan),
        validation(plan),
        full_validation(plan),
        *([] if plan.gates is None else [champion_model(plan)]),
        signals(plan),
        track_record(plan),
        drift(plan),
        *([] if plan.leaderboard is None else [leaderboard(plan)]),
        *([] if plan.sweep is None else [sweep(plan)]),
    ]
    stages.append(report(plan, stages))
    stages = [replace(each, metadata={**each.metadata, **notes_of(plan)}) for each in stages]
    stages = stages if plan.holdout is None else [kept_out(each, plan.holdout) for each in stages]
    return stages if plan.start is None else [begun(each, plan) for each in stages]


def notes_of(plan: StrategyPlan) -> dict[str, str]:
    """What every asset of a strategy says of its hold-out, its universe and its first week."""
    return {
        "holdout": NO_HOLDOUT if plan.holdout is None else f"week {plan.holdout.week} and all later ones",
        "universe_chosen": plan.market.universe.chosen_in_words,
        "first_trainable_week": first_week_in_words(plan),
    }
