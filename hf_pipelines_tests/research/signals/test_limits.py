"""Sizing and limits: by hand, jointly over random books, and as a function of fixed weeks."""

import math
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.optimize import minimize_scalar

from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.signals import (
    LIMITS,
    SIZINGS,
    Limit,
    Sizing,
    apply_rule,
    explain_rule,
    fill_rule_params,
    rule_needs,
    window_sessions,
)
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.targets.widths import target_widths
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines_tests.research.signals.test_registry import NAN, SESSIONS
from hf_pipelines_tests.sample_matrix import plain_bars

RAW = {"type": "long_short", "params": {"standardise": "none", "clip": 1.0}}


def limit(kind: str, **params: object) -> dict[str, object]:
    return {"type": kind, "params": params}


def chain(*limits: object, sizing: tuple[object, ...] = (), rule: object = RAW, **params: object) -> dict[str, object]:
    return {"rule": rule, "sizing": list(sizing), "limits": list(limits), **params}


def books(
    values: dict[str, list[float]], *limits: object, sectors: dict[str, str] | None = None, **params: object
) -> dict[str, list[float]]:
    """Weights by member; a value v of one of n members asks for the weight v / n times `max_gross`, here v."""
    keys = plain_bars({name: [1.0] * len(each) for name, each in values.items()}).select("symbol", "session", "ts")
    frame = keys.with_columns(prediction=pl.Series([each for of in values.values() for each in of]))
    rule = {"type": "long_short", "params": {**RAW["params"], "max_gross": float(len(values))}}
    given = chain(*limits, rule=rule, **params)
    weights = apply_rule(frame, rule="chain", params=given, sessions=SESSIONS, sectors=sectors)
    return {name: of["weight"].to_list() for (name,), of in weights.group_by("symbol", maintain_order=True)}


def test_caps_by_hand():
    values = {"A": [0.6], "B": [0.3], "C": [-0.1], "D": [0.0]}
    assert books(values, limit("symbol_cap", most=0.4)) == {"A": [0.4], "B": [0.3], "C": [-0.1], "D": [0.0]}
    assert books(values, "long_only")["C"] == [0.0]
    halved = books(values, limit("gross_cap", most=0.5))
    assert [halved[name][0] for name in "ABCD"] == pytest.approx([0.3, 0.15, -0.05, 0.0])
    # Longs of 0.9 and shorts of 0.1: longs of 0.3 leave a net of 0.2.
    net = books(values, limit("net_cap", most=0.2))
    assert [net[name][0] for name in "ABCD"] == pytest.approx([0.2, 0.1, -0.1, 0.0])
    sectors = {"A": "one", "B": "one", "C": "two", "D": "two"}
    found = books(values, limit("sector_cap", most=0.3), sectors=sectors)
    assert [found[name][0] for name in "ABCD"] == pytest.approx([0.2, 0.1, -0.1, 0.0])
    assert books(values, limit("borrow", symbols=["C"]))["C"] == [0.0]


def test_state_by_hand():
    assert books({"A": [0.5, 0.505, 0.52]}, limit("band", least=0.01))["A"] == [0.5, 0.5, 0.52]
    values = {"A": [0.5, 0.0, -0.5, -0.5, 0.1, NAN, 0.2]}
    # Held for three sessions, then reversed, and out without a prediction whatever the limits say.
    assert books(values, limit("holding", sessions=3))["A"] == [0.5, 0.5, 0.5, -0.5, -0.5, 0.0, 0.2]
    assert books({"A": [1.0, 1.0, 1.0, 0.0], "B": [0.0] * 4}, limit("turnover_cap", most=0.4))["A"] == pytest.approx(
        [0.4, 0.8, 1.0, 0.6]
    )
    # The change of both is 1.0: each makes four tenths of it.
    both = books({"A": [0.5], "B": [-0.5]}, limit("turnover_cap", most=0.4), memory_weeks=8)
    assert [both["A"][0], both["B"][0]] == pytest.approx([0.2, -0.2])


def test_day_trades_are_counted_by_session():
    keys = plain_bars({"A": [1.0] * 3, "B": [1.0] * 3}).select("symbol", "session", "ts")
    early = keys.with_columns(ts=pl.col("ts").dt.offset_by("-2h"))
    frame = pl.concat([early.with_columns(prediction=1.0), keys.with_columns(prediction=0.0)]).sort("ts", "symbol")
    given = chain(limit("day_trades", most=1, sessions=2))
    found = apply_rule(frame, rule="chain", params=given, sessions=SESSIONS)["weight"].to_list()
    # A makes the one day trade of the first session; B is kept, and closed on the second, where A may not be; the third has one again.
    assert found == [0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5, 0.0, 0.0]


def test_fixed_fraction_and_volatility_by_hand():
    bars = plain_bars({"A": [1.0, 1.1, 1.0, 1.1], "B": [1.0, 1.0, 1.0, 1.0], "C": [1.0, 1.01, 1.0, 1.01]})
    now = bars.filter(pl.col("session") == SESSIONS[3]).select(
        "symbol", "session", "ts", prediction=pl.Series([0.9, -0.9, -0.3])
    )
    fixed = apply_rule(now, rule="chain", params=chain(sizing=(limit("fixed_fraction", fraction=0.07),)))
    assert fixed["weight"].to_list() == [0.07, -0.07, -0.07]
    sizing = (limit("fixed_fraction", fraction=0.1), limit("volatility_target", volatility=0.05, bars=3, most=2.0))
    found = apply_rule(now, rule="chain", params=chain(sizing=sizing), bars=bars)["weight"].to_list()
    volatility = np.std([0.1, 1 / 1.1 - 1, 0.1], ddof=1)
    assert found == pytest.approx([0.1 * 0.05 / volatility, 0.0, -0.2])


@pytest.mark.parametrize(("up", "down", "payoff"), [(0.6, 0.3, 1.0), (0.4, 0.4, 2.0), (0.7, 0.3, 0.8), (0.3, 0.6, 1.0)])
def test_kelly_grows_fastest(up, down, payoff):
    keys = plain_bars({"A": [1.0], "B": [1.0]}).select("symbol", "session", "ts")
    frame = keys.with_columns(
        prediction=pl.Series([0.5, -0.5]), probability_up=pl.Series([up, down]), probability_down=pl.Series([down, up])
    )
    given = chain(sizing=(limit("kelly", fraction=0.5, payoff=payoff),))
    long, short = apply_rule(frame, rule="chain", params=given)["weight"].to_list()
    best = minimize_scalar(
        lambda f: -(up * math.log1p(payoff * f) + down * math.log1p(-f)), bounds=(0.0, 0.999), method="bounded",
        options={"xatol": 1e-9},
    ).x  # fmt: skip
    assert long == pytest.approx(best / 2, abs=1e-6) and short == -long
    assert rule_needs("chain", given).calibrated


def test_kelly_on_payoffs_of_either_side_grows_fastest():
    """Of a target with a profit of 3 and a stop of 1.5: twice the loss for a long position, half of it for a short one."""
    up, down = target_widths(build_target("triple_barrier", horizon_bars=5, params={"profit": 3.0, "stop": 1.5}))
    assert (up / down, down / up) == (2.0, 0.5)
    keys = plain_bars({"A": [1.0], "B": [1.0], "C": [1.0]}).select("symbol", "session", "ts")
    frame = keys.with_columns(
        prediction=pl.Series([0.5, -0.5, -0.5]),
        probability_up=pl.Series([0.5, 0.2, 0.4]),
        probability_down=pl.Series([0.4, 0.7, 0.5]),
    )
    step = limit("kelly", fraction=1.0, payoff=up / down, payoff_short=down / up, payoff_from="target")
    given = chain(sizing=(step,), rule={**RAW, "params": {**RAW["params"], "max_gross": 3.0}})
    weights = apply_rule(frame, rule="chain", params=given)["weight"].to_list()
    # By hand: (0.5 x 2 - 0.4) / (2 x 0.9), and (0.7 x 0.5 - 0.2) / (0.5 x 0.9); at 0.5 to 0.4 a short position loses.
    assert weights == pytest.approx([0.6 / 1.8, -0.15 / 0.45, 0.0])
    for win, lose, payoff, staked in ((0.5, 0.4, 2.0, weights[0]), (0.7, 0.2, 0.5, -weights[1])):
        best = minimize_scalar(
            lambda f, win=win, lose=lose, payoff=payoff: -(win * math.log1p(payoff * f) + lose * math.log1p(-f)),
            bounds=(0.0, 0.999), method="bounded", options={"xatol": 1e-9},
        ).x  # fmt: skip
        assert staked == pytest.approx(best, abs=1e-6)
    with pytest.raises(ValueError, match="`payoff_from` of kelly must be stated outside of a strategy"):
        apply_rule(frame, rule="chain", params=chain(sizing=(limit("kelly", payoff_from="target"),)))


def _panel(n_bars: int) -> dict[str, list[float]]:
    """Closes of two members: each second bar up by 2 % and down by 1 % of A, up by 1 % and down by 1 % of B."""
    moves = {"A": (1.02, 0.99), "B": (1.01, 0.99)}
    return {
        name: [100.0, *(100.0 * np.cumprod([pair[at % 2] for at in range(n_bars - 1)])).tolist()]
        for name, pair in moves.items()
    }


def test_kelly_on_the_outcomes_that_had_ended_is_the_mean_rise_over_the_mean_fall():
    bars = plain_bars(_panel(101))
    rows = bars.filter(pl.col("session") == pl.col("session").max()).select("symbol", "session", "ts")
    frame = rows.with_columns(
        prediction=pl.Series([1.0, -1.0]), probability_up=pl.Series([0.6, 0.3]), probability_down=pl.Series([0.4, 0.7])
    )
    own = {"payoff_from": "outcomes", "horizon_bars": 1, "upper": 0.0, "lower": 0.0, "bars": 80, "fraction": 1.0}
    rule = {**RAW, "params": {**RAW["params"], "max_gross": 2.0}}
    given = chain(sizing=(limit("kelly", **own),), rule=rule)
    assert rule_needs("chain", given).history_bars == 81
    sessions = tuple(bars["session"].unique().sort())
    weights = apply_rule(frame, rule="chain", params=given, sessions=sessions, bars=bars)["weight"].to_list()
    # Rises of 2 and 1 %, falls of 1 %: a long position wins 1.5 times what it loses, a short one two thirds of it.
    assert weights == pytest.approx([(0.6 * 1.5 - 0.4) / 1.5, -(0.7 / 1.5 - 0.3) * 1.5])
    # Levels as the target's: with a fall from -0.5 % on and a rise above 1.5 % only A's rises count.
    levels = chain(sizing=(limit("kelly", **{**own, "upper": 0.015, "lower": -0.005}),), rule=rule)
    assert apply_rule(frame, rule="chain", params=levels, sessions=sessions, bars=bars)["weight"][0] == pytest.approx(
        (0.6 * 2 - 0.4) / 2
    )
    # What comes after the decision changes nothing, be it a crash; and of too few outcomes nothing is staked.
    later = plain_bars({name: [*closes, 1.0] for name, closes in _panel(101).items()})
    again = apply_rule(frame, rule="chain", params=given, sessions=sessions, bars=later)["weight"].to_list()
    assert again == weights
    few = apply_rule(
        frame, rule="chain", params=given, sessions=sessions, bars=bars.filter(pl.col("session") > sessions[-15])
    )
    assert few["weight"].to_list() == [0.0, 0.0]
    with pytest.raises(
        ValueError,
        match="`payoff_from` of kelly must be stated outside of a strategy, which knows its target, was outcomes",
    ):
        unknown = chain(sizing=(limit("kelly", payoff_from="outcomes"),))
        apply_rule(frame, rule="chain", params=unknown, sessions=sessions, bars=bars)


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        pytest.param("direction", {"upper": 0.02, "lower": -0.01}, (0.02, 0.01), id="direction"),
        pytest.param("first_touch", {"width": 2.5}, (2.5, 2.5), id="first touch"),
        pytest.param("volatility_direction", {"upper": 0.5, "lower": -1.0}, (0.5, 1.0), id="volatility"),
    ],
)
def test_widths_of_targets(name, params, expected):
    assert target_widths(build_target(name, horizon_bars=5, params=params)) == expected


def test_widths_of_a_target_without_any_are_refused():
    with pytest.raises(ValueError, match="`target` must be one of direction, .* to have widths, was 'forward_return'"):
        target_widths(build_target("forward_return", horizon_bars=5))
    with pytest.raises(
        ValueError, match="`target` must have its upper above 0 and its lower on the other side .*, was 0.02 and 0.01"
    ):
        target_widths(build_target("direction", horizon_bars=5, params={"upper": 0.02, "lower": 0.01}))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        pytest.param([limit("symbol_cap", most=0.5), limit("sector_cap", most=0.3)], "`limits.0.params.most` of symbol_cap must not exceed sector_cap .0.3., was 0.5", id="symbol above sector"),
        pytest.param([limit("net_cap", most=1.5)], "`limits.0.params.most` of net_cap must not exceed gross_cap .1., was 1.5", id="net above gross"),
        pytest.param([limit("gross_cap", most=1.5)], "of gross_cap must not exceed `max_gross` of the rule", id="gross above the rule's"),
        pytest.param([limit("band", least=0.2), limit("symbol_cap", most=0.1)], "of band must not exceed symbol_cap", id="band above cap"),
        pytest.param([limit("turnover_cap", most=0.01)], "of turnover_cap must be at least 0.1 for a book of gross 1", id="turnover too slow"),
        pytest.param([limit("holding", sessions=30)], "of holding must be at most 20", id="holding longer than the memory"),
        pytest.param(["long_only", "long_only"], "must name each limit once, was with long_only twice", id="twice"),
        pytest.param(["long_only", limit("borrow", symbols=["A"])], "must not have borrow beside long_only", id="borrow of none"),
        pytest.param(["borrow"], "must give `feature` or `symbols` of borrow", id="borrow of nothing"),
        pytest.param(["hope"], "`limits.0` must be one of borrow, .*, was 'hope'", id="unknown"),
        pytest.param([limit("symbol_cap", most=0)], "`limits.0.params.most` of 'symbol_cap' must be from 0.0001", id="no cap"),
    ],
)  # fmt: skip
def test_limits_that_contradict_are_refused(limits, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rule_needs("chain", chain(*limits))


def test_a_fraction_above_the_cap_is_refused():
    with pytest.raises(
        ValueError, match="`sizing.0.params.fraction` of fixed_fraction must not exceed symbol_cap .0.1., was 0.2"
    ):
        rule_needs("chain", chain(limit("symbol_cap", most=0.1), sizing=(limit("fixed_fraction", fraction=0.2),)))


def random_book(rng: np.random.Generator, n_decisions: int) -> tuple[pl.DataFrame, dict, dict]:
    """Targets of 12 members of 3 sectors, some unknown, and limits that do not contradict."""
    symbols = [f"S{at:02d}" for at in range(12)]
    days = [date(2024, 1, 1) + timedelta(days=at) for at in range(2 * n_decisions)]
    days = [day for day in days if day.weekday() < 5][:n_decisions]
    frame = pl.DataFrame(
        {"symbol": symbols * n_decisions, "session": [day for day in days for _ in symbols]}
    ).with_columns(ts=pl.col("session").cast(pl.Datetime("us", "UTC")))
    values = rng.normal(size=frame.height) * rng.choice([0.1, 0.5, 2.0])
    # Signs that last a while, and members that are away.
    values = np.where(rng.random(frame.height) < 0.1, NAN, values + np.repeat(rng.normal(size=n_decisions), 12))
    frame = frame.with_columns(
        prediction=pl.Series(values), loan=pl.Series(rng.integers(0, 2, frame.height).astype(np.float32))
    )
    gross = float(rng.uniform(0.8, 2.0))
    caps = np.sort(rng.uniform(0.05, 0.75, size=2)) * gross
    every = {
        "symbol_cap": {"most": float(caps[0])},
        "sector_cap": {"most": float(caps[1])},
        "net_cap": {"most": float(rng.uniform(0.01, 0.5))},
        "gross_cap": {"most": gross},
        "turnover_cap": {"most": float(rng.uniform(0.25, 1.0) * gross)},
        "band": {"least": float(rng.uniform(0.001, 0.03))},
        "holding": {"sessions": int(rng.integers(1, 6))},
        "borrow": {"feature": "loan"},
        "long_only": {},
    }
    taken = {name: every[name] for name in every if rng.random() < 0.7}
    taken.pop(str(rng.choice(["borrow", "long_only"])), None)
    rule = {"type": "long_short", "params": {"standardise": "none", "clip": 1.0, "max_gross": 12.0}}
    # A block holds all: the replay is that of the whole.
    params = chain(*(limit(name, **each) for name, each in taken.items()), rule=rule, memory_weeks=52, max_gross=gross)
    return frame, params, taken


def test_all_limits_hold_jointly_over_ten_thousand_books():
    rng = np.random.default_rng(0)
    n_books, n_moved, yielded = 0, 0, 0
    sectors = {f"S{at:02d}": f"sector {at % 3}" for at in range(12)}
    while n_books < 10_000:
        frame, params, given = random_book(rng, 100)
        sessions = frame["session"].unique().sort().to_list()
        weights = apply_rule(frame, rule="chain", params=params, sessions=sessions, sectors=sectors)
        table = weights["weight"].to_numpy().reshape(-1, 12)
        known = ~np.isnan(frame["prediction"].to_numpy().reshape(-1, 12))
        loan = frame["loan"].to_numpy().reshape(-1, 12) > 0
        n_books += len(table)
        before, age = np.zeros(12), np.zeros(12, dtype=int)
        gross = given.get("gross_cap", {"most": params["max_gross"]})["most"]
        for now, is_known, can in zip(table, known, loan, strict=True):
            assert (now[~is_known] == 0.0).all()
            assert math.fsum(np.abs(now)) <= gross
            if "symbol_cap" in given:
                assert np.abs(now).max() <= given["symbol_cap"]["most"]
            if "net_cap" in given:
                assert abs(math.fsum(now)) <= given["net_cap"]["most"]
            if "sector_cap" in given:
                assert all(math.fsum(np.abs(now[at::3])) <= given["sector_cap"]["most"] for at in range(3))
            short_of = {"long_only": np.ones(12, dtype=bool), "borrow": ~can}
            barred = next((short_of[name] for name in short_of if name in given), np.zeros(12, dtype=bool))
            assert (now[barred] >= 0.0).all()
            is_forced = ~is_known | (barred & (before < 0.0))
            free = np.where(is_forced, 0.0, before)
            if "holding" in given:
                is_young = (free != 0.0) & (age < given["holding"]["sessions"])
                assert (now[is_young] * free[is_young] > 0.0).all()
            moved = np.abs(now - free)
            is_over = "turnover_cap" in given and math.fsum(moved) > given["turnover_cap"]["most"]
            # Only where forced exits of others leave a book that breaks a cap.
            assert not is_over or is_forced.any()
            yielded += is_over
            if "band" in given and "turnover_cap" not in given and not {"net_cap", "sector_cap"} & {*given}:
                small = (moved > 0.0) & (moved < given["band"]["least"])
                # Scaled down to the gross, or clipped to the cap.
                assert not small.any() or math.fsum(np.abs(now)) > gross * (1 - 1e-9) or "symbol_cap" in given
            age = np.where(now * free > 0.0, age + 1, np.where(now != 0.0, 1, 0))
            n_moved += int((moved > 0.0).sum())
            before = now
    # Ages are counted from the decision that takes the position, at which it is 1 after the fact.
    assert n_moved > 20_000 and yielded < n_books / 20


@pytest.fixture
def own_limit(monkeypatch):
    """A limit of another module, on the feature `room`; the members S00 and S01 have none for long positions."""

    def bounds(predictions, context, params):
        room = predictions["room"].cast(pl.Float64)
        return -room, pl.select(pl.when(predictions["symbol"] < "S02").then(0.0).otherwise(room)).to_series()

    own = Limit(name="room", bounds=bounds, features=lambda params: ("room",), formula="-room to room")
    monkeypatch.setitem(LIMITS, "room", own)
    return limit("room")


def test_a_limit_of_another_module_holds_jointly_with_all_others(own_limit):
    rng = np.random.default_rng(2)
    sectors = {f"S{at:02d}": f"sector {at % 3}" for at in range(12)}
    n_bound, n_kept = 0, 0
    for _ in range(40):
        frame, params, given = random_book(rng, 60)
        room = np.where(rng.random(frame.height) < 0.2, 0.0, rng.uniform(0.0, 0.3, frame.height))
        frame = frame.with_columns(room=pl.Series(room))
        sessions = frame["session"].unique().sort().to_list()
        own = {**params, "limits": [own_limit, *params["limits"]]}
        weights = apply_rule(frame, rule="chain", params=own, sessions=sessions, sectors=sectors)["weight"].to_numpy()
        is_barred = np.tile(np.arange(12) < 2, 60)
        assert (np.abs(weights) <= room).all() and (weights[is_barred] <= 0.0).all()
        table, before, age = weights.reshape(-1, 12), np.zeros(12), np.zeros(12, dtype=int)
        known = ~np.isnan(frame["prediction"].to_numpy().reshape(-1, 12))
        loan = frame["loan"].to_numpy().reshape(-1, 12) > 0
        for now, rooms, is_known, can in zip(table, room.reshape(-1, 12), known, loan, strict=True):
            assert math.fsum(np.abs(now)) <= given.get("gross_cap", {"most": params["max_gross"]})["most"]
            if "net_cap" in given:
                assert abs(math.fsum(now)) <= given["net_cap"]["most"]
            barred = (
                np.ones(12, dtype=bool) if "long_only" in given else ~can if "borrow" in given else np.zeros(12, bool)
            )
            held = np.where(~is_known | (barred & (before < 0.0)) | (rooms == 0.0), 0.0, before)
            if "holding" in given:
                is_young = (held != 0.0) & (age < given["holding"]["sessions"])
                assert (now[is_young] * held[is_young] > 0.0).all()
                n_kept += int(is_young.sum())
            age = np.where(now * held > 0.0, age + 1, np.where(now != 0.0, 1, 0))
            before = now
        n_bound += int((np.abs(weights) == room)[room > 0].sum())
    assert n_bound > 500 and n_kept > 500
    needs = rule_needs("chain", chain(own_limit))
    assert needs.features == ("room",) and len(needs.sizers) == 1


def test_what_another_module_may_not_do_is_refused(own_limit, monkeypatch):
    with pytest.raises(
        ValueError, match="`bounds` must be given for a limit of another module alone, was left out for 'mine'"
    ):
        Limit(name="mine", formula="none")
    with pytest.raises(ValueError, match="`is_stateful` must be false for a limit with `bounds`, was true for 'mine'"):
        Limit(name="mine", bounds=LIMITS["room"].bounds, is_stateful=True, formula="none")
    frame, _, _ = random_book(np.random.default_rng(0), 2)
    given = {"rule": "chain", "params": chain(own_limit), "sessions": frame["session"].unique().sort().to_list()}
    with pytest.raises(
        ValueError, match="`bounds` of limit 'room' must give lower bounds of 0 or less and upper bounds of 0 or more"
    ):
        apply_rule(frame.with_columns(room=pl.lit(-0.1)), **given)
    flip = Sizing(name="flip", size=lambda weights, *others: -weights, params={}, formula="-weight")
    monkeypatch.setitem(SIZINGS, "flip", flip)
    with pytest.raises(ValueError, match="`size` of sizing 'flip' must give a weight of the same sign, or 0"):
        apply_rule(frame, **{**given, "params": chain(sizing=("flip",))})


def test_a_cap_that_is_met_exactly_changes_nothing():
    values = {f"S{at}": [0.1] for at in range(10)}
    assert set(map(tuple, books(values, limit("gross_cap", most=1.0)).values())) == {(0.1,)}


def daily(n: int, seed: int) -> tuple[pl.DataFrame, list[date]]:
    rng = np.random.default_rng(seed)
    frame, _, _ = random_book(rng, n)
    return frame, frame["session"].unique().sort().to_list()


STATE = chain(
    limit("band", least=0.01), limit("holding", sessions=3), limit("turnover_cap", most=0.3), limit("net_cap", most=0.3),
    rule={"type": "rank_buffer", "params": {"n_long": 2, "n_short": 2, "buffer": 2, "sessions": 4}}, memory_weeks=2,
)  # fmt: skip


def test_sixty_sessions_one_by_one_in_any_order_are_the_range_bit_for_bit():
    frame, sessions = daily(80, seed=5)
    whole = apply_rule(frame, rule="chain", params=STATE, sessions=sessions)
    assert whole["weight"].n_unique() > 60
    needs = rule_needs("chain", STATE)
    assert (needs.sessions, needs.block_weeks) == (4, 2)
    for at in np.random.default_rng(1).permutation(60):
        day = sessions[20 + at]
        window = window_sessions(sessions, day, n_sessions=needs.sessions, block_weeks=needs.block_weeks)
        part = frame.filter(pl.col("session").is_in(window))
        alone = apply_rule(part, rule="chain", params=STATE, sessions=window)
        is_own = pl.col("session") == day
        assert_frame_equal(alone.filter(is_own), whole.filter(is_own), check_exact=True)
    # A window that lacks the first session of its block before gives other weights: the test above can fail.
    first = window_sessions(sessions, sessions[60], n_sessions=1, block_weeks=2)
    part = frame.filter(pl.col("session").is_in(first[5:]))
    is_own = pl.col("session") == sessions[60]
    short = apply_rule(part, rule="chain", params=STATE, sessions=first[5:]).filter(is_own)
    assert not short.equals(whole.filter(is_own))


def test_window_sessions_of_blocks_by_hand():
    days = [date(2024, 1, 1) + timedelta(days=at) for at in range(60)]
    # 2024-01-07 is the Sunday 2,818 weeks after the first: a block of two weeks begins there.
    assert window_sessions(days, date(2024, 2, 3), n_sessions=1, block_weeks=2)[0] == date(2024, 1, 7)
    assert window_sessions(days, date(2024, 2, 3), n_sessions=3, block_weeks=2)[0] == date(2024, 1, 5)
    assert window_sessions(days, date(2024, 2, 4), n_sessions=1, block_weeks=2)[0] == date(2024, 1, 21)


def test_limits_are_counted():
    frame, sessions = daily(40, seed=1)
    told = explain_rule(frame, rule="chain", params=STATE, sessions=sessions)
    assert told.startswith("Of 40 decisions:") and "| turnover_cap |" in told and "| holding |" in told


def test_sizing_and_limits_are_in_the_tuners_reach():
    rule = chain(limit("turnover_cap", most=0.3), sizing=(limit("fixed_fraction", fraction=0.05),))
    base = Configuration(choose_learner("ridge"), {"quick": ("a",)}, rule)
    at = base.at({"rule.clip": 0.5, "rule.sizing.fixed_fraction.fraction": 0.1, "rule.limits.turnover_cap.most": 0.5})
    filled = fill_rule_params("chain", at.rule)
    assert filled["rule"]["params"]["clip"] == 0.5
    assert filled["sizing"][0]["params"]["fraction"] == 0.1 and filled["limits"][0]["params"]["most"] == 0.5
