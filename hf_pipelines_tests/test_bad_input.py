"""Bad input: a fault in YAML is told with file, line and the names that are known."""

import re
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import pytest
import yaml

from hf_pipelines.components import Strategy, extras
from hf_pipelines.components.component_tree import load_components, load_sound_components
from hf_pipelines.components.strategy_fields import CrossValidationSpec
from hf_pipelines.components.yaml_lines import LOADING_ERRORS, FaultyYAMLError, line_of, loading_fault
from hf_pipelines.research.backtest import CAPABILITIES, ENGINES
from hf_pipelines.research.features import FEATURES
from hf_pipelines.research.learners import ALIASES, LEARNERS
from hf_pipelines.research.promotion import GATES
from hf_pipelines.research.signals import ALIASES as RULE_ALIASES
from hf_pipelines.research.signals import RULES
from hf_pipelines.research.splitters import SPLITTERS, fill_splitter_params
from hf_pipelines.research.targets import TARGETS
from hf_pipelines_tests.checkout import make_checkout

DEFS = Path(__file__).resolve().parents[1] / "hf_pipelines" / "defs"
MARKET, DIRECTION, RANKING, META = (
    "markets/us_tech/defs.yaml",
    "strategies/tech_direction/defs.yaml",
    "strategies/tech_ranking/defs.yaml",
    "strategies/tech_meta/defs.yaml",
)
FEATURES_LINE = "features: [technical, cross_asset, temporal]"

CASES = [
    pytest.param(
        RANKING, "borrow_bps_per_year: 50.0", "borrow_bps_per_year: 50.0\n  sweep: {space: {rule: {n_lung: [1, 2]}}}",
        ["`sweep.params` of 'rank_long_short' must be among", "was ['n_lung']"], id="sweep of no parameter",
    ),
    pytest.param(
        RANKING, "borrow_bps_per_year: 50.0", "borrow_bps_per_year: 50.0\n  sweep: {space: {costs: {fee_bps: {type: float, low: 0, high: 9}}}}",
        ["`sweep.costs.fee_bps` must have countable values", "give it a `step`, or list `choices`"], id="sweep without an end",
    ),
    pytest.param(
        RANKING, "slippage_bps: 2.0", "slippage_bps: 2.0\n    costs: [impct]",
        ["`costs.0` must be one of commission, spread, impact", "was 'impct'"], id="unknown cost",
    ),
    pytest.param(
        RANKING, "slippage_bps: 2.0", "slippage_bps: 2.0\n    costs: [{type: spread, params: {half_bps: -1}}]",
        ["`costs.0.params.half_bps` of 'spread' must be from 0 to 10000, was -1"], id="negative cost",
    ),
    pytest.param(
        RANKING, "slippage_bps: 2.0", "slippage_bps: 2.0\n    costs: [{type: spread, params: {column: quoted}}]",
        ["`backtest.costs` must read `features` of the strategy, was without quoted"], id="spread of no column",
    ),
    pytest.param(
        RANKING, "slippage_bps: 2.0", "slippage_bps: 2.0\n    engine: vectorbt\n    costs: [impact]",
        ["`backtest.engine` must simulate impact (costs.impact), was vectorbt, which does not; take reference"], id="cost of no engine",
    ),
    pytest.param(
        DIRECTION, FEATURES_LINE, "features: [technical/rsi_15]",
        ["`features` must be among", "technical/rsi_14", "was technical/rsi_15"], id="unknown feature",
    ),
    pytest.param(
        DIRECTION, FEATURES_LINE, "features: [fundamentals]",
        ["cross_asset", "technical, temporal", "was fundamentals"], id="unknown feature group",
    ),
    pytest.param(
        DIRECTION, FEATURES_LINE, "features: []",
        ["`features` must name at least one group or feature, was empty"], id="no features",
    ),
    pytest.param(
        DIRECTION, "type: xgboost_classifier", "type: forest",
        [f"`learner` must be among {', '.join(sorted({*LEARNERS, *ALIASES}))}, was forest"], id="unknown learner",
    ),
    pytest.param(
        DIRECTION, "max_depth: 6", "max_dept: 6",
        ["`params` of 'xgboost_classifier' must be among", "'max_depth'", "was ['max_dept']"], id="unknown learner param",
    ),
    pytest.param(
        DIRECTION, "max_depth: 6", "max_depth: six", ["`max_depth` of 'xgboost_classifier' must be a whole number", "'six'"],
        id="learner param of another type",
    ),
    pytest.param(
        RANKING, "type: ridge\n    params: {alpha: 100.0}", "preprocessing: [standard_scalin]\n    type: ridge",
        ["`preprocessing.0` must be among cross_sectional_rank, ", "standard_scaling, winsorising, was standard_scalin"], id="unknown preprocessing",
    ),
    pytest.param(
        RANKING, "type: forward_return\n    horizon_bars: 10", "params: {horizons: [1, 5]}\n    type: forward_returns",
        ["`target` must have the horizons that learner 'ridge' predicts", "was 1, 5; take a learner with the output horizons"],
        id="horizons for a learner of one",
    ),
    pytest.param(
        RANKING, "type: ridge\n    params: {alpha: 100.0}", "type: ridge\n    calibration: temperature",
        ["`learner` must fit the target 'forward_return', was 'ridge' for none: its calibration 'temperature' is of "
         "probabilities, which it does not give"],
        id="calibration of returns",
    ),
    pytest.param(
        RANKING, "type: forward_return\n    horizon_bars: 10", "type: realised_volatility\n    horizon_bars: 10",
        ["`target` must be one of which a higher prediction is a higher return for the rule 'rank_long_short', was "
         "'realised_volatility'; take another target (forward_return, direction, "],
        id="volatility taken for a return",
    ),
    pytest.param(
        DIRECTION, "type: direction\n    horizon_bars: 5\n    params: {upper: 0.01, lower: -0.01}",
        "type: meta_label\n    horizon_bars: 5\n    params: {primary: rsi_14}",
        ["`target` must be one of which a higher prediction is a higher return for the rule 'probability_threshold', was "
         "'meta_label'"],
        id="a side that was right taken for a rise",
    ),
    pytest.param(
        RANKING, "type: forward_return\n    horizon_bars: 10",
        "params: {over: benchmark, benchmark: SPY}\n    type: excess_return\n    horizon_bars: 10",
        ["`target` must have what 'excess_return' is made from, symbols of market us_tech, was without SPY"],
        id="benchmark that the market has not",
    ),
    pytest.param(
        RANKING, "type: forward_return\n    horizon_bars: 10", "params: {horizons: [1, null]}\n    type: forward_returns",
        ["`horizons.1` of 'forward_returns' must be a whole number, was None"], id="a horizon that is none",
    ),
    pytest.param(
        RANKING, "type: forward_return\n    horizon_bars: 10", "width: 1.0\n    type: first_touch\n    horizon_bars: 10",
        ["`target.width` must be a field that the YAML reference lists, was none of them; a parameter of the `type` stands below `params`"],
        id="parameter beside its type",
    ),
    pytest.param(
        RANKING, "  signal:", "  intervals: {method: splitt}\n  signal:",
        ["`intervals.method` must be among adaptive, aps, lac, quantile, split, was splitt"], id="unknown intervals",
    ),
    pytest.param(
        RANKING, "  signal:", "  intervals: {method: quantile}\n  signal:",
        ["`intervals.method` must have quantiles 0.05 and 0.95 of the learner to be quantile with coverage 0.9, was without 0.05 and 0.95"],
        id="intervals of quantiles that nothing predicts",
    ),
    pytest.param(
        DIRECTION, "  signal:", "  intervals: {method: split, coverage: 0.8}\n  signal:",
        ["`intervals.method` must be for the target 'direction', a classification, was 'split'; take lac or aps"],
        id="intervals of another task",
    ),
    pytest.param(
        RANKING, "n_splits: 6\n    embargo_sessions: 2", "type: purged_kfold\n  intervals: {method: split}",
        ["`intervals` must have folds that are trained on the past alone, was with cross_validation 'purged_kfold'"],
        id="intervals without earlier folds",
    ),
    pytest.param(
        DIRECTION, "type: direction", "type: up_down",
        [f"`target` must be among {', '.join(sorted(TARGETS))}, was up_down"], id="unknown target",
    ),
    pytest.param(
        DIRECTION, "{upper: 0.01, lower: -0.01}", "{above: 0.01}",
        ["`params` of 'direction' must be among ['horizon_bars', 'lower', 'upper']", "was ['above']"], id="unknown target param",
    ),
    pytest.param(
        DIRECTION, "{upper: 0.01, lower: -0.01}", "{upper: 0.01, lower: 0.02}",
        ["`lower` must not exceed `upper`, was 0.02 against 0.01"], id="target params that contradict",
    ),
    pytest.param(
        DIRECTION, "{upper: 0.01, lower: -0.01}", "{upper: big}",
        ["`upper` of 'direction' must be a number, was 'big'"], id="target param of another type",
    ),
    pytest.param(
        DIRECTION, "    horizon_bars: 5", "    # no horizon",
        ["`horizon_bars` must be given for target 'direction', was missing"], id="target without its horizon",
    ),
    pytest.param(
        DIRECTION, "type: probability_threshold", "type: thresholds",
        [f"`signal` must be among {', '.join(sorted({*RULES, *RULE_ALIASES}))}, was thresholds"], id="unknown rule",
    ),
    pytest.param(
        RANKING, "  signal:\n", "  drift: {retrain_on: [age, decay, age]}\n  signal:\n",
        ["`retrain_on` must name each alarm once, was ['age', 'decay', 'age']; leave out what stands twice."],
        id="alarm that asks twice",
    ),
    pytest.param(
        DIRECTION, "threshold: 0.55, long", "treshold: 0.55, long",
        ["must be among long_short, max_gross, threshold, was treshold"], id="unknown rule param",
    ),
    pytest.param(
        DIRECTION, "threshold: 0.55, long", "threshold: 55, long",
        ["`threshold` of 'probability_threshold' must be from 1e-06 to 1, was 55"], id="rule param out of bounds",
    ),
    pytest.param(
        RANKING, "    type: rank_long_short\n    params: {n_long: 2, n_short: 2}",
        "    type: threshold\n    params:\n      buy: -0.01\n      sell: 0.02",
        ["`sell` of 'threshold' must be below its `buy` -0.01, was 0.02; exchange the two."], id="levels in the wrong order",
    ),
    pytest.param(
        RANKING, "    type: rank_long_short\n    params: {n_long: 2, n_short: 2}",
        "    type: rule_tree\n    params:\n      branches:\n        - when: &endless\n            all: [*endless]\n          weight: 1.0",
        ["`signal.params.branches.0.when.all.0` must be a value of its own or one that has ended, was *endless"],
        id="tree without end",
    ),
    pytest.param(
        RANKING, "    type: rank_long_short\n    params: {n_long: 2, n_short: 2}",
        "    type: rule_tree\n    params:\n      branches:\n        - {when: {rsi_99: {below: 30}}, weight: 1.0}",
        ["`signal` must have what 'rule_tree' is made from, its `features`, was without rsi_99"], id="tree of an unknown feature",
    ),
    pytest.param(
        RANKING, "    params: {n_long: 2, n_short: 2}",
        "    params: {n_long: 2, n_short: 2}\n    limits:\n      - {type: net_cap, params: {most: 0.2}}\n"
        "      - {type: gross_cap, params: {most: 0.1}}",
        ["`limits.0.params.most` of net_cap must not exceed gross_cap (0.1), was 0.2; it would never be reached"],
        id="caps that contradict",
    ),
    pytest.param(
        DIRECTION, "    params: {threshold: 0.55, long_short: true}", "    params: {threshold: 0.55}\n    sizing: [kelly]",
        ["`signal.sizing` must be without kelly", "for a learner without `calibration`, was with it; give the learner a `calibration`"],
        id="Kelly without calibration",
    ),
    pytest.param(
        RANKING, "    type: rank_long_short\n    params: {n_long: 2, n_short: 2}",
        "    type: portfolio\n    params: {n_held: 99}",
        ["`n_held` must be at most the ", " members of `universe` of market us_tech, was 99"], id="more positions than members",
    ),
    pytest.param(
        RANKING, "    params: {n_long: 2, n_short: 2}", "    params: {n_long: 2, n_short: 2, within_sectors: true}",
        ["`signal` must have what 'rank_long_short' is made from, a `sector` of each member in `universe`, was without "],
        id="sectors that are not there",
    ),
    pytest.param(
        DIRECTION, "    n_splits: 5", "    type: kfold\n    n_splits: 5",
        [f"`cross_validation` must be among {', '.join(sorted(SPLITTERS))}, was kfold"], id="unknown splitter",
    ),
    pytest.param(
        DIRECTION, "    n_splits: 5", "    test_sessions: 9\n    type: purged_kfold",
        ["`params` of 'purged_kfold' must be among ['embargo_sessions', 'min_train_sessions', 'n_splits']", "test_sessions"],
        id="param of another splitter",
    ),
    pytest.param(
        DIRECTION, "    n_splits: 5", "    n_splits: 5\n    params: {n_splits: 4}",
        ["`cross_validation` must give a parameter once, was given n_splits twice"], id="splitter param twice",
    ),
    pytest.param(
        DIRECTION, "    n_splits: 5", "    max_train_sessions: 3\n    min_train_sessions: 9",
        ["`max_train_sessions` must be at least `min_train_sessions` (9), was 3"], id="splitter params that contradict",
    ),
    pytest.param(
        RANKING, "horizon_bars: 10", "horizon_bars: 780",
        ["`target` must look less than the 7", " bars ahead that 156 `training.weeks` of market us_tech hold at most, was 780"],
        id="horizon longer than the window",
    ),
    pytest.param(
        DIRECTION, "type: direction\n    horizon_bars: 5\n    params: {upper: 0.01, lower: -0.01}",
        "type: volatility_direction\n    horizon_bars: 5\n    params: {volatility_bars: 9000}",
        ["`target` must look at fewer bars than the 3", " that market us_tech has in all, was 9000 before a row and 5 after it"],
        id="more history than there is",
    ),
    pytest.param(
        DIRECTION, "    n_splits: 5", "    test_sessions: 200",
        ["`n_splits` blocks of 200 sessions must leave 40 to train on", "was 5 with 7", "; raise `training.weeks`, ", "So many sessions are the most that 156 "
         "`training.weeks` of market us_tech hold."],
        id="blocks longer than the window",
    ),
    pytest.param(
        RANKING, "  signal:", "  diagnostics: {permutations: 18, learning_curve: [0.5, 1.0]}\n  signal:",
        ["`diagnostics.permutations` must be 0, or from 19 to 1,000, was 18; of fewer no gap is among the 5 % largest",
         "`diagnostics.learning_curve` must be at most 50 different shares above 0 and below 1, was [0.5, 1.0]"],
        id="too few permutations, and all sessions as a share",
    ),
    pytest.param(
        RANKING, "  signal:", "  diagnostics: {score: accuracy}\n  signal:",
        ["`diagnostics.score` must be one of r2, directional_accuracy, mse, rmse, mae, information_coefficient, "
         "linear_information_coefficient for target 'forward_return', was accuracy"], id="score of another target",
    ),
    pytest.param(
        RANKING, "  signal:", "  diagnostics: {validation_curve: {parameter: max_depth, values: [1]}}\n  signal:",
        ["`diagnostics.validation_curve.parameter` must be among alpha, fit_intercept of learner 'ridge', was max_depth"],
        id="curve over a parameter of another learner",
    ),
    pytest.param(
        RANKING, "  signal:", "  diagnostics: {validation_curve: {parameter: alpha, values: [1.0, -1.0]}}\n  signal:",
        ["`diagnostics.validation_curve.values` must be right for the learner, was -1.0: `alpha` of 'ridge' must be from"],
        id="curve over a value that is none",
    ),
    pytest.param(
        RANKING, "  signal:", "  diagnostics: {validation_curve: {parameter: alpha, values: 10}}\n  signal:",
        ["`diagnostics.validation_curve.values` must be a list, was 10."],
        id="curve over a number",
    ),
    pytest.param(
        RANKING, "  signal:", "  diagnostics: {validation_curve: {parameter: alpha, values: [100.0]}}\n  signal:",
        ["`diagnostics.validation_curve.values` must hold another than the learner's own 100.0, was 100.0 alone; add values"],
        id="curve over the learner's own value",
    ),
    pytest.param(
        RANKING, "type: rank_long_short\n    params: {n_long: 2, n_short: 2}", "type: probability_threshold",
        ["`signal` must be a rule on what learner 'ridge' predicts of target 'forward_return' (prediction, confidence), was "
         "probability_threshold, which reads probability_down, probability_up; take ", "rank_buffer or rank_long_short"],
        id="rule on what nothing predicts",
    ),
    pytest.param(
        DIRECTION, "type: probability_threshold\n    params: {threshold: 0.55, long_short: true}",
        "type: meta_label\n    params: {primary: roc_5}",
        ["`signal` must be a rule on what learner 'xgboost_classifier' predicts of target 'direction'",
         "was meta_label, which reads probability_right; take ", "probability_threshold or rank_buffer or rank_long_short"],
        id="rule on meta-labels of a target without them",
    ),
    pytest.param(
        META, "params: {primary: roc_20, threshold: 0.5}", "params: {primary: roc_5, threshold: 0.5}",
        ["`signal.params.primary` must be that of the target, 'roc_20', was 'roc_5'", "write the same in both"],
        id="rule on another side than the labels",
    ),
    pytest.param(
        RANKING, "type: rank_long_short\n    params: {n_long: 2, n_short: 2}", "type: ranking\n    params: {n_long: 9}",
        ["`n_long` + `n_short` must be at most the 5 members of `universe` of market us_tech, was 9 + 2"],
        id="more positions than members",
    ),
    pytest.param(
        RANKING, "params: {n_long: 2, n_short: 2}", "params: {n_long: [2]}", ["`n_long` of 'rank_long_short' must be a whole number"],
        id="rule param of another type",
    ),
    pytest.param(
        DIRECTION, "market: us_tech", "market: us_teck", ["`market` must be one of us_tech, us_tech_feed, was 'us_teck'"],
        id="unknown market",
    ),
    pytest.param(
        DIRECTION, "weeks: 156", "weeks: 0", ["`training.weeks` must be from 1 to 2,600, was 0"], id="window of no weeks",
    ),
    pytest.param(
        RANKING, "type: ridge\n    params: {alpha: 100.0}", "type: xgboost_classifier",
        ["`learner` must fit the target 'forward_return'", "was 'xgboost_classifier' for classification"],
        id="classifier for a return",
    ),
    pytest.param(
        RANKING, "type: ridge\n    params: {alpha: 100.0}", "type: lightgbm\n    params: {categories: [day_of_week, region]}",
        ["`categories` must be among the `features` of the strategy, was day_of_week, region"], id="category that is no feature",
    ),
    pytest.param(
        RANKING, "type: ridge\n    params: {alpha: 100.0}", "type: momentum_sign\n    params: {feature: momentum_1}",
        ["`feature` must be among the `features` of the strategy, was momentum_1; add it, or name another"],
        id="feature of a baseline that is none",
    ),
    pytest.param(
        RANKING, "type: ridge\n    params: {alpha: 100.0}", "params: {device: tpu}\n    type: lightgbm",
        ["`device` of 'lightgbm' must be one of auto, cpu, cuda, was 'tpu'"], id="device that nobody has",
    ),
    pytest.param(
        MARKET, "calendar: XNYS", "calendar: NYSE_X",
        ["`calendar` must be a name known to exchange_calendars, was 'NYSE_X'", "XNYS"], id="unknown calendar",
    ),
    pytest.param(
        MARKET, "{symbol: IBM}", "{symbol: ../../x}", ["`universe` must hold symbols like", "'../../x'"],
        id="symbol that is a path",
    ),
    pytest.param(
        MARKET, "{symbol: IBM}", '{symbol: "A\\0B"}', ["`universe` must hold symbols like", r"'A\x00B'"],
        id="symbol with NUL",
    ),
    pytest.param(
        MARKET, "{symbol: IBM}", "{symbol: " + "A" * 300 + "}", ["`universe` must hold symbols like", "'" + "A" * 80],
        id="symbol of 300 characters",
    ),
    pytest.param(
        MARKET, "{symbol: IBM}", "{symbol: AAPL}",
        ["`universe` must hold each symbol once", "repetition of AAPL"], id="symbol twice",
    ),
    pytest.param(
        MARKET, "{symbol: IBM}", "{symbol: SPX}",
        ["`universe` must hold each symbol once and not the benchmark", "SPX"], id="benchmark as a member",
    ),
    pytest.param(
        MARKET, "{symbol: IBM}", "{symbol: IBN}",
        ["`universe` must be among AAPL, FB, GOOG, IBM, MSFT, SPX", "was IBN"], id="unknown symbol of the sample",
    ),
    pytest.param(
        MARKET, "technical/rsi_14, ", "astrology, ",
        ["`features` must be among", "cross_asset", "technical, temporal", "was astrology"], id="unknown group of a market",
    ),
    pytest.param(
        MARKET, 'start: "2000-03-01"', 'start: "1 March 2000"', ["`start` must be a date YYYY-MM-DD", "1 March 2000"],
        id="start that is no date",
    ),
    pytest.param(
        MARKET, "timezone: America/New_York", "timezone: America/New_Yrk",
        ["`timezone` must be an IANA name", "'America/New_Yrk'"], id="unknown time zone",
    ),
]  # fmt: skip


def _load(folder: Path, file: str, old: str, new: str) -> Path:
    """Load a copy of the project's defs in which one passage differs; returns the file."""
    package = f"copied_{abs(hash(str(folder)))}"
    shutil.copytree(DEFS, folder / package / "defs", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / package / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\n'
        f'root_module = "{package}"\nregistry_modules = ["hf_pipelines.components.*"]\n'
    )
    path = folder / package / "defs" / file
    text = path.read_text()
    assert text.count(old) >= 1, f"{file} has no {old!r}"
    path.write_text(text.replace(old, new, 1))
    sys.path.insert(0, str(folder))
    try:
        load_components(folder / package)
    finally:
        sys.path.remove(str(folder))
    return path


def _messages(error: BaseException | None) -> str:
    found = []
    while error is not None:
        found.append(str(error))
        error = error.__cause__
    return "\n".join(found)


def _expect_fault(folder: Path, file: str, old: str, new: str) -> tuple[str, int]:
    """Message of loading the edited defs, and the line that it names in the edited file."""
    with pytest.raises(FaultyYAMLError) as caught:
        _load(folder, file, old, new)
    message = _messages(caught.value)
    named = re.search(rf"{re.escape(file)}:(\d+)", message)
    assert named, message
    return message, int(named[1])


@pytest.mark.parametrize(("file", "old", "new", "expected"), CASES)
def test_defs_with_a_fault_name_file_line_and_what_is_known(tmp_path, file, old, new, expected):
    message, line = _expect_fault(tmp_path, file, old, new)
    for part in expected:
        assert part in message
    (path,) = tmp_path.glob(f"*/defs/{file}")
    lines = path.read_text().splitlines()
    faulty = next(number for number, each in enumerate(lines, start=1) if new.split("\n")[0] in each)
    # The line itself, of several that were put in any, or the field it belongs to a few lines above; a repeated symbol is told
    # where it stands first.
    assert faulty - 4 <= line <= faulty + new.count("\n")


@pytest.mark.parametrize(
    ("holdout", "told"),
    [
        ("{weeks: 0}", "`holdout.weeks` must be from 1 to 2,600, was 0."),
        ("{weeks: -26}", "`holdout.weeks` must be from 1 to 2,600, was -26."),
        ("{weeks: half a year}", "`holdout.weeks` must be a whole number, was 'half a year'."),
        ("{from: 26 weeks}", "`from` must be a date YYYY-MM-DD, was '26 weeks'."),
        ("{from: 2013-02-30}", "`from` must be a date YYYY-MM-DD, was '2013-02-30'."),
        ("{from: 2024-01-01}", "`from` must leave weeks of market us_tech, 2000-03-01 to 2013-03-01, on both sides of the hold-out, "
         "was 2024-01-01; take a date between them."),
        # A Wednesday, in the first week of the data.
        ("{from: 2000-03-01}", "`from` must leave weeks of market us_tech, 2000-03-01 to 2013-03-01, on both sides of"),
        ("{weeks: 679}", "`weeks` must leave weeks of market us_tech, 2000-03-01 to 2013-03-01, on both sides of the hold-out, was "
         "679; take fewer."),
        ("{weeks: 26, from: 2012-09-02}", "`holdout` must give `weeks` or `from` (a date), was both, 26 and 2012-09-02; give one of"),
        ("{from: 2012-09-02, looks: -1}", "`holdout.looks` must be from 0 to 1,000, was -1."),
        ("{from: 2012-09-02, looks: few}", "`holdout.looks` must be a whole number, was 'few'."),
        ("{}", "`holdout` must give `weeks` or `from` (a date), was neither; give one of them."),
        ("26", "`holdout` must be a mapping, was 26."),
        ("{week: 26}", "`holdout.week` must be a field that the YAML reference lists, was none of them; did you mean weeks?"),
        ("{from_: 2012-09-02}", "`holdout.from_` must be a field that the YAML reference lists, was none of them; did you mean from?"),
    ],
)  # fmt: skip
def test_defs_with_a_holdout_that_cannot_be_name_its_line_and_what_would_be(tmp_path, holdout, told):
    with pytest.raises(LOADING_ERRORS) as caught:
        _load(tmp_path, RANKING, "  features:", f"  holdout: {holdout}\n  features:")
    (defs,) = tmp_path.glob("copied_*/defs")
    (line,) = loading_fault(caught.value, defs).splitlines()
    number = 1 + (defs / RANKING).read_text().splitlines().index(f"  holdout: {holdout}")
    assert line.startswith(f"{defs / RANKING}:{number}: {told}")


@pytest.mark.parametrize(
    ("gates", "told"),
    [
        ("{deflated_sharpe: 1.5}", "`gates.deflated_sharpe` must be from 0.0 to 1.0, was 1.5."),
        ("{overfitting: .nan}", "`gates.overfitting` must be from 0.0 to 1.0, was nan."),
        ("{sharpe: high}", "`gates.sharpe` must be a number, was 'high'."),
        ("{members: maybe}", "`gates.members` must be true or false, was 'maybe'."),
        ("{drawdown: 0.2}", "`gates.drawdown` must be a field that the YAML reference lists, was none of them; did you mean max_drawdown?"),
        ("strict", "`gates` must be a mapping, was 'strict'."),
    ],
)  # fmt: skip
def test_defs_with_gates_that_cannot_be_name_their_line_and_what_would_be(tmp_path, gates, told):
    with pytest.raises(LOADING_ERRORS) as caught:
        _load(tmp_path, RANKING, "  features:", f"  gates: {gates}\n  features:")
    (defs,) = tmp_path.glob("copied_*/defs")
    (line,) = loading_fault(caught.value, defs).splitlines()
    number = 1 + (defs / RANKING).read_text().splitlines().index(f"  gates: {gates}")
    assert line.startswith(f"{defs / RANKING}:{number}: {told}"), line


def test_defs_with_gates_take_the_defaults_of_those_that_are_left_out(tmp_path):
    path = _load(
        tmp_path, RANKING, "  features:", "  gates: {overfitting: 0.1, capacity: null, members: false}\n  features:"
    )
    asked = Strategy.resolve_from_yaml(yaml.safe_dump(_attributes(path))).gates.thresholds()
    defaults = {name: gate.default for name, gate in GATES.items()}
    assert asked == {**defaults, "overfitting": 0.1, "capacity": None, "members": False}
    bare = {**_attributes(path), "gates": {}}
    assert Strategy.resolve_from_yaml(yaml.safe_dump(bare)).gates.thresholds() == defaults
    del bare["gates"]
    assert Strategy.resolve_from_yaml(yaml.safe_dump(bare)).gates is None


def _attributes(path: Path) -> dict:
    return {"name": path.parent.name, **yaml.safe_load(path.read_text())["attributes"]}


def test_defs_whose_learner_does_not_fit_the_target_name_the_learner_s_line(tmp_path):
    message, line = _expect_fault(tmp_path, RANKING, "type: forward_return", "type: direction")
    assert "`learner` must fit the target 'direction', was 'ridge' for regression" in message
    (path,) = tmp_path.glob(f"*/defs/{RANKING}")
    assert path.read_text().splitlines()[line - 1] in ("  learner:", "    type: ridge")


def test_defs_that_take_more_symbols_than_the_universe_name_the_signal_s_line_and_the_numbers(tmp_path):
    old = next(line.strip() for line in (DEFS / RANKING).read_text().splitlines() if "n_long" in line)
    message, line = _expect_fault(tmp_path, RANKING, old, "params: {n_long: 4, n_short: 3}")
    members = (DEFS / MARKET).read_text().count("symbol:")
    assert (
        f"`n_long` + `n_short` must be at most the {members} members of `universe` of market us_tech, was 4 + 3"
        in message
    )
    (path,) = tmp_path.glob(f"*/defs/{RANKING}")
    assert path.read_text().splitlines()[line - 1] == "  signal:"


def test_defs_without_a_fault_load_from_a_copy(tmp_path):
    assert _load(tmp_path, DIRECTION, "seed: 7", "seed: 8").exists()


def test_every_splitter_takes_its_parameters_beside_its_type(tmp_path):
    """As the guides write them; one that is of another splitter stays refused, and so does one given twice."""
    beside = "type: walk_forward\n    unit: months\n    train: 24\n    test: 6\n    step: 3"
    assert _load(tmp_path / "loads", RANKING, "n_splits: 6", beside).exists()
    for name, kind in SPLITTERS.items():
        params = fill_splitter_params(name, {})
        given = {each: value for each, value in params.items() if value is not None}
        assert {*given} <= {*kind.params}
        assert fill_splitter_params(name, CrossValidationSpec(type=name, **given).given) == params
    with pytest.raises(ValueError, match="train\n.*Extra inputs are not permitted"):
        CrossValidationSpec(type="purged_kfold", train=24)
    with pytest.raises(ValueError, match="`cross_validation` must give a parameter once, was given train twice"):
        CrossValidationSpec(type="walk_forward", train=24, params={"train": 12})


def test_defs_with_quantiles_for_a_target_of_classes_say_which_target(tmp_path):
    old = "type: xgboost_classifier\n    params:"
    new = "type: xgboost_early_stopping\n    params:\n      quantiles: [0.1, 0.9]"
    message, _ = _expect_fault(tmp_path, DIRECTION, old, new)
    assert (
        "`quantiles` of learner 'xgboost_early_stopping' must be left out for classes, was given with target" in message
    )


def test_defs_that_keep_unknown_features_for_a_learner_that_takes_none_name_one_that_does(tmp_path):
    old = next(line.strip() for line in (DEFS / RANKING).read_text().splitlines() if "minimum_rows" in line)
    message, _ = _expect_fault(tmp_path, RANKING, old, f"{old}\n    missing: keep")
    assert "`training.missing` must be drop for learner 'ridge', which takes no unknown features, was keep" in message
    assert "let its preprocessing begin with imputation, or take a learner that does (" in message and all(
        f"{able}, " in message for able in ("catboost", "extra_trees")
    )


def test_defs_with_a_group_that_the_market_lacks_name_the_strategy_s_line_and_the_market_s_groups(tmp_path):
    with pytest.raises(FaultyYAMLError) as caught:
        _load(
            tmp_path,
            MARKET,
            "cross_asset/benchmark_correlation_60, cross_asset/benchmark_beta_60, cross_asset/relative_strength_60,",
            "",
        )
    message = _messages(caught.value)
    assert f"{DIRECTION}:9: `features` must be among the groups of market us_tech (technical, temporal)" in message
    assert "was cross_asset" in message


VOTING = """type: voting
    params:
      members:
        - {type: ridge, params: {alpha: 10.0}}
        - type: xgboost
          params: {max_depth: 3, subsample: 0.5}
          preprocessing:
            - type: standard_scaling
              params: {with_mean: true}
      weights: [1, 2]"""


@pytest.mark.parametrize(
    ("old", "new", "told", "line"),
    [
        ("", "", "", 0),
        ("alpha: 10.0", "alpha: -1", "`members.0.params.alpha` of 'ridge' must be from 0 to 1e+12, was -1", 4),
        ("max_depth: 3", "max_dept: 3", "`members.1.params` of 'xgboost' must be among [", 6),
        ("max_depth: 3", "max_depth: a", "`members.1.params.max_depth` of 'xgboost' must be a whole number, was 'a'", 6),
        ("type: xgboost", "type: forest", "`members.1.type` must be among", 5),
        ("type: standard_scaling", "type: scaling", "standard_scaling, winsorising, was scaling", 8),
        (
            "with_mean: true", "with_mean: 1",
            "`members.1.preprocessing.0.params.with_mean` of 'standard_scaling' must be true or false, was 1", 9,
        ),
        ("weights: [1, 2]", "weights: [1, two]", "`weights.1` of 'voting' must be a number, was 'two'", 10),
        ("weights: [1, 2]", "weights: [1]", "`weights` of 'voting' must have from 2 to 20 values, was with 1", 10),
        ("weights: [1, 2]", "weights: [0, 0]", "`weights` must hold one above zero, was 0 for every member", 10),
        ("weights: [1, 2]", "weights: [1, 2, 3]", "`weights` must be one for each of 2 members, was 3", 10),
    ],
    ids=["sound", "range", "parameter", "type", "learner", "step", "step param", "list", "length", "zeros", "members"],
)  # fmt: skip
def test_defs_with_a_fault_in_a_nested_learner_name_its_line(tmp_path, old, new, told, line):
    faulty = VOTING.replace(old, new)
    if not told:
        assert _load(tmp_path, RANKING, "type: ridge\n    params: {alpha: 100.0}", faulty).exists()
        return
    message, found = _expect_fault(tmp_path, RANKING, "type: ridge\n    params: {alpha: 100.0}", faulty)
    assert told in message
    (path,) = tmp_path.glob(f"*/defs/{RANKING}")
    begins = path.read_text().splitlines().index("    type: voting")
    assert found == begins + line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        pytest.param("name: tech_direction", "nam: tech_direction", 4, id="unknown field"),
        pytest.param("horizon_bars: 5", "horizon_bars: five", 12, id="field of another type"),
        pytest.param("fee_bps: 1.0", "fee_pct: 1.0", 39, id="unknown nested field"),
    ],
)
def test_defs_with_a_wrong_field_name_file_and_line(tmp_path, old, new, line):
    message, _ = _expect_fault(tmp_path, DIRECTION, old, new)
    assert f"{DIRECTION}:{line}" in message


def test_every_known_feature_is_listed_for_an_unknown_one(tmp_path):
    message, _ = _expect_fault(tmp_path, DIRECTION, FEATURES_LINE, "features: [technical/none]")
    assert all(f"technical/{name}" in message for name, feature in FEATURES.items() if feature.group == "technical")


def test_line_of_finds_nested_fields_and_the_value_refused(tmp_path):
    (tmp_path / "defs.yaml").write_text(
        "type: x\nattributes:\n  name: a\n  training:\n    weeks: 0\n  learner:\n    type: tree\n    params:\n      depth: 6\n"
    )
    place = str(tmp_path / "defs.yaml")
    assert line_of(tmp_path, "training.weeks") == f"{place}:5"
    assert line_of(tmp_path, "", "`training.weeks` must be at least 1, was 0.") == f"{place}:5"
    assert line_of(tmp_path, "learner", "`params` must be among ['max_depth'], was ['depth'].") == f"{place}:9"
    assert line_of(tmp_path, "learner", "`learner` must be among ridge, was tree.") == f"{place}:7"
    assert line_of(tmp_path, "learner") == f"{place}:6"
    assert line_of(tmp_path, "absent") == f"{place}:1"


FLOW = """type: x
attributes: {name: a,
  learner: {type: voting, params: {members: [
    {type: ridge, params: {alpha: 1}, preprocessing: [{type: k_best, params: {k: 9}}]},
    {type: last_value, params: {feature: roc_5}},
    {type: momentum_sign, params: {feature: gone}}]}},
  signal: {type: ranks,
    params: {n_long: 1}}}
"""
BLOCK = """type: x
attributes:
  learner:
    type: voting
    params:
      members:
        - type: ridge
          preprocessing:
            - winsorising
            - type: k_best
              params:
                k: 9
        - type: last_value
          params:
            feature: roc_5
        - type: momentum_sign
          params:
            feature: gone
  signal:
    type: ranks
    params:
      n_long: 1
"""


@pytest.mark.parametrize(
    ("text", "field", "fault", "line"),
    [
        pytest.param(FLOW, "", "`learner.params` must be right, was wrong.", 3, id="flow field"),
        pytest.param(FLOW, "learner", "`members.0.preprocessing.0.params.k` must be at most 3, was 9.", 4, id="flow path"),
        pytest.param(FLOW, "learner", "`feature` must be among the `features`, was gone; add it.", 6, id="flow value"),
        pytest.param(FLOW, "signal.params", "", 8, id="flow dotted"),
        pytest.param(BLOCK, "learner", "`members.0.preprocessing.1.params.k` must be at most 3, was 9.", 12, id="block path"),
        # The second `feature`, whose value is refused.
        pytest.param(BLOCK, "learner", "`feature` must be among the `features`, was gone; add it.", 18, id="block value"),
        pytest.param(BLOCK, "", "`members.2.type` must be among ridge, was other.", 16, id="type of a member"),
        pytest.param(BLOCK, "signal", "`nothing` must be there, was 7.", 19, id="unknown below a field"),
        # Of `params` that of the signal: the other one does not hold the value.
        pytest.param(BLOCK, "", "`params` must be among ['n_short'], was ['n_long'].", 22, id="one of several"),
        pytest.param("type: x\nattributes: [", "learner", "`learner` must be there, was none.", 1, id="no YAML"),
    ],
)  # fmt: skip
def test_line_of_finds_flow_style_positions_and_the_one_of_several_that_is_refused(tmp_path, text, field, fault, line):
    (tmp_path / "defs.yaml").write_text(text)
    assert line_of(tmp_path, field, fault) == f"{tmp_path / 'defs.yaml'}:{line}"


@pytest.mark.parametrize(
    ("learner", "told", "line"),
    [
        pytest.param(
            "{type: ridge, preprocessing: [winsorising, {type: k_best, params: {k: 500}}]}",
            "`preprocessing.1.params.k` must be at most the {n} columns that can reach 'k_best', was 500; take fewer, or", 1,
            id="flow",
        ),
        pytest.param(
            "\n    type: voting\n    params:\n      members:\n        - ridge\n        - type: ridge\n          preprocessing:\n"
            "            - {type: pca, params: {most: 4}}\n            - {type: mutual_information, params: {k: 5}}",
            "`members.1.preprocessing.1.params.k` must be at most the 4 columns that can reach 'mutual_information', was 5;", 9,
            id="member behind components",
        ),
        pytest.param(
            "\n    type: last_value\n    params:\n      feature: gone",
            "`feature` must be among the `features` of the strategy, was gone; add it, or name another", 4,
            id="feature below params",
        ),
    ],
)  # fmt: skip
def test_defs_with_a_step_or_a_feature_that_the_columns_do_not_hold_name_its_line(tmp_path, learner, told, line):
    old = "learner:\n    type: ridge\n    params: {alpha: 100.0}"
    assert old in (DEFS / RANKING).read_text()
    message, found = _expect_fault(tmp_path, RANKING, old, f"learner: {learner}".replace(": \n", ":\n"))
    n = re.search(r"at most the (\d+) columns", message)
    assert told.format(n=n and n[1]) in message
    (path,) = tmp_path.glob(f"*/defs/{RANKING}")
    lines = path.read_text().splitlines()
    begins = next(number for number, each in enumerate(lines) if each.startswith("  learner:"))
    assert found == begins + line


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param("calendar: XNYS", "calendar: NYSE_X", [(15, "`calendar` must be a name known to")], id="value"),
        pytest.param(
            "name: us_tech", "nam: us_tech", [(3, "`name` must be given, was missing."), (4, "`nam` must be a field that the YAML reference lists, was none")],
            id="field",
        ),
        pytest.param(
            "name: us_tech", "name: us_tech_feed",
            [(4, "`name` must be that of the component's folder, us_tech, was 'us_tech_feed'; rename one.")], id="name of another",
        ),
        pytest.param(
            'since: "2012-05-18"', 'sinc: "2012-05-18"', [(8, "`universe.1.sinc` must be a field that the YAML reference lists, was none")],
            id="nested field",
        ),
        pytest.param(
            "type: sample", "type: sampl",
            [(18, "`source.type` must be one of sample, files, http, yfinance, lean, was 'sampl'; did you mean sample?")], id="type of a source",
        ),
        pytest.param("type: sample", "type: http", [(17, "`source.base_url` must be given, was missing.")], id="field of a source"),
        pytest.param(
            "type: sample", "type: http\n    baseurl: http://127.0.0.1:1",
            [(17, "`source.base_url` must be given, was missing."), (19, "`source.baseurl` must be a field that the YAML reference lists")],
            id="misspelt field of a source",
        ),
        pytest.param("attributes:", "attributes: [", [(5, "the file must be YAML, was not: did not find expected ',' or ']'.")], id="no YAML"),
        pytest.param(
            "components.Market", "components.Markt",
            [(1, "`type` must be hf_pipelines.components.Market, hf_pipelines.components.Strategy or")], id="component",
        ),
        pytest.param(
            "  features: [", "  feature_modules: [desk_that_is_nowhere]\n  features: [desk, ",
            # Not also that the group `desk` is unknown: it is the module's.
            [(21, "`feature_modules` must name importable modules, was 'desk_that_is_nowhere' (No module")],
            id="feature module",
        ),
    ],
)  # fmt: skip
def test_loading_fault_of_defs_is_one_line_a_fault_with_file_and_line(tmp_path, old, new, told):
    with pytest.raises(LOADING_ERRORS) as caught:
        _load(tmp_path, MARKET, old, new)
    (defs,) = tmp_path.glob("copied_*/defs")
    lines = loading_fault(caught.value, defs).splitlines()
    assert len(lines) == len(told)
    for line, (number, said) in zip(lines, told, strict=True):
        assert line.startswith(f"{defs / MARKET}{'' if number is None else f':{number}'}: {said}")


def test_loading_fault_that_is_one_of_the_code_is_left_to_its_traceback():
    try:
        try:
            raise TypeError("a fault of the code")
        except TypeError as e:
            raise dg.components.core.component_tree.ComponentTreeException("Error while loading component a[0]:") from e
    except LOADING_ERRORS as e:
        assert loading_fault(e, DEFS) == ""


@pytest.mark.parametrize(
    ("learner", "name"), [("type: catboost", "catboost"), (VOTING.replace("xgboost", "lightgbm"), "lightgbm")]
)
def test_a_learner_whose_library_is_not_installed_names_the_extra_that_brings_it(tmp_path, monkeypatch, learner, name):
    # Of one inside of another, too.
    monkeypatch.setattr(extras, "find_spec", lambda package: None if package == name else find_spec(package))
    old = "type: ridge\n    params: {alpha: 100.0}"
    message, line = _expect_fault(
        tmp_path, RANKING, old, learner.replace("max_depth: 3, subsample: 0.5", "max_depth: 3")
    )
    assert (
        f"`learner.type` must be a learner whose library is installed, was '{name}', which needs {name}; install the "
        in message
    )
    assert 'pip install "hf_pipelines[trees]".' in message
    begins = (DEFS / RANKING).read_text().splitlines().index("    type: ridge") + 1
    # That of its field, or below it.
    assert begins - 1 <= line < begins + len(learner.splitlines())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        # Seen in the file, and when it is built.
        ("calendar: XNYS", "calender: XNYS", "`calendar` must be given, was missing."),
        (
            "  features: [",
            "  feature_modules: [desk_that_is_nowhere]\n  features: [",
            "`feature_modules` must name importable modules",
        ),
    ],
    ids=["file", "module"],
)
def test_strategies_of_a_faulty_market_are_left_out_with_it_and_the_others_are_loaded(
    tmp_path, monkeypatch, old, new, told
):
    package = f"left_out_{abs(hash(str(tmp_path)))}"
    shutil.copytree(DEFS, tmp_path / package / "defs", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{package}"\n'
    )
    defs = tmp_path / package / "defs"
    market = defs / MARKET
    market.write_text(market.read_text().replace(old, new, 1))
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load_sound_components(tmp_path)
    of_market = {
        each.parent for each in (defs / "strategies").glob("*/defs.yaml") if "market: us_tech\n" in each.read_text()
    }
    assert len(of_market) > 1 and {*loaded.faults} == {market.parent, *of_market}
    assert told in loaded.faults[market.parent]
    for folder in of_market:
        line = (folder / "defs.yaml").read_text().splitlines().index("  market: us_tech") + 1
        assert (
            loaded.faults[folder]
            == f"{folder / 'defs.yaml'}:{line}: `market` must be one that can be loaded, was us_tech; correct its file."
        )
    assert {each.name for each in loaded.tree.get_all_components(of_type=Strategy)} == {"tech_direction_feed"}


def test_commands_on_a_project_with_a_faulty_market_name_it_and_go_on_with_the_others(tmp_path):
    checkout = make_checkout(tmp_path / "checkout", [])
    path = checkout.root / "hf_pipelines" / "defs" / MARKET
    path.write_text(
        path.read_text().replace("  features: [", "  feature_modules: [desk_that_is_nowhere]\n  features: [desk, ", 1)
    )
    fault = f"{path}:21: `feature_modules` must name importable modules, was"
    for command in (["feature", "test", "rsi_14"], ["feed", "us_tech", "--init"]):
        done = checkout.hfp(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"hfp: {fault}")
        assert done.stderr.count("\n") == 1
    # What is asked of the others is answered, with the fault beside it, and a watcher hears of it.
    done = checkout.hfp("status", "--strict")
    assert done.returncode == 2
    assert "us_tech_feed" in done.stdout and f"not loaded: {fault}" in done.stdout
    # Once: its own lines say it.
    assert done.stderr == ""
    done = checkout.hfp("current", "us_tech_feed/bars")
    assert done.stderr.startswith(f"hfp: not loaded: {fault}") and done.stderr.count("\n") == 1
    # The names are there for who has mistyped one.
    done = checkout.hfp("list", "features", "rsi_14")
    assert done.returncode == 0 and done.stdout.startswith("technical/rsi_14")
    assert done.stderr.startswith(f"hfp: not shown, the market cannot be loaded: {fault}")


def test_defs_that_ask_an_engine_for_what_it_does_not_simulate_name_its_line(tmp_path, monkeypatch):
    modest = replace(ENGINES["reference"], name="modest", capabilities=frozenset(CAPABILITIES) - {"shorts"})
    monkeypatch.setitem(ENGINES, "modest", modest)
    old = next(line for line in (DEFS / RANKING).read_text().splitlines() if "fee_bps" in line)
    message, line = _expect_fault(tmp_path, RANKING, old, f"{old}\n    engine: modest")
    assert (
        "`backtest.engine` must simulate shorts (the signal rule), was modest, which does not; take reference"
        in message
    )
    (path,) = tmp_path.glob(f"*/defs/{RANKING}")
    assert path.read_text().splitlines()[line - 1] == "    engine: modest"


@pytest.mark.parametrize(
    ("engine", "limits", "told"),
    [
        (
            "vectorbt",
            ["participation: 0.1", "lot_size: 1", "cash_limit: true"],
            "cash_limit (cash_limit), was vectorbt",
        ),
        (
            "backtrader",
            ["cash_limit: true", "delisted_after_bars: 5", "participation: 0.1"],
            "cash_limit (cash_limit), delistings (delisted_after_bars), was backtrader",
        ),
        (
            "modest",
            ["participation: 0.1", "lot_size: 1"],
            "lots (lot_size), participation (participation), was modest, which does not; take reference",
        ),
    ],
)
def test_defs_that_ask_an_engine_for_limits_that_it_has_not_name_its_line(tmp_path, monkeypatch, engine, limits, told):
    pytest.importorskip("vectorbt")
    modest = replace(
        ENGINES["reference"], name="modest", capabilities=frozenset(CAPABILITIES) - {"participation", "lots"}
    )
    monkeypatch.setitem(ENGINES, "modest", modest)
    old = next(line for line in (DEFS / RANKING).read_text().splitlines() if "fee_bps" in line)
    asked = "".join(f"\n    {each}" for each in (f"engine: {engine}", *limits))
    message, line = _expect_fault(tmp_path, RANKING, old, f"{old}{asked}")
    assert f"`backtest.engine` must simulate {told}" in message
    (path,) = tmp_path.glob(f"*/defs/{RANKING}")
    assert path.read_text().splitlines()[line - 1] == f"    engine: {engine}"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (RANKING, "type: ridge", "type: rigde", "was rigde; did you mean ridge?"),
        (RANKING, "params: {alpha: 100.0}", "params: {alfa: 1.0}", "was ['alfa']; did you mean alpha?"),
        (RANKING, "params: {alpha: 100.0}", "preprocessing: [standart_scaling]", "did you mean standard_scaling?"),
        (RANKING, "market: us_tech", "market: us_tec", "was 'us_tec'; did you mean us_tech?"),
        (RANKING, "type: forward_return", "type: foward_return", "did you mean forward_return?"),
        (RANKING, "type: rank_long_short", "type: rank_long_shrot", "did you mean rank_long_short?"),
        (RANKING, "  learner:", "  learnr:", "was none of them; did you mean learner?"),
        (DIRECTION, FEATURES_LINE, "features: [technical/rcs_5]", "did you mean technical/roc_5?"),
        # Nothing is like it.
        (RANKING, "type: ridge", "type: abracadabra", "was abracadabra."),
    ],
)  # fmt: skip
def test_an_unknown_name_is_told_with_the_known_one_that_is_nearest(tmp_path, file, old, new, told):
    with pytest.raises(LOADING_ERRORS) as caught:
        _load(tmp_path, file, old, new)
    (defs,) = tmp_path.glob("copied_*/defs")
    line = next(line for line in loading_fault(caught.value, defs).splitlines() if file in line and told in line)
    assert line.count("did you mean") == ("did you mean" in told)
