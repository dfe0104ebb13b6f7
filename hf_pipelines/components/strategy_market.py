"""Strategy's market: what a strategy needs of the market that it trades, and the market with more features than it stores.

Lives here: finding the market, and refusing a strategy that is made from what it lacks. Does not live here: what the strategy's own YAML
shows to be wrong (`strategy`), what no week can hold (`strategy_window`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import dagster as dg

from hf_pipelines.components.learner_rules import REMEDIES_OF_FEATURES, read_features
from hf_pipelines.components.market import Market
from hf_pipelines.components.market_stages import MarketPlan
from hf_pipelines.components.strategy_fields import BacktestSpec, HoldoutSpec, LearnerSpec, SignalSpec, TargetSpec
from hf_pipelines.components.strategy_stages.start import week_of_start
from hf_pipelines.components.yaml_lines import line_of
from hf_pipelines.research.features.registry import FEATURES, names_by_group
from hf_pipelines.research.wording import with_nearest


class Trading(Protocol):
    """What is asked of a strategy."""

    name: str
    market: str
    features: Sequence[str]
    target: TargetSpec
    learner: LearnerSpec
    signal: SignalSpec
    backtest: BacktestSpec
    holdout: HoldoutSpec | None
    start: str | None


def market_of(strategy: Trading, context: dg.ComponentLoadContext, *, is_widened: bool = False) -> MarketPlan:
    """The market that a strategy trades, with all that the strategy is made from.

    Parameters
    ----------
    is_widened : bool
        Whether features that are registered and that the market does not store are taken all the same.

    Raises
    ------
    ValueError
        With file and line.
    """
    folder = context.defs_module_path / "markets"
    known = sorted(each.parent.name for each in folder.glob("*/defs.yaml"))
    if strategy.market not in known:
        raise ValueError(
            _placed(context, "market", f"`market` must be one of {', '.join(known)}, was {strategy.market!r}.")
        )
    market = context.load_component(f"markets/{strategy.market}", expected_type=Market).plan
    if is_widened:
        market = widened(market, strategy.features)
    stored = {f"{group}/{name}" for group, names in market.feature_groups.items() for name in names}
    if unknown := sorted({each.removeprefix("-") for each in strategy.features} - stored - set(market.feature_groups)):
        groups = {each.split("/")[0] for each in unknown}
        near = sorted(each for each in stored if each.split("/")[0] in groups)
        raise ValueError(
            _placed(
                context,
                "features",
                f"`features` must be among the groups of market {strategy.market} ({', '.join(market.feature_groups)})"
                f"{' or ' * bool(near)}{', '.join(near)}, was {', '.join(unknown)}.",
            )
        )
    _require_what_is_needed(strategy, market, context)
    _require_members(strategy, market, context)
    try:
        _ = strategy.holdout and strategy.holdout.build(strategy.name, market)
    except ValueError as e:
        raise ValueError(_placed(context, "holdout", str(e))) from e
    try:
        week_of_start(strategy.start, market)
    except ValueError as e:
        raise ValueError(_placed(context, "start", str(e))) from e
    return market


def _require_what_is_needed(strategy: Trading, market: MarketPlan, context: dg.ComponentLoadContext) -> None:
    """Refuse a target or a rule that is made from what the market or the strategy lacks."""
    selected = {
        name
        for group, names in names_by_group(strategy.features).items()
        for name in market.feature_groups[group]
        if name in names
    }
    target = strategy.target.build().needs
    for field, chosen, needs, symbols in (
        ("target", strategy.target.type, target, target.symbols),
        ("signal", strategy.signal.type, strategy.signal.needs, ()),
    ):
        sectorless = [each for each in market.universe.members if each not in market.universe.sectors]
        lacking = {
            "a `sector` of each member in `universe`": sectorless if needs.sectors else [],
            "its `features`": [each for each in needs.features if each not in selected],
            f"symbols of market {market.name}": [each for each in symbols if each not in market.universe.symbols],
        }
        for what, names in lacking.items():
            if names:
                raise ValueError(
                    f"{line_of(context.path, field)}: `{field}` must have what {chosen!r} is made from, {what}, was without "
                    f"{', '.join(names[:5])}; add it, or take another."
                )
    if strays := [each for each in strategy.backtest.charged.columns if each not in {"volume", *selected}]:
        raise ValueError(
            f"{line_of(context.path, 'backtest')}: `backtest.costs` must read `features` of the strategy, was without "
            f"{', '.join(strays)}; add it to `features`, or leave `column` out for a constant spread."
        )
    for param, read in read_features(strategy.learner.choice()).items():
        if strays := sorted(read - selected):
            raise ValueError(
                _placed(
                    context,
                    "learner",
                    f"`{param}` must be among the `features` of the strategy, was {', '.join(strays[:5])}; {REMEDIES_OF_FEATURES[param]}.",
                )
            )
    try:
        strategy.learner.choice().require_columns(len(selected))
    except ValueError as e:
        raise ValueError(_placed(context, "learner", str(e))) from e


def _require_members(strategy: Trading, market: MarketPlan, context: dg.ComponentLoadContext) -> None:
    """Refuse a rule that takes more symbols than there are: its weights would all be 0, without a word."""
    asked = strategy.signal.needs.members
    if sum(asked.values()) > len(market.universe.members):
        raise ValueError(
            f"{line_of(context.path, 'signal')}: {' + '.join(f'`{name}`' for name in asked)} must be at most the "
            f"{len(market.universe.members)} members of `universe` of market {market.name}, was "
            f"{' + '.join(map(str, asked.values()))}; take fewer, or add members to the universe."
        )


def widened(market: MarketPlan, features: Sequence[str]) -> MarketPlan:
    """A market as if it stored all registered features of a selection, as `features` of a strategy names them.

    A group that it stores in part is taken as it stores it.

    Raises
    ------
    ValueError
        If a feature is made from what the market lacks.
    """
    groups = dict(market.feature_groups)
    for group, names in names_by_group(features).items():
        stored = groups.get(group, ())
        is_whole = group in features and not stored
        more = {name for name in names if is_whole or f"{group}/{name}" in features} - {*stored}
        for name in sorted(more):
            if lacking := market.lacking_of(FEATURES[name]):
                raise ValueError(
                    f"`features` must be made from what market {market.name} has, {group}/{name} needs {lacking[0]}; add {lacking[1]}."
                )
        if more:
            groups[group] = tuple(name for name in FEATURES if name in {*stored, *more})
    return replace(market, feature_groups=groups)


def _placed(context: dg.ComponentLoadContext, field: str, fault: str) -> str:
    """A fault with its file and line: of what it names or refuses below a field."""
    return f"{line_of(context.path, field, fault)}: {with_nearest(fault)}"


def buildable(resolved: Mapping[str, Any], market: MarketPlan, modules: Sequence[str]) -> Mapping[str, Any]:
    """A stored YAML, refused if it is of another market, or has modules that today's does not name: what is stored imports nothing.

    Raises
    ------
    ValueError
        Naming the field.
    """
    if resolved.get("market") != market.name:
        raise ValueError(f"`market` must be {market.name}, was {str(resolved.get('market'))[:80]}.")
    if lacking := sorted({*map(str, resolved.get("modules") or ())} - {*modules}):
        raise ValueError(f"`modules` must name {', '.join(lacking)[:200]} too, did not; name them.")
    # Records of an earlier version name a field as Python does.
    if "from_" in (holdout := dict(resolved.get("holdout") or {})):
        holdout["from"] = holdout.pop("from_")
        return {**resolved, "holdout": holdout}
    return resolved
