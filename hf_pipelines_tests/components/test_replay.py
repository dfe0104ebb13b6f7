"""Replay through Dagster: planted leaks never become current, sound partitions beside them do."""

import logging
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from hf_pipelines.commands.features import replay_lines
from hf_pipelines.components.automation.replaying import replay_published, stored_inputs
from hf_pipelines.components.market_stages import feature_replay as replay
from hf_pipelines.components.market_stages.feature_inputs import feature_inputs
from hf_pipelines.components.market_stages.feature_replay import feature_replay
from hf_pipelines.components.market_stages.features import features_stage
from hf_pipelines.components.stage_checks import Finding
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.research.features import FEATURES, Feature, Panel, compute_features
from hf_pipelines.research.features.registry import register
from hf_pipelines.resources.footer import Stamp, Verdict
from hf_pipelines.resources.parquet_io_manager import Loaded, require_verdict
from hf_pipelines.resources.partition_codec import Content, encode
from hf_pipelines_tests.conftest import FIRST_SESSION
from hf_pipelines_tests.pipeline import Project, files_market, market_of, session_bars, sessions_from, shipped_features

# The package names its functions as its modules: these are the modules, into which faults are planted.
MATRIX = import_module("hf_pipelines.components.strategy_stages.training_matrix")
SIGNALS = import_module("hf_pipelines.components.strategy_stages.issue_rows")

LEAKY = "small/features/leaky"
WEEK = "2012-02-12"


def _by_symbol(panel: Panel, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply `change` to each symbol's closes."""
    return np.concatenate([change(close) for close in np.split(panel.close, panel.starts[1:-1])])


def _clean(panel: Panel) -> np.ndarray:
    return panel.close / panel.open - 1.0


def _tomorrow(panel: Panel) -> np.ndarray:
    return _by_symbol(panel, lambda close: np.append(close[1:], np.nan) / close - 1.0)


def _centred(panel: Panel) -> np.ndarray:
    return _by_symbol(panel, lambda x: x / np.convolve(np.pad(x, 2, mode="edge"), np.ones(5) / 5, mode="valid"))


def _standardised(panel: Panel) -> np.ndarray:
    return _by_symbol(panel, lambda close: (close - close.mean()) / (close.std() + 1e-9))


def _filled_backward(panel: Panel) -> np.ndarray:
    # Known on Thursdays only, as a weekly figure is, and filled back to the days before.
    is_thursday = (panel.session.astype(np.int64) + 3) % 7 == 3
    sparse = pl.Series(np.where(is_thursday, panel.close, np.nan)).fill_nan(None)
    filled = pl.DataFrame({"symbol": panel.keys["symbol"], "x": sparse}).with_columns(
        pl.col("x").fill_null(strategy="backward").over("symbol")
    )
    return filled["x"].fill_null(np.nan).to_numpy() / panel.close


def _high_at_the_open(panel: Panel) -> np.ndarray:
    """What is traded at an open was decided at the close before it, and knows nothing of that session's high."""
    high = np.concatenate([np.append(each[1:], np.nan) for each in np.split(panel.high, panel.starts[1:-1])])
    return high / panel.close - 1.0


LEAKS = {
    "tomorrow's return": _tomorrow,
    "centred window": _centred,
    "full-sample z-score": _standardised,
    "backward fill": _filled_backward,
    "today's high at the open": _high_at_the_open,
}


def _plant(project: Project, compute: Callable[[Panel], np.ndarray]) -> None:
    FEATURES["leak"] = Feature("leak", "leaky", compute, 6, ("close",), "planted")
    project.rewrite({**project.market, "features": ["quick", "leaky"]})


@pytest.fixture
def leaky(small_project: Project, tmp_path: Path, registry: dict[str, Feature]) -> Project:
    """The small project with a group `leaky` that is clean so far and published for every week."""
    project = small_project.copy(tmp_path / "project")
    _plant(project, _clean)
    project.make(LEAKY, "2012-02-05", "2012-04-01")
    return project


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_features_with_a_planted_leak_are_rejected_before_publishing(leak, small_project, tmp_path, registry):
    project = small_project.copy(tmp_path / "project")
    _plant(project, _clean)
    project.make(LEAKY, WEEK)
    before = project.store.objects.get(f"{LEAKY}/{WEEK}.parquet")

    _plant(project, leak)
    run = project.run([LEAKY, "small/features/quick"], WEEK)

    assert not run.success
    # What was current stays so to the last byte, and nothing new is reported as materialised.
    assert project.store.objects.get(f"{LEAKY}/{WEEK}.parquet") == before
    assert set(run.materialised) == {"small/features/quick"}
    assert "made by code and settings" in project.out_of_date(LEAKY)[f"{LEAKY} {WEEK}"]
    verdict = run.checks[LEAKY, "replay"]
    assert not verdict.passed and run.checks["small/features/quick", "replay"].passed
    check = dg.AssetCheckKey(dg.AssetKey(LEAKY.split("/")), "replay")
    recorded = project.instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
    assert recorded.status.value == "FAILED"
    named = re.search(r"leak of (S\d{3}) at (\S+): stored=(\S+) recomputed=(\S+)", verdict.description)
    symbol, ts, stored, recomputed = named.groups()
    assert named.group(0) in run.message and stored != recomputed
    (kept,) = project.store.objects.keys(f"_rejected/{LEAKY}")
    rejected = pl.read_parquet(Path(project.store.objects.address(kept)))
    row = rejected.filter(pl.col("symbol") == symbol, pl.col("ts") == datetime.fromisoformat(ts))
    assert [repr(value) for value in row["leak"]] == [stored]


def test_features_over_a_range_reject_only_the_weeks_in_which_a_leak_shows(leaky):
    def only_in_march(panel: Panel) -> np.ndarray:
        is_march = panel.session.astype("datetime64[M]") == np.datetime64("2012-03")
        return np.where(is_march, _tomorrow(panel), _clean(panel) * 2.0)

    before = leaky.hashes(LEAKY)
    _plant(leaky, only_in_march)
    run = leaky.run(LEAKY, "2012-02-05", "2012-04-01")

    # The week of 26 February holds 1 and 2 March, that of 25 March ends on the 30th.
    rejected = {"2012-02-26", "2012-03-04", "2012-03-11", "2012-03-18", "2012-03-25"}
    published = {"2012-02-05", "2012-02-12", "2012-02-19", "2012-04-01"}
    after = leaky.hashes(LEAKY)
    assert not run.success
    assert {key.split("/")[-2] for key in leaky.store.objects.keys(f"_rejected/{LEAKY}")} == rejected
    assert {key for key in after if after[key] != before[key]} == published
    assert set(run.materialised[LEAKY]) == published
    assert set(leaky.out_of_date(LEAKY)) == {f"{LEAKY} {week}" for week in rejected}
    verdict = run.checks[LEAKY, "replay"]
    assert (verdict.metadata["partitions"].value, verdict.metadata["partitions_failed"].value) == (9, 5)
    assert {record.data["partition"] for record in verdict.metadata["failed"].records} == rejected


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Project:
    """100 series of ten sectors; each begins a session after the one before: late listings in every week."""
    folder = tmp_path_factory.mktemp("large")
    bars = session_bars(sessions_from(FIRST_SESSION, 32), symbols=100, seed=11, late_bars=1)
    joint = ["cross_asset/sector_relative_return_1", "cross_section/rank_return_1"]
    selected = [*shipped_features("technical", "cross_asset", "temporal"), *joint]
    market = files_market(folder / "source", bars, features=selected)
    universe = [{**each, "sector": f"sector {int(each['symbol'][1:]) % 10}"} for each in market["universe"]]
    project = Project(folder, {**market, "universe": universe}, mlflow_template=mlflow_template)
    project.make("small/bars", project.weeks[0], project.weeks[-1])
    return project


def test_features_raise_no_alarm_on_100_random_clean_series(large):
    project, weeks = large, large.weeks
    groups = [f"small/features/{group}" for group in ("technical", "cross_asset", "temporal", "cross_section")]

    run = project.make(groups, weeks[-2], weeks[-1])
    first = project.make(groups, weeks[10])

    for group in groups:
        assert run.checks[group, "replay"].passed and first.checks[group, "replay"].passed
        looked_at = run.checks[group, "replay"].metadata
        assert (looked_at["partitions"].value, looked_at["partitions_compared"].value) == (2, 2)
        # Two dozen members or more at each of some times.
        n_features = len(market_of(project.market).feature_groups[group.rpartition("/")[2]])
        assert looked_at["values_compared"].value >= 2 * 24 * n_features
    newest = project.store.read("small/features/technical", weeks[-1]).frame
    assert newest["symbol"].n_unique() == 100 and not newest["roc_5"].is_nan().any()


def test_replay_of_a_sample_finds_a_week_of_survivors_one_changed_column_and_changed_ranks(large):
    week, market = large.weeks[-1], market_of(large.market)
    large.make([f"small/features/{group}" for group in ("technical", "cross_asset", "cross_section")], week)

    def replay(group: str, change: pl.Expr | None = None, *, only: pl.Expr | None = None) -> Finding:
        frame = large.store.read(f"small/features/{group}", week).frame
        frame = frame if only is None else frame.filter(only)
        frame = frame if change is None else frame.with_columns(change)
        inputs = stored_inputs(market, large.store, group, week)
        return feature_replay(market, group).evaluate(_run_of(week), inputs, week, Content(frame))

    is_early = pl.col("symbol") < "S050"
    assert replay("technical").passed
    # Of members drawn from all, whether they are stored or not.
    survivors = replay("technical", only=is_early)
    assert not survivors.passed
    assert all(re.search(r"of S0[5-9]\d at .*stored=\(none\)", each) for each in survivors.findings)
    assert not replay("technical", pl.col("rsi_14") + 1.0).passed

    # The others of its sector make a value, and whole sectors are compared: one of their members says so.
    relative = pl.col("sector_relative_return_1")
    assert replay("cross_asset").passed and not replay("cross_asset", relative + 1.0).passed
    is_among = [
        not replay(
            "cross_asset",
            pl.when(pl.col("symbol") == f"S{n:03d}")
            .then(9.0)
            .otherwise(relative)
            .cast(pl.Float32)
            .alias(relative.meta.output_name()),
        ).passed
        for n in range(0, 100, 3)
    ]
    assert sum(is_among) >= 8

    # A rank is made of all members, and all of them are compared.
    ranks = replay("cross_section")
    assert ranks.passed and ranks.n_compared % 100 == 0
    worst = pl.when(pl.col("symbol") == "S042").then(0.99).otherwise(pl.col("rank_return_1")).cast(pl.Float32)
    assert replay("cross_section", worst.alias("rank_return_1")).findings[0].startswith("rank_return_1 of S042 at ")
    assert not replay("cross_section", only=is_early).passed


def _run_of(*weeks: str) -> StageRun:
    return StageRun(weeks, datetime.now(UTC), logging.getLogger())


def test_times_replayed_in_one_computation_come_out_as_each_by_itself(large, monkeypatch):
    market, weeks = market_of(large.market), large.weeks[8:20]
    n_together = {}
    for group in market.feature_groups:
        read = feature_inputs(market, group)
        inputs = {each.name: _all_of(large, each.asset) for each in read}
        calls: list[int] = []

        def counted(*args, calls=calls, **arguments) -> pl.DataFrame:
            calls.append(1)
            return compute_features(*args, **arguments)

        together = replay.replays_of(market, group, weeks, inputs, counted)
        with monkeypatch.context() as patched:
            patched.setattr(
                replay, "_batches", lambda market, group, chosen: [{at: chosen[at]} for at in sorted(chosen)]
            )
            alone = replay.replays_of(market, group, weeks, inputs, compute_features)
        assert [*map(len, together.values())] == [*map(len, alone.values())]
        for key in weeks:
            for one, other in zip(together[key], alone[key], strict=True):
                assert (one.at, one.symbols) == (other.at, other.symbols)
                at_time = other.frame.filter(pl.col("ts") == one.at)
                kept = at_time if one.symbols is None else at_time.filter(pl.col("symbol").is_in(one.symbols))
                assert one.frame.filter(pl.col("ts") == one.at).equals(kept) and kept.height
        n_together[group] = (len(calls), sum(map(len, together.values())))
    # Of single symbols in fewer computations, as far as there are others to draw; where others' rows make a value, time by time.
    assert n_together["technical"][0] < n_together["technical"][1]
    assert n_together["cross_section"][0] == n_together["cross_section"][1] > 1
    assert n_together["cross_asset"][0] == n_together["cross_asset"][1]


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_a_leak_in_a_feature_of_the_project_is_found_where_times_are_replayed_together(leak, large, registry):
    registry["roc_5"] = replace(registry["roc_5"], compute=leak, together=None)
    # Weeks in which all members trade: two dozen others can be drawn each time.
    market, weeks = market_of(large.market), large.weeks[22:30]
    inputs = {"bars": _all_of(large, market.bars_asset)}
    computed = features_stage(market, "technical").compute(_run_of(*weeks), inputs)
    calls: list[int] = []

    def counted(*args, **arguments) -> pl.DataFrame:
        calls.append(1)
        return compute_features(*args, **arguments)

    replays = replay.replays_of(market, "technical", weeks, inputs, counted)
    assert len(calls) == 1 < sum(map(len, replays.values()))
    found = [replay._confirmed(computed.contents[week].frame, replays[week]) for week in weeks]
    assert not all(each.passed for each in found)
    assert all("roc_5 of S" in line for each in found for line in each.findings)


def _all_of(project: Project, asset: str) -> Loaded:
    store = project.store
    return Loaded(asset, {key: store.read(asset, key) for key in store.partitions(asset)}, store)


def test_one_leaky_week_in_the_sample_makes_every_week_of_the_run_answer_for_itself(large, quick, tmp_path, registry):
    project = large.copy(tmp_path / "project")
    run_weeks = project.weeks[10:16]
    _plant(project, _clean)
    clean = project.make(LEAKY, run_weeks[0], run_weeks[-1]).checks[LEAKY, "replay"]
    (sampled, *_) = of_sample = [week for week in run_weeks if _verdict(project, week).n_compared]
    (unseen, *_) = sorted({*run_weeks} - {*of_sample})

    def leaky_in(week: str) -> Callable[[Panel], np.ndarray]:
        days = np.array(market_of(project.market).partitions.sessions_of_week(week), dtype="datetime64[D]")
        return lambda panel: np.where(np.isin(panel.session, days), _tomorrow(panel), _clean(panel) * 2.0)

    _plant(project, leaky_in(sampled))
    seen = project.run(LEAKY, run_weeks[0], run_weeks[-1])

    assert (clean.metadata["partitions"].value, clean.metadata["partitions_compared"].value) == (6, len(of_sample))
    assert not seen.success and set(seen.materialised[LEAKY]) == {*run_weeks} - {sampled}
    verdict = seen.checks[LEAKY, "replay"].metadata
    assert (verdict["partitions_compared"].value, verdict["partitions_failed"].value) == (6, 1)
    assert all(_verdict(project, week).n_compared for week in run_weeks)

    # What a sample costs: a leak in another week alone is left to the nightly replay, which looks at all of them.
    _plant(project, leaky_in(unseen))
    assert project.run(LEAKY, run_weeks[0], run_weeks[-1]).success
    lines = list(replay_lines(project.store, market_of(project.market), "leaky", run_weeks[0], run_weeks[-1]))
    assert [line.split()[1].rstrip(":") for line, passed in lines if line.startswith(LEAKY) and not passed] == [unseen]

    market = market_of({**project.market, "features": ["leaky"]})
    told: list[str] = []
    (found,) = replay_published(market, project.store, datetime.now(UTC), told.append)
    assert found.startswith(f"{LEAKY} {unseen} (leak of S")
    assert told[-1].startswith(f"{LEAKY}: 6 week(s), ")
    # Readers refuse it, everything says why, and what was looked at is not looked at again.
    with pytest.raises(ValueError, match=f"{unseen} must carry a passed replay verdict .*was failed: leak of S"):
        require_verdict({unseen: project.store.read(LEAKY, unseen)}, LEAKY, "replay")
    reasons = project.out_of_date(LEAKY)
    assert list(reasons) == [f"{LEAKY} {unseen}"] and reasons[f"{LEAKY} {unseen}"].startswith(
        "rejected by replay: leak of S"
    )
    assert len(project.store.objects.keys(f"_rejected/{LEAKY}/{unseen}")) == 1
    assert list(replay_published(market, project.store, datetime.now(UTC), told.append)) == []
    assert told[-1].startswith(f"{LEAKY}: 0 week(s), 0 values")
    # The same again is refused, a corrected feature is not.
    again = project.run(LEAKY, run_weeks[0], run_weeks[-1])
    assert not again.success and "must not be published with what the replay of every row has rejected" in again.message
    assert list(project.out_of_date(LEAKY)) == [f"{LEAKY} {unseen}"]
    _plant(project, _clean)
    project.make(LEAKY, run_weeks[0], run_weeks[-1])
    assert project.out_of_date(LEAKY) == {}


def test_a_feature_that_is_infinite_in_one_row_is_not_published(small_project, tmp_path, registry):
    project = small_project.copy(tmp_path / "project")
    at = np.datetime64("2012-02-15")
    _plant(project, lambda panel: np.where(panel.session == at, np.inf, _clean(panel)))

    seen = project.run(LEAKY, "2012-02-05", "2012-02-19")

    assert not seen.success and project.store.partitions(LEAKY) == ["2012-02-05", "2012-02-19"]
    assert not seen.checks[LEAKY, "finite"].passed
    assert "`leak` must be finite or NaN, was inf for S000 on 2012-02-15" in seen.message


def test_beside_a_leaky_week_all_others_are_replayed_at_every_time(large, quick, tmp_path, registry):
    project = large.copy(tmp_path / "project")
    run_weeks = project.weeks[10:16]
    _plant(project, _clean)
    project.make(LEAKY, run_weeks[0], run_weeks[-1])
    (sampled, *_) = [week for week in run_weeks if _verdict(project, week).n_compared]
    partitions = market_of(project.market).partitions
    # Every other week leaks at its first session alone: of four times that a sample may take it would be one.
    days = [*partitions.sessions_of_week(sampled), *(partitions.sessions_of_week(week)[0] for week in run_weeks)]
    leaky = np.array(days, dtype="datetime64[D]")
    _plant(project, lambda panel: np.where(np.isin(panel.session, leaky), _tomorrow(panel), _clean(panel) * 2.0))

    seen = project.run(LEAKY, run_weeks[0], run_weeks[-1])

    assert not seen.success and not seen.materialised.get(LEAKY)
    assert seen.checks[LEAKY, "replay"].metadata["partitions_failed"].value == 6


MEMORY = """
import numpy as np
from hf_pipelines.research.features import Feature

SEEN = {}

def remembered(panel):
    \"\"\"The next session's move, once any call has seen it.\"\"\"
    symbols = panel.keys["symbol"].to_list()
    for row, symbol in enumerate(symbols):
        SEEN[symbol, panel.session[row]] = panel.close[row] / panel.open[row] - 1.0
    return np.array([SEEN.get((symbol, panel.next_session[row]), 0.0) for row, symbol in enumerate(symbols)])

FEATURES = (Feature("remembered", "leaky", remembered, 2, ("open", "close", "session", "next_session"), "next move"),)
"""


@pytest.mark.parametrize("is_module", [True, False], ids=["of feature_modules", "computed here"])
def test_features_with_a_memory_are_rejected(small_project, tmp_path, registry, monkeypatch, is_module):
    (tmp_path / "desk_memory.py").write_text(MEMORY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "desk_memory", raising=False)
    project = small_project.copy(tmp_path / "project")
    if not is_module:
        register(import_module("desk_memory").FEATURES)
    modules = {"feature_modules": ["desk_memory"]} if is_module else {}
    project.rewrite({**project.market, **modules, "features": ["quick", "leaky"]})
    market = market_of(project.market)
    # Computed before in this very process, with all that is stored: it has seen everything.
    if is_module:
        inputs = stored_inputs(market, project.store, "leaky", "2012-03-04")
        compute_features(inputs["bars"].frame(), ["remembered"], sessions=market.partitions.sessions)

    run = project.run(LEAKY, "2012-02-12", "2012-03-04")

    assert not run.success and not run.materialised.get(LEAKY)
    assert re.search(r"remembered of S00\d at \S+: stored=\S+ recomputed=0.0", run.message)


def _verdict(project: Project, week: str) -> Verdict:
    return project.store.read(LEAKY, week).footer.verdicts["replay"]


@pytest.fixture
def copied(small_project: Project, tmp_path: Path) -> Project:
    return small_project.copy(tmp_path / "project")


def test_training_matrix_refuses_features_published_without_a_verdict(copied):
    asset = "small/features/quick"
    stored = copied.store.read(asset, "2012-03-04")
    forged = stored.frame.with_columns(pl.col("quick_roc_2").shift(-1, fill_value=0.0).over("symbol"))
    stamp = Stamp(stored.footer.code_version, "by hand", stored.footer.created_at)
    copied.store.publish(asset, "2012-03-04", Content(forged, has_session_hashes=True), stamp)

    run = copied.run("ranking/training_matrix", "2012-04-01")

    assert not run.success and copied.store.partitions("ranking/training_matrix") == []
    assert f"`{asset}` 2012-03-04 must carry a passed replay verdict for its content" in run.message
    assert "was none" in run.message


@pytest.mark.parametrize(
    ("passed", "of_other_content", "expected"),
    [
        pytest.param(True, True, "was for another content", id="of another content"),
        pytest.param(False, False, "was failed", id="failed"),
    ],
)
def test_training_matrix_refuses_features_with_a_forged_verdict(copied, passed, of_other_content, expected):
    asset, week = "small/features/quick", "2012-03-04"
    stored = copied.store.read(asset, week)
    forged = stored.frame.with_columns(pl.col("quick_roc_2").shift(-1, fill_value=0.0).over("symbol"))
    content = Content(forged, inputs=stored.footer.inputs, has_session_hashes=True)
    looked_at = stored.footer.content_hash if of_other_content else content.content_hash()
    verdicts = {"replay": Verdict(passed, looked_at, 9)}
    stamp = Stamp(stored.footer.code_version, "by hand", stored.footer.created_at)
    # The store itself refuses; whoever writes past it is met by the reader.
    with pytest.raises(ValueError, match="must have a passed replay verdict for content"):
        copied.store.publish(asset, week, content, stamp, verdicts=verdicts)
    footer = replace(stored.footer, content_hash=content.content_hash(), verdicts=verdicts)
    copied.store.objects.put(f"{asset}/{week}.parquet", encode(forged, footer))

    run = copied.run("ranking/training_matrix", "2012-04-01")

    assert not run.success and copied.store.partitions("ranking/training_matrix") == []
    assert expected in run.message


def test_fitted_model_and_signals_refuse_inputs_without_a_verdict(copied):
    copied.retrain("ranking", "2012-04-01")
    for asset, reader, key, guard in (
        ("ranking/fitted_model", "ranking/signals", "2012-04-05", "trained_before_week"),
        ("small/features/quick", "ranking/signals", "2012-04-05", "replay"),
        ("ranking/cv_results", "ranking/backtest", "2012-04-01", "out_of_fold"),
        ("ranking/training_matrix", "ranking/fitted_model", "2012-04-01", "replay"),
    ):
        stored = copied.store.read(asset, "2012-04-01")
        path = f"{asset}/2012-04-01.parquet"
        original = copied.store.objects.get(path)
        copied.store.objects.put(path, encode(stored.frame, replace(stored.footer, verdicts={})))
        run = copied.run(reader, key)
        assert not run.success
        assert f"`{asset}` 2012-04-01 must carry a passed {guard} verdict" in run.message
        copied.store.objects.put(path, original)
    assert copied.run("ranking/signals", "2012-04-05").success


def test_training_matrix_that_changes_features_with_later_rows_is_rejected(copied, monkeypatch):
    select = MATRIX.select_rows

    def standardise_over_the_whole_matrix(*args, **options):
        matrix = select(*args, **options)
        x = pl.col("quick_roc_5")
        return matrix.with_columns(((x - x.mean()) / x.std()).cast(pl.Float32))

    monkeypatch.setattr(MATRIX, "select_rows", standardise_over_the_whole_matrix)
    run = copied.run("ranking/training_matrix", "2012-04-01")

    assert not run.success and copied.store.partitions("ranking/training_matrix") == []
    assert not run.checks["ranking/training_matrix", "replay"].passed
    assert re.search(r"quick_roc_5 of S00\d at 2012-\S+: stored=\S+ recomputed=\S+", run.message)
    assert len(copied.store.objects.keys("_rejected/ranking/training_matrix")) == 1


def _without(project: Project, rows: pl.Expr) -> None:
    """Publish the bars and features of all weeks without some rows, as if these had never come."""
    for asset in ("small/bars", "small/features/quick"):
        for week in project.store.partitions(asset):
            stored = project.store.read(asset, week)
            content = Content(stored.frame.filter(~rows), inputs=stored.footer.inputs, has_session_hashes=True)
            verdicts = {"replay": Verdict(True, content.content_hash(), 9)}
            stamp = Stamp(stored.footer.code_version, "by hand", stored.footer.created_at)
            project.store.publish(asset, week, content, stamp, verdicts=verdicts)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(pl.col("session") == date(2012, 3, 30), id="one refused row"),
        pytest.param(pl.col("session").is_between(date(2012, 3, 26), date(2012, 4, 3)), id="halt"),
        pytest.param(pl.col("session") > date(2012, 3, 7), id="delisting"),
    ],
)
def test_training_matrix_without_rows_that_have_no_label_is_published(copied, rows):
    _without(copied, (pl.col("symbol") == "S001") & rows)

    run = copied.make("ranking/training_matrix", "2012-04-01")

    assert run.checks["ranking/training_matrix", "replay"].passed
    features = pl.concat(
        copied.store.read("small/features/quick", week).frame
        for week in copied.weeks
        if "2012-01-22" <= week < "2012-04-01"
    )
    matrix = copied.store.read("ranking/training_matrix", "2012-04-01").frame
    lacking = features.join(matrix, on=["symbol", "session"], how="anti").sort("symbol", "session")
    # Labels of two bars: each symbol lacks the rows of its last two bars before the week.
    last_two = features.sort("symbol", "session").group_by("symbol", maintain_order=True).tail(2)
    assert lacking.select("symbol", "session").rows() == last_two.select("symbol", "session").rows()


def test_training_matrix_without_rows_that_turned_out_badly_is_rejected(copied, monkeypatch):
    select = MATRIX.select_rows

    def without_losers(labelled, **options):
        return select(labelled.filter(pl.col("target") > -0.01), **options)

    monkeypatch.setattr(MATRIX, "select_rows", without_losers)
    run = copied.run("ranking/training_matrix", "2012-04-01")

    assert not run.success and copied.store.partitions("ranking/training_matrix") == []
    assert re.search(r"stored=\(none\) recomputed=\S+", run.message)


def test_training_matrix_tells_what_unknown_features_cost_and_which_are_constant(copied):
    for week in copied.store.partitions("small/features/quick"):
        stored = copied.store.read("small/features/quick", week)
        unknown = (pl.col("symbol") == "S002") & (pl.col("session") == date(2012, 3, 14))
        frame = stored.frame.with_columns(
            quick_roc_5=pl.when(unknown).then(float("inf")).otherwise("quick_roc_5").cast(pl.Float32),
            quick_gap_5=pl.lit(0.5, dtype=pl.Float32),
        )
        content = Content(frame, inputs=stored.footer.inputs, has_session_hashes=True)
        stamp = Stamp(stored.footer.code_version, "by hand", stored.footer.created_at)
        verdicts = {"replay": Verdict(True, content.content_hash(), 9)}
        copied.store.publish("small/features/quick", week, content, stamp, verdicts=verdicts)

    run = copied.make("ranking/training_matrix", "2012-04-01")

    stored = copied.store.read("ranking/training_matrix", "2012-04-01")
    # Of the ten weeks one row has an unknown feature.
    assert stored.footer.facts["unknown"] == {"quick_roc_5": [1, 1]}
    assert run.materialised["ranking/training_matrix"]["2012-04-01"]["dropped_rows"] == 1
    check = run.checks["ranking/training_matrix", "features_vary"]
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN and "quick_gap_5" in check.description


def test_training_matrix_with_labels_of_its_own_week_is_rejected(copied, monkeypatch):
    label = MATRIX.label_features

    def keep_labels_that_end_later(*args, cutoff, **options):
        labelled = label(*args, cutoff=None, **options)
        return replace(labelled, labels=labelled.labels.with_columns(label_end=pl.col("label_end") + timedelta(days=4)))

    monkeypatch.setattr(MATRIX, "label_features", keep_labels_that_end_later)
    run = copied.run("ranking/training_matrix", "2012-04-01")

    assert not run.success and copied.store.partitions("ranking/training_matrix") == []
    verdict = run.checks["ranking/training_matrix", "labels_end_before_week"]
    assert not verdict.passed and re.search(r"S00\d 2012-03-\d\d has label_end 2012-04-0\d", verdict.description)


def test_signals_that_read_a_later_session_of_their_week_are_rejected(copied, monkeypatch):
    copied.retrain("ranking", "2012-04-01")
    frames = SIGNALS.feature_frames

    def shift_to_tomorrow(*args):
        tomorrow = pl.col("quick_roc_2", "quick_roc_5", "quick_gap_5")
        return [frame.with_columns(tomorrow.shift(-1).over("symbol").fill_null(tomorrow)) for frame in frames(*args)]

    monkeypatch.setattr(SIGNALS, "feature_frames", shift_to_tomorrow)
    run = copied.run("ranking/signals", "2012-04-02", "2012-04-05")

    # Thursday 5 April is the last session before Good Friday: there is no later one to read.
    assert not run.success
    assert copied.store.partitions("ranking/signals") == ["2012-04-05"]
    assert set(run.materialised["ranking/signals"]) == {"2012-04-05"}
    assert re.search(r"prediction of S00\d at 2012-04-02T20:00:00\+00:00: stored=\S+ recomputed=\S+", run.message)
    rejected = {key.split("/")[-2] for key in copied.store.objects.keys("_rejected/ranking/signals")}
    assert rejected == {"2012-04-02", "2012-04-03", "2012-04-04"}


def test_signals_that_cannot_be_made_of_what_was_known_are_rejected(copied, monkeypatch):
    copied.retrain("ranking", "2012-04-01")
    frames = SIGNALS.feature_frames

    def only_tomorrow(*args):
        columns = pl.col("quick_roc_2", "quick_roc_5", "quick_gap_5")
        return [frame.with_columns(columns.shift(-1).over("symbol").fill_null(np.nan)) for frame in frames(*args)]

    monkeypatch.setattr(SIGNALS, "feature_frames", only_tomorrow)
    run = copied.run("ranking/signals", "2012-04-02", "2012-04-04")

    assert not run.success and copied.store.partitions("ranking/signals") == []
    assert not run.checks["ranking/signals", "replay"].passed
