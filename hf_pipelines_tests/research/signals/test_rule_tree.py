"""Rule trees and mixes by hand, and what is refused of them."""

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.signals import apply_rule, explain_rule, fill_rule_params, rule_functions, rule_needs
from hf_pipelines.research.signals.probability_threshold import weigh_by_probability
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines_tests.research.signals.test_registry import NAN, random_predictions
from hf_pipelines_tests.sample_matrix import plain_bars

BRANCHES = [
    {
        "when": {"all": [{"prediction": {"above": 0.1}}, {"any": [{"rsi": {"below": 30}}, {"gap": {"at_least": 2}}]}]},
        "weight": 1.0,
    },
    {"when": {"prediction": {"above": 0.0}}, "weight": 0.5},
    {"when": {"prediction": {"at_most": -0.1}, "rsi": {"above": 70}}, "weight": -1.0},
]


def rows(**columns: list[float | None]) -> pl.DataFrame:
    n = len(next(iter(columns.values())))
    keys = plain_bars({f"S{at}": [1.0] for at in range(n)}).select("symbol", "session", "ts")
    return keys.with_columns(pl.Series(name, each, dtype=pl.Float64) for name, each in columns.items())


TABLE = rows(
    prediction=[0.2, 0.2, 0.2, 0.2, -0.1, -0.2, None, -0.2],
    rsi=[20.0, 50.0, 50.0, None, 80.0, 60.0, 20.0, NAN],
    gap=[0.0, 2.0, 1.0, 3.0, 0.0, 0.0, 9.0, 0.0],
)


def test_rule_tree_takes_the_first_branch_that_holds():
    # The last but one has no prediction, of the last rsi is unknown: that is neither above nor below 70.
    expected = [1.0, 1.0, 0.5, 1.0, -1.0, 0.25, 0.0, 0.25]
    found = apply_rule(TABLE, rule="rule_tree", params={"branches": BRANCHES, "otherwise": 0.25, "max_gross": 8.0})
    assert found["weight"].to_list() == expected
    needs = rule_needs("rule_tree", {"branches": BRANCHES})
    assert (needs.columns, needs.features, needs.shorts) == (("prediction",), ("gap", "rsi"), True)
    assert not rule_needs("rule_tree", {"branches": BRANCHES[:2]}).shorts


def test_rule_tree_of_random_trees_is_what_python_makes_of_them():
    rng = np.random.default_rng(0)
    predictions = random_predictions(symbols=20, sessions=20)
    kinds = {
        "above": lambda x, y: x > y,
        "at_least": lambda x, y: x >= y,
        "below": lambda x, y: x < y,
        "at_most": lambda x, y: x <= y,
    }

    def condition(depth: int) -> dict:
        if depth == 0 or rng.random() < 0.3:
            kind = str(rng.choice([*kinds]))
            return {
                str(rng.choice(["prediction", "trend", "probability_up"])): {kind: float(np.round(rng.normal() / 2, 1))}
            }
        return {str(rng.choice(["all", "any"])): [condition(depth - 1) for _ in range(int(rng.integers(1, 4)))]}

    def holds(given: dict, row: dict) -> bool:
        (name, inner), *_ = given.items()
        if name in ("all", "any"):
            return (all if name == "all" else any)(holds(each, row) for each in inner)
        ((kind, level),) = inner.items()
        return row[name] is not None and not np.isnan(row[name]) and bool(kinds[kind](row[name], level))

    for _ in range(20):
        branches = [{"when": condition(3), "weight": float(rng.uniform(-1, 1))} for _ in range(3)]
        found = apply_rule(predictions, rule="rule_tree", params={"branches": branches, "otherwise": 0.1})
        both = found.join(predictions, on=["symbol", "session", "ts"]).sort("ts", "symbol")
        for row in both.iter_rows(named=True):
            taken = [each["weight"] for each in branches if holds(each["when"], row)]
            expected = 0.0 if np.isnan(row["prediction"]) else [*taken, 0.1][0] / 20
            assert row["weight"] == pytest.approx(expected)


def test_rule_tree_is_drawn_with_the_rows_of_each_branch():
    assert explain_rule(TABLE, rule="rule_tree", params={"branches": BRANCHES}).splitlines() == [
        "```",
        "if  -> 1   3 rows (42.9%)",
        "└─ all of",
        "   ├─ prediction > 0.1",
        "   └─ any of",
        "      ├─ rsi < 30",
        "      └─ gap >= 2",
        "else if  -> 0.5   1 rows (14.3%)",
        "└─ prediction > 0",
        "else if  -> -1   1 rows (14.3%)",
        "└─ all of",
        "   ├─ prediction <= -0.1",
        "   └─ rsi > 70",
        "else  -> 0   2 rows (28.6%)",
        "nothing predicted  -> 0   1 rows",
        "```",
    ]
    assert explain_rule(TABLE, rule="rank_long_short") == ""


def endless() -> dict:
    tree: dict = {"all": []}
    tree["all"].append(tree)
    return tree


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        pytest.param({"when": endless(), "weight": 1.0}, r"`branches.0.when(.all.0)+` must be nested at most 12 deep", id="endless"),
        pytest.param({"when": {}, "weight": 1.0}, "`branches.0.when` must be a mapping of columns", id="empty"),
        pytest.param({"weight": 1.0}, "`branches.0` must be a mapping of `when` and `weight`, was a mapping of weight", id="no when"),
        pytest.param(
            {"when": {"any": [], }, "weight": 1.0}, "`branches.0.when.any` must be a list of 1 to 50 conditions", id="no parts"
        ),
        pytest.param(
            {"when": {"any": [{"rsi": {"over": 1}}]}, "weight": 1.0},
            "`branches.0.when.any.0.rsi` must be a mapping of above, at_least, below, at_most to numbers, was a mapping of over",
            id="unknown comparison",
        ),
        pytest.param(
            {"when": {"rsi": {"above": "__import__('os')"}}, "weight": 1.0},
            "`branches.0.when.rsi.above` must be a number from -1e.12 to 1e.12",
            id="code",
        ),
        pytest.param({"when": {"rsi": {"above": 1}}, "weight": 1.5}, "`branches.0.weight` must be a number from -1 to 1", id="weight"),
        pytest.param(
            {"when": {"any": [{"rsi": {"above": 1}}], "rsi": {"below": 2}}, "weight": 1.0},
            "`branches.0.when` must hold any alone",
            id="group beside a column",
        ),
        pytest.param({"when": {"rsi": {"above": 1}}, "weight": 0}, "must have a weight that is not 0", id="nothing held"),
    ],
)  # fmt: skip
def test_rule_tree_refuses(branch, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rule_needs("rule_tree", {"branches": [branch]})


def test_mix_is_the_weighted_mean_of_what_its_rules_give():
    predictions = random_predictions()
    parts = [
        {"type": "probability_threshold", "weight": 1.0},
        {"type": "ranking", "params": {"n_long": 1, "n_short": 2}, "weight": 3.0},
    ]
    found = apply_rule(predictions, rule="mix", params={"parts": parts, "max_gross": 0.5})
    one = apply_rule(predictions, rule="probability_threshold")["weight"]
    other = apply_rule(predictions, rule="rank_long_short", params={"n_long": 1, "n_short": 2})["weight"]
    is_known = predictions.sort("ts", "symbol")["prediction"].is_not_nan()
    expected = (one * 0.25 + other * 0.75) * is_known.cast(pl.Float64) * 0.5
    assert found["weight"].to_list() == pytest.approx(expected.to_list())
    assert weigh_by_probability in rule_functions("mix", {"parts": parts})
    needs = rule_needs("mix", {"parts": [*parts, {"type": "rank_buffer", "params": {"sessions": 9}}]})
    assert (needs.sessions, sum(needs.members.values()), needs.max_gross) == (9, 4, 1.0)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        pytest.param({"type": "hunch"}, "`parts.1.type` must be one of .*, was 'hunch'", id="unknown"),
        pytest.param(
            {"type": "ranking", "params": {"n_long": 0}},
            "`parts.1.params.n_long` of 'rank_long_short' must be from 1",
            id="param",
        ),
        pytest.param({"type": "ranking", "weight": 0}, "`parts.1.weight` must be a number from 1e-06", id="weight"),
        pytest.param(
            {"type": "inverse_volatility", "rule": 1}, "`parts.1` must have type and params, was with rule", id="stray"
        ),
    ],
)
def test_mix_refuses(part, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rule_needs("mix", {"parts": ["ranking", part]})


def test_mix_that_holds_itself_is_refused():
    part: dict = {"type": "mix", "params": {"parts": ["ranking"]}}
    part["params"]["parts"].append(part)
    with pytest.raises(ValueError, match="must hold rules of rules at most 3 deep, was deeper"):
        rule_needs("mix", {"parts": ["ranking", part]})


def test_what_stands_inside_of_a_rule_is_in_the_tuners_reach():
    rule = {"branches": [{"when": {"all": [{"prediction": {"above": 0.1}}]}, "weight": 1.0}]}
    base = Configuration(choose_learner("ridge"), {"quick": ("a",)}, rule)
    at = base.at(
        {"rule.branches.0.when.all.0.prediction.above": 0.3, "rule.branches.0.weight": 0.5, "rule.otherwise": -0.1}
    )
    filled = fill_rule_params("rule_tree", at.rule)
    assert filled["branches"][0] == {"when": {"all": ({"prediction": {"above": 0.3}},)}, "weight": 0.5}
    assert filled["otherwise"] == -0.1 and rule["branches"][0]["weight"] == 1.0
    with pytest.raises(
        ValueError, match="`rule.branches.1.weight` must lead to a parameter that the strategy gives, has no 1"
    ):
        base.at({"rule.branches.1.weight": 0.5})
