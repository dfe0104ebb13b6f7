"""Rollouts: capital follows a challenger by what it and the champion earned, through real issues, bars and histories."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.commands.promoting import promote, signals_follow, stored_history, withdraw
from hf_pipelines.commands.rollouts import advanced as advanced_by_command
from hf_pipelines.commands.rollouts import rollout_lines, rollout_told
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.display import parquet_bytes
from hf_pipelines.components.strategy_stages.rollouts import (
    advance_rollout,
    matured_results,
    start_rollout,
    stop_rollout,
)
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.promotion.lifecycle import (
    PROMOTED,
    ROLLOUT_ADVANCED,
    ROLLOUT_STARTED,
    ROLLOUT_STOPPED,
    STAGED,
)
from hf_pipelines.research.promotion.rollout import RolloutSettings
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.issues import issue_fault
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.promotions.history import History, history_of
from hf_pipelines.resources.trial_ledger import configuration_hash
from hf_pipelines_tests.components.test_champion_signals import BROADER, NOTHING, SIGNALS, WEEK
from hf_pipelines_tests.pipeline import Project, ridge_strategy

NOW = datetime(2012, 4, 8, 7, tzinfo=UTC)
# One session is a block, and little evidence is enough.
QUICK: dict[str, Any] = {"shadow_sessions": 2, "block_sessions": 1, "level": 0.5, "worse_level": 0.2}
STAMP = Stamp("by hand", "by hand", "2012-04-09T20:05:00+00:00")


def gated(**attributes: Any) -> dict[str, Any]:
    return ridge_strategy(**{"gates": NOTHING, "max_model_age_weeks": 4, "rollout": QUICK, **attributes})


@pytest.fixture(scope="module")
def staged(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A champion, and in the YAML a challenger that is staged by the same week."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_ACTOR", "bob")
        project = small_project.copy(tmp_path_factory.mktemp("rollout") / "project")
        project.rewrite(strategies=[gated()])
        project.retrain("ranking", WEEK, now="2012-04-08T06:00:00+00:00")
        promote(project.pipeline, "ranking", WEEK, "the first")
        project.rewrite(strategies=[gated(signal=BROADER)])
        project.make("ranking/backtest", WEEK)
        promote(project.pipeline, "ranking", WEEK, "broader", stage=True)
    return project


@pytest.fixture
def project(staged: Project, tmp_path: Path) -> Project:
    return staged.copy(tmp_path / "project")


def started(project: Project) -> History:
    plan = project.pipeline.strategy("ranking")
    return start_rollout(
        plan, project.store, WEEK, RolloutSettings(**QUICK), actor="bob", reason="passed every gate", now=NOW
    )


def sessions(project: Project) -> list[str]:
    found = project.pipeline.strategy("ranking").market.partitions.sessions
    return [day.isoformat() for day in found if day.isoformat() > WEEK]


def issue_by_hand(project: Project, days: list[str], *, is_better: bool) -> None:
    """Issues in which the challenger holds the fourth symbol, which earns more than the first one from session to session, or the champion does."""
    bars = project.store.read("small/bars", WEEK).frame
    for week in project.store.partitions("small/bars"):
        if week > WEEK:
            bars = pl.concat([bars, project.store.read("small/bars", week).frame])
    configuration = configuration_hash(settings_of(project.pipeline.strategy("ranking")))
    keys = ["symbol", "session", "ts"]
    ranked = bars.with_columns(rank=pl.col("symbol").rank("ordinal").over("session"))
    for day in days:
        rows = ranked.filter(pl.col("session") == pl.lit(day).str.to_date()).sort("ts", "symbol")
        best, worst = (rows.select(*keys, weight=(pl.col("rank") == each).cast(pl.Float64)) for each in (4, 1))
        own, other = (best, worst) if is_better else (worst, best)
        issue = other.with_columns(issue_kind=pl.lit("live"))
        facts = {"promotion": {"is_gated": True, "shadow": configuration, "champion": "v1.0.0"}}
        attached = {"shadow.parquet": parquet_bytes(own)}
        project.store.publish(SIGNALS, day, Content(issue, attached, facts=facts), STAMP)


def kinds(history: History) -> list[tuple[str, float]]:
    return [(each["kind"], each["rollout"]["share"]) for each in history.records if each["rollout"]]


def advanced(project: Project) -> History:
    return advance_rollout(project.pipeline.strategy("ranking"), project.store, now=NOW)[0]


@pytest.mark.pipeline
def test_capital_follows_a_better_challenger_step_by_step_until_it_is_the_champion(project, monkeypatch):
    plan, store = project.pipeline.strategy("ranking"), project.store
    history, days = started(project), sessions(project)
    assert kinds(history) == [(ROLLOUT_STARTED, 0.0)] and history.records[-1]["rollout"]["issue_kind"] == "live"
    issue_by_hand(project, days[:4], is_better=True)
    # What may be known at the close of a session: its own return, and none after it. What is bought at the open of one is held until the
    # open of the next: the account of the best symbol earns more on each.
    results = matured_results(plan, store, history.records[-1]["rollout"], until=datetime.fromisoformat(days[2]).date())
    assert [each.isoformat() for each in results.sessions] == days[1:3] and (results.n_issues, results.n_other) == (
        3,
        0,
    )
    assert (results.challenger > results.champion).all()
    bars = pl.concat([store.read("small/bars", week).frame for week in store.partitions("small/bars") if week >= WEEK])
    first = issue_of(store, days[0], "shadow.parquet").filter(weight=1.0)["symbol"][0]
    row = bars.filter(pl.col("symbol") == first, pl.col("session").cast(pl.String) == days[1])
    assert results.challenger[0] == pytest.approx(row["close"][0] / row["open"][0] - 1.0, abs=2e-3)

    # The issue takes the steps that are due by its own close, and is split by the last of them.
    steps = [0.1, 0.25, 0.5]
    monkeypatch.setenv("HF_PICTURES", "all")
    shown = project.make(SIGNALS, days[4], now=f"{days[4]}T20:05:00+00:00").materialised[SIGNALS][days[4]]
    assert shown["rollout"].startswith("![picture](data:image/png") and "50% of the capital" in shown["shadow"]
    history = history_of(store.objects, "ranking")
    assert kinds(history)[1:] == [(ROLLOUT_ADVANCED, each) for each in steps]
    assert [each["rollout"]["last_session"] for each in history.records[3:]] == days[2:5]
    assert {each["actor"] for each in history.records[3:]} == {"rollout"}
    stored = store.read(SIGNALS, days[4])
    both, champion, shadow = (
        stored.frame,
        *(issue_of(store, days[4], f"{each}.parquet") for each in ("champion", "shadow")),
    )
    assert both["weight"].to_list() == pytest.approx((champion["weight"] / 2 + shadow["weight"] / 2).to_list())
    assert (champion["weight"] != 0.0).sum() == 2 and (both["weight"] != 0.0).sum() == 4 and {*both["reason"]} == {""}
    challenger = history.records[2]["rollout"]["configuration"]
    assert {*both["rollout_share"]} == {0.5} and {*both["challenger_version"]} == {challenger}
    assert {*both["model_version"]} == {store.footer("ranking/fitted_model", WEEK).content_hash}
    assert (champion["challenger_version"].null_count(), shadow["rollout_share"].null_count()) == (4, 4)
    assert issue_fault(store, SIGNALS, days[4], datetime(2012, 7, 1, tzinfo=UTC)) == ""
    # It is held to its own decision: made again it is the same, whatever was decided since.
    follow = signals_follow(project.pipeline, history)
    assert follow == "signals follow the champion; 50% of the capital follows the YAML's configuration"
    issue_by_hand(project, days[5:7], is_better=True)
    history, standing = advanced_by_command(project.pipeline, "ranking")
    assert project.make(SIGNALS, days[4]).materialised[SIGNALS][days[4]]["outcome"] == "unchanged"

    # All of the capital is a promotion, by the evidence that it was staged by.
    assert kinds(history)[-1] == (PROMOTED, 1.0) and str(history.state.champion.version) == "v1.1.0"
    staged = next(each for each in history.records if each["kind"] == STAGED)
    names = ("week", "configuration", "yaml", "evidence", "gates", "figures")
    assert [history.records[-1][name] for name in names] == [staged[name] for name in names]
    assert history.state.rollout is None and standing.ended == history.records[-1] and standing.rollout.share == 1.0
    assert advanced(project) == history
    lines = list(rollout_lines(history, standing))
    assert lines[0].startswith("ranking: champion v1.1.0") and sum("rollout advanced" in line for line in lines) == 3
    json.dumps(rollout_told(history, standing), allow_nan=False)


def issue_of(store: Any, day: str, name: str) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(store.read_attachment(store.footer(SIGNALS, day), name)))


@pytest.mark.pipeline
def test_a_clock_that_is_behind_counts_no_session_that_had_an_issue_before_the_start(project):
    days = sessions(project)
    configuration = configuration_hash(settings_of(project.pipeline.strategy("ranking")))
    stored = project.store.read("small/bars", WEEK).frame.filter(pl.col("session").cast(pl.String) <= days[2])
    for (day,), rows in stored.partition_by("session", as_dict=True).items():
        frame = rows.select("symbol", "session", "ts", weight=pl.lit(0.25), issue_kind=pl.lit("live"))
        facts = {"promotion": {"is_gated": True, "shadow": configuration, "champion": "v1.0.0"}}
        attached = {"shadow.parquet": parquet_bytes(frame.drop("issue_kind"))}
        project.store.publish(SIGNALS, str(day), Content(frame, attached, facts=facts), STAMP)
    # NOW is the Sunday before these sessions.
    assert started(project).records[-1]["rollout"]["first"] == days[2]


@pytest.mark.pipeline
def test_steps_are_recorded_once_by_two_at_once_and_after_a_crash_between_them(project):
    started(project)
    issue_by_hand(project, sessions(project)[:8], is_better=True)
    plan, store = project.pipeline.strategy("ranking"), project.store
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(advance_rollout, plan, store, now=NOW) for _ in range(4)]
    assert [each.exception() for each in found] == [None] * 4
    whole = history_of(store.objects, "ranking")
    assert [share for _, share in kinds(whole)] == [0.0, 0.1, 0.25, 0.5, 1.0]
    assert len({each["id"] for each in whole.records}) == len(whole.records) == 7
    # A process that was killed after the first or the second step leaves those before it: the next one makes the very same of the rest.
    for left in (4, 5):
        for number in range(left + 1, 8):
            Path(store.objects.address(f"_promotions/ranking/{number:08d}.json")).unlink()
        assert advanced(project) == whole


@pytest.mark.pipeline
def test_a_worse_challenger_is_stopped_and_so_is_one_by_a_person_or_another_decision(
    project, tmp_path, monkeypatch, capsys
):
    plan, store, days = project.pipeline.strategy("ranking"), project.store, sessions(project)
    with pytest.raises(ValueError, match=r"`week` must be the one by which .* is staged, 2012-04-08, was 2012-04-01"):
        start_rollout(plan, store, "2012-04-01", RolloutSettings(), actor="bob", reason="why", now=NOW)
    with pytest.raises(ValueError, match="`rollout` of ranking must go on to be stopped, none does"):
        stop_rollout(store, "ranking", actor="bob", reason="why", now=NOW)
    told = [*rollout_lines(*advanced_by_command(project.pipeline, "ranking"))]
    assert told[1].endswith(f"is staged: hfp rollout ranking --start {WEEK} --reason WHY, while the YAML says it")
    started(project)
    issue_by_hand(project, days[:9], is_better=False)
    # An issue without the challenger, and one that was made afterwards, say nothing.
    for day, changes in ((days[9], {"shadow": "another"}), (days[10], {})):
        stored = store.read(SIGNALS, days[8])
        kind = "backfill" if not changes else "live"
        frame = stored.frame.with_columns(issue_kind=pl.lit(kind))
        attached = {"shadow.parquet": store.read_attachment(stored.footer, "shadow.parquet")}
        facts = {"promotion": {**stored.footer.facts["promotion"], **changes}}
        store.publish(SIGNALS, day, Content(frame, attached, facts=facts), STAMP)
    monkeypatch.setattr(Pipeline, "open", staticmethod(lambda: project.pipeline))
    monkeypatch.setenv("HF_DATA_DIR", str(project.folder))
    picture = tmp_path / "rollout.png"
    assert main(["rollout", "ranking", "--picture", str(picture)]) == 0
    told = capsys.readouterr().out
    assert "rollout stopped" in told and "It earns less than the champion: evidence" in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    history, standing = advanced_by_command(project.pipeline, "ranking")
    assert kinds(history) == [(ROLLOUT_STARTED, 0.0), (ROLLOUT_STOPPED, 0.0)]
    # By the returns up to the session that it was due by, which has no issue that counts.
    assert history.records[-1]["rollout"]["last_session"] == days[9]
    assert (standing.results.n_issues, standing.results.n_other, len(standing.results.sessions)) == (9, 1, 9)
    whole = matured_results(plan, store, history.records[2]["rollout"])
    assert (whole.n_issues, whole.n_other) == (9, 2)
    assert str(history.state.champion.version) == "v1.0.0" and advanced(project) == history
    # What was stopped is staged no more: it passes its gates again first.
    told = [*rollout_lines(history, standing)]
    assert told[1].startswith("no rollout goes on; hfp promote ranking WEEK --stage --reason WHY, then")
    with pytest.raises(ValueError, match="to be rollout_started, was development"):
        started(project)
    monkeypatch.setenv("HF_ACTOR", "bob")
    promote(project.pipeline, "ranking", WEEK, "again", stage=True)
    assert main(["rollout", "ranking", "--start", WEEK]) == 1 and "`reason` must be given" in capsys.readouterr().err
    assert main(["rollout", "ranking", "--start", WEEK, "--reason", "again"]) == 0
    assert "in shadow until 2 sessions have matured" in capsys.readouterr().out
    assert main(["rollout", "ranking", "--stop", "--reason", "the desk", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"][-1]["reason"] == "the desk"
    promote(project.pipeline, "ranking", WEEK, "again", stage=True)
    started(project)
    assert withdraw(project.pipeline, "ranking", "the vendor").state.rollout is None
    assert kinds(stored_history(project.pipeline, "ranking"))[-1] == (ROLLOUT_STARTED, 0.0)
