"""`<strategy>/validation`: the account of a week kept again under other conditions, and what it is known by that it lives on one thing.

Lives here: the stage, its checks and what it shows. Does not live here: what is tested (`validating`, `research.robustness`).
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import in_a_window, markdown_table, picture
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage, StageInput
from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.controls import (
    CONTROLS,
    control_fields,
    control_inputs,
    control_week,
    controlling_functions,
    is_judged,
    is_trusted,
)
from hf_pipelines.components.strategy_stages.decided_weights import decide, deciding_functions, traded_inputs
from hf_pipelines.components.strategy_stages.near_trials import near_in_words, near_trials
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, holdout_fields, single, trading_fields
from hf_pipelines.components.strategy_stages.validating import FUNCTIONS, doubted, tested_paths
from hf_pipelines.partitions import usual_sessions
from hf_pipelines.research.backtest import ENGINES, Execution
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.robustness import Tested, controls_in_words, judge_signs
from hf_pipelines.research.targets import Target
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content, Stored

# Of the account that is tested, by the exact engine, from the one that is stored: a part of it.
LARGEST_DIFFERENCE = 1e-6

# Facts in the footer.
FOUND, APART = "found", "apart"

DESCRIPTION = (
    "The out-of-fold account kept again under other conditions: by year, regime, sector and symbol; later, dearer, without its best sessions "
    "and its best symbol; other orders of the same sessions, shocks and declines. A row a test. What it is known by that it lives on one "
    "thing is a check, and so are its controls: three fits of the learner on the last fold. Beside all trials: hfp validate."
)


def validation(plan: StrategyPlan) -> Stage:
    """`<strategy>/validation`: a row for each test of the backtest of a week."""
    stored = StageInput("backtest", plan.asset("backtest"), guards=("fills_after_decisions",))

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        decided = decide(plan, inputs, key, horizon=plan.decided_horizon)
        by_path = tested_paths(plan, decided)
        found = doubted(plan, decided, by_path)
        table = found["table"]
        account = single(inputs["backtest"], key)
        hashes = {**inputs["cv_results"].hashes([key]), **inputs["backtest"].hashes([key])}
        for name, of_input in decided.weeks.items():
            hashes |= inputs[name].hashes(of_input)
        hashes |= inputs["training_matrix"].hashes([key])
        began_controls = perf_counter()
        controls = control_week(plan, inputs, key)
        content = Content(
            table,
            inputs=hashes,
            facts={
                FOUND: {name: each for name, each in found.items() if name != "table"},
                APART: _apart(by_path, account),
                CONTROLS: controls.to_json(),
            },
        )
        return content, {
            **_metadata(plan, key, found, table),
            **_near(plan, run, key, single(inputs["cv_results"], key).footer.facts, table),
            "controls": controls_in_words(controls),
            "verdict": controls.verdict,
            "controls_s": perf_counter() - began_controls,
            "validation_s": perf_counter() - began,
        }

    return Stage(
        asset=plan.asset("validation"),
        kind="validation",
        description=DESCRIPTION,
        kinds=frozenset({"parquet"}),
        partitions=plan.weekly,
        inputs=(*traded_inputs(plan), *control_inputs(plan), stored),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            *FUNCTIONS,
            *plan.backtest.cost_functions,
            *deciding_functions(plan),
            Costs,
            Execution,
            Target,
            _apart,
            *controlling_functions(plan),
            fields={
                **control_fields(plan),
                **trading_fields(plan),
                "rule": [plan.rule.name, dict(plan.rule.params)],
                "universe": plan.market.universe.spells,
                "sectors": dict(plan.market.universe.sectors),
                "universe_chosen": plan.market.universe.chosen_in_words,
                "currency": plan.market.currency,
                "sessions_per_year": usual_sessions(plan.market.partitions.calendar_name)[0],
                **({} if plan.decided_horizon is None else {"horizon": plan.decided_horizon}),
                **holdout_fields(plan),
            },
            chosen_from=CHOSEN_FROM,
        ),
        checks=(
            StageCheck(
                "same_account",
                "The account that is tested is the one that is stored, by equity, on every path.",
                _same_account(plan),
            ),
            StageCheck(
                "lives_on_one_thing",
                "No sign that what it earns comes from one symbol, few sessions, selling volatility, the price of the close, the first bar "
                "or low costs.",
                _signs,
                severity=dg.AssetCheckSeverity.WARN,
            ),
            StageCheck(
                "controls",
                "The learner finds a signal that is planted in its features, and nothing in labels of other sessions.",
                is_trusted,
            ),
            StageCheck(
                "controls_judged",
                "The last fold has rows enough for the controls to say so.",
                is_judged,
                severity=dg.AssetCheckSeverity.WARN,
            ),
        ),
    )


def read_validation(stored: Stored) -> dict[str, Any]:
    """What `validating.doubted` found when a partition was made, and its controls."""
    found: Any = stored.footer.facts[FOUND]
    return {**found, "table": stored.frame, CONTROLS: stored.footer.facts[CONTROLS]}


def _apart(by_path: Mapping[int | None, Tested], account: Stored) -> float:
    """Largest difference of the last equity from that of the stored account, over all paths, as a part of it."""
    frame = account.frame
    largest = 0.0
    for path, tested in by_path.items():
        of_path = frame if path is None else frame.filter(path=path)
        last = of_path["equity"][-1]
        largest = max(largest, abs(tested.account.equity[-1] - last) / max(abs(last), 1.0))
    return float(largest)


def _same_account(plan: StrategyPlan) -> Any:
    engine = plan.backtest.engine

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        if not ENGINES[engine].keeps_contract:
            return Finding(True, 0, (f"not compared: {engine} keeps another contract, tests are of the exact engine",))
        apart: Any = content.facts[APART]
        if apart <= LARGEST_DIFFERENCE:
            return Finding(True, 1)
        return Finding(
            False,
            1,
            (f"the last equity is {apart:.1e} of it apart from the stored one; hfp reconcile {plan.name} {key}",),
        )

    return evaluate


def _signs(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    found: Any = content.facts[FOUND]
    told = tuple(f"{each['name']}: {each['told']}" for each in found["signs"])
    return Finding(not told, content.frame.height, told)


def _near(plan: StrategyPlan, run: StageRun, key: str, facts: Mapping[str, Any], table: pl.DataFrame) -> dict[str, Any]:
    """What stored trials say, beside the content: it changes with the ledger."""
    if run.trials is None:
        return {}
    found = near_trials(plan, run.trials.objects, key, facts, sharpe=table["sharpe"][0], low=table["low"][0])
    return {
        "neighbourhood": "\n".join(
            [near_in_words(found), *(f"{each['name']}: {each['told']}" for each in found["signs"])]
        )
    }


def _metadata(plan: StrategyPlan, key: str, found: Mapping[str, Any], table: pl.DataFrame) -> dict[str, Any]:
    from hf_pipelines.research.robustness.plots import robustness_png

    heading = f"{plan.name}, week {key}"
    told = judge_signs([each["name"] for each in found["signs"]], table["low"][0])
    return {
        "signs": told,
        "tests": in_a_window(markdown_table(table.drop("test"))),
        "picture": picture(robustness_png, table, heading=heading, told=told),
        **({"survivorship": "\n".join(found["doubts"])} if found["doubts"] else {}),
        **({"paths": in_a_window(markdown_table(pl.DataFrame(found["paths"]).drop("test")))} if found["paths"] else {}),
        "outcomes_by_quantile": in_a_window(markdown_table(pl.DataFrame(found["signal"]["quantiles"]))),
    }
