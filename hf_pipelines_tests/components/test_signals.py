"""Signals and track records: live and backfilled issues, immutable, by a model that existed."""

import json
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.drift import drift_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.signals import issue_lines, issue_of
from hf_pipelines.components.strategy_stages import issue_kind
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.research.learners import predict_frame
from hf_pipelines.research.signals import ISSUE_COLUMNS
from hf_pipelines.resources.footer import Stamp, Verdict
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines_tests.pipeline import Project, ridge_strategy, shipped_features, trees_strategy

WEEK, SUNDAY = "2012-04-08", "2012-04-08"
# Wednesday of the week; its close is 20:00 UTC, the next open 13:30 UTC on Thursday.
DAY = "2012-04-11"
BEFORE_THE_WEEK = "2012-04-08T06:00:00+00:00"
AFTER_THE_CLOSE = "2012-04-11T20:05:00+00:00"
LONG_AFTER = "2012-07-01T00:00:00+00:00"
SIGNALS = "ranking/signals"


@pytest.fixture(scope="module")
def trained(small_project: Project, tmp_path_factory) -> Project:
    """The small project with a model of the week made on its Sunday morning."""
    project = small_project.copy(tmp_path_factory.mktemp("trained") / "project")
    project.retrain("ranking", WEEK, now=BEFORE_THE_WEEK)
    return project


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Project:
    return trained.copy(tmp_path / "project")


def _issue(project: Project, day: str = DAY, strategy: str = "ranking") -> pl.DataFrame:
    return project.store.read(f"{strategy}/signals", day).frame


@pytest.mark.parametrize(
    ("now", "model_created_at", "expected"),
    [
        pytest.param(AFTER_THE_CLOSE, BEFORE_THE_WEEK, "live", id="between close and next open"),
        pytest.param("2012-04-12T13:29:59+00:00", BEFORE_THE_WEEK, "live", id="a second before the next open"),
        pytest.param("2012-04-12T13:30:00+00:00", BEFORE_THE_WEEK, "backfill", id="at the next open"),
        pytest.param(LONG_AFTER, BEFORE_THE_WEEK, "backfill", id="an old day"),
        pytest.param("2012-04-11T19:59:59+00:00", BEFORE_THE_WEEK, "backfill", id="before the close"),
        pytest.param(AFTER_THE_CLOSE, "2012-04-11T20:01:00+00:00", "backfill", id="model made after the decision"),
        pytest.param(AFTER_THE_CLOSE, "2012-04-11T20:00:00+00:00", "backfill", id="model made at the decision"),
    ],
)
def test_issue_kind_is_live_only_if_it_could_have_been_traded(now, model_created_at, expected):
    times = {"now": now, "model_created_at": model_created_at}
    parsed = {name: datetime.fromisoformat(each) for name, each in times.items()}
    decision, next_open = datetime.fromisoformat("2012-04-11T20:00:00Z"), datetime.fromisoformat("2012-04-12T13:30:00Z")
    assert issue_kind(**parsed, decision=decision, next_open=next_open) == expected


def test_signals_after_the_close_with_an_older_model_are_live(project):
    run = project.make(SIGNALS, DAY, now=AFTER_THE_CLOSE)
    issue = _issue(project)
    assert dict(issue.schema) == ISSUE_COLUMNS
    assert issue["issue_kind"].unique().to_list() == ["live"]
    assert issue["created_at"].unique().to_list() == [datetime.fromisoformat(AFTER_THE_CLOSE)]
    assert issue["as_of"].unique().to_list() == [datetime.fromisoformat("2012-04-11T20:00:00Z")]
    # Midnight of the Sunday in New York.
    assert issue["model_as_of"].unique().to_list() == [datetime.fromisoformat("2012-04-08T04:00:00Z")]
    assert issue["model_version"].unique().to_list() == [project.hashes("ranking/fitted_model")[WEEK]]
    # Long the best by prediction, short the worst, each half of the account; the benchmark is not among them.
    ranked = issue.sort("prediction")
    assert ranked["weight"].to_list() == [-0.5, 0.0, 0.0, 0.5]
    assert ranked["reason"].to_list() == ["", "not selected", "not selected", ""]
    assert issue["symbol"].to_list() == ["S000", "S001", "S002", "S003"]
    noted = run.materialised[SIGNALS][DAY]
    assert (noted["members"], noted["positions"], noted["gross_exposure"], noted["net_exposure"]) == (4, 2, 1.0, 0.0)


def test_a_model_stored_before_its_footer_told_what_it_is_built_of_predicts_the_same(project):
    stored = project.store.read("ranking/fitted_model", WEEK)
    assert stored.footer.facts["learner"] == {"type": "ridge", "params": {"alpha": 1.0, "fit_intercept": True}}
    before = {name: each for name, each in stored.footer.facts.items() if name != "learner"}
    older = replace(stored, footer=replace(stored.footer, facts=before))
    names = stored.frame["features"][0].split(",")
    features = project.store.read("small/features/quick", WEEK).frame
    answers = [
        predict_frame(
            load_model(Loaded("ranking/fitted_model", {WEEK: each}, project.store), each),
            features, features=names, classes=(),
        )
        for each in (stored, older)
    ]  # fmt: skip
    assert answers[0].equals(answers[1]) and answers[0]["prediction"].is_finite().all()


def test_signals_with_a_model_made_after_the_decision_are_backfilled(project):
    Path(project.store.objects.address(f"ranking/fitted_model/{WEEK}.parquet")).unlink()
    project.make("ranking/fitted_model", WEEK, now="2012-04-11T20:01:00+00:00")
    project.make(SIGNALS, DAY, now=AFTER_THE_CLOSE)
    assert _issue(project)["issue_kind"].unique().to_list() == ["backfill"]


def test_backfilled_signals_are_never_turned_live(project):
    project.make(SIGNALS, DAY, now=LONG_AFTER)
    before = project.store.objects.get(f"{SIGNALS}/{DAY}.parquet")
    # A clock that went back: the same content at a time at which it would have been live.
    run = project.make(SIGNALS, DAY, now=AFTER_THE_CLOSE)
    assert run.materialised[SIGNALS][DAY]["outcome"] == "unchanged"
    assert project.store.objects.get(f"{SIGNALS}/{DAY}.parquet") == before
    assert _issue(project)["issue_kind"].unique().to_list() == ["backfill"]
    assert project.store.versions(SIGNALS, DAY) == []


@pytest.mark.parametrize("first_issued", [AFTER_THE_CLOSE, LONG_AFTER], ids=["live", "backfill"])
def test_signals_recomputed_from_other_features_are_kept_beside_the_issue(project, first_issued, capsys):
    project.make(SIGNALS, DAY, now=first_issued)
    before = project.store.objects.get(f"{SIGNALS}/{DAY}.parquet")
    issued = _issue(project)
    # The feed corrects Wednesday's closes by up to 20 %.
    source = project.take_source() / f"{DAY}.parquet"
    bars = pl.read_parquet(source)
    factor = pl.Series([0.8, 1.0, 1.2, 0.9, 1.1])
    bars.with_columns(*(pl.col(name) * factor for name in ("open", "high", "low", "close"))).write_parquet(source)
    project.make(["small/bars", "small/features/quick"], WEEK)
    reasons = project.out_of_date(SIGNALS)
    assert f"input small/features/quick {WEEK}#{DAY} was" in reasons[f"{SIGNALS} {DAY}"]

    run = project.make(SIGNALS, DAY, now="2012-04-11T21:00:00+00:00")

    assert run.materialised[SIGNALS][DAY]["outcome"] == "shadow"
    assert project.store.objects.get(f"{SIGNALS}/{DAY}.parquet") == before
    (shadow,) = project.store.versions(SIGNALS, DAY)
    recomputed = pl.read_parquet(Path(project.store.objects.address(f"_versions/{SIGNALS}/{DAY}/{shadow}.parquet")))
    assert recomputed["prediction"].to_list() != issued["prediction"].to_list()
    table = run.materialised[SIGNALS][DAY]["differences_from_issue"].split("\n")
    assert table[1] == "symbol,ts,weight_issued,prediction_issued,weight_recomputed,prediction_recomputed"
    rows = [line.split(",") for line in table[2:-1]]
    # The second symbol's closes were right: the rows that differ are listed, and no others.
    assert [row[0] for row in rows] == ["S000", "S002", "S003"]
    differing = [frame.filter(pl.col("symbol") != "S001") for frame in (issued, recomputed)]
    for row, was, now in zip(rows, *(frame.iter_rows(named=True) for frame in differing), strict=True):
        expected = [was["weight"], was["prediction"], now["weight"], now["prediction"]]
        assert [float(cell) for cell in row[2:]] == pytest.approx(expected, abs=1e-6)
    # A person who types it is told: success alone would say that they are new.
    capsys.readouterr()
    Pipeline(project.definitions, project.instance, project.store).materialise([SIGNALS], DAY, DAY)
    assert f"{SIGNALS} {DAY}: the issue stays as it was issued; " in capsys.readouterr().err


def test_signals_of_a_day_without_a_position_hold_every_member_with_weight_0(small_project, tmp_path):
    never = {"type": "probability_threshold", "params": {"threshold": 1.0}}
    copied = small_project.copy(tmp_path / "project")
    copied.rewrite(strategies=[trees_strategy(signal=never)])
    copied.retrain("direction", WEEK)
    run = copied.make("direction/signals", DAY)
    issue = _issue(copied, strategy="direction")
    assert issue.select("symbol", "weight").rows() == [("S000", 0.0), ("S001", 0.0), ("S002", 0.0), ("S003", 0.0)]
    assert issue["confidence"].is_between(1 / 3, 1.0).all()
    assert run.materialised["direction/signals"][DAY]["positions"] == 0


def _publish(project: Project, asset: str, key: str, frame: pl.DataFrame, facts=None) -> None:
    """Other rows under an asset's key, with every verdict that readers ask for."""
    stored = project.store.read(asset, key)
    has_sessions = bool(stored.footer.session_hashes)
    content = Content(frame, inputs=stored.footer.inputs, facts=facts or {}, has_session_hashes=has_sessions)
    verdicts = {name: Verdict(True, content.content_hash(), 1) for name in stored.footer.verdicts}
    stamp = Stamp(stored.footer.code_version, "by hand", stored.footer.created_at)
    project.store.publish(asset, key, content, stamp, verdicts=verdicts)


def test_signals_hold_every_member_and_their_weights_are_shares_of_members(small_project, tmp_path):
    always = {"type": "probability_threshold", "params": {"threshold": 0.01}}
    copied = small_project.copy(tmp_path / "project")
    copied.rewrite(strategies=[trees_strategy(signal=always)])
    copied.retrain("direction", WEEK)
    features = copied.store.read("small/features/quick", WEEK).frame
    of_day = pl.col("session") == pl.lit(DAY).str.to_date()
    unknown = of_day & (pl.col("symbol") == "S002")
    changed = features.filter(~(of_day & (pl.col("symbol") == "S001"))).with_columns(
        quick_roc_2=pl.when(unknown).then(float("inf")).otherwise("quick_roc_2").cast(pl.Float32),
        quick_gap_5=pl.when(unknown).then(None).otherwise("quick_gap_5").cast(pl.Float32),
    )
    _publish(copied, "small/features/quick", WEEK, changed)

    run = copied.make("direction/signals", DAY)

    issue = _issue(copied, strategy="direction")
    assert issue["symbol"].to_list() == ["S000", "S001", "S002", "S003"]
    # Four members: a quarter each, not a half of the two about which something is known.
    assert issue["weight"].abs().to_list() == [0.25, 0.0, 0.0, 0.25]
    assert issue["reason"].to_list() == ["", "no bar", "missing feature", ""]
    assert issue["reason_detail"].to_list() == [None, None, "quick_roc_2, quick_gap_5", None]
    assert issue["ts"].n_unique() == 1 and issue.filter(pl.col("reason") != "")["prediction"].is_nan().all()
    assert copied.store.footer("direction/signals", DAY).facts["schema_version"] == 3
    noted = run.materialised["direction/signals"][DAY]
    assert (noted["members"], noted["without_prediction"], noted["positions"]) == (4, 2, 2)
    assert "| S001 | 0.0% |  |  |" in noted["preview"] and "- no bar: S001" in noted["preview"]
    assert noted["headline"] == "backfill: 1 long, 1 short of 4; gross 50%, net +0%" and "turned_over" not in noted


def test_signals_without_a_model_of_the_week_fail_naming_the_command(project):
    run = project.run(SIGNALS, "2012-04-18")
    assert not run.success
    assert "`ranking/fitted_model` must have a model of week 2012-04-15 for the signals of 2012-04-18" in run.message
    assert "retrain it: hfp retrain ranking --week 2012-04-15" in run.message
    assert project.store.partitions(SIGNALS) == []


def test_signals_with_a_model_age_of_a_week_use_the_older_model_and_never_a_later_one(small_project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    project.rewrite(strategies=[ridge_strategy(max_model_age_weeks=1)])
    project.retrain("ranking", "2012-04-08", "2012-04-22")
    models = {week: project.store.objects.address(f"ranking/fitted_model/{week}.parquet") for week in project.weeks}
    Path(models["2012-04-15"]).unlink()
    # Monday to Friday of the week without a model, and the Friday before it.
    days = ["2012-04-16", "2012-04-17", "2012-04-18", "2012-04-19", "2012-04-20"]
    for day in days:
        project.make(SIGNALS, day)
        assert _issue(project, day)["model_as_of"].unique().to_list() == [
            datetime.fromisoformat("2012-04-08T04:00:00Z")
        ]
    project.make(SIGNALS, "2012-04-23")
    assert _issue(project, "2012-04-23")["model_as_of"][0] == datetime.fromisoformat("2012-04-22T04:00:00Z")

    # With the older one gone too there is a later one only: none may be used.
    Path(models["2012-04-08"]).unlink()
    run = project.run(SIGNALS, "2012-04-13")
    assert not run.success and "must have a model of week 2012-04-08" in run.message
    # Two weeks back is more than YAML allows.
    run = project.run(SIGNALS, "2012-05-01")
    assert run.success and _issue(project, "2012-05-01")["model_as_of"][0] == datetime.fromisoformat(
        "2012-04-22T04:00:00Z"
    )
    Path(models["2012-04-22"]).unlink()
    project.retrain("ranking", "2012-04-15")
    run = project.run(SIGNALS, "2012-05-02")
    assert not run.success and "must have a model of week 2012-04-29" in run.message


def test_signals_by_a_model_that_claims_to_know_the_future_are_refused(project):
    """A card published under its own week, with every verdict, whose `as_of` lies after the session."""
    asset = "ranking/fitted_model"
    stored = project.store.read(asset, WEEK)
    late = stored.frame.with_columns(as_of=pl.lit(datetime.fromisoformat("2012-04-11T20:00:01+00:00")))
    artifact = {name: project.store.read_attachment(stored.footer, name) for name in stored.footer.attachments}
    content = Content(late.cast(stored.frame.schema), attachments=artifact, facts=stored.footer.facts)
    verdicts = {"trained_before_week": Verdict(True, content.content_hash(), 1)}
    stamp = Stamp(stored.footer.code_version, "by hand", stored.footer.created_at)
    project.store.publish(asset, WEEK, content, stamp, verdicts=verdicts)
    run = project.run(SIGNALS, DAY)
    assert not run.success and project.store.partitions(SIGNALS) == []
    assert "`as_of` of the model of week 2012-04-08 must not be after the decision" in run.message
    # A day later it is not too late.
    assert project.run(SIGNALS, "2012-04-12").success


def test_signals_of_a_sunday_are_refused_naming_the_next_session(project):
    run = project.run(SIGNALS, SUNDAY)
    assert not run.success and project.store.partitions(SIGNALS) == []
    assert "was 2012-04-08 (Sunday); the next session is 2012-04-09" in run.message


def test_signals_over_a_range_with_sundays_are_issued_for_its_sessions(project):
    project.retrain("ranking", "2012-04-01")
    project.retrain("ranking", "2012-04-15")
    # Good Friday, 6 April, has no partition; the Sundays 8 and 15 April have one, and need no content.
    run = project.run(SIGNALS, "2012-04-05", "2012-04-16")
    expected = [
        "2012-04-05", "2012-04-09", "2012-04-10", "2012-04-11", "2012-04-12", "2012-04-13", "2012-04-16",
    ]  # fmt: skip
    assert run.success, run.message
    assert project.store.partitions(SIGNALS) == expected
    # The Sundays are told to be empty: the web UI would show them as missing for ever.
    assert sorted(run.materialised[SIGNALS]) == sorted([*expected, "2012-04-08", "2012-04-15"])
    assert not run.materialised[SIGNALS]["2012-04-08"]
    as_of = {day: _issue(project, day)["model_as_of"][0].date().isoformat() for day in expected}
    assert as_of == {day: max(w for w in ("2012-04-01", "2012-04-08", "2012-04-15") if w < day) for day in expected}


def test_signals_name_the_newest_issue_in_latest_json(project):
    project.make(SIGNALS, "2012-04-12", now=LONG_AFTER)
    project.make(SIGNALS, DAY, now=AFTER_THE_CLOSE)
    latest = json.loads(project.store.objects.get(f"{SIGNALS}/latest.json"))
    payload = project.store.objects.get(f"{SIGNALS}/2012-04-12.parquet")
    assert latest == {
        "day": "2012-04-12",
        "path": f"{SIGNALS}/2012-04-12.parquet",
        "sha256": sha256(payload).hexdigest(),
        "content_hash": project.hashes(SIGNALS)["2012-04-12"],
        "model": project.hashes("ranking/fitted_model")[WEEK],
        "issue_kind": "backfill",
        "schema_version": 3,
    }


def test_signals_need_every_feature_group_of_the_session(small_project, tmp_path, registry):
    project = small_project.copy(tmp_path / "project")
    strategy = ridge_strategy(features=["quick", "temporal/day_of_week"])
    project.rewrite({**project.market, "features": ["quick", *shipped_features("temporal")]}, [strategy])
    project.make("small/features/temporal", project.weeks[0], "2012-04-01")
    project.retrain("ranking", WEEK)

    run = project.run(SIGNALS, DAY)
    assert not run.success
    assert f"hfp materialise small/features/temporal --from {WEEK} --to {WEEK}" in run.message

    # One group has the week up to Tuesday only: it is half loaded, and not taken for a day without members.
    project.make("small/features/temporal", WEEK)
    whole = project.store.read("small/features/temporal", WEEK)
    part = whole.frame.filter(pl.col("session") < pl.lit(DAY).str.to_date())
    content = Content(part, inputs=whole.footer.inputs, has_session_hashes=True)
    stamp = Stamp(whole.footer.code_version, "by hand", whole.footer.created_at)
    passed = {"replay": Verdict(True, content.content_hash(), 1)}
    project.store.publish("small/features/temporal", WEEK, content, stamp, verdicts=passed)
    run = project.run(SIGNALS, DAY)
    assert not run.success and "must hold the same rows in every group" in run.message
    assert project.store.partitions(SIGNALS) == []
    project.make("small/features/temporal", WEEK)
    assert project.run(SIGNALS, DAY).success


def test_signals_stay_current_when_their_week_gains_a_session(tmp_path, quick, small_project):
    """On Wednesday evening the week has three sessions, on Thursday four: Wednesday's issue is untouched."""
    project = small_project.copy(tmp_path / "project")
    for asset in ("small/bars", "small/features/quick"):
        Path(project.store.objects.address(f"{asset}/{WEEK}.parquet")).unlink()
    project.retrain("ranking", WEEK, now=BEFORE_THE_WEEK)
    week = ["small/bars", "small/features/quick"]
    project.make(week, WEEK, now=AFTER_THE_CLOSE)
    assert project.store.read("small/features/quick", WEEK).frame["session"].n_unique() == 3
    project.make(SIGNALS, DAY, now=AFTER_THE_CLOSE)
    before = project.store.footer("small/features/quick", WEEK)

    evening = "2012-04-12T20:05:00+00:00"
    project.make(week, WEEK, now=evening)
    after = project.store.footer("small/features/quick", WEEK)
    assert after.content_hash != before.content_hash
    assert {day: after.session_hashes[day] for day in before.session_hashes} == dict(before.session_hashes)
    assert project.out_of_date(SIGNALS) == {}
    # And a recomputation says so too.
    run = project.make(SIGNALS, DAY, now=evening)
    assert run.materialised[SIGNALS][DAY]["outcome"] == "unchanged"
    project.make(SIGNALS, "2012-04-12", now=evening)
    kinds = [_issue(project, day)["issue_kind"][0] for day in (DAY, "2012-04-12")]
    assert kinds == ["live", "live"]


def test_track_record_keeps_live_and_backfilled_issues_apart(project):
    backfilled, live = ["2012-04-09", "2012-04-10"], ["2012-04-11", "2012-04-12"]
    for day in backfilled:
        project.make(SIGNALS, day, now=LONG_AFTER)
    for day in live:
        project.make(SIGNALS, day, now=f"{day}T20:05:00+00:00")

    run = project.make("ranking/track_record", "2012-04-15")

    stored = project.store.read("ranking/track_record", "2012-04-15")
    assert set(stored.footer.facts["records"]) == {"live", "backfill"}
    noted = run.materialised["ranking/track_record"]["2012-04-15"]
    assert (noted["issues"], noted["live_issues"], noted["backfill_issues"]) == (4, 2, 2)
    # No number of both: each of the metrics carries its kind.
    pooled = set(stored.footer.facts["records"]["live"]) & set(noted)
    assert pooled == set()
    equity = {kind: stored.frame.filter(pl.col("record") == kind) for kind in ("live", "backfill")}
    # The first live decision is Wednesday's, filled on Thursday: until then that account has traded nothing.
    for kind, first_fill in (("live", "2012-04-12"), ("backfill", "2012-04-10")):
        traded = equity[kind].filter(pl.col("turnover") > 0.0)
        assert str(traded["session"].min()) == first_fill
    assert equity["live"]["equity"][-1] != equity["backfill"]["equity"][-1]


def test_an_issue_is_printed_with_its_change_against_the_session_before(project, small_project):
    # Of none there is a command that makes one, with what it needs.
    make = "hfp materialise ranking/signals --from {} --with-inputs"
    with pytest.raises(ValueError, match=f"ranking has none; {make.format('2012-04-09')}\\.$"):
        issue_of(project.pipeline, "ranking", None)
    with pytest.raises(ValueError, match=f"so does: {make.format('2012-04-09')}, then .*/drift --from 2012-04-09\\.$"):
        drift_of(project.pipeline, "ranking", None)
    newest = project.store.partitions(small_project.pipeline.strategy("ranking").market.bars_asset)[-1]
    with pytest.raises(
        ValueError, match=f"ranking has none; hfp retrain ranking --week {newest} --with-inputs, then hfp"
    ):
        issue_of(small_project.pipeline, "ranking", None)
    project.make(SIGNALS, "2012-04-10", "2012-04-11", now=LONG_AFTER)
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    found = issue_of(pipeline, "ranking", None)
    held = {day: dict(_issue(project, day).select("symbol", "weight").iter_rows()) for day in ("2012-04-10", DAY)}
    assert (found["day"], found["before"], found["issue_kind"]) == (DAY, "2012-04-10", "backfill")
    changes = {symbol: weight - held["2012-04-10"][symbol] for symbol, weight in held[DAY].items()}
    assert {row["symbol"]: row["change"] for row in found["table"]} == changes
    # Long and short are as large on both days: what is bought was sold elsewhere.
    assert found["turned_over"] == pytest.approx(sum(map(abs, changes.values())) / 2)
    lines = [*issue_lines(found)]
    assert lines[0].startswith(f"ranking, {DAY}, backfill, by model ")
    assert lines[1] == f"decided by the model of week {WEEK}, ungated"
    assert lines[2] == f"gross 100.0%, net +0.0%; {found['turned_over']:.1%} turned over since 2012-04-10"
    assert lines[4].split() == ["symbol", "weight", "change", "prediction", "confidence", "reason"]
    assert {line.split()[0]: line.split()[1] for line in lines[5:]} == {
        symbol: f"{weight:+.4f}" if weight else "0" for symbol, weight in held[DAY].items()
    }
    first = issue_of(pipeline, "ranking", "2012-04-10")
    assert first["before"] is None and [*issue_lines(first)][2].endswith("; no issue of the session before")
    with pytest.raises(ValueError, match="`day` must be one that ranking has an issue of .*, was '2012-04-09'"):
        issue_of(pipeline, "ranking", "2012-04-09")
