"""Columns of issues: reasons, versions and probabilities of today's, and those of earlier schema versions beside them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.signals import issue_lines, issue_of
from hf_pipelines.components.strategy_stages.decision_versions import decision_versions
from hf_pipelines.components.strategy_stages.issue_rows import calibrated_probability
from hf_pipelines.components.strategy_stages.plan import RulePlan
from hf_pipelines.research.learners import build_pipeline, choose_learner
from hf_pipelines.research.learners.learner import Setup
from hf_pipelines.research.signals import ISSUE_COLUMNS, Reason, upgrade_issue
from hf_pipelines.resources.footer import Stamp, Verdict
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines_tests.pipeline import Project, ridge_strategy

WEEK, DAY = "2012-04-08", "2012-04-11"
SIGNALS = "ranking/signals"

# As an earlier version issued them, byte for byte.
VERSION_2 = Path(__file__).parent / "issues_v2"


@pytest.fixture(scope="module")
def trained(small_project: Project, tmp_path_factory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("schema") / "project")
    project.retrain("ranking", WEEK, now="2012-04-08T06:00:00+00:00")
    return project


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Project:
    return trained.copy(tmp_path / "project")


def _issue(project: Project, day: str = DAY) -> pl.DataFrame:
    return project.store.read(SIGNALS, day).frame


def _pipeline(project: Project) -> Pipeline:
    return Pipeline(project.definitions, project.instance, project.store)


def _publish_as(project: Project, day: str, frame: pl.DataFrame, version: int) -> None:
    """Put other columns in the place of an issue, as an earlier version would have issued them."""
    issue = project.store.read(SIGNALS, day)
    Path(project.store.objects.address(f"{SIGNALS}/{day}.parquet")).unlink()
    content = Content(frame, inputs=issue.footer.inputs, facts={"schema_version": version})
    verdicts = {name: Verdict(True, content.content_hash(), 1) for name in issue.footer.verdicts}
    stamp = Stamp(issue.footer.code_version, "by hand", issue.footer.created_at)
    project.store.publish(SIGNALS, day, content, stamp, verdicts=verdicts)


def test_a_refused_a_halted_and_a_departed_member(project):
    project.make(SIGNALS, "2012-04-10", now="2012-04-10T20:05:00+00:00")
    source, halted_day = project.take_source(), "2012-04-12"
    # The feed sends S001 with a negative volume, and on the next day S002 not at all.
    bars = pl.read_parquet(source / f"{DAY}.parquet")
    refused = pl.when(pl.col("symbol") == "S001").then(-1.0).otherwise(pl.col("volume"))
    bars.with_columns(volume=refused.cast(bars.schema["volume"])).write_parquet(source / f"{DAY}.parquet")
    bars = pl.read_parquet(source / f"{halted_day}.parquet")
    bars.filter(pl.col("symbol") != "S002").write_parquet(source / f"{halted_day}.parquet")
    universe = [
        {**each, "until": "2012-04-10"} if each["symbol"] == "S003" else each for each in project.market["universe"]
    ]
    all_long = {"type": "threshold", "params": {"buy": -0.9, "sell": -1.0}}
    project.rewrite({**project.market, "universe": universe}, [ridge_strategy(signal=all_long)])
    project.make(["small/bars", "small/features/quick"], WEEK)
    assert "S001" in project.store.footer("small/bars", WEEK).facts["quarantined"][0]
    project.make(SIGNALS, DAY, halted_day)

    columns = ("symbol", "weight", "reason", "reason_detail")
    assert _issue(project).select(columns).rows() == [
        ("S000", 1 / 3, "", None), ("S001", 0.0, Reason.NO_BAR, None), ("S002", 1 / 3, "", None),
    ]  # fmt: skip
    after = dict(_issue(project, halted_day).select("symbol", "reason").iter_rows())
    assert after["S002"] == Reason.NO_BAR and after["S000"] == ""
    # One that has left has no row; what was held of it is told beside the session before.
    told = {line[:4]: line for line in issue_lines(issue_of(_pipeline(project), "ranking", DAY))}
    assert told["S003"].endswith("no member any more") and told["S001"].endswith("no bar")
    assert _issue(project, "2012-04-10")["symbol"].to_list()[-1] == "S003"


def test_an_issue_of_version_2_is_read_beside_those_of_today(project):
    days = ("2012-04-11", "2012-04-12", "2012-04-13")
    for day in days:
        project.make(SIGNALS, day, now=f"{day}T20:05:00+00:00")
    project.make("ranking/track_record", "2012-04-15")
    expected = project.store.read("ranking/track_record", "2012-04-15").frame
    own = _issue(project)
    project.store.objects.put(f"{SIGNALS}/{DAY}.parquet", (VERSION_2 / "ranking.parquet").read_bytes())

    stored = project.store.read(SIGNALS, DAY)
    assert stored.footer.facts["schema_version"] == 2 and "rule_version" not in stored.frame.columns
    read = upgrade_issue(stored.frame)
    assert dict(read.schema) == ISSUE_COLUMNS and read["weight"].to_list() == own["weight"].to_list()
    assert read.select("reason", "reason_detail").rows() == [
        ("", None), (Reason.NO_BAR, None), (Reason.MISSING_FEATURE, "quick_roc_2, quick_gap_5"), ("", None),
    ]  # fmt: skip
    assert read["rule_version"].null_count() == 4 and own["rule_version"].null_count() == 0

    project.make("ranking/track_record", "2012-04-15")
    assert project.store.read("ranking/track_record", "2012-04-15").frame.equals(expected)
    pipeline = _pipeline(project)
    older, newer = (issue_of(pipeline, "ranking", day) for day in days[:2])
    assert older["rule_version"] is None and [row["reason"] for row in older["table"]] == read["reason"].to_list()
    assert newer["before"] == DAY and newer["turned_over"] is not None
    assert any(line.endswith("missing feature (quick_roc_2, quick_gap_5)") for line in issue_lines(older))
    assert json.loads(project.store.objects.get(f"{SIGNALS}/latest.json"))["schema_version"] == 3


def test_an_issue_of_an_older_version_that_decides_the_same_is_unchanged(project):
    project.make(SIGNALS, DAY, now="2012-04-11T20:05:00+00:00")
    issue = _issue(project)
    columns = pl.read_parquet(VERSION_2 / "ranking.parquet").columns
    _publish_as(project, DAY, issue.select(columns), version=2)
    before = project.store.objects.get(f"{SIGNALS}/{DAY}.parquet")
    run = project.make(SIGNALS, DAY)
    assert run.materialised[SIGNALS][DAY]["outcome"] == "unchanged" and project.store.versions(SIGNALS, DAY) == []
    # With another weight it is not.
    _publish_as(project, DAY, issue.select(columns).with_columns(weight=pl.col("weight") / 2), version=2)
    run = project.make(SIGNALS, DAY)
    assert run.materialised[SIGNALS][DAY]["outcome"] == "shadow"
    assert run.materialised[SIGNALS][DAY]["differences_from_issue"].count("\n") == 4
    assert project.store.objects.get(f"{SIGNALS}/{DAY}.parquet") != before


def test_signals_of_schema_version_1_stay_readable_beside_those_of_today(project):
    for day in ("2012-04-11", "2012-04-12", "2012-04-13"):
        project.make(SIGNALS, day, now=f"{day}T20:05:00+00:00")
    project.make("ranking/track_record", "2012-04-15")
    expected = project.store.read("ranking/track_record", "2012-04-15").frame
    # The first day as version 1 had it: rows of the members that had a prediction, without a reason.
    columns = [name for name in pl.read_parquet(VERSION_2 / "ranking.parquet").columns if name != "reason"]
    _publish_as(project, DAY, _issue(project).filter(pl.col("weight") != 0.0).select(columns), version=1)

    project.make("ranking/track_record", "2012-04-15")

    assert project.store.read("ranking/track_record", "2012-04-15").frame.equals(expected)
    assert json.loads(project.store.objects.get(f"{SIGNALS}/latest.json"))["schema_version"] == 3
    assert "reason" not in _issue(project).columns
    # What it did not tell stays untold.
    assert [row["reason"] for row in issue_of(_pipeline(project), "ranking", DAY)["table"]] == ["", ""]


RULE = {"type": "rank_long_short", "params": {"n_long": 1, "n_short": 1}}


def test_versions_of_rule_and_sizing_change_with_their_own_parts_alone():
    def versions(name: str, **params: object) -> tuple[str, str | None]:
        return decision_versions(RulePlan(name, params))

    alone, none = versions("rank_long_short", n_long=1, n_short=1)
    assert none is None and len(alone) == 16
    # Defaults that are written out are no other rule; another number is.
    assert versions("rank_long_short", n_long=1, n_short=1, max_gross=1.0) == (alone, None)
    assert versions("rank_long_short", n_long=1, n_short=2)[0] != alone
    capped = [{"type": "symbol_cap", "params": {"most": 0.2}}]
    rule, sizing = versions("chain", rule=RULE, limits=capped)
    assert rule == alone and sizing is not None
    wider = versions("chain", rule=RULE, limits=[{"type": "symbol_cap", "params": {"most": 0.3}}])
    sized = versions("chain", rule=RULE, limits=capped, sizing=["fixed_fraction"])
    assert wider[0] == sized[0] == alone and len({sizing, wider[1], sized[1]}) == 3
    other = versions("chain", rule={**RULE, "params": {"n_long": 1, "n_short": 2}}, limits=capped)
    assert other[0] != alone and other[1] == sizing


def test_an_issue_tells_the_versions_of_what_decided_it(project):
    project.make(SIGNALS, DAY)
    assert _issue(project)["rule_version"].unique().to_list() == [decision_versions(RulePlan(*RULE.values()))[0]]
    for name in (
        "sizing_version",
        "challenger_version",
        "rollout_share",
        "calibrated_probability",
        "lower",
        "class_set",
    ):
        assert _issue(project)[name].null_count() == 4
    limits = [{"type": "symbol_cap", "params": {"most": 0.2}}]
    project.rewrite(strategies=[ridge_strategy(signal={**RULE, "limits": limits})])
    project.make(SIGNALS, "2012-04-12")
    issue, chain = _issue(project, "2012-04-12"), {"rule": RULE, "sizing": [], "limits": limits}
    assert issue["weight"].abs().max() == 0.2
    assert (issue["rule_version"][0], issue["sizing_version"][0]) == decision_versions(RulePlan("chain", chain))


def test_a_calibrated_probability_is_one_that_a_calibration_has_changed():
    issue = pl.DataFrame({"probability_down": [0.4, np.nan], "probability_up": [0.6, np.nan]})
    classes = ("down", "up")

    def of(calibration: str | None, *, rows: int) -> list[float | None]:
        pipeline = build_pipeline(choose_learner("logistic", calibration=calibration), Setup("classification"))
        rng = np.random.default_rng(0)
        if rows:
            up = rng.random(rows)
            pipeline.fit_calibration(
                np.column_stack([1 - up, up]), (rng.random(rows) < up).astype(float), np.ones(rows)
            )
        return calibrated_probability(issue, pipeline, classes=classes).to_list()

    assert of("sigmoid", rows=2_000) == [0.6, None]
    # Not calibrated, by a calibration of too few rows, and by one that was not fitted.
    assert of(None, rows=0) == of("sigmoid", rows=3) == of("sigmoid", rows=0) == [None, None]
    assert calibrated_probability(
        issue, build_pipeline(choose_learner("ridge"), Setup("regression")), classes=()
    ).to_list() == [None, None]
