"""Near trials: what the ledger holds of configurations one step beside that of a week, without a fit.

Lives here: which of the stored trials are near, and what they say. Does not live here: neighbours that are fitted (`full_validation`), the
judgement (`research.robustness.neighbourhood`).

It changes with the ledger, so it is told beside a partition, and is no part of one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.learners import ALIASES, LEARNERS
from hf_pipelines.research.params import Param
from hf_pipelines.research.robustness import is_near, judge_neighbours
from hf_pipelines.research.signals import LIMITS, RULES, SIZINGS
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.heads import TRIAL
from hf_pipelines.resources.trial_ledger.settings_of_trials import settings_of_trials
from hf_pipelines.resources.trial_ledger.trials import COMPLETED

# Code that is not part of a configuration's numbers, and the search that found them.
_ASIDE = ("own_code", "tuning", "learner", "rule")

BESIDE = "in stored trials one step beside its parameters"


def near_trials(
    plan: StrategyPlan,
    objects: ObjectStore,
    key: str,
    facts: Mapping[str, Any],
    *,
    sharpe: float | None,
    low: float | None,
) -> dict[str, Any]:
    """What trials of the same week say whose configuration is one step beside its own.

    Parameters
    ----------
    plan : StrategyPlan
    objects : ObjectStore
    key : str
        Week.
    facts : mapping
        Of the footer of its `cv_results`, which name its trial.
    sharpe, low : float or None
        Sharpe ratio a year of its account, and the lower bound.

    Returns
    -------
    dict
        `n`, `mean`, `worst`, `own` (None where there is none), `signs` (`name`, `told`) and `told`: what is lacking, or "".
    """
    trial = facts.get(TRIAL)
    (own,) = settings_of_trials(objects, [str(trial)]) if trial else (None,)
    if own is None:
        return _nothing(f"neighbours among stored trials: the ledger does not hold the trial of week {key}")
    traded = _traded(TrialLedger(objects, "").known(), plan.name, key, str(trial))
    settings = settings_of_trials(objects, traded["trial"].to_list())
    near = [
        ratio
        for ratio, each in zip(traded["sharpe"].to_list(), settings, strict=True)
        if each is not None and each.seed == own.seed and is_beside(own.settings, each.settings)
    ]
    if not near:
        lacking = (
            f"none of {traded.height:,} other trials with an account of week {key} is one step beside its parameters"
            if traded.height
            else f"no other trial of week {key} has an account"
        )
        remedy = "" if plan.sweep is None else f"hfp materialise {plan.asset('sweep')} --from {key} trades some, "
        return _nothing(
            f"neighbours among stored trials: {lacking}; {remedy}hfp validate {plan.name} {key} --full fits them"
        )
    per_year = math.sqrt(usual_sessions(plan.market.partitions.calendar_name)[0])
    unknown = math.nan
    found, signs = judge_neighbours(
        unknown if sharpe is None else sharpe,
        [each * per_year for each in near],
        low=unknown if low is None else low,
        what=BESIDE,
    )
    numbers = {name: None if value != value else value for name, value in asdict(found).items()}
    return {**numbers, "signs": [{"name": each.name, "told": each.told} for each in signs], "told": ""}


def near_in_words(found: Mapping[str, Any]) -> str:
    """One line."""
    if not found["n"]:
        return str(found["told"])
    own = "" if found["own"] is None else f", its own {found['own']:.2f}"
    what = "1 stored trial" if found["n"] == 1 else f"{found['n']} stored trials"
    return f"{what} one step beside its parameters: Sharpe ratio {found['mean']:.2f} in the mean, {found['worst']:.2f} at worst{own}"


def is_beside(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the settings of a trial are another's but for steps of the numbers of its learner, rule, sizing and limits."""
    if any(own.get(name) != other.get(name) for name in {*own, *other} - {*_ASIDE}):
        return False
    one, two = own.get("learner"), other.get("learner")
    if not isinstance(one, Mapping) or not isinstance(two, Mapping):
        return False
    rules = [
        {"type": each["rule"][0], "params": each["rule"][1]} if isinstance(each.get("rule"), list) else {}
        for each in (own, other)
    ]
    return _entries_near(one, two, _learner_spec(str(one.get("type")))) and _values_near(*rules)


def _traded(known: pl.DataFrame, strategy: str, key: str, trial: str) -> pl.DataFrame:
    field = pl.col("estimate").struct.field("sharpe")
    return known.filter(
        pl.col("strategy") == strategy,
        pl.col("week") == key,
        pl.col("outcome") == COMPLETED,
        pl.col("trial") != trial,
        field.is_finite(),
    ).select("trial", sharpe=field)


def _entries_near(one: Mapping[str, Any], two: Mapping[str, Any], spec: Mapping[str, Param]) -> bool:
    """Of a type with parameters: the rest is the same."""
    if any(one.get(name) != two.get(name) for name in {*one, *two} - {"params"}):
        return False
    first, second = dict(one.get("params") or {}), dict(two.get("params") or {})
    if {*first} != {*second}:
        return False
    # What is an entry itself, or a list of them, is compared by its own parameters.
    nested = [name for name, value in first.items() if isinstance(value, Mapping | list)]
    plain = [{name: value for name, value in each.items() if name not in nested} for each in (first, second)]
    return is_near(spec, *plain) and all(_values_near(first[name], second[name]) for name in nested)


def _values_near(one: Any, two: Any) -> bool:
    if one == two:
        return True
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_values_near, one, two))
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return "type" in one and _entries_near(one, two, _spec(str(one["type"])))
    return False


def _learner_spec(name: str) -> Mapping[str, Param]:
    entry = LEARNERS.get(ALIASES[name].name if name in ALIASES else name)
    return {} if entry is None else entry.params


def _spec(name: str) -> Mapping[str, Param]:
    tables: Sequence[Mapping[str, Any]] = (RULES, SIZINGS, LIMITS)
    return next((table[name].params for table in tables if name in table), {})


def _nothing(told: str) -> dict[str, Any]:
    return {"n": 0, "mean": None, "worst": None, "own": None, "signs": [], "told": told}
