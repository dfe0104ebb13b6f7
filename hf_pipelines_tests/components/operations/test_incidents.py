"""Incidents: of real runs on a real instance; opened once, healed once, and nothing lost in between."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id

from hf_pipelines.components.operations.activity import Activity
from hf_pipelines.components.operations.ended_runs import RunWatch
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.outcomes import Outcomes
from hf_pipelines.components.operations.watch import is_news
from hf_pipelines.resources.delivery import Delivery
from hf_pipelines.resources.incidents import MAX_CAUSE, Book, load_book, save_book
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines.resources.run_launcher import WORKER_TAG, CheckedRunLauncher, Worker
from hf_pipelines_tests.pipeline import (
    Project,
    files_market,
    ridge_strategy,
    session_bars,
    sessions_from,
    shipped_features,
)
from hf_pipelines_tests.resources.test_notifier import receiver

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
N_WEEKS = 6
# Of a strategy with gates, only where its champion is another configuration than that of the YAML.
REFIT = "ranking/champion_model"


@dataclass
class Watching:
    """A project, and the book of its incidents."""

    project: Project
    book: Book

    def look(self, *, ahead: timedelta = timedelta(seconds=1)) -> list[str]:
        """Look at what has ended; returns the new messages in short."""
        n_before = len(self.book.pending)
        self.run_watch(datetime.now(UTC) + ahead).update(self.book)
        # As a restart finds it.
        self.book = Book.from_json(self.book.to_json())
        told = [each.message for each in self.book.pending[n_before:]]
        return [f"{each.event} {each.kind} {each.asset} {each.partition}" for each in told]

    def run_watch(self, now: datetime) -> RunWatch:
        outcomes = Outcomes(self.project.instance, self.project.definitions.get_repository_def())
        tree = dg.ComponentTree.for_project(self.project.folder / self.project.package)
        return RunWatch(outcomes, Watched.of(tree), now)

    def break_file(self, day: date) -> None:
        self.source(day).write_bytes(b"no table")

    def source(self, day: date) -> Path:
        return self.project.folder / "source" / f"{day}.parquet"

    def new_run(self, *tags: tuple[str, str], assets: Sequence[str] = ("small/bars",)) -> dg.DagsterRun:
        job = self.project.definitions.resolve_implicit_global_asset_job_def()
        return self.project.instance.create_run_for_job(
            job,
            asset_selection=frozenset(dg.AssetKey(each.split("/")) for each in assets),
            tags={"dagster/partition": self.project.weeks[0], **dict(tags)},
        )


@pytest.fixture
def watching(tmp_path) -> Watching:
    bars = session_bars(sessions_from(date(2012, 1, 3), N_WEEKS), symbols=2, seed=1)
    market = files_market(tmp_path / "source", bars, features=shipped_features("temporal"))
    strategy = ridge_strategy(features=["temporal"], gates={"turnover": 1_000_000.0})
    found = Watching(Project(tmp_path, market, [strategy]), Book())
    found.look(ahead=timedelta(0))
    return found


def days_of(project: Project, weeks: Sequence[int]) -> list[date]:
    return [project.partitions.sessions_of_week(project.weeks[week])[0] for week in weeks]


def test_range_run_that_fails_is_one_incident_that_waits_for_its_broken_weeks_alone(watching):
    project, weeks = watching.project, watching.project.weeks
    for day in days_of(project, [1, 2, 4]):
        watching.break_file(day)
    assert not project.run("small/bars", weeks[0], weeks[-1]).success
    assert watching.look() == [f"opened run small/bars {weeks[1]}..{weeks[4]} (3)"]
    (incident,) = watching.book.open
    assert incident.waiting == tuple(("small/bars", weeks[week]) for week in (1, 2, 4))
    assert incident.cause.startswith("small/bars was not published for 3 partition(s)")
    assert f"{days_of(project, [1])[0]}.parquet" in incident.cause
    assert len(incident.cause) <= MAX_CAUSE
    assert watching.look() == []

    # One of them fails again, another is mended: nothing to tell, and one less to wait for.
    assert not project.run("small/bars", weeks[2]).success
    watching.source(days_of(project, [1])[0]).unlink()
    project.make("small/bars", weeks[1])
    told = watching.look()
    # Its first day is gone: the check warns of it, in words of its own.
    assert told == [f"opened check small/bars {weeks[1]}"]
    assert watching.book.open[0].waiting == (("small/bars", weeks[2]), ("small/bars", weeks[4]))
    for day in days_of(project, [2, 4]):
        watching.source(day).unlink()
    project.make("small/bars", weeks[2], weeks[4])
    assert watching.look()[0] == f"healed run small/bars {weeks[1]}..{weeks[4]} (3)"
    assert [each for each in watching.book.open if each.kind == "run"] == []


def test_failed_check_is_told_with_its_severity_and_healed_by_a_later_pass_of_its_partition(watching):
    project, weeks = watching.project, watching.project.weeks
    day = days_of(project, [1])[0]
    content = watching.source(day).read_bytes()
    watching.source(day).unlink()
    project.make("small/bars", weeks[0], weeks[2])
    assert watching.look() == [f"opened check small/bars {weeks[1]}"]
    (incident,) = watching.book.open
    assert (incident.check, incident.severity) == ("complete", "WARN")
    assert incident.cause.startswith(f"check complete (a warning): {weeks[1]}: ") and str(day) in incident.cause
    assert incident.url.endswith("/assets/small/bars?view=checks&checkDetail=complete")
    # A symbol that was delisted lacks its bars for ever.
    assert (
        "end the membership of a symbol that is gone (`until` in `universe`), or correct, add or remove"
        in incident.remedy
    )
    # Other weeks pass; that says nothing of this one.
    project.make("small/bars", weeks[3])
    assert watching.look() == []
    watching.source(day).write_bytes(content)
    project.make("small/bars", weeks[1])
    assert watching.look() == [f"healed check small/bars {weeks[1]}"]


def test_run_that_is_run_again_is_no_incident_unless_it_was_not_run_again_after_all(watching):
    instance = watching.project.instance
    retried = watching.new_run(("dagster/will_retry", "true"))
    given_up = watching.new_run(("dagster/will_retry", "true"))
    for run in (retried, given_up):
        instance.report_run_failed(run, "the process of the run is gone")
    assert watching.look() == [] and len(watching.book.awaited_runs) == 2
    instance.add_run_tags(retried.run_id, {"dagster/auto_retry_run_id": "another"})
    instance.add_run_tags(given_up.run_id, {"dagster/will_retry": "false"})
    assert watching.look() == [f"opened run small/bars {watching.project.weeks[0]}"]
    assert watching.book.open[0].cause == "the process of the run is gone"
    assert watching.book.open[0].url.endswith(f"/runs/{given_up.run_id}")
    assert watching.book.awaited_runs == [] and watching.look() == []


def test_killed_run_whose_command_was_typed_again_before_anybody_noticed_is_no_incident(watching):
    project, assets = watching.project, ["small/bars", REFIT]
    dead = watching.new_run(assets=assets)
    # Nothing serves: there is no refit to make.
    project.make(assets, project.weeks[0])
    assert project.store.partitions(REFIT) == []
    project.instance.report_run_failed(dead, "the process of the run is gone")
    assert watching.look() == [] and watching.book.open == []


def test_incident_that_waits_for_what_there_is_nothing_to_make_of_heals_by_the_command_that_it_names(watching):
    project, week = watching.project, watching.project.weeks[0]
    project.instance.report_run_failed(watching.new_run(assets=["small/bars", REFIT]), "the process of the run is gone")
    assert watching.look() == [f"opened run {REFIT} {week}"]
    assert watching.book.open[0].remedy == f"hfp materialise {REFIT} --from {week} --to {week}"
    project.make("small/bars", week)
    assert watching.look() == [] and watching.book.open[0].waiting == ((REFIT, week),)
    project.pipeline.materialise([REFIT], week, week)
    assert watching.look() == [f"healed run {REFIT} {week}"] and watching.book.open == []
    assert watching.book.pending[-1].message.cause.endswith("had nothing to make of it")


def test_dead_run_is_no_trouble_once_every_partition_that_it_left_is_made_or_had_nothing_to_make(watching):
    project, instance = watching.project, watching.project.instance
    launcher = CheckedRunLauncher()
    launcher.register_instance(instance)
    instance._run_launcher = launcher
    first, second, third = project.weeks[:3]
    run_id = make_new_run_id()
    create_run_for_test(
        instance,
        run_id=run_id,
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset(dg.AssetKey(each.split("/")) for each in ("small/bars", REFIT)),
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": third,
            WORKER_TAG: replace(Worker.of(run_id), boot="the one before").to_tag(),
        },
    )

    def n_dead() -> int:
        return len(Activity.read(instance, datetime.now(UTC), project.definitions.get_repository_def()).dead)

    assert n_dead() == 1
    project.make(REFIT, first, third)
    # A run that fails has made some.
    broken = days_of(project, [2])[0]
    watching.break_file(broken)
    assert not project.run("small/bars", first, third).success
    assert n_dead() == 1
    watching.source(broken).unlink()
    project.make("small/bars", third)
    assert n_dead() == 0
    (run,) = Activity.read(instance, datetime.now(UTC)).dead
    assert run.run_id == run_id and second in project.store.partitions("small/bars")


def test_run_that_a_person_cancelled_is_no_incident(watching):
    run = watching.new_run()
    watching.project.instance.report_run_canceled(run)
    assert watching.look() == []


def test_run_that_can_never_succeed_is_told_and_not_kept(watching):
    # A Sunday has no signals.
    assert not watching.project.run("ranking/signals", "2012-01-08").success
    assert watching.look() == ["opened run ranking/signals 2012-01-08"]
    assert "the next session is 2012-01-09" in watching.book.pending[-1].message.cause
    assert watching.book.open == [] and watching.look() == []


def test_drift_of_a_sunday_is_told_and_not_kept(watching):
    assert not watching.project.run("ranking/drift", "2012-01-08").success
    assert watching.look() == ["opened run ranking/drift 2012-01-08"]
    assert watching.book.open == []


def test_week_before_the_first_trainable_one_is_told_without_a_command_that_would_fail_again(watching):
    assert not watching.project.run("ranking/training_matrix", watching.project.weeks[1]).success
    assert watching.look() == [f"opened run ranking/training_matrix {watching.project.weeks[1]}"]
    told = watching.book.pending[-1].message
    assert "take fewer weeks, or a longer history" in told.cause and told.remedy.startswith(
        "nothing: it can never be made"
    )
    assert watching.book.open == []


def test_run_whose_inputs_are_missing_is_mended_by_the_command_that_makes_them_all(watching):
    week = watching.project.weeks[2]
    assert not watching.project.run("small/features/temporal", week).success
    watching.look()
    (incident,) = watching.book.open
    assert incident.remedy in incident.cause
    assert incident.remedy == f"hfp materialise small/features/temporal --from {week} --with-inputs"


def test_runs_that_failed_long_before_anybody_watched_are_no_news(watching):
    watching.project.instance.report_run_failed(watching.new_run(), "before")
    watching.book = Book()
    assert watching.look(ahead=timedelta(minutes=3)) == []
    # A minute before the first look is not long.
    watching.book = Book()
    assert watching.look(ahead=timedelta(minutes=1)) == [f"opened run small/bars {watching.project.weeks[0]}"]


def test_runs_that_end_after_the_clock_was_set_back_are_seen(watching):
    watching.book.runs_until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    watching.project.instance.report_run_failed(watching.new_run(), "after the jump")
    assert watching.look() == [f"opened run small/bars {watching.project.weeks[0]}"]
    assert watching.look() == []


def test_book_is_found_as_it_was_written(watching):
    instance = watching.project.instance
    watching.book.open_incident("late", [("a/bars", "2013-01-07")], cause="c", remedy="r", url="u", now=NOW)
    save_book(instance, watching.book)
    assert load_book(instance) == watching.book
    assert not is_news(load_book(instance), watching.book)


def test_message_whose_delivery_was_not_recorded_is_sent_again_under_the_same_id(watching, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    instance, book = watching.project.instance, watching.book
    book.open_incident("late", [("a/bars", "2013-01-07")], cause="c", remedy="r", url="u", now=NOW)
    book.heal("late", [("a/bars", "2013-01-07")], cause="it came", now=NOW)
    save_book(instance, book)
    crashed = load_book(instance)
    with receiver(200) as (url, got):
        monkeypatch.setenv("HF_WEBHOOK_URL", url)
        Delivery(partial(save_book, instance), book, Notifier(), dg.get_dagster_logger(), NOW).run()
        assert [each["event"] for _, each in got] == ["opened", "healed"] and load_book(instance).pending == []
        # The process died before the book was written.
        save_book(instance, crashed)
        Delivery(partial(save_book, instance), load_book(instance), Notifier(), dg.get_dagster_logger(), NOW).run()
        assert [each for _, each in got[2:]] == [each for _, each in got[:2]]
        # A look without a fault sends nothing.
        Delivery(partial(save_book, instance), load_book(instance), Notifier(), dg.get_dagster_logger(), NOW).run()
        assert len(got) == 4


def test_messages_wait_ever_longer_for_a_receiver_that_is_away_and_arrive_in_order(watching, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HF_TICK_SECONDS", "10")
    instance, book = watching.project.instance, watching.book
    for day in ("07", "08"):
        book.open_incident("late", [("a/bars", f"2013-01-{day}")], cause="c", remedy="r", url="u", now=NOW)
    with receiver(500, 500, 500, 500, 200) as (url, got):
        monkeypatch.setenv("HF_WEBHOOK_URL", url)

        def deliver(seconds: int) -> int:
            at = NOW + timedelta(seconds=seconds)
            Delivery(partial(save_book, instance), load_book(instance), Notifier(), dg.get_dagster_logger(), at).run()
            return len(load_book(instance).pending)

        save_book(instance, book)
        # Two attempts a tick. The second tick tries at once, the third only after 40 seconds.
        assert [deliver(0), len(got)] == [2, 2]
        assert [deliver(30), len(got)] == [2, 4]
        assert [deliver(60), len(got)] == [2, 4]
        assert [deliver(71), len(got)] == [0, 6]
    assert [each["partition"] for _, each in got] == ["2013-01-07"] * 5 + ["2013-01-08"]
    # Each was logged once, however often it was tried.
    assert len((tmp_path / "notifications.jsonl").read_text().splitlines()) == 2


def test_incident_that_nobody_heals_is_forgotten_after_a_quarter():
    book = Book()
    book.open_incident("run", [("a", "1")], cause="c", remedy="r", url="u", now=NOW)
    book.forget_old(NOW + timedelta(days=89))
    assert len(book.open) == 1
    book.forget_old(NOW + timedelta(days=91))
    assert book.open == [] and len(book.pending) == 1
