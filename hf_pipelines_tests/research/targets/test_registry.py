"""The contract of every target: a label depends on its history and the bars until its own end, to the last bit."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.targets import (
    HORIZON,
    LABEL_COLUMNS,
    TARGETS,
    Target,
    build_labels,
    build_target,
    unconfirmed_labels,
)
from hf_pipelines.research.targets.returns import label_direction, needs_horizon
from hf_pipelines_tests.sample_matrix import plain_bars

# Every target, and the forms of those that look at other things by their parameters.
FORMS: dict[str, dict[str, Any]] = {
    **{name: {} for name in TARGETS},
    "meta_label": {"primary": "speed"},
    "excess_return sector": {"over": "sector"},
    "excess_return benchmark": {"over": "benchmark", "benchmark": "X"},
}

each_target = pytest.mark.parametrize("name", sorted(FORMS))


def made(name: str, *, horizon_bars: int) -> Target:
    """A target whose longest label is of so many bars."""
    if name == "forward_returns":
        return build_target(name, params={"horizons": sorted({1, horizon_bars})})
    return build_target(name.split()[0], horizon_bars=horizon_bars, params=FORMS[name])


def eventful_bars(*, sessions: int = 90, seed: int = 0) -> pl.DataFrame:
    """Three members and a benchmark: halts, a late listing, splits, dividends and an unknown event."""
    rng = np.random.default_rng(seed)
    closes = {
        symbol: (50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, size=sessions)))).tolist()
        for symbol in ("A", "B", "C", "X")
    }
    bars = plain_bars(closes)
    n = bars.height
    spread = np.exp(np.abs(rng.normal(0.0, 0.01, size=(2, n))))
    bars = bars.with_columns(
        high=pl.col("close") * pl.Series(spread[0]),
        low=pl.col("close") / pl.Series(spread[1]),
        open=pl.col("close").shift(1).over("symbol").fill_null(pl.col("close")),
        volume=pl.Series(rng.integers(100, 200, size=n).astype(float)),
        split_ratio=pl.Series(np.where(rng.random(n) < 0.02, 2.0, 1.0)),
        dividend=pl.Series(np.where(rng.random(n) < 0.05, 0.4, 0.0)),
        role=pl.when(pl.col("symbol") == "X").then(pl.lit("reference")).otherwise(pl.lit("member")),
    ).with_columns(
        dividend=pl.when((pl.col("symbol") == "B") & (pl.col("session") == date(2024, 2, 20)))
        .then(float("nan"))
        .otherwise("dividend")
    )
    is_halted = pl.Series(rng.random(n) < 0.1)
    is_listed = (pl.col("symbol") != "C") | (pl.col("session") > date(2024, 2, 1))
    return bars.filter(~is_halted & is_listed)


def given_to(target: Any, bars: pl.DataFrame) -> dict[str, Any]:
    """Sectors and features of the bars, where a target needs them."""
    features = bars.select(
        *KEY_COLUMNS, *((pl.col("close") / pl.col("open") - 1.0).alias(name) for name in target.needs.features)
    )
    return {
        "bars": bars if target.needs.references else bars.filter(pl.col("role") == "member"),
        "sectors": {"A": "one", "B": "one", "C": "two"} if target.needs.sectors else None,
        "features": features if target.needs.features else None,
    }


@each_target
@pytest.mark.parametrize("horizon_bars", [1, 5])
def test_every_label_is_the_same_from_its_history_and_the_bars_until_its_end_alone(name, horizon_bars):
    target = made(name, horizon_bars=horizon_bars)
    bars = eventful_bars()
    whole = build_labels(target=target, **given_to(target, bars))
    assert whole.height > 90 and whole.drop(HORIZON, strict=False).columns == list(LABEL_COLUMNS)
    rows = np.random.default_rng(1).choice(whole.height, size=25, replace=False)
    for row in whole[np.sort(rows)].iter_rows(named=True):
        own = bars.filter(pl.col("symbol") == row["symbol"])["ts"].to_list()
        at, last = own.index(row["ts"]), own.index(row["label_end"])
        assert row["label_start"] == own[at + 1] and at < last <= at + target.needs.horizon_bars
        first = own[max(at - target.needs.history_bars, 0)]
        keys = ["symbol", "ts", *([HORIZON] if HORIZON in whole.columns else [])]
        is_row = pl.all_horizontal(pl.col(key) == row[key] for key in keys)
        alone = bars.filter(pl.col("ts").is_between(first, row["label_end"]))
        found = build_labels(target=target, **given_to(target, alone)).filter(is_row)
        assert_frame_equal(found, whole.filter(is_row), check_exact=True)
        # Not before: what ends earlier than it says has looked ahead of its end.
        earlier = bars.filter(pl.col("ts") < row["label_end"])
        assert build_labels(target=target, **given_to(target, earlier)).filter(is_row).is_empty()


@each_target
def test_every_target_does_not_mind_the_order_of_rows_and_gives_classes_that_it_names(name):
    target = made(name, horizon_bars=4)
    bars = eventful_bars(seed=2)
    labels = build_labels(target=target, **given_to(target, bars))
    shuffled = build_labels(target=target, **given_to(target, bars.sample(fraction=1.0, shuffle=True, seed=0)))
    assert_frame_equal(labels, shuffled)
    kind = TARGETS[name.split()[0]]
    assert kind.name == name.split()[0] and kind.formula
    assert all(each.meaning for each in kind.params.values())
    if target.is_classification:
        assert sorted(labels["y"].unique()) == list(range(len(target.classes)))
    needed = {*target.needs.columns, "role"} if target.needs.references else {*target.needs.columns}
    for column in needed:
        with pytest.raises(
            ValueError, match=rf"must have the columns that the target needs, was without \['{column}'\]"
        ):
            build_labels(target=target, **{**given_to(target, bars), "bars": bars.drop(column)})


@each_target
def test_unconfirmed_labels_are_none_of_a_registered_target(name):
    target = made(name, horizon_bars=3)
    bars = eventful_bars(seed=3)
    given = given_to(target, bars)
    labels = build_labels(target=target, **given)
    for at in labels["label_end"].unique().sort()[[0, 20, -1]]:
        assert unconfirmed_labels(labels, target=target, at=at, **given) == []


def label_too_early(bars: pl.DataFrame, params: Any) -> pl.DataFrame:
    """A return over the horizon that says it is known a bar before: a leak."""
    labels = label_direction(bars, params)
    return labels.with_columns(label_end=pl.col("label_end").shift(1).over("symbol").fill_null(pl.col("label_start")))


def test_unconfirmed_labels_name_a_label_that_looks_beyond_its_end(monkeypatch):
    monkeypatch.setitem(TARGETS, "early", replace(TARGETS["direction"], name="early", label=label_too_early))
    target = build_target("early", horizon_bars=3)
    bars = plain_bars({"A": np.linspace(10.0, 20.0, 30).tolist()})
    labels = build_labels(bars, target)
    end = labels["label_end"][10]
    (told,) = unconfirmed_labels(labels, bars, target, at=end)
    assert told == f"the label of A {labels['ts'][10]} ends at {end} as y=2.0, but from the bars until then it is none"


def several_horizons(bars: pl.DataFrame, params: Any) -> pl.DataFrame:
    parts = [
        label_direction(bars, {**params, "horizon_bars": bars_ahead}).with_columns(
            horizon=pl.lit(bars_ahead, dtype=pl.Int32)
        )
        for bars_ahead in (1, params["horizon_bars"])
    ]
    return pl.concat(parts)


def test_a_target_may_give_a_row_several_labels(monkeypatch):
    monkeypatch.setitem(TARGETS, "both", replace(TARGETS["direction"], name="both", label=several_horizons))
    bars = plain_bars({"A": np.linspace(10.0, 20.0, 6).tolist()})
    labels = build_labels(bars, build_target("both", horizon_bars=3))
    assert labels["horizon"].to_list() == [1, 3, 1, 3, 1, 3, 1, 1]
    assert labels.columns == [*LABEL_COLUMNS, "horizon"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda labels: labels.drop("y"), r"must return .*was without \['y'\]", id="column"),
        pytest.param(lambda labels: labels.with_columns(y=pl.lit(1)), "must return y as Float64, was Int32", id="type"),
        pytest.param(
            lambda labels: labels.with_columns(y=pl.lit(3.0)), "must have a `y` from 0 to 2, was not for A", id="code"
        ),
        pytest.param(
            lambda labels: pl.concat([labels, labels]), "must hold each symbol and ts once a horizon", id="twice"
        ),
        pytest.param(
            lambda labels: labels.with_columns(label_start="ts"), "must start after the row's own bar", id="start"
        ),
        pytest.param(
            lambda labels: labels.with_columns(label_end=pl.col("label_start").dt.offset_by("-1h")),
            "must not end before it starts",
            id="backwards",
        ),
    ],
)
def test_build_labels_that_break_the_contract_are_refused_by_name(monkeypatch, change, message):
    entry = replace(
        TARGETS["direction"],
        name="own",
        label=lambda bars, params: change(label_direction(bars, params)),
        needs=needs_horizon,
    )
    monkeypatch.setitem(TARGETS, "own", entry)
    bars = plain_bars({"A": np.linspace(10.0, 20.0, 30).tolist()})
    with pytest.raises(ValueError, match=f"`label` of target 'own' {message}"):
        build_labels(bars, build_target("own", horizon_bars=2))


def test_build_labels_gives_a_target_what_it_declares_and_no_more(monkeypatch):
    seen: list[list[str]] = []

    def label(bars: pl.DataFrame, params: Any) -> pl.DataFrame:
        seen.append(bars.columns)
        return label_direction(bars, params)

    needs = replace(needs_horizon({"horizon_bars": 2}), sectors=True, features=("speed",), references=True)
    entry = replace(TARGETS["direction"], name="own", label=label, needs=lambda params: needs)
    monkeypatch.setitem(TARGETS, "own", entry)
    target, bars = build_target("own", horizon_bars=2), eventful_bars()
    speed = bars.select(*KEY_COLUMNS, speed=pl.lit(1.0), other=pl.lit(2.0))
    build_labels(bars, target, sectors={"A": "one"}, features=speed)
    assert seen == [[*KEY_COLUMNS, "close", "split_ratio", "dividend", "role", "sector", "speed"]]
    with pytest.raises(ValueError, match="must have those that the target needs .speed., was without any"):
        build_labels(bars, target)
