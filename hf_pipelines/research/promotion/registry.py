"""The table of gates. A new one is one function (`gates`) and one line; its threshold is a key of `gates` in a strategy's YAML.

Lives here: names, thresholds, what each reads and how to make that. Not here: what they find.
"""

from __future__ import annotations

from hf_pipelines.research.promotion import gates
from hf_pipelines.research.promotion.evidence import Evidence
from hf_pipelines.research.promotion.gate import Gate

RETRAIN = "hfp retrain {strategy} --week {week} --with-inputs"
VALIDATE = "hfp validate {strategy} {week} --full"

# A number larger than any threshold needs.
MANY = 1e9


def _overfitting_needs(evidence: Evidence) -> tuple[str, ...]:
    # One trial alone was not chosen.
    return ("n_trials",) if evidence.n_trials == 1 else ("n_trials", "overfitting")


def _calibration_needs(evidence: Evidence) -> tuple[str, ...]:
    return ("is_classification", *(["calibration_error"] if evidence.is_classification else []))


def _holdout_needs(evidence: Evidence) -> tuple[str, ...]:
    return ("has_holdout", "holdout_looks", *(["holdout_budget"] if evidence.has_holdout else []))


def _champion_needs(evidence: Evidence) -> tuple[str, ...]:
    return ("champion", *(["champion_probability"] if evidence.champion else []))


GATES: dict[str, Gate] = {
    gate.name: gate
    for gate in (
        Gate(
            name="rows",
            judge=gates.rows,
            reads=("rows",),
            default=1_000.0,
            bound="least",
            high=MANY,
            meaning="Rows of the training matrix",
            remedy=RETRAIN,
        ),
        Gate(
            name="beats_baselines",
            judge=gates.beats_baselines,
            reads=("score_better_by", "score_probability"),
            default=0.95,
            bound="least",
            meaning="Probability that the outer out-of-fold score is better than that of the best predictive baseline",
            remedy=RETRAIN,
        ),
        Gate(
            name="beats_portfolios",
            judge=gates.beats_portfolios,
            reads=("portfolio_probability",),
            default=0.95,
            bound="least",
            meaning="Least probability that the account is better than a portfolio baseline: the benchmark, equal weights, random strategies",
            remedy=RETRAIN,
        ),
        Gate(
            name="sharpe",
            judge=gates.sharpe,
            reads=("sharpe",),
            default=0.5,
            bound="least",
            low=-10.0,
            high=10.0,
            meaning="Sharpe ratio of a year after costs",
            remedy=RETRAIN,
        ),
        Gate(
            name="sharpe_low",
            judge=gates.sharpe_low,
            reads=("sharpe_low",),
            default=0.0,
            bound="least",
            low=-10.0,
            high=10.0,
            meaning="Lower bound of its interval of 95 %",
            remedy=RETRAIN,
        ),
        Gate(
            name="deflated_sharpe",
            judge=gates.deflated_sharpe,
            reads=("deflated_sharpe",),
            default=0.95,
            bound="least",
            meaning="Probability that the Sharpe ratio is above 0, given all trials that count",
            remedy=RETRAIN,
        ),
        Gate(
            name="overfitting",
            judge=gates.overfitting,
            reads=("n_trials", "overfitting"),
            needs=_overfitting_needs,
            default=0.2,
            bound="most",
            meaning="Probability of backtest overfitting among the trials that count; one trial alone passes",
            remedy="hfp try {strategy} --set FIELD=VALUE --weeks {week}",
            grows=True,
        ),
        Gate(
            name="max_drawdown",
            judge=gates.max_drawdown,
            reads=("max_drawdown",),
            default=0.25,
            bound="most",
            meaning="Largest drawdown of the account",
            remedy=RETRAIN,
        ),
        Gate(
            name="turnover",
            judge=gates.turnover,
            reads=("turnover_per_year",),
            default=100.0,
            bound="most",
            high=MANY,
            meaning="Value traded in a year, buys and sells, over equity",
            remedy=RETRAIN,
        ),
        Gate(
            name="capacity",
            judge=gates.capacity,
            reads=("capacity_multiple",),
            default=1.0,
            bound="least",
            high=MANY,
            meaning="Money at which market impact halves the mean return, over the money that the account begins with",
            remedy="hfp materialise {strategy}/validation --from {week}",
        ),
        Gate(
            name="engines_agree",
            judge=gates.engines_agree,
            reads=("engines_agree",),
            default=True,
            meaning="Another engine keeps the same account",
            remedy="hfp reconcile {strategy} {week}",
        ),
        Gate(
            name="replayed",
            judge=gates.replayed,
            reads=("replays_failed", "unreplayed"),
            default=True,
            meaning="Every stored week of its features was replayed in full, and nothing looks ahead",
            remedy="hfp replay {market} --record",
            cures=True,
        ),
        Gate(
            name="controls",
            judge=gates.controls,
            reads=("controls_failed", "controls_unjudged"),
            default=True,
            meaning="The controls found what was planted, and nothing else",
            remedy=VALIDATE,
        ),
        Gate(
            name="calibration",
            judge=gates.calibration,
            reads=("is_classification", "calibration_error"),
            needs=_calibration_needs,
            default=0.05,
            bound="most",
            meaning="Expected calibration error of predicted classes; what predicts none passes",
            remedy=RETRAIN,
        ),
        Gate(
            name="stable_folds",
            judge=gates.stable_folds,
            reads=("fold_share",),
            default=0.6,
            bound="least",
            meaning="Share of the folds in which the account earned something",
            remedy=RETRAIN,
        ),
        Gate(
            name="stable_paths",
            judge=gates.stable_paths,
            reads=("path_share",),
            default=0.8,
            bound="least",
            meaning="Share of the paths of combinatorial cross-validation in which it earned something",
            remedy=VALIDATE,
        ),
        Gate(
            name="age_weeks",
            judge=gates.age,
            reads=("age_weeks",),
            default=4.0,
            bound="most",
            high=520.0,
            meaning="Weeks since the week that the evidence is of; of a market whose data have an end, until then",
            remedy=RETRAIN,
            cures=True,
        ),
        Gate(
            name="up_to_date",
            judge=gates.up_to_date,
            reads=("outdated",),
            default=True,
            meaning="Today's code and data would make the same evidence",
            remedy=RETRAIN,
            cures=True,
        ),
        Gate(
            name="holdout_looks",
            judge=gates.holdout_looks,
            reads=("has_holdout", "holdout_looks", "holdout_budget"),
            needs=_holdout_needs,
            default=3.0,
            bound="most",
            high=1_000.0,
            meaning="Looks at the hold-out, and no more than `holdout.looks`",
            remedy="hfp holdout {strategy}",
        ),
        Gate(
            name="members",
            judge=gates.members,
            reads=("universe_chosen",),
            default=True,
            meaning="Members of the market were not chosen by hindsight (`universe_chosen`)",
            remedy="write `universe_chosen` into the YAML of market {market}, then hfp retrain {strategy} --week {week}",
        ),
        Gate(
            name="beats_champion",
            judge=gates.beats_champion,
            reads=("champion", "champion_probability"),
            needs=_champion_needs,
            default=0.95,
            bound="least",
            meaning="Probability that the account is better than that of the champion; without one it passes",
            remedy="hfp retrain {strategy} --week {week}",
        ),
    )
}
