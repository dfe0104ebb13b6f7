"""Strategies through Dagster: invariants on real bars, and clear words where a window or a feature is no good."""

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from hf_pipelines.components.display import parquet_bytes
from hf_pipelines.components.stage_checks import Finding
from hf_pipelines.components.strategy_stages import RETRAINED
from hf_pipelines.components.strategy_stages.backtest import _fills_late
from hf_pipelines.partitions import week_key
from hf_pipelines.research.backtest import ENGINES
from hf_pipelines.research.features import Feature, Panel
from hf_pipelines.research.params import Number
from hf_pipelines.research.signals import RULES, RuleNeeds, apply_rule
from hf_pipelines.research.splitters import SPLITTERS
from hf_pipelines.research.targets import TARGETS
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines_tests.pipeline import US_TECH, Project, ridge_strategy, shipped_features, trees_strategy
from hf_pipelines_tests.research.splitters.panels import Combinatorial
from hf_pipelines_tests.research.targets.test_registry import label_too_early

TECHNICAL = "us_tech/features/technical"

# AAPL split 2:1 on Monday 28 February 2005: raw closes 88.99 and 44.86.
SPLIT_DAY, DAY_BEFORE = date(2005, 2, 28), date(2005, 2, 25)
MODEL_WEEK = "2005-04-10"
CV = import_module("hf_pipelines.components.strategy_stages.cv_results")


def _split_strategy() -> dict[str, Any]:
    """Four members, two long and two short: AAPL is held on every session."""
    return ridge_strategy(
        "holder",
        market="us_tech",
        features=["technical/roc_5", "technical/roc_20", "technical/volume_ratio_20", "technical/volatility_20"],
        training={"weeks": 12, "minimum_rows": 100},
        cross_validation={"n_splits": 4, "min_train_sessions": 8},
        signal={"type": "rank_long_short", "params": {"n_long": 2, "n_short": 2}},
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory, mlflow_template) -> Project:
    """The sample's real bars around the split of 2005 and around the listing of FB in 2012."""
    folder = tmp_path_factory.mktemp("real")
    market = {**yaml.safe_load(US_TECH.read_text())["attributes"], "features": shipped_features("technical")}
    project = Project(folder, market, [_split_strategy()], mlflow_template=mlflow_template)
    project.make("us_tech/bars", "2004-06-06", MODEL_WEEK)
    project.make(TECHNICAL, "2005-01-16", MODEL_WEEK)
    project.retrain("holder", MODEL_WEEK)
    project.make("holder/signals", "2005-04-11", "2005-04-15")
    project.make("us_tech/bars", "2012-04-15", "2012-11-18")
    project.make(TECHNICAL, "2012-10-28", "2012-11-18")
    return project


@pytest.fixture(scope="module")
def aapl() -> pl.DataFrame:
    """AAPL as the package holds it, with the vendor's own adjusted close."""
    from bokeh_sampledata import stocks

    raw = pl.DataFrame(stocks.AAPL).with_columns(pl.col("date").str.to_date())
    return raw.sort("date").with_row_index("bar")


def _features(project: Project, *weeks: str) -> pl.DataFrame:
    return pl.concat([project.store.read(TECHNICAL, week).frame for week in weeks])


def test_features_do_not_jump_at_a_real_split(real, aapl):
    bar = aapl.filter(pl.col("date") == SPLIT_DAY)["bar"].item()
    close, adjusted, volume = (aapl[name].to_numpy() for name in ("close", "adj_close", "volume"))
    assert (close[bar - 1], close[bar]) == (88.99, 44.86)
    row = _features(real, "2005-02-27").filter(pl.col("symbol") == "AAPL", pl.col("session") == SPLIT_DAY)
    # By the vendor's adjusted close, rounded to cents: +3.4 %, where raw prices say -48.3 %.
    assert row["roc_5"].item() == pytest.approx(adjusted[bar] / adjusted[bar - 5] - 1.0, abs=2e-3)
    assert close[bar] / close[bar - 5] - 1.0 < -0.45
    # Twenty sessions of volume in shares of today: those before the split count twice.
    in_new_shares = np.append(2.0 * volume[bar - 19 : bar], volume[bar])
    assert row["volume_ratio_20"].item() == pytest.approx(volume[bar] / in_new_shares.mean(), rel=1e-6)

    weeks = [f"{date(2005, 2, 6) + timedelta(weeks=number)}" for number in range(7)]
    of_aapl = _features(real, *weeks).filter(pl.col("symbol") == "AAPL")
    # A day that halves would stand out for a month: volatility would be above 10 % a day.
    assert of_aapl["volatility_20"].max() < 0.04 and of_aapl["roc_20"].abs().max() < 0.4


@pytest.mark.parametrize("week", ["2005-01-16", "2005-02-27", "2012-11-04"], ids=["first made", "split", "FB enters"])
def test_features_of_real_bars_are_the_same_alone_and_in_a_range(real, week):
    before = real.hashes(TECHNICAL)[week]
    run = real.make(TECHNICAL, week)
    assert run.materialised[TECHNICAL][week]["outcome"] == "unchanged"
    assert real.hashes(TECHNICAL)[week] == before and real.store.versions(TECHNICAL, week) == []


def test_labels_do_not_jump_at_a_real_split(real, aapl):
    matrix = real.store.read("holder/training_matrix", MODEL_WEEK).frame.filter(pl.col("symbol") == "AAPL")
    adjusted = dict(aapl.select("date", "adj_close").iter_rows())
    sessions = sorted(adjusted)
    labelled = matrix.filter(pl.col("session").is_between(date(2005, 2, 17), date(2005, 3, 8)))
    assert labelled.height == 13
    for session, target in labelled.select("session", "target").iter_rows():
        later = sessions[sessions.index(session) + 2]
        assert target == pytest.approx(adjusted[later] / adjusted[session] - 1.0, abs=1e-3)
    assert matrix["target"].abs().max() < 0.15


def test_backtest_equity_does_not_jump_at_a_real_split(real):
    """An account kept by hand from the trades alone: shares double on the split, and every session agrees."""
    stored = real.store.read("holder/backtest", MODEL_WEEK)
    trades = pl.read_parquet(io.BytesIO(real.store.read_attachment(stored.footer, "trades.parquet")))
    weeks = [key for key in real.store.partitions("us_tech/bars") if "2005-01-16" <= key < MODEL_WEEK]
    bars = pl.concat([real.store.read("us_tech/bars", week).frame for week in weeks])
    cash, shares, equity = 1_000_000.0, {}, {}
    for session in stored.frame["session"]:
        today = {row["symbol"]: row for row in bars.filter(pl.col("session") == session).iter_rows(named=True)}
        for symbol in shares:
            shares[symbol] *= today[symbol]["split_ratio"]
            cash += shares[symbol] * today[symbol]["dividend"]
        for trade in trades.filter(pl.col("session") == session).iter_rows(named=True):
            shares[trade["symbol"]] = shares.get(trade["symbol"], 0.0) + trade["shares"]
            cash -= trade["shares"] * trade["price"] + trade["fee"] + trade["slippage"]
        equity[session] = cash + sum(held * today[symbol]["close"] for symbol, held in shares.items())
    assert list(equity.values()) == pytest.approx(stored.frame["equity"].to_list(), rel=1e-9)

    # AAPL was held over the split: a quarter of the account, long or short; unadjusted it would move by 12 %.
    assert SPLIT_DAY in equity
    before = trades.filter(pl.col("symbol") == "AAPL", pl.col("session") < SPLIT_DAY)["shares"].sum()
    assert abs(before) * 88.99 / equity[DAY_BEFORE] == pytest.approx(0.25, abs=0.05)
    assert abs(equity[SPLIT_DAY] / equity[DAY_BEFORE] - 1.0) < 0.02


def test_training_labels_end_before_the_week_that_the_model_serves(real):
    matrix = real.store.read("holder/training_matrix", MODEL_WEEK).frame
    begin = real.partitions.week_begin(MODEL_WEEK)
    assert (matrix["label_end"] < begin).all() and (matrix["label_start"] > matrix["ts"]).all()
    # Friday 8 April closes the last label of two bars, that of Wednesday.
    assert str(matrix["label_end"].max()) == "2005-04-08 20:00:00+00:00"
    assert matrix["session"].max() == date(2005, 4, 6)
    # Twelve weeks with three holidays hold 57 sessions; the last two have no label yet.
    assert matrix["session"].n_unique() == 57 - 2
    card = real.store.read("holder/fitted_model", MODEL_WEEK).frame
    assert (card["trained_until"] < card["as_of"]).all() and card["as_of"].item() == begin


def test_predictions_are_made_by_folds_that_knew_only_what_had_ended(real):
    predictions = real.store.read("holder/cv_results", MODEL_WEEK).frame
    assert (predictions["trained_until"] < predictions["ts"]).all()
    assert predictions["fold"].n_unique() == 4
    assert not predictions.select("symbol", "ts").is_duplicated().any()


def test_fills_follow_their_decisions_by_one_session(real):
    stored = real.store.read("holder/backtest", MODEL_WEEK)
    trades = pl.read_parquet(io.BytesIO(real.store.read_attachment(stored.footer, "trades.parquet")))
    assert trades.height > 100
    for decided, filled in trades.select("decision_session", "session").unique().iter_rows():
        assert filled == real.partitions.next_session(decided)


def test_the_benchmark_is_stored_as_reference_and_never_traded(real):
    bars = real.store.read("us_tech/bars", "2005-04-03").frame
    assert dict(bars.select("symbol", "role").unique().iter_rows())["SPX"] == "reference"
    members = {"AAPL", "GOOG", "IBM", "MSFT"}
    for asset, key in (
        (TECHNICAL, "2005-04-03"),
        ("holder/training_matrix", MODEL_WEEK),
        ("holder/cv_results", MODEL_WEEK),
        ("holder/signals", "2005-04-11"),
    ):
        assert set(real.store.read(asset, key).frame["symbol"]) == members, asset
    footer = real.store.footer("holder/backtest", MODEL_WEEK)
    trades = pl.read_parquet(io.BytesIO(real.store.read_attachment(footer, "trades.parquet")))
    assert set(trades["symbol"]) == members


def test_members_per_session_show_when_a_late_listing_enters(real):
    """FB's first bar is of 18 May 2012; the longest window of the group has 120 bars."""
    listed = real.partitions.sessions_between(date(2012, 5, 18), date(2012, 12, 1))
    entry = listed[119]
    assert entry == date(2012, 11, 8)
    features = _features(real, "2012-10-28", "2012-11-04", "2012-11-11", "2012-11-18")
    names = [name for name, dtype in features.schema.items() if dtype == pl.Float32]
    complete = features.filter(~pl.any_horizontal(pl.col(names).is_nan()))
    assert complete.filter(pl.col("symbol") == "FB")["session"].min() == entry
    run = real.make(TECHNICAL, "2012-10-28", "2012-11-18")
    noted = {week: note["members_per_session"] for week, note in run.materialised[TECHNICAL].items()}
    # Thursday 8 November: two of the week's five sessions have five members.
    assert noted == {"2012-10-28": 4.0, "2012-11-04": 4.4, "2012-11-11": 5.0, "2012-11-18": 5.0}


@pytest.fixture
def project(small_project: Project, tmp_path: Path) -> Project:
    return small_project.copy(tmp_path / "project")


def test_a_window_before_the_data_is_refused_naming_the_first_week_with_a_whole_one(project):
    run = project.run("ranking/training_matrix", project.weeks[9])
    assert not run.success and project.store.partitions("ranking/training_matrix") == []
    assert "`training.weeks` must lie inside the data of small, which begin in week 2012-01-01" in run.message
    assert "was 10 weeks before 2012-03-04" in run.message
    assert "the first week with a whole window is 2012-03-11" in run.message
    assert project.run("ranking/training_matrix", "2012-03-11").success


def test_fewer_rows_than_the_minimum_are_refused_with_both_numbers(project):
    project.rewrite(strategies=[ridge_strategy(training={"weeks": 10, "minimum_rows": 5000})])
    run = project.run("ranking/training_matrix", "2012-04-01")
    assert not run.success and project.store.partitions("ranking/training_matrix") == []
    assert "must give at least 5000 labelled rows before the cutoff" in run.message
    # Four symbols over the 49 sessions of ten weeks, less two each that have no label yet.
    assert f"was {4 * (49 - 2)} of {4 * (49 - 2)} labelled; widen the window of weeks" in run.message


def test_a_feature_without_information_is_named(project, registry):
    for name, value in (("quick_constant", 1.0), ("quick_unknown", np.nan)):
        compute = partial(_filled, value=value)
        registry[name] = Feature(name, "quick", compute, 1, ("close",), "planted")
    project.reload()
    project.make("small/features/quick", project.weeks[0], "2012-04-01")
    run = project.run("ranking/training_matrix", "2012-04-01")
    assert not run.success and project.store.partitions("ranking/training_matrix") == []
    assert (
        "was 0 of 188 labelled; unknown are quick_unknown (188 of 188); widen the window of weeks, leave out"
        in run.message
    )

    trees = trees_strategy(features=["quick"], training={"weeks": 10, "minimum_rows": 40, "missing": "keep"})
    project.rewrite(strategies=[trees])
    made = project.retrain("direction", "2012-04-01")
    check = made.checks["direction/training_matrix", "features_vary"]
    assert not check.passed and "constant: 2 of 5 features: quick_constant, quick_unknown" in check.description
    assert made.materialised["direction/training_matrix"]["2012-04-01"]["dropped_rows"] == 0
    project.make("direction/signals", "2012-04-03")
    assert project.store.read("direction/signals", "2012-04-03").frame["prediction"].is_finite().all()


def _filled(panel: Panel, *, value: float) -> np.ndarray:
    return np.full(panel.close.size, value)


def test_missing_weeks_of_bars_are_named_with_the_command_that_makes_them(project):
    for week in ("2012-02-05", "2012-02-19"):
        Path(project.store.objects.address(f"small/bars/{week}.parquet")).unlink()
    expected = (
        "`small/bars` must be published for 2012-02-05, 2012-02-19, was missing; materialise it first: "
        "hfp materialise small/bars --from 2012-02-05 --to 2012-02-19"
    )
    for asset, week in (("ranking/training_matrix", "2012-04-01"), ("small/features/quick", "2012-02-19")):
        run = project.run(asset, week)
        assert not run.success and expected in run.message, asset
    # And after that command both run.
    project.make("small/bars", "2012-02-05", "2012-02-19")
    assert project.run("ranking/training_matrix", "2012-04-01").success
    assert project.out_of_date() == {}


def test_a_market_without_bars_for_a_week_is_told_apart_from_a_known_gap(project):
    week = "2012-02-05"
    source = Path(project.market["source"]["uri"])
    mirrored = project.folder / "source"
    mirrored.mkdir()
    for path in source.glob("*.parquet"):
        if not "2012-02-05" <= path.stem <= "2012-02-11":
            (mirrored / path.name).write_bytes(path.read_bytes())
    market: Mapping[str, Any] = {**project.market, "source": {"type": "files", "uri": str(mirrored)}}
    project.rewrite(market)
    before = project.store.objects.get(f"small/bars/{week}.parquet")
    run = project.run("small/bars", week)
    told = f"must have rows for the 5 sessions of week 2012-02-05, the source ({mirrored}) had none"
    assert not run.success and told in run.message
    assert project.store.objects.get(f"small/bars/{week}.parquet") == before
    project.rewrite({**market, "known_gaps": [week]})
    assert project.run("small/bars", week).success
    assert project.store.read("small/bars", week).frame.height == 0
    # The weeks after it are computed over the gap.
    assert project.run("small/features/quick", "2012-02-12", "2012-02-19").success


def test_a_backtest_that_fills_on_the_bar_that_decided_is_rejected(project, monkeypatch):
    engine = ENGINES["reference"]

    def fill_at_once(*args: Any, **options: Any) -> Any:
        result = engine.run(*args, **options)
        fills = result.account.fills
        early = replace(fills, bar=fills.decision_bar)
        return replace(result, account=replace(result.account, make_fills=lambda: early))

    project.make([f"ranking/{stage}" for stage in ("training_matrix", "cv_results")], "2012-04-01")
    monkeypatch.setitem(ENGINES, "reference", replace(engine, run=fill_at_once))
    run = project.run("ranking/backtest", "2012-04-01")
    assert not run.success and project.store.partitions("ranking/backtest") == []
    verdict = run.checks["ranking/backtest", "fills_after_decisions"]
    assert not verdict.passed and "decided at 2012-0" in verdict.description
    assert len(project.store.objects.keys("_rejected/ranking/backtest")) == 1


def test_a_fill_on_a_later_bar_of_the_decisions_session_is_no_early_one():
    at = [datetime(2012, 4, 2, hour, 30, tzinfo=UTC) for hour in (14, 15, 16)]
    trades = pl.DataFrame({"symbol": "S000", "ts": at[1:], "decision_ts": at[:2]})

    def judged(frame: pl.DataFrame) -> Finding:
        content = Content(frame, attachments={"trades.parquet": parquet_bytes(frame)})
        return _fills_late(object(), {}, "2012-04-01", content)  # nothing of the run is looked at

    assert judged(trades).passed
    early = judged(trades.with_columns(decision_ts=pl.Series([at[0], at[2]])))
    assert (early.passed, early.n_compared) == (False, 2)
    assert early.findings == (f"S000 decided at {at[2]}, filled on the bar of {at[2]}",)


def test_cv_results_of_a_fold_that_knew_later_labels_are_rejected(project, monkeypatch):
    cross_validate = CV.cross_validate

    def know_a_week_more(*args: Any, **options: Any) -> Any:
        result = cross_validate(*args, **options)
        later = result.predictions.with_columns(pl.col("trained_until") + timedelta(days=7))
        return replace(result, predictions=later)

    project.make("ranking/training_matrix", "2012-04-01")
    monkeypatch.setattr(CV, "cross_validate", know_a_week_more)
    run = project.run("ranking/cv_results", "2012-04-01")
    assert not run.success and project.store.partitions("ranking/cv_results") == []
    assert "but knew labels until" in run.checks["ranking/cv_results", "out_of_fold"].description


def test_a_k_fold_runs_to_an_account_that_says_it_is_no_walk_forward(project):
    strategy = ridge_strategy(
        cross_validation={"type": "purged_kfold", "n_splits": 3, "params": {"min_train_sessions": 10}}
    )
    project.rewrite(strategies=[strategy])
    made = project.retrain("ranking", "2012-04-01")
    assert made.checks["ranking/cv_results", "out_of_fold"].passed
    predictions = project.store.read("ranking/cv_results", "2012-04-01").frame
    matrix = project.store.read("ranking/training_matrix", "2012-04-01").frame
    assert sorted(predictions.select("symbol", "ts").rows()) == sorted(matrix.select("symbol", "ts").rows())
    later = (predictions["trained_until"] >= predictions["ts"]).mean()
    for stage in ("cv_results", "fitted_model", "backtest"):
        assert made.materialised[f"ranking/{stage}"]["2012-04-01"]["trained_on_later"] == pytest.approx(later)
    label = made.materialised["ranking/backtest"]["2012-04-01"]["label"]
    assert label == f"No walk-forward: of {later:.0%} of the predictions the model was trained on later data"
    assert project.store.footer("ranking/backtest", "2012-04-01").facts["trained_on_later"] == later


@pytest.mark.parametrize("purges", [True, False])
def test_paths_are_traded_one_by_one_and_a_splitter_without_purge_is_rejected(project, monkeypatch, purges):
    entry = replace(
        SPLITTERS["purged_kfold"],
        name="pairs",
        build=partial(Combinatorial, purges=purges),
        params={"n_blocks": Number(default=4, low=2, high=9, is_whole=True)},
    )
    monkeypatch.setitem(SPLITTERS, "pairs", entry)
    project.rewrite(strategies=[ridge_strategy(cross_validation={"type": "pairs"})])
    run = project.run([f"ranking/{stage}" for stage in RETRAINED], "2012-04-01")
    assert run.success == purges, run.message
    if not purges:
        verdict = run.checks["ranking/cv_results", "out_of_fold"]
        assert not verdict.passed and "but was trained on rows that reach into that time" in verdict.description
        assert project.store.partitions("ranking/cv_results") == []
        return
    stored = project.store.read("ranking/backtest", "2012-04-01")
    n_sessions = project.store.read("ranking/training_matrix", "2012-04-01").frame["session"].n_unique()
    assert stored.frame.columns[0] == "path"
    assert stored.frame.filter(pl.col("turnover") > 0).group_by("path").len().height == 3
    assert stored.frame.group_by("path").len()["len"].unique().item() >= n_sessions
    returns = sorted(each["total_return"] for each in stored.footer.facts["paths"].values())
    assert stored.footer.facts["metrics"]["total_return"] == returns[1] and len({*returns}) == 3
    told = run.materialised["ranking/backtest"]["2012-04-01"]
    assert told["paths"] == 3
    assert told["label"].splitlines()[1] == (
        f"The middle one of 3 paths, which return {returns[0]:+.1%} to {returns[2]:+.1%}"
    )


FIRST_TOUCH = {"type": "first_touch", "horizon_bars": 3, "params": {"width": 0.5, "volatility_bars": 5}}


def test_a_target_that_ends_at_a_varying_bar_and_looks_back_runs_from_matrix_to_track_record(project):
    project.rewrite(strategies=[trees_strategy(target=FIRST_TOUCH)])
    made = project.retrain("direction", "2012-04-01")
    matrix = project.store.read("direction/training_matrix", "2012-04-01")
    # Labels of the first session of the ten weeks look back on bars of the weeks before: 5 bars, and what holidays take.
    window = project.weeks[project.weeks.index("2012-04-01") - 10 :]
    assert matrix.frame["session"].min() == project.partitions.sessions_of_week(window[0])[0]
    read = matrix.footer.inputs["small/bars"]
    assert (
        min(read) == project.weeks[project.weeks.index(window[0]) - 3]
        and min(matrix.footer.inputs["small/features/quick"]) == window[0]
    )
    bars_ahead = matrix.frame.select((pl.col("label_end") - pl.col("ts")).dt.total_days()).to_series()
    assert bars_ahead.n_unique() > 2
    check = made.checks["direction/training_matrix", "labels_known_at_end"]
    assert check.passed and check.metadata["values_compared"].value > 4
    assert made.checks["direction/cv_results", "out_of_fold"].passed
    project.make("direction/signals", "2012-04-03")
    project.make("direction/track_record", "2012-04-08")


def test_a_label_that_looks_beyond_its_end_is_rejected(project, monkeypatch):
    entry = replace(TARGETS["direction"], name="early", label=label_too_early)
    monkeypatch.setitem(TARGETS, "early", entry)
    project.rewrite(strategies=[trees_strategy(target={"type": "early", "horizon_bars": 2})])
    run = project.run("direction/training_matrix", "2012-04-01")
    assert not run.success and project.store.partitions("direction/training_matrix") == []
    verdict = run.checks["direction/training_matrix", "labels_known_at_end"]
    assert not verdict.passed and "but from the bars until then it is none" in verdict.description


BUFFERED = {"type": "ranking_with_buffer", "params": {"n_long": 1, "n_short": 1, "buffer": 1, "sessions": 4}}


def test_a_rule_with_memory_issues_a_day_alone_as_in_a_range_across_models_and_reads_no_issue(project, tmp_path):
    project.rewrite(strategies=[ridge_strategy(signal=BUFFERED)])
    project.retrain("ranking", "2012-03-25", "2012-04-08")
    other = project.copy(tmp_path / "other")
    project.make("ranking/signals", "2012-04-04", "2012-04-11")
    days = project.store.partitions("ranking/signals")
    assert days == ["2012-04-04", "2012-04-05", "2012-04-09", "2012-04-10", "2012-04-11"]
    # Backwards and one by one, the last first: no issue is there that it could read.
    for day in reversed(days[1:4]):
        other.make("ranking/signals", day)
        issued, alone = (each.store.read("ranking/signals", day).frame for each in (project, other))
        assert_frame_equal(
            issued.drop("created_at", "issue_kind"), alone.drop("created_at", "issue_kind"), check_exact=True
        )
        held = project.store.read("ranking/signals", day).footer.inputs
        read = project.partitions.sessions[project.partitions.sessions.index(date.fromisoformat(day)) - 3 :][:4]
        assert len(held["ranking/fitted_model"]) == len({week_key(each) for each in read})
    # What the rule gives the predictions as issued, where all four sessions were.
    issued = pl.concat([project.store.read("ranking/signals", day).frame for day in days])
    weights = apply_rule(issued, rule="rank_buffer", params=BUFFERED["params"], sessions=project.partitions.sessions)
    both = issued.join(weights, on=["symbol", "session", "ts"], suffix="_again").filter(
        pl.col("session") >= date.fromisoformat(days[3])
    )
    assert both.height == 8 and (both["weight"] == both["weight_again"]).all()
    plain = apply_rule(issued, rule="rank_long_short", params={"n_long": 1, "n_short": 1})
    assert (plain["weight"] != issued.sort("ts", "symbol")["weight"]).any()


def test_a_rule_with_memory_without_the_model_of_an_earlier_session_names_it_unless_none_can_be(project):
    project.rewrite(strategies=[ridge_strategy(signal=BUFFERED)])
    project.retrain("ranking", "2012-04-01")
    run = project.run("ranking/signals", "2012-04-03")
    assert not run.success and project.store.partitions("ranking/signals") == []
    told = "`ranking/fitted_model` must have a model of week 2012-03-25 for the signals of 2012-03-29, had none; retrain it: "
    assert told + "hfp retrain ranking --week 2012-03-25" in run.message
    # The first week with a whole window of training: no model can serve a session before it.
    project.retrain("ranking", "2012-03-11")
    project.make("ranking/signals", "2012-03-13")
    # A memory of more sessions than the market has goes back to there too.
    longer = {**BUFFERED, "params": {**BUFFERED["params"], "sessions": 260}}
    project.rewrite(strategies=[ridge_strategy(signal=longer)])
    project.retrain("ranking", "2012-03-18")
    project.make("ranking/signals", "2012-03-20")
    assert [*project.store.footer("ranking/signals", "2012-03-20").inputs["ranking/fitted_model"]] == [
        "2012-03-11",
        "2012-03-18",
    ]


def test_a_rule_that_looks_at_other_sessions_than_it_declares_is_refused_before_it_is_traded(project, monkeypatch):
    def weigh(rows: pl.DataFrame, context: Any) -> pl.Series:
        return rows.select(
            pl.when(pl.col("prediction").is_not_null()).then(pl.col("ts").rank("dense") * 1e-3)
        ).to_series()

    monkeypatch.setitem(RULES, "own", replace(RULES["rank_buffer"], name="own", weigh=weigh))
    project.rewrite(
        strategies=[ridge_strategy(signal={"type": "own", "params": {"n_long": 1, "n_short": 1, "sessions": 2}})]
    )
    project.make([f"ranking/{stage}" for stage in ("training_matrix", "cv_results")], "2012-04-01")
    run = project.run("ranking/backtest", "2012-04-01")
    assert not run.success and "`sessions` that the rule declares must be all that it looks at" in run.message


def test_a_rule_on_features_and_trailing_bars_gets_them_in_backtest_and_issue(project, monkeypatch):
    def weigh(rows: pl.DataFrame, context: Any) -> pl.Series:
        """The inverse volatility of five returns, on the side of a feature."""
        weights = np.zeros(rows.height)
        for (at,), of_ts in rows.with_row_index().group_by("ts", maintain_order=True):
            returns = context.trailing_returns(at, symbols=of_ts["symbol"].to_list(), n_bars=5)
            assert np.isfinite(returns).all(), at
            inverse = 1.0 / returns.std(axis=0)
            side = np.sign(of_ts["quick_roc_2"].to_numpy()) * of_ts["prediction"].is_not_null().to_numpy()
            weights[of_ts["index"].to_numpy()] = side * inverse / inverse.sum()
        return pl.Series(weights)

    needs = RuleNeeds(history_bars=6, features=("quick_roc_2",))
    entry = replace(RULES["rank_long_short"], name="own", weigh=weigh, needs=lambda params: needs, params={})
    monkeypatch.setitem(RULES, "own", entry)
    project.rewrite(strategies=[ridge_strategy(signal={"type": "own"}, features=["quick/quick_roc_2"])])
    project.retrain("ranking", "2012-04-01")
    project.make("ranking/signals", "2012-04-03")
    issued = project.store.read("ranking/signals", "2012-04-03")
    feature = project.store.read("small/features/quick", "2012-04-01").frame
    both = issued.frame.join(feature, on=["symbol", "session", "ts"])
    assert both.height == 4 and (both["weight"].sign() == both["quick_roc_2"].sign()).all()
    # By hand: closes of the six sessions until then, which had neither split nor dividend.
    bars = pl.concat(
        [project.store.read("small/bars", week).frame for week in sorted(issued.footer.inputs["small/bars"])]
    )
    last = bars.filter(pl.col("role") == "member", pl.col("session") <= date(2012, 4, 3)).sort("symbol", "ts")
    spread = {}
    for (symbol,), of in last.group_by("symbol"):
        growth = of["split_ratio"] * (of["close"] + of["dividend"]) / of["close"].shift()
        spread[symbol] = 1.0 / (growth - 1.0)[-5:].std(ddof=0)
    expected = {symbol: each / sum(spread.values()) for symbol, each in spread.items()}
    assert dict(both.select("symbol", pl.col("weight").abs()).iter_rows()) == pytest.approx(expected)
