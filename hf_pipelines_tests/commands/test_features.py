"""Features of one's own, `hfp feature test` and `hfp replay`, on a project whose market names a module of its own."""

import json
import re
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.commands.features import feature_test_lines, replay_lines
from hf_pipelines.research.features import Feature
from hf_pipelines.research.features.registry import GROUPS
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.checkout import built_checkout, make_checkout
from hf_pipelines_tests.conftest import FIRST_SESSION, BuildOnce, quick_features, registered
from hf_pipelines_tests.pipeline import Project, files_market, market_of, session_bars, sessions_from

# As a researcher writes it in a package of their own.
MODULE = '''
"""Features of a desk."""

import numpy as np

from hf_pipelines.research.features import Feature


def overnight_share(panel):
    """Overnight move as a share of the day's range; NaN without a range."""
    values = np.full(panel.close.shape, np.nan)
    before = np.roll(panel.close, 1) * panel.price_factor
    span = panel.high - panel.low
    has_range = span > 0.0
    values[has_range] = (panel.open - before)[has_range] / span[has_range]
    values[panel.starts[:-1]] = np.nan
    return values


def tomorrow(panel):
    """The next close over this one: a leak."""
    return np.append(panel.close[1:], np.nan) / panel.close - 1.0


FEATURES = (
    Feature("overnight_share", "desk", overnight_share, 2, ("open", "high", "low", "close"), "(open - close before) / range"),
    Feature("tomorrow", "desk", tomorrow, 1, ("close",), "the next close over this one - 1"),
)
'''
DESK = "small/features/desk"


@pytest.fixture(scope="session")
def desk_template(build_once: BuildOnce, mlflow_template: Path) -> Path:
    """Bars of 60 weeks, published; `market.json` holds the market's attributes, without features."""

    def fill(folder: Path) -> None:
        bars = session_bars(sessions_from(FIRST_SESSION, 60), symbols=3, seed=2)
        market = files_market(folder / "source", bars, features=["desk/overnight_share"])
        project = Project(folder, {**market, "features": ["quick"]}, mlflow_template=mlflow_template)
        with registered(quick_features()):
            project.make("small/bars", project.weeks[0], project.weeks[-1])
        (folder / "market.json").write_text(json.dumps(market))

    return build_once("desk", fill)


@pytest.fixture
def desk(tmp_path: Path, desk_template: Path, registry: dict[str, Feature], monkeypatch: pytest.MonkeyPatch) -> Project:
    """Bars of 60 weeks, and a market that stores a feature of the researcher's module."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "desk_features.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    monkeypatch.delitem(sys.modules, "desk_features", raising=False)
    market = {**json.loads((desk_template / "market.json").read_text()), "modules": ["desk_features"]}
    shutil.copytree(desk_template / "storage", tmp_path / "project" / "storage")
    return Project(tmp_path / "project", market, mlflow_template=desk_template / "mlflow.db")


def test_feature_of_a_researchers_module_is_stored_replayed_and_judged_sound(desk):
    weeks = desk.weeks[-3:]
    run = desk.make(DESK, weeks[0], weeks[-1])
    assert run.checks[DESK, "replay"].passed
    stored = desk.store.read(DESK, weeks[-1]).frame
    bars = desk.store.read("small/bars", weeks[-1]).frame.filter(pl.col("role") == "member")
    row = bars.filter(pl.col("symbol") == "S001").row(3, named=True)
    before = bars.filter(pl.col("symbol") == "S001").row(2, named=True)
    assert row["split_ratio"] == 1.0 and row["dividend"] == 0.0
    expected = (row["open"] - before["close"]) / (row["high"] - row["low"])
    found = stored.filter((pl.col("symbol") == "S001") & (pl.col("session") == row["session"]))["overnight_share"][0]
    assert found == pytest.approx(expected, rel=1e-6)

    lines = list(feature_test_lines(desk.store, market_of(desk.market), "overnight_share"))
    assert all(passed for _, passed in lines)
    assert lines[0][0] == "desk/overnight_share: (open - close before) / range"
    assert lines[2][0].endswith("sessions of small/bars") and lines[3][0].startswith("  sound: no look-ahead")
    assert lines[4][0] == (
        "  on this sample: the future was cut off at the end of every week, month and quarter, before holidays, at first bars "
        "and halts, and at random sessions; a leak on rare rows may escape that, and the samples that a run replays; all is "
        "replayed every night, and by: hfp replay small/desk"
    )


def test_leak_in_a_researchers_module_is_named_by_the_command_and_stopped_by_the_pipeline(desk):
    lines = list(feature_test_lines(desk.store, market_of(desk.market), "tomorrow"))
    broken = [line for line, passed in lines if not passed]
    assert broken and "BROKEN: `tomorrow` must not look ahead of its bar" in broken[0]

    desk.rewrite({**desk.market, "features": ["desk"]})
    run = desk.run(DESK, desk.weeks[-3], desk.weeks[-2])
    assert not run.success and not run.checks[DESK, "replay"].passed
    assert desk.store.partitions(DESK) == []


def test_function_that_raises_in_a_run_is_told_by_feature_file_and_line(desk, tmp_path):
    text = MODULE.replace("panel.high - panel.low", "panel.highs - panel.low")
    (tmp_path / "package" / "raising.py").write_text(text)
    line = next(number for number, each in enumerate(text.splitlines(), start=1) if "highs" in each)
    desk.rewrite({**desk.market, "modules": ["raising"], "features": ["desk/overnight_share"]})
    run = desk.run(DESK, desk.weeks[-2])
    told = rf"`desk/overnight_share` must be computed without an error, raised AttributeError in raising.py:{line}: "
    assert not run.success and re.search(told, run.message)


def test_feature_module_that_cannot_be_imported_or_takes_a_name_says_what_to_do(desk, tmp_path):
    with pytest.raises(ValueError, match="`modules` must name importable modules, was 'desk_featurs' .*PYTHONPATH"):
        market_of({**desk.market, "modules": ["desk_featurs"]})
    (tmp_path / "package" / "thief.py").write_text(MODULE.replace('"desk"', '"technical"'))
    with pytest.raises(
        ValueError, match="must have a group of their own, was technical/overnight_share, a group of the"
    ):
        market_of({**desk.market, "modules": ["thief"]})
    (tmp_path / "package" / "rival.py").write_text(MODULE.replace('"overnight_share"', '"dividend_yield"'))
    with pytest.raises(
        ValueError, match="over all groups, was desk/dividend_yield beside fundamental/dividend_yield; choose"
    ):
        market_of({**desk.market, "modules": ["rival"]})
    of_module = "`modules` must name modules whose entries can be registered, was"
    (tmp_path / "package" / "misspelt.py").write_text(MODULE.replace('"high"', '"hihg"'))
    said = f"{of_module} 'misspelt': `inputs` must be among open, high, .*, was 'hihg' for overnight_share"
    with pytest.raises(ValueError, match=said):
        market_of({**desk.market, "modules": ["misspelt"]})
    (tmp_path / "package" / "unfed.py").write_text(MODULE.replace('("close",)', '("close", "news")'))
    with pytest.raises(
        ValueError, match=f"{of_module} 'unfed': `reference_days` must be the days of news that a value of"
    ):
        market_of({**desk.market, "modules": ["unfed"]})


def test_feature_test_leaves_out_a_damaged_week_and_says_so(desk):
    market = market_of(desk.market)
    week = desk.store.partitions("small/bars")[-4]
    path = Path(desk.store.objects.address(desk.store.key("small/bars", week)))
    path.write_bytes(path.read_bytes()[:200])
    sound, leaky = (list(feature_test_lines(desk.store, market, name)) for name in ("overnight_share", "tomorrow"))
    left_out = (
        f"  skipped: `small/bars/{week}.parquet` must be the file that was published, was 200 bytes that are no whole Parquet "
        f"file; make it again: hfp materialise small/bars --from {week}; or see what can be restored: hfp versions small/bars {week}"
    )
    assert sound[2] == leaky[2] == (left_out, True)
    assert sound[4][0].startswith("  sound: no look-ahead") and not leaky[-1][1]


def test_feature_test_before_anything_is_stored_judges_on_the_sample_whatever_the_market(desk, tmp_path):
    empty = PartitionStore(ObjectStore(str(tmp_path / "empty")))
    # Neither its symbols nor its benchmark nor its calendar are the sample's.
    crypto = market_of({**desk.market, "calendar": "24/7", "timezone": "UTC"})
    for name, expected in (("overnight_share", True), ("tomorrow", False), ("benchmark_beta_60", True)):
        lines = list(feature_test_lines(empty, crypto, name))
        assert lines[2][0].endswith("sessions of the sample of real bars (too few are stored in small/bars)")
        assert all(passed for _, passed in lines) == expected, lines
    sectors = {**desk.market, "universe": [{**each, "sector": "a"} for each in desk.market["universe"]]}
    with pytest.raises(ValueError, match="`small/bars` must hold some .* and the sample has no sector; run: hfp mat"):
        list(feature_test_lines(empty, market_of(sectors), "sector_relative_return_20"))


def test_feature_test_on_a_market_without_what_the_feature_reads_says_what_to_add(desk, tmp_path):
    text = MODULE.replace('("close",),', '("close", "news"),').replace(' - 1"),', ' - 1", reference_days=9),')
    (tmp_path / "package" / "read.py").write_text(text)
    market = market_of({**desk.market, "modules": ["read"]})
    message = (
        "`market` must feed the feature that is judged, was small for desk/tomorrow, without news; add to its YAML a source of "
        "`news` in `references`, or name another market by --market."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        list(feature_test_lines(desk.store, market, "tomorrow"))


BROKEN = """
import numpy as np

from hf_pipelines.research.features import Feature


def short(panel):
    return panel.close[:-1]


def listed(panel):
    return list(panel.close)


def written(panel):
    panel.close[0] = 1.0
    return panel.close / panel.open


def divided(panel):
    return panel.close / [1.0, 2.0]


FEATURES = tuple(
    Feature(each.__name__, "broken", each, 2, ("open", "close"), each.__name__) for each in (short, listed, written, divided)
)
"""


def test_feature_test_of_a_broken_function_names_the_feature_and_what_it_did(desk, tmp_path):
    (tmp_path / "package" / "broken_features.py").write_text(BROKEN)
    market = market_of({**desk.market, "modules": ["broken_features"], "features": ["broken/short"]})
    # The last weeks that 2 x 2 + 120 sessions fit into, of three members.
    judged = pl.concat([desk.store.read("small/bars", week).frame for week in desk.weeks[-31:]])
    assert judged.filter(pl.col("role") == "member").height == 3 * 147
    shape = "must give an array of float64 of shape (6,), one number a row of the panel, was"
    raised = "must be computed without an error, raised ValueError in broken_features.py"
    expected = {
        "short": f"{shape} float64 of shape (5,).",
        "listed": f"{shape} list.",
        "written": f"{raised}:16: assignment destination is read-only; a panel is shared by all features: write into a copy.",
        "divided": f"{raised}:21: operands could not be broadcast together with shapes (6,) (2,).",
    }
    for name, said in expected.items():
        lines = list(feature_test_lines(desk.store, market, name))
        assert [line for line, passed in lines if not passed] == [lines[-1][0]] == [f"  BROKEN: `broken/{name}` {said}"]


def test_feature_test_takes_the_name_with_its_group_and_no_other_group(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    assert main(["feature", "test", "technical/rsi_14"]) == 0
    with_group = capsys.readouterr().out
    assert with_group.startswith("technical/rsi_14: ") and "  sound: no look-ahead" in with_group
    assert "sessions of the sample of real bars (too few are stored in us_tech/bars)\n" in with_group
    assert main(["feature", "test", "rsi_14"]) == 0
    assert capsys.readouterr().out == with_group
    assert main(["feature", "test", "temporal/rsi_14"]) == 1
    assert capsys.readouterr().err == (
        "hfp: `name` must be a registered feature such as technical/rsi_14, was 'temporal/rsi_14'; hfp list features lists them, "
        "those of a module of your own once `modules` of the market us_tech names it.\n"
    )
    assert main(["feature", "test", "nothing_like_it"]) == 1
    assert "`name` must be a registered feature, was 'nothing_like_it'; hfp list features" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["feature", "test", "rsi_14", "--market", "nope"], ["replay", "nope/technical"]])
def test_command_on_a_market_that_is_not_there_names_those_that_are(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    assert main(command) == 1
    assert capsys.readouterr().err == "hfp: `market` must be one of us_tech, us_tech_feed, was 'nope'.\n"


def test_replay_confirms_stored_weeks_in_full_and_names_a_value_that_differs(desk):
    weeks = desk.weeks[-3:]
    desk.make(DESK, weeks[0], weeks[-1])
    market = market_of(desk.market)
    lines = list(replay_lines(desk.store, market, "desk", None, None))
    n_values = sum(desk.store.read(DESK, week).frame.height for week in weeks)
    assert lines[-1] == (f"3 of 3 weeks confirmed, {n_values:,} values replayed", True)

    stored = desk.store.read(DESK, weeks[1])
    changed = pl.when(pl.int_range(pl.len()) == 4).then(9.0).otherwise("overnight_share").cast(pl.Float32)
    forged = stored.frame.with_columns(overnight_share=changed)
    stamp = Stamp(stored.footer.code_version, "by hand", stored.footer.created_at)
    desk.store.publish(DESK, weeks[1], Content(forged, has_session_hashes=True), stamp)

    lines = list(replay_lines(desk.store, market, "desk", weeks[1], None))
    row = forged.row(4, named=True)
    assert [passed for _, passed in lines] == [False, False, True, False, False]
    assert lines[-2][0].endswith(f"correct the feature, then hfp materialise {DESK} --from {weeks[1]} --to {weeks[1]}")
    assert f"overnight_share of {row['symbol']} at {row['ts'].isoformat()}: stored=9.0" in lines[1][0]
    assert (
        lines[-1][0]
        == f"1 of 2 weeks confirmed, {n_values - stored.frame.height + forged.height - desk.store.read(DESK, weeks[0]).frame.height:,} values replayed"
    )


def test_replay_of_weeks_stored_with_other_features_says_so_and_what_to_do(desk):
    week = desk.weeks[-2]
    desk.make(DESK, week)
    market = market_of({**desk.market, "features": ["desk"]})
    told, summary = replay_lines(desk.store, market, "desk", None, None)
    assert told == (
        f"{DESK} {week}: stored with another list of features (tomorrow); make it again: hfp materialise {DESK} --from {week}",
        False,
    )
    assert summary == ("0 of 1 weeks confirmed, 0 values replayed", False)


def test_replay_of_features_whose_bars_were_restored_blames_no_feature(desk):
    week = desk.weeks[-1]
    desk.make(DESK, week)
    bars = desk.store.read("small/bars", week)
    stamp = Stamp(bars.footer.code_version, "restored", bars.footer.created_at)
    # What an earlier version of the week had: its last session was not there yet.
    earlier = bars.frame.filter(pl.col("session") < bars.frame["session"].max())
    desk.store.publish("small/bars", week, Content(earlier, has_session_hashes=True, facts=bars.footer.facts), stamp)
    told, summary = replay_lines(desk.store, market_of(desk.market), "desk", None, None)
    assert told == (
        f"{DESK} {week}: made from other contents than those that are current (small/bars {week}); make it again: "
        f"hfp materialise {DESK} --from {week}",
        False,
    )
    assert summary == ("0 of 1 weeks confirmed, 0 values replayed", False)


def test_replay_of_what_is_not_there_names_what_is(desk):
    market = market_of(desk.market)
    with pytest.raises(ValueError, match="`group` must be one of small/desk, was small/technical"):
        list(replay_lines(desk.store, market, "technical", None, None))
    with pytest.raises(ValueError, match=r"`weeks` of small/features/desk must be stored to be replayed, none is\.$"):
        list(replay_lines(desk.store, market, "desk", None, None))
    desk.make(DESK, desk.weeks[-1])
    said = (
        f"none is from {desk.weeks[0]} to {desk.weeks[1]}; those stored are from {desk.weeks[-1]} to {desk.weeks[-1]}."
    )
    with pytest.raises(ValueError, match=said):
        list(replay_lines(desk.store, market, "desk", desk.weeks[0], desk.weeks[1]))


def test_replay_of_named_weeks_takes_these_alone_and_refuses_those_that_are_not_stored(desk):
    weeks = desk.weeks[-4:]
    desk.make(DESK, weeks[0], weeks[-1])
    market = market_of(desk.market)
    named = [weeks[3], weeks[1], weeks[1]]
    *told, _ = [line for line, _ in replay_lines(desk.store, market, "desk", weeks=named)]
    assert [line.split(":")[0] for line in told] == [f"{DESK} {weeks[1]}", f"{DESK} {weeks[3]}"]
    said = f"must be stored to be replayed, was {desk.weeks[0]}; those stored are from {weeks[0]} to {weeks[-1]}."
    with pytest.raises(ValueError, match=said):
        list(replay_lines(desk.store, market, "desk", weeks=[desk.weeks[0], weeks[1]]))
    with pytest.raises(ValueError, match="`weeks` must come without `from` and `to`, was with"):
        list(replay_lines(desk.store, market, "desk", weeks[0], weeks=weeks))


@pytest.mark.parametrize("option", ["from", "to", "weeks"])
def test_replay_of_a_day_within_a_week_is_refused_with_the_week_that_holds_it(tmp_path, monkeypatch, capsys, option):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    # A Monday: the week that holds it would be left out without a word.
    assert main(["replay", "us_tech/technical", f"--{option}", "2013-01-07"]) == 1
    assert capsys.readouterr().err == (
        f"hfp: `{option}` must be the Sunday that a week begins with, was 2013-01-07; that of its week is 2013-01-06.\n"
    )


def test_features_lists_those_of_a_markets_modules_and_which_market_stores_them(tmp_path):
    checkout = make_checkout(tmp_path / "checkout", [])
    # A module at the root of the project, as one that is installed.
    (checkout.root / "desk_features.py").write_text(MODULE)
    path = checkout.root / "hf_pipelines" / "defs" / "markets" / "us_tech" / "defs.yaml"
    own = "  modules: [desk_features]\n  features: [desk/overnight_share, "
    path.write_text(path.read_text().replace("  features: [", own, 1))
    lines = checkout.succeed("list", "features", "^desk/").splitlines()
    assert lines == [
        "desk/overnight_share  2 bars",
        "    formula: (open - close before) / range",
        "    inputs: open, high, low, close",
        "    stored by: us_tech",
        "desk/tomorrow  1 bar",
        "    formula: the next close over this one - 1",
        "    inputs: close",
        "    stored by: no market",
        f"2 of {sum(len(group.FEATURES) for group in GROUPS) + 2} features",
    ]
    assert (
        "    stored by: us_tech, us_tech_feed" in checkout.succeed("list", "features", "technical/rsi_14").splitlines()
    )


def test_commands_replay_a_real_week_and_judge_a_feature_on_the_sample(tmp_path):
    checkout = built_checkout().checkout
    weeks = checkout.store().partitions("us_tech/features/cross_asset")
    printed = checkout.succeed("replay", "us_tech/cross_asset", "--weeks", weeks[-1])
    assert f"us_tech/features/cross_asset {weeks[-1]}: 75 values confirmed" in printed
    assert "1 of 1 weeks confirmed" in printed
    assert "  sound: no look-ahead" in checkout.succeed("feature", "test", "bollinger_width_20")
    # As `hfp features` prints the name.
    assert "  sound: no look-ahead" in checkout.succeed("feature", "test", "technical/bollinger_width_20")
    known = "such as technical/bollinger_position_20, technical/bollinger_width_20"
    for name in ("bollinger_21", "temporal/bollinger_width_20"):
        unknown = checkout.hfp("feature", "test", name)
        assert unknown.returncode == 1 and known in unknown.stderr and f"was {name!r};" in unknown.stderr
