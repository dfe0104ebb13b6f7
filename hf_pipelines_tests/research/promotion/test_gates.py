"""Gates: what each says on both sides of its threshold, and the rules that all of them share."""

import json
import math
from dataclasses import fields, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_pipelines.research.promotion import GATES, Decision, Evidence, Judged, judge_gates
from hf_pipelines.research.promotion.words import gate_cells
from hf_pipelines_tests.research.promotion.strong import STRONG, WORSE

NAMES = ("strategy", "week", "market", "score_against", "selected", "unmade")


def _of(gate: str, asked: Any = None, **changed: Any) -> Judged:
    decision = judge_gates(replace(STRONG, **changed), None if asked is None else {gate: asked})
    return next(each for each in decision.gates if each.gate == gate)


# Gate, what it reads, the last value that passes, the first that fails, and what is said of the latter.
AT_THE_THRESHOLD = [
    ("rows", "rows", 1_000, 999, "The number of training rows, 999, is less than 1,000."),
    (
        "beats_baselines",
        "score_probability",
        0.95,
        0.9499,
        "The probability that the model is better than the best baseline (mean) in rmse, 0.9499, is less than 0.9500.",
    ),
    ("beats_baselines", "score_better_by", 1e-9, 0.0, "The model is not better than the best baseline (mean) in rmse."),
    (
        "beats_portfolios",
        "portfolio_probability",
        {"a": 0.95, "b": 1.0},
        {"a": 0.96, "b": 0.9},
        "The probability that the account is better than b, 0.900, is less than 0.950.",
    ),
    ("sharpe", "sharpe", 0.5, 0.4, "The Sharpe ratio of a year, after costs, 0.40, is less than 0.50."),
    (
        "sharpe_low",
        "sharpe_low",
        0.0,
        -0.1,
        "The lower bound of the Sharpe ratio's interval of 95 %, -0.10, is less than 0.00.",
    ),
    (
        "deflated_sharpe",
        "deflated_sharpe",
        0.95,
        0.94,
        "The probability that the Sharpe ratio of this account is above 0 given 7 trials (deflated Sharpe ratio), 0.940, is less than 0.950.",
    ),
    (
        "overfitting",
        "overfitting",
        0.2,
        0.25,
        "The probability of backtest overfitting, of 7 trials, 0.25, is more than 0.20.",
    ),
    ("max_drawdown", "max_drawdown", 0.25, 0.312, "The largest drawdown of the account, 31.2%, is more than 25.0%."),
    (
        "turnover",
        "turnover_per_year",
        100.0,
        150.0,
        "The value traded in a year over equity, 150.0, is more than 100.0.",
    ),
    (
        "capacity",
        "capacity_multiple",
        1.0,
        0.5,
        "The money at which market impact halves the mean return, over that of the account, 0.50, is less than 1.00.",
    ),
    (
        "engines_agree",
        "engines_agree",
        True,
        False,
        "Another engine keeps another account from the same weights and bars.",
    ),
    ("replayed", "unreplayed", 0, 1, "1 week of its features is not replayed in full."),
    ("replayed", "replays_failed", 0, 2, "A full replay has found look-ahead in 2 weeks of its features."),
    ("controls", "controls_failed", 0, 1, "The controls of 1 fold found what is not there, or missed what is."),
    ("controls", "controls_unjudged", 0, 2, "2 folds have too few rows for the controls to be judged."),
    (
        "calibration",
        "calibration_error",
        0.05,
        0.06,
        "The mean distance between how sure predictions are and how often they are right, 0.060, is more than 0.050.",
    ),
    ("stable_folds", "fold_share", 0.6, 0.5, "The share of folds that earned something, 50%, is less than 60%."),
    (
        "stable_paths",
        "path_share",
        0.8,
        0.6,
        "The share of paths of combinatorial cross-validation that earned something, 60%, is less than 80%.",
    ),
    ("age_weeks", "age_weeks", 4.0, 5.0, "The age of the evidence, in weeks, 5.0, is more than 4.0."),
    (
        "up_to_date",
        "outdated",
        (),
        ("tech/backtest",),
        "Today's code and data would make it otherwise: tech/backtest.",
    ),
    ("holdout_looks", "holdout_looks", 3, 4, "The number of looks at the hold-out, 4, is more than 3."),
    ("holdout_looks", "holdout_budget", 1, 0, "The number of looks at the hold-out, 1, is more than 0."),
    (
        "members",
        "universe_chosen",
        "all_listed",
        "hindsight",
        "Members were chosen by hindsight: every account of them flatters.",
    ),
    (
        "beats_champion",
        "champion_probability",
        0.95,
        0.5,
        "The probability that the account is better than that of the champion, tech 2013-01-06, 0.500, is less than 0.950.",
    ),
]


@pytest.mark.parametrize(
    ("gate", "number", "last", "first", "why"), AT_THE_THRESHOLD, ids=[f"{row[0]}-{row[1]}" for row in AT_THE_THRESHOLD]
)
def test_a_gate_passes_up_to_its_threshold_and_not_beyond(
    gate: str, number: str, last: Any, first: Any, why: str
) -> None:
    assert _of(gate, **{number: last}).verdict == "passed"
    refused = _of(gate, **{number: first})
    assert (refused.verdict, refused.why) == ("failed", why)
    assert bool(refused.command) == GATES[gate].cures


def test_every_gate_is_tried_at_its_threshold_and_every_number_has_an_order() -> None:
    assert {row[0] for row in AT_THE_THRESHOLD} == {*GATES}
    numbers = {each.name for each in fields(Evidence)} - {*NAMES}
    assert {*WORSE} == numbers == {name for gate in GATES.values() for name in gate.reads}


def test_strong_evidence_passes_everything_and_the_decision_is_plain_json() -> None:
    decision = judge_gates(replace(STRONG, capacity_multiple=math.inf), {})
    assert decision.is_passed and decision.is_gated and decision.headline == "would pass"
    told = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert [each["gate"] for each in told["gates"]] == [*GATES] and told["is_passed"] is True
    assert next(each for each in told["gates"] if each["gate"] == "capacity")["value"] == "inf"
    assert json.loads(json.dumps(STRONG.to_json(), allow_nan=False))["portfolio_probability"]["equal weight"] == 0.96


def test_nothing_measured_refuses_by_every_gate_each_with_a_command() -> None:
    unmade = frozenset(each.name for each in fields(Evidence)) - {*NAMES}
    decision = judge_gates(Evidence(strategy="tech", week="2013-02-24", market="us_tech", unmade=unmade), None)
    assert not decision.is_gated and decision.headline == f"refused: {len(GATES)} of {len(GATES)} gates fail"
    for each in decision.gates:
        assert each.verdict == "missing" and each.value is None and each.why.startswith("Not made yet: ")
        assert each.command and "{" not in each.command and ("tech" in each.command)


@pytest.mark.parametrize("gate", GATES)
def test_a_number_that_is_missing_or_selected_fails_with_what_makes_it(gate: str) -> None:
    for name in GATES[gate].reads:
        lacking, words = math.nan if isinstance(getattr(STRONG, name), float) else None, name.replace("_", " ")
        judged = _of(gate, **{name: lacking}, unmade=frozenset([name]))
        assert (judged.verdict, judged.why) == ("missing", f"Not made yet: {words}.")
        makes = GATES[gate].remedy.format(strategy="tech", week="2013-02-24", market="us_tech")
        assert judged.command == makes
        # It is stored, and to make the same once more would change nothing.
        judged = _of(gate, **{name: lacking})
        assert (judged.verdict, judged.why) == ("missing", f"Made, of too little to tell it: {words}.")
        assert (judged.command == makes) is GATES[gate].grows and "2013-02-24" in judged.command
        judged = _of(gate, selected=frozenset([name]))
        assert judged.verdict == "failed" and "chosen by the very rows" in judged.why
        assert judged.command == "set `tuning.nested: true`, then hfp retrain tech --week 2013-02-24 --with-inputs"


def _is_passed(decision: Decision) -> dict[str, bool]:
    return {each.gate: each.is_passed for each in decision.gates}


@pytest.mark.parametrize("number", WORSE)
def test_a_worse_number_never_turns_a_gate_from_failed_to_passed(number: str) -> None:
    rng = np.random.default_rng(0)
    # Beside other numbers of any kind: strong ones, and such as were drawn.
    drawn = [{name: values[rng.integers(len(values))] for name, values in WORSE.items()} for _ in range(60)]
    for others, (better, worse) in product([{}, *drawn], pairwise([*WORSE[number], None])):
        before = _is_passed(judge_gates(replace(STRONG, **{**others, number: better}), {}))
        after = _is_passed(judge_gates(replace(STRONG, **{**others, number: worse}), {}))
        risen = [gate for gate in GATES if after[gate] and not before[gate]]
        assert not risen, f"{risen}: {number} from {better!r} to {worse!r} beside {others}"


@pytest.mark.parametrize("gate", GATES)
def test_a_weaker_threshold_is_shown_and_a_stricter_one_is_not(gate: str) -> None:
    entry = GATES[gate]
    weaker: float
    same: float
    if entry.bound is None:
        weaker, same = False, True
    else:
        sign = -1.0 if entry.bound == "least" else 1.0
        weaker, same = float(entry.default) + sign * 0.01, float(entry.default) - sign * 0.01
    # `holdout.looks` bounds what a gate may allow.
    assert (
        _of(gate, asked=weaker, holdout_budget=9).is_weaker
        and not _of(gate, asked=same).is_weaker
        and not _of(gate).is_weaker
    )
    assert (
        judge_gates(replace(STRONG, holdout_budget=9), {gate: weaker}).headline
        == f"would pass; asked less than by default: {gate}"
    )
    # What is not asked stands in nobody's way, and is shown.
    without = judge_gates(Evidence(strategy="tech", week="2013-02-24"), {gate: None})
    assert [each.gate for each in without.gates if each.is_passed] == [gate] and gate in without.headline


def test_a_strategy_whose_gates_are_all_off_is_not_shown_as_one_that_passes_them() -> None:
    off = {name: False if gate.bound is None else None for name, gate in GATES.items()}
    assert judge_gates(STRONG, off).headline == "would pass: none of its gates asks for anything"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"pbo": 0.1}, r"`gates` must be among rows, .*, was pbo"),
        ({"overfitting": 1.1}, r"`gates.overfitting` must be a number from 0 to 1, or null to ask nothing, was 1.1"),
        ({"overfitting": True}, r"`gates.overfitting` must be a number .* was True"),
        ({"overfitting": math.nan}, r"`gates.overfitting` must be a number .* was nan"),
        ({"members": 1.0}, r"`gates.members` must be true or false, was 1.0"),
    ],
    ids=["unknown", "range", "bool", "nan", "number"],
)
def test_a_threshold_that_is_none_is_refused(asked: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        judge_gates(STRONG, asked)


def test_what_needs_no_number_passes_in_words() -> None:
    assert _of("beats_champion", champion="", champion_probability=None).why == "No other configuration serves."
    assert _of("overfitting", n_trials=1, overfitting=None).verdict == "passed"
    assert _of("overfitting", n_trials=2, overfitting=None).verdict == "missing"
    assert _of("calibration", is_classification=False, calibration_error=None).verdict == "passed"
    gone: dict[str, Any] = {"has_holdout": False, "holdout_budget": None}
    assert _of("holdout_looks", holdout_looks=0, **gone).verdict == "passed"
    # Whoever takes the block away after looks wins none.
    refused = _of("holdout_looks", holdout_looks=2, **gone)
    assert refused.why == "It has no hold-out now, and 2 looks were taken at one." and refused.threshold == 0.0
    # The threshold shown is the one applied: the smaller of the gate's own and `holdout.looks`.
    for asked, budget, applied in ((3.0, 1, 1.0), (2.0, 3, 2.0), (100.0, 1, 1.0), (None, 1, None)):
        judged = judge_gates(replace(STRONG, holdout_budget=budget), {"holdout_looks": asked})
        shown = next(each for each in judged.gates if each.gate == "holdout_looks")
        assert shown.threshold == applied and shown.is_weaker == (asked is None)
        assert gate_cells(shown)[2] == ("- (weaker than 3)" if applied is None else f"{applied:.0f}")


def test_the_guide_s_table_is_that_of_the_gates() -> None:
    page = (Path(__file__).parents[3] / "docs" / "guides" / "idea-to-production.md").read_text()
    cells = [[each.strip() for each in line.split("|")[1:3]] for line in page.splitlines() if line.startswith("| `")]
    shown = {
        name: "yes" if gate.bound is None else f"at {gate.bound} {gate.default:,g}" for name, gate in GATES.items()
    }
    assert cells == [[f"`{name}`", default] for name, default in shown.items()]
