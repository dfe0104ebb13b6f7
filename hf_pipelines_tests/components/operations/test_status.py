"""The words of `hfp status`: how each market and strategy stands, what is being made, and whether the daemon lives."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id
from dagster._daemon.types import DaemonHeartbeat

from hf_pipelines.components.operations.activity import Activity
from hf_pipelines.components.operations.inventory import Inventory
from hf_pipelines.components.operations.lateness import Gap, MarketInventory, StrategyInventory
from hf_pipelines.components.operations.status import Status
from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.resources.incidents import Book
from hf_pipelines.resources.pulse import Stopped
from hf_pipelines.resources.run_launcher import WORKER_TAG, CheckedRunLauncher, Worker

NOW = datetime(2012, 2, 1, tzinfo=UTC)
PARTITIONS = MarketPartitions("XNYS", date(2012, 1, 3), date(2012, 6, 29))


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def status_of(instance: dg.DagsterInstance, book: Book | None = None) -> Status:
    """One market with bars of a session and a strategy that was never trained; another market was never used."""
    bars = {date(2012, 1, 31): NOW}
    fed = MarketInventory("fed", "fed/bars", PARTITIONS, date(2012, 1, 31), bars, ("2012-01-29",))
    new = MarketInventory("new", "new/bars", PARTITIONS)
    inventory = Inventory((fed, new), (StrategyInventory("ranking", fed),))
    incidents = (book or Book()).open
    return Status(inventory, [], incidents, Activity.read(instance, NOW), timedelta(hours=6), NOW)


def words(status: Status) -> dict[str, str]:
    """The last column of the table, by name."""
    header, *rows = status.lines()[:4]
    # Where the names, dates and dashes of the other columns have ended.
    return {row.split()[0]: row[header.index("last signals") + len("last signals") :].strip() for row in rows}


def start(instance: dg.DagsterInstance, assets: list[str], status: dg.DagsterRunStatus, **tags: str) -> str:
    keys = frozenset(dg.AssetKey(each.split("/")) for each in assets)
    return create_run_for_test(instance, "fed_update", status=status, asset_selection=keys, tags=tags).run_id


def beat(instance: dg.DagsterInstance, age: timedelta) -> None:
    instance.add_daemon_heartbeat(DaemonHeartbeat((NOW - age).timestamp(), "SENSOR", None, None))


def test_what_is_being_made_is_said_of_its_market_and_strategy_alone(instance):
    assert words(status_of(instance)) == {"fed": "on time", "ranking": "never trained", "new": "nothing stored yet"}
    # Ended runs are no news.
    start(instance, ["fed/bars"], dg.DagsterRunStatus.SUCCESS, **{"dagster/partition": "2012-01-22"})
    made = start(
        instance, ["fed/bars", "fed/features/trend"], dg.DagsterRunStatus.STARTED, **{"dagster/partition": "2012-01-29"}
    )
    start(instance, ["fed/bars"], dg.DagsterRunStatus.NOT_STARTED, **{"hf/partitions": "2012-01-08,2012-01-22"})
    span = {"dagster/asset_partition_range_start": "2012-01-22", "dagster/asset_partition_range_end": "2012-02-05"}
    stages = [f"ranking/{each}" for each in ("backtest", "cv_results", "fitted_model", "training_matrix")]
    waits = start(instance, stages, dg.DagsterRunStatus.NOT_STARTED, **span)
    found = status_of(instance)
    assert words(found) == {
        "fed": f"on time; making bars, features/trend 2012-01-29 (run {made[:8]} and 1 more)",
        "ranking": f"never trained; waiting to make backtest, cv_results, fitted_model, ... 2012-01-22..2012-02-05 (run {waits[:8]})",
        "new": "nothing stored yet",
    }
    under_way = {each["run_id"]: (each["partitions"], each["is_waiting"]) for each in found.to_json()["under_way"]}
    assert (under_way[made], under_way[waits]) == (("2012-01-29", False), ("2012-01-22..2012-02-05", True))


def test_daemon_that_is_not_alive_is_said_with_when_it_was_seen(instance):
    assert any("The daemon has never run here" in line for line in status_of(instance).lines())
    beat(instance, timedelta(minutes=3))
    told = status_of(instance)
    assert any("The daemon was seen last at 2012-01-31 23:57:00 UTC" in line for line in told.lines())
    assert told.to_json()["daemon"] == {"is_alive": False, "seen": "2012-01-31T23:57:00+00:00"}
    beat(instance, timedelta(seconds=30))
    assert not any("daemon" in line for line in status_of(instance).lines())


@pytest.mark.parametrize(("severity", "is_well"), [("ERROR", False), ("WARN", True)])
def test_open_incident_is_counted_beside_its_owner_and_a_failure_is_not_well(instance, severity, is_well):
    book = Book()
    book.open_incident(
        "check",
        [("fed/bars", "2012-01-29")],
        cause="two rows are gone",
        remedy="look",
        url="",
        now=NOW,
        check="complete",
        severity=severity,
    )
    told = status_of(instance, book)
    assert words(told)["fed"] == "on time; 1 open incident, below"
    assert words(told)["ranking"] == "never trained"
    assert told.is_well is is_well


def test_run_whose_process_is_gone_is_dead_also_without_a_daemon_and_not_well(instance):
    launcher = CheckedRunLauncher()
    launcher.register_instance(instance)
    instance._run_launcher = launcher
    run_id = make_new_run_id()
    worker = replace(Worker.of(run_id), boot="the one before")
    partition = {"dagster/partition": "2012-01-29"}
    living = start(instance, ["fed/bars"], dg.DagsterRunStatus.STARTED, **partition)
    create_run_for_test(
        instance,
        "fed_update",
        run_id,
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey(["fed", "features", "trend"])}),
        tags={**partition, WORKER_TAG: worker.to_tag()},
    )
    told = status_of(instance)
    assert words(told)["fed"] == f"on time; 1 dead run, below; making bars 2012-01-29 (run {living[:8]})"
    (at,) = [number for number, line in enumerate(told.lines()) if line.startswith("Dead runs")]
    dead, remedy = told.lines()[at + 1 : at + 3]
    assert dead == f"  run {run_id[:8]}, fed/features/trend 2012-01-29: {worker.host} has restarted since"
    assert "start the daemon" in remedy
    assert told.is_well is False
    assert [each["death"] for each in told.to_json()["under_way"] if each["run_id"] == run_id] == [
        f"{worker.host} has restarted since"
    ]


def test_what_has_stopped_is_said_with_what_to_do_and_is_not_well(instance):
    beat(instance, timedelta(minutes=3))
    found = Stopped("daemon", "it was seen last long ago", "start it again")
    told = replace(status_of(instance), stopped=[found])
    assert told.is_well is False
    assert told.to_json()["stopped"] == [{"what": found.what, "why": found.why, "remedy": found.remedy}]
    lines = told.lines()
    assert lines[lines.index("Stopped, or about to:") + 1 :][:2] == [
        "  daemon: it was seen last long ago",
        "    do: start it again",
    ]
    # Once is enough.
    assert not any("The daemon" in line for line in lines)


def test_week_whose_files_lack_names_no_command_and_features_that_read_it_come_after_it(instance):
    holes = [
        Gap("fed/bars", "2012-01-15", "", landing="/in/fed"),
        *(Gap("fed/features/trend", week, "") for week in ("2012-01-08", "2012-01-15", "2012-01-22", "2012-02-12")),
        Gap("other/features/trend", "2012-01-15", ""),
    ]
    lines = replace(status_of(instance), holes=holes).lines()
    at = lines.index("  fed/bars 2012-01-15: no file of it lies in /in/fed")
    assert lines[at + 1].startswith("    do: put its files there") and "`known_gaps`" in lines[at + 1]
    made = "hfp materialise fed/features/trend --from"
    assert lines[at + 2 : at + 5] == [
        f"  fed/features/trend 2012-01-08 to 2012-01-22: first fed/bars 2012-01-15, then {made} 2012-01-08 --to 2012-01-22",
        f"  fed/features/trend 2012-02-12: {made} 2012-02-12 --to 2012-02-12",
        "  other/features/trend 2012-01-15: hfp materialise other/features/trend --from 2012-01-15 --to 2012-01-15",
    ]
    assert not any("hfp materialise fed/bars" in line for line in lines)


def test_open_incident_is_told_with_the_id_by_which_it_is_dismissed(instance):
    book = Book()
    causes = [f"line {number}" for number in range(9)]
    told = {"cause": "\n".join(causes), "remedy": "look", "url": "http://127.0.0.1:3000/runs/1", "now": NOW}
    incident = book.open_incident("run", [("fed/bars", "2012-01-29")], **told)
    assert incident is not None
    lines = status_of(instance, book).lines()
    at = lines.index(f"  {incident.id} failed run: fed/bars 2012-01-29, since {incident.opened_at}")
    assert lines[at + 1 :] == [*(f"    {line}" for line in causes[:5]), "    do: look", f"    {told['url']}"]


def test_strategy_that_a_running_daemon_does_not_know_is_told_with_the_cure_and_is_not_well(instance):
    told = replace(status_of(instance), unloaded=["ranking_follows"])
    # Without a daemon nothing is made of any: that has a line of its own.
    assert told.is_well is True and not any("ranking_follows" in line for line in told.lines())
    beat(instance, timedelta(seconds=30))
    told = replace(status_of(instance), unloaded=["ranking_follows"])
    assert told.is_well is False and told.to_json()["never_looked_at"] == ["ranking_follows"]
    lines = told.lines()
    at = lines.index("The daemon that runs does not know ranking_follows: nothing is made of them by itself.")
    assert lines[at + 1].startswith("  do: press Reload, under Deployment")


def test_rejected_weeks_are_told_as_rejected_and_the_others_as_to_make(instance):
    holes = [
        Gap("fed/features/trend", week, "", is_rejected=week == "2012-01-15") for week in ("2012-01-08", "2012-01-15")
    ]
    lines = replace(status_of(instance), holes=holes).lines()
    assert (
        "  fed/features/trend 2012-01-08: hfp materialise fed/features/trend --from 2012-01-08 --to 2012-01-08" in lines
    )
    at = lines.index("Weeks that a guard has rejected, so that nothing of them is stored:")
    assert lines[at + 1] == "  fed/features/trend 2012-01-15: its bytes are kept under _rejected/fed/features/trend"
    assert lines[at + 2].startswith("    do: read in its failed run what was found and mend that; then hfp materialise")


def test_rejected_stages_of_a_strategy_are_no_weeks_without_a_model_and_name_the_command_that_trains(instance):
    told = status_of(instance)
    fed, weeks = told.inventory.markets[0], ("2012-01-08", "2012-01-15", "2012-01-22", "2012-01-29")
    rejected = {"2012-01-15": "ranking/training_matrix", "2012-01-22": "ranking/training_matrix"}
    market = replace(fed, bars_weeks=weeks)
    strategy = StrategyInventory("ranking", market, {"2012-01-08": None}, rejected=rejected)
    lines = replace(told, inventory=Inventory((market,), (strategy,))).lines()
    assert not any(line.startswith("Weeks without a model") for line in lines)
    # Without a guard they are weeks without a model, though no later week has one.
    plain = replace(told, inventory=Inventory((market,), (replace(strategy, rejected={}),))).lines()
    header = "Weeks without a model since the first that has one, but for the market's newest; nothing asks for them by itself:"
    assert plain[plain.index(header) + 1].startswith("  ranking/fitted_model 2012-01-15 to ")
    at = lines.index("Weeks that a guard has rejected, so that nothing of them is stored:")
    assert lines[at + 1 : at + 3] == [
        "  ranking/training_matrix 2012-01-15 to 2012-01-22: its bytes are kept under _rejected/ranking/training_matrix",
        "    do: read in its failed run what was found and mend that; then hfp retrain ranking --week 2012-01-15 --to 2012-01-22",
    ]
