"""`<strategy>/full_validation`: what a sceptic asks that takes refits. Made when it is asked for, before something hangs on the answer.

Lives here: which configurations are fitted again and traded, and what is shown. Does not live here: what the tests say (`validating`,
`research.robustness`), the splitter (`research.splitters`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import in_a_window, markdown_table, parquet_bytes, picture
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.controls import control_fields, controlling_functions
from hf_pipelines.components.strategy_stages.decided_weights import (
    Decided,
    decide,
    decide_on,
    deciding_functions,
    traded_inputs,
)
from hf_pipelines.components.strategy_stages.plan import (
    StrategyPlan,
    holdout_fields,
    matrix_of,
    trading_fields,
)
from hf_pipelines.components.strategy_stages.trial_records import diagnostic_trial
from hf_pipelines.components.strategy_stages.tuned import model_plan, study_hashes, tuning_input
from hf_pipelines.components.strategy_stages.validating import FUNCTIONS, middle_path, tested_paths
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.backtest import Execution
from hf_pipelines.research.batched_matrix import labels_of
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.fold_by_fold import folds_of
from hf_pipelines.research.robustness import (
    Controls,
    Row,
    Tested,
    controls_in_words,
    judge_neighbours,
    neighbours,
    run_controls,
)
from hf_pipelines.research.robustness.controls import NOT_TRUSTED
from hf_pipelines.research.signals import RULES
from hf_pipelines.research.splitters import CombinatorialPurged
from hf_pipelines.research.targets import Target
from hf_pipelines.research.tuning.evaluation import with_features
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content, Stored
from hf_pipelines.resources.settings import folds_at_a_time
from hf_pipelines.resources.trial_ledger.trials import FULL_VALIDATION

# Fifteen fits, five paths.
N_FOLDS, N_TEST_FOLDS = 6, 2

PATHS, NEIGHBOURS, AS_IS = "path", "neighbour", "as traded"

# Facts in the footer.
FOUND = "found"

DESCRIPTION = (
    f"What takes refits: paths of combinatorial cross-validation ({N_FOLDS} blocks, {N_TEST_FOLDS} tested at a time), each an account with "
    "costs; every parameter that is worth tuning one step lower and higher; controls on every fold. A row an account. Nobody needs it "
    "weekly: hfp validate STRATEGY --full makes it before something hangs on the answer."
)


def full_validation(plan: StrategyPlan) -> Stage:
    """`<strategy>/full_validation`: a row for each path and each neighbour."""
    matrix_input = plan.matrix_input("training_matrix")

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        refits = _Refits(plan, run, inputs, key)
        own = _middle(refits.traded(plan, decide(plan, inputs, key, horizon=plan.decided_horizon)))
        as_is = own.row(AS_IS, AS_IS, own.returns)
        paths, accounts, told_of_paths = _paths(refits)
        beside, told_of_neighbours = _neighbours(refits)
        found, signs = judge_neighbours(as_is.sharpe, [each.sharpe for each in beside], low=as_is.low)
        controls = _controls(refits)
        table = pl.DataFrame([asdict(row) for row in (as_is, *paths, *beside)]).with_columns(
            pl.col(pl.Float64).fill_nan(None)
        )
        facts = {
            "paths": {"n": len(paths), "told": told_of_paths},
            "neighbourhood": {name: None if value != value else value for name, value in asdict(found).items()}
            | {"told": told_of_neighbours},
            "controls": [each.to_json() for each in controls],
            "signs": [asdict(each) for each in signs],
            "n_fits": refits.n_fits,
        }
        hashes = {**inputs["training_matrix"].hashes([key]), **inputs["cv_results"].hashes([key])}
        for name, weeks in refits.weeks.items():
            hashes |= inputs[name].hashes(weeks)
        content = Content(
            table,
            attachments={"paths.parquet": parquet_bytes(accounts)},
            inputs={**hashes, **study_hashes(plan, inputs, key)},
            facts={FOUND: facts},
        )
        shown = _metadata(plan, key, facts, table, accounts, controls)
        return content, {**shown, "full_validation_s": perf_counter() - began, "fit_s": refits.fit_s}

    return Stage(
        asset=plan.asset("full_validation"),
        kind="full_validation",
        description=DESCRIPTION,
        kinds=frozenset({plan.learner.choice.entry.family, "parquet"}),
        partitions=plan.weekly,
        inputs=(matrix_input, *traded_inputs(plan), *tuning_input(plan)),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            *FUNCTIONS,
            cross_validate,
            *controlling_functions(plan),
            Configuration,
            neighbours,
            judge_neighbours,
            CombinatorialPurged,
            folds_of,
            Costs,
            Execution,
            Target,
            *plan.backtest.cost_functions,
            *deciding_functions(plan),
            fields={
                **control_fields(plan),
                **trading_fields(plan),
                "paths": [N_FOLDS, N_TEST_FOLDS],
                "rule": [plan.rule.name, dict(plan.rule.params)],
                "universe": plan.market.universe.spells,
                "sessions_per_year": usual_sessions(plan.market.partitions.calendar_name)[0],
                **({} if plan.decided_horizon is None else {"horizon": plan.decided_horizon}),
                **holdout_fields(plan),
            },
            chosen_from=CHOSEN_FROM,
        ),
        checks=(
            StageCheck(
                "controls_behaved",
                "On no fold is anything found in labels of other sessions, and on each a planted signal is.",
                _trusted,
            ),
        ),
    )


def read_full_validation(stored: Stored) -> dict[str, Any]:
    """What a partition holds, as JSON; `table` a row an account."""
    found: Any = stored.footer.facts[FOUND]
    return {**found, "table": stored.frame.to_dicts()}


class _Refits:
    """Fits a configuration on the week's matrix and trades what it predicts; each is a diagnostic trial of the strategy."""

    def __init__(self, plan: StrategyPlan, run: StageRun, inputs: Mapping[str, Loaded], key: str) -> None:
        self.plan, self.run, self.inputs, self.key = plan, run, inputs, key
        self.at = model_plan(plan, inputs, key)
        matrix = matrix_of(inputs["training_matrix"], key)
        self.matrix = matrix
        if plan.tuning is not None and isinstance(matrix, pl.DataFrame):
            self.matrix = with_features(matrix, self.at.base)
        self.labels = labels_of(matrix)
        self.n_fits, self.fit_s = 0, 0.0
        self.weeks: Mapping[str, list[str]] = {}

    def fitted(self, at: StrategyPlan, splitter: Any) -> pl.DataFrame:
        """Out-of-fold predictions of a configuration."""
        began = perf_counter()
        found = cross_validate(
            self.matrix, learner=at.learner.choice, splitter=splitter, n_jobs=self.n_jobs, **self.settings
        )
        self.fit_s += perf_counter() - began
        self.n_fits += found.fold_metrics.height
        self.run.log.info(f"{self.key}: {self.n_fits} fits in {self.fit_s:.0f} s")
        return found.predictions

    @property
    def n_jobs(self) -> int:
        return 1 if self.plan.reads_in_batches else folds_at_a_time()

    @property
    def settings(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "target": plan.target,
            "weightings": plan.training.weightings,
            "seed": plan.learner.seed,
            "missing": plan.training.missing,
            "validation_share": plan.learner.validation_share,
            "times": plan.bar_times(self.labels["session"]),
        }

    def decided(self, at: StrategyPlan, predictions: pl.DataFrame) -> Decided:
        return decide_on(
            self.plan, at, self.inputs, self.key, predictions, horizon=self.plan.decided_horizon
        )  # fmt: skip

    def traded(self, at: StrategyPlan, decided: Decided) -> dict[int | None, Tested]:
        self.weeks = decided.weeks
        return tested_paths(at, decided)

    def trial(self, at: StrategyPlan, differs: Mapping[str, Any]) -> Any:
        data = self.inputs["training_matrix"].hashes([self.key])
        return diagnostic_trial(at, self.run, self.plan, self.key, data, source=FULL_VALIDATION, differs=differs)


def _middle(by_path: Mapping[int | None, Tested]) -> Tested:
    return by_path[middle_path(by_path)]


def _paths(refits: _Refits) -> tuple[list[Row], pl.DataFrame, str]:
    """A row and an account for each path, the lowest return first; or why there are none."""
    empty = pl.DataFrame(schema={"path": pl.Int32, "session": pl.Date, "equity": pl.Float64})
    given = refits.plan.splitter.params
    kept = {name: given[name] for name in ("embargo_sessions", "min_train_sessions") if name in given}
    splitter = CombinatorialPurged(n_folds=N_FOLDS, n_test_folds=N_TEST_FOLDS, **kept)
    try:
        with refits.trial(refits.at, {"cross_validation": ["combinatorial_purged", N_FOLDS, N_TEST_FOLDS]}) as end:
            predictions = refits.fitted(refits.at, splitter)
            by_path = refits.traded(refits.at, refits.decided(refits.at, predictions))
            rows = [each.row(PATHS, f"path {path}", each.returns) for path, each in by_path.items()]
            end({"sharpe": _mean(rows)})
    except ValueError as e:
        return [], empty, f"no paths: {e}"
    accounts = [
        pl.DataFrame({"session": each.sessions, "equity": _grown(each)}).select(
            pl.lit(path, dtype=pl.Int32).alias("path"), "session", "equity"
        )
        for path, each in by_path.items()
    ]
    return sorted(rows, key=lambda row: row.total_return), pl.concat([empty, *accounts]), ""


def _neighbours(refits: _Refits) -> tuple[list[Row], str]:
    """A row for each configuration one step away, and which could not be made."""
    at, rows, failed = refits.at, list[Row](), list[str]()
    own: pl.DataFrame | None = refits.inputs["cv_results"].parts[refits.key].frame
    if refits.plan.tuning is not None and refits.plan.tuning.is_nested:
        # Each fold has a configuration of its own.
        own = None
    for name, value in _beside(at):
        label = f"{name} {value:g}"
        try:
            tried = at.tuned({name: value})
            with refits.trial(tried, {name: value}) as end:
                is_rule = name.startswith("rule.")
                predictions = own if is_rule and own is not None else refits.fitted(tried, at.splitter.build())
                tested = _middle(refits.traded(tried, refits.decided(tried, predictions)))
                rows.append(tested.row(NEIGHBOURS, label, tested.returns))
                end({"sharpe": _mean(rows[-1:])})
        except ValueError as e:
            failed.append(f"{label}: {e}")
    told = "nothing of it is worth tuning: it has no neighbours" if not rows and not failed else "\n".join(failed)
    return rows, told


def _beside(at: StrategyPlan) -> list[tuple[str, float]]:
    """Neighbours of the learner and of the rule, a step of sizing apart."""
    learner, rule = at.learner.choice, at.rule
    inner = rule.params.get("rule")
    name, params = (inner["type"], inner.get("params", {})) if isinstance(inner, Mapping) else (rule.name, rule.params)
    return [
        *((f"learner.{each}", value) for each, value in neighbours(learner.entry.params, learner.params)),
        *((f"rule.{each}", value) for each, value in neighbours(RULES[name].params, params)),
    ]


def _controls(refits: _Refits) -> list[Controls]:
    """Twins of every fold."""
    folds = folds_of(refits.plan.splitter.build(), refits.labels)
    began = perf_counter()
    found = [
        run_controls(
            refits.matrix, learner=refits.at.learner.choice, splitter=fold, n_jobs=refits.n_jobs, **refits.settings
        )
        for fold in folds
    ]
    refits.run.log.info(f"{refits.key}: controls of {len(folds)} folds in {perf_counter() - began:.0f} s")
    return found


def _grown(tested: Tested) -> Any:
    return (1.0 + pl.Series(tested.returns).fill_nan(0.0)).cum_prod().to_numpy()


def _mean(rows: Sequence[Row]) -> float | None:
    known = [each.sharpe for each in rows if not math.isnan(each.sharpe)]
    return math.fsum(known) / len(known) if known else None


def _trusted(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    found: Any = content.facts[FOUND]
    told = tuple(
        f"fold {fold}: {'; '.join(each['reasons'])}"
        for fold, each in enumerate(found["controls"])
        if each["verdict"] == NOT_TRUSTED
    )
    return Finding(not told, sum(len(each["twins"]) for each in found["controls"]), told)


def _metadata(
    plan: StrategyPlan,
    key: str,
    facts: Mapping[str, Any],
    table: pl.DataFrame,
    accounts: pl.DataFrame,
    controls: Sequence[Controls],
) -> dict[str, Any]:
    from hf_pipelines.research.robustness.plots import paths_png, robustness_png

    heading = f"{plan.name}, week {key}"
    lines = list(full_validation_lines({**facts, "table": table.to_dicts()}))
    return {
        "headline": "\n".join(lines),
        "accounts": in_a_window(markdown_table(table.drop("test"))),
        "picture": picture(robustness_png, table, heading=heading, told=lines[0]),
        **({} if accounts.is_empty() else {"fan_of_paths": picture(paths_png, accounts, heading=heading)}),
        "controls": "\n".join(f"fold {fold}: {controls_in_words(each)}" for fold, each in enumerate(controls)),
    }


def full_validation_lines(found: Mapping[str, Any]) -> list[str]:
    """What it found, a line each: paths, neighbours, signs."""
    paths = [row for row in found["table"] if row["test"] == PATHS]
    beside = found["neighbourhood"]
    lines = []
    if paths:
        earned = sum(row["total_return"] > 0.0 for row in paths)
        deepest = max(row["max_drawdown"] for row in paths)
        lines.append(
            f"{earned} of {len(paths)} paths of combinatorial cross-validation earned something: {paths[0]['total_return']:+.1%} to "
            f"{paths[-1]['total_return']:+.1%}; the deepest drawdown is {deepest:.1%}"
        )
    else:
        lines.append(found["paths"]["told"])
    if beside["n"]:
        lines.append(
            f"{beside['n']} neighbours fitted one step beside its parameters: Sharpe ratio {beside['mean']:.2f} in the mean, "
            f"{beside['worst']:.2f} at worst" + ("" if beside["own"] is None else f", its own {beside['own']:.2f}")
        )
    if beside["told"]:
        lines.append(beside["told"])
    lines += [f"{each['name']}: {each['told']}" for each in found["signs"]]
    return lines
