"""The registry of signal rules: one entry a rule.

Lives here: names, parameters with their ranges, and what each rule is in words. Not here: what a rule computes (one module each), and
how it is applied (`signals`).
"""

from __future__ import annotations

from dataclasses import replace

from hf_pipelines.research.params import Choice, Flag, Listing, Nested, Number, Text
from hf_pipelines.research.signals.chain import (
    check_chain,
    checked_step,
    count_limits,
    needs_chain,
    weigh_by_chain,
    why_cut,
)
from hf_pipelines.research.signals.inverse_volatility import needs_volatility, weigh_by_volatility
from hf_pipelines.research.signals.long_short import needs_scale, weigh_in_proportion, why_not_scored
from hf_pipelines.research.signals.meta_label import needs_primary, weigh_by_meta_label, why_not_right
from hf_pipelines.research.signals.mix import checked_part, needs_parts, weigh_by_parts, why_cancelled
from hf_pipelines.research.signals.optimised import (
    METHODS,
    check_optimised,
    checked_sector,
    count_solutions,
    needs_trailing,
    weigh_by_optimiser,
    why_not_optimised,
)
from hf_pipelines.research.signals.portfolio import needs_long_only, weigh_portfolio, why_not_held
from hf_pipelines.research.signals.probability_threshold import needs_probabilities, weigh_by_probability, why_unlikely
from hf_pipelines.research.signals.ranks import (
    needs_both_ends,
    needs_buffer,
    weigh_by_rank,
    weigh_with_buffer,
    why_between,
)
from hf_pipelines.research.signals.rule import GROSS, Rule, members
from hf_pipelines.research.signals.rule_tree import check_tree, checked_branch, draw_tree, needs_tree, weigh_by_tree
from hf_pipelines.research.signals.table import ALIASES, RULES
from hf_pipelines.research.signals.threshold import check_levels, needs_levels, weigh_by_levels, why_no_level

__all__ = ["ALIASES", "RULES"]

_N_LONG = members(2, meaning="members held long")
_N_SHORT = members(2, meaning="members held short")
_QUANTILE = Number(
    default=None,
    low=1e-4,
    high=0.5,
    is_optional=True,
    search=(0.05, 0.4),
    meaning="share of the known members that each end takes, one at least; then n_long and n_short are not read",
)
_WITHIN_SECTORS = Flag(default=False, meaning="true: both ends of each sector by itself")

_ENTRIES: dict[str, Rule] = {
    "probability_threshold": Rule(
        name="probability_threshold",
        weigh=weigh_by_probability,
        why=why_unlikely,
        params={
            "threshold": Number(
                default=0.55, low=1e-6, high=1.0, search=(0.4, 0.8), meaning="probability from which on a side is taken"
            ),
            "long_short": Flag(default=True, meaning="false: long only"),
            "max_gross": GROSS,
        },
        needs=needs_probabilities,
        formula=(
            "max_gross / members of the ts, long where P(up) >= threshold and P(up) > P(down), short where "
            "P(down) >= threshold and P(down) > P(up) if long_short, else 0"
        ),
    ),
    "meta_label": Rule(
        name="meta_label",
        weigh=weigh_by_meta_label,
        why=why_not_right,
        params={
            "primary": Text(
                pattern=r"[a-z][a-z0-9_]{0,62}",
                meaning="feature of the strategy whose sign is the side, that of the target meta_label",
            ),
            "threshold": Number(
                default=0.5,
                low=1e-6,
                high=1.0,
                search=(0.4, 0.8),
                meaning="probability from which on the side is taken",
            ),
            "long_short": Flag(default=True, meaning="false: long only"),
            "max_gross": GROSS,
        },
        needs=needs_primary,
        formula=(
            "max_gross / members of the ts on the side of the feature `primary` (long above zero, short below it if long_short) "
            "where P(right) >= threshold, else 0"
        ),
    ),
    "inverse_volatility": Rule(
        name="inverse_volatility",
        weigh=weigh_by_volatility,
        params={"max_gross": GROSS},
        needs=needs_volatility,
        formula="max_gross / volatility predicted of the member, over the sum of 1 / volatility of those of the ts; all long",
    ),
    "threshold": Rule(
        name="threshold",
        weigh=weigh_by_levels,
        why=why_no_level,
        check=check_levels,
        params={
            "buy": Number(
                default=0.001, low=-1e6, high=1e6, search=(1e-6, 0.02), meaning="prediction from which on it is long"
            ),
            "sell": Number(
                default=-1e-9,
                low=-1e6,
                high=1e6,
                search=(-0.02, -1e-9),
                meaning="prediction down from which it is short",
            ),
            "hysteresis": Number(
                default=0.0,
                low=0.0,
                high=1e6,
                search=(0.0, 0.02),
                meaning="how far behind its level a prediction may fall before the position is left",
            ),
            "sessions": Number(
                default=1, low=1, high=260, is_whole=True, meaning="sessions that an entry counts for; 1: no hysteresis"
            ),
            "long_short": Flag(default=True, meaning="false: long only"),
            "max_gross": GROSS,
        },
        needs=needs_levels,
        formula=(
            "max_gross / members of the ts, long from prediction >= buy until prediction < buy - hysteresis, short from prediction "
            "<= sell until prediction > sell + hysteresis if long_short, or until sessions sessions after it last was at the level"
        ),
    ),
    "long_short": Rule(
        name="long_short",
        weigh=weigh_in_proportion,
        why=why_not_scored,
        params={
            "standardise": Choice(
                default="members",
                names=("members", "own", "none"),
                is_searched=True,
                meaning="z-scores: among the members of the ts, among the member's own last sessions (rolling), or none",
            ),
            "clip": Number(
                default=2.0, low=1e-9, high=1e6, search=(1.0, 3.0), meaning="score from which on a position is whole"
            ),
            "sessions": Number(
                default=20,
                low=2,
                high=260,
                is_whole=True,
                meaning="sessions of the member's own, its last one among them",
            ),
            "volatility_target": Number(
                default=None,
                low=1e-6,
                high=10.0,
                is_optional=True,
                search=(0.005, 0.03),
                meaning="standard deviation of returns of one bar; of members that move more the position is smaller",
            ),
            "volatility_bars": Number(
                default=20, low=2, high=1_000, is_whole=True, meaning="trailing returns that it is measured on"
            ),
            "max_gross": GROSS,
        },
        needs=needs_scale,
        formula=(
            "max_gross / members of the ts * score / clip, the score within -clip and clip, times volatility_target / volatility of "
            "the member's own trailing returns where that is below 1"
        ),
    ),
    "portfolio": Rule(
        name="portfolio",
        weigh=weigh_portfolio,
        why=why_not_held,
        params={
            "scheme": Choice(
                default="softmax",
                names=("softmax", "rank", "equal"),
                is_searched=True,
                meaning="how the gross is shared by those that are held",
            ),
            "temperature": Number(
                default=1.0,
                low=0.01,
                high=100.0,
                search=(0.2, 5.0),
                is_log=True,
                meaning="of softmax, in standard deviations of the predictions: the lower, the more the best ones get",
            ),
            "n_held": Number(
                default=None,
                low=1,
                high=100_000,
                is_whole=True,
                is_optional=True,
                meaning="highest predictions that are held; null: all",
            ),
            "floor": Number(
                default=None,
                low=-1e6,
                high=1e6,
                is_optional=True,
                meaning="prediction below which a member is not held",
            ),
            "max_gross": GROSS,
        },
        needs=needs_long_only,
        formula=(
            "max_gross * share / sum of the shares of those held; share: exp((prediction - highest) / standard deviation / temperature) "
            "(softmax), place from below (rank), or 1 (equal); all long"
        ),
    ),
    "optimised_portfolio": Rule(
        name="optimised_portfolio",
        weigh=weigh_by_optimiser,
        why=why_not_optimised,
        check=check_optimised,
        nested=checked_sector,
        explain=count_solutions,
        params={
            "method": Choice(
                default="minimum_variance", names=METHODS, is_searched=True, meaning="optimiser of skfolio"
            ),
            "bars": Number(default=60, low=10, high=2_000, is_whole=True, meaning="trailing returns of the covariance"),
            "n_held": Number(
                default=None,
                low=2,
                high=100_000,
                is_whole=True,
                is_optional=True,
                meaning="highest predictions that are optimised; null: all",
            ),
            "max_weight": Number(
                default=1.0, low=1e-4, high=1.0, search=(0.1, 1.0), meaning="share of the gross of a member, at most"
            ),
            "risk_aversion": Number(
                default=1.0,
                low=1e-6,
                high=1e6,
                search=(0.1, 100.0),
                is_log=True,
                meaning="of mean_risk: what a unit of variance of one bar takes away from a unit of prediction",
            ),
            "budget": Number(
                default=1.0,
                low=0.01,
                high=1.0,
                meaning="share of the gross that is invested, of minimum_variance and mean_risk",
            ),
            "sectors": Listing(
                item=Nested(words="a bound: sector, least, most (shares)", keys=("sector",)),
                meaning="shares of sectors, at least and at most, of minimum_variance and mean_risk",
            ),
            "max_change": Number(
                default=None,
                low=1e-4,
                high=1.0,
                is_optional=True,
                search=(0.02, 0.5),
                meaning="change of a member's share since the decision before, at most, of minimum_variance and mean_risk",
            ),
            "memory_weeks": Number(
                default=2,
                low=1,
                high=52,
                is_whole=True,
                meaning="weeks of a block, where max_change is given: decisions are replayed from the block before",
            ),
            "max_gross": GROSS,
        },
        needs=needs_trailing,
        formula=(
            "max_gross * weights of skfolio's optimiser over the last `bars` returns of one bar, long, at most max_weight each and budget "
            "together, sectors and changes within their bounds; equal shares of the budget where there is no solution; 0 for a member without all these returns"
        ),
    ),
    "rank_long_short": Rule(
        name="rank_long_short",
        weigh=weigh_by_rank,
        why=why_between,
        params={
            "n_long": _N_LONG,
            "n_short": _N_SHORT,
            "quantile": _QUANTILE,
            "within_sectors": _WITHIN_SECTORS,
            "max_gross": GROSS,
        },
        needs=needs_both_ends,
        formula=(
            "max_gross / 2 shared by the n_long highest predictions of the ts (or of each sector), -max_gross / 2 by the n_short "
            "lowest; all 0 where fewer than n_long + n_short are known; ties by symbol"
        ),
    ),
    "rank_buffer": Rule(
        name="rank_buffer",
        weigh=weigh_with_buffer,
        why=why_between,
        params={
            "n_long": _N_LONG,
            "n_short": _N_SHORT,
            "quantile": _QUANTILE,
            "within_sectors": _WITHIN_SECTORS,
            "buffer": Number(
                default=1,
                low=0,
                high=100_000,
                is_whole=True,
                search=(0, 10),
                meaning="places behind an end at which a member still stays",
            ),
            "sessions": Number(default=20, low=1, high=260, is_whole=True, meaning="sessions that an entry counts for"),
            "max_gross": GROSS,
        },
        needs=needs_buffer,
        formula=(
            "as rank_long_short, but what is held stays until it falls behind the n_long + buffer highest (n_short + buffer "
            "lowest), nothing is predicted of it, or it was not among the n_long highest for as many sessions; each side shared "
            "by what it holds"
        ),
    ),
    "rule_tree": Rule(
        name="rule_tree",
        weigh=weigh_by_tree,
        check=check_tree,
        nested=checked_branch,
        explain=draw_tree,
        params={
            "branches": Listing(
                item=Nested(
                    words="a branch: when (columns with above, below, at_least, at_most; all; any), weight (-1 to 1)",
                    keys=("when", "weight"),
                ),
                is_required=True,
                least=1,
                most=50,
                meaning="conditions on predictions and features, each with the weight of the members for which it is the first to hold",
            ),
            "otherwise": Number(default=0.0, low=-1.0, high=1.0, meaning="weight where no condition holds"),
            "max_gross": GROSS,
        },
        needs=needs_tree,
        formula=(
            "max_gross / members of the ts * weight of the first branch whose condition holds, else otherwise; a comparison with an "
            "unknown value does not hold"
        ),
    ),
    "mix": Rule(
        name="mix",
        weigh=weigh_by_parts,
        why=why_cancelled,
        nested=checked_part,
        params={
            "parts": Listing(
                item=Nested(words="a rule: type, params, and its weight", keys=("type",)),
                is_required=True,
                least=2,
                most=10,
                meaning="rules, each with its weight in the mean (1 if left out)",
            ),
            "max_gross": GROSS,
        },
        needs=needs_parts,
        formula="max_gross * sum of weight * weights of the rule, over the sum of the weights; 0 where one of them knows nothing",
    ),
    "chain": Rule(
        name="chain",
        weigh=weigh_by_chain,
        why=why_cut,
        check=check_chain,
        nested=checked_step,
        explain=count_limits,
        params={
            "rule": Nested(words="a rule: type, params", meaning="that takes the positions"),
            "sizing": Listing(
                item=Nested(words="a step: type, params"), most=10, meaning="steps that size positions, in their order"
            ),
            "limits": Listing(
                item=Nested(words="a limit: type, params"),
                most=10,
                meaning="limits of the book, in an order of their own",
            ),
            "memory_weeks": Number(
                default=4,
                low=1,
                high=52,
                is_whole=True,
                meaning="weeks of a block: what was held is replayed from the block before that of the decision",
            ),
            "max_gross": replace(GROSS, default=None, is_optional=True),
        },
        needs=needs_chain,
        formula="the weights of the rule, after the steps of `sizing`, within `limits`; as `signal` has it with these fields",
    ),
}

RULES.update(_ENTRIES)
