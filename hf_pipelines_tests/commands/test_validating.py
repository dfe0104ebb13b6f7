"""`hfp validate` on a strategy that was trained: its numbers are those of the stored account, its trials those of the ledger."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import validation_lines, validation_of
from hf_pipelines.components.operations.activity import Activity
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.status import Status
from hf_pipelines.components.strategy_stages.controls import untrusted_weeks
from hf_pipelines.research.learners import LEARNERS, Learner
from hf_pipelines.research.learners.array_bytes import arrays_format
from hf_pipelines.resources.incidents import Book
from hf_pipelines.resources.partition_codec import Content, Stamp
from hf_pipelines_tests.pipeline import Project, ridge_strategy

WEEK = "2012-04-01"


@pytest.mark.pipeline
def test_a_stored_backtest_is_kept_again_as_it_was_and_its_tests_stand_beside_it(
    small_project: Project, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The small market's folds test fewer sessions than a correlation takes.
    monkeypatch.setattr("hf_pipelines.research.signal_quality.ANNUAL_SESSIONS", 5)
    project = small_project.copy(tmp_path / "project")
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    with pytest.raises(ValueError, match="`strategy` must have a backtest, ranking has none; hfp retrain ranking"):
        validation_of(pipeline, "ranking", None)
    project.make([f"ranking/{stage}" for stage in ("training_matrix", "cv_results", "backtest")], WEEK)
    with pytest.raises(
        ValueError, match=rf"`week` must be one of which ranking has a backtest \({WEEK}\), was '2012-04-08'"
    ):
        validation_of(pipeline, "ranking", "2012-04-08")
    files = {key: project.store.objects.get(key) for key in project.store.objects.all_keys()}
    found = validation_of(pipeline, "ranking", None)
    # Looking changes nothing, the ledger neither.
    assert {key: project.store.objects.get(key) for key in project.store.objects.all_keys()} == files

    stored = project.store.read("ranking/backtest", WEEK)
    metrics: Any = stored.footer.facts["metrics"]
    by_name = {row["name"]: row for row in found["table"]}
    assert found["week"] == WEEK and found["signs"] == []
    assert by_name["as traded"]["total_return"] == pytest.approx(metrics["total_return"], rel=1e-12)
    assert by_name["as traded"]["max_drawdown"] == pytest.approx(metrics["max_drawdown"], rel=1e-12)
    equity = stored.frame.group_by("session", maintain_order=True).last()["equity"].to_numpy()
    returns = equity[1:] / equity[:-1] - 1.0
    assert by_name["2012"]["n_sessions"] == len(returns)
    best = np.sort(returns)[:-5]
    assert by_name["without its best 5 sessions"]["total_return"] == pytest.approx(np.prod(1.0 + best) - 1.0, rel=1e-9)
    assert by_name["costs x 2"]["total_return"] < by_name["as traded"]["total_return"]
    predictions = project.store.read("ranking/cv_results", WEEK).frame
    signal = found["signal"]
    assert sum(each["n_rows"] for each in signal["quantiles"]) == predictions.height
    assert signal["decay"][0]["n_sessions"] == predictions["session"].n_unique()
    assert 0.0 < signal["rank_turnover"] < 2.0 and found["beside"] == []
    of_account = dict(zip(stored.frame["session"].unique(maintain_order=True)[1:], returns, strict=True))
    assert found["benchmark"]["correlation"] == pytest.approx(_with_benchmark(project, of_account), abs=1e-9)
    assert found["trials"]["counted"] == 1 and found["trials"]["choice"] is None
    # The account loses: no length of it would show a Sharpe ratio above zero.
    assert metrics["total_return"] < 0.0
    assert found["trials"]["track_record"] == {"sessions": len(returns), "needed": None}

    lines = [line for line, _ in validation_lines(found)]
    assert lines[0] == f"ranking, week {WEEK}: its out-of-fold account, kept again under other conditions"
    assert lines[2].startswith("its Sharpe ratio is not above zero with certainty")
    assert any("needs two different trials on the same sessions, at least 32 of them" in line for line in lines)


def _with_benchmark(project: Project, of_account: dict[Any, float]) -> float:
    """Correlation of an account with the benchmark, whose bars have no event."""
    store, symbol = project.store, project.market["benchmark"]
    bars = pl.concat([store.read("small/bars", each).frame for each in store.partitions("small/bars")])
    own = bars.filter(pl.col("symbol") == symbol).sort("session")
    assert own["split_ratio"].eq(1.0).all() and own["dividend"].eq(0.0).all()
    moved = dict(zip(own["session"], own["close"].pct_change(), strict=True))
    return float(np.corrcoef([*of_account.values()], [moved[each] for each in of_account])[0, 1])


def test_signs_are_told_first_and_are_not_sound():
    row = dict.fromkeys(("sharpe", "low", "high"), 1.5) | {"n_sessions": 700, "total_return": 0.5, "max_drawdown": 0.1}
    found = {
        "strategy": "tech",
        "week": WEEK,
        "signs": [{"name": "lives on one symbol", "told": "without A its Sharpe ratio is 0.10, with it 1.50"}],
        "doubts": [],
        "controls": None,
        "walk_forward": [],
        "walk_forward_command": "",
        "neighbourhood": {"n": 0, "told": "no neighbours", "signs": []},
        "paths": [
            {"total_return": value, "sharpe": sharpe, "max_drawdown": 0.1 - value / 2}
            for value, sharpe in ((-0.1, -0.5), (0.0, None), (0.05, 0.4), (0.2, 1.0))
        ],
        "trials": {
            "counted": 0,
            "deflation": None,
            "choice": None,
            "n_compared": 0,
            "superiority": None,
            "track_record": None,
        },
        "signal": {
            "quantiles": [{"outcome": -0.01}, {"outcome": 0.02}],
            "decay": [{"horizon_bars": 1, "mean": 0.05, "t": 2.0}, {"horizon_bars": 63, "mean": None, "t": None}],
            "rank_turnover": 0.25,
            "capacity": 1_234_567.0,
            "currency": "USD",
        },
        "beside": [
            {"beside": "b", "n_sessions": 40, "correlation": None, "sharpe_without": None, "sharpe_with": None},
            {"beside": "book", "n_sessions": 400, "correlation": 0.5, "sharpe_without": 1.0, "sharpe_with": 1.2},
        ],
        "benchmark": {"beside": "SPX", "n_sessions": 645, "correlation": 0.25},
        "table": [{"test": "as traded", "name": "as traded", **row}],
    }
    lines = list(validation_lines(found))
    assert lines[1] == (f"controls of the week: not made; hfp materialise tech/validation --from {WEEK}", True)
    assert lines[2] == ("lives on one symbol: without A its Sharpe ratio is 0.10, with it 1.50", False)
    assert all(is_sound for line, is_sound in lines if line != lines[2][0])
    said = "\n".join(line for line, _ in lines)
    assert (
        "mean outcome of 2 equal groups of its predictions (tenths from 50 symbols a time on), from the lowest to the highest: "
        "-0.0100, +0.0200; it rises at 1 of 1 steps\n" in said
    )
    assert (
        "2 of 4 paths of cross-validation earned something: lowest -10.0% (Sharpe ratio -0.50), middle +0.0%, highest +20.0% "
        "(Sharpe ratio 1.00); the deepest drawdown is 15.0%" in said
    )
    assert (
        "over so many bars: 1: +0.050 (t 2.0)\n" in said
        and "turnover of ranks from one time to the next: 0.25 (0: the symbols keep" in said
    )
    assert "halves its mean return at 1,234,567 USD" in said and "beside b: 40 sessions in common, too few" in said
    assert (
        "beside all others together: correlation 0.50; Sharpe ratio of all others together 1.00, and 1.20 with tech"
        in said
    )
    assert "as traded" in lines[-2][0] and "+50.0%" in lines[-2][0]
    assert "delay (needs more bars), paths (needs sessions enough for blocks)" in lines[-1][0]
    # Two trials of a fortnight: what cannot be tested of them is named.
    short = {**found["trials"], "counted": 2, "n_compared": 2, "deflation": {"deflated": 0.5}}
    said = "\n".join(line for line, _ in validation_lines({**found, "trials": short}))
    assert "earns nothing: needs trials on the same sessions, and sessions enough for blocks" in said
    assert "overfitting: needs two different trials on the same sessions, at least 32 of them" in said


@pytest.mark.pipeline
def test_every_path_of_combinatorial_cross_validation_is_an_account(tmp_path: Any, small_project: Project) -> None:
    splits = {"type": "combinatorial_purged", "n_folds": 4, "n_test_folds": 2, "min_train_sessions": 10}
    copied = small_project.copy(tmp_path / "project")
    project = Project(copied.folder, copied.market, [ridge_strategy(cross_validation=splits)])
    project.make([f"ranking/{stage}" for stage in ("training_matrix", "cv_results", "backtest")], WEEK)
    found = validation_of(Pipeline(project.definitions, project.instance, project.store), "ranking", WEEK)
    stored: Any = project.store.read("ranking/backtest", WEEK).footer.facts
    returns = sorted(each["total_return"] for each in stored["paths"].values())
    # Of 4 folds 2 are tested at a time: each is in 3 splits, which makes 3 paths.
    assert len(returns) == 3
    np.testing.assert_allclose([each["total_return"] for each in found["paths"]], returns, rtol=1e-12)
    assert found["table"][0]["total_return"] == pytest.approx(returns[1], rel=1e-12)
    assert "of 3 paths of cross-validation earned something" in "\n".join(line for line, _ in validation_lines(found))


@pytest.mark.pipeline
def test_the_weekly_retraining_stores_what_validate_says_and_a_made_up_account_is_caught(
    small_project: Project, tmp_path: Any
) -> None:
    project = small_project.copy(tmp_path / "project")
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    made = project.retrain("ranking", WEEK)
    assert made.checks["ranking/validation", "same_account"].passed
    assert made.checks["ranking/validation", "lives_on_one_thing"].passed
    kept = validation_of(pipeline, "ranking", WEEK)
    stored = project.store.read("ranking/validation", WEEK)
    assert stored.frame.to_dicts() == kept["table"]
    # Made anew, since what is stored is gone: the same numbers, without a fit.
    project.store.objects.delete(project.store.key("ranking/validation", WEEK))
    assert validation_of(pipeline, "ranking", WEEK) == kept | {"controls": None}
    # Of so few sessions controls say nothing, which is no pass.
    assert kept["controls"]["verdict"] == "cannot be judged"
    assert not made.checks["ranking/validation", "controls_judged"].passed
    assert made.checks["ranking/validation", "controls"].passed
    assert set(stored.footer.inputs) >= {"ranking/cv_results", "ranking/backtest", "small/bars"}

    # An account that is not what its decisions make: a percent more at the end.
    account = project.store.read("ranking/backtest", WEEK)
    last = account.frame["ts"].max()
    raised = account.frame.with_columns(
        equity=pl.when(pl.col("ts") == last).then(pl.col("equity") * 1.01).otherwise("equity")
    )
    footer = account.footer
    by_hand = Content(raised, inputs=footer.inputs, facts=footer.facts)
    stamp = Stamp(footer.code_version, "by hand", footer.created_at)
    verdicts = {name: replace(each, content_hash=by_hand.content_hash()) for name, each in footer.verdicts.items()}
    project.store.publish("ranking/backtest", WEEK, by_hand, stamp, verdicts=verdicts)
    verdict = project.make("ranking/validation", WEEK).checks["ranking/validation", "same_account"]
    assert not verdict.passed and "the last equity is 9.9e-03 of it apart" in verdict.description


class _UpsideDown(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The fault: a line whose predictions have the wrong sign."""

    def fit(self, X: Any, y: Any) -> "_UpsideDown":
        line = LinearRegression().fit(X, y)
        self.coefficient_, self.intercept_ = line.coef_, np.array([line.intercept_])
        return self

    def predict(self, X: Any) -> Any:
        return -(X @ self.coefficient_ + self.intercept_)


@pytest.mark.pipeline
def test_a_week_whose_learner_is_broken_is_trusted_nowhere(
    small_project: Project, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Learner(
        name="upside_down",
        family="sklearn",
        tasks=frozenset({"regression"}),
        build=lambda params, setup: _UpsideDown(),
        params={},
        format=arrays_format("coefficient_", "intercept_"),
        takes_weights=False,
    )
    monkeypatch.setitem(LEARNERS, "upside_down", entry)
    week = "2012-04-29"
    longer = {
        "training": {"weeks": 16, "minimum_rows": 10},
        "cross_validation": {"n_splits": 1, "test_sessions": 20, "min_train_sessions": 10},
    }
    broken = ridge_strategy("broken", **longer, learner={"type": "upside_down"})
    sound = ridge_strategy("sound", **longer)
    copied = small_project.copy(tmp_path / "project")
    project = Project(copied.folder, copied.market, [broken, sound])
    made = project.retrain("broken", week)
    verdict = made.checks["broken/validation", "controls"]
    assert not verdict.passed and verdict.severity == dg.AssetCheckSeverity.ERROR
    assert "does not find a signal" in verdict.description and "planted in every feature" in verdict.description
    assert made.checks["broken/validation", "controls_judged"].passed
    assert project.retrain("sound", week).checks["sound/validation", "controls"].passed

    pipeline = Pipeline(project.definitions, project.instance, project.store)
    line, is_sound = list(validation_lines(validation_of(pipeline, "broken", week)))[1]
    assert line.startswith("controls: the week is not trusted: it does not find a signal") and not is_sound
    assert list(validation_lines(validation_of(pipeline, "sound", week)))[1][0].startswith(
        "controls: the week is trusted"
    )
    now = datetime(2012, 5, 7, tzinfo=UTC)
    inventory = Watched.of(project.definitions.component_tree).read(project.store, now)
    activity = Activity.read(project.instance, now)
    status = Status(
        inventory,
        [],
        Book().open,
        activity,
        timedelta(hours=6),
        now,
        untrusted=untrusted_weeks(project.store, ["broken", "sound"]),
    )
    assert f"NOT TRUSTED: broken, week {week}: its controls failed; why: hfp validate broken {week}" in status.lines()
    told = {each["strategy"]: each["not_trusted"] for each in status.to_json()["strategies"]}
    assert told == {"broken": week, "sound": None}
    for name, expected in (("broken", "not trusted"), ("sound", "trusted")):
        project.make(f"{name}/signals", "2012-04-30")
        asked = dg.AssetKey([name, "signals"])
        event = project.instance.get_latest_materialization_event(asked)
        assert event is not None and event.asset_materialization is not None
        assert event.asset_materialization.metadata["controls"].value == expected
